/** What holds for every MPTCP option and subflow (RFC 8684 3, 3.7, 4). */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { Engine } from '../../../src/core/engine/engine.js';
import { addAddrHmac } from '../../../src/core/mptcp/keys.js';
import { writeAddAddr, writeFastclose, writePrio, writeRemoveAddr } from '../../../src/core/wire/mptcp-options.js';
import { type Inject, MptcpScript } from '../../support/mptcp-script.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

const prio = (out: Uint8Array, o: number) => writePrio(out, o, true);

/** A right ADD_ADDR of the peer's. */
function addAddr(script: MptcpScript, addressId = 7, text = '10.9.9.9') {
  const address = parseIp(text);
  const { remote, local } = script.c.keys;
  const hmac = addAddrHmac(script.env, remote!, local, addressId, address, -1);
  return (out: Uint8Array, o: number) => writeAddAddr(out, o, { echo: false, addressId, address, port: -1, hmac });
}

test('signals on segments that TCP does not accept have no effect', (t) => {
  const script = MptcpScript.joined(1);
  const { p0, c } = script;
  const { localHi, localLo } = c.keys;
  const seq = p0.nxt;
  const outside: readonly Inject[] = [
    { seq: seq + 50_000_000 },
    { seq: seq - 50_000 },
    { seq, ack: p0.rcvd + 100_000 },
    { seq, flags: 'S' },
  ];
  const signals = [
    prio,
    addAddr(script),
    (out: Uint8Array, o: number) => writeRemoveAddr(out, o, [0]),
    (out: Uint8Array, o: number) => writeFastclose(out, o, localHi, localLo),
  ];
  for (const segment of outside) for (const options of signals) p0.exchange({ ...segment, options });
  p0.exchange({ flags: 'R', seq: seq + 10, options: signals[3]! });
  script.advance(1);
  t.false(p0.sf.isRemoteBackup);
  t.is(
    script.counter('MPTcpExtAddAddr') + script.counter('MPTcpExtRmAddr') + script.counter('MPTcpExtMPFastcloseRx'),
    0,
  );
  t.is(c.state, 'established');
  // The same in a segment that is acceptable.
  p0.exchange({ seq, options: prio });
  t.true(p0.sf.isRemoteBackup);
});

test('duplicate ACKs that carry a signal are no sign of congestion, those with a DSS are', (t) => {
  for (const isSignal of [true, false]) {
    const script = MptcpScript.joined(1, { peer: { sack: false } });
    const { p0 } = script;
    script.write(14_000);
    const dataAck = script.c.sender.sndUna;
    const una = p0.sf.tcp.sndUna;
    const sent: number[] = [];
    for (let i = 0; i < 5; i++) {
      const option = isSignal ? { options: prio } : { dss: { ack: dataAck } };
      for (const s of p0.exchange({ ack: una, ...option })) if (s.len > 0) sent.push(s.seq);
    }
    t.is(sent.includes(una), !isSignal);
  }
});

test('at most two ACKs in a row for signals alone', (t) => {
  const script = MptcpScript.joined(1);
  const toggle = () => {
    for (const backup of [true, false, true, false]) script.c.setBackup(script.nowUs, script.p0.sf.id, backup);
  };
  toggle();
  const signals = (us: number) => script.advance(us).filter((s) => s.prioBackup !== null).length;
  t.is(signals(100_000), 2);
  t.is(signals(2_000_000), 2);
  // Data of ours ends a row.
  toggle();
  t.is(signals(6_000), 2);
  script.write(10);
  t.is(signals(10_000), 2);
});

test('a connection that fell back never speaks MPTCP again', (t) => {
  const script = MptcpScript.connected();
  const { p0, c } = script;
  // Data without any option: RFC 8684 3.7.
  p0.exchange({ len: 100 });
  t.is(c.mode, 'tcp');
  const sent = [
    ...p0.exchange({ len: 100, dss: { ack: 1, dsn: 101 } }),
    ...p0.exchange({ options: addAddr(script) }),
    ...p0.exchange({ options: prio }),
    ...script.write(100),
    ...script.advance(500_000),
  ];
  t.true(sent.length > 0);
  // But for the infinite mapping, which says so.
  t.true(sent.every((s) => s.present === 0 || s.dss?.dll === 0));
  t.is(c.mode, 'tcp');
  t.false(p0.sf.isRemoteBackup);
  t.is(script.received, 200);
  const before = script.counter('MPTcpExtMPJoinRejected');
  t.throws(() => script.join(1, { byPeer: true }));
  t.is(script.counter('MPTcpExtMPJoinRejected'), before + 1);
});

test('options that are malformed or of an unknown subtype harm neither their segment nor the connection', (t) => {
  const script = MptcpScript.joined(1);
  const { p0, c } = script;
  const lengths: Record<number, readonly number[]> = {
    0: [4, 12, 20, 22, 24],
    1: [12, 16, 24],
    2: [4],
    3: [16, 18, 28, 30],
    5: [3],
    6: [12],
    7: [12],
    8: [4],
  };
  let next = c.receiver.rcvNxt;
  for (let subtype = 0; subtype < 16; subtype++) {
    for (let length = 2; length <= 24; length++) {
      if (lengths[subtype]?.includes(length) || (subtype === 4 && length > 3)) continue;
      const options = (out: Uint8Array, o: number) => {
        out.set([30, length, subtype << 4], o);
        out.fill(0, o + 3, o + length);
        return o + length;
      };
      p0.exchange({ len: 1, dss: { dsn: next, dsnBytes: 4 }, options });
      next++;
    }
  }
  t.is(script.received, next - 1);
  t.is(script.mismatches, 0);
  t.is(c.mode, 'mptcp');
  t.is(c.state, 'established');
});

test('addresses belong to one connection: another one between the same hosts knows nothing of them', (t) => {
  const { network, client, server, ours, theirs } = connected();
  const second = client.engine.connect(network.nowUs, {
    linkId: 0,
    localAddress: LOCAL[0],
    localPort: 41_000,
    remote: { address: SERVER, port: 5000 },
  });
  second.write(network.nowUs, Uint8Array.of(1));
  client.poke();
  network.run(2 * S);
  const id = theirs.announce(2 * S, { address: parseIp('10.9.7.7') });
  server.poke();
  network.run(3 * S);
  const known = (engine: Engine) => engine.connections().map((c) => c.addresses.remoteEndpoint(id)?.address.text);
  t.deepEqual(known(client.engine as Engine), ['10.9.7.7', undefined]);
  t.true(ours.isMptcp && second.isMptcp);
});

test('a subflow’s ACK says nothing of the data level: without a DATA_ACK the bytes are kept, and go again', (t) => {
  const script = MptcpScript.joined(1);
  const { p0, c } = script;
  const dataAck = c.sender.sndUna;
  const sent = script.write(1000);
  t.is(sent.length, 1);
  p0.ack(dataAck);
  t.is(p0.sf.tcp.sndUna, p0.rcvd);
  t.is(c.unackedBytes, 1000);
  const again = script.advance(5_000_000).filter((s) => s.len > 0);
  t.is(again[0]!.dss!.dsn, dataAck);
  t.deepEqual(again[0]!.payload, sent[0]!.payload);
});

test('FIN and RST end one subflow, not the connection', (t) => {
  for (const flags of ['F.', 'R.']) {
    const script = MptcpScript.joined(2);
    script.p1.exchange({ flags });
    script.advance(100_000);
    t.is(script.c.state, 'established');
    t.is(script.ends, 0);
    t.true(script.p0.sf.isUsable);
    t.true(script.write(1000).every((s) => s.path === 0 || s.len === 0));
    t.true(script.c.sender.unsentBytes === 0);
  }
});

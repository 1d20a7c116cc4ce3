/** Error handling, ports, option space and data in a SYN (RFC 8684 3.8, 3.9, appendices A and B). */
import test from 'ava';
import fc from 'fast-check';
import { parseIp } from '../../../src/core/base/ip.js';
import { Engine } from '../../../src/core/engine/engine.js';
import type { Connection } from '../../../src/core/mptcp/connection.js';
import { joinHmac } from '../../../src/core/mptcp/keys.js';
import {
  CAPABLE_H_SHA256,
  MPO,
  RST_REASON,
  writeCapableSyn,
  writeJoinAck,
  writeJoinSyn,
  writeJoinSynAck,
  writeRemoveAddr,
} from '../../../src/core/wire/mptcp-options.js';
import { putSynOptions } from '../../../src/core/wire/tcp.js';
import { MptcpScript } from '../../support/mptcp-script.js';
import { nodeEnv } from '../../support/node-env.js';
import { type Caught, drain, elapse, exchange, inject } from '../../support/raw-host.js';

const S = 1_000_000;
const SERVER = { address: parseIp('192.0.2.1'), port: 5000 };
const HERE = [parseIp('198.51.100.1'), parseIp('198.51.100.2')] as const;

function twoEngines() {
  const [client, server] = [new Engine(nodeEnv), new Engine(nodeEnv)];
  client.addLink(0, { id: 0, name: 'a', mtuBytes: 1500, addresses: HERE, isUp: true });
  server.addLink(0, { id: 0, name: 'b', mtuBytes: 1500, addresses: [SERVER.address], isUp: true });
  const received: number[] = [];
  server.listen({
    port: SERVER.port,
    onAccept: (c) =>
      c.setReader({
        onBytes: (buf, o, n) => {
          received.push(...buf.subarray(o, o + n));
          return n;
        },
        onEnd: () => {},
      }),
  });
  return { client, server, received };
}

function connected() {
  const engines = twoEngines();
  const { client, server } = engines;
  const ours = client.connect(0, { linkId: 0, localAddress: HERE[0], localPort: 40_000, remote: SERVER }) as Connection;
  ours.write(0, Uint8Array.of(1));
  exchange(client, server, 0);
  return { ...engines, ours, theirs: server.connections()[0]! as Connection };
}

test('errors: unknown token RST, unknown address id ignored, DSN outside the window dropped', (t) => {
  const script = MptcpScript.joined(2);
  const { c, p0, p1 } = script;
  inject(script.engine, script.nowUs, 0, {
    from: '203.0.113.9',
    fromPort: 1,
    to: '10.0.1.1',
    toPort: 40_000,
    flags: 'S',
    options: (out, o) => writeJoinSyn(out, o, false, 1, (c.keys.localToken ^ 1) >>> 0, 1),
  });
  const [rst] = drain(script.engine, script.nowUs);
  t.is(rst!.seg.mptcp.tcprstReason, RST_REASON.mptcpSpecific);
  p0.exchange({ options: (out, o) => writeRemoveAddr(out, o, [200]) });
  t.true(c.subflows.every((sf) => !sf.isStalled));
  const { rcvNxt } = c.receiver;
  const answers = p1.exchange({ len: 100, dss: { ack: 2, dsn: rcvNxt + 2 ** 33 } });
  t.is(c.receiver.rcvNxt, rcvNxt);
  t.is(c.receiver.outOfOrderBytes, 0);
  t.true(answers.every((s) => s.dss === null || s.dss.ack === rcvNxt));
});

test('a join goes from the port of the first subflow to the port of the first subflow', (t) => {
  const { client, server, ours } = connected();
  ours.join(S, { linkId: 0, localAddress: HERE[1], remote: SERVER });
  const syn = exchange(client, server, S).find((p) => (p.seg.flags & 0x12) === 0x02)!;
  t.deepEqual([syn.seg.srcPort, syn.seg.dstPort], [40_000, SERVER.port]);
});

test('a join that failed is not begun again by the connection itself', (t) => {
  const script = MptcpScript.joined(1);
  const { c } = script;
  c.join(script.nowUs, { linkId: 1, localAddress: parseIp('10.0.2.1'), remote: c.remote });
  const [syn] = drain(script.engine, script.nowUs);
  inject(script.engine, script.nowUs, 1, {
    from: c.remote.address.text,
    fromPort: syn!.seg.dstPort,
    to: '10.0.2.1',
    toPort: syn!.seg.srcPort,
    flags: 'S.',
    ack: syn!.seg.seq + 1,
    options: (out, o) => writeJoinSynAck(out, o, false, 1, new Uint8Array(20), 5),
  });
  script.out();
  t.deepEqual(
    script.advance(600 * S).filter((s) => s.path === 1),
    [],
  );
});

test('subflows are limited: a join too many is refused, ours and theirs', (t) => {
  const script = MptcpScript.connected({ side: 'passive' });
  script.prove();
  const { c } = script;
  Object.assign(c.settings, { maxSubflows: 2 });
  script.join(1, { byPeer: true });
  script.events('');
  t.is(c.join(script.nowUs, { linkId: 2, localAddress: parseIp('10.0.3.1'), remote: c.remote }), -1);
  t.like(script.events('subflow-closed')[0], { why: 'too many subflows' });
  t.throws(() => script.join(2, { byPeer: true }));
  t.is(script.counter('MPTcpExtMPJoinRejected'), 1);
  t.is(c.subflows.length, 2);
});

test('the SYN/ACK of a join takes 36 of the 40 option bytes and asks for no backup, whatever its SYN asked', (t) => {
  const { server, theirs } = connected();
  for (const backup of [false, true]) {
    inject(server, S, 0, {
      from: '198.51.100.2',
      fromPort: backup ? 2 : 1,
      to: '192.0.2.1',
      toPort: 5000,
      flags: 'S',
      options: (out, o) =>
        writeJoinSyn(out, putSynOptions(out, o, 1460, true, true, 1, 0, 7), backup, 1, theirs.keys.localToken, 1),
    });
    const { seg } = drain(server, S)[0]!;
    t.is(seg.payloadOff - seg.l4Off - 20, 36);
    t.deepEqual([seg.mss, seg.sackPermitted, seg.hasTs, seg.wscale], [1460, true, true, 8]);
    t.is(seg.mptcp.joinLength, 16);
    t.false(seg.mptcp.joinBackup);
  }
});

test('a join needs no listener on its port, and the limit is asked at its SYN and at its third packet', (t) => {
  const { client, server, ours, theirs } = connected();
  const elsewhere = { address: SERVER.address, port: 9999 };
  ours.join(S, { linkId: 0, localAddress: HERE[1], remote: elsewhere });
  exchange(client, server, S);
  t.is(theirs.subflows.length, 2);

  const late = connected();
  late.ours.join(S, { linkId: 0, localAddress: HERE[1], remote: SERVER });
  exchange(late.client, late.server, S, (p) => {
    if ((p.seg.flags & 0x12) === 0x12) Object.assign(late.theirs.settings, { maxSubflows: 1 });
    return true;
  });
  t.is(late.theirs.subflows.length, 1);
  t.is(late.ours.subflows.length, 1);
  t.is(late.server.counters().MPTcpExtMPJoinRejected, 1);
});

test('a join is answered on the link where it came in, and stays there', (t) => {
  const script = MptcpScript.connected({ side: 'passive' });
  script.prove();
  // To the address of link 0, by link 1: the answer goes back whence it came.
  const { c, engine, nowUs, env } = script;
  const base = { from: '203.0.113.9', fromPort: 1234, to: '10.0.1.1', toPort: 40_000 };
  const options = (out: Uint8Array, o: number) => writeJoinSyn(out, o, false, 5, c.keys.localToken, 1);
  inject(engine, nowUs, 1, { ...base, flags: 'S', seq: 1, options });
  const [answer] = drain(engine, nowUs);
  t.is(answer!.linkId, 1);
  const hmac = joinHmac(env, c.keys.remote!, c.keys.local, 1, answer!.seg.mptcp.joinNonce);
  const proof = (out: Uint8Array, o: number) => writeJoinAck(out, o, hmac);
  inject(engine, nowUs, 1, { ...base, flags: '.', seq: 2, ack: answer!.seg.seq + 1, options: proof });
  t.deepEqual(
    drain(engine, nowUs).map((p) => p.linkId),
    [1],
  );
  t.is(c.subflows[1]!.flow.linkId, 1);
});

test('option space: never more than 40 bytes, always whole words, whatever there is to say', (t) => {
  fc.assert(
    fc.property(
      fc.record({
        checksum: fc.boolean(),
        family: fc.constantFrom('203.0.113.7', '2001:db8::7'),
        port: fc.constantFrom(undefined, 9000),
        lost: fc.array(fc.boolean(), { minLength: 30, maxLength: 30 }),
        removes: fc.integer({ min: 1, max: 4 }),
      }),
      ({ checksum, family, port, lost, removes }) => {
        const { client, server } = twoEngines();
        const ours = client.connect(0, {
          linkId: 0,
          localAddress: HERE[0],
          localPort: 40_000,
          remote: SERVER,
          checksum,
        });
        const seen: Caught[] = exchange(client, server, 0);
        ours.write(0, new Uint8Array(40_000));
        let i = 0;
        const isLossy = (p: Caught) => p.payload.length === 0 || !lost[i++ % lost.length];
        for (let at = 1; at < 40; at++) {
          const nowUs = at * 50_000;
          if (at === 5)
            server.connections()[0]?.announce(nowUs, { address: parseIp(family), ...(port ? { port } : {}) });
          if (at === 20)
            server.connections()[0]?.withdraw(nowUs, ...Array.from({ length: removes }, (_, id) => id + 1));
          if (at === 10) ours.setBackup(nowUs, 0, true);
          client.onTimer(nowUs);
          server.onTimer(nowUs);
          seen.push(...exchange(client, server, nowUs, isLossy));
        }
        for (const { seg } of seen) {
          const optionBytes = seg.payloadOff - seg.l4Off - 20;
          if (optionBytes > 40 || optionBytes % 4 !== 0 || seg.hasBadOptions) throw new Error(String(optionBytes));
        }
      },
    ),
    { numRuns: 15 },
  );
  t.pass();
});

test('data in a SYN with MP_CAPABLE is not taken (there is no place for it in data sequence space), nor is Fast Open', (t) => {
  const { server, received } = twoEngines();
  const syn = { from: '198.51.100.1', fromPort: 40_000, to: '192.0.2.1', toPort: 5000 };
  inject(server, 0, 0, {
    ...syn,
    flags: 'S',
    seq: 100,
    payload: Uint8Array.of(1, 2, 3),
    options: (out, o) => {
      const end = writeCapableSyn(out, putSynOptions(out, o, 1460, true, false, 0, 0, 7), CAPABLE_H_SHA256);
      out.set([34, 10, 1, 2, 3, 4, 5, 6, 7, 8], end); // a Fast Open cookie (RFC 7413)
      return end + 10;
    },
  });
  const [synAck] = drain(server, 0);
  // Only the SYN is acknowledged: the three bytes come again, as the first of the stream, with a mapping.
  t.is(synAck!.seg.ack, 101);
  t.not(synAck!.seg.mptcp.present & MPO.capable, 0);
  t.deepEqual(received, []);
  elapse(server, 0, S);
  t.deepEqual(received, []);
});

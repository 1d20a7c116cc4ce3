/** The MP_JOIN handshake (RFC 8684 3.2), both roles, and what decides whether there is one. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { joinHmac } from '../../../src/core/mptcp/keys.js';
import { MPO, RST_REASON, writeDss, writeJoinAck, writeJoinSynAck } from '../../../src/core/wire/mptcp-options.js';
import { TCP_ACK, TCP_RST, TCP_SYN } from '../../../src/core/wire/segment.js';
import { HandJoin } from '../../support/hand-join.js';
import { MptcpScript } from '../../support/mptcp-script.js';
import { type Caught, drain, inject } from '../../support/raw-host.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

type Side = 'active' | 'passive';

/** A connection that may be joined; `side` is the engine's part in its first handshake. */
function connection(side: Side = 'passive'): MptcpScript {
  const script = MptcpScript.connected({ side });
  script.prove();
  return script;
}

const dss = (out: Uint8Array, o: number) => writeDss(out, o, 8, 0, 0, 0, 0, 0, 0, 0, -1, false);
const kindOf = ({ seg }: Caught) => seg.flags & (TCP_SYN | TCP_ACK | TCP_RST);
/** A RST that says why. */
const resetReasonOf = (p: Caught | undefined) =>
  p !== undefined && (p.seg.flags & TCP_RST) !== 0 && (p.seg.mptcp.present & MPO.tcprst) !== 0
    ? p.seg.mptcp.tcprstReason
    : null;
/** Bytes of the first option of kind 30. */
function mptcpBytes({ bytes, seg }: Caught): Uint8Array {
  for (let o = 40; o < seg.payloadOff; ) {
    if (bytes[o] === 30) return bytes.slice(o, o + bytes[o + 1]!);
    o += bytes[o] === 1 ? 1 : bytes[o + 1]!;
  }
  throw new Error('no MPTCP option');
}
/** The first proper join of the engine's, confirmed. */
function joinedByUs(script: MptcpScript): HandJoin {
  const join = new HandJoin(script);
  join.dial();
  join.synAck();
  join.send('.', dss);
  return join;
}

// ---- responder

test('a SYN with MP_JOIN is found by its token: no listener is needed on its port', (t) => {
  const script = connection();
  const join = new HandJoin(script, 1, { address: '10.0.2.1', port: 9 });
  const [synAck] = join.syn();
  t.is(kindOf(synAck!), TCP_SYN | TCP_ACK);
  join.third();
  const joined = script.c.subflows[1]!;
  t.true(joined.isConfirmed);
  t.is(joined.flow.localPort, 9);
  // From then on the four-tuple finds it.
  join.send('.', dss, Uint8Array.of(1));
  t.is(joined.tcp.stats.bytesReceived, 1);
});

test('unknown token: RST that says MPTCP; more subflows than allowed: RST that says prohibited', (t) => {
  const script = connection();
  const options = (out: Uint8Array, o: number) => {
    out.set([30, 12, 0x10, 1, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4], o);
    return o + 12;
  };
  const to = { from: '10.9.2.1', fromPort: 1, to: '10.0.2.1', toPort: 40_000 };
  inject(script.engine, script.nowUs, 1, { ...to, flags: 'S', seq: 1, options });
  t.is(resetReasonOf(drain(script.engine, script.nowUs)[0]), RST_REASON.mptcpSpecific);

  for (let i = 1; i < script.c.settings.maxSubflows; i++) {
    const join = new HandJoin(script, 1, undefined, { address: '10.9.2.1', port: 6000 + i });
    join.syn();
    join.third();
  }
  t.is(script.c.subflows.length, script.c.settings.maxSubflows);
  const further = new HandJoin(script, 1, undefined, { address: '10.9.2.1', port: 7000 });
  t.is(resetReasonOf(further.syn()[0]), RST_REASON.prohibited);
  t.is(new HandJoin(script, 2, { address: '10.0.3.1', port: 40_000 }).dial(), undefined);
});

test('a subflow in TIME-WAIT makes way for a join where there are as many as may be', (t) => {
  const script = connection();
  const { c } = script;
  Object.assign(c.settings, { maxSubflows: 2 });
  for (let i = 0; i < 4; i++) {
    const join = new HandJoin(script, 1, undefined, { address: '10.9.2.1', port: 6000 + i });
    join.syn();
    join.third();
    const sf = c.subflows.find(({ flow }) => flow.remotePort === 6000 + i)!;
    t.not(sf, undefined, `join ${i}`);
    t.true(c.subflows.length <= 2);
    c.closeSubflow(script.nowUs, sf.id, 'fin');
    drain(script.engine, script.nowUs);
    join.iss++; // acknowledges our FIN
    join.send('F.', dss);
    t.is(sf.tcp.state, 'time-wait');
  }
});

test('a connection that takes no joins refuses them as prohibited, also where the SYN was answered before', (t) => {
  const script = connection();
  const early = new HandJoin(script, 1, undefined, { address: '10.9.2.1', port: 6001 });
  early.syn();
  script.c.setTakesJoins(false);
  t.is(resetReasonOf(early.third()[0]), RST_REASON.prohibited);
  const late = new HandJoin(script, 1, undefined, { address: '10.9.2.1', port: 6002 });
  t.is(resetReasonOf(late.syn()[0]), RST_REASON.prohibited);
  t.is(script.c.subflows.length, 1);
  script.c.setTakesJoins(true);
  late.syn();
  late.third();
  t.is(script.c.subflows.length, 2);
});

test('a valid token is answered with the first half of HMAC-B, a nonce and our address id', (t) => {
  const script = connection();
  const [synAck] = new HandJoin(script).syn();
  const o = synAck!.seg.mptcp;
  t.is(o.present, MPO.join);
  t.is(o.joinLength, 16);
  const { keys } = script.c;
  const hmac = joinHmac(script.env, keys.local, keys.remote!, o.joinNonce, HandJoin.NONCE);
  t.deepEqual(o.joinHmac.slice(0, 8), hmac.slice(0, 8));
  t.is(o.joinAddressId, script.c.addresses.localId(parseIp('10.0.2.1')));
});

test('a third packet without MP_JOIN, with a wrong HMAC, or with a DSS instead: RST', (t) => {
  const wrong = new Uint8Array(20).fill(7);
  for (const option of [undefined, dss, (out: Uint8Array, o: number) => writeJoinAck(out, o, wrong)]) {
    const script = connection();
    const join = new HandJoin(script);
    join.syn();
    const [rst] = join.send('.', option);
    t.is(resetReasonOf(rst), RST_REASON.mptcpSpecific);
    t.is(script.c.subflows.length, 1);
  }
});

test('the third packet is answered at once, every time it comes', (t) => {
  const script = connection();
  const join = new HandJoin(script);
  join.syn();
  const [fourth] = join.third();
  t.is(kindOf(fourth!), TCP_ACK);
  t.is(fourth!.seg.mptcp.present, MPO.dss);
  t.is(join.third().length, 1);
  t.is(join.third().length, 1);
});

test('a SYN again is answered with the same nonce and HMAC', (t) => {
  const join = new HandJoin(connection());
  const [first] = join.syn();
  join.advance(1_000_000);
  const [second] = join.syn();
  t.deepEqual(mptcpBytes(second!), mptcpBytes(first!));
  t.is(second!.seg.seq, first!.seg.seq);
});

// ---- initiator

test('the SYN carries the peer’s token, our address id and a fresh nonce, and no MP_CAPABLE', (t) => {
  const script = connection('active');
  const nonces = new Set<number>();
  for (let i = 0; i < 3; i++) {
    const join = new HandJoin(script, 1, undefined, { address: '10.9.2.1', port: 6000 + i });
    const { mptcp } = join.dial()!.seg;
    t.is(mptcp.present, MPO.join);
    t.is(mptcp.joinLength, 12);
    t.is(mptcp.joinToken, script.peerKeys.token);
    t.is(mptcp.joinAddressId, script.c.addresses.localId(parseIp('10.0.2.1')));
    nonces.add(mptcp.joinNonce);
  }
  t.is(nonces.size, 3);
});

test('a SYN/ACK with a wrong HMAC, or without MP_JOIN: RST', (t) => {
  const wrong = (out: Uint8Array, o: number) => writeJoinSynAck(out, o, false, 9, new Uint8Array(8), HandJoin.NONCE);
  const none = (_out: Uint8Array, o: number) => o;
  for (const option of [wrong, none]) {
    const script = connection('active');
    const join = new HandJoin(script);
    join.dial();
    t.is(resetReasonOf(join.synAck(false, 9, option)[0]), RST_REASON.mptcpSpecific);
    script.advance(1);
    t.is(script.c.subflows.length, 1);
    t.is(script.c.state, 'established');
  }
});

test('the third packet has 20 bytes of HMAC-A, and is repeated until it is acknowledged', (t) => {
  const script = connection('active');
  const join = new HandJoin(script);
  join.dial();
  const [third] = join.synAck();
  const { keys } = script.c;
  const hmac = joinHmac(script.env, keys.local, keys.remote!, join.nonce, HandJoin.NONCE);
  t.is(third!.seg.mptcp.joinLength, 24);
  t.deepEqual(third!.seg.mptcp.joinHmac, hmac.slice(0, 20));
  const again = join.advance(3_000_000);
  t.true(again.length >= 1);
  t.true(again.every((p) => p.seg.mptcp.joinLength === 24));
  join.send('.', dss);
  t.is(join.advance(10_000_000).length, 0);
});

test('a third packet that is never acknowledged: the subflow is given up with a RST', (t) => {
  const script = connection('active');
  const join = new HandJoin(script);
  join.dial();
  join.synAck();
  const sent = join.advance(300_000_000);
  t.is(resetReasonOf(sent.at(-1)), RST_REASON.mptcpSpecific);
  t.is(script.c.subflows.length, 1);
});

test('no data on the subflow before the fourth packet', (t) => {
  const script = connection('active');
  script.c.subflows[0]!.isLocalBackup = true;
  const join = new HandJoin(script);
  join.dial();
  join.synAck();
  script.c.write(script.nowUs, new Uint8Array(1000));
  // All goes on the first subflow, although it is a backup.
  t.true([...join.out(), ...join.advance(100_000)].every((p) => p.payload.length === 0));
  t.true(script.c.subflows[0]!.tcp.sndNxt > 1000);
  join.send('.', dss);
  script.c.write(script.nowUs, new Uint8Array(1000));
  t.deepEqual(
    join.out().map((p) => p.payload.length),
    [1000],
  );
});

test('a lost SYN is sent again with the same nonce', (t) => {
  const join = new HandJoin(connection('active'));
  const first = join.dial()!;
  const [second] = join.advance(1_500_000);
  t.deepEqual(mptcpBytes(second!), mptcpBytes(first));
});

test('either side may join: the responder dials an address and port that the peer announced', (t) => {
  const script = connection('passive');
  const join = new HandJoin(script, 1, undefined, { address: '10.9.3.3', port: 8443 });
  const syn = join.dial()!;
  t.is(syn.seg.dstPort, 8443);
  t.is(syn.seg.srcPort, 40_000);
  join.synAck();
  join.send('.', dss);
  t.true(script.c.subflows[1]!.isConfirmed);
});

// ---- bits and ids

test('reserved bits are zero in all three forms', (t) => {
  for (const backup of [false, true]) {
    const ours = new HandJoin(connection('active'));
    const syn = mptcpBytes(ours.dial({ backup })!);
    t.is(syn[2], 0x10 | (backup ? 1 : 0));
    const third = mptcpBytes(ours.synAck()[0]!);
    t.deepEqual([...third.slice(2, 4)], [0x10, 0]);
  }
  t.is(mptcpBytes(new HandJoin(connection()).syn()[0]!)[2]! & 0x0e, 0);
});

test('the backup bit is for the direction of who receives it', (t) => {
  const ours = connection('active');
  const dialled = new HandJoin(ours);
  t.true(dialled.dial({ backup: true })!.seg.mptcp.joinBackup);
  dialled.synAck(false);
  t.false(ours.c.subflows[1]!.isRemoteBackup);
  for (const backup of [false, true]) {
    const script = connection('active');
    const join = new HandJoin(script);
    join.dial();
    join.synAck(backup);
    t.is(script.c.subflows[1]!.isRemoteBackup, backup);
    t.false(script.c.subflows[1]!.isBackupWanted);
    const accepting = connection();
    const other = new HandJoin(accepting);
    // Not mirrored: it says nothing about what we want to receive.
    t.false(other.syn(backup)[0]!.seg.mptcp.joinBackup);
    other.third();
    t.is(accepting.c.subflows[1]!.isRemoteBackup, backup);
  }
});

test('address ids of both ends are kept: 0 for the first subflow, then those of the MP_JOINs', (t) => {
  const script = connection('active');
  joinedByUs(script);
  const theirs = new HandJoin(script, 2, { address: '10.0.3.1', port: 40_000 }, { address: '10.9.3.1', port: 5000 });
  theirs.syn(false, 33);
  theirs.third();
  const ids = script.c.info().subflows.map((sf) => [sf.localAddressId, sf.remoteAddressId]);
  t.deepEqual(ids, [
    [0, 0],
    [1, 9],
    [2, 33],
  ]);
});

test('an address has one id, in MP_JOIN and in ADD_ADDR', (t) => {
  const script = connection('active');
  const announced = script.c.announce(script.nowUs, { address: parseIp('10.0.2.1') });
  const join = new HandJoin(script);
  t.is(join.dial()!.seg.mptcp.joinAddressId, announced);
  const other = new HandJoin(script, 2, { address: '10.0.3.1', port: 40_000 });
  t.not(other.dial()!.seg.mptcp.joinAddressId, announced);
});

test('both sides join the same pair at the same moment: the SYNs end one another, and the connection works', (t) => {
  const { network, client, server, ours, theirs } = connected();
  ours.join(S, { linkId: 1, localAddress: LOCAL[1], remote: { address: SERVER, port: 5000 } });
  theirs.join(S, { linkId: 0, localAddress: SERVER, remote: { address: LOCAL[1], port: 40_000 } });
  client.poke();
  server.poke();
  network.run(10 * S);
  const pairs = [ours, theirs].map((c) => c.info().subflows.length);
  t.deepEqual(pairs, [1, 1]);
  ours.write(10 * S, new Uint8Array(100_000));
  client.poke();
  network.run(12 * S);
  t.is(ours.unackedBytes + ours.unsentBytes, 0);
});

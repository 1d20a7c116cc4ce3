/** Data in SYNs (RFC 7413 without its cookie) with and without MP_CAPABLE: outside of the data sequence space (RFC 8684 B). */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { ConnectionApi, SynVerdict } from '../../../src/core/engine/api.js';
import { Engine } from '../../../src/core/engine/engine.js';
import { TAKES_EARLY_DATA } from '../../../src/core/mptcp/connection.js';
import { MPO } from '../../../src/core/wire/mptcp-options.js';
import { Network } from '../../../src/sim/network.js';
import { CapablePeer, capable, mptcp, PEER_ISN, PEER_KEY } from '../../support/capable-peer.js';

const S = 1_000_000;
const H = 0x01;
const DATA = Uint8Array.of(1, 2, 3, 4, 5);
const u32 = (n: number) => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
const isSyn = (flags: number) => (flags & 2) !== 0;

/** A mapping of `length` bytes: 4-byte DSN relative to `idsn`. */
const dss = (idsn: number, dsn: number, ssn: number, length: number) =>
  mptcp(0x20, 0x04, ...u32((idsn + dsn) >>> 0), ...u32(ssn), length >>> 8, length & 255);

function listener(verdict: SynVerdict, more: object = {}) {
  return new CapablePeer('listen', { onSyn: () => verdict, ...more });
}

// ---- Taking it -----------------------------------------------------------------------------------------------------------

test('taken: acknowledged with the SYN, first of the stream, and the first mapping has SSN 1 and DSN 1 (figure 19)', (t) => {
  const peer = listener('take');
  const [synAck] = peer.send('S', capable(H), DATA);
  t.is(synAck!.seg.ack, PEER_ISN + 1 + DATA.length);
  t.not(synAck!.seg.mptcp.present & MPO.capable, 0);
  peer.send('.', capable(H, [...PEER_KEY, ...peer.key]));
  t.true(peer.c.isMptcp);
  peer.send('P.', dss(peer.idsn.peer, 1, 1, 3), Uint8Array.of(6, 7, 8));
  t.deepEqual(peer.received, [1, 2, 3, 4, 5, 6, 7, 8]);
  t.is(peer.c.receiver.rcvNxt, 4);
});

test('held: no answer until it is asked for, whatever comes meanwhile, and the data counts once', (t) => {
  const peer = listener('hold');
  t.deepEqual(peer.send('S', capable(H), DATA), []);
  t.deepEqual(peer.received, [...DATA]);
  // Linux repeats the SYN without data.
  t.deepEqual(peer.sendAt(PEER_ISN, 0, 'S', capable(H)), []);
  t.deepEqual(peer.sendAt(PEER_ISN, 0, 'S', capable(H), DATA), []);
  t.deepEqual(peer.advance(5 * S), []);
  peer.c.answerSyn(peer.nowUs);
  const [synAck] = peer.out();
  t.is(synAck!.seg.ack, PEER_ISN + 1 + DATA.length);
  const [again] = peer.sendAt(PEER_ISN, 0, 'S', capable(H));
  t.is(again!.seg.ack, PEER_ISN + 1 + DATA.length);
  peer.send('.', capable(H, [...PEER_KEY, ...peer.key]));
  t.is(peer.c.state, 'established');
  t.deepEqual(peer.received, [...DATA]);
});

test('ignored: no SYN/ACK and no RST', (t) => {
  const peer = listener('ignore');
  t.deepEqual(peer.send('S', capable(H), DATA), []);
  t.is(peer.engine.counters().drop_syn_ignored, 1);
  t.is(peer.engine.connections().length, 0);
});

test('past the half-open connections what was taken comes again, what is answered gets a cookie, who is known is let in', (t) => {
  const outcome = (verdict: SynVerdict) => {
    const peer = new CapablePeer('listen', { onSyn: () => verdict }, { maxHalfOpen: 0 });
    const sent = peer.send('S', [2, 4, 5, 180], DATA);
    return { acks: sent.map(({ seg }) => seg.ack - PEER_ISN), counters: peer.engine.counters() };
  };
  t.deepEqual(outcome('take').acks, []);
  t.is(outcome('take').counters.drop_syn_data_overflow, 1);
  t.deepEqual(outcome('answer').acks, [1]);
  t.is(outcome('answer').counters.TcpExtSyncookiesSent, 1);
  t.deepEqual(outcome('hold').counters.drop_syn_data_overflow, undefined);
});

test('over TCP our data follows the SYN/ACK at once; over MPTCP only if the SYN had an empty Fast Open option', (t) => {
  const answers = (option: readonly number[]) => {
    const peer = listener('hold');
    peer.send('S', option, DATA);
    peer.c.write(peer.nowUs, Uint8Array.of(9, 9));
    peer.c.answerSyn(peer.nowUs);
    return peer.out();
  };
  const plain = answers([]);
  t.is(plain.length, 2);
  t.deepEqual([...plain[1]!.payload], [9, 9]);
  t.is(plain[1]!.seg.mptcp.present, 0);
  const early = answers([...capable(H), ...TAKES_EARLY_DATA]);
  t.is(early.length, 2);
  // A mapping, and no DATA_ACK: the peer's key is not known.
  const { mptcp: o } = early[1]!.seg;
  t.deepEqual([o.present, o.dataAckBytes, o.ssn, o.dll], [MPO.dss, 0, 1, 2]);
  t.is(answers(capable(H)).length, 1);
  t.is(answers([...capable(H), 34, 10, 1, 2, 3, 4, 5, 6, 7, 8]).length, 1);
});

test('data sent early is acknowledged by the third packet, or repeated', (t) => {
  const peer = listener('hold');
  peer.send('S', [...capable(H), ...TAKES_EARLY_DATA], DATA);
  peer.c.write(peer.nowUs, Uint8Array.of(9, 9));
  peer.c.answerSyn(peer.nowUs);
  const [synAck] = peer.out();
  const proof = capable(H, [...PEER_KEY, ...peer.key]);
  peer.sendAt(PEER_ISN + 1 + DATA.length, (synAck!.seg.seq + 1) >>> 0, '.', proof);
  t.is(peer.c.state, 'established');
  const again = peer.advance(3 * S).filter(({ payload }) => payload.length > 0);
  t.true(again.length > 0);
  t.deepEqual([...again[0]!.payload], [9, 9]);
  t.is(again[0]!.seg.seq, (synAck!.seg.seq + 1) >>> 0);
});

// ---- Sending it ----------------------------------------------------------------------------------------------------------

/** An engine that has sent DATA in its SYN, and been answered with an ACK of so many bytes of it. */
function answered(bytes: number, synAckOption?: (peer: CapablePeer) => readonly number[]) {
  const peer = new CapablePeer('dial', { synData: DATA });
  const [syn] = peer.out();
  peer.c.write(peer.nowUs, Uint8Array.of(6, 7));
  const option = synAckOption?.(peer) ?? capable(H, [...PEER_KEY]);
  const sent = peer.sendAt(PEER_ISN, (syn!.seg.seq + 1 + bytes) >>> 0, 'S.', option);
  const data = [...sent, ...peer.advance(1000)].filter(({ payload }) => payload.length > 0);
  return { peer, syn: syn!, sent, data };
}

test('sent: the SYN carries it, and what the SYN/ACK acknowledges is done with', (t) => {
  const { peer, syn, data } = answered(DATA.length);
  t.deepEqual([...syn.payload], [...DATA]);
  t.not(syn.seg.mptcp.present & MPO.capable, 0);
  t.is(peer.c.synBytesAcked, DATA.length);
  t.true(peer.c.isMptcp);
  t.deepEqual([...data[0]!.payload], [6, 7]);
  t.is(data[0]!.seg.seq, (syn.seg.seq + 1 + DATA.length) >>> 0);
});

test('a SYN/ACK that acknowledges none of it: it is sent as the first data (figure 20)', (t) => {
  const { peer, syn, data } = answered(0);
  t.is(peer.c.synBytesAcked, 0);
  t.deepEqual(
    data.flatMap(({ payload }) => [...payload]),
    [1, 2, 3, 4, 5, 6, 7],
  );
  t.is(data[0]!.seg.seq, (syn.seg.seq + 1) >>> 0);
  t.is(data[0]!.seg.mptcp.capableDll, data[0]!.payload.length);
});

test('a SYN/ACK that acknowledges some of it: the rest is the first data, with DSN 1 and SSN 1 (figure 21)', (t) => {
  const { peer, syn, data } = answered(2);
  t.is(peer.c.synBytesAcked, 2);
  t.deepEqual(
    data.flatMap(({ payload }) => [...payload]),
    [3, 4, 5, 6, 7],
  );
  t.is(data[0]!.seg.seq, (syn.seg.seq + 1 + 2) >>> 0);
  t.not(data[0]!.seg.mptcp.present & MPO.capable, 0);
});

test('a SYN/ACK that acknowledges more than was sent is refused', (t) => {
  const { peer, sent } = answered(DATA.length + 1);
  t.not(sent[0]!.seg.flags & 4, 0);
  t.is(peer.c.state, 'connecting');
});

test('with plain TCP the same', (t) => {
  const { peer, data } = answered(3, () => []);
  t.false(peer.c.isMptcp);
  t.deepEqual(
    data.flatMap(({ payload }) => [...payload]),
    [4, 5, 6, 7],
  );
});

test('a mapping without DATA_ACK does not show that the peer has our key: it is repeated', (t) => {
  const { peer } = answered(DATA.length);
  const syn = peer.c.subflows[0]!.tcp;
  const sent = peer.sendAt(PEER_ISN + 1, (syn.iss + 1) >>> 0, 'P.', dss(peer.idsn.peer, 1, 1, 2), Uint8Array.of(8, 8));
  const all = [...sent, ...peer.advance(S)];
  t.true(all.some(({ seg, payload }) => payload.length === 0 && (seg.mptcp.present & MPO.capable) !== 0));
  t.deepEqual(peer.received, [8, 8]);
});

test('three SYNs carry it, then perhaps somebody drops those that do', (t) => {
  const peer = new CapablePeer('dial', { synData: DATA });
  const syns = [...peer.out(), ...peer.advance(20 * S)].filter(({ seg }) => isSyn(seg.flags));
  t.deepEqual(
    syns.slice(0, 5).map(({ payload }) => payload.length),
    [5, 5, 5, 0, 0],
  );
});

test('no more of it than fits a packet of 1280 bytes; the rest follows', (t) => {
  const peer = new CapablePeer('dial', { synData: new Uint8Array(3000) });
  const [syn] = peer.out();
  t.is(syn!.payload.length, 1280 - 20 - 20 - 40);
});

// ---- Both, over links that lose ------------------------------------------------------------------------------------------

for (const checksum of [false, true])
  test(`whatever is lost, every byte arrives once and in order${checksum ? ', with DSS checksums' : ''}`, (t) => {
    for (let seed = 1; seed <= 12; seed++) {
      const early = Uint8Array.from({ length: 700 }, (_, i) => i + seed);
      const late = Uint8Array.from({ length: 60_000 }, (_, i) => (i * 7 + seed) & 255);
      const { client, server } = exchange(seed, checksum, early, late);
      t.deepEqual(Buffer.from(server).equals(Buffer.concat([early, late])), true, `seed ${seed}: to the server`);
      t.deepEqual(Buffer.from(client).equals(Buffer.concat([early, late])), true, `seed ${seed}: to the client`);
    }
  });

/** Both ends send `early` (the client in its SYN, the server before it answers), then `late`. */
function exchange(seed: number, checksum: boolean, early: Uint8Array, late: Uint8Array) {
  const network = new Network(seed);
  const [near, far] = [parseIp('10.0.0.1'), parseIp('10.0.0.2')];
  const hosts = [near, far].map((address, i) => {
    const host = network.addHost({ name: `h${i}` }, (env) => new Engine(env, { checksum }));
    host.addLink({ id: 0, name: 'l', mtuBytes: 1500, addresses: [address], isUp: true });
    return host;
  });
  const [client, server] = [hosts[0]!, hosts[1]!];
  const lossy = { delayUs: 10_000, lossRate: 0.15 };
  network.connect({
    name: 'wire',
    left: client,
    leftLinkId: 0,
    right: server,
    rightLinkId: 0,
    up: lossy,
    down: lossy,
    middleboxes: [],
    leftPortBytes: null,
  });
  const heard = { client: [] as number[], server: [] as number[] };
  const into = (c: ConnectionApi, list: number[]) =>
    c.setReader({
      onBytes: (buf, offset, n) => {
        for (let i = 0; i < n; i++) list.push(buf[offset + i]!);
        return n;
      },
      onEnd: () => undefined,
    });
  server.engine.listen({
    port: 80,
    onSyn: () => (seed % 2 === 0 ? 'hold' : 'take'),
    onAccept: (c) => {
      c.write(server.nowUs, early);
      c.write(server.nowUs, late);
      c.answerSyn(server.nowUs);
      into(c, heard.server);
    },
  });
  const c = client.engine.connect(0, {
    linkId: 0,
    localAddress: near,
    localPort: 40_000,
    remote: { address: far, port: 80 },
    synData: early,
    ...(seed % 3 === 0 ? {} : { synOptions: TAKES_EARLY_DATA }),
  });
  into(c, heard.client);
  c.write(0, late);
  client.poke();
  network.run(120 * S);
  return heard;
}

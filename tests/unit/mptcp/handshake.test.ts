/** The MP_CAPABLE handshake (RFC 8684 3.1), both roles, down to the flags. */
import test from 'ava';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import type { Connection } from '../../../src/core/mptcp/connection.js';
import { deriveFromKey } from '../../../src/core/mptcp/keys.js';
import { MPO, RST_REASON } from '../../../src/core/wire/mptcp-options.js';
import { TCP_ACK, TCP_RST, TCP_SYN } from '../../../src/core/wire/segment.js';
import { CapablePeer, capable, mptcp, OUR_PORT, PEER, PEER_KEY, PEER_PORT, US } from '../../support/capable-peer.js';
import { nodeEnv } from '../../support/node-env.js';
import { type Caught, drain, inject } from '../../support/raw-host.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

const H = 0x01;
const A = 0x80;
const B = 0x40;
const C = 0x20;
const KEY = [...PEER_KEY];

/** Dialled, answered with a SYN/ACK with this option; what the engine sent then. */
function answered(peer: CapablePeer, option: readonly number[]): Caught[] {
  peer.out();
  return peer.send('S.', option);
}

/** An MPTCP connection that the engine dialled / accepted. */
function dialled(flags = H): CapablePeer {
  const peer = new CapablePeer('dial');
  answered(peer, capable(flags, KEY));
  return peer;
}

function accepted(flags = H): CapablePeer {
  const peer = new CapablePeer('listen');
  peer.send('S', capable(flags));
  peer.send('.', capable(flags, [...KEY, ...peer.key]));
  return peer;
}

const bytes = (n: number, first = 0) => Uint8Array.from({ length: n }, (_, i) => (first + i) & 255);
const u16 = (n: number) => [n >> 8, n & 255];
/** DSS: a 4-byte DATA_ACK of everything that the engine sent so far. */
const dataAck = (peer: CapablePeer, dsn: number) => {
  const n = (peer.idsn.local + dsn) >>> 0;
  return mptcp(0x20, 0x01, n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255);
};
/** DSS: a mapping with a 4-byte DSN. */
const mapping = (peer: CapablePeer, dsn: number, ssn: number, dll: number) => {
  const n = (peer.idsn.peer + dsn) >>> 0;
  return mptcp(0x20, 0x04, n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255, 0, 0, ...u16(ssn), ...u16(dll));
};
const isPlain = (sent: readonly Caught[]) => sent.every(({ seg }) => seg.mptcp.present === 0);

// ---- forms and contents

test('the initiator sends 4 bytes on the SYN, 20 with both keys on the third packet, 22 with the first data', (t) => {
  const peer = new CapablePeer('dial');
  const [syn] = peer.out();
  t.is(syn!.seg.mptcp.present, MPO.capable);
  t.is(syn!.seg.mptcp.capableLength, 4);
  t.is(syn!.seg.mptcp.capableVersion, 1);
  t.is(syn!.seg.mptcp.capableFlags, H);
  const [third] = peer.send('S.', capable(H, KEY));
  const o = third!.seg.mptcp;
  t.is(o.capableLength, 20);
  t.deepEqual([o.senderKeyHi, o.senderKeyLo], [peer.c.keys.localHi, peer.c.keys.localLo]);
  t.deepEqual([o.receiverKeyHi, o.receiverKeyLo], [0x01020304, 0x05060708]);
  const [first] = peer.write(1, 2, 3);
  t.is(first!.seg.mptcp.capableLength, 22);
  t.is(first!.seg.mptcp.capableDll, 3);
  t.is(first!.seg.mptcp.receiverKeyLo, 0x05060708);
});

test('the responder sends its key on the SYN/ACK: 12 bytes, version 1, one algorithm', (t) => {
  const peer = new CapablePeer('listen');
  const [synAck] = peer.send('S', capable(H));
  const o = synAck!.seg.mptcp;
  t.is(o.present, MPO.capable);
  t.is(o.capableLength, 12);
  t.is(o.capableVersion, 1);
  t.is(o.capableFlags, H);
  t.deepEqual([o.senderKeyHi, o.senderKeyLo], [peer.c.keys.localHi, peer.c.keys.localLo]);
});

test('a key whose token is taken is not used: another one is drawn', (t) => {
  const keys = [bytes(8, 1), bytes(8, 1), bytes(8, 50)];
  const peer = new CapablePeer('listen', {}, {});
  const env = {
    ...nodeEnv,
    randomBytes: (out: Uint8Array) => (out.length === 8 ? out.set(keys.shift()!) : out.fill(9)),
  };
  Object.assign(peer.engine, { env });
  peer.send('S', capable(H));
  inject(peer.engine, peer.nowUs, 0, { from: PEER, fromPort: 1, to: US, toPort: OUR_PORT, flags: 'S', options: synOf });
  const tokens = peer.engine.connections().map((c) => (c as Connection).keys.localToken);
  t.deepEqual(
    tokens,
    [bytes(8, 1), bytes(8, 50)].map((key) => deriveFromKey(nodeEnv, key).token),
  );
});

test('a cookie whose key another connection has is for plain TCP', (t) => {
  for (const isTaken of [true, false]) {
    const peer = new CapablePeer('listen', {}, { maxHalfOpen: 1 });
    // Every key has the same token.
    if (isTaken) Object.assign(peer.engine, { env: { ...nodeEnv, sha256: () => new Uint8Array(32) } });
    peer.send('S', capable(H));
    inject(peer.engine, peer.nowUs, 0, {
      from: PEER,
      fromPort: 1,
      to: US,
      toPort: OUR_PORT,
      flags: 'S',
      options: synOf,
    });
    const [synAck] = drain(peer.engine, peer.nowUs);
    t.is(synAck!.seg.flags & (TCP_SYN | TCP_ACK), TCP_SYN | TCP_ACK);
    t.is(peer.engine.counters().TcpExtSyncookiesSent, 1);
    t.is(isPlain([synAck!]), isTaken);
  }
});

const synOf = (out: Uint8Array, o: number) => {
  out.set(capable(H), o);
  return o + 4;
};

test('the SYN takes the IDSN: the first byte is IDSN+1, and that is what is DATA_ACKed before there is any', (t) => {
  const peer = accepted();
  const [data] = peer.write(1, 2, 3);
  const o = data!.seg.mptcp;
  t.is(o.dsnLo, (peer.idsn.local + 1) >>> 0);
  t.is(o.ssn, 1);
  t.is(o.dataAckLo, (peer.idsn.peer + 1) >>> 0);
});

// ---- version and flags

test('a SYN of a higher version is answered with ours, one of version 0 with plain TCP', (t) => {
  const [synAck] = new CapablePeer('listen').send('S', capable(H, [], 2));
  t.is(synAck!.seg.mptcp.capableVersion, 1);
  t.true(isPlain(new CapablePeer('listen').send('S', capable(H, [], 0))));
  t.true(isPlain(new CapablePeer('listen').send('S', capable(H, KEY, 0))));
});

test('a SYN/ACK of another version than ours means plain TCP', (t) => {
  for (const version of [0, 2, 15]) {
    const peer = new CapablePeer('dial');
    t.true(isPlain(answered(peer, capable(H, KEY, version))), `version ${version}`);
    t.is(peer.c.mode, 'tcp');
  }
});

test('flag B, which nobody understands, means plain TCP: on the SYN, the SYN/ACK, the third packet', (t) => {
  t.true(isPlain(new CapablePeer('listen').send('S', capable(B | H))));
  const dial = new CapablePeer('dial');
  t.true(isPlain(answered(dial, capable(B | H, KEY))));
  const listen = new CapablePeer('listen');
  listen.send('S', capable(H));
  listen.send('.', capable(B | H, [...KEY, ...listen.key]));
  t.is(listen.c.mode, 'tcp');
});

test('no algorithm, or only unknown ones: as if there were no option', (t) => {
  for (const flags of [0, 0x10, 0x1e]) {
    t.true(isPlain(new CapablePeer('listen').send('S', capable(flags))), `SYN ${flags}`);
    const peer = new CapablePeer('dial');
    t.true(isPlain(answered(peer, capable(flags, KEY))), `SYN/ACK ${flags}`);
    t.is(peer.c.mode, 'tcp');
  }
});

test('of all algorithms on offer the responder takes the one; a SYN/ACK that takes several has settled none', (t) => {
  const [synAck] = new CapablePeer('listen').send('S', capable(0x1f));
  t.is(synAck!.seg.mptcp.capableFlags, H);
  const peer = new CapablePeer('dial');
  t.true(isPlain(answered(peer, capable(0x03, KEY))));
});

test('flag C received: no join of ours to that address and port, on either side; others are open', (t) => {
  for (const flags of [C | H, H]) {
    const dial = new CapablePeer('dial');
    answered(dial, capable(flags, KEY));
    dial.write(1);
    dial.send('.', dataAck(dial, 2));
    const listen = accepted(flags);
    listen.send('.', capable(flags, [...KEY, ...listen.key, ...u16(1)]), bytes(1));
    for (const peer of [dial, listen]) {
      const local = peer.c.settings.flow.localAddress;
      const remote = peer.c.remote;
      const other = { ...remote, port: remote.port + 1 };
      // The pair itself is in use, so that flag or not this join cannot come about; the reason tells.
      t.is(peer.c.join(peer.nowUs, { linkId: 0, localAddress: local, remote }), -1);
      t.is(whyNot(peer), flags === H ? 'address pair in use' : 'the peer wants no joins to this address');
      t.true(peer.c.join(peer.nowUs, { linkId: 0, localAddress: local, remote: other }) >= 0);
    }
  }
});

/** Why the last subflow was refused. */
function whyNot(peer: CapablePeer): string {
  let why = '';
  for (let e = peer.engine.pollEvent(); e !== undefined; e = peer.engine.pollEvent()) {
    if (e.type === 'subflow-closed') why = e.why;
  }
  return why;
}

test('flag C is sent when so configured, and a join to the initial address and port is refused then', (t) => {
  const dial = new CapablePeer('dial', { joinInitial: false });
  t.is(dial.out()[0]!.seg.mptcp.capableFlags, C | H);
  const listen = new CapablePeer('listen', {}, { joinInitial: false });
  t.is(listen.send('S', capable(H))[0]!.seg.mptcp.capableFlags, C | H);
  listen.send('.', capable(H, [...KEY, ...listen.key]));
  const token = listen.c.keys.localToken;
  const tokenBytes = [token >>> 24, (token >>> 16) & 255, (token >>> 8) & 255, token & 255];
  const join = (toPort: number) => {
    const options = (out: Uint8Array, o: number) => {
      out.set(mptcp(0x10, 3, ...tokenBytes, 1, 2, 3, 4), o);
      return o + 12;
    };
    const to = { from: PEER, fromPort: 7, to: US, toPort };
    inject(listen.engine, listen.nowUs, 0, { ...to, flags: 'S', seq: 1, options });
    return drain(listen.engine, listen.nowUs)[0]!.seg;
  };
  const refused = join(OUR_PORT);
  t.is(refused.flags & TCP_RST, TCP_RST);
  t.is(refused.mptcp.tcprstReason, RST_REASON.prohibited);
  t.is(join(OUR_PORT + 1).flags & (TCP_SYN | TCP_ACK), TCP_SYN | TCP_ACK);
});

test('checksums are used if either side asks, and the third packet says so', (t) => {
  for (const ours of [false, true]) {
    for (const theirs of [0, A]) {
      const used = ours || theirs === A;
      const dial = new CapablePeer('dial', { checksum: ours });
      t.is(dial.out()[0]!.seg.mptcp.capableFlags, H | (ours ? A : 0));
      const [third] = dial.send('S.', capable(theirs | H, KEY));
      t.is(third!.seg.mptcp.capableFlags, H | (used ? A : 0));
      t.is(dial.c.keys.checksums, used);
      t.is(dial.write(1)[0]!.seg.mptcp.capableChecksum >= 0, used);
      const listen = new CapablePeer('listen', { checksum: ours });
      t.is(listen.send('S', capable(theirs | H))[0]!.seg.mptcp.capableFlags, H | (used ? A : 0));
      listen.send('.', capable(H | (used ? A : 0), [...KEY, ...listen.key]));
      t.is(listen.c.mode, 'mptcp');
      t.is(listen.c.keys.checksums, used);
    }
  }
});

test('who refuses checksums has plain TCP with a peer that asks for them', (t) => {
  for (const theirs of [0, A]) {
    const dial = new CapablePeer('dial', { checksum: 'refuse' });
    answered(dial, capable(theirs | H, KEY));
    t.is(dial.c.mode, theirs === A ? 'tcp' : 'mptcp');
    const listen = new CapablePeer('listen', { checksum: 'refuse' });
    t.is(isPlain(listen.send('S', capable(theirs | H))), theirs === A);
  }
});

// ---- falling back

test('a SYN/ACK without the option: plain TCP, and no option from then on', (t) => {
  const peer = new CapablePeer('dial');
  t.true(isPlain(answered(peer, [])));
  t.true(isPlain(peer.write(1, 2, 3)));
  t.is(peer.c.mode, 'tcp');
});

test('a SYN without the option is answered without one', (t) => {
  const peer = new CapablePeer('listen');
  const [synAck] = peer.send('S');
  t.is(synAck!.seg.flags & (TCP_SYN | TCP_ACK), TCP_SYN | TCP_ACK);
  t.true(isPlain([synAck!]));
});

test('a third packet without the option: plain TCP at the responder', (t) => {
  const peer = new CapablePeer('listen');
  peer.send('S', capable(H));
  peer.send('.');
  t.is(peer.c.mode, 'tcp');
  t.true(isPlain(peer.write(1, 2, 3)));
});

test('an odd third packet ends MPTCP: wrong echo of our key, other flags than agreed, another version', (t) => {
  const wrongKey = (key: readonly number[]) => key.map((byte, i) => (i === 7 ? byte ^ 1 : byte));
  const oddities: readonly ((key: readonly number[]) => readonly number[])[] = [
    (key) => capable(H, [...KEY, ...wrongKey(key)]),
    (key) => capable(A | H, [...KEY, ...key]),
    (key) => capable(0, [...KEY, ...key]),
    (key) => capable(H, [...KEY, ...key], 0),
    () => capable(H, KEY),
  ];
  for (const odd of oddities) {
    const peer = new CapablePeer('listen');
    peer.send('S', capable(H));
    peer.send('.', odd(peer.key));
    t.is(peer.c.mode, 'tcp');
    t.true(isPlain(peer.write(1)));
  }
  const good = new CapablePeer('listen');
  good.send('S', capable(H));
  good.send('.', capable(H, [...KEY, ...good.key]));
  t.is(good.c.mode, 'mptcp');
});

test('a SYN/ACK with an odd ACK number is reset, and the handshake goes on without it', (t) => {
  const peer = new CapablePeer('dial');
  const [syn] = peer.out();
  const [rst] = peer.sendAt(1, syn!.seg.seq + 2, 'S.', capable(H, KEY));
  t.is(rst!.seg.flags & TCP_RST, TCP_RST);
  t.is(peer.c.mode, 'pending');
});

test('SYNs that are not answered lose the option, and a late SYN/ACK that has it does not bring MPTCP back', (t) => {
  const peer = new CapablePeer('dial');
  const syns = [...peer.out(), ...peer.advance(8_000_000)].map(({ seg }) => seg.mptcp.present);
  t.deepEqual(syns.slice(0, 2), [MPO.capable, MPO.capable]);
  t.true(syns.length > 2 && syns.slice(2).every((present) => present === 0));
  t.true(isPlain(peer.send('S.', capable(H, KEY))));
  t.is(peer.c.mode, 'tcp');
});

// ---- the keys arrive

test('the keys are repeated with the first data, unless a DSS has shown that they arrived', (t) => {
  const first = dialled();
  t.is(first.write(1)[0]!.seg.mptcp.present, MPO.capable);
  const second = dialled();
  second.send('.', mapping(second, 1, 1, 3), bytes(3));
  t.is(second.write(1)[0]!.seg.mptcp.present, MPO.dss);
});

test('MP_CAPABLE with data on several segments of one mapping, and again after a DSS: all of it counts once', (t) => {
  const peer = accepted();
  const option = capable(H, [...KEY, ...peer.key, ...u16(3000)]);
  for (let i = 0; i < 3; i++) peer.send('.', option, bytes(1000, i * 1000));
  peer.send('.', mapping(peer, 3001, 3001, 10), bytes(10, 3000));
  peer.sendAt(5_001, 0, '.', option, bytes(1000));
  t.deepEqual(peer.received, [...bytes(3010)]);
  t.is(peer.c.mode, 'mptcp');
});

test('the third packet is lost: the responder learns the key from MP_CAPABLE with data', (t) => {
  const peer = new CapablePeer('listen');
  peer.send('S', capable(H));
  peer.send('.', capable(H, [...KEY, ...peer.key, ...u16(5)]), bytes(5));
  t.is(peer.c.mode, 'mptcp');
  t.is(peer.c.keys.remoteToken, deriveFromKey(nodeEnv, PEER_KEY).token);
  t.deepEqual(peer.received, [...bytes(5)]);
});

test('data with a DSS before the keys: behind the first byte it waits for them, at the first byte it is plain TCP', (t) => {
  const overtaken = new CapablePeer('listen');
  const [synAck] = overtaken.send('S', capable(H));
  overtaken.sendAt(5_006, synAck!.seg.seq + 1, '.', mapping(overtaken, 6, 6, 5), bytes(5, 5));
  t.is(overtaken.c.mode, 'pending');
  overtaken.send('.', capable(H, [...KEY, ...overtaken.key, ...u16(5)]), bytes(5));
  overtaken.send('.', mapping(overtaken, 6, 6, 5), bytes(5, 5));
  t.is(overtaken.c.mode, 'mptcp');
  t.deepEqual(overtaken.received, [...bytes(10)]);

  const keyless = new CapablePeer('listen');
  keyless.send('S', capable(H));
  keyless.send('.', dataAck(keyless, 1), bytes(5));
  t.is(keyless.c.mode, 'tcp');
  t.deepEqual(keyless.received, [...bytes(5)]);
  t.true(isPlain(keyless.write(1)));
});

test('the first data is acknowledged by a DSS with its DATA_ACK', (t) => {
  const peer = accepted();
  const sent = [...peer.send('.', capable(H, [...KEY, ...peer.key, ...u16(5)]), bytes(5)), ...peer.advance(500_000)];
  const ack = sent.find(({ seg }) => seg.mptcp.dataAckBytes > 0);
  t.is(ack!.seg.mptcp.dataAckLo, (peer.idsn.peer + 6) >>> 0);
});

test('both sides send at once: DSS and MP_CAPABLE with data cross, and nothing is lost', (t) => {
  const peer = accepted();
  const [data] = peer.write(9, 8, 7);
  t.is(data!.seg.mptcp.dll, 3);
  // The peer has seen nothing of that yet.
  peer.sendAt(5_001, data!.seg.seq, '.', capable(H, [...KEY, ...peer.key, ...u16(5)]), bytes(5));
  peer.sendAt(5_006, data!.seg.seq + 3, '.', dataAck(peer, 4));
  t.deepEqual(peer.received, [...bytes(5)]);
  t.is(peer.c.mode, 'mptcp');
  t.is(peer.c.unackedBytes, 0);
});

// ---- further subflows

test('no subflow is joined before a DSS has come through, on either side', (t) => {
  for (const peer of [dialled(), accepted()]) {
    const remote = { ...peer.c.remote, port: PEER_PORT + 1 };
    const join = () => peer.c.join(peer.nowUs, { linkId: 0, localAddress: peer.c.settings.flow.localAddress, remote });
    t.is(join(), -1);
    t.is(whyNot(peer), 'no DSS has come through yet');
    peer.write(1);
    t.is(join(), -1);
    peer.send('.', dataAck(peer, 2));
    t.true(join() >= 0);
    const [syn] = peer.out().slice(-1);
    t.is(syn!.seg.mptcp.present, MPO.join);
  }
});

test('an end before any data: the DATA_FIN gets through although the keys were not proven to have arrived', (t) => {
  const { network, client, server } = connected();
  let accepted: ConnectionApi | null = null;
  let hasEnded = false;
  server.engine.listen({
    port: 5001,
    onAccept: (c) => {
      accepted = c;
      c.setReader({ onBytes: (_b, _o, n) => n, onEnd: () => (hasEnded = true) });
    },
  });
  const ours = client.engine.connect(network.nowUs, {
    linkId: 0,
    localAddress: LOCAL[0],
    localPort: 41_000,
    remote: { address: SERVER, port: 5001 },
  });
  ours.end(network.nowUs);
  client.poke();
  network.run(network.nowUs + S);
  const theirs = accepted! as ConnectionApi;
  t.true(theirs.isMptcp);
  t.true(hasEnded);
  theirs.end(network.nowUs);
  server.poke();
  network.run(network.nowUs + 2 * S);
  t.is(theirs.state, 'closed');
  t.is(ours.state, 'closed');
});

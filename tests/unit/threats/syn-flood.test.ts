/** SYN flooding (RFC 4987): past a threshold nothing is kept for a SYN, and MPTCP works nevertheless. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import type { EngineConfig } from '../../../src/core/engine/config.js';
import { Engine } from '../../../src/core/engine/engine.js';
import type { Connection } from '../../../src/core/mptcp/connection.js';
import { CAPABLE_H_SHA256, MPO, writeCapableSyn } from '../../../src/core/wire/mptcp-options.js';
import { putSynOptions } from '../../../src/core/wire/tcp.js';
import { nodeEnv } from '../../support/node-env.js';
import { type Caught, drain, elapse, exchange, inject } from '../../support/raw-host.js';

const SERVER = '192.0.2.1';
const CLIENT = '198.51.100.1';
const PORT = 8443;
const MAX_HALF_OPEN = 16;
const S = 1_000_000;
const NOW = 100 * S;

function listening(config: Partial<EngineConfig> = {}) {
  const engine = new Engine(nodeEnv, { maxHalfOpen: MAX_HALF_OPEN, ...config });
  engine.addLink(0, { id: 1, name: 'wan0', mtuBytes: 1500, addresses: [parseIp(SERVER)], isUp: true });
  const accepted: Connection[] = [];
  const received: number[] = [];
  engine.listen({
    port: PORT,
    onAccept: (c: ConnectionApi) => {
      accepted.push(c as Connection);
      c.setReader({
        onBytes: (buf, offset, n) => {
          received.push(...buf.subarray(offset, offset + n));
          return n;
        },
        onEnd: () => {},
      });
    },
  });
  return { engine, accepted, received };
}

function synOptions(out: Uint8Array, o: number): number {
  return writeCapableSyn(out, putSynOptions(out, o, 1460, true, true, 77, 0, 7), CAPABLE_H_SHA256);
}

/** SYNs from addresses of nobody; returns the bytes that they had. */
function flood(engine: Engine, count: number, nowUs = NOW, onEach: () => void = () => drain(engine, nowUs)): number {
  let bytes = 0;
  for (let i = 0; i < count; i++) {
    const from = `203.0.${(i >>> 8) & 255}.${i & 255}`;
    const fromPort = 1024 + (i >>> 16);
    bytes += inject(engine, nowUs, 1, {
      from,
      fromPort,
      to: SERVER,
      toPort: PORT,
      flags: 'S',
      seq: i,
      options: synOptions,
    });
    onEach();
  }
  return bytes;
}

function client(config: Partial<EngineConfig> = {}) {
  const engine = new Engine(nodeEnv, config);
  engine.addLink(0, { id: 1, name: 'wlan0', mtuBytes: 1400, addresses: [parseIp(CLIENT)], isUp: true });
  const connection = engine.connect(NOW, {
    linkId: 1,
    localAddress: parseIp(CLIENT),
    localPort: 40_000,
    remote: { address: parseIp(SERVER), port: PORT },
  }) as Connection;
  return { engine, connection };
}

const isData = (p: Caught) => p.payload.length > 0;

test('past the threshold of half-open connections a SYN leaves nothing behind, and is answered', (t) => {
  const { engine } = listening();
  let answers = 0;
  flood(engine, 5_000, NOW, () => {
    answers += drain(engine, NOW).length;
  });
  t.is(engine.connections().length, MAX_HALF_OPEN);
  t.is(answers, 5_000);
  t.is(engine.counters().TcpExtSyncookiesSent, 5_000 - MAX_HALF_OPEN);
});

test('MP_CAPABLE works by SYN cookie: our key comes back in the third packet, options in the timestamp', (t) => {
  const { engine, accepted, received } = listening({ checksum: true });
  flood(engine, MAX_HALF_OPEN);
  const { engine: ours, connection } = client();
  exchange(ours, engine, NOW);
  t.is(accepted.length, 1);
  const theirs = accepted[0]!;
  t.true(connection.isMptcp && theirs.isMptcp);
  t.is(theirs.keys.localToken, connection.keys.remoteToken);
  t.is(theirs.keys.remoteToken, connection.keys.localToken);
  t.true(theirs.keys.checksums && connection.keys.checksums);
  const { tcp } = theirs.subflows[0]!;
  t.is(tcp.sndWndShift, 8);
  // 1400 - 40 is 1360, of which a cookie says 1300; less timestamps (12) and DSS (4-byte numbers and checksum: 20).
  t.is(tcp.mssBytes, 1300 - 32);
  connection.write(NOW, Uint8Array.of(1, 2, 3));
  theirs.write(NOW, Uint8Array.of(9));
  exchange(ours, engine, NOW);
  t.deepEqual(received, [1, 2, 3]);
  t.is(connection.unackedBytes, 0);
  t.is(theirs.unackedBytes, 0);
  t.is(engine.counters().TcpExtSyncookiesRecv, 1);
});

test('SACK and timestamps survive a SYN cookie, and neither is claimed for a peer that has them not', (t) => {
  for (const useTimestamps of [true, false]) {
    const { engine, accepted } = listening();
    flood(engine, MAX_HALF_OPEN);
    const { engine: ours, connection } = client({ tcp: { useTimestamps } });
    const seen = exchange(ours, engine, NOW);
    const synAck = seen.find((p) => p.linkId === 1 && (p.seg.flags & 0x12) === 0x12)!;
    t.is(synAck.seg.hasTs, useTimestamps);
    // There is room for these in a timestamp only (RFC 4987 3.6).
    t.is(synAck.seg.sackPermitted, useTimestamps);
    t.is(synAck.seg.wscale, useTimestamps ? 8 : -1);
    t.true(accepted[0]!.isMptcp);
    connection.write(NOW, new Uint8Array(3000));
    // The first of two segments is lost: the ACK of the second has a SACK block or not.
    let lost = 0;
    exchange(ours, engine, NOW, (p) => !(isData(p) && lost++ === 0));
    for (const p of exchange(ours, engine, NOW)) t.is(p.seg.hasTs, useTimestamps);
  }
});

test('the third packet is lost: the first data, which has both keys too, opens the connection', (t) => {
  const { engine, accepted, received } = listening();
  flood(engine, MAX_HALF_OPEN);
  const { engine: ours, connection } = client();
  let packets = 0;
  exchange(ours, engine, NOW, (_, from) => !(from === ours && packets++ === 1));
  t.is(accepted.length, 0);
  connection.write(NOW, Uint8Array.of(7));
  exchange(ours, engine, NOW);
  t.true(accepted[0]!.isMptcp);
  t.deepEqual(received, [7]);
});

test('a plain TCP client gets plain TCP by SYN cookie', (t) => {
  const { engine, accepted, received } = listening();
  flood(engine, MAX_HALF_OPEN);
  const ours = new Engine(nodeEnv);
  ours.addLink(0, { id: 1, name: 'wlan0', mtuBytes: 1500, addresses: [parseIp(CLIENT)], isUp: true });
  const remote = { address: parseIp(SERVER), port: PORT };
  const c = ours.connect(NOW, { linkId: 1, localAddress: parseIp(CLIENT), localPort: 40_000, remote, mptcp: false });
  c.write(NOW, Uint8Array.of(5));
  exchange(ours, engine, NOW);
  t.is(accepted.length, 1);
  t.false(accepted[0]!.isMptcp);
  t.deepEqual(received, [5]);
});

test('a cookie is good for its four-tuple, its peer ISN and two minutes, and cannot be made up', (t) => {
  const attempt = (change: { fromPort?: number; seq?: number; ack?: number; laterUs?: number }) => {
    const { engine } = listening();
    flood(engine, MAX_HALF_OPEN);
    const syn = { from: CLIENT, fromPort: 5000, to: SERVER, toPort: PORT } as const;
    inject(engine, NOW, 1, { ...syn, flags: 'S', seq: 1000 });
    const cookie = drain(engine, NOW)[0]!.seg.seq;
    const { fromPort = 5000, seq = 0, ack = 0, laterUs = 0 } = change;
    const third = { ...syn, fromPort, flags: '.', seq: 1001 + seq, ack: cookie + 1 + ack };
    inject(engine, NOW + laterUs, 1, third);
    return engine.counters().TcpExtSyncookiesRecv ?? 0;
  };
  t.is(attempt({}), 1);
  t.is(attempt({ laterUs: 60 * S }), 1);
  t.is(attempt({ fromPort: 5001 }), 0);
  t.is(attempt({ seq: 1 }), 0);
  t.is(attempt({ ack: 1 }), 0);
  t.is(attempt({ ack: 2 ** 27 }), 0);
  t.is(attempt({ laterUs: 130 * S }), 0);
});

test('a third packet with another key than the cookie gave out is not MPTCP', (t) => {
  const { engine, accepted } = listening();
  flood(engine, MAX_HALF_OPEN);
  const { engine: ours } = client();
  exchange(ours, engine, NOW, (p, from) => {
    // Key of the receiver: bytes 12 to 20 of an option of 20 bytes that begins behind the timestamps.
    if (from === ours && (p.seg.mptcp.present & MPO.capable) !== 0 && p.seg.mptcp.capableLength === 20) {
      p.bytes[20 + 20 + 12 + 13]! ^= 1;
    }
    return true;
  });
  t.false(accepted[0]!.isMptcp);
  t.is(engine.counters().MPTcpExtMPCapableFallbackACK, 1);
});

test('a flood ends: half-open connections time out and SYNs are remembered again', (t) => {
  const { engine } = listening();
  flood(engine, 100);
  t.is(engine.connections().length, MAX_HALF_OPEN);
  const later = NOW + 300 * S;
  elapse(engine, NOW, later);
  t.is(engine.connections().length, 0);
  const cookies = engine.counters().TcpExtSyncookiesSent;
  flood(engine, 1, later);
  t.is(engine.connections().length, 1);
  t.is(engine.counters().TcpExtSyncookiesSent, cookies);
});

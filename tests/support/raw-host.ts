/** Packets by hand into an engine, from any address, and whatever the engine sends to anybody: for tests that play the attacker. */
import { parseIp } from '../../src/core/base/ip.js';
import { NEVER } from '../../src/core/base/time.js';
import type { Engine } from '../../src/core/engine/engine.js';
import { CSUM_VALID, ReceiveBatch, type TransmitBatch } from '../../src/core/engine/ports.js';
import { writeIpHeader } from '../../src/core/wire/ip.js';
import { parseSegment, SegmentView } from '../../src/core/wire/segment.js';
import { finishTcpHeader, writeTcpHeader } from '../../src/core/wire/tcp.js';

const FLAG_BITS: Record<string, number> = { F: 1, S: 2, R: 4, P: 8, '.': 16, U: 32, E: 64, W: 128 };

/** One packet; numbers as on the wire. */
export interface Raw {
  readonly from: string;
  readonly fromPort: number;
  readonly to: string;
  readonly toPort: number;
  readonly flags: string;
  readonly seq?: number;
  readonly ack?: number;
  readonly window?: number;
  readonly options?: (out: Uint8Array, o: number) => number;
  readonly payload?: Uint8Array;
}

const batch = new ReceiveBatch(1, 65_536);

/** Hands the packet to the engine; returns its length in bytes, IP header included. */
export function inject(engine: Engine, nowUs: number, linkId: number, raw: Raw): number {
  const bytes = packet(raw);
  injectBytes(engine, nowUs, linkId, bytes);
  return bytes.length;
}

/** The same for a packet that was captured. */
export function injectBytes(engine: Engine, nowUs: number, linkId: number, bytes: Uint8Array): void {
  batch.slab.set(bytes);
  batch.length[0] = bytes.length;
  batch.gsoSize[0] = 0;
  batch.checksum[0] = CSUM_VALID;
  batch.count = 1;
  engine.onPackets(nowUs, linkId, batch);
}

export function packet(raw: Raw): Uint8Array {
  const from = parseIp(raw.from);
  const to = parseIp(raw.to);
  const ipBytes = from.family === 4 ? 20 : 40;
  const payload = raw.payload ?? new Uint8Array(0);
  let flags = 0;
  for (const letter of raw.flags) flags |= FLAG_BITS[letter]!;
  const tcp = new Uint8Array(80);
  const { fromPort, toPort, seq = 0, ack = 0, window = 65_535 } = raw;
  const o = writeTcpHeader(tcp, 0, fromPort, toPort, seq >>> 0, ack >>> 0, flags, window);
  const tcpBytes = finishTcpHeader(tcp, 0, raw.options?.(tcp, o) ?? o);
  const bytes = new Uint8Array(ipBytes + tcpBytes + payload.length);
  writeIpHeader(bytes, 0, from.family, from, to, tcpBytes + payload.length, 6, 0, 0);
  bytes.set(tcp.subarray(0, tcpBytes), ipBytes);
  bytes.set(payload, ipBytes + tcpBytes);
  return bytes;
}

/** A packet of the engine's; `seg` is its own. */
export interface Caught {
  readonly linkId: number;
  readonly bytes: Uint8Array;
  readonly seg: SegmentView;
  /** Payload of a super-packet is not cut. */
  readonly payload: Uint8Array;
}

/** Flushes the engine and returns what it sends. */
export function drain(engine: Engine, nowUs: number): Caught[] {
  const caught: Caught[] = [];
  engine.flush(nowUs, {
    send: (linkId, out, first) => {
      for (let i = first; i < out.count; i++) caught.push(take(linkId, out, i));
      return out.count - first;
    },
    queuedBytes: () => 0,
  });
  return caught;
}

/** Lets time pass, with the engine's timers; returns what it sends. */
export function elapse(engine: Engine, fromUs: number, untilUs: number): Caught[] {
  const caught: Caught[] = [];
  for (let guard = 0; ; guard++) {
    const at = engine.nextDeadline();
    if (at === NEVER || at > untilUs) return caught;
    if (guard > 100_000) throw new Error('busy loop');
    engine.onTimer(Math.max(fromUs, at));
    caught.push(...drain(engine, Math.max(fromUs, at)));
  }
}

function take(linkId: number, out: TransmitBatch, i: number): Caught {
  const bytes = new Uint8Array(out.totalLength[i]!);
  const at = out.headerOffset[i]!;
  bytes.set(out.headers.subarray(at, at + out.headerLength[i]!));
  let o = out.headerLength[i]!;
  for (let p = out.partStart[i]!; p < out.partStart[i + 1]!; p++) {
    const offset = out.partOffset[p]!;
    bytes.set(out.parts[p]!.subarray(offset, offset + out.partLength[p]!), o);
    o += out.partLength[p]!;
  }
  const seg = new SegmentView();
  const result = parseSegment(bytes, 0, bytes.length, 0, seg);
  if (result !== 'ok') throw new Error(`emitted packet does not parse: ${result}`);
  return { linkId, bytes, seg, payload: bytes.slice(seg.payloadOff) };
}

/** Two engines on one wire without delay: everything that either sends arrives at once, unless `filter` says no. */
export function exchange(
  a: Engine,
  b: Engine,
  nowUs: number,
  filter: (packet: Caught, from: Engine) => boolean = () => true,
): Caught[] {
  const all: Caught[] = [];
  for (let round = 0; round < 100; round++) {
    let moved = false;
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      for (const p of drain(from, nowUs)) {
        all.push(p);
        moved = true;
        if (filter(p, from)) injectBytes(to, nowUs, p.linkId, p.bytes);
      }
    }
    if (!moved) return all;
  }
  throw new Error('the engines do not come to rest');
}

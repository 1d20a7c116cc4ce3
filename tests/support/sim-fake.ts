/** A stand-in for the engine: sends the TCP segments it is told to, and notes what arrives. For tests of the network itself. */
import { type IpAddress, parseIp } from '../../src/core/base/ip.js';
import { type Micros, NEVER } from '../../src/core/base/time.js';
import { putU16, putU32 } from '../../src/core/base/wire-int.js';
import type { ConnectionApi, Edge, EngineApi, EngineEvent, LinkInfo } from '../../src/core/engine/api.js';
import { LINK_HEADROOM_BYTES, type ReceiveBatch, TransmitBatch } from '../../src/core/engine/ports.js';
import { PacketPool, type SimPacket } from '../../src/sim/packet.js';
import { segmentPacket } from '../../src/sim/segment.js';

export interface FakeSegment {
  from: string;
  to: string;
  sourcePort?: number;
  destinationPort?: number;
  seq?: number;
  ack?: number;
  flags?: number;
  window?: number;
  /** Option bytes, a multiple of 4. */
  options?: number[];
  payload?: Uint8Array;
  /** > 0: a super-packet. */
  gsoSize?: number;
}

export interface FakeArrival {
  atUs: Micros;
  linkId: number;
  bytes: Uint8Array;
  gsoSize: number;
}

/** Appends a segment to a batch as the engine would: header in the slab, payload as two slices. */
export function appendSegment(batch: TransmitBatch, s: FakeSegment): void {
  const from = parseIp(s.from);
  const to = parseIp(s.to);
  const options = s.options ?? [];
  const payload = s.payload ?? new Uint8Array(0);
  const i = batch.count++;
  const o = i * (batch.headers.length / batch.slots) + LINK_HEADROOM_BYTES;
  const ipBytes = from.family === 4 ? 20 : 40;
  const total = ipBytes + 20 + options.length + payload.length;
  writeIpHeader(batch.headers, o, from, to, total);
  const l4 = o + ipBytes;
  const h = batch.headers;
  putU16(h, l4, s.sourcePort ?? 1000);
  putU16(h, l4 + 2, s.destinationPort ?? 2000);
  putU32(h, l4 + 4, s.seq ?? 1);
  putU32(h, l4 + 8, s.ack ?? 1);
  h[l4 + 12] = ((20 + options.length) / 4) << 4;
  h[l4 + 13] = s.flags ?? 0x10;
  putU16(h, l4 + 14, s.window ?? 1000);
  putU32(h, l4 + 16, 0);
  h.set(options, l4 + 20);
  batch.headerOffset[i] = o;
  batch.headerLength[i] = ipBytes + 20 + options.length;
  batch.csumStart[i] = ipBytes;
  batch.csumOffset[i] = 16;
  batch.gsoSize[i] = s.gsoSize ?? 0;
  batch.family[i] = from.family;
  batch.totalLength[i] = total;
  batch.partStart[i] = batch.partCount;
  const cut = payload.length >> 1;
  for (const [begin, end] of [
    [0, cut],
    [cut, payload.length],
  ] as const) {
    if (begin === end) continue;
    batch.parts.push(payload);
    batch.partOffset[batch.partCount] = begin;
    batch.partLength[batch.partCount++] = end - begin;
  }
  batch.partStart[i + 1] = batch.partCount;
}

/** The segments of one FakeSegment as they would be on the wire. */
export function packetsOf(s: FakeSegment, pool = new PacketPool(), whole = false): SimPacket[] {
  const batch = new TransmitBatch(4);
  appendSegment(batch, s);
  const out: SimPacket[] = [];
  segmentPacket(batch, 0, pool, { onPacket: (packet) => out.push(packet) }, whole);
  return out;
}

function writeIpHeader(buf: Uint8Array, o: number, from: IpAddress, to: IpAddress, total: number): void {
  if (from.family === 6) {
    putU32(buf, o, 0x60000000);
    putU16(buf, o + 4, total - 40);
    buf[o + 6] = 6;
    buf[o + 7] = 64;
    buf.set(from.bytes, o + 8);
    buf.set(to.bytes, o + 24);
    return;
  }
  putU32(buf, o, 0x45000000 + total);
  putU32(buf, o + 4, 0x00004000);
  buf[o + 8] = 64;
  buf[o + 9] = 6;
  putU16(buf, o + 10, 0);
  buf.set(from.bytes, o + 12);
  buf.set(to.bytes, o + 16);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += (buf[o + i]! << 8) | buf[o + i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  putU16(buf, o + 10, ~sum & 0xffff);
}

export class FakeEngine implements EngineApi {
  readonly arrivals: FakeArrival[] = [];
  readonly links = new Map<number, LinkInfo>();
  deadlineUs: Micros = NEVER;
  timersFired: Micros[] = [];
  onArrival: ((arrival: FakeArrival) => void) | null = null;
  private readonly outbox: { linkId: number; batch: TransmitBatch; from: number }[] = [];

  queue(linkId: number, ...segments: FakeSegment[]): void {
    const batch = new TransmitBatch(segments.length);
    for (const s of segments) appendSegment(batch, s);
    this.outbox.push({ linkId, batch, from: 0 });
  }
  get unsent(): number {
    return this.outbox.reduce((n, { batch, from }) => n + batch.count - from, 0);
  }

  addLink(_nowUs: Micros, link: LinkInfo): void {
    this.links.set(link.id, link);
  }
  updateLink(_nowUs: Micros, link: LinkInfo): void {
    this.links.set(link.id, link);
  }
  removeLink(_nowUs: Micros, linkId: number): void {
    this.links.delete(linkId);
  }
  onPackets(nowUs: Micros, linkId: number, batch: ReceiveBatch): void {
    for (let i = 0; i < batch.count; i++) {
      const at = batch.offset[i]!;
      const arrival = {
        atUs: nowUs,
        linkId,
        bytes: batch.slab.slice(at, at + batch.length[i]!),
        gsoSize: batch.gsoSize[i]!,
      };
      this.arrivals.push(arrival);
      this.onArrival?.(arrival);
    }
  }
  onTimer(nowUs: Micros): void {
    this.timersFired.push(nowUs);
    this.deadlineUs = NEVER;
  }
  nextDeadline(): Micros {
    return this.deadlineUs;
  }
  flush(_nowUs: Micros, edge: Edge): void {
    while (this.outbox.length > 0) {
      const first = this.outbox[0]!;
      first.from += edge.send(first.linkId, first.batch, first.from);
      if (first.from < first.batch.count) return;
      this.outbox.shift();
    }
  }
  pollEvent(): EngineEvent | undefined {
    return undefined;
  }
  counters(): Readonly<Record<string, number>> {
    return {};
  }
  listen(): never {
    throw new Error('the fake does not listen');
  }
  connect(): never {
    throw new Error('the fake does not connect');
  }
  connections(): readonly ConnectionApi[] {
    return [];
  }
}

/** TCP packets by hand, for tests of ports below the stack. */
import { type IpAddress, parseIp } from '../../src/core/base/ip.js';
import { getU16, getU32, putU16, putU32 } from '../../src/core/base/wire-int.js';
import {
  HEADER_SLOT_BYTES,
  LINK_HEADROOM_BYTES,
  type ReceiveBatch,
  type TransmitBatch,
} from '../../src/core/engine/ports.js';
import { addon } from '../../src/native/addon.js';

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;

export interface TcpFields {
  readonly from: string;
  readonly to: string;
  readonly fromPort: number;
  readonly toPort: number;
  readonly seq?: number;
  readonly ack?: number;
  readonly flags: number;
  readonly payload?: Uint8Array;
  /** > 0: a super-packet of such segments. */
  readonly gsoSize?: number;
  readonly ttl?: number;
}

/** Appends a TCP packet (MSS 1400 in a SYN) to the batch, as the engine would: pseudo-header sum, payload by reference. */
export function addTcp(batch: TransmitBatch, f: TcpFields): void {
  const from = parseIp(f.from);
  const to = parseIp(f.to);
  const payload = f.payload ?? new Uint8Array(0);
  const tcpBytes = (f.flags & SYN) !== 0 ? 24 : 20;
  const ipBytes = from.family === 4 ? 20 : 40;
  const i = batch.count++;
  const o = i * HEADER_SLOT_BYTES + LINK_HEADROOM_BYTES;
  const h = batch.headers;
  h.fill(0, o, o + ipBytes + tcpBytes);
  const total = ipBytes + tcpBytes + payload.length;
  if (from.family === 4) {
    h[o] = 0x45;
    putU16(h, o + 2, total);
    h[o + 6] = 0x40;
    h[o + 8] = f.ttl ?? 64;
    h[o + 9] = 6;
    h.set(from.bytes, o + 12);
    h.set(to.bytes, o + 16);
    putU16(h, o + 10, ~addon.checksum(h, o, 20, 0) & 0xffff);
  } else {
    h[o] = 0x60;
    putU16(h, o + 4, tcpBytes + payload.length);
    h[o + 6] = 6;
    h[o + 7] = f.ttl ?? 64;
    h.set(from.bytes, o + 8);
    h.set(to.bytes, o + 24);
  }
  const p = o + ipBytes;
  putU16(h, p, f.fromPort);
  putU16(h, p + 2, f.toPort);
  putU32(h, p + 4, f.seq ?? 0);
  putU32(h, p + 8, f.ack ?? 0);
  h[p + 12] = (tcpBytes / 4) << 4;
  h[p + 13] = f.flags;
  putU16(h, p + 14, 65_535);
  if (tcpBytes === 24) h.set([2, 4, 1400 >> 8, 1400 & 0xff], p + 20);
  putU16(h, p + 16, pseudoHeaderSum(from, to, tcpBytes + payload.length));
  batch.headerOffset[i] = o;
  batch.headerLength[i] = ipBytes + tcpBytes;
  batch.csumStart[i] = ipBytes;
  batch.csumOffset[i] = 16;
  batch.gsoSize[i] = f.gsoSize ?? 0;
  batch.family[i] = from.family;
  batch.totalLength[i] = total;
  batch.partStart[i] = batch.partCount;
  if (payload.length > 0) {
    batch.partOffset[batch.partCount] = 0;
    batch.partLength[batch.partCount] = payload.length;
    batch.parts.push(payload);
    batch.partCount++;
  }
  batch.partStart[i + 1] = batch.partCount;
}

/** RFC 9293 3.1, not complemented. */
export function pseudoHeaderSum(from: IpAddress, to: IpAddress, tcpBytes: number): number {
  const addresses = addon.checksum(from.bytes, 0, from.bytes.length, addon.checksum(to.bytes, 0, to.bytes.length, 0));
  return addon.checksum(new Uint8Array([0, 6, tcpBytes >> 8, tcpBytes]), 0, 4, addresses);
}

export interface SeenPacket {
  readonly family: number;
  readonly protocol: number;
  readonly fromPort: number;
  readonly toPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly payload: Buffer;
  readonly gsoSize: number;
  readonly checksum: number;
  /** Whether the checksum in the packet is right (whatever `checksum` claims). */
  readonly isChecksumRight: boolean;
  readonly ip: Buffer;
}

/** Packet `i` of a batch, copied and taken apart. Ports and sequence numbers are those of TCP. */
export function seen(batch: ReceiveBatch, i: number): SeenPacket {
  const o = batch.offset[i]!;
  const raw = Buffer.from(batch.slab.slice(o, o + batch.length[i]!));
  const family = raw[0]! >> 4;
  const ipBytes = family === 4 ? (raw[0]! & 15) * 4 : 40;
  // Ethernet pads short frames.
  const ip = raw.subarray(0, family === 4 ? getU16(raw, 2) : 40 + getU16(raw, 4));
  const tcp = ip.subarray(ipBytes);
  const [from, to] =
    family === 4 ? [ip.subarray(12, 16), ip.subarray(16, 20)] : [ip.subarray(8, 24), ip.subarray(24, 40)];
  const fake = (bytes: Buffer) => ({ bytes: new Uint8Array(bytes) }) as IpAddress;
  const sum = addon.checksum(tcp, 0, tcp.length, pseudoHeaderSum(fake(from), fake(to), tcp.length));
  return {
    family,
    protocol: family === 4 ? ip[9]! : ip[6]!,
    fromPort: getU16(tcp, 0),
    toPort: getU16(tcp, 2),
    seq: getU32(tcp, 4),
    ack: getU32(tcp, 8),
    flags: tcp[13] ?? 0,
    payload: tcp.subarray(((tcp[12] ?? 0) >> 4) * 4),
    gsoSize: batch.gsoSize[i]!,
    checksum: batch.checksum[i]!,
    isChecksumRight: sum === 0xffff,
    ip,
  };
}

/** Inner packets for the lane tests, and a naive oracle for what a receiver makes of them. */
import { parseIp } from '../../../src/core/base/ip.js';
import { putU16, putU32 } from '../../../src/core/base/wire-int.js';
import { finishL4Checksum, InnerView, parseInner } from '../../../src/core/lanes/inner-packet.js';

export interface TcpOptions {
  src?: string;
  dst?: string;
  srcPort?: number;
  dstPort?: number;
  seq?: number;
  flags?: number;
  payload: Uint8Array;
  ecn?: number;
  id?: number;
  optionBytes?: number;
}

export const V4_SRC = '10.7.0.2';
export const V4_DST = '192.0.2.9';
export const V6_SRC = 'fd00::2';
export const V6_DST = '2001:db8::9';

export function bytes(count: number, seed = 1): Uint8Array {
  const out = new Uint8Array(count);
  let x = seed >>> 0 || 1;
  for (let i = 0; i < count; i++) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    out[i] = x >>> 24;
  }
  return out;
}

/** A TCP packet with finished checksums. */
export function tcp(options: TcpOptions): Uint8Array {
  const tcpBytes = 20 + (options.optionBytes ?? 12);
  const { packet, l4 } = ip(
    options.src ?? V4_SRC,
    options.dst ?? V4_DST,
    6,
    tcpBytes + options.payload.length,
    options,
  );
  putU16(packet, l4, options.srcPort ?? 40_000);
  putU16(packet, l4 + 2, options.dstPort ?? 443);
  putU32(packet, l4 + 4, options.seq ?? 1000);
  putU32(packet, l4 + 8, 77);
  packet[l4 + 12] = (tcpBytes / 4) << 4;
  packet[l4 + 13] = options.flags ?? 0x10;
  putU16(packet, l4 + 14, 512);
  packet.fill(1, l4 + 20, l4 + tcpBytes);
  packet.set(options.payload, l4 + tcpBytes);
  return finished(packet);
}

export function udp(
  payload: Uint8Array,
  options: { src?: string; dst?: string; srcPort?: number; dstPort?: number } = {},
) {
  const { packet, l4 } = ip(options.src ?? V4_SRC, options.dst ?? V4_DST, 17, 8 + payload.length, {});
  putU16(packet, l4, options.srcPort ?? 5000);
  putU16(packet, l4 + 2, options.dstPort ?? 6000);
  putU16(packet, l4 + 4, 8 + payload.length);
  packet.set(payload, l4 + 8);
  return finished(packet);
}

export function ping(payloadBytes = 56): Uint8Array {
  const { packet, l4 } = ip(V4_SRC, V4_DST, 1, 8 + payloadBytes, {});
  packet[l4] = 8;
  return packet;
}

function ip(src: string, dst: string, protocol: number, l4Bytes: number, o: { ecn?: number; id?: number }) {
  const from = parseIp(src);
  const to = parseIp(dst);
  if (from.family === 4) {
    const packet = new Uint8Array(20 + l4Bytes);
    packet[0] = 0x45;
    packet[1] = o.ecn ?? 0;
    putU16(packet, 2, packet.length);
    putU16(packet, 4, o.id ?? 1);
    packet[8] = 64;
    packet[9] = protocol;
    packet.set(from.bytes, 12);
    packet.set(to.bytes, 16);
    putU16(packet, 10, naiveChecksum(packet.subarray(0, 20)));
    return { packet, l4: 20 };
  }
  const packet = new Uint8Array(40 + l4Bytes);
  packet[0] = 0x60;
  packet[1] = (o.ecn ?? 0) << 4;
  putU16(packet, 4, l4Bytes);
  packet[6] = protocol;
  packet[7] = 64;
  packet.set(from.bytes, 8);
  packet.set(to.bytes, 24);
  return { packet, l4: 40 };
}

function finished(packet: Uint8Array): Uint8Array {
  finishL4Checksum(packet, 0, view(packet));
  return packet;
}

export function view(packet: Uint8Array): InnerView {
  const v = new InnerView();
  const reason = parseInner(packet, 0, packet.length, packet.length, v);
  if (reason !== null) throw new Error(reason);
  return v;
}

/** RFC 1071, as slow and obvious as it gets. */
export function naiveChecksum(b: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < b.length; i += 2) sum += b[i]! * 256 + (b[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000);
  return 0xffff - sum;
}

/** True when the IPv4 header checksum and the L4 checksum both verify, by the naive sum. */
export function verifies(packet: Uint8Array): boolean {
  const v = view(packet);
  if (v.family === 4 && naiveChecksum(packet.subarray(0, v.l4Offset)) !== 0) return false;
  const l4 = packet.subarray(v.l4Offset);
  const addresses = packet.subarray(v.srcAt, v.srcAt + (v.family === 4 ? 8 : 32));
  const pseudo = new Uint8Array(addresses.length + 4 + l4.length);
  pseudo.set(addresses);
  pseudo[addresses.length + 1] = v.protocol;
  putU16(pseudo, addresses.length + 2, l4.length);
  pseudo.set(l4, addresses.length + 4);
  return naiveChecksum(pseudo) === 0;
}

/** IP prefixes (CIDR) as values. */
import { type IpAddress, ipFromBytes, parseIp } from '../core/base/ip.js';
import type { Prefix } from './types.js';

/** Parses `ADDRESS/BITS` with host bits zero, or null. A bare address is a host prefix. */
export function parsePrefix(text: string): Prefix | null {
  const m = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text);
  if (m === null) return null;
  const address = parseIpOrNull(m[1]!);
  if (address === null) return null;
  const width = address.bytes.length * 8;
  const bits = m[2] === undefined ? width : Number(m[2]);
  if (bits > width || networkAddress(address, bits).text !== address.text) return null;
  return { address, bits, text: `${address.text}/${bits}` };
}

export function parseIpOrNull(text: string): IpAddress | null {
  try {
    return parseIp(text);
  } catch {
    return null;
  }
}

/** `address` with everything behind the first `bits` bits zero. */
export function networkAddress(address: IpAddress, bits: number): IpAddress {
  const bytes = address.bytes.slice();
  for (let i = 0; i < bytes.length; i++) {
    const keep = Math.min(8, Math.max(0, bits - 8 * i));
    bytes[i] = bytes[i]! & (0xff << (8 - keep));
  }
  return ipFromBytes(bytes, 0, address.family);
}

export function prefixContains(prefix: Prefix, address: IpAddress): boolean {
  return prefix.address.family === address.family && networkAddress(address, prefix.bits).text === prefix.address.text;
}

/** The `index`-th address of a prefix (0 is the network address), or null behind its end. `index` below 2^31. */
export function addressAt(prefix: Prefix, index: number): IpAddress | null {
  const hostBits = prefix.address.bytes.length * 8 - prefix.bits;
  if (hostBits < 31 && index >= 2 ** hostBits) return null;
  const bytes = prefix.address.bytes.slice();
  let carry = index;
  for (let i = bytes.length - 1; i >= 0 && carry > 0; i--) {
    carry += bytes[i]!;
    bytes[i] = carry & 0xff;
    carry = Math.floor(carry / 256);
  }
  return ipFromBytes(bytes, 0, prefix.address.family);
}

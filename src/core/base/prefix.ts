/** IP prefixes (CIDR) as values. */
import { type IpAddress, ipFromBytes } from './ip.js';

export interface IpPrefix {
  /** Network address (host bits are zero). */
  readonly address: IpAddress;
  readonly bits: number;
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

export function prefixContains(prefix: IpPrefix, address: IpAddress): boolean {
  return prefix.address.family === address.family && networkAddress(address, prefix.bits).text === prefix.address.text;
}

/** Every address of `inner` is one of `outer`. */
export function prefixCovers(outer: IpPrefix, inner: IpPrefix): boolean {
  return outer.bits <= inner.bits && prefixContains(outer, inner.address);
}

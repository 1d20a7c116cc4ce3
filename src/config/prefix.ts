/** IP prefixes as people write them, and the addresses in them. */
import { type IpAddress, ipFromBytes, parseIp } from '../core/base/ip.js';
import { networkAddress, prefixCovers } from '../core/base/prefix.js';
import type { KeyPath } from './document.js';
import type { Report } from './load.js';
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

/** Reports prefixes inside another one of the same list. */
export function repeated(list: readonly Prefix[], path: KeyPath, report: Report): void {
  for (const [i, prefix] of list.entries()) {
    const around = list.findIndex((p, j) => j !== i && prefixCovers(p, prefix) && (p.bits < prefix.bits || j < i));
    if (around < 0) continue;
    report(
      [...path, i],
      `${prefix.text} overlaps with ${list[around]!.text}, which covers it`,
      'leave one of them out',
    );
  }
}

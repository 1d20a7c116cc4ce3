/**
 * IP addresses as immutable values. `text` is the canonical form (RFC 5952 for IPv6) and serves as map key;
 * `bytes` is the network-order form that goes on the wire (4 or 16 bytes). Never compare by object identity.
 */
export type Family = 4 | 6;

export interface IpAddress {
  readonly family: Family;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** Parses dotted-quad or RFC 4291 text (an IPv4-mapped form stays IPv6). Throws RangeError on anything else. */
export function parseIp(text: string): IpAddress {
  const bytes = text.includes(':') ? parse6(text) : parse4(text);
  if (bytes === null) throw new RangeError(`not an IP address: ${text}`);
  return ipFromBytes(bytes, 0, bytes.length === 4 ? 4 : 6);
}

/** Copies an address out of `buf` at `offset`. */
export function ipFromBytes(buf: Uint8Array, offset: number, family: Family): IpAddress {
  // Not slice(): a Node Buffer's shares memory.
  const bytes = new Uint8Array(buf.subarray(offset, offset + (family === 4 ? 4 : 16)));
  return { family, bytes, text: family === 4 ? bytes.join('.') : text6(bytes) };
}

export function ipEquals(a: IpAddress, b: IpAddress): boolean {
  return a.family === b.family && a.text === b.text;
}

/** Compares an address with raw bytes in place, without allocating (packet path). */
export function ipEqualsAt(a: IpAddress, buf: Uint8Array, offset: number): boolean {
  const bytes = a.bytes;
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== buf[offset + i]) return false;
  return true;
}

function parse4(text: string): Uint8Array | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  const out = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    const part = parts[i]!;
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
    out[i] = Number(part);
  }
  return out;
}

function parse6(text: string): Uint8Array | null {
  let source = text;
  const lastColon = source.lastIndexOf(':');
  if (source.includes('.')) {
    const v4 = parse4(source.slice(lastColon + 1));
    if (v4 === null) return null;
    const hex = (i: number) => ((v4[i]! << 8) | v4[i + 1]!).toString(16);
    source = `${source.slice(0, lastColon + 1)}${hex(0)}:${hex(2)}`;
  }
  const halves = source.split('::');
  if (halves.length > 2) return null;
  const words = (s: string) => (s === '' ? [] : s.split(':'));
  const head = words(halves[0]!);
  const tail = halves.length === 2 ? words(halves[1]!) : [];
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const all = [...head, ...new Array<string>(halves.length === 2 ? missing : 0).fill('0'), ...tail];
  const out = new Uint8Array(16);
  for (let i = 0; i < 8; i++) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(all[i]!)) return null;
    const word = Number.parseInt(all[i]!, 16);
    out[2 * i] = word >> 8;
    out[2 * i + 1] = word & 0xff;
  }
  return out;
}

/**
 * RFC 5952: lower case, no leading zeros, the longest run of two or more zero words (the first of equals) as `::`; an
 * IPv4-mapped address ends in dotted quad (section 5).
 */
function text6(b: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, i) => (b[2 * i]! << 8) | b[2 * i + 1]!);
  if (words[5] === 0xffff && words.every((w, i) => i >= 5 || w === 0)) return `::ffff:${b.subarray(12).join('.')}`;
  let bestAt = -1;
  let bestLen = 1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && words[i + n] === 0) n++;
    if (n > bestLen) {
      bestAt = i;
      bestLen = n;
    }
    if (n > 0) i += n - 1;
  }
  const hex = words.map((w) => w.toString(16));
  if (bestAt < 0) return hex.join(':');
  return `${hex.slice(0, bestAt).join(':')}::${hex.slice(bestAt + bestLen).join(':')}`;
}

/** Just enough DNS (RFC 1035 §4, RFC 3596) to ask a name server for a host's addresses: one question, A or AAAA. */
import { type IpAddress, ipFromBytes } from '../core/base/ip.js';

const TYPE_A = 1;
const TYPE_AAAA = 28;
const CLASS_IN = 1;
const FLAG_RESPONSE = 0x8000;
const FLAG_RECURSION_DESIRED = 0x0100;
const RCODE_MASK = 0x000f;
const RCODE_NO_NAME = 3;
/** Addresses taken from one answer. */
const MAX_ADDRESSES = 16;

/** A query for `name`; null if it is no host name. */
export function encodeQuery(id: number, name: string, family: 4 | 6): Buffer | null {
  const labels = name.replace(/\.$/, '').split('.');
  const parts: Buffer[] = [];
  for (const label of labels) {
    const bytes = Buffer.from(label, 'latin1');
    if (bytes.length === 0 || bytes.length > 63) return null;
    parts.push(Buffer.of(bytes.length), bytes);
  }
  const head = Buffer.alloc(12);
  head.writeUInt16BE(id, 0);
  head.writeUInt16BE(FLAG_RECURSION_DESIRED, 2);
  head.writeUInt16BE(1, 4);
  const tail = Buffer.alloc(5);
  tail.writeUInt16BE(family === 4 ? TYPE_A : TYPE_AAAA, 1);
  tail.writeUInt16BE(CLASS_IN, 3);
  return Buffer.concat([head, ...parts, tail]);
}

/**
 * The addresses in an answer to query `id`: [] if the name has none, null if it is no answer to it (or is malformed, or the server
 * failed). CNAME chains are not followed by name: a recursive server puts the addresses at their end into the answer.
 */
export function parseAnswer(b: Buffer, id: number, family: 4 | 6): IpAddress[] | null {
  if (b.length < 12 || b.readUInt16BE(0) !== id) return null;
  const flags = b.readUInt16BE(2);
  if ((flags & FLAG_RESPONSE) === 0) return null;
  const rcode = flags & RCODE_MASK;
  if (rcode === RCODE_NO_NAME) return [];
  if (rcode !== 0) return null;
  let o = 12;
  for (let n = b.readUInt16BE(4); n > 0; n--) {
    o = skipName(b, o);
    if (o < 0 || o + 4 > b.length) return null;
    o += 4;
  }
  const addresses: IpAddress[] = [];
  for (let n = b.readUInt16BE(6); n > 0; n--) {
    o = skipName(b, o);
    if (o < 0 || o + 10 > b.length) return null;
    const type = b.readUInt16BE(o);
    const lengthBytes = b.readUInt16BE(o + 8);
    o += 10;
    if (o + lengthBytes > b.length) return null;
    const isWanted = family === 4 ? type === TYPE_A && lengthBytes === 4 : type === TYPE_AAAA && lengthBytes === 16;
    if (isWanted && addresses.length < MAX_ADDRESSES) addresses.push(ipFromBytes(b, o, family));
    o += lengthBytes;
  }
  return addresses;
}

/** Offset behind a name (a compression pointer ends it), or -1. */
function skipName(b: Buffer, o: number): number {
  while (o < b.length) {
    const length = b[o]!;
    if (length === 0) return o + 1;
    if ((length & 0xc0) === 0xc0) return o + 2 <= b.length ? o + 2 : -1;
    if ((length & 0xc0) !== 0) return -1;
    o += 1 + length;
  }
  return -1;
}

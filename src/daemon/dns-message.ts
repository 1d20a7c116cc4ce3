/**
 * Just enough DNS (RFC 1035 §4, RFC 3596) to ask a name server for a host's addresses: one question, A or AAAA; and to learn
 * names from what it answers to others.
 */
import { type IpAddress, ipFromBytes } from '../core/base/ip.js';

const TYPE_A = 1;
const TYPE_CNAME = 5;
const TYPE_AAAA = 28;
const CLASS_IN = 1;
const FLAG_RESPONSE = 0x8000;
/** QR, opcode and RCODE: a response to a standard query, without an error. */
const FLAGS_STANDARD_ANSWER = 0xf80f;
const FLAG_RECURSION_DESIRED = 0x0100;
const RCODE_MASK = 0x000f;
const RCODE_NO_NAME = 3;
/** Addresses taken from one answer. */
const MAX_ADDRESSES = 16;
/** CNAMEs that are followed in one answer. */
const MAX_CHAIN = 8;
/** RFC 1035 §2.3.4. */
const MAX_NAME_CHARS = 255;

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

/** An address in an answer, and the names that lead to it, from the one that was asked for to its owner. */
export interface NamedAddress {
  readonly address: IpAddress;
  readonly ttlS: number;
  readonly names: readonly string[];
}

/**
 * Addresses in any answer to one question, with the chain of CNAMEs that leads from the question to each (RFC 1034 §3.6.2);
 * records that no chain leads to are left out. Null: malformed, or no such answer.
 */
export function parseNames(message: Uint8Array): NamedAddress[] | null {
  const b = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  if (b.length < 12 || (b.readUInt16BE(2) & FLAGS_STANDARD_ANSWER) !== FLAG_RESPONSE || b.readUInt16BE(4) !== 1)
    return null;
  const question = readName(b, 12);
  let o = skipName(b, 12);
  if (question === null || o < 0 || o + 4 > b.length) return null;
  o += 4;
  const aliases = new Map<string, { to: string; ttlS: number }>();
  const found: { owner: string; address: IpAddress; ttlS: number }[] = [];
  for (let n = b.readUInt16BE(6); n > 0; n--) {
    const owner = readName(b, o);
    o = skipName(b, o);
    if (owner === null || o < 0 || o + 10 > b.length) return null;
    const type = b.readUInt16BE(o);
    const isInternet = b.readUInt16BE(o + 2) === CLASS_IN;
    const ttlS = b.readUInt32BE(o + 4);
    const lengthBytes = b.readUInt16BE(o + 8);
    o += 10;
    if (o + lengthBytes > b.length) return null;
    const family = type === TYPE_A && lengthBytes === 4 ? 4 : type === TYPE_AAAA && lengthBytes === 16 ? 6 : null;
    if (isInternet && family !== null && found.length < MAX_ADDRESSES) {
      found.push({ owner, address: ipFromBytes(b, o, family), ttlS });
    } else if (isInternet && type === TYPE_CNAME && aliases.size < MAX_CHAIN) {
      const to = readName(b, o);
      if (to === null) return null;
      aliases.set(owner, { to, ttlS });
    }
    o += lengthBytes;
  }
  const chain = [question];
  let chainTtlS = Number.POSITIVE_INFINITY;
  for (
    let alias = aliases.get(question);
    alias !== undefined && chain.length <= MAX_CHAIN;
    alias = aliases.get(alias.to)
  ) {
    chain.push(alias.to);
    chainTtlS = Math.min(chainTtlS, alias.ttlS);
  }
  return found.flatMap(({ owner, address, ttlS }) => {
    const at = chain.indexOf(owner);
    return at < 0 ? [] : [{ address, ttlS: Math.min(ttlS, chainTtlS), names: chain.slice(0, at + 1) }];
  });
}

/** A name as text, lower case, without the root's dot; null where it is malformed. Compression pointers lead backwards only. */
function readName(b: Buffer, from: number): string | null {
  const labels: string[] = [];
  let chars = 0;
  let limit = from;
  for (let o = from; o < b.length; ) {
    const length = b[o]!;
    if (length === 0) return labels.join('.').toLowerCase();
    if ((length & 0xc0) === 0xc0) {
      if (o + 2 > b.length) return null;
      const target = b.readUInt16BE(o) & 0x3fff;
      if (target >= limit) return null;
      limit = target;
      o = target;
      continue;
    }
    chars += length + 1;
    if ((length & 0xc0) !== 0 || o + 1 + length > b.length || chars > MAX_NAME_CHARS) return null;
    const label = b.toString('latin1', o + 1, o + 1 + length);
    // Names that a rule could mean have none of these, and a log or a terminal should not get them.
    if (/[^\x21-\x7e]|\./.test(label)) return null;
    labels.push(label);
    o += 1 + length;
  }
  return null;
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

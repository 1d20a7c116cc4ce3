/**
 * Capsule values of RFC 9484 §4.7: addresses and routes. Parsing is total: a value, or null for anything malformed
 * (the stream is then aborted, RFC 9297 §3.3).
 */
import { type Family, type IpAddress, ipFromBytes } from '../base/ip.js';
import { readVarint, varintBytes, varintSize, writeVarint } from './varint.js';

/** §4.7.1 Assigned Address, and §4.7.2 Requested Address: the same layout. */
export interface AddressEntry {
  readonly requestId: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/** §4.7.3 IP Address Range; `protocol` 0 is any. */
export interface RouteEntry {
  readonly start: IpAddress;
  readonly end: IpAddress;
  readonly protocol: number;
}

/** Entries that one capsule may hold here. */
const MAX_ENTRIES = 256;

export function encodeAddresses(entries: readonly AddressEntry[]): Uint8Array {
  let size = 0;
  for (const e of entries) size += varintSize(e.requestId) + 2 + e.address.bytes.length;
  const out = new Uint8Array(size);
  let o = 0;
  for (const e of entries) {
    o = writeVarint(out, o, e.requestId);
    out[o++] = e.address.family;
    out.set(e.address.bytes, o);
    o += e.address.bytes.length;
    out[o++] = e.prefixLength;
  }
  return out;
}

export function parseAddresses(b: Uint8Array): AddressEntry[] | null {
  const entries: AddressEntry[] = [];
  let o = 0;
  while (o < b.length) {
    const idEnd = o + varintBytes(b[o]!);
    if (idEnd >= b.length) return null;
    const requestId = readVarint(b, o);
    const family = asFamily(b[idEnd]!);
    if (family === 0) return null;
    const addressAt = idEnd + 1;
    const prefixAt = addressAt + addressBytes(family);
    if (prefixAt >= b.length || entries.length === MAX_ENTRIES) return null;
    const prefixLength = b[prefixAt]!;
    const address = ipFromBytes(b, addressAt, family);
    // §4.7.1: bits behind the prefix MUST be zero.
    if (prefixLength > addressBytes(family) * 8 || !isNetwork(address.bytes, prefixLength)) return null;
    entries.push({ requestId, address, prefixLength });
    o = prefixAt + 1;
  }
  return entries;
}

export function encodeRoutes(entries: readonly RouteEntry[]): Uint8Array {
  let size = 0;
  for (const e of entries) size += 2 + 2 * e.start.bytes.length;
  const out = new Uint8Array(size);
  let o = 0;
  for (const e of entries) {
    out[o++] = e.start.family;
    out.set(e.start.bytes, o);
    out.set(e.end.bytes, o + e.start.bytes.length);
    o += 2 * e.start.bytes.length;
    out[o++] = e.protocol;
  }
  return out;
}

export function parseRoutes(b: Uint8Array): RouteEntry[] | null {
  const entries: RouteEntry[] = [];
  let o = 0;
  while (o < b.length) {
    const family = asFamily(b[o]!);
    if (family === 0) return null;
    const n = addressBytes(family);
    if (o + 2 + 2 * n > b.length || entries.length === MAX_ENTRIES) return null;
    const start = ipFromBytes(b, o + 1, family);
    const end = ipFromBytes(b, o + 1 + n, family);
    const protocol = b[o + 1 + 2 * n]!;
    if (compareBytes(start.bytes, end.bytes) > 0) return null;
    const last = entries.at(-1);
    if (last !== undefined && !isOrdered(last, { start, end, protocol })) return null;
    entries.push({ start, end, protocol });
    o += 2 + 2 * n;
  }
  return entries;
}

/** The whole of a family as one range. */
export function everything(family: Family): RouteEntry {
  const n = addressBytes(family);
  return {
    start: ipFromBytes(new Uint8Array(n), 0, family),
    end: ipFromBytes(new Uint8Array(n).fill(255), 0, family),
    protocol: 0,
  };
}

/** §4.7.3: by version, then protocol, then address, and never overlapping. */
function isOrdered(a: RouteEntry, b: RouteEntry): boolean {
  if (a.start.family !== b.start.family) return a.start.family < b.start.family;
  if (a.protocol !== b.protocol) return a.protocol < b.protocol;
  return compareBytes(a.end.bytes, b.start.bytes) < 0;
}

function asFamily(version: number): Family | 0 {
  return version === 4 || version === 6 ? version : 0;
}

function addressBytes(family: Family): number {
  return family === 4 ? 4 : 16;
}

function isNetwork(bytes: Uint8Array, prefixLength: number): boolean {
  for (let bit = prefixLength; bit < bytes.length * 8; bit++) {
    if ((bytes[bit >>> 3]! & (0x80 >>> (bit & 7))) !== 0) return false;
  }
  return true;
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}

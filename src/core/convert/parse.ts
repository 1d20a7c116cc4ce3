/**
 * Reading Convert messages (RFC 8803 6). Total: any bytes give TLVs or a named fault; what a fault means is for client and
 * converter to say. Every length is held against the one around it before it is used (RFC 8803 9).
 */
import { getU16 } from '../base/wire-int.js';
import {
  BASE_CONNECT_WORDS,
  CONVERT_HEADER_BYTES,
  CONVERT_MAGIC,
  CONVERT_VERSION,
  KIND_EOL,
  KIND_NOP,
  NO_BYTES,
  type TcpOption,
  TLV_CONNECT,
  TLV_COOKIE,
  TLV_ERROR,
  TLV_EXTENDED_HEADER,
  TLV_INFO,
  TLV_RESERVED,
  TLV_SUPPORTED,
  type Tlv,
  unmapped,
} from './message.js';

/** Why bytes are no message, or no good one; the names are reasons in counters. */
export type ConvertFault =
  /** The magic number is not there. */
  | 'not-convert'
  | 'unsupported-version'
  /** Total Length 0. */
  | 'zero-length'
  /** A TLV of no length, of one that its type cannot have, or one that leaves the message. */
  | 'tlv-length'
  | 'duplicate-tlv'
  /** Type 0. */
  | 'reserved-type'
  | 'unknown-type'
  /** A TCP option in Connect that is cut off. */
  | 'tcp-option';

export interface ParsedMessage {
  readonly fault: ConvertFault | null;
  /** In order, up to the fault; those of unknown type are left out. */
  readonly tlvs: readonly Tlv[];
  /** Type of the first TLV that nobody has defined; -1: none. */
  readonly unknownType: number;
}

/** What the fixed header says of the message's length in bytes, or why there is none. `bytes` holds at least the header. */
export function messageBytes(bytes: Uint8Array, o: number): number | ConvertFault {
  if (getU16(bytes, o + 2) !== CONVERT_MAGIC) return 'not-convert';
  // Before the length: another version may count otherwise.
  if (bytes[o] !== CONVERT_VERSION) return 'unsupported-version';
  const words = bytes[o + 1]!;
  return words === 0 ? 'zero-length' : words * 4;
}

/** A whole message, header included. */
export function parseMessage(bytes: Uint8Array): ParsedMessage {
  const tlvs: Tlv[] = [];
  const seen = new Set<number>();
  let unknownType = -1;
  const result = (fault: ConvertFault | null): ParsedMessage => ({ fault, tlvs, unknownType });
  let o = CONVERT_HEADER_BYTES;
  while (o < bytes.length) {
    const type = bytes[o]!;
    const end = o + bytes[o + 1]! * 4;
    if (end === o || end > bytes.length) return result('tlv-length');
    if (type === TLV_RESERVED) return result('reserved-type');
    if (seen.has(type)) return result('duplicate-tlv');
    seen.add(type);
    const tlv = parseTlv(bytes, type, o, end);
    if (typeof tlv === 'string') {
      if (tlv !== 'unknown-type') return result(tlv);
      if (unknownType < 0) unknownType = type;
    } else tlvs.push(tlv);
    o = end;
  }
  return result(null);
}

function parseTlv(bytes: Uint8Array, type: number, o: number, end: number): Tlv | ConvertFault {
  const words = (end - o) / 4;
  switch (type) {
    case TLV_INFO:
      return words === 1 ? { type } : 'tlv-length';
    case TLV_CONNECT: {
      if (words < BASE_CONNECT_WORDS) return 'tlv-length';
      const options = words === BASE_CONNECT_WORDS ? null : parseOptions(bytes, o + BASE_CONNECT_WORDS * 4, end);
      if (options === 'tcp-option') return options;
      return { type, address: unmapped(bytes, o + 4), port: getU16(bytes, o + 2), options };
    }
    case TLV_EXTENDED_HEADER:
      return { type, options: bytes.slice(o + 4, end) };
    case TLV_SUPPORTED:
      // Zeros are padding: kind 0 is nothing to support.
      return { type, kinds: [...bytes.subarray(o + 4, end)].filter((kind) => kind !== 0) };
    case TLV_COOKIE:
      return { type, cookie: bytes.slice(o + 4, end) };
    case TLV_ERROR:
      return { type, code: bytes[o + 2]!, value: bytes.slice(o + 3, end) };
    default:
      return 'unknown-type';
  }
}

/**
 * TCP options of a Connect TLV, or of a header. Kinds 0 and 1 are stepped over: in Connect they are padding or a mistake to
 * be ignored (7.1).
 */
export function parseOptions(bytes: Uint8Array, start: number, end: number): readonly TcpOption[] | 'tcp-option' {
  const options: TcpOption[] = [];
  let o = start;
  while (o < end) {
    const kind = bytes[o]!;
    if (kind === KIND_EOL || kind === KIND_NOP) {
      o++;
      continue;
    }
    const length = o + 1 < end ? bytes[o + 1]! : 0;
    if (length < 2 || o + length > end) return 'tcp-option';
    options.push({ kind, value: length === 2 ? NO_BYTES : bytes.slice(o + 2, o + length) });
    o += length;
  }
  return options;
}

/**
 * Messages of the 0-RTT TCP Convert Protocol (RFC 8803 6): a fixed header and TLVs at the front of the stream, each way.
 * Here is what they say and how it is written; parse.ts is the way back.
 *
 *    | version | total length, words | magic 0x2263 |      | type | length, words | value, zero padded |
 */
import { type IpAddress, ipFromBytes } from '../base/ip.js';
import { putU16 } from '../base/wire-int.js';

// ---- RFC 8803 6.1, 6.2, 10.2

/** Version 0 is reserved and never used. */
export const CONVERT_VERSION = 1;
/** What we speak, for Error 0 and for choosing. */
export const CONVERT_VERSIONS: readonly number[] = [CONVERT_VERSION];
export const CONVERT_MAGIC = 0x2263;
export const CONVERT_HEADER_BYTES = 4;
/** Total Length is one byte of 32-bit words. */
export const MAX_MESSAGE_BYTES = 255 * 4;

export const TLV_RESERVED = 0;
export const TLV_INFO = 1;
export const TLV_CONNECT = 10;
export const TLV_EXTENDED_HEADER = 20;
export const TLV_SUPPORTED = 21;
export const TLV_COOKIE = 22;
export const TLV_ERROR = 30;

/** Of the Connect TLV without TCP options. */
export const BASE_CONNECT_WORDS = 5;

/** RFC 8803 6.2.8. */
export const CONVERT_ERROR = {
  unsupportedVersion: 0,
  malformed: 1,
  unsupportedMessage: 2,
  missingCookie: 3,
  notAuthorized: 32,
  unsupportedOption: 33,
  resourceExceeded: 64,
  networkFailure: 65,
  connectionReset: 96,
  unreachable: 97,
} as const;

/** TCP options that the protocol has rules for (7). */
export const KIND_EOL = 0;
export const KIND_NOP = 1;
export const KIND_MSS = 2;
export const KIND_WSCALE = 3;
export const KIND_SACK_PERMITTED = 4;
export const KIND_SACK = 5;
export const KIND_TIMESTAMPS = 8;
export const KIND_AO = 29;
export const KIND_MPTCP = 30;
export const KIND_FAST_OPEN = 34;

// ---- What a message says

/** A TCP option that the client wants in the converter's SYN. No value: the converter makes its own. */
export interface TcpOption {
  readonly kind: number;
  readonly value: Uint8Array;
}

export type Tlv =
  | { readonly type: typeof TLV_INFO }
  | {
      readonly type: typeof TLV_CONNECT;
      /** IPv4 where the TLV holds an IPv4-mapped address. */
      readonly address: IpAddress;
      readonly port: number;
      /** null: Base Connect; else Extended. Kinds 0 and 1 are no options here (6.2.5). */
      readonly options: readonly TcpOption[] | null;
    }
  /** The options field of the server's SYN/ACK, as it was. */
  | { readonly type: typeof TLV_EXTENDED_HEADER; readonly options: Uint8Array }
  | { readonly type: typeof TLV_SUPPORTED; readonly kinds: readonly number[] }
  | { readonly type: typeof TLV_COOKIE; readonly cookie: Uint8Array }
  /** `value` begins with the byte beside the code. */
  | { readonly type: typeof TLV_ERROR; readonly code: number; readonly value: Uint8Array };

// ---- Writing

/** Throws RangeError for what no message can hold: the caller's mistake. */
export function encodeMessage(tlvs: readonly Tlv[], version = CONVERT_VERSION): Uint8Array {
  const parts = tlvs.map(encodeTlv);
  const lengthBytes = parts.reduce((sum, part) => sum + part.length, CONVERT_HEADER_BYTES);
  if (lengthBytes > MAX_MESSAGE_BYTES) throw new RangeError(`a Convert message of ${lengthBytes} bytes`);
  const out = new Uint8Array(lengthBytes);
  out[0] = version;
  out[1] = lengthBytes / 4;
  putU16(out, 2, CONVERT_MAGIC);
  let o = CONVERT_HEADER_BYTES;
  for (const part of parts) {
    out.set(part, o);
    o += part.length;
  }
  return out;
}

function encodeTlv(tlv: Tlv): Uint8Array {
  switch (tlv.type) {
    case TLV_INFO:
      return frame(tlv.type, 0, 0, []);
    case TLV_CONNECT: {
      const options = tlv.options === null ? [] : [encodeOptions(tlv.options)];
      return frame(tlv.type, tlv.port >>> 8, tlv.port & 0xff, [mapped(tlv.address), ...options]);
    }
    case TLV_EXTENDED_HEADER:
      return frame(tlv.type, 0, 0, [tlv.options]);
    case TLV_SUPPORTED:
      return frame(tlv.type, 0, 0, [Uint8Array.from(tlv.kinds)]);
    case TLV_COOKIE:
      return frame(tlv.type, 0, 0, [tlv.cookie]);
    case TLV_ERROR:
      return frame(tlv.type, tlv.code, tlv.value[0] ?? 0, [tlv.value.subarray(1)]);
  }
}

/** Type, length and the other half of the first word, then the value, zero padded to whole words (6.2.1). */
function frame(type: number, third: number, fourth: number, value: readonly Uint8Array[]): Uint8Array {
  const valueBytes = value.reduce((sum, part) => sum + part.length, 0);
  const words = 1 + Math.ceil(valueBytes / 4);
  const out = new Uint8Array(words * 4);
  out[0] = type;
  out[1] = words;
  out[2] = third;
  out[3] = fourth;
  let o = 4;
  for (const part of value) {
    out.set(part, o);
    o += part.length;
  }
  return out;
}

/** No option at all takes a word of zeros, which tells an Extended Connect from a Base one. */
function encodeOptions(options: readonly TcpOption[]): Uint8Array {
  const bytes = options.flatMap(({ kind, value }) => [kind, 2 + value.length, ...value]);
  return Uint8Array.from(bytes.length === 0 ? [0, 0, 0, 0] : bytes);
}

/** Converter to client: an error, with what belongs to it (6.2.8). */
export function errorMessage(code: number, value: Uint8Array = NO_BYTES): Uint8Array {
  return encodeMessage([{ type: TLV_ERROR, code, value }]);
}

/** Value of Errors 1 and 2: a zero, and the message that was wrong, as far as there is room for it (figure 23). */
export function echoOf(message: Uint8Array): Uint8Array {
  const most = MAX_MESSAGE_BYTES - CONVERT_HEADER_BYTES - 4;
  const value = new Uint8Array(1 + Math.min(message.length, most));
  value.set(message.subarray(0, most), 1);
  return value;
}

// ---- Addresses (6.2.5, RFC 4291 2.5.5.2)

function mapped(address: IpAddress): Uint8Array {
  const out = new Uint8Array(16);
  if (address.family === 6) out.set(address.bytes);
  else {
    out.fill(0xff, 10, 12);
    out.set(address.bytes, 12);
  }
  return out;
}

/** The address in the 16 bytes at `o`. */
export function unmapped(bytes: Uint8Array, o: number): IpAddress {
  for (let i = 0; i < 12; i++) if (bytes[o + i] !== (i < 10 ? 0 : 0xff)) return ipFromBytes(bytes, o, 6);
  return ipFromBytes(bytes, o + 12, 4);
}

/** False for multicast, broadcast and loopback (6.2.5), and for the unspecified address, which would mean loopback too. */
export function isConnectable({ family, bytes }: IpAddress): boolean {
  const first = bytes[0]!;
  if (family === 4) {
    const isMulticast = first >= 224 && first <= 239;
    return !isMulticast && first !== 127 && first !== 0 && !bytes.every((byte) => byte === 0xff);
  }
  const isLow = bytes.every((byte, i) => byte === 0 || (i === 15 && byte === 1));
  return first !== 0xff && !isLow;
}

export const NO_BYTES = new Uint8Array(0);

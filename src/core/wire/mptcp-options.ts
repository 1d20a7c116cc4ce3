/**
 * RFC 8684 options (kind 30). `MptcpOptions` is the reusable result of parsing one segment's options; the `write…`
 * functions emit one option at `o` and return the offset behind it (never padded: the TCP header writer pads).
 * Layouts: RFC 8684 sections 3.1 to 3.8. Reserved bits are sent as zero and ignored on receipt.
 */
import { ipFromBytes } from '../base/ip.js';
import { getU16, getU32, putU16, putU32 } from '../base/wire-int.js';
import type { IpAddress } from './types.js';

export const MPTCP_KIND = 30;

// Subtypes (RFC 8684 section 8.1).
const SUB_CAPABLE = 0;
const SUB_JOIN = 1;
const SUB_DSS = 2;
const SUB_ADD_ADDR = 3;
const SUB_REMOVE_ADDR = 4;
const SUB_PRIO = 5;
const SUB_FAIL = 6;
const SUB_FASTCLOSE = 7;
const SUB_TCPRST = 8;

/** The version that we speak. */
export const MPTCP_VERSION = 1;

/** Flags of MP_CAPABLE (3.1): checksum required, extensibility, no joins to this address, HMAC-SHA256. */
export const CAPABLE_A_CHECKSUM = 0x80;
export const CAPABLE_B_EXTENSIBILITY = 0x40;
export const CAPABLE_C_NO_JOIN = 0x20;
export const CAPABLE_H_SHA256 = 0x01;
/** D to H: the crypto algorithms on offer; all zero means no usable algorithm. */
export const CAPABLE_ALGORITHMS = 0x1f;

/** Flag of MP_TCPRST (3.6): the condition is transient. */
export const TCPRST_T_TRANSIENT = 0x01;

/** Reasons in MP_TCPRST (3.6). */
export const RST_REASON = {
  unspecified: 0,
  mptcpSpecific: 1,
  lackOfResources: 2,
  prohibited: 3,
  tooMuchOutstanding: 4,
  unacceptablePerformance: 5,
  middleboxInterference: 6,
} as const;

// Option lengths, bytes.
export const CAPABLE_SYN_BYTES = 4;
export const CAPABLE_SYNACK_BYTES = 12;
export const CAPABLE_ACK_BYTES = 20;
export const CAPABLE_DATA_BYTES = 22;
export const CAPABLE_DATA_CHECKSUM_BYTES = 24;
export const JOIN_SYN_BYTES = 12;
export const JOIN_SYNACK_BYTES = 16;
export const JOIN_ACK_BYTES = 24;
/** HMAC bytes carried by MP_JOIN on the SYN/ACK and on the third ACK. */
export const JOIN_SYNACK_HMAC_BYTES = 8;
export const JOIN_ACK_HMAC_BYTES = 20;
/** The longest DSS: 8-byte DATA_ACK, 8-byte DSN, checksum. */
export const DSS_MAX_BYTES = 28;
export const ADD_ADDR_HMAC_BYTES = 8;
export const PRIO_BYTES = 3;
export const FAIL_BYTES = 12;
export const FASTCLOSE_BYTES = 12;
export const TCPRST_BYTES = 4;
export const REMOVE_ADDR_BASE_BYTES = 3;

// DSS flags (3.3).
const DSS_A_ACK = 0x01;
const DSS_A_ACK8 = 0x02;
const DSS_M_MAP = 0x04;
const DSS_M_DSN8 = 0x08;
const DSS_F_FIN = 0x10;

const BACKUP = 0x01;
const ECHO = 0x01;
const NO_HMAC = new Uint8Array(0);

/** Bits of `MptcpOptions.present`. */
export const MPO = {
  capable: 1 << 0,
  join: 1 << 1,
  dss: 1 << 2,
  addAddr: 1 << 3,
  removeAddr: 1 << 4,
  prio: 1 << 5,
  fail: 1 << 6,
  fastclose: 1 << 7,
  tcprst: 1 << 8,
} as const;

/** One received ADD_ADDR (RFC 8684 3.4.1). `port` is -1 when absent; `hmac` is empty in an echo. */
export interface AddAddrOption {
  echo: boolean;
  addressId: number;
  address: IpAddress;
  port: number;
  hmac: Uint8Array;
}

/** What one segment's MPTCP options say. Reused between segments: copy what you keep. */
export class MptcpOptions {
  /** OR of MPO bits. A subtype seen twice keeps the first (ADD_ADDR excepted). */
  present = 0;
  /** Options of kind 30 that were skipped: malformed, of unknown subtype, or a repetition. */
  skipped = 0;

  // MP_CAPABLE. Length tells the form: 4 SYN, 12 SYN/ACK, 20 ACK, 22 or 24 first data.
  capableLength = 0;
  capableVersion = 0;
  capableFlags = 0;
  senderKeyHi = 0;
  senderKeyLo = 0;
  receiverKeyHi = 0;
  receiverKeyLo = 0;
  /** MP_CAPABLE + data only: data-level length, and checksum or -1. */
  capableDll = 0;
  capableChecksum = -1;

  // MP_JOIN: 12 SYN, 16 SYN/ACK, 24 third ACK.
  joinLength = 0;
  joinBackup = false;
  joinAddressId = 0;
  joinToken = 0;
  joinNonce = 0;
  /** First 8 (SYN/ACK) or 20 (ACK) bytes are meaningful. */
  readonly joinHmac = new Uint8Array(20);

  // DSS.
  /** 0 none, 4 or 8 bytes on the wire. */
  dataAckBytes = 0;
  dataAckHi = 0;
  dataAckLo = 0;
  /** 0 no mapping, 4 or 8 bytes of DSN on the wire. */
  dsnBytes = 0;
  dsnHi = 0;
  dsnLo = 0;
  ssn = 0;
  dll = 0;
  /** -1 when absent. */
  dssChecksum = -1;
  dataFin = false;

  readonly addAddrs: AddAddrOption[] = [];
  readonly removeIds: number[] = [];
  prioBackup = false;
  failDsnHi = 0;
  failDsnLo = 0;
  fastcloseKeyHi = 0;
  fastcloseKeyLo = 0;
  tcprstFlags = 0;
  tcprstReason = 0;

  /** As after no option at all. What `present` does not claim is left as it was, where no "absent" value is promised. */
  clear(): void {
    this.present = 0;
    this.skipped = 0;
    this.capableLength = 0;
    this.capableDll = 0;
    this.capableChecksum = -1;
    this.joinLength = 0;
    this.dataAckBytes = 0;
    this.dsnBytes = 0;
    this.dssChecksum = -1;
    this.dataFin = false;
    if (this.addAddrs.length > 0) this.addAddrs.length = 0;
    if (this.removeIds.length > 0) this.removeIds.length = 0;
  }
}

/**
 * Takes in one option of kind 30 whose `length` bytes at `o` (length >= 2) lie inside `buf`. What is malformed is
 * counted in `out.skipped` and otherwise ignored: the rest of the segment is still good.
 */
export function parseMptcpOption(buf: Uint8Array, o: number, length: number, out: MptcpOptions): void {
  const bit = length < 3 ? 0 : parseBySubtype(buf, o, length, out);
  if (bit === 0) out.skipped++;
  else out.present |= bit;
}

/** The MPO bit of what was understood, or 0. */
function parseBySubtype(buf: Uint8Array, o: number, length: number, out: MptcpOptions): number {
  const subtype = buf[o + 2]! >>> 4;
  if (subtype === SUB_DSS) return parseDss(buf, o, length, out);
  if (subtype === SUB_ADD_ADDR) return parseAddAddr(buf, o, length, out);
  if (subtype <= SUB_TCPRST && (out.present & (1 << subtype)) !== 0) return 0;
  switch (subtype) {
    case SUB_CAPABLE:
      return parseCapable(buf, o, length, out);
    case SUB_JOIN:
      return parseJoin(buf, o, length, out);
    case SUB_REMOVE_ADDR:
      for (let i = REMOVE_ADDR_BASE_BYTES; i < length; i++) out.removeIds.push(buf[o + i]!);
      return length > REMOVE_ADDR_BASE_BYTES ? MPO.removeAddr : 0;
    case SUB_PRIO:
      // The 4-byte form with an address id was version 0's.
      if (length !== PRIO_BYTES) return 0;
      out.prioBackup = (buf[o + 2]! & BACKUP) !== 0;
      return MPO.prio;
    case SUB_FAIL:
      if (length !== FAIL_BYTES) return 0;
      out.failDsnHi = getU32(buf, o + 4);
      out.failDsnLo = getU32(buf, o + 8);
      return MPO.fail;
    case SUB_FASTCLOSE:
      if (length !== FASTCLOSE_BYTES) return 0;
      out.fastcloseKeyHi = getU32(buf, o + 4);
      out.fastcloseKeyLo = getU32(buf, o + 8);
      return MPO.fastclose;
    case SUB_TCPRST:
      if (length !== TCPRST_BYTES) return 0;
      out.tcprstFlags = buf[o + 2]! & 0x0f;
      out.tcprstReason = buf[o + 3]!;
      return MPO.tcprst;
    default:
      return 0;
  }
}

/** 3.1. Another version's option is reported with its version; the caller decides. */
function parseCapable(buf: Uint8Array, o: number, length: number, out: MptcpOptions): number {
  if (
    length !== CAPABLE_SYN_BYTES &&
    length !== CAPABLE_SYNACK_BYTES &&
    length !== CAPABLE_ACK_BYTES &&
    length !== CAPABLE_DATA_BYTES &&
    length !== CAPABLE_DATA_CHECKSUM_BYTES
  ) {
    return 0;
  }
  out.capableLength = length;
  out.capableVersion = buf[o + 2]! & 0x0f;
  out.capableFlags = buf[o + 3]!;
  if (length >= CAPABLE_SYNACK_BYTES) {
    out.senderKeyHi = getU32(buf, o + 4);
    out.senderKeyLo = getU32(buf, o + 8);
  }
  if (length >= CAPABLE_ACK_BYTES) {
    out.receiverKeyHi = getU32(buf, o + 12);
    out.receiverKeyLo = getU32(buf, o + 16);
  }
  if (length >= CAPABLE_DATA_BYTES) out.capableDll = getU16(buf, o + 20);
  if (length === CAPABLE_DATA_CHECKSUM_BYTES) out.capableChecksum = getU16(buf, o + 22);
  return MPO.capable;
}

/** 3.2. */
function parseJoin(buf: Uint8Array, o: number, length: number, out: MptcpOptions): number {
  if (length !== JOIN_SYN_BYTES && length !== JOIN_SYNACK_BYTES && length !== JOIN_ACK_BYTES) return 0;
  out.joinLength = length;
  out.joinBackup = length !== JOIN_ACK_BYTES && (buf[o + 2]! & BACKUP) !== 0;
  out.joinAddressId = length !== JOIN_ACK_BYTES ? buf[o + 3]! : 0;
  if (length === JOIN_SYN_BYTES) {
    out.joinToken = getU32(buf, o + 4);
    out.joinNonce = getU32(buf, o + 8);
  } else if (length === JOIN_SYNACK_BYTES) {
    for (let i = 0; i < JOIN_SYNACK_HMAC_BYTES; i++) out.joinHmac[i] = buf[o + 4 + i]!;
    out.joinNonce = getU32(buf, o + 12);
  } else {
    for (let i = 0; i < JOIN_ACK_HMAC_BYTES; i++) out.joinHmac[i] = buf[o + 4 + i]!;
  }
  return MPO.join;
}

/** 3.3. The checksum's presence shows in the length alone. DATA_FIN without a mapping has no place, so is none. */
function parseDss(buf: Uint8Array, o: number, length: number, out: MptcpOptions): number {
  if ((out.present & MPO.dss) !== 0 || length < 4) return 0;
  const flags = buf[o + 3]!;
  const ackBytes = (flags & DSS_A_ACK) === 0 ? 0 : (flags & DSS_A_ACK8) === 0 ? 4 : 8;
  const dsnBytes = (flags & DSS_M_MAP) === 0 ? 0 : (flags & DSS_M_DSN8) === 0 ? 4 : 8;
  const plainLength = dssBytes(ackBytes, dsnBytes, false);
  const hasChecksum = dsnBytes > 0 && length === plainLength + 2;
  if (length !== plainLength && !hasChecksum) return 0;

  let at = o + 4;
  out.dataAckBytes = ackBytes;
  if (ackBytes > 0) {
    out.dataAckHi = ackBytes === 8 ? getU32(buf, at) : 0;
    out.dataAckLo = getU32(buf, at + ackBytes - 4);
    at += ackBytes;
  }
  out.dsnBytes = dsnBytes;
  if (dsnBytes > 0) {
    out.dsnHi = dsnBytes === 8 ? getU32(buf, at) : 0;
    out.dsnLo = getU32(buf, at + dsnBytes - 4);
    at += dsnBytes;
    out.ssn = getU32(buf, at);
    out.dll = getU16(buf, at + 4);
    if (hasChecksum) out.dssChecksum = getU16(buf, at + 6);
    out.dataFin = (flags & DSS_F_FIN) !== 0;
  }
  return MPO.dss;
}

/** 3.4.1: the length tells family and port, the echo bit whether an HMAC follows. */
function parseAddAddr(buf: Uint8Array, o: number, length: number, out: MptcpOptions): number {
  const echo = (buf[o + 2]! & ECHO) !== 0;
  const withoutHmac = echo ? length : length - ADD_ADDR_HMAC_BYTES;
  if (withoutHmac !== 8 && withoutHmac !== 10 && withoutHmac !== 20 && withoutHmac !== 22) return 0;
  const family = withoutHmac < 20 ? 4 : 6;
  const addressBytes = family === 4 ? 4 : 16;
  const hasPort = withoutHmac === addressBytes + 6;
  out.addAddrs.push({
    echo,
    addressId: buf[o + 3]!,
    address: ipFromBytes(buf, o + 4, family),
    port: hasPort ? getU16(buf, o + 4 + addressBytes) : -1,
    hmac: echo ? NO_HMAC : buf.slice(o + withoutHmac, o + length),
  });
  return MPO.addAddr;
}

/** Length of a DSS with `ackBytes` of DATA_ACK and `dsnBytes` of DSN (0, 4 or 8 each). */
export function dssBytes(ackBytes: number, dsnBytes: number, hasChecksum: boolean): number {
  return 4 + ackBytes + (dsnBytes > 0 ? dsnBytes + 6 + (hasChecksum ? 2 : 0) : 0);
}

/** Length of an ADD_ADDR. */
export function addAddrBytes(family: 4 | 6, hasPort: boolean, echo: boolean): number {
  return 4 + (family === 4 ? 4 : 16) + (hasPort ? 2 : 0) + (echo ? 0 : ADD_ADDR_HMAC_BYTES);
}

export function writeCapableSyn(out: Uint8Array, o: number, flags: number): number {
  head(out, o, CAPABLE_SYN_BYTES, (SUB_CAPABLE << 4) | MPTCP_VERSION, flags);
  return o + CAPABLE_SYN_BYTES;
}

export function writeCapableSynAck(out: Uint8Array, o: number, flags: number, keyHi: number, keyLo: number): number {
  head(out, o, CAPABLE_SYNACK_BYTES, (SUB_CAPABLE << 4) | MPTCP_VERSION, flags);
  putU32(out, o + 4, keyHi);
  putU32(out, o + 8, keyLo);
  return o + CAPABLE_SYNACK_BYTES;
}

export function writeCapableAck(
  out: Uint8Array,
  o: number,
  flags: number,
  senderKeyHi: number,
  senderKeyLo: number,
  receiverKeyHi: number,
  receiverKeyLo: number,
): number {
  head(out, o, CAPABLE_ACK_BYTES, (SUB_CAPABLE << 4) | MPTCP_VERSION, flags);
  putU32(out, o + 4, senderKeyHi);
  putU32(out, o + 8, senderKeyLo);
  putU32(out, o + 12, receiverKeyHi);
  putU32(out, o + 16, receiverKeyLo);
  return o + CAPABLE_ACK_BYTES;
}

/** The first data of the initiator: a mapping of `dll` bytes at IDSN+1, SSN 1. `checksum` -1: none. */
export function writeCapableData(
  out: Uint8Array,
  o: number,
  flags: number,
  senderKeyHi: number,
  senderKeyLo: number,
  receiverKeyHi: number,
  receiverKeyLo: number,
  dll: number,
  checksum: number,
): number {
  writeCapableAck(out, o, flags, senderKeyHi, senderKeyLo, receiverKeyHi, receiverKeyLo);
  out[o + 1] = checksum < 0 ? CAPABLE_DATA_BYTES : CAPABLE_DATA_CHECKSUM_BYTES;
  putU16(out, o + 20, dll);
  if (checksum < 0) return o + CAPABLE_DATA_BYTES;
  putU16(out, o + 22, checksum);
  return o + CAPABLE_DATA_CHECKSUM_BYTES;
}

export function writeJoinSyn(
  out: Uint8Array,
  o: number,
  backup: boolean,
  addressId: number,
  token: number,
  nonce: number,
): number {
  head(out, o, JOIN_SYN_BYTES, (SUB_JOIN << 4) | (backup ? BACKUP : 0), addressId);
  putU32(out, o + 4, token);
  putU32(out, o + 8, nonce);
  return o + JOIN_SYN_BYTES;
}

/** Carries the first 8 bytes of `hmac`. */
export function writeJoinSynAck(
  out: Uint8Array,
  o: number,
  backup: boolean,
  addressId: number,
  hmac: Uint8Array,
  nonce: number,
): number {
  head(out, o, JOIN_SYNACK_BYTES, (SUB_JOIN << 4) | (backup ? BACKUP : 0), addressId);
  for (let i = 0; i < JOIN_SYNACK_HMAC_BYTES; i++) out[o + 4 + i] = hmac[i]!;
  putU32(out, o + 12, nonce);
  return o + JOIN_SYNACK_BYTES;
}

/** Carries the first 20 bytes of `hmac`. */
export function writeJoinAck(out: Uint8Array, o: number, hmac: Uint8Array): number {
  head(out, o, JOIN_ACK_BYTES, SUB_JOIN << 4, 0);
  for (let i = 0; i < JOIN_ACK_HMAC_BYTES; i++) out[o + 4 + i] = hmac[i]!;
  return o + JOIN_ACK_BYTES;
}

/**
 * A DSS. `dataAckBytes` and `dsnBytes` are 0 (absent), 4 (low half only) or 8; `checksum` is -1 for none; the mapping
 * fields are used only with dsnBytes > 0, and so is `dataFin`.
 */
export function writeDss(
  out: Uint8Array,
  o: number,
  dataAckBytes: number,
  ackHi: number,
  ackLo: number,
  dsnBytes: number,
  dsnHi: number,
  dsnLo: number,
  ssn: number,
  dll: number,
  checksum: number,
  dataFin: boolean,
): number {
  let flags = 0;
  let at = o + 4;
  if (dataAckBytes > 0) {
    flags |= DSS_A_ACK;
    if (dataAckBytes === 8) {
      flags |= DSS_A_ACK8;
      putU32(out, at, ackHi);
      at += 4;
    }
    putU32(out, at, ackLo);
    at += 4;
  }
  if (dsnBytes > 0) {
    flags |= DSS_M_MAP;
    if (dataFin) flags |= DSS_F_FIN;
    if (dsnBytes === 8) {
      flags |= DSS_M_DSN8;
      putU32(out, at, dsnHi);
      at += 4;
    }
    putU32(out, at, dsnLo);
    putU32(out, at + 4, ssn);
    putU16(out, at + 8, dll);
    at += 10;
    if (checksum >= 0) {
      putU16(out, at, checksum);
      at += 2;
    }
  }
  head(out, o, at - o, SUB_DSS << 4, flags);
  return at;
}

/** `port` -1: none. The first 8 bytes of `hmac` go out, unless it is an echo, which has none. */
export function writeAddAddr(out: Uint8Array, o: number, option: AddAddrOption): number {
  const bytes = option.address.bytes;
  let at = o + 4;
  for (let i = 0; i < bytes.length; i++) out[at++] = bytes[i]!;
  if (option.port >= 0) {
    putU16(out, at, option.port);
    at += 2;
  }
  if (!option.echo) for (let i = 0; i < ADD_ADDR_HMAC_BYTES; i++) out[at++] = option.hmac[i]!;
  head(out, o, at - o, (SUB_ADD_ADDR << 4) | (option.echo ? ECHO : 0), option.addressId);
  return at;
}

/** One or more address ids. */
export function writeRemoveAddr(out: Uint8Array, o: number, ids: readonly number[]): number {
  out[o] = MPTCP_KIND;
  out[o + 1] = REMOVE_ADDR_BASE_BYTES + ids.length;
  out[o + 2] = SUB_REMOVE_ADDR << 4;
  for (let i = 0; i < ids.length; i++) out[o + 3 + i] = ids[i]!;
  return o + REMOVE_ADDR_BASE_BYTES + ids.length;
}

export function writePrio(out: Uint8Array, o: number, backup: boolean): number {
  out[o] = MPTCP_KIND;
  out[o + 1] = PRIO_BYTES;
  out[o + 2] = (SUB_PRIO << 4) | (backup ? BACKUP : 0);
  return o + PRIO_BYTES;
}

export function writeFail(out: Uint8Array, o: number, dsnHi: number, dsnLo: number): number {
  head(out, o, FAIL_BYTES, SUB_FAIL << 4, 0);
  putU32(out, o + 4, dsnHi);
  putU32(out, o + 8, dsnLo);
  return o + FAIL_BYTES;
}

/** 3.5: the key is the *peer's*. */
export function writeFastclose(out: Uint8Array, o: number, keyHi: number, keyLo: number): number {
  head(out, o, FASTCLOSE_BYTES, SUB_FASTCLOSE << 4, 0);
  putU32(out, o + 4, keyHi);
  putU32(out, o + 8, keyLo);
  return o + FASTCLOSE_BYTES;
}

export function writeTcprst(out: Uint8Array, o: number, flags: number, reason: number): number {
  head(out, o, TCPRST_BYTES, (SUB_TCPRST << 4) | (flags & 0x0f), reason);
  return o + TCPRST_BYTES;
}

function head(out: Uint8Array, o: number, length: number, subtypeByte: number, byte3: number): void {
  out[o] = MPTCP_KIND;
  out[o + 1] = length;
  out[o + 2] = subtypeByte;
  out[o + 3] = byte3;
}

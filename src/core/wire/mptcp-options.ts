/**
 * RFC 8684 options (kind 30). `MptcpOptions` is the reusable result of parsing one segment's options; the `write…`
 * functions emit one option at `o` and return the offset behind it (never padded: the TCP header writer pads).
 * Layouts: RFC 8684 sections 3.1 to 3.8. Reserved bits are sent as zero and ignored on receipt.
 */
import type { IpAddress, U64 } from './types.js';

export const MPTCP_KIND = 30;

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
  /** Options of kind 30 that were malformed or of unknown subtype, and were skipped. */
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
}

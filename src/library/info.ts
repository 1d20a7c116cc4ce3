/**
 * What a connection knows of itself, by the names of the kernel's `struct mptcp_info` (linux/mptcp.h, getsockopt MPTCP_INFO),
 * so that tools and eyes used to `ss -Mi` find their way. 64-bit fields are bigint; fields of the kernel's without a
 * counterpart here (last_data_sent, last_data_recv) are absent rather than zero.
 */
import type { U64 } from '../core/base/seq.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionInfo } from '../core/engine/api.js';
import { MAX_ADDRESSES } from '../core/mptcp/addresses.js';

/** `mptcpi_flags`. */
export const MPTCP_INFO_FLAG_FALLBACK = 1;
export const MPTCP_INFO_FLAG_REMOTE_KEY_RECEIVED = 2;

/** Ids of local addresses: 8 bits. */
const LOCAL_ADDRESS_IDS = 255;

export interface MptcpInfo {
  /** Subflows besides the first, and how many there may be. */
  readonly mptcpi_subflows: number;
  readonly mptcpi_subflows_max: number;
  /** All subflows, those in TIME-WAIT aside. */
  readonly mptcpi_subflows_total: number;
  /** Addresses announced to the peer (ADD_ADDR), and how many there may be. */
  readonly mptcpi_add_addr_signal: number;
  readonly mptcpi_add_addr_signal_max: number;
  /** Addresses that the peer announced and that were taken, and how many there may be. */
  readonly mptcpi_add_addr_accepted: number;
  readonly mptcpi_add_addr_accepted_max: number;
  /** Local addresses used besides the first, and how many there may be. */
  readonly mptcpi_local_addr_used: number;
  readonly mptcpi_local_addr_max: number;
  /** MPTCP_INFO_FLAG_*. */
  readonly mptcpi_flags: number;
  /** Local token; after a fallback it has no meaning. */
  readonly mptcpi_token: number;
  /** Data sequence numbers as on the wire: of the next byte written, the first unacknowledged, and the next expected. */
  readonly mptcpi_write_seq: bigint;
  readonly mptcpi_snd_una: bigint;
  readonly mptcpi_rcv_nxt: bigint;
  /** DSS checksums: 1 or 0. */
  readonly mptcpi_csum_enabled: number;
  /** Data-level retransmission timeouts, and bytes that went again on another subflow. */
  readonly mptcpi_retransmits: number;
  readonly mptcpi_bytes_retrans: number;
  /** Stream bytes: given to subflows for the first time, received in order, acknowledged by the peer. */
  readonly mptcpi_bytes_sent: number;
  readonly mptcpi_bytes_received: number;
  readonly mptcpi_bytes_acked: number;
  /** Milliseconds since the last DATA_ACK that acknowledged something; 0: none yet. */
  readonly mptcpi_last_ack_recv: number;
}

export function mptcpInfo(info: ConnectionInfo, nowUs: Micros): MptcpInfo {
  const isFallback = info.fallbackReason !== null;
  const subflows = info.subflows.filter(({ state }) => state !== 'closed' && state !== 'time-wait').length;
  return {
    mptcpi_subflows: Math.max(0, subflows - 1),
    mptcpi_subflows_max: info.maxSubflows - 1,
    mptcpi_subflows_total: subflows,
    mptcpi_add_addr_signal: info.addressesAnnounced,
    mptcpi_add_addr_signal_max: LOCAL_ADDRESS_IDS,
    mptcpi_add_addr_accepted: info.addressesAccepted,
    mptcpi_add_addr_accepted_max: MAX_ADDRESSES,
    mptcpi_local_addr_used: Math.max(0, info.localAddresses - 1),
    mptcpi_local_addr_max: LOCAL_ADDRESS_IDS,
    mptcpi_flags:
      (isFallback ? MPTCP_INFO_FLAG_FALLBACK : 0) | (info.hasRemoteKey ? MPTCP_INFO_FLAG_REMOTE_KEY_RECEIVED : 0),
    mptcpi_token: info.localToken,
    mptcpi_write_seq: u64(info.writeSeq),
    mptcpi_snd_una: u64(info.sndUna),
    mptcpi_rcv_nxt: u64(info.rcvNxt),
    mptcpi_csum_enabled: info.checksums ? 1 : 0,
    mptcpi_retransmits: info.dataTimeouts,
    mptcpi_bytes_retrans: info.bytesReinjected,
    mptcpi_bytes_sent: info.bytesSent,
    mptcpi_bytes_received: info.bytesReceived,
    mptcpi_bytes_acked: info.bytesAcked,
    mptcpi_last_ack_recv: info.lastDataAckUs === 0 ? 0 : Math.round((nowUs - info.lastDataAckUs) / 1000),
  };
}

function u64({ hi, lo }: U64): bigint {
  return (BigInt(hi) << 32n) | BigInt(lo);
}

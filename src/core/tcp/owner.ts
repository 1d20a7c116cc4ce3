/**
 * The seam between a TCP subflow (core/tcp) and whoever owns its bytes (core/mptcp: an MPTCP connection, which after a
 * fallback is a plain TCP connection with one subflow). TCP does sequence space, loss, congestion, timers and the
 * header; the owner does bytes and MPTCP options. TCP buffers no payload in either direction:
 *  - sending: `pull` hands out references to bytes (`SendUnit`), which TCP keeps until they are cumulatively ACKed;
 *  - receiving: `onPayload` is called for every acceptable piece, in or out of order, exactly as it arrived; the owner
 *    reassembles (at data level) and dedups; TCP remembers only which ranges arrived, for ACK and SACK.
 * All sequence numbers here are relative to ISS / IRS (SYN = 0): see base/seq.ts.
 */
import type { Micros } from '../base/time.js';
import type { SegmentView } from '../wire/segment.js';
import type { TcpSubflow } from './subflow.js';

/** Bytes that one `pull` hands to a subflow: contiguous in subflow sequence space, and under one MPTCP mapping. */
export interface SendUnit {
  /** Payload bytes, > 0. */
  readonly lengthBytes: number;
  /** The bytes are parts[0][firstOffset..], parts[1], … ; at least `lengthBytes` in all. Never copied, never changed. */
  readonly parts: readonly Uint8Array[];
  readonly firstOffset: number;
  /**
   * The owner's own note on these bytes (its DSS mapping), or null. When TCP splits a unit for retransmission, every
   * fragment keeps the same `tag`, so a mapping, once sent, never changes (RFC 8684 3.3.1).
   */
  readonly tag: unknown;
}

/** Which kind of segment `writeOptions` is asked for. 'ack' is anything that carries neither SYN, RST nor payload. */
export type SegmentKind = 'syn' | 'synack' | 'ack' | 'data' | 'fin' | 'rst';

/** What TCP does with a segment after the owner saw its options. */
export type OptionVerdict = 'continue' | 'drop' | 'reset';

export interface SubflowOwner {
  /**
   * Option bytes that the owner adds to a data segment, at most; TCP takes them off the MSS. 0 = plain TCP. When it has
   * changed, `TcpSubflow.refreshMss` says so.
   */
  dataOptionBytes(sf: TcpSubflow): number;

  /**
   * Append options at `o`, at most `roomBytes`, and return the new offset. `seq` and `lengthBytes` are the relative
   * sequence number and payload length of the (super-)segment, `tag` that of its SendUnit or null. TCP pads to 4.
   */
  writeOptions(
    sf: TcpSubflow,
    kind: SegmentKind,
    seq: number,
    lengthBytes: number,
    tag: unknown,
    out: Uint8Array,
    o: number,
    roomBytes: number,
  ): number;

  /**
   * Option bytes that must go on the next pure ACK, 0 or absent: none. Where they do not fit beside timestamps behind two NOPs
   * (12 bytes), the NOPs are left out (10).
   */
  ackOptionBytes?(sf: TcpSubflow): number;

  /** Receive window to advertise now, in bytes from the next byte expected (connection level for MPTCP). */
  windowBytes(sf: TcpSubflow): number;

  /**
   * New bytes to send on `sf`, at most `maxBytes`, or null. Called only when window, cwnd and pacing admit them.
   * Retransmissions are TCP's own affair and are not pulled.
   */
  pull(nowUs: Micros, sf: TcpSubflow, maxBytes: number): SendUnit | null;

  /**
   * True while `pull` could return something if the peer's window on `sf` allowed it: TCP uses it for app-limited marking,
   * TLP and the persist timer. (While only the window of `sf` is shut it must stay true, or nobody probes that window.)
   */
  hasPending(sf: TcpSubflow): boolean;

  /**
   * True while data waits for nothing but the peer's connection-level window (RFC 8684 3.3.5), which TCP cannot see: the
   * persist timer then runs on `sf` although its own window may be open. Plain TCP needs none.
   */
  isWindowBlocked?(sf: TcpSubflow): boolean;

  /** Bytes that `pull` could return. Only the Nagle algorithm asks (config.noDelay false); without it there is no Nagle. */
  pendingBytes?(sf: TcpSubflow): number;

  /**
   * Options of a segment that passed RFC 9293 / 5961 acceptance (SYN, SYN/ACK and RST included), before TCP acts on its
   * ACK field or payload. 'drop' ignores the rest of the segment, 'reset' makes TCP abort the subflow with a RST.
   */
  onOptions(nowUs: Micros, sf: TcpSubflow, seg: SegmentView): OptionVerdict;

  /**
   * `lengthBytes` at `offset` of seg.buf, relative sequence number `seq` (trimmed to the window and to what is not yet
   * cumulatively received). May repeat bytes seen before. Lent: copy what is kept.
   */
  onPayload(nowUs: Micros, sf: TcpSubflow, seg: SegmentView, seq: number, offset: number, lengthBytes: number): void;

  /** Called once after each accepted segment was processed (sndUna, rcvNxt, windows and state are up to date). */
  onSegmentDone(nowUs: Micros, sf: TcpSubflow, seg: SegmentView): void;

  /** The SYN/ACK left, and the SYN's data was taken: `pull` may be called before the handshake is complete (RFC 7413 3). */
  onSynAnswered?(): void;
  /** State changes: 'established' | 'fin-received' (peer's FIN consumed) | 'closed' (why says how). */
  onEstablished(nowUs: Micros, sf: TcpSubflow): void;
  onPeerFin(nowUs: Micros, sf: TcpSubflow): void;
  onClosed(nowUs: Micros, sf: TcpSubflow, why: CloseReason): void;
  /** Both FINs are acknowledged, the peer's came first: the owner wants TIME-WAIT all the same, to hear what comes late. */
  lingers?(sf: TcpSubflow): boolean;

  /** An RTO fired `count` times in a row for the earliest outstanding byte; the owner may reinject elsewhere. */
  onRto(nowUs: Micros, sf: TcpSubflow, count: number): void;
  /** [seq, seq+lengthBytes) of a unit with `tag` was cumulatively ACKed (called in order). */
  onAcked(nowUs: Micros, sf: TcpSubflow, seq: number, lengthBytes: number, tag: unknown): void;
  /** [seq, seq+lengthBytes) of a unit with `tag` was declared lost by RACK / SACK / RTO (before retransmission). */
  onLost(nowUs: Micros, sf: TcpSubflow, seq: number, lengthBytes: number, tag: unknown): void;
}

export type CloseReason =
  | 'done' // orderly: both FINs exchanged, TIME-WAIT begun or over
  | 'reset' // RST received
  | 'refused' // RST in answer to our SYN
  | 'aborted' // we sent a RST
  | 'timeout' // R2 exceeded, or SYN retries used up
  | 'unreachable'; // hard ICMP error in SYN-SENT, or the owner said the link is gone

/** Where TCP puts finished segments; the engine implements it over one TransmitBatch per link. */
export interface SegmentSink {
  /** False when the batch is full: stop and wait for the next poll. */
  hasRoom(): boolean;
  /** Slab in which `reserve` makes room for the IP header; TCP writes its own header at the returned offset. */
  readonly headers: Uint8Array;
  /** Room for a TCP header of up to 60 bytes; returns its offset in `headers`. */
  reserve(sf: TcpSubflow): number;
  /**
   * Completes the packet: the sink adds the IP header (ECT(0) if `ect`), pseudo-header checksum, offload metadata.
   * Payload is `lengthBytes` from `parts`, after skipping `skipBytes`. mssBytes > 0 and < lengthBytes makes it a
   * super-packet of segments of mssBytes.
   */
  commit(
    sf: TcpSubflow,
    tcpOffset: number,
    tcpHeaderBytes: number,
    parts: readonly Uint8Array[],
    skipBytes: number,
    lengthBytes: number,
    mssBytes: number,
    ect: boolean,
  ): void;
}

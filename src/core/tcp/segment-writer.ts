/**
 * Puts one segment of a subflow on the wire: header fields, then options in the order timestamps, owner's, SACK, at most
 * 40 bytes in all (RFC 9293 3.1, RFC 7323 3.2, RFC 2018 3).
 */
import { wrap32 } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import { TCP_ACK, TCP_CWR, TCP_ECE, TCP_RST, TCP_SYN } from '../wire/segment.js';
import {
  finishTcpHeader,
  putSackBlocks,
  putSynOptions,
  putTimestamps,
  putTimestampsBare,
  SACK_BASE_BYTES,
  TCP_HEADER_BYTES,
  TCP_MAX_HEADER_BYTES,
  TIMESTAMPS_BYTES,
  timestampsBytesBeside,
  writeTcpHeader,
} from '../wire/tcp.js';
import type { SubflowStats } from './config.js';
import type { SegmentKind, SegmentSink, SubflowOwner } from './owner.js';
import type { Receiver } from './receiver.js';
import type { TcpSubflow } from './subflow.js';
import type { Timestamps } from './timestamps.js';

const MAX_OPTION_BYTES = TCP_MAX_HEADER_BYTES - TCP_HEADER_BYTES;

export const NO_PARTS: readonly Uint8Array[] = [];

/** What the SYN exchange settled, and what our own SYN offers. */
export interface Negotiated {
  /** Shifts in force (RFC 7323 2.2): 0 unless both sent the option. */
  sendShift: number;
  receiveShift: number;
  /** Both sent SACK-permitted. */
  sack: boolean;
  ecn: boolean;
  /** Our SYN or SYN/ACK offers these (a SYN/ACK only what the SYN offered). */
  offerWscale: boolean;
  offerSack: boolean;
  offerTs: boolean;
  offerEcn: boolean;
  /** MSS option that we send. */
  localMss: number;
}

export class SegmentWriter {
  constructor(
    private readonly sf: TcpSubflow,
    private readonly owner: SubflowOwner,
    private readonly receiver: Receiver,
    private readonly ts: Timestamps,
    private readonly negotiated: Negotiated,
    private readonly stats: SubflowStats,
  ) {}

  /** CE was seen and the peer has not answered with CWR: every ACK says ECE (RFC 3168 6.1.3). */
  echoCongestion = false;

  /**
   * `seq` is relative; ACK is added to `flags` except in the first SYN and in a RST, which may go without. Payload as in
   * SegmentSink.commit; a payload longer than `mssBytes` leaves as a super-packet.
   */
  write(
    nowUs: Micros,
    sink: SegmentSink,
    kind: SegmentKind,
    flags: number,
    seq: number,
    lengthBytes: number,
    tag: unknown,
    parts: readonly Uint8Array[],
    skipBytes: number,
    mssBytes: number,
    ect: boolean,
  ): void {
    const { sf, receiver } = this;
    const isSyn = (flags & TCP_SYN) !== 0;
    let wireFlags = kind === 'syn' || kind === 'rst' ? flags : flags | TCP_ACK;
    if (!isSyn && this.echoCongestion && (flags & TCP_RST) === 0) wireFlags |= TCP_ECE;
    if (isSyn && this.negotiated.offerEcn) wireFlags |= kind === 'syn' ? TCP_ECE | TCP_CWR : TCP_ECE;

    const start = sink.reserve(sf);
    const out = sink.headers;
    const limit = start + TCP_MAX_HEADER_BYTES;
    const ack = (wireFlags & TCP_ACK) === 0 ? 0 : wrap32(receiver.rcvNxt, sf.irs);
    const dataOptionBytes = this.owner.dataOptionBytes(sf);
    const window = kind === 'rst' ? 0 : this.#windowField(isSyn, dataOptionBytes === 0);
    let o = writeTcpHeader(
      out,
      start,
      sf.flow.localPort,
      sf.flow.remotePort,
      wrap32(seq, sf.iss),
      ack,
      wireFlags,
      window,
    );
    if (isSyn) o = this.#putSynOptions(nowUs, out, o);
    else if (this.ts.enabled) {
      const isTight =
        (kind === 'ack' && this.#isTight()) ||
        (kind === 'data' && timestampsBytesBeside(dataOptionBytes) < TIMESTAMPS_BYTES);
      const put = isTight ? putTimestampsBare : putTimestamps;
      o = put(out, o, this.ts.valueAt(nowUs), this.ts.recent);
    }
    o = this.owner.writeOptions(sf, kind, seq, lengthBytes, tag, out, o, limit - o);
    if (kind === 'ack' && this.negotiated.sack && receiver.hasSackNews) o = this.#putSack(out, start, o, limit);
    const headerBytes = finishTcpHeader(out, start, o);
    sink.commit(sf, start, headerBytes, parts, skipBytes, lengthBytes, lengthBytes > mssBytes ? mssBytes : 0, ect);

    this.stats.segmentsSent += lengthBytes > mssBytes ? Math.ceil(lengthBytes / mssBytes) : 1;
    if (kind !== 'syn' && kind !== 'rst') receiver.onAckSent(kind === 'ack');
  }

  #isTight(): boolean {
    const { owner, sf } = this;
    return owner.ackOptionBytes !== undefined && owner.ackOptionBytes(sf) > MAX_OPTION_BYTES - TIMESTAMPS_BYTES;
  }

  #windowField(isSyn: boolean, isPlainTcp: boolean): number {
    const bytes = this.owner.windowBytes(this.sf);
    // RFC 7323 2.2: the window of a SYN is never scaled.
    if (isSyn) return this.receiver.advertise(Math.min(bytes, 0xffff), 0, false);
    return this.receiver.advertise(bytes, this.negotiated.receiveShift, isPlainTcp);
  }

  #putSynOptions(nowUs: Micros, out: Uint8Array, o: number): number {
    const n = this.negotiated;
    const wscale = n.offerWscale ? this.sf.config.windowScale : -1;
    return putSynOptions(out, o, n.localMss, n.offerSack, n.offerTs, this.ts.valueAt(nowUs), this.ts.recent, wscale);
  }

  #putSack(out: Uint8Array, start: number, o: number, limit: number): number {
    const aligned = start + ((o - start + 3) & ~3);
    const max = Math.floor((limit - aligned - SACK_BASE_BYTES) / 8);
    if (max < 1) return o;
    const count = this.receiver.fillSackBlocks(max, this.sf.irs);
    return count === 0 ? o : putSackBlocks(out, o, this.receiver.sackLeft, this.receiver.sackRight, count);
  }
}

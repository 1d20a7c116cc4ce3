/**
 * The RST that answers a segment for which there is no connection, or whose ACK is unacceptable (RFC 9293 3.5.2, group 1
 * and 3.10.7.1): numbers only; the engine puts them on the wire.
 */
import { type SegmentView, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../wire/segment.js';

export interface ResetNumbers {
  /** Unsigned 32-bit wire numbers. */
  readonly seq: number;
  readonly ack: number;
  /** TCP_RST, with TCP_ACK where `ack` means something. */
  readonly flags: number;
}

/** Null: the segment is itself a RST, and gets no answer. */
export function resetFor(seg: SegmentView): ResetNumbers | null {
  if ((seg.flags & TCP_RST) !== 0) return null;
  if ((seg.flags & TCP_ACK) !== 0) return { seq: seg.ack, ack: 0, flags: TCP_RST };
  const syn = (seg.flags & TCP_SYN) !== 0 ? 1 : 0;
  const fin = (seg.flags & TCP_FIN) !== 0 ? 1 : 0;
  return { seq: 0, ack: (seg.seq + seg.payloadLen + syn + fin) >>> 0, flags: TCP_RST | TCP_ACK };
}

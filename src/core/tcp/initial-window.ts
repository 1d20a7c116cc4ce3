/** How much a connection may send before its first acknowledgment (RFC 6928, RFC 5681 3.1). */

/** RFC 6928 2 allows 10 segments, but not more bytes than ten of this size, or two segments of a larger one. */
const USUAL_MSS_BYTES = 1460;

/** `segments`: the configured count, 10 by RFC 6928; `synRetransmits`: how often our SYN or SYN/ACK had to be repeated. */
export function initialWindowBytes(segments: number, mssBytes: number, synRetransmits: number): number {
  // RFC 6928 2: one repetition may be spurious, as the first RTO is only a second; two are a loss, and the window is one.
  if (synRetransmits > 1) return mssBytes;
  return Math.min(segments * mssBytes, Math.max(2 * mssBytes, segments * USUAL_MSS_BYTES));
}

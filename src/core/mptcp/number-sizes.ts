/**
 * How long the data sequence numbers are that we send: four bytes wherever RFC 8684 admits them (3.3.1, 3.3.2), which leaves
 * eight more of each segment to payload. Eight bytes it takes
 *  - for a DSN, while we send at a rate at which 2^32 bytes could pass within a segment's lifetime;
 *  - for the DSN of a mapping that is far behind what is sent by now: a path that was gone for long sends it again, and the
 *    receiver would take it for the next wrap;
 *  - for a DATA_ACK of data that came with a DSN of eight.
 * What is received may have any length at any time (options-in.ts). And data goes without a DATA_ACK while that has long had
 * nothing new to say (3.3.2).
 */
import { type Micros, US_PER_S } from '../base/time.js';

export type NumberBytes = 4 | 8;

const TWO32 = 0x1_0000_0000;
/** Maximum segment lifetime (RFC 9293 3.4.2). */
const MSL_US: Micros = 120 * US_PER_S;
/** The rate is looked at each time so much has been sent: about a second at the rate in question, sooner above it. */
export const LOOK_BYTES = 2 ** 25;
/** What may pass within the lifetime before we say all 64 bits (250 Mbit/s), and below what 32 do again (214 Mbit/s). */
const WIDE_ABOVE_BYTES = (TWO32 * 7) / 8;
const NARROW_BELOW_BYTES = (TWO32 * 3) / 4;
/** The receiver may mistake a number that is 2^31 away; while the segment is under way more is sent. */
export const NEAR_BYTES = TWO32 / 4;

/** Data sent with one and the same DATA_ACK before it goes without: one of so many segments has got through. */
export const REPEAT_BYTES = 2 ** 20;

export class NumberSizes {
  /** Of new DSNs, and of DATA_ACKs. */
  dsnBytes: NumberBytes = 4;
  ackBytes: NumberBytes = 4;
  /** Where the stretch that is timed begins, and when. */
  private lookDsn = -1;
  private lookUs: Micros = 0;
  /** End of the data that came with DSNs of eight bytes. */
  private wideEnd = 0;
  /** What DATA_ACK and window said last, and what had been sent when that was new. */
  private heardNxt = 0;
  private heardEdge = 0;
  private heardDsn = 0;

  /** New data has been sent up to `sndNxt`. True if the size of new DSNs is another one now. */
  onSent(nowUs: Micros, sndNxt: number): boolean {
    const bytes = sndNxt - this.lookDsn;
    if (bytes < LOOK_BYTES && this.lookDsn >= 0) return false;
    const perLifetimeBytes = this.lookDsn < 0 ? 0 : (bytes * MSL_US) / Math.max(1, nowUs - this.lookUs);
    this.lookDsn = sndNxt;
    this.lookUs = nowUs;
    const { dsnBytes } = this;
    if (perLifetimeBytes > WIDE_ABOVE_BYTES) this.dsnBytes = 8;
    else if (perLifetimeBytes < NARROW_BELOW_BYTES) this.dsnBytes = 4;
    return this.dsnBytes !== dsnBytes;
  }

  /** Size of the DSN in a mapping of bytes from `dsn` on. */
  bytesOf(dsn: number, sndNxt: number): NumberBytes {
    return sndNxt - dsn > NEAR_BYTES ? 8 : this.dsnBytes;
  }

  /** The peer must have been told this often enough: its data is taken up to `rcvNxt`, and the window ends at `edge`. */
  isAckOld(rcvNxt: number, edge: number, sndNxt: number): boolean {
    if (rcvNxt !== this.heardNxt || edge !== this.heardEdge) {
      this.heardNxt = rcvNxt;
      this.heardEdge = edge;
      this.heardDsn = sndNxt;
    }
    return sndNxt - this.heardDsn > REPEAT_BYTES;
  }

  /**
   * A mapping or DATA_FIN of [dsn, endDsn) came with a DSN of `dsnBytes`. True if the size of DATA_ACKs is another one now. It
   * is eight until the peer, who sends no more than `windowBytes` beyond a DATA_ACK, must have had one of all such data.
   */
  onReceived(dsnBytes: number, dsn: number, endDsn: number, windowBytes: number): boolean {
    if (dsnBytes === 8) this.wideEnd = Math.max(this.wideEnd, endDsn);
    else if (this.ackBytes === 4 || dsn - windowBytes < this.wideEnd) return false;
    const { ackBytes } = this;
    this.ackBytes = dsnBytes === 8 ? 8 : 4;
    return this.ackBytes !== ackBytes;
  }
}

/**
 * Answers to segments that are not taken: ACK of an unacceptable one (RFC 9293 3.10.7.4), challenge ACK (RFC 5961 3 to 5,
 * rate-limited by 7), RST for an ACK of what was never sent (RFC 9293 3.10.7.3). None is emitted here, only made due.
 */
import { unwrap32 } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import { TokenBucket } from '../base/token-bucket.js';
import { type SegmentView, TCP_ACK, TCP_FIN, TCP_RST } from '../wire/segment.js';
import type { Tcb } from './tcb.js';

export class Answers {
  /** A RST to send: relative sequence number and flags. */
  rst: { readonly seq: number; readonly flags: number } | null = null;
  readonly #limiter: TokenBucket;

  constructor(private readonly tcb: Tcb) {
    this.#limiter = new TokenBucket(tcb.config.challengeAcksPerSecond);
  }

  /** An unacceptable segment: say where we are; data that had arrived before is named (RFC 2883). */
  duplicate(nowUs: Micros, seg: SegmentView, seq: number): void {
    const { receiver, stats, handshake, state, closing } = this.tcb;
    if (state === 'syn-received') {
      handshake.isSynDue = true;
      return;
    }
    const end = seq + seg.payloadLen;
    if (seg.payloadLen > 0 && end <= receiver.rcvNxt) {
      receiver.noteDuplicate(seq, end);
    } else {
      stats.dropOutOfWindow++;
      if (this.#limiter.take(nowUs)) receiver.ackNow = true;
    }
    if (state === 'time-wait' && (seg.flags & TCP_FIN) !== 0) {
      receiver.ackNow = true;
      closing.startTimeWait(nowUs); // RFC 9293 3.10.7.4: the peer's FIN again
    }
  }

  challenge(nowUs: Micros): void {
    const { receiver, stats, handshake, state } = this.tcb;
    if (!this.#limiter.take(nowUs)) {
      stats.challengeAcksSuppressed++;
      return;
    }
    stats.challengeAcks++;
    if (state === 'syn-received') handshake.isSynDue = true;
    else receiver.ackNow = true;
  }

  /** <SEQ=SEG.ACK><CTL=RST>, and we go on. */
  refuse(seg: SegmentView): void {
    this.rst = { seq: unwrap32(seg.ack, this.tcb.sf.iss, 0), flags: TCP_RST };
  }

  /** <SEQ=SND.NXT><CTL=RST,ACK>, of a connection that is given up (RFC 9293 3.10.5). */
  abort(): void {
    this.rst = { seq: this.tcb.sender.space.sndNxt, flags: TCP_RST | TCP_ACK };
  }
}

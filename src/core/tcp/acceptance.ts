/**
 * May this segment be taken? The first four checks of RFC 9293 3.10.7.4 in their order: sequence number (behind PAWS, RFC
 * 7323 5.3), RST (RFC 5961 3.2), SYN (RFC 5961 4.2), ACK (RFC 5961 5.2). One object judges all segments of a subflow, in
 * every state after SYN-SENT; what it found out is in its fields.
 */
import { unwrap32 } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import { type SegmentView, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../wire/segment.js';
import type { Tcb } from './tcb.js';

/**
 * take: go on with it.            duplicate: unacceptable, say where we are.     challenge: answer with a challenge ACK.
 * reset: an acceptable RST.       refuse: answer with a RST.                     syn-again: our SYN/ACK was lost.
 * drop: no answer (counted).
 */
export type Verdict = 'take' | 'duplicate' | 'challenge' | 'reset' | 'refuse' | 'syn-again' | 'drop';

export class Acceptance {
  /** Sequence number behind a SYN, and acknowledgment number (when taken), relative. */
  seq = 0;
  ack = 0;
  /** Payload that may be taken: all, or none while our window is shut. */
  payloadBytes = 0;

  constructor(private readonly tcb: Tcb) {}

  judge(nowUs: Micros, seg: SegmentView): Verdict {
    const { state, receiver, stats, ts, sf } = this.tcb;
    const { flags } = seg;
    const isSyn = (flags & TCP_SYN) !== 0;
    const isRst = (flags & TCP_RST) !== 0;
    let seq = unwrap32(seg.seq, sf.irs, receiver.rcvNxt);
    let lengthBytes = seg.payloadLen + ((flags & TCP_FIN) !== 0 ? 1 : 0) + (isSyn ? 1 : 0);
    let takesSyn = false;
    if (state === 'syn-received' && isSyn && !isRst && seq === -this.tcb.handshake.takenBytes) {
      if ((flags & TCP_ACK) === 0) return 'syn-again';
      // The other half of a simultaneous open: its SYN is known, its ACK is news.
      takesSyn = true;
      seq = 1;
      lengthBytes--;
    }
    this.seq = seq;
    this.payloadBytes = seg.payloadLen;

    // First: sequence number. PAWS comes before (RFC 7323 5.3), and never stops a RST.
    if (ts.enabled && seg.hasTs && !isRst && ts.failsPaws(nowUs, seg.tsVal)) {
      stats.dropPaws++;
      return 'duplicate';
    }
    if (!receiver.isAcceptable(seq, lengthBytes)) {
      if (isRst) return 'drop';
      // A shut window takes no data, but the ACK of a segment that would be next is as good as any (3.10.7.4).
      const isWindowProbe = seq === receiver.rcvNxt && receiver.windowBytes === 0;
      if (!isWindowProbe || isSyn) return 'duplicate';
      stats.dropOutOfWindow++;
      receiver.ackNow = true;
      this.payloadBytes = 0;
    }

    // Second: RST, only at RCV.NXT exactly (RFC 5961 3.2). Third: SYN, never (RFC 5961 4.2).
    if (isRst) return seq === receiver.rcvNxt ? 'reset' : 'challenge';
    if (isSyn && !takesSyn) return 'challenge';

    return this.#judgeAck(seg);
  }

  /** Fourth: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT (RFC 5961 5.2); in SYN-RECEIVED our SYN, and what followed it early. */
  #judgeAck(seg: SegmentView): Verdict {
    const { state, sender, stats, sf } = this.tcb;
    const { sndUna, sndNxt, maxSndWnd } = sender.space;
    if ((seg.flags & TCP_ACK) === 0) {
      stats.dropNoAck++;
      return 'drop';
    }
    this.ack = unwrap32(seg.ack, sf.iss, sndUna);
    const isOpening = state === 'syn-received';
    const leastAck = isOpening ? 1 : sndUna - maxSndWnd;
    const isPlausible = this.ack <= sndNxt && this.ack >= leastAck;
    if (isPlausible) return 'take';
    stats.dropBadAck++;
    return isOpening ? 'refuse' : 'challenge';
  }
}

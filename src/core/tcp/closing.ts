/**
 * How a connection ends: FINs in both directions, TIME-WAIT (RFC 9293 3.6, 3.10.4, 3.10.7.4 eighth), ABORT (3.10.5), and
 * giving up (R2, 3.8.3). The transitions are in states.ts.
 */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import { type SegmentView, TCP_FIN } from '../wire/segment.js';
import type { CloseReason } from './owner.js';
import { afterFinAcked, afterPeerFin, afterSendFin, mayReceive } from './states.js';
import type { Tcb } from './tcb.js';

export class Closing {
  #timeWaitUntilUs: Micros = NEVER;
  /** Nobody waits for what the peer may yet send. */
  #isForGood = false;
  /** Sequence number of the peer's FIN, also when it came early; -1: none yet. */
  #peerFinSeq = -1;
  /** `sendFin` was called during the handshake. */
  #isFinWanted = false;

  constructor(private readonly tcb: Tcb) {}

  // ---- our end

  /** A FIN behind all data pulled so far. `isForGood`: CLOSE, the peer's end is not waited for without bound. */
  sendFin(nowUs: Micros, isForGood: boolean): void {
    const { tcb } = this;
    this.#isForGood ||= isForGood;
    if (tcb.state === 'syn-sent') {
      this.close(nowUs, 'aborted');
      return;
    }
    if (tcb.state === 'syn-received') {
      this.#isFinWanted = true;
      return;
    }
    const next = afterSendFin(tcb.state);
    if (next === tcb.state) return;
    tcb.state = next;
    tcb.sender.space.finQueued = true;
  }

  onEstablished(nowUs: Micros): void {
    if (this.#isFinWanted && this.tcb.isOpen) this.sendFin(nowUs, this.#isForGood);
  }

  /** SND.UNA passed our FIN. */
  onFinAcked(nowUs: Micros): void {
    const { tcb } = this;
    const next = afterFinAcked(tcb.state);
    if (next === tcb.state) return;
    if (next === 'time-wait' || (next === 'closed' && tcb.owner.lingers?.(tcb.sf))) this.#enterTimeWait(nowUs);
    else if (next === 'closed') this.close(nowUs, 'done');
    else tcb.state = next;
  }

  /** ABORT: with a RST, or silently. */
  abort(nowUs: Micros, sendRst: boolean): void {
    const { tcb } = this;
    if (!tcb.isOpen) return;
    // Where no SYN of the peer has been seen, nobody knows of us.
    if (sendRst && tcb.receiver.rcvNxt > 0 && tcb.state !== 'time-wait') tcb.answers.abort();
    this.close(nowUs, 'aborted');
  }

  // ---- the peer's end

  /** FIN, which may have come before the data in front of it. `finSeq`: end of the segment's data. */
  takeFin(nowUs: Micros, seg: SegmentView, finSeq: number): void {
    const { tcb } = this;
    const { receiver, owner, sf } = tcb;
    if (!mayReceive(tcb.state)) return;
    if ((seg.flags & TCP_FIN) !== 0 && this.#peerFinSeq < 0) {
      this.#peerFinSeq = finSeq;
      receiver.ackNow = true;
    }
    if (this.#peerFinSeq < 0 || receiver.rcvNxt !== this.#peerFinSeq) return;
    receiver.onFin();
    const next = afterPeerFin(tcb.state);
    if (next !== 'time-wait') tcb.state = next;
    owner.onPeerFin(nowUs, sf);
    if (next === 'time-wait' && tcb.isOpen) this.#enterTimeWait(nowUs);
  }

  /** RST, acceptable and not vetoed by the owner. */
  onReset(nowUs: Micros): void {
    const isRefused = this.tcb.state === 'syn-received' && this.tcb.isActiveOpen;
    this.close(nowUs, isRefused ? 'refused' : 'reset');
  }

  // ---- clocks

  /** End of TIME-WAIT, or of FIN-WAIT-2 without news; NEVER: of neither. */
  get lingerUntilUs(): Micros {
    const { state, config, lastReceivedUs } = this.tcb;
    // After a half-close the peer may be silent for as long as it likes (RFC 9293 3.6: CLOSE ends one direction).
    if (state === 'fin-wait-2') return this.#isForGood ? lastReceivedUs + config.finWait2Us : NEVER;
    return this.#timeWaitUntilUs;
  }

  #enterTimeWait(nowUs: Micros): void {
    const { tcb } = this;
    tcb.state = 'time-wait';
    this.startTimeWait(nowUs);
    tcb.owner.onClosed(nowUs, tcb.sf, 'done');
  }

  /** 2 MSL from now. */
  startTimeWait(nowUs: Micros): void {
    this.#timeWaitUntilUs = nowUs + this.tcb.config.timeWaitUs;
  }

  endTimeWait(nowUs: Micros): void {
    if (nowUs >= this.#timeWaitUntilUs) this.tcb.state = 'closed';
  }

  /** R2 (RFC 9293 3.8.3), also for an unanswered persist timer. */
  get giveUpAtUs(): Micros {
    const { sender, config, lastReceivedUs } = this.tcb;
    return sender.stuckSinceUs(lastReceivedUs) + config.r2Us;
  }

  /** True: it is over, by R2 or by FIN-WAIT-2 without news. */
  givesUp(nowUs: Micros): boolean {
    const { tcb } = this;
    if (tcb.state === 'fin-wait-2' && nowUs >= this.lingerUntilUs) this.close(nowUs, 'done');
    else if (nowUs >= this.giveUpAtUs) this.close(nowUs, 'timeout');
    return !tcb.isOpen;
  }

  close(nowUs: Micros, why: CloseReason): void {
    const { tcb } = this;
    if (!tcb.isOpen) return;
    const wasTold = tcb.state === 'time-wait';
    tcb.state = 'closed';
    if (!wasTold) tcb.owner.onClosed(nowUs, tcb.sf, why);
  }
}

/**
 * RACK: time-based loss detection (RFC 8985 section 6). A transmission is lost when one sent later has arrived and more
 * than a round trip plus the reordering window has passed since it left. Segments are counted in bytes, because a
 * record here is a super-unit.
 */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import type { RttEstimator } from './rtt.js';
import type { Scoreboard, SentRecord } from './scoreboard.js';

/** Recoveries for which a widened reordering window is kept (RFC 8985 6.2 step 4). */
const REO_WND_PERSIST = 16;
/** RFC 5681's three duplicate ACKs. */
const DUP_THRESH = 3;

export class Rack {
  /** Transmission time and end of the most recently sent piece known to have arrived. */
  xmitUs: Micros = 0;
  endSeq = 0;
  rttUs: Micros = 0;
  /** Highest sequence number delivered (RACK.fack). */
  fack = 0;
  reorderingSeen = false;
  /** When `detect` should run again; NEVER when nothing waits. */
  deadlineUs: Micros = NEVER;

  #reoWndMult = 1;
  #reoWndPersist = 0;
  #dsackRoundEnd = -1;

  /** Steps 2 and 3. `echoIsOlder`: the ACK's TSecr shows that it answers an earlier transmission of this record. */
  onDelivered(nowUs: Micros, rec: SentRecord, endSeq: number, rtt: RttEstimator, echoIsOlder: boolean): void {
    const isRetransmitted = rec.transmissions > 1;
    if (endSeq > this.fack) this.fack = endSeq;
    else if (endSeq < this.fack && !isRetransmitted) this.reorderingSeen = true;

    const rttUs = nowUs - rec.sentUs;
    if (isRetransmitted && (echoIsOlder || rttUs < rtt.minRttUs)) return; // likely the original's ACK
    this.rttUs = rttUs;
    if (isSentAfter(rec.sentUs, endSeq, this.xmitUs, this.endSeq)) {
      this.xmitUs = rec.sentUs;
      this.endSeq = endSeq;
    }
  }

  /** A DSACK arrived: something was retransmitted in vain, the window was too small (step 4, once per round trip). */
  onDsack(sndUna: number, sndNxt: number): void {
    if (sndUna < this.#dsackRoundEnd) return;
    this.#dsackRoundEnd = sndNxt;
    this.#reoWndMult++;
    this.#reoWndPersist = REO_WND_PERSIST;
  }

  onRecoveryExit(): void {
    if (this.#reoWndPersist > 0 && --this.#reoWndPersist === 0) this.#reoWndMult = 1;
  }

  /** Step 4. */
  reoWndUs(rtt: RttEstimator, board: Scoreboard, mssBytes: number, inRecovery: boolean): Micros {
    if (!this.reorderingSeen && (inRecovery || board.sackedBytes >= DUP_THRESH * mssBytes)) return 0;
    if (!rtt.hasSample) return 0;
    return Math.min((this.#reoWndMult * rtt.minRttUs) / 4, rtt.srttUs);
  }

  /** Step 5: calls `lose` for each lost record and re-arms `deadlineUs` for those that are only late. */
  detect(nowUs: Micros, board: Scoreboard, reoWndUs: Micros, lose: (rec: SentRecord) => void): void {
    this.deadlineUs = NEVER;
    let rec = board.oldestInFlight;
    while (rec !== null && isSentAfter(this.xmitUs, this.endSeq, rec.sentUs, rec.endSeq)) {
      const next = rec.queueNext;
      const lostAtUs = rec.sentUs + this.rttUs + reoWndUs;
      if (lostAtUs <= nowUs) lose(rec);
      else this.deadlineUs = this.deadlineUs === NEVER ? lostAtUs : Math.max(this.deadlineUs, lostAtUs);
      rec = next;
    }
  }

  /** RFC 8985 6.3: at an RTO the first outstanding record is lost, and all that were sent long enough ago. */
  detectOnRto(nowUs: Micros, board: Scoreboard, reoWndUs: Micros, lose: (rec: SentRecord) => void): void {
    this.deadlineUs = NEVER;
    let rec = board.oldestInFlight;
    while (rec !== null && rec.sentUs + this.rttUs + reoWndUs <= nowUs) {
      const next = rec.queueNext;
      lose(rec);
      rec = next;
    }
  }
}

/** RACK_sent_after: later in time, or at the same time and further on. */
export function isSentAfter(aUs: Micros, aEnd: number, bUs: Micros, bEnd: number): boolean {
  return aUs > bUs || (aUs === bUs && aEnd > bEnd);
}

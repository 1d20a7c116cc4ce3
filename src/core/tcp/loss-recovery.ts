/**
 * When is something lost, and what follows: RACK and TLP with SACK (RFC 8985), NewReno without (RFC 6582), the RTO
 * (RFC 6298 5), one reduction per window (RFC 6675 5, RFC 3168 6.1.2), PRR (RFC 6937), and undo.
 *
 * Phases:  open ─loss→ recovery ─SND.UNA reaches the recovery point→ open
 *          any ─RTO→ rto ─SND.UNA reaches the recovery point→ open;    recovery, rto ─spurious→ open
 */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import type { AckNews } from './ack-news.js';
import { LossProbe } from './loss-probe.js';
import type { ProbeLoss } from './pmtu.js';
import { ProportionalRateReduction } from './prr.js';
import { Rack } from './rack.js';
import { IN_FLIGHT, SACKED, type SentRecord } from './scoreboard.js';
import type { SendContext } from './send-context.js';
import { UndoDetector } from './undo.js';

/** RFC 6582 and 5681: duplicate ACKs that mean loss, without SACK. */
const DUP_THRESH = 3;

export type RecoveryPhase = 'open' | 'recovery' | 'rto';

export class LossRecovery {
  phase: RecoveryPhase = 'open';
  /** SACK was negotiated. */
  usesSack = false;
  /** Found lost since `beginAck`. */
  lostBytes = 0;
  /** The next retransmission waits for neither window nor pacing. */
  isRetransmitForced = false;
  /** Consecutive timeouts without progress. */
  rtoCount = 0;
  readonly probe = new LossProbe();
  readonly undo = new UndoDetector();

  readonly #rack = new Rack();
  readonly #prr = new ProportionalRateReduction();
  #recoveryPoint = 0;
  #dupAcks = 0;
  /** What this ACK says has arrived, for PRR without SACK: a segment for each duplicate ACK (RFC 6937 3). */
  #newRenoDeliveredBytes = 0;
  /** A path-MTU probe was found lost, or arrived, and nobody has dealt with that yet. */
  #isMtuProbeLost = false;
  #isMtuRaised = false;
  #rtoBaseUs: Micros = 0;
  #nowUs: Micros = 0;
  readonly #lose = (rec: SentRecord): void => this.#markLost(rec);

  constructor(private readonly ctx: SendContext) {}

  /** RFC 6675 pipe. Without SACK each duplicate ACK stands for a segment that has left the network. */
  get inFlightBytes(): number {
    const { board, mss } = this.ctx;
    if (this.usesSack) return board.inFlightBytes;
    return Math.max(0, board.inFlightBytes - this.#dupAcks * mss.bytes);
  }

  /** What congestion control lets out now; an empty pipe brings no ACK that could make it more, so one segment may go. */
  get cwndRoomBytes(): number {
    const { cc, mss } = this.ctx;
    const inFlight = this.inFlightBytes;
    const isReducing = this.phase === 'recovery' && Number.isFinite(cc.ssthreshBytes);
    const room = isReducing ? this.#prr.quotaBytes : cc.cwndBytes - inFlight;
    return inFlight === 0 ? Math.max(room, mss.bytes) : room;
  }

  // ---- an ACK, in this order

  beginAck(nowUs: Micros): void {
    this.#nowUs = nowUs;
    this.lostBytes = 0;
    this.undo.beginAck();
  }

  /** A piece arrived (before the scoreboard forgets how it was sent). */
  onDelivered(rec: SentRecord, endSeq: number, news: AckNews): void {
    const { rtt, ts, pmtu, mss } = this.ctx;
    if (rec.transmissions === 1) this.undo.onOriginalDelivered(rec.sentUs);
    if (rec.transmissions === 1 && pmtu.onProbeDelivered(this.#nowUs, rec.seq, endSeq)) this.#isMtuRaised = true;
    else if (rec.lengthBytes >= mss.bytes) pmtu.onDelivered(mss.packetBytes(mss.bytes));
    if (this.usesSack) this.#rack.onDelivered(this.#nowUs, rec, endSeq, rtt, news.answersEarlier(rec, ts));
  }

  /** A path-MTU probe arrived since the last call. */
  takeMtuRaise(): boolean {
    const isRaised = this.#isMtuRaised;
    this.#isMtuRaised = false;
    return isRaised;
  }

  /** [left, right) had arrived before it was sent again. */
  onDsack(left: number, right: number): void {
    const { stats, space } = this.ctx;
    stats.dsacksReceived++;
    this.#rack.onDsack(space.sndUna, space.sndNxt);
    if (right !== this.probe.endSeq && this.undo.onDsack(left, right)) this.#undoReduction();
  }

  /** RFC 6582 3.2: without SACK the duplicates are counted; an advance takes back what it explains. */
  countDuplicates(news: AckNews): void {
    const mssBytes = this.ctx.mss.bytes;
    this.#newRenoDeliveredBytes = 0;
    if (news.advanced) {
      const segments = Math.ceil(news.ackedBytes / mssBytes);
      this.#newRenoDeliveredBytes = Math.max(0, news.deliveredBytes - this.#dupAcks * mssBytes);
      this.#dupAcks = this.phase === 'recovery' ? Math.max(0, this.#dupAcks - Math.max(0, segments - 1)) : 0;
      if (news.ack >= this.#recoveryPoint) this.#dupAcks = 0;
    } else if (news.isDuplicate && news.flightBytes > 0) {
      this.#dupAcks++;
      this.#newRenoDeliveredBytes = mssBytes;
    }
  }

  /** SND.UNA advanced: the RTO and the probe timeout start over (RFC 6298 5.3). */
  onProgress(nowUs: Micros): void {
    this.rtoCount = 0;
    this.#rtoBaseUs = nowUs;
    this.probe.restart(nowUs);
  }

  /** All is known that the ACK says: losses, and from one phase into another. */
  onAck(nowUs: Micros, news: AckNews): void {
    const { board, space, cc, stats, ecn, mss } = this.ctx;
    const { ack, advanced, priorInFlightBytes } = news;
    if (this.phase !== 'open') {
      if (this.undo.isSpurious(this.phase === 'rto', news.prevUna, ack, news.tsEcr)) this.#undoReduction();
    }
    this.#detectLosses(nowUs, advanced);
    this.#judgeMtuProbe(nowUs, this.lostBytes > 0 || this.phase !== 'open' ? 'amid' : 'alone');
    const isTailRepaired = this.probe.onAck(ack, news.dsackEnd, news.isDuplicate && !news.hasSack);
    if (this.phase !== 'open' && ack >= this.#recoveryPoint) this.#exitRecovery(nowUs);
    if (this.phase === 'open') {
      if (this.lostBytes > 0) {
        this.#enterRecovery(nowUs, priorInFlightBytes, news.flightBytes);
      } else if (isTailRepaired) {
        // RFC 8985 7.4.2: the probe hid a loss from everybody else.
        cc.onCongestionEvent(nowUs, priorInFlightBytes, 'loss');
        ecn.onReduced(space.sndNxt);
        cc.onRecoveryExit(nowUs);
      } else if (news.hasEce && ecn.onEcho(ack, space.sndNxt)) {
        stats.ecnReductions++;
        cc.onCongestionEvent(nowUs, priorInFlightBytes, 'ecn');
      }
    }
    if (this.phase === 'recovery') {
      const isSafe = advanced && this.lostBytes === 0;
      const deliveredBytes = this.usesSack ? news.deliveredBytes : this.#newRenoDeliveredBytes;
      this.#prr.onAck(deliveredBytes, this.inFlightBytes, cc.ssthreshBytes, mss.bytes, isSafe);
    }
    if (board.isEmpty) this.#rack.deadlineUs = NEVER;
  }

  // ---- what is sent

  /** The RTO counts from now: the first outstanding data goes out (again), or the path has just come back. */
  restartRto(nowUs: Micros): void {
    this.#rtoBaseUs = nowUs;
  }

  /** The path is back after an outage: what was out there is lost, and repaired as after a timeout. Nobody is to blame. */
  restartPath(nowUs: Micros): void {
    const { board, space } = this.ctx;
    this.restartRto(nowUs);
    if (board.isEmpty) return;
    this.#nowUs = nowUs;
    for (let rec = board.oldestInFlight; rec !== null; rec = board.oldestInFlight) this.#markLost(rec);
    this.lostBytes = 0;
    this.#judgeMtuProbe(nowUs, 'amid');
    this.undo.onRto(nowUs, false);
    this.undo.start(space.sndUna);
    this.phase = 'rto';
    this.#recoveryPoint = space.sndNxt;
    this.#dupAcks = 0;
    this.probe.cancel();
    this.probe.isDue = false;
    this.isRetransmitForced = true;
  }

  /** Path probes end: the RTO is not to be due at once. */
  postponeRto(nowUs: Micros): void {
    this.#rtoBaseUs = Math.max(this.#rtoBaseUs, nowUs);
  }

  onSent(bytes: number): void {
    if (this.phase === 'recovery') this.#prr.onSent(bytes);
  }

  // ---- timers

  nextDeadline(): Micros {
    const reorderingUs = this.ctx.pathProbe.isOn ? NEVER : this.#rack.deadlineUs;
    return Math.min(this.#rtoDeadlineUs(), this.#probeDeadlineUs(), reorderingUs);
  }

  /** Not while path probes are on. */
  onTimer(nowUs: Micros): void {
    this.#nowUs = nowUs;
    if (nowUs >= this.#rack.deadlineUs) this.#onReorderingTimer(nowUs);
    if (nowUs >= this.#probeDeadlineUs()) {
      this.probe.isDue = true;
      this.#rtoBaseUs = nowUs; // RFC 8985 7.3: the RTO starts over
    } else if (nowUs >= this.#rtoDeadlineUs()) {
      this.#onRto(nowUs);
    }
  }

  #rtoDeadlineUs(): Micros {
    const { board, rtt, pathProbe } = this.ctx;
    if (pathProbe.isOn || board.isEmpty) return NEVER;
    return this.#rtoBaseUs + rtt.backedOffUs(this.rtoCount);
  }

  /** RFC 8985 7.2: with SACK, in the open phase, and nothing but a tail outstanding. */
  #probeDeadlineUs(): Micros {
    const { board, rtt, mss, pathProbe } = this.ctx;
    const { probe } = this;
    const isWatched = this.usesSack && this.phase === 'open' && probe.mayProbe(rtt) && !probe.isDue && !pathProbe.isOn;
    if (!isWatched || board.isEmpty || board.sackedBytes > 0 || board.lostBytes > 0) return NEVER;
    const isSingle = board.inFlightBytes <= mss.bytes;
    return Math.min(probe.baseUs + probe.timeoutUs(rtt, isSingle), this.#rtoDeadlineUs());
  }

  #onReorderingTimer(nowUs: Micros): void {
    const { space } = this.ctx;
    const inFlight = this.inFlightBytes;
    this.lostBytes = 0;
    this.#detectLosses(nowUs, false);
    this.#judgeMtuProbe(nowUs, this.lostBytes > 0 || this.phase !== 'open' ? 'amid' : 'alone');
    if (this.lostBytes > 0 && this.phase === 'open') {
      this.#enterRecovery(nowUs, inFlight, space.sndNxt - space.sndUna);
    }
  }

  #onRto(nowUs: Micros): void {
    const { board, stats, cc, rtt, mss, pmtu, owner, sf, space, ecn } = this.ctx;
    stats.rtos++;
    this.rtoCount++;
    this.#rtoBaseUs = nowUs;
    const inFlight = this.inFlightBytes;
    if (board.head !== null && board.head.status === SACKED) board.renege(); // RFC 2018 8
    if (this.rtoCount === 1) {
      this.undo.onRto(nowUs, this.phase === 'open');
      this.undo.start(space.sndUna);
      cc.onRto(nowUs, inFlight);
      ecn.onReduced(space.sndNxt);
    }
    this.phase = 'rto';
    this.#recoveryPoint = space.sndNxt;
    this.probe.cancel();
    this.probe.isDue = false;
    this.#dupAcks = 0;
    const reoWndUs = this.#rack.reoWndUs(rtt, board, mss.bytes, true);
    if (this.usesSack) this.#rack.detectOnRto(nowUs, board, reoWndUs, this.#lose);
    else for (let rec = board.oldestInFlight; rec !== null; rec = board.oldestInFlight) this.#markLost(rec);
    const head = board.head;
    if (head !== null && head.status === IN_FLIGHT) {
      // RFC 8985 6.3: of what was sent less than a round trip ago only the first segment.
      if (head.lengthBytes > mss.bytes) board.split(head, head.seq + mss.bytes);
      this.#markLost(head);
    }
    this.isRetransmitForced = true;
    this.#judgeMtuProbe(nowUs, 'timeout');
    if (head !== null && pmtu.onRto(nowUs, head.lengthBytes >= mss.bytes)) mss.refresh();
    owner.onRto(nowUs, sf, this.rtoCount);
  }

  // ---- detection

  #detectLosses(nowUs: Micros, advanced: boolean): void {
    const { board, rtt, mss, space } = this.ctx;
    if (this.usesSack) {
      if (board.isEmpty) return;
      const reoWndUs = this.#rack.reoWndUs(rtt, board, mss.bytes, this.phase !== 'open');
      this.#rack.detect(nowUs, board, reoWndUs, this.#lose);
      return;
    }
    // RFC 6582 3.2: the third duplicate ACK, and each partial ACK in recovery, give the first segment up.
    const isThird = this.phase === 'open' && this.#dupAcks === DUP_THRESH;
    const isPartial = this.phase === 'recovery' && advanced && space.sndUna < this.#recoveryPoint;
    const head = board.head;
    if ((!isThird && !isPartial) || head === null || head.status !== IN_FLIGHT) return;
    if (head.lengthBytes > mss.bytes) board.split(head, head.seq + mss.bytes);
    this.#markLost(head);
    this.isRetransmitForced = true;
  }

  /** The path MTU became smaller: what no longer fits goes again, and nobody calls it congestion (RFC 4821 7.5). */
  loseOversized(nowUs: Micros): void {
    const { board, mss } = this.ctx;
    this.#nowUs = nowUs;
    let rec = board.oldestInFlight;
    while (rec !== null) {
      const next = rec.queueNext;
      if (rec.lengthBytes > mss.bytes) this.#markLost(rec);
      rec = next;
    }
    this.lostBytes = 0;
  }

  /**
   * What the loss of a path-MTU probe means (RFC 4821 7.6). The time to the next congestion event is about as many round
   * trips as there are packets in the window (7.6.2).
   */
  #judgeMtuProbe(nowUs: Micros, how: ProbeLoss): void {
    if (!this.#isMtuProbeLost) return;
    this.#isMtuProbeLost = false;
    const { pmtu, cc, mss, rtt } = this.ctx;
    pmtu.onProbeLost(nowUs, how, (cc.cwndBytes / mss.bytes) * rtt.srttUs);
  }

  #markLost(rec: SentRecord): void {
    const { board, owner, sf, stats, mss, pmtu } = this.ctx;
    // RFC 4821 7.6.2: a probe that is lost is no sign of congestion.
    if (pmtu.isProbe(rec.seq)) this.#isMtuProbeLost = true;
    else this.lostBytes += rec.endSeq - rec.seq;
    stats.segmentsLost += Math.max(1, Math.ceil(rec.lengthBytes / mss.bytes));
    const { seq, lengthBytes, tag } = rec;
    board.markLost(rec);
    if (lengthBytes > 0) owner.onLost(this.#nowUs, sf, seq, lengthBytes, tag);
  }

  // ---- phases

  /** RFC 6675 5 (4): once per window of data. */
  #enterRecovery(nowUs: Micros, priorInFlightBytes: number, flightBytes: number): void {
    const { space, stats, cc, ecn } = this.ctx;
    this.phase = 'recovery';
    this.#recoveryPoint = space.sndNxt;
    this.undo.start(space.sndUna);
    this.probe.cancel();
    this.isRetransmitForced = true;
    stats.fastRecoveries++;
    this.#prr.enter(flightBytes);
    if (!ecn.mayReduceForLoss(space.sndUna)) return;
    cc.onCongestionEvent(nowUs, priorInFlightBytes, 'loss');
    ecn.onReduced(space.sndNxt);
  }

  #exitRecovery(nowUs: Micros): void {
    this.#rack.onRecoveryExit();
    this.phase = 'open';
    this.isRetransmitForced = false;
    this.#dupAcks = 0;
    this.ctx.cc.onRecoveryExit(nowUs);
  }

  #undoReduction(): void {
    const { stats, board, cc } = this.ctx;
    stats.spurious++;
    this.undo.stop();
    this.rtoCount = 0;
    board.unmarkLost();
    this.isRetransmitForced = false;
    this.phase = 'open';
    cc.onUndo(this.#nowUs);
  }
}

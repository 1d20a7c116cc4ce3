/**
 * What goes out next and how much of it: lost data before new data, within the congestion window, the peer's window and
 * pacing credit; then the FIN. Read first: RFC 6675 4 (NextSeg), RFC 9293 3.7.4 (Nagle) and 3.8.6.2.1 (silly windows),
 * RFC 5681 4.1 (restart after idle).
 */
import type { Micros } from '../base/time.js';
import { NEVER, US_PER_S } from '../base/time.js';
import { TCP_FIN, TCP_PSH } from '../wire/segment.js';
import type { LossRecovery } from './loss-recovery.js';
import type { SegmentSink, SendUnit } from './owner.js';
import { Pacer } from './pacer.js';
import type { RateLimit } from './rate-limit.js';
import type { SentRecord } from './scoreboard.js';
import type { SendContext } from './send-context.js';
import { WindowUsage } from './window-usage.js';

/** Share of the window that must be free for a flight to count as limited by the application. */
const APP_LIMITED_ROOM = 0.25;
/** Segments behind a path-MTU probe by which its loss shows without a timeout (RFC 4821 7.4). */
const PROBE_FOLLOWERS = 3;
/** What is sent at once under an operator's limit: so much of its rate, and so many segments. */
const LIMIT_UNIT_US = 1_000;
const MIN_LIMIT_UNIT_SEGMENTS = 2;

export class Transmitter {
  readonly #pacer: Pacer;
  readonly #usage = new WindowUsage();
  #pacingBlockedUntilUs: Micros = NEVER;
  /** The operator's limit on this path, for us and others; null: none. */
  #limit: RateLimit | null = null;
  /** The controller knows of the current pause in sending. */
  #hasRestarted = false;

  constructor(
    private readonly ctx: SendContext,
    private readonly recovery: LossRecovery,
    maxSuperBytes: number,
    /** No Nagle algorithm. */
    public noDelay: boolean,
  ) {
    this.#pacer = new Pacer(maxSuperBytes);
  }

  /** New data admitted now, bytes (TcpSubflow.availableBytes without the state check). */
  availableBytes(nowUs: Micros): number {
    const { space, board, mss, pathProbe } = this.ctx;
    if (pathProbe.isOn || space.finQueued || board.lostBytes > 0) return 0;
    this.#updatePacer(nowUs);
    const room = Math.min(this.recovery.cwndRoomBytes, space.usableWindowBytes(mss.bytes));
    return Math.max(0, Math.floor(Math.min(room, this.#allowanceBytes(nowUs))));
  }

  set limit(limit: RateLimit | null) {
    this.#limit?.leave(this);
    this.#limit = limit;
  }

  /** Payload bytes put on the wire, retransmissions included. */
  get sentBytes(): number {
    return this.ctx.stats.bytesSent + this.ctx.stats.bytesRetransmitted;
  }

  /** The operator's limit is what new data waits for. */
  isHeldByLimit(nowUs: Micros): boolean {
    const limit = this.#limit;
    return limit !== null && limit.allowanceBytes(nowUs, this, this.#limitUnitBytes(limit)) === 0;
  }

  /** The congestion window holds back what an ACK would let grow (RFC 7661). */
  get isCwndLimited(): boolean {
    const { cc } = this.ctx;
    return this.#usage.isCwndLimited(cc.inSlowStart, cc.cwndBytes);
  }

  // ---- pacing

  readyAtUs(nowUs: Micros): Micros {
    this.#updatePacer(nowUs);
    const pacedUs = this.#pacer.readyAtUs(nowUs);
    const limit = this.#limit;
    return limit === null ? pacedUs : Math.max(pacedUs, limit.readyAtUs(nowUs, this, this.#limitUnitBytes(limit)));
  }

  /** NEVER where credit is not what new data waits for: then an ACK will tell, and no wake-up is due. */
  awaitCredit(nowUs: Micros): Micros {
    const { space, mss } = this.ctx;
    this.#updatePacer(nowUs);
    if (Math.min(this.recovery.cwndRoomBytes, space.usableWindowBytes(mss.bytes)) < mss.bytes) {
      this.forgetCredit();
      return NEVER;
    }
    return this.#awaitCredit(nowUs);
  }

  forgetCredit(): void {
    this.#pacer.forget();
    this.#limit?.leave(this);
  }

  #awaitCredit(nowUs: Micros): Micros {
    const pacedUs = this.#pacer.awaitCredit(nowUs);
    const limit = this.#limit;
    return limit === null ? pacedUs : Math.max(pacedUs, limit.awaitCredit(nowUs, this, this.#limitUnitBytes(limit)));
  }

  /** Credit by the pacer, and by the operator's limit. */
  #allowanceBytes(nowUs: Micros): number {
    const { allowanceBytes } = this.#pacer;
    const limit = this.#limit;
    if (limit === null || allowanceBytes === 0) return allowanceBytes;
    return Math.min(allowanceBytes, limit.allowanceBytes(nowUs, this, this.#limitUnitBytes(limit)));
  }

  /** A super-packet of the pacer's, or what the limit lets leave in a millisecond: at least two segments. */
  #limitUnitBytes({ rateBytesPerS }: RateLimit): number {
    const leastBytes = MIN_LIMIT_UNIT_SEGMENTS * this.ctx.mss.bytes;
    return Math.max(leastBytes, Math.min(this.#pacer.quantumBytes, (rateBytesPerS * LIMIT_UNIT_US) / US_PER_S));
  }

  #spend(bytes: number): void {
    this.#pacer.spend(bytes);
    this.#limit?.spend(this, bytes);
  }

  /** Credit matters only to who has something to send and a window for it: else the deadline wakes us for nothing. */
  nextDeadline(): Micros {
    if (this.#pacingBlockedUntilUs === NEVER) return NEVER;
    const { board, mss, owner, sf } = this.ctx;
    const lost = board.firstLost;
    const unit = lost === null ? mss.bytes : this.#retransmitUnit(lost);
    if (this.recovery.cwndRoomBytes < unit) return NEVER;
    return lost !== null || owner.hasPending(sf) ? this.#pacingBlockedUntilUs : NEVER;
  }

  #updatePacer(nowUs: Micros): void {
    const { cc, mss, rate } = this.ctx;
    // The credit is there: what still holds bytes back is somebody else's choice, who is woken for it himself.
    if (this.#pacingBlockedUntilUs <= nowUs) this.#pacingBlockedUntilUs = NEVER;
    this.#pacer.update(nowUs, cc.pacingRateBytesPerS, mss.bytes);
    // We woke too late to use the path: what is in flight now says nothing about it.
    if (this.#pacer.takeLostCredit()) rate.onAppLimited(this.recovery.inFlightBytes);
  }

  /**
   * Nothing to send although the window has room: rate samples of this flight say little about the path. A flight that
   * fills most of the window does say something: the gap before the next bytes is the application's grain, not its rate.
   */
  onAppLimited(): void {
    const { board, cc, mss, rate } = this.ctx;
    const leastRoomBytes = Math.max(mss.bytes, cc.cwndBytes * APP_LIMITED_ROOM);
    if (this.recovery.cwndRoomBytes < leastRoomBytes || board.lostBytes > 0) return;
    rate.onAppLimited(this.recovery.inFlightBytes);
  }

  // ---- one poll

  /** A lost segment may go, or the FIN must. */
  hasUrgentWork(nowUs: Micros): boolean {
    const { board, space, pathProbe } = this.ctx;
    const lost = board.firstLost;
    if ((this.recovery.isRetransmitForced && lost !== null) || space.isFinDue) return true;
    if (pathProbe.isOn || lost === null) return false;
    this.#updatePacer(nowUs);
    return Math.min(this.recovery.cwndRoomBytes, this.#allowanceBytes(nowUs)) >= this.#retransmitUnit(lost);
  }

  /** Begins a poll, before probes and `transmit`. */
  beginPoll(): void {
    this.#pacingBlockedUntilUs = NEVER;
  }

  transmit(nowUs: Micros, sink: SegmentSink): void {
    const { board, space, cc, mss } = this.ctx;
    this.#updatePacer(nowUs);
    const before = this.sentBytes;
    while (sink.hasRoom() && this.#sendLost(nowUs, sink));
    if (board.firstLost === null) while (sink.hasRoom() && this.#sendNew(nowUs, sink));
    if (space.isFinDue && board.firstLost === null && sink.hasRoom()) this.#sendFin(nowUs, sink);
    if (this.sentBytes === before) return;
    this.#usage.onSent(space.sndUna, space.sndNxt, this.recovery.inFlightBytes, cc.cwndBytes, mss.bytes);
  }

  /** Retransmits (part of) the first lost record; false: none, or not now. */
  #sendLost(nowUs: Micros, sink: SegmentSink): boolean {
    const { board, ts } = this.ctx;
    const { recovery } = this;
    const rec = board.firstLost;
    if (rec === null) return false;
    const unit = this.#retransmitUnit(rec);
    let bytes = unit;
    if (!recovery.isRetransmitForced) {
      const cwndRoom = recovery.cwndRoomBytes;
      const allowance = this.#allowanceBytes(nowUs);
      if (cwndRoom < unit) {
        this.#usage.onLimited();
        return false;
      }
      if (allowance < unit) {
        this.#pacingBlockedUntilUs = this.#awaitCredit(nowUs);
        return false;
      }
      const most = this.#wholeSegments(Math.floor(Math.min(cwndRoom, allowance, this.#superCap())));
      bytes = Math.min(rec.lengthBytes, Math.max(unit, most));
    }
    recovery.isRetransmitForced = false;
    if (bytes < rec.lengthBytes) board.split(rec, rec.seq + bytes);
    recovery.undo.onRetransmitted(rec.seq, bytes, ts.enabled ? ts.valueAt(nowUs) : -1);
    recovery.onSent(bytes);
    this.retransmit(nowUs, sink, rec);
    return true;
  }

  /** Pulls and sends one (super-)unit; false: nothing to send, or not now. */
  #sendNew(nowUs: Micros, sink: SegmentSink): boolean {
    const { space, sf, owner, mss, cc } = this.ctx;
    if (space.finQueued || !sf.canSendData) return false;
    this.#restartAfterIdle(nowUs);
    const cwndRoom = this.recovery.cwndRoomBytes;
    const window = space.usableWindowBytes(mss.bytes);
    if (!owner.hasPending(sf)) {
      this.onAppLimited();
      return false;
    }
    if (cwndRoom < mss.bytes) {
      this.#usage.onLimited();
      return false;
    }
    if (window <= 0) return false;
    const allowance = this.#allowanceBytes(nowUs);
    if (allowance <= 0) {
      this.#pacingBlockedUntilUs = this.#awaitCredit(nowUs);
      const isNearlyFull = this.recovery.inFlightBytes + 2 * this.#pacer.quantumBytes >= cc.cwndBytes;
      if (isNearlyFull) this.#usage.onLimited();
      return false;
    }
    const most = this.#wholeSegments(Math.floor(Math.min(cwndRoom, window, allowance, this.#superCap())));
    if (!this.noDelay && this.#holdsForNagle(most)) return false;
    if (this.ctx.pmtu.isSearching && this.#sendMtuProbe(nowUs, sink, Math.min(cwndRoom, window))) return true;
    return this.pullAndSend(nowUs, sink, most);
  }

  /**
   * New data in one segment that is larger than others (RFC 4821 7.4, 7.5): nothing lost, and room for the three segments
   * behind it that make its loss known at once. False: not now.
   */
  #sendMtuProbe(nowUs: Micros, sink: SegmentSink, roomBytes: number): boolean {
    const { board, mss, owner, pmtu, sf, stats, space } = this.ctx;
    const { recovery } = this;
    if (!recovery.usesSack || recovery.phase !== 'open' || board.lostBytes > 0 || board.sackedBytes > 0) return false;
    const sizeBytes = pmtu.probeSizeBytes(nowUs);
    if (sizeBytes === 0) return false;
    const bytes = mss.bytesAt(sizeBytes);
    if (bytes <= mss.bytes) {
      pmtu.stopSearch(nowUs);
      return false;
    }
    if (roomBytes < bytes + PROBE_FOLLOWERS * mss.bytes) return false;
    const unit = owner.pull(nowUs, sf, bytes);
    if (unit === null) return false;
    const seq = space.sndNxt;
    this.#sendUnit(nowUs, sink, unit, Math.max(mss.bytes, unit.lengthBytes));
    if (unit.lengthBytes > mss.bytes) {
      stats.pmtuProbes++;
      pmtu.onProbeSent(seq, seq + unit.lengthBytes, mss.packetBytes(unit.lengthBytes));
    }
    return true;
  }

  /** RFC 5681 4.1: what the window was worth before a pause is not known to hold. Once per pause. */
  #restartAfterIdle(nowUs: Micros): void {
    const { board, space, rtt, cc } = this.ctx;
    const idleUs = nowUs - space.lastSentUs;
    if (!board.isEmpty || this.#hasRestarted || space.lastSentUs === 0 || idleUs <= rtt.rtoUs) return;
    this.#hasRestarted = true;
    cc.onIdleRestart(nowUs, idleUs, rtt.rtoUs);
  }

  /** RFC 9293 3.7.4: a segment that is not full waits while data is unacknowledged. Needs owner.pendingBytes. */
  #holdsForNagle(mostBytes: number): boolean {
    const { board, owner, sf, mss } = this.ctx;
    if (board.isEmpty || owner.pendingBytes === undefined) return false;
    return Math.min(mostBytes, owner.pendingBytes(sf)) < mss.bytes;
  }

  #superCap(): number {
    return Math.max(this.ctx.mss.bytes, this.#pacer.quantumBytes);
  }

  #wholeSegments(bytes: number): number {
    const { mss } = this.ctx;
    return bytes < mss.bytes ? bytes : bytes - (bytes % mss.bytes);
  }

  #retransmitUnit(rec: SentRecord): number {
    return Math.min(rec.lengthBytes, this.ctx.mss.bytes);
  }

  // ---- emission, also of probes

  /** New data of at most `maxBytes`, whatever the windows say; false: the owner gave none. */
  pullAndSend(nowUs: Micros, sink: SegmentSink, maxBytes: number): boolean {
    const { owner, sf } = this.ctx;
    const unit = owner.pull(nowUs, sf, maxBytes);
    // Pending bytes that we do not get are the scheduler's choice; it says itself when that leaves the path idle.
    if (unit === null) return false;
    this.#sendUnit(nowUs, sink, unit, this.ctx.mss.bytes);
    return true;
  }

  /** As segments of `segmentBytes`. */
  #sendUnit(nowUs: Micros, sink: SegmentSink, unit: SendUnit, segmentBytes: number): void {
    const { owner, sf, cc, stats, ecn } = this.ctx;
    this.#hasRestarted = false;
    const rec = this.#append(nowUs, unit);
    this.recovery.onSent(unit.lengthBytes);
    this.#spend(unit.lengthBytes);
    cc.onSent(nowUs, unit.lengthBytes, this.recovery.inFlightBytes);
    stats.bytesSent += unit.lengthBytes;
    const push = owner.hasPending(sf) ? 0 : TCP_PSH;
    this.#write(nowUs, sink, rec, segmentBytes, ecn.isOn, push | ecn.takeCwr());
  }

  #sendFin(nowUs: Micros, sink: SegmentSink): void {
    const rec = this.#append(nowUs, null);
    this.ctx.space.finSeq = rec.seq;
    this.#write(nowUs, sink, rec, this.ctx.mss.bytes, false, 0);
  }

  /** Takes sequence space at SND.NXT: for a unit, or for the FIN. */
  #append(nowUs: Micros, unit: SendUnit | null): SentRecord {
    const { board, rate, space } = this.ctx;
    if (board.isEmpty) this.recovery.restartRto(nowUs); // RFC 6298 5.1
    const isFlightEmpty = board.inFlightBytes === 0;
    const rec = board.append(nowUs, space.sndNxt, unit);
    rate.onSent(nowUs, rec, isFlightEmpty);
    space.sndNxt = rec.endSeq;
    space.lastSentUs = nowUs;
    this.recovery.probe.baseUs = nowUs;
    return rec;
  }

  retransmit(nowUs: Micros, sink: SegmentSink, rec: SentRecord): void {
    const { board, rate, space, cc, stats } = this.ctx;
    const isFlightEmpty = board.inFlightBytes === 0;
    board.markRetransmitted(nowUs, rec);
    rate.onSent(nowUs, rec, isFlightEmpty);
    // The earliest outstanding data goes again: the RTO must give this transmission its time.
    if (rec === board.head) this.recovery.restartRto(nowUs);
    space.lastSentUs = nowUs;
    this.#spend(rec.lengthBytes);
    cc.onSent(nowUs, rec.lengthBytes, this.recovery.inFlightBytes);
    stats.bytesRetransmitted += rec.lengthBytes;
    // Retransmissions are never ECT (RFC 3168 6.1.5).
    this.#write(nowUs, sink, rec, this.ctx.mss.bytes, false, 0);
  }

  #write(nowUs: Micros, sink: SegmentSink, rec: SentRecord, segmentBytes: number, ect: boolean, flags: number): void {
    const kind = rec.isFin ? 'fin' : 'data';
    const wire = rec.isFin ? flags | TCP_FIN : flags;
    const { seq, lengthBytes, tag, parts, firstOffset } = rec;
    const { writer } = this.ctx;
    writer.write(nowUs, sink, kind, wire, seq, lengthBytes, tag, parts, firstOffset, segmentBytes, ect);
  }
}

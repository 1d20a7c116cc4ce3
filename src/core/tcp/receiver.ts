/**
 * Receiving half of a subflow: RCV.NXT, what arrived out of order, the window's right edge, SACK and DSACK blocks, and
 * when to acknowledge. Read first: RFC 9293 3.4, 3.8.6; RFC 5681 4.2; RFC 2018; RFC 2883. Payload is not kept here.
 *
 *          RCV.NXT                                     right edge (greatest ever advertised)
 *   ▓▓▓▓▓▓▓▓▓│·····│▓▓▓▓▓│·······│▓▓▓▓▓▓▓▓│··············│
 *                    ranges (SACK)
 */
import { RangeSet } from '../base/ranges.js';
import { wrap32 } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import type { SubflowConfig, SubflowStats } from './config.js';

/** Blocks that fit beside timestamps are 3, without 4 (RFC 2018 3). */
const MAX_SACK_BLOCKS = 4;
/** Segment size assumed until one arrived (RFC 9293 3.7.1). */
const DEFAULT_RCV_MSS = 536;

export class Receiver {
  rcvNxt = 0;
  /** Highest sequence number received. */
  maxRcvNxt = 0;
  /** Greatest right edge ever advertised: what arrives below it is acceptable. */
  rightEdge = 0;
  /** Last acknowledgment number sent (Last.ACK.sent of RFC 7323). */
  lastAckSent = 0;

  /** An ACK is due now; `ackDeadlineUs`: it is due then. */
  ackNow = false;
  ackDeadlineUs: Micros = NEVER;

  readonly sackLeft = new Uint32Array(MAX_SACK_BLOCKS);
  readonly sackRight = new Uint32Array(MAX_SACK_BLOCKS);

  readonly #ranges = new RangeSet();
  /** A byte of each of the ranges that grew last, most recent first. */
  readonly #recent: number[] = [];
  #dsackStart = -1;
  #dsackEnd = -1;
  #unackedBytes = 0;
  #quickAcksLeft: number;
  #rcvMss = DEFAULT_RCV_MSS;
  #maxWindowBytes = 0;

  constructor(
    private readonly config: SubflowConfig,
    private readonly stats: SubflowStats,
  ) {
    this.#quickAcksLeft = config.quickAckSegments;
  }

  /** The peer's SYN was taken, with `dataBytes` that the caller keeps until the handshake is complete. */
  onSyn(dataBytes: number): void {
    this.rcvNxt = 1 + dataBytes;
    this.maxRcvNxt = this.rcvNxt;
    // The window of our own SYN was offered before there was a sequence number to count it from.
    this.rightEdge = Math.max(this.rightEdge + 1, this.rcvNxt);
  }

  get hasOutOfOrder(): boolean {
    return !this.#ranges.isEmpty;
  }

  /** Something to say that only a pure ACK has room for. */
  get hasSackNews(): boolean {
    return this.#dsackEnd >= 0 || !this.#ranges.isEmpty;
  }

  get windowBytes(): number {
    return Math.max(0, this.rightEdge - this.rcvNxt);
  }

  /** RFC 9293 3.10.7.4, first check; `lengthBytes` is SEG.LEN (SYN and FIN count). */
  isAcceptable(seq: number, lengthBytes: number): boolean {
    const window = this.windowBytes;
    const end = this.rcvNxt + window;
    if (lengthBytes === 0) return window === 0 ? seq === this.rcvNxt : seq >= this.rcvNxt && seq < end;
    if (window === 0) return false;
    const last = seq + lengthBytes - 1;
    return (seq >= this.rcvNxt && seq < end) || (last >= this.rcvNxt && last < end);
  }

  /** True: [seq, end) may be passed to `onData`; false: it would open one range too many (config.maxReceiveRanges). */
  hasRoomFor(seq: number, end: number): boolean {
    if (seq <= this.rcvNxt || this.#ranges.count < this.config.maxReceiveRanges) return true;
    return this.#ranges.touches(seq, end);
  }

  /**
   * Payload [seq, end) of segments of `segmentBytes` arrived, already trimmed to [rcvNxt, rightEdge): advances RCV.NXT,
   * notes ranges, decides about the ACK.
   */
  onData(nowUs: Micros, seq: number, end: number, segmentBytes: number): void {
    if (segmentBytes > this.#rcvMss) this.#rcvMss = Math.min(segmentBytes, this.config.mtuBytes);
    this.stats.bytesReceived += end - seq;
    this.maxRcvNxt = Math.max(this.maxRcvNxt, end);
    if (seq > this.rcvNxt) {
      if (this.#ranges.covers(seq, end)) this.noteDuplicate(seq, end);
      this.#ranges.add(seq, end);
      this.#noteRecent(seq);
      this.ackNow = true; // RFC 5681 4.2: out of order, at once
      return;
    }
    this.rcvNxt = Math.max(this.rcvNxt, end);
    if (!this.#ranges.isEmpty) {
      this.ackNow = true; // RFC 5681 4.2: fills (part of) a gap
      this.#ranges.removeBelow(this.rcvNxt);
      if (!this.#ranges.isEmpty && this.#ranges.startAt(0) === this.rcvNxt) {
        this.rcvNxt = this.#ranges.endAt(0);
        this.#ranges.removeBelow(this.rcvNxt);
      }
    }
    this.#unackedBytes += end - seq;
    this.#scheduleAck(nowUs, end - seq);
  }

  /** The peer's FIN at RCV.NXT was taken. */
  onFin(): void {
    this.rcvNxt++;
    this.maxRcvNxt = Math.max(this.maxRcvNxt, this.rcvNxt);
    this.ackNow = true;
  }

  /** [start, end) had arrived before: the next ACK says so in its first block (RFC 2883 4). */
  noteDuplicate(start: number, end: number): void {
    this.#dsackStart = start;
    this.#dsackEnd = end;
    this.ackNow = true;
  }

  /** More or less urgent than what is scheduled, an ACK leaves now: with any segment that carries one. */
  onAckSent(isPure: boolean): void {
    this.lastAckSent = this.rcvNxt;
    this.#unackedBytes = 0;
    this.ackDeadlineUs = NEVER;
    // A data segment has no room for SACK blocks: what they would say still waits for a pure ACK.
    if (isPure || !this.hasSackNews) this.ackNow = false;
    if (isPure) this.#dsackEnd = -1;
  }

  onTimer(nowUs: Micros): void {
    if (nowUs < this.ackDeadlineUs) return;
    this.ackDeadlineUs = NEVER;
    this.ackNow = true;
    this.stats.delayedAcks++;
  }

  /**
   * Blocks for the next ACK into sackLeft/sackRight (wire form), at most `max`; returns how many. DSACK first, then the
   * range that grew last, then others by age (RFC 2018 4, RFC 2883 4).
   */
  fillSackBlocks(max: number, irs: number): number {
    const limit = Math.min(max, MAX_SACK_BLOCKS);
    let n = 0;
    if (this.#dsackEnd >= 0 && n < limit) {
      this.#putBlock(n++, this.#dsackStart, this.#dsackEnd, irs);
      this.stats.dsacksSent++;
    }
    const firstRange = n;
    for (let k = 0; k < this.#recent.length && n < limit; ) {
      const i = this.#ranges.indexOf(this.#recent[k]!);
      const isNew = i >= 0 && !this.#isListed(wrap32(this.#ranges.startAt(i), irs), firstRange, n);
      if (isNew) {
        this.#putBlock(n++, this.#ranges.startAt(i), this.#ranges.endAt(i), irs);
        k++;
      } else {
        this.#recent.splice(k, 1);
      }
    }
    return n;
  }

  /**
   * Window field for a segment sent now. `windowBytes` is the owner's; `keepEdge` (plain TCP) never takes back what was
   * offered (RFC 9293 3.8.6) and moves the edge by a segment or more at a time (silly windows, 3.8.6.2.2). A window of
   * MPTCP is relative to the DATA_ACK, which only its owner knows, so there it goes out as it is.
   */
  advertise(windowBytes: number, shift: number, keepEdge: boolean): number {
    let window = Math.max(0, windowBytes);
    this.#maxWindowBytes = Math.max(this.#maxWindowBytes, window);
    if (keepEdge) {
      const offered = this.windowBytes;
      // min(half the buffer, one segment); the buffer is at least as large as any window seen.
      const isWorthwhile = window > offered && window - offered >= Math.min(this.#rcvMss, this.#maxWindowBytes / 2);
      if (!isWorthwhile) window = offered;
    }
    // Rounding down may take back less than one unit of the scale; what was offered stays acceptable (RFC 7323 2.4).
    const field = Math.min(0xffff, Math.floor(window / 2 ** shift));
    this.rightEdge = Math.max(this.rightEdge, this.rcvNxt + field * 2 ** shift);
    return field;
  }

  #scheduleAck(nowUs: Micros, newBytes: number): void {
    // RFC 9293 3.8.6.3: at least every second full segment, counted in bytes: a super-packet is acknowledged once.
    if (this.#unackedBytes >= 2 * this.#rcvMss) this.ackNow = true;
    if (this.#quickAcksLeft > 0) {
      this.#quickAcksLeft -= Math.ceil(newBytes / this.#rcvMss);
      this.ackNow = true;
    }
    if (!this.ackNow && this.ackDeadlineUs === NEVER) this.ackDeadlineUs = nowUs + this.config.delayedAckUs;
  }

  #noteRecent(seq: number): void {
    const recent = this.#recent;
    const i = this.#ranges.indexOf(seq);
    const start = this.#ranges.startAt(i);
    const end = this.#ranges.endAt(i);
    let keep = 0;
    for (const x of recent) if ((x < start || x >= end) && keep < MAX_SACK_BLOCKS * 2) recent[keep++] = x;
    recent.length = keep;
    recent.unshift(seq);
  }

  #isListed(left: number, from: number, to: number): boolean {
    for (let i = from; i < to; i++) if (this.sackLeft[i] === left) return true;
    return false;
  }

  #putBlock(i: number, start: number, end: number, irs: number): void {
    this.sackLeft[i] = wrap32(start, irs);
    this.sackRight[i] = wrap32(end, irs);
  }
}

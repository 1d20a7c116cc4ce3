/**
 * What a subflow has sent and not yet had cumulatively acknowledged: one record per transmitted (super-)unit, in
 * sequence order, each in flight, lost (to be sent again) or SACKed. Read first: RFC 2018 4 to 8, RFC 6675 2 to 4.
 *
 *   SND.UNA                                                          SND.NXT
 *      │ lost │ in flight │ ▓ SACKed ▓ │ lost │ ▓▓▓ SACKed ▓▓▓ │ in flight │
 *      head ⇄ ……………………………………………… sequence list …………………………………………… ⇄ tail
 *
 * A record is also in one of two further lists: by time of transmission while in flight (RACK walks it from the oldest),
 * or by sequence while lost (retransmission takes the first). SACKed stretches are kept as runs, so that a SACK block is
 * compared with a handful of runs and only the records that it newly covers are touched. A block that ends within a
 * record splits it: both halves keep the parts, with different offsets, and the tag.
 */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import type { SendUnit } from './owner.js';

const NO_PARTS: readonly Uint8Array[] = [];
/** Records kept for reuse. */
const MAX_POOLED = 512;

export const IN_FLIGHT = 0;
export const LOST = 1;
export const SACKED = 2;

export class SentRecord {
  seq = 0;
  /** seq + lengthBytes, + 1 for a FIN. */
  endSeq = 0;
  lengthBytes = 0;
  isFin = false;
  parts: readonly Uint8Array[] = NO_PARTS;
  /** Bytes of `parts` before this record's first. */
  firstOffset = 0;
  tag: unknown = null;

  status = IN_FLIGHT;
  /** Last and first transmission. */
  sentUs: Micros = 0;
  firstSentUs: Micros = 0;
  transmissions = 0;

  // Delivery-rate snapshot at the last transmission (see delivery-rate.ts).
  priorDeliveredBytes = 0;
  priorDeliveredUs: Micros = 0;
  flightStartUs: Micros = 0;
  isAppLimited = false;

  prev: SentRecord | null = null;
  next: SentRecord | null = null;
  /** Links of the time list or of the lost list, by `status`. */
  queuePrev: SentRecord | null = null;
  queueNext: SentRecord | null = null;
}

/** Told of each piece when it is first known to have arrived, and of each when it is cumulatively acknowledged. */
export interface ScoreboardObserver {
  /** [rec.seq, endSeq) arrived (SACK or cumulative ACK); it was not SACKed before. `rec` still says how it was sent. */
  onDelivered(rec: SentRecord, endSeq: number): void;
  onAcked(seq: number, lengthBytes: number, tag: unknown): void;
}

class RecordQueue {
  head: SentRecord | null = null;
  tail: SentRecord | null = null;

  insertAfter(rec: SentRecord, after: SentRecord | null): void {
    const next = after === null ? this.head : after.queueNext;
    rec.queuePrev = after;
    rec.queueNext = next;
    if (after === null) this.head = rec;
    else after.queueNext = rec;
    if (next === null) this.tail = rec;
    else next.queuePrev = rec;
  }

  remove(rec: SentRecord): void {
    if (rec.queuePrev === null) this.head = rec.queueNext;
    else rec.queuePrev.queueNext = rec.queueNext;
    if (rec.queueNext === null) this.tail = rec.queuePrev;
    else rec.queueNext.queuePrev = rec.queuePrev;
    rec.queuePrev = null;
    rec.queueNext = null;
  }
}

interface SackRun {
  startSeq: number;
  endSeq: number;
  first: SentRecord;
  last: SentRecord;
}

export class Scoreboard {
  head: SentRecord | null = null;
  tail: SentRecord | null = null;
  /** Sequence space by status; in flight is RFC 6675's pipe. */
  inFlightBytes = 0;
  lostBytes = 0;
  sackedBytes = 0;
  /** Records held: for tests and limits. */
  recordCount = 0;

  readonly #byTime = new RecordQueue();
  readonly #lost = new RecordQueue();
  readonly #runs: SackRun[] = [];
  readonly #pool: SentRecord[] = [];

  constructor(private readonly observer: ScoreboardObserver) {}

  get isEmpty(): boolean {
    return this.head === null;
  }

  /** Oldest transmission in flight; follow `queueNext`. */
  get oldestInFlight(): SentRecord | null {
    return this.#byTime.head;
  }

  /** The lost record with the lowest sequence number. */
  get firstLost(): SentRecord | null {
    return this.#lost.head;
  }

  /** Number of separate SACKed stretches. */
  get sackRuns(): number {
    return this.#runs.length;
  }

  /** Highest SACKed sequence number, or `otherwise`. */
  highestSacked(otherwise: number): number {
    const run = this.#runs.at(-1);
    return run === undefined ? otherwise : run.endSeq;
  }

  /** A new transmission at the right edge. `unit` null: a FIN. */
  append(nowUs: Micros, seq: number, unit: SendUnit | null): SentRecord {
    const rec = this.#take();
    rec.seq = seq;
    if (unit === null) {
      rec.lengthBytes = 0;
      rec.isFin = true;
      rec.endSeq = seq + 1;
      rec.parts = NO_PARTS;
      rec.firstOffset = 0;
      rec.tag = null;
    } else {
      rec.lengthBytes = unit.lengthBytes;
      rec.isFin = false;
      rec.endSeq = seq + unit.lengthBytes;
      rec.parts = unit.parts;
      rec.firstOffset = unit.firstOffset;
      rec.tag = unit.tag;
    }
    rec.status = IN_FLIGHT;
    rec.sentUs = nowUs;
    rec.firstSentUs = nowUs;
    rec.transmissions = 1;
    rec.prev = this.tail;
    rec.next = null;
    if (this.tail === null) this.head = rec;
    else this.tail.next = rec;
    this.tail = rec;
    this.#byTime.insertAfter(rec, this.#byTime.tail);
    this.inFlightBytes += rec.endSeq - rec.seq;
    return rec;
  }

  /** Cumulative ACK: everything below `una` is done with. */
  ackTo(una: number): void {
    let rec = this.head;
    while (rec !== null && rec.seq < una) {
      const upTo = Math.min(una, rec.endSeq);
      const bytes = upTo - rec.seq;
      const payloadBytes = Math.min(bytes, rec.lengthBytes);
      if (rec.status !== SACKED) this.observer.onDelivered(rec, upTo);
      this.#account(rec.status, -bytes);
      const { seq, tag } = rec;
      let next: SentRecord | null = rec;
      if (upTo === rec.endSeq) {
        next = rec.next;
        this.#remove(rec);
      } else {
        rec.seq = upTo;
        rec.lengthBytes -= payloadBytes;
        rec.firstOffset += payloadBytes;
      }
      if (payloadBytes > 0) this.observer.onAcked(seq, payloadBytes, tag);
      rec = next;
    }
    while (this.#runs.length > 0 && this.#runs[0]!.endSeq <= una) this.#runs.shift();
    const run = this.#runs[0];
    if (run !== undefined && run.startSeq < una) {
      run.startSeq = una;
      run.first = this.head!;
    }
  }

  /** One SACK block, already clipped to (SND.UNA, SND.NXT]. Touches only records that it newly covers. */
  sack(left: number, right: number): void {
    const runs = this.#runs;
    let i = runs.length;
    while (i > 0 && runs[i - 1]!.endSeq >= left) i--;
    let cursor = left;
    while (cursor < right) {
      const run = runs[i];
      if (run !== undefined && run.startSeq <= cursor) {
        cursor = Math.max(cursor, run.endSeq);
        i++;
        continue;
      }
      const gapEnd = run === undefined ? right : Math.min(right, run.startSeq);
      if (!this.#sackGap(cursor, gapEnd, i)) return;
      cursor = gapEnd;
      if (i > 0 && runs[i - 1]!.endSeq >= cursor) i--; // the gap was merged into the run before it
    }
  }

  /** RACK, RTO or duplicate ACKs gave this record up. */
  markLost(rec: SentRecord): void {
    this.#byTime.remove(rec);
    this.#account(IN_FLIGHT, rec.seq - rec.endSeq);
    rec.status = LOST;
    this.#account(LOST, rec.endSeq - rec.seq);
    // Nearly always the highest lost one, or (a retransmission lost again) the lowest.
    let after = this.#lost.head !== null && rec.seq < this.#lost.head.seq ? null : this.#lost.tail;
    while (after !== null && after.seq > rec.seq) after = after.queuePrev;
    this.#lost.insertAfter(rec, after);
  }

  /** A lost record, or one in flight (tail loss probe), goes out again now. */
  markRetransmitted(nowUs: Micros, rec: SentRecord): void {
    const queue = rec.status === LOST ? this.#lost : this.#byTime;
    queue.remove(rec);
    this.#account(rec.status, rec.seq - rec.endSeq);
    rec.status = IN_FLIGHT;
    rec.sentUs = nowUs;
    rec.transmissions++;
    this.#byTime.insertAfter(rec, this.#byTime.tail);
    this.#account(IN_FLIGHT, rec.endSeq - rec.seq);
  }

  /** The loss was an illusion: what waits for retransmission counts as in flight again (RFC 3522, RFC 5682). */
  unmarkLost(): void {
    for (let rec = this.#lost.tail; rec !== null; rec = this.#lost.tail) {
      this.#lost.remove(rec);
      this.#account(LOST, rec.seq - rec.endSeq);
      rec.status = IN_FLIGHT;
      this.#account(IN_FLIGHT, rec.endSeq - rec.seq);
      this.#byTime.insertAfter(rec, null); // sent before anything that is still in flight
    }
  }

  /** The receiver took a SACK back (RFC 2018 8): all SACKed records are lost. */
  renege(): void {
    this.#runs.length = 0;
    for (let rec = this.head; rec !== null; rec = rec.next) {
      if (rec.status !== SACKED) continue;
      this.#account(SACKED, rec.seq - rec.endSeq);
      rec.status = IN_FLIGHT;
      this.#account(IN_FLIGHT, rec.endSeq - rec.seq);
      this.#byTime.insertAfter(rec, null);
      this.markLost(rec);
    }
  }

  /** Cuts `rec` at sequence number `at`, strictly inside it; returns the second half. */
  split(rec: SentRecord, at: number): SentRecord {
    const rest = this.#take();
    const firstBytes = at - rec.seq;
    rest.seq = at;
    rest.endSeq = rec.endSeq;
    rest.lengthBytes = rec.lengthBytes - firstBytes;
    rest.isFin = rec.isFin;
    rest.parts = rec.parts;
    rest.firstOffset = rec.firstOffset + firstBytes;
    rest.tag = rec.tag;
    rest.status = rec.status;
    rest.sentUs = rec.sentUs;
    rest.firstSentUs = rec.firstSentUs;
    rest.transmissions = rec.transmissions;
    rest.priorDeliveredBytes = rec.priorDeliveredBytes;
    rest.priorDeliveredUs = rec.priorDeliveredUs;
    rest.flightStartUs = rec.flightStartUs;
    rest.isAppLimited = rec.isAppLimited;
    rec.endSeq = at;
    rec.lengthBytes = firstBytes;
    rec.isFin = false;

    rest.prev = rec;
    rest.next = rec.next;
    if (rec.next === null) this.tail = rest;
    else rec.next.prev = rest;
    rec.next = rest;
    if (rec.status === IN_FLIGHT) this.#byTime.insertAfter(rest, rec);
    else if (rec.status === LOST) this.#lost.insertAfter(rest, rec);
    return rest;
  }

  /** When the earliest outstanding byte was first sent; NEVER if nothing is outstanding. */
  get oldestFirstSentUs(): Micros {
    return this.head === null ? NEVER : this.head.firstSentUs;
  }

  /** Marks [from, to), which no run covers, and adds it as run `i`, merged with its neighbours. False: not ours. */
  #sackGap(from: number, to: number, i: number): boolean {
    const runs = this.#runs;
    let rec = i > 0 ? runs[i - 1]!.last.next : this.head;
    while (rec !== null && rec.endSeq <= from) rec = rec.next;
    if (rec === null) return false;
    if (rec.seq < from) rec = this.split(rec, from);
    const first = rec;
    let last = rec;
    while (rec !== null && rec.seq < to) {
      if (rec.endSeq > to) this.split(rec, to);
      this.#markSacked(rec);
      last = rec;
      rec = rec.next;
    }
    const before = runs[i - 1];
    const after = runs[i];
    const joinsBefore = before !== undefined && before.endSeq === from;
    const joinsAfter = after !== undefined && after.startSeq === to;
    if (joinsBefore && joinsAfter) {
      before.endSeq = after.endSeq;
      before.last = after.last;
      runs.splice(i, 1);
    } else if (joinsBefore) {
      before.endSeq = to;
      before.last = last;
    } else if (joinsAfter) {
      after.startSeq = from;
      after.first = first;
    } else {
      runs.splice(i, 0, { startSeq: from, endSeq: to, first, last });
    }
    return true;
  }

  #markSacked(rec: SentRecord): void {
    this.observer.onDelivered(rec, rec.endSeq);
    (rec.status === LOST ? this.#lost : this.#byTime).remove(rec);
    this.#account(rec.status, rec.seq - rec.endSeq);
    rec.status = SACKED;
    this.#account(SACKED, rec.endSeq - rec.seq);
  }

  #account(status: number, bytes: number): void {
    if (status === IN_FLIGHT) this.inFlightBytes += bytes;
    else if (status === LOST) this.lostBytes += bytes;
    else this.sackedBytes += bytes;
  }

  #remove(rec: SentRecord): void {
    if (rec.prev === null) this.head = rec.next;
    else rec.prev.next = rec.next;
    if (rec.next === null) this.tail = rec.prev;
    else rec.next.prev = rec.prev;
    if (rec.status === IN_FLIGHT) this.#byTime.remove(rec);
    else if (rec.status === LOST) this.#lost.remove(rec);
    rec.prev = null;
    rec.next = null;
    rec.parts = NO_PARTS;
    rec.tag = null;
    this.recordCount--;
    if (this.#pool.length < MAX_POOLED) this.#pool.push(rec);
  }

  #take(): SentRecord {
    this.recordCount++;
    return this.#pool.pop() ?? new SentRecord();
  }
}

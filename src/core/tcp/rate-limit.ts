/**
 * An operator's limit on a path: one bucket for all connections that use it (the lanes of a session, flows of their own),
 * so that whoever has something to send may use what the others leave, at once, and all together never send more.
 *
 * Who found no credit waits in line and takes its share when it is its turn. Who does not come for it, because its bytes
 * are gone or went elsewhere, loses its place; credit is not kept for it for longer than `TURN_US`.
 */
import type { Micros } from '../base/time.js';
import { NEVER, US_PER_S } from '../base/time.js';

/** Most credit that is kept, as time: what a busy machine's late wake-up may send. */
const BURST_US = 50_000;
/** For so long credit that has accrued waits for who is first in line. */
const TURN_US = 50_000;
/** Who would have credit if it were first in line looks again after as long as a unit takes, within these bounds. */
const MIN_LOOK_US = 1_000;
const MAX_LOOK_US = 10_000;
/** Who waits beyond that is not in line, and takes what it finds. */
const MAX_WAITING = 64;

export class RateLimit {
  #creditBytes = 0;
  #updatedUs: Micros = 0;
  #rateBytesPerS: number;
  /** In line, first come first; compared by identity only. */
  readonly #waiting: object[] = [];
  /** Since when the first in line could have taken its unit. */
  #turnUs: Micros = NEVER;

  constructor(bytesPerS: number) {
    this.#rateBytesPerS = bytesPerS;
  }

  get rateBytesPerS(): number {
    return this.#rateBytesPerS;
  }

  /** Another limit from now on. */
  setRate(nowUs: Micros, bytesPerS: number): void {
    this.#update(nowUs, 0);
    this.#rateBytesPerS = bytesPerS;
  }

  /** What `user` may send now: nothing, or at least one unit. */
  allowanceBytes(nowUs: Micros, user: object, unitBytes: number): number {
    this.#update(nowUs, unitBytes);
    if (this.#creditBytes < unitBytes || !this.#isFirst(nowUs, user)) return 0;
    const others = this.#waiting.length - (this.#waiting.includes(user) ? 1 : 0);
    return Math.max(unitBytes, this.#creditBytes / (others + 1));
  }

  /** When to ask again; `nowUs`: there is credit. `user` has bytes, and is in line from now on where there is none. */
  awaitCredit(nowUs: Micros, user: object, unitBytes: number): Micros {
    if (this.allowanceBytes(nowUs, user, unitBytes) > 0) {
      // It could have had it: it does not want it here.
      this.leave(user);
      return nowUs;
    }
    let place = this.#waiting.indexOf(user);
    if (place < 0) {
      place = this.#waiting.length;
      if (place < MAX_WAITING) this.#waiting.push(user);
    }
    const missingBytes = (place + 1) * unitBytes - this.#creditBytes;
    if (missingBytes > 0) return nowUs + this.#timeUs(missingBytes);
    return nowUs + Math.min(MAX_LOOK_US, Math.max(MIN_LOOK_US, this.#timeUs(unitBytes)));
  }

  /** As `awaitCredit`, without a place in line. */
  readyAtUs(nowUs: Micros, user: object, unitBytes: number): Micros {
    if (this.allowanceBytes(nowUs, user, unitBytes) > 0) return nowUs;
    const missingBytes = unitBytes - this.#creditBytes;
    return nowUs + this.#timeUs(missingBytes > 0 ? missingBytes : unitBytes);
  }

  /** Has sent so much (retransmissions and probes may overdraw), and goes to the end of the line if it wants more. */
  spend(user: object, bytes: number): void {
    this.#creditBytes -= bytes;
    this.leave(user);
  }

  /** Has nothing to send any more, or not here. */
  leave(user: object): void {
    const place = this.#waiting.indexOf(user);
    if (place < 0) return;
    this.#waiting.splice(place, 1);
    if (place === 0) this.#turnUs = NEVER;
  }

  #isFirst(nowUs: Micros, user: object): boolean {
    if (this.#waiting.length === 0 || this.#waiting[0] === user) return true;
    if (this.#turnUs === NEVER) this.#turnUs = nowUs;
    if (nowUs - this.#turnUs < TURN_US) return false;
    this.leave(this.#waiting[0]!);
    return this.#isFirst(nowUs, user);
  }

  #update(nowUs: Micros, unitBytes: number): void {
    const capBytes = Math.max((this.#waiting.length + 1) * unitBytes, this.#timesRate(BURST_US));
    const earnedBytes = this.#timesRate(nowUs - this.#updatedUs);
    if (this.#creditBytes < capBytes) this.#creditBytes = Math.min(capBytes, this.#creditBytes + earnedBytes);
    this.#updatedUs = nowUs;
  }

  #timesRate(us: Micros): number {
    return (us * this.#rateBytesPerS) / US_PER_S;
  }

  #timeUs(bytes: number): Micros {
    return Math.ceil((bytes * US_PER_S) / this.#rateBytesPerS);
  }
}

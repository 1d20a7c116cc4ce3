/**
 * The receiver's part in finding dead paths (DESIGN 3.4). A path that was busy falls silent while bytes behind a hole wait:
 * what would fill the hole was probably sent there. Its sender may be slow to notice (it allows two of its round trips, and
 * a bloated queue makes those long), so it is told: the driver hears `subflow-silent` and passes it on (policy channel).
 */
import { type Micros, NEVER, US_PER_MS } from '../base/time.js';
import type { Connection } from './connection.js';
import type { MptcpSubflow } from './subflow.js';

/** Silence that tells; longer than a radio that scans other channels is deaf (100 to 250 ms). */
export const SILENCE_US: Micros = 300 * US_PER_MS;
/** A path is busy when payload came for this long without a pause of more than that, and so many bytes of it. */
const BUSY_FOR_US: Micros = 100 * US_PER_MS;
const MAX_PAUSE_US: Micros = 50 * US_PER_MS;
const BUSY_BYTES = 16_384;

/** When payload arrived on one subflow: the run of arrivals that is under way, or was the last. */
export class Arrivals {
  lastUs: Micros = 0;
  private runSinceUs: Micros = 0;
  private runBytes = 0;

  note(nowUs: Micros, lengthBytes: number): void {
    if (nowUs - this.lastUs > MAX_PAUSE_US) {
      this.runSinceUs = nowUs;
      this.runBytes = 0;
    }
    this.lastUs = nowUs;
    this.runBytes += lengthBytes;
  }

  /** The last run was no trickle. */
  get wasBusy(): boolean {
    return this.lastUs - this.runSinceUs >= BUSY_FOR_US && this.runBytes >= BUSY_BYTES;
  }
}

export class Silence {
  /** When rcvNxt last moved, or the hole before it opened, as far as polls saw it. */
  private stuckSinceUs: Micros = 0;
  private seenRcvNxt = -1;

  constructor(private readonly c: Connection) {}

  /** Payload arrived on `sf`. */
  onPayload(nowUs: Micros, sf: MptcpSubflow, lengthBytes: number): void {
    sf.arrivals.note(nowUs, lengthBytes);
    if (!sf.isSilent) return;
    sf.isSilent = false;
    this.emit('subflow-heard', sf);
  }

  /** Every poll. */
  check(nowUs: Micros): void {
    const { receiver, subflows } = this.c;
    if (!receiver.hasHole || receiver.rcvNxt !== this.seenRcvNxt) {
      this.seenRcvNxt = receiver.rcvNxt;
      this.stuckSinceUs = nowUs;
      return;
    }
    for (const sf of subflows) {
      if (this.silentAtUs(sf) > nowUs) continue;
      sf.isSilent = true;
      this.c.host.count('subflow_silent');
      this.emit('subflow-silent', sf);
    }
  }

  nextDeadline(): Micros {
    if (!this.c.receiver.hasHole) return NEVER;
    let at = NEVER;
    for (const sf of this.c.subflows) at = Math.min(at, this.silentAtUs(sf));
    return at;
  }

  /** When the silence of `sf` will tell; NEVER if it was not busy, or nothing else arrives (then the sender pauses). */
  private silentAtUs(sf: MptcpSubflow): Micros {
    const { arrivals } = sf;
    if (sf.isSilent || sf.isLinkDown || !sf.isConfirmed || !arrivals.wasBusy) return NEVER;
    const isHeardElsewhere = this.c.subflows.some((other) => other.arrivals.lastUs > arrivals.lastUs);
    return isHeardElsewhere ? Math.max(arrivals.lastUs, this.stuckSinceUs) + SILENCE_US : NEVER;
  }

  private emit(type: 'subflow-silent' | 'subflow-heard', sf: MptcpSubflow): void {
    const { c } = this;
    c.host.emit({ type, connectionId: c.id, subflowId: sf.id, linkId: sf.flow.linkId });
  }
}

/**
 * The receiver's part in finding dead paths (DESIGN 3.4). A path that was busy falls silent while bytes behind a hole wait:
 * what would fill the hole was probably sent there. Its sender may be slow to notice (it allows two of its round trips, and
 * a bloated queue makes those long), so it is told: the driver hears `subflow-silent` and passes it on (policy channel).
 *
 * Where nothing waits behind a hole the sender may simply have nothing to send; or the path is dead, and with it all that
 * could have said so. Who only receives has nothing in flight that would miss its acknowledgment, so it asks: a few probes,
 * and without an answer to any the path counts as stalled.
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

/** So many questions after a silence, each with so much time (two round trips where that is more) for its answer. */
const ASKS = 3;
const ANSWER_US: Micros = 100 * US_PER_MS;

/** When payload arrived on one subflow: the run of arrivals that is under way, or was the last. */
export class Arrivals {
  lastUs: Micros = 0;
  private runSinceUs: Micros = 0;
  private runBytes = 0;
  /** Questions since, when the first and the last were asked, and whether one was answered. */
  asks = 0;
  firstAskUs: Micros = 0;
  lastAskUs: Micros = 0;
  isAnswered = false;

  note(nowUs: Micros, lengthBytes: number): void {
    this.asks = 0;
    this.isAnswered = false;
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
    for (const sf of this.c.subflows) if (this.askAtUs(sf) <= nowUs) this.ask(nowUs, sf);
    this.checkHole(nowUs);
  }

  private checkHole(nowUs: Micros): void {
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
    const { receiver, subflows } = this.c;
    let at = NEVER;
    for (const sf of subflows) at = Math.min(at, this.askAtUs(sf), receiver.hasHole ? this.silentAtUs(sf) : NEVER);
    return at;
  }

  /** When `sf` will have been silent for long enough to be asked (again); NEVER where its own bytes in flight will tell. */
  private askAtUs(sf: MptcpSubflow): Micros {
    const { arrivals, tcp } = sf;
    if (!arrivals.wasBusy || arrivals.isAnswered || sf.isStalled || sf.isLinkDown || sf.isClosing) return NEVER;
    if (this.c.mode !== 'mptcp' || !sf.isConfirmed || tcp.oldestUnackedSentUs !== NEVER) return NEVER;
    if (arrivals.asks === 0) return Math.max(arrivals.lastUs, tcp.lastReceivedUs) + SILENCE_US;
    return arrivals.lastAskUs + Math.max(ANSWER_US, 2 * tcp.rtt.srttUs);
  }

  private ask(nowUs: Micros, sf: MptcpSubflow): void {
    const { arrivals, tcp } = sf;
    if (arrivals.asks > 0 && tcp.lastReceivedUs > arrivals.firstAskUs) {
      arrivals.isAnswered = true;
      return;
    }
    if (arrivals.asks === ASKS) {
      arrivals.isAnswered = true; // a path that stalls is probed anyway
      this.c.health.suspect(nowUs, sf, 'silent, and no answer to probes');
      return;
    }
    if (arrivals.asks === 0) arrivals.firstAskUs = nowUs;
    arrivals.lastAskUs = nowUs;
    arrivals.asks++;
    this.c.host.count('silence_asked');
    tcp.kick(nowUs);
    this.c.host.markDirty(this.c);
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

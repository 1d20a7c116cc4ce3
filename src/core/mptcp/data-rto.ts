/**
 * The data-level retransmission timer (RFC 8684 3.3.6): subflows have delivered, but DATA_ACK stands still, so what they
 * delivered is not what the peer has. It is sent again from sndUna on, clocked by DATA_ACKs (which jump over what the peer
 * does have), in steps that double as long as it helps.
 *
 * What a subflow has acknowledged, DATA_ACK follows in the same segment, or close behind where a proxy acknowledges for the
 * peer: how close is learned. So it is missed soon; each time that this does not help it is given twice as long, up to a
 * second. Bytes that nobody is known to have delivered are given that from the first, and so is all on an only path.
 */
import { type Micros, NEVER, US_PER_MS, US_PER_S } from '../base/time.js';
import type { Connection } from './connection.js';
import type { MptcpSubflow } from './subflow.js';

/** Data acknowledged by subflows but not by DATA_ACK is sent again after this long at the latest, ... */
export const DATA_RTO_US: Micros = US_PER_S;
/** ... and after two round trips, what they vary by, and this at the earliest. */
const MIN_US: Micros = 60 * US_PER_MS;
const VARIANCE_CAP_US: Micros = 100 * US_PER_MS;
/** A delay of DATA_ACK behind the subflow's own is expected twice as long, and forgotten by this share an advance. */
const LAG_FACTOR = 2;
const LAG_DECAY = 1 / 64;
/** First step of the retransmissions that follow, and the largest. */
const FIRST_STEP_BYTES = 65_536;
const MAX_STEP_BYTES = 1 << 20;

export class DataRto {
  deadlineUs: Micros = NEVER;
  /** Times that it has run out for good reason. */
  timeouts = 0;
  /** Recovery: up to which DSN, what has gone again so far, and the step. */
  private recoverTo = 0;
  private reinjectedTo = 0;
  private stepBytes = 0;
  /** Since when DATA_ACK stands still, and since when a subflow has acknowledged the first byte that it lacks (or NEVER). */
  private stuckSinceUs: Micros = 0;
  private deliveredUs: Micros = NEVER;
  /** Timeouts since DATA_ACK last moved, and when the last one was. */
  private tries = 0;
  private lastTryUs: Micros = 0;
  /** By how much DATA_ACK is seen to follow. */
  private lagUs: Micros = 0;

  constructor(private readonly c: Connection) {}

  /** A subflow acknowledges bytes from `dsn` to `endDsn`, which DATA_ACK may or may not cover. */
  onDelivered(nowUs: Micros, dsn: number, endDsn: number): void {
    const { sndUna } = this.c.sender;
    if (dsn <= sndUna && sndUna < endDsn && this.deliveredUs === NEVER) this.deliveredUs = nowUs;
    // If no DATA_ACK ever says so, somebody must notice.
    if (this.deadlineUs === NEVER) this.restart(nowUs, false);
  }

  /** A DATA_ACK came, and sndUna was `prevUna` before. */
  onDataAck(nowUs: Micros, prevUna: number): void {
    if (this.c.sender.sndUna <= prevUna) return;
    this.learn(nowUs);
    this.deliveredUs = NEVER;
    this.tries = 0;
    if (prevUna >= this.recoverTo) return;
    this.stepBytes = Math.min(2 * this.stepBytes, MAX_STEP_BYTES);
    this.goOn();
  }

  /** Behind a DATA_ACK: runs while data is unacknowledged, and starts over with every advance. */
  restart(nowUs: Micros, isAdvance: boolean): void {
    if (this.c.sender.unackedBytes === 0) this.deadlineUs = NEVER;
    else if (this.deadlineUs === NEVER || isAdvance) {
      this.stuckSinceUs = nowUs;
      this.deadlineUs = nowUs + this.timeoutUs(true);
    }
  }

  stop(): void {
    this.deadlineUs = NEVER;
  }

  /** If no subflow is still working on the first bytes, they go again anywhere. */
  onTimer(nowUs: Micros): void {
    const { c } = this;
    const { sender } = c;
    this.deadlineUs = NEVER;
    if (c.mode !== 'mptcp' || sender.unackedBytes === 0 || c.fallback.isUnderWay) return;
    const una = sender.sndUna;
    const isWorkedOn = (sf: MptcpSubflow) =>
      !sf.isStalled && sf.tcp.canSendData && c.reinjector.hasOutstanding(sf, una);
    const isDelivered = this.deliveredUs !== NEVER;
    const timeoutUs = this.timeoutUs(isDelivered);
    this.deadlineUs = nowUs + timeoutUs;
    if (c.subflows.some(isWorkedOn)) return;
    const dueUs = (isDelivered ? Math.max(this.deliveredUs, this.lastTryUs) : this.stuckSinceUs) + timeoutUs;
    if (nowUs < dueUs) {
      this.deadlineUs = dueUs;
      return;
    }
    this.tries++;
    this.lastTryUs = nowUs;
    if (!isDelivered) this.stuckSinceUs = nowUs;
    this.deadlineUs = nowUs + this.timeoutUs(isDelivered);
    this.timeouts++;
    c.host.count('data_rto');
    if (!c.fallback.resetStripped(nowUs)) this.recover(nowUs);
  }

  /** Everything from sndUna on goes again, in steps: the peer has said or shown that it lacks it. */
  recover(nowUs: Micros): void {
    const { c } = this;
    const { sender } = c;
    if (this.deadlineUs === NEVER) this.deadlineUs = nowUs + this.timeoutUs(false);
    this.recoverTo = Math.min(sender.sndNxt, sender.buffer.endDsn);
    this.reinjectedTo = sender.sndUna;
    this.stepBytes = FIRST_STEP_BYTES;
    this.goOn();
  }

  /** Never before the slowest working subflow could have repaired it itself; sooner where that is no question any more. */
  private timeoutUs(isDelivered: boolean): Micros {
    let latest = DATA_RTO_US;
    let soon = MIN_US;
    let usable = 0;
    for (const sf of this.c.subflows) {
      if (!sf.isUsable || sf.isStalled) continue;
      usable++;
      const { rtoUs, srttUs, rttVarUs, hasSample } = sf.tcp.rtt;
      latest = Math.max(latest, 2 * rtoUs);
      soon = hasSample ? Math.max(soon, 2 * srttUs, srttUs + Math.min(4 * rttVarUs, VARIANCE_CAP_US)) : latest;
    }
    // What the only path has delivered would go the same way again.
    if (!isDelivered || usable < 2) return latest;
    return Math.round(Math.min(latest, (soon + LAG_FACTOR * this.lagUs) * 2 ** Math.min(this.tries, 8)));
  }

  /**
   * What DATA_ACK covers now a subflow had acknowledged earlier: by so much it follows. Where our sending again may have had
   * a part in it, half of that counts: enough not to be too early again and again, and never to know.
   */
  private learn(nowUs: Micros): void {
    this.lagUs -= this.lagUs * LAG_DECAY;
    if (this.deliveredUs === NEVER) return;
    const lagUs = nowUs - this.deliveredUs;
    this.lagUs = Math.max(this.lagUs, this.tries > 0 ? lagUs / 2 : lagUs);
  }

  private goOn(): void {
    const { c } = this;
    const { sndUna } = c.sender;
    if (sndUna >= this.recoverTo) return;
    const from = Math.max(sndUna, this.reinjectedTo);
    const to = Math.min(this.recoverTo, sndUna + this.stepBytes);
    if (from >= to) return;
    c.sender.reinject(from, to, -1);
    this.reinjectedTo = to;
    c.host.markDirty(c);
  }
}

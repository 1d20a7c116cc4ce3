/**
 * Quick copies on doubt (scheduler `interactive`): a path whose oldest bytes are late by its own measure is doubted long
 * before it counts as stalled. What it has outstanding goes again on another path, at most a few packets' worth, and new
 * bytes keep off it until it acknowledges something. A wrong doubt costs copies, nothing else.
 */
import { type Micros, NEVER, US_PER_MS } from '../base/time.js';
import type { Connection } from './connection.js';
import type { MptcpSubflow } from './subflow.js';

/** Lateness that is none: packets of a call 20 ms apart are acknowledged by twos, and a machine is busy now and then. */
const LATE_MIN_US: Micros = 25 * US_PER_MS;
const LATE_MAX_US: Micros = 60 * US_PER_MS;
const VARIANCES = 4;
/** Copies of one doubt. More than this in flight is a bulk flow, whose bytes can wait for the verdict of stall.ts. */
const MAX_COPY_BYTES = 65_536;

export class Doubts {
  constructor(private readonly c: Connection) {}

  /** When `sf` will be doubted, NEVER if it cannot be, or is. */
  nextDeadline(sf: MptcpSubflow): Micros {
    if (!this.areWanted || sf.doubtedAtUs !== NEVER || sf.isStalled || !sf.isUsable) return NEVER;
    const { tcp } = sf;
    if (tcp.oldestUnackedSentUs === NEVER) return NEVER;
    const { srttUs, rttVarUs } = tcp.rtt;
    if (srttUs === 0) return NEVER;
    const lateUs = Math.min(LATE_MAX_US, Math.max(LATE_MIN_US, VARIANCES * rttVarUs));
    return Math.max(tcp.lastProgressUs, tcp.oldestUnackedSentUs) + srttUs + lateUs;
  }

  /** Every poll. */
  check(nowUs: Micros): void {
    for (const sf of this.c.subflows) {
      if (sf.doubtedAtUs !== NEVER) this.review(sf);
      else if (this.nextDeadline(sf) <= nowUs) this.raise(nowUs, sf);
    }
  }

  private get areWanted(): boolean {
    const { c } = this;
    return c.mode === 'mptcp' && c.dispatcher.scheduler.copiesOnDoubt === true && c.subflows.length > 1;
  }

  private raise(nowUs: Micros, sf: MptcpSubflow): void {
    const { c } = this;
    sf.doubtedAtUs = nowUs;
    c.host.count('path_doubted');
    const hasOther = c.subflows.some((o) => o !== sf && o.isUsable && !o.isStalled && o.doubtedAtUs === NEVER);
    if (hasOther) c.reinjector.copyFrom(sf, MAX_COPY_BYTES);
  }

  /** Bytes came through, or nothing is outstanding any more: no doubt is left. A stall is a verdict, and replaces it. */
  private review(sf: MptcpSubflow): void {
    const { tcp } = sf;
    if (tcp.lastProgressUs <= sf.doubtedAtUs && tcp.oldestUnackedSentUs !== NEVER && this.areWanted && !sf.isStalled)
      return;
    sf.doubtedAtUs = NEVER;
    if (!sf.isStalled) this.c.sender.reinjections.forget(sf.id);
  }
}

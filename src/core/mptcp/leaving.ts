/**
 * What is still on its way over a path that is being left: it became a backup because its signal fades, or by an order
 * (DESIGN 3.4, announced handover). What is sent next comes over the others, and waits for it at the receiver. On a path
 * that was quick to the end there is nothing to do. One that has become slow, or loses, would keep the rest waiting for as
 * long as its queue lasts: what a copy elsewhere overtakes goes again there, each byte once.
 */
import { type Micros, NEVER, US_PER_MS, US_PER_S } from '../base/time.js';
import type { Connection } from './connection.js';
import { DELAYED_ACK_US } from './stall.js';
import type { MptcpSubflow } from './subflow.js';

/** A copy has to arrive in this share of the time that the original would take. */
const SOONER = 0.8;
/** Its last bytes may be lost, and nothing comes behind them that would show it: late by so much, two deviations at least. */
const LATE_MIN_US: Micros = 20 * US_PER_MS;

export class Leaving {
  /** When the first of them will be late; NEVER: none can be. */
  deadlineUs: Micros = NEVER;

  constructor(private readonly c: Connection) {}

  /** Every poll. */
  check(nowUs: Micros): void {
    const { c } = this;
    this.deadlineUs = NEVER;
    if (c.mode !== 'mptcp' || c.subflows.length < 2 || c.copies.areWanted) return;
    for (const sf of c.subflows) {
      const isLeft = sf.isBackup && !sf.isStalled && sf.tcp.oldestUnackedSentUs !== NEVER;
      const elsewhereUs = isLeft ? soonestElsewhereUs(c, sf) : NEVER;
      if (elsewhereUs === NEVER) sf.copiedFromSeq = Number.POSITIVE_INFINITY;
      else this.review(nowUs, sf, elsewhereUs);
    }
  }

  private review(nowUs: Micros, sf: MptcpSubflow, elsewhereUs: Micros): void {
    const { tcp } = sf;
    const lateAtUs = lateFromUs(sf);
    if (lateAtUs > nowUs) this.deadlineUs = Math.min(this.deadlineUs, lateAtUs);
    const keptBytes = lateAtUs > nowUs ? bytesWithin(sf, elsewhereUs / SOONER) : 0;
    const fromSeq = tcp.sndUna + keptBytes;
    // Small change is not worth a look at each segment.
    if (fromSeq + tcp.mssBytes > Math.min(sf.copiedFromSeq, tcp.sndNxt)) return;
    this.c.reinjector.copyBetween(sf, fromSeq, sf.copiedFromSeq);
    sf.copiedFromSeq = fromSeq;
    this.c.host.count('left_path_copied');
  }
}

/** How long a byte that is sent on `sf` now takes to arrive, by what its latest round trips took. */
function arrivalUs({ tcp }: MptcpSubflow): Micros {
  const { srttUs, minRttUs, latestUs } = tcp.rtt;
  return srttUs === 0 ? NEVER : Math.max(srttUs, latestUs) - minRttUs / 2;
}

/** The same on the quickest of the others that carry data; NEVER: none does. */
function soonestElsewhereUs(c: Connection, sf: MptcpSubflow): Micros {
  let soonestUs = NEVER;
  for (const other of c.subflows) {
    if (other === sf || other.isBackup || !other.isUsable || other.isStalled || c.harm.isSetAside(other)) continue;
    soonestUs = Math.min(soonestUs, arrivalUs(other));
  }
  return soonestUs;
}

/**
 * A copy of what `sf` has lost would arrive well before TCP's own retransmission, which queues behind all that is there: in
 * less than `share` of the time.
 */
export function isSoonerElsewhere(c: Connection, sf: MptcpSubflow, share = SOONER): boolean {
  const { tcp } = sf;
  const rate = tcp.deliveryRateBytesPerS;
  // Round trips tell of a queue when it has been passed; what is on its way tells what it has become since.
  const queueUs = rate > 0 ? (tcp.inFlightBytes * US_PER_S) / rate - tcp.rtt.minRttUs / 2 : 0;
  return soonestElsewhereUs(c, sf) < share * Math.max(arrivalUs(sf), queueUs);
}

/**
 * Of what `sf` has outstanding, how much arrives within `us`: it leaves the queue at the path's rate. A path that was not
 * full has no queue, and its rate is not known.
 */
function bytesWithin({ tcp, copiedFromSeq }: MptcpSubflow, us: Micros): number {
  const isFull = 2 * tcp.inFlightBytes >= tcp.cc.cwndBytes || copiedFromSeq !== Number.POSITIVE_INFINITY;
  const rate = tcp.deliveryRateBytesPerS;
  if (!isFull || rate === 0) return Number.POSITIVE_INFINITY;
  return Math.floor((rate * (us + tcp.rtt.minRttUs / 2)) / US_PER_S);
}

function lateFromUs({ tcp }: MptcpSubflow): Micros {
  const { srttUs, rttVarUs } = tcp.rtt;
  const expectedUs = Math.max(tcp.lastProgressUs, tcp.oldestUnackedSentUs + srttUs);
  const isLone = tcp.sndNxt - tcp.sndUna <= tcp.mssBytes;
  return expectedUs + Math.max(LATE_MIN_US, 2 * rttVarUs) + (isLone ? DELAYED_ACK_US : 0);
}

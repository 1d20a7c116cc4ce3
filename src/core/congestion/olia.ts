/**
 * OLIA, "opportunistic linked increases" (draft-khalili-mptcp-congestion-control-05): as LIA a sum that one TCP would have
 * on the best path, and a second term alpha that moves window to the paths that lose least, of which LIA uses too little.
 */
import type { Micros } from '../base/time.js';
import type { CongestionConfig } from './controller.js';
import { CoupledController } from './coupled.js';
import type { CoupledFlow, Coupling } from './coupling.js';

/** Windows and qualities are measured: those within this of the largest count as the largest. */
const TIE = 0.999;

export class Olia extends CoupledController {
  readonly name = 'olia';

  static create(config: CongestionConfig): Olia {
    return new Olia(config);
  }

  /** The draft's (cwnd_r / rtt_r^2) / (SUM cwnd_p / rtt_p)^2 + alpha_r / cwnd_r. */
  protected increasePerByte(nowUs: Micros): number {
    const { coupling, rttUs } = this;
    if (coupling.sumRate <= 0 || rttUs <= 0) return 1 / this.cwnd;
    const linked = this.cwnd / (rttUs * rttUs) / (coupling.sumRate * coupling.sumRate);
    return linked + oliaAlpha(coupling, this, nowUs) / this.cwnd;
  }
}

/**
 * alpha_r of the draft. Best paths have the largest l^2 / rtt; "collected" are best paths without the largest window, and
 * share 1/n; the paths with the largest window pay for it; for the others, and if nothing is collected, it is 0.
 */
export function oliaAlpha(coupling: Coupling, flow: CoupledFlow, nowUs: Micros): number {
  let bestQuality = 0;
  let maxWindow = 0;
  let paths = 0;
  for (const f of coupling.flows) {
    if (!coupling.isAtWork(f, nowUs)) continue;
    paths++;
    bestQuality = Math.max(bestQuality, quality(f));
    maxWindow = Math.max(maxWindow, f.windowBytes);
  }
  let maxed = 0;
  let collected = 0;
  for (const f of coupling.flows) {
    if (!coupling.isAtWork(f, nowUs)) continue;
    if (f.windowBytes >= TIE * maxWindow) maxed++;
    else if (quality(f) >= TIE * bestQuality) collected++;
  }
  if (collected === 0) return 0;
  if (flow.windowBytes >= TIE * maxWindow) return -1 / (paths * maxed);
  return quality(flow) >= TIE * bestQuality ? 1 / (paths * collected) : 0;
}

function quality({ lossIntervalBytes, rttUs }: CoupledFlow): number {
  return (lossIntervalBytes * lossIntervalBytes) / rttUs;
}

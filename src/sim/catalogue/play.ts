/** Plays a case of the catalogue in virtual time: with all its links, then confined to each of them, and judges. */
import type { Micros } from '../../core/base/time.js';
import { BIN_US, confinedTo, type Scenario, type ScenarioResult, violations } from '../scenario.js';
import { type CatalogueCase, IN_USE } from './case.js';

export interface CaseVerdict {
  readonly result: ScenarioResult;
  readonly alone: readonly ScenarioResult[];
  /** Delivered bytes against the best link alone. */
  readonly ofBestLink: number;
  /** In the order of the budget; null: not within the run. */
  readonly backInUseUs: readonly (Micros | null)[];
  /** What was promised and did not happen, as sentences. */
  readonly broken: readonly string[];
}

export function scenarioOf(c: CatalogueCase, seed: number): Scenario {
  const { name, paths, bottlenecks, timeline, heading, durationUs, maxPathsPerLink } = c;
  return {
    name,
    seed,
    paths,
    timeline,
    traffic: [{ kind: 'bulk', heading }],
    durationUs,
    ...(bottlenecks !== undefined && { bottlenecks }),
    ...(maxPathsPerLink !== undefined && { maxPathsPerLink }),
  };
}

export function playCase(c: CatalogueCase, seed: number, run: (scenario: Scenario) => ScenarioResult): CaseVerdict {
  const scenario = scenarioOf(c, seed);
  const result = run(scenario);
  const alone = c.paths.map(({ name }) => run(confinedTo(scenario, name)));
  const best = Math.max(...alone.map((r) => r.traffic[0]!.deliveredBytes));
  const ofBestLink = result.traffic[0]!.deliveredBytes / best;
  const { gapUs, ofBestLink: wanted, backInUse = [] } = c.budget;
  const broken = violations(result, { maxGapUs: gapUs, isMptcp: true });
  for (const r of [result, ...alone]) {
    const { closedWhy } = r.traffic[0]!;
    if (closedWhy !== null) broken.push(`${r.scenario}: the connection is lost: ${closedWhy}`);
  }
  // Where every link is dark it must resume: alone on any link that is there at the end, data comes at the end.
  for (const r of alone) broken.push(...violations(r));
  if (!(ofBestLink >= wanted))
    broken.push(`${ofBestLink.toFixed(3)} of the best link alone, must be at least ${wanted}`);
  const backInUseUs = backInUse.map(({ path, fromUs }) => backAfterUs(result, c, path, fromUs));
  for (const [i, { path, withinUs }] of backInUse.entries()) {
    const us = backInUseUs[i]!;
    if (us === null) broken.push(`${path} was not used again`);
    else if (us > withinUs) broken.push(`${path} was used again after ${us} us, must be within ${withinUs}`);
  }
  return { result, alone, ofBestLink, backInUseUs, broken };
}

/** From `fromUs` until `path` carries data steadily (IN_USE), or null. */
function backAfterUs(result: ScenarioResult, c: CatalogueCase, path: string, fromUs: Micros): Micros | null {
  const spec = c.paths.find(({ name }) => name === path)!;
  const { bins } = result.paths.find(({ name }) => name === path)![c.heading];
  const perSpan = IN_USE.spanUs / BIN_US;
  const enough = (IN_USE.share * (spec[c.heading].rateBps ?? 0) * IN_USE.spanUs) / 8e6;
  const carries = (first: number) => bins.slice(first, first + perSpan).reduce((sum, n) => sum + n, 0) >= enough;
  for (let bin = Math.ceil(fromUs / BIN_US); bin + IN_USE.spans * perSpan <= bins.length; bin++) {
    if (bins[bin] === 0) continue;
    let spans = 0;
    while (spans < IN_USE.spans && carries(bin + spans * perSpan)) spans++;
    if (spans === IN_USE.spans) return bin * BIN_US - fromUs;
  }
  return null;
}

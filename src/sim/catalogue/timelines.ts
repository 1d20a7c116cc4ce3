/** Timelines that several cases share: what radios and people do to links. */
import { type Micros, US_PER_MS, US_PER_S } from '../../core/base/time.js';
import type { LinkConfig } from '../link-model.js';
import type { PathStep, Step } from '../scenario.js';

const FADE_STEP_US = 500 * US_PER_MS;
/** Rate and loss as a station walks away: adaptive rates fall first, the last steps lose frames. From full signal to none. */
const FADE: readonly { readonly rate: number; readonly lossRate: number }[] = [
  { rate: 1, lossRate: 0 },
  { rate: 0.8, lossRate: 0 },
  { rate: 0.6, lossRate: 0.001 },
  { rate: 0.4, lossRate: 0.005 },
  { rate: 0.25, lossRate: 0.01 },
  { rate: 0.12, lossRate: 0.03 },
  { rate: 0.05, lossRate: 0.1 },
  { rate: 0.02, lossRate: 0.3 },
];
/** Where in the fade the signal is weak enough to say so (about -75 dBm). */
const WEAK = 0.55;

/** The link of `rateBps` gets worse from `fromUs` to `untilUs`; the signal's warning comes on the way. */
export function fade(path: string, rateBps: number, fromUs: Micros, untilUs: Micros): PathStep[] {
  return change(path, rateBps, fromUs, untilUs, (share) => share, 'fades');
}

/** The reverse of `fade`. */
export function rise(path: string, rateBps: number, fromUs: Micros, untilUs: Micros): PathStep[] {
  return change(path, rateBps, fromUs, untilUs, (share) => 1 - share, 'clears');
}

function change(
  path: string,
  rateBps: number,
  fromUs: Micros,
  untilUs: Micros,
  badness: (share: number) => number,
  what: 'fades' | 'clears',
): PathStep[] {
  const steps: PathStep[] = [];
  for (let atUs = fromUs; atUs <= untilUs; atUs += FADE_STEP_US) {
    const changes = radio(rateBps, badness((atUs - fromUs) / (untilUs - fromUs)));
    steps.push({ atUs, path, what: 'changes', up: changes, down: changes });
  }
  const weakAt = what === 'fades' ? WEAK : 1 - WEAK;
  steps.push({ atUs: Math.round(fromUs + weakAt * (untilUs - fromUs)), path, what });
  return steps.sort((a, b) => a.atUs - b.atUs);
}

/** What is left of a link at a badness of 0 (full signal) to 1 (none). */
export function radio(rateBps: number, badness: number): Partial<LinkConfig> {
  const { rate, lossRate } = FADE[Math.round(badness * (FADE.length - 1))]!;
  return { rateBps: Math.max(100_000, Math.round(rateBps * rate)), lossRate };
}

/** Carrier lost and back, `times` over. */
export function flapping(path: string, fromUs: Micros, everyUs: Micros, times: number): PathStep[] {
  return Array.from({ length: times }, (_, i): PathStep[] => [
    { atUs: fromUs + i * everyUs, path, what: 'carrier-lost' },
    { atUs: fromUs + i * everyUs + everyUs / 2, path, what: 'carrier-back' },
  ]).flat();
}

/** `what` at `fromUs` and its reverse at `untilUs`, on each of the paths. */
export function outage(
  paths: readonly string[],
  what: 'dies' | 'dies-up' | 'dies-down' | 'carrier-lost' | 'pauses',
  fromUs: Micros,
  untilUs: Micros,
): Step[] {
  const back = what === 'carrier-lost' ? 'carrier-back' : what === 'pauses' ? 'resumes' : 'returns';
  return paths.flatMap((path): Step[] => [
    { atUs: fromUs, path, what },
    { atUs: untilUs, path, what: back },
  ]);
}

export const MS = US_PER_MS;
export const S = US_PER_S;

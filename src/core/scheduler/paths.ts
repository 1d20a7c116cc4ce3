/** What schedulers share: which paths count at all, and how long bytes would take on one. */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';
import type { PathSnapshot, SchedulerInput } from './scheduler.js';

/** Whether data may go here at all (though perhaps not now). */
export function isEligible(path: PathSnapshot): boolean {
  return path.isUsable && !path.isStalled;
}

/**
 * Whether the tier to choose from is the backups: only when no regular path is eligible (RFC 8684 §3.3.8). A regular path
 * that is merely full keeps backups out of use.
 */
export function mustUseBackups(input: SchedulerInput): boolean {
  for (const path of input.paths) if (!path.isBackup && isEligible(path)) return false;
  return true;
}

/**
 * The eligible path of the tier with the lowest smoothed RTT, -1 if there is none. With `mustHaveRoom` only those that
 * take bytes now. A path without an RTT sample counts as slowest; equals go to the lower index.
 */
export function quickest(input: SchedulerInput, mustHaveRoom: boolean): number {
  const isBackup = mustUseBackups(input);
  let best = -1;
  let bestUs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < input.paths.length; i++) {
    const path = input.paths[i]!;
    if (path.isBackup !== isBackup || !isEligible(path)) continue;
    if (mustHaveRoom && path.availableBytes <= 0) continue;
    const rttUs = path.srttUs > 0 ? path.srttUs : Number.MAX_SAFE_INTEGER;
    if (rttUs < bestUs) {
      best = i;
      bestUs = rttUs;
    }
  }
  return best;
}

/** What a path carries, bytes/s: its measured delivery rate, else what its window allows; 0 if neither is known. */
export function carriedBytesPerS(path: PathSnapshot): number {
  if (path.rateBytesPerS > 0) return path.rateBytesPerS;
  return path.srttUs > 0 ? (path.cwndBytes * US_PER_S) / path.srttUs : 0;
}

/**
 * Time until the last of `bytes` would have arrived over this path if they were sent there as fast as it takes them.
 * A path that is full takes them at its rate from `readyAtUs` on: what is in flight leaves at that rate.
 */
export function arrivalUs(nowUs: Micros, path: PathSnapshot, bytes: number): Micros {
  const rate = carriedBytesPerS(path);
  if (rate <= 0) return path.srttUs > 0 ? path.srttUs : Number.MAX_SAFE_INTEGER;
  return Math.max(0, path.readyAtUs - nowUs) + (bytes * US_PER_S) / rate + path.srttUs / 2;
}

/** Waiting in tests of real descriptors: for a condition, bounded, woken by the loop instead of by sleeping long. */
import { setTimeout as delay } from 'node:timers/promises';

/** Resolves as soon as `condition` is true; rejects with `what` after `timeoutMs`. */
export async function until(condition: () => boolean, what: string, timeoutMs = 5_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`timed out: ${what}`);
    await delay(2);
  }
}

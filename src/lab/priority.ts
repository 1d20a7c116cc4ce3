import { setPriority } from 'node:os';

/**
 * Lets this thread, and what it starts from now on, run before others (`nice`, -20 first). An ordinary user may not; then
 * it competes, and calibration tells whether that matters.
 */
export function goFirst(nice: number): void {
  try {
    setPriority(nice);
  } catch {
    // see above
  }
}

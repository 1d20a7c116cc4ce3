import { setPriority } from 'node:os';

/**
 * Lets this process run before others (`nice`, -20 first): what stands for the world outside must not compete with what is
 * measured. An ordinary user may not; then it does compete, and calibration tells whether that matters.
 */
export function goFirst(nice: number): void {
  try {
    setPriority(nice);
  } catch {
    // see above
  }
}

/**
 * Time in the core: integer microseconds on a monotonic clock whose epoch only the driver knows.
 * 2^53 us is 285 years, so plain numbers are exact. Nothing in the core reads a clock: `nowUs` is an argument.
 */
export type Micros = number;

/** "No deadline": compares greater than every instant. */
export const NEVER: Micros = Number.POSITIVE_INFINITY;

export const US_PER_MS = 1_000;
export const US_PER_S = 1_000_000;

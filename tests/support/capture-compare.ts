/** Two lists of statements side by side: what one end of a connection says, and what another stack in its place says. */
import type { Statements } from './capture-says.js';

export interface Difference {
  /** The statement's name. */
  readonly what: string;
  /** What the kernel says, and what we say; empty: nothing. */
  readonly kernel: string;
  readonly ours: string;
}

export function compare(kernel: Statements, ours: Statements): Difference[] {
  const differences: Difference[] = [];
  for (const what of new Set([...kernel.keys(), ...ours.keys()])) {
    const [theirs, mine] = [kernel.get(what) ?? '', ours.get(what) ?? ''];
    if (theirs !== mine) differences.push({ what, kernel: theirs, ours: mine });
  }
  return differences;
}

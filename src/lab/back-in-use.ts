import type { LabLink } from './topology.js';

/**
 * A link carries data again from when on, in each of these spans, it carries at least a share of its rate. One span is
 * not enough: what waited in a device while it had no carrier comes out at once, and may be all for a while.
 */
const SPAN_MS = 100;
const SPANS = 5;
export const IN_USE_SHARE = 0.1;

/**
 * When a link that came back at `fromMs` carried data towards the client again, at least `share` of its rate: milliseconds
 * after that, or null when it did not until `endMs`.
 */
export async function backInUseMs(
  link: LabLink,
  rateBps: number,
  fromMs: number,
  endMs: number,
  share = IN_USE_SHARE,
): Promise<number | null> {
  const { fromMs: firstMs, binMs, bytes } = await link.timeline('down', fromMs, endMs);
  const bins = SPAN_MS / binMs;
  const enough = (share * rateBps * SPAN_MS) / 8000;
  const carries = (first: number) => bytes.slice(first, first + bins).reduce((a, b) => a + b, 0) >= enough;
  for (let i = 0; i + SPANS * bins <= bytes.length; i++) {
    if (bytes[i] === 0) continue;
    let spans = 0;
    while (spans < SPANS && carries(i + spans * bins)) spans++;
    if (spans === SPANS) return Math.max(0, firstMs + i * binMs - fromMs);
  }
  return null;
}

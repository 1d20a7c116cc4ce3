import type { LabLink } from './topology.js';

/** A link carries data again when, for this long, it has carried at least this share of its rate. */
const IN_USE_MS = 100;
const IN_USE_SHARE = 0.1;

/**
 * When a link that came back at `fromMs` carried data towards the client again: milliseconds after that, or null when it
 * did not until `endMs`.
 */
export async function backInUseMs(
  link: LabLink,
  rateBps: number,
  fromMs: number,
  endMs: number,
): Promise<number | null> {
  const { fromMs: firstMs, binMs, bytes } = await link.timeline('down', fromMs, endMs);
  const bins = IN_USE_MS / binMs;
  const enough = (IN_USE_SHARE * rateBps * IN_USE_MS) / 8000;
  for (let i = 0; i + bins <= bytes.length; i++) {
    if (bytes[i] === 0) continue;
    const sum = bytes.slice(i, i + bins).reduce((a, b) => a + b, 0);
    if (sum >= enough) return Math.max(0, firstMs + i * binMs - fromMs);
  }
  return null;
}

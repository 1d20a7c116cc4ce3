/** The pairs of links that figures are promised for: WiFi (Ethernet) and cellular (raw IP), delays one way. */
import { queueDefaultBytes } from '../src/lab/emulator-protocol.js';
import type { Lab, LinkSpec } from '../src/lab/index.js';

export interface Rate {
  readonly downBps: number;
  readonly upBps: number;
  readonly delayMs: number;
  readonly loss?: number;
  /** Default 100 ms. */
  readonly queueMs?: number;
}

export type Pair = readonly [Rate, Rate];

export const HOME: Pair = [symmetric(50, 10), symmetric(30, 30)];
export const EQUAL: Pair = [symmetric(100, 10), symmetric(100, 10)];
export const UNEQUAL: Pair = [symmetric(50, 5), symmetric(5, 150)];
export const LOSSY: Pair = [
  { ...symmetric(100, 5), loss: 0.005 },
  { ...symmetric(20, 40), queueMs: 500 },
];
export const NAMES = ['wlan0', 'wwan0'] as const;

export function toSpecs(pair: Pair): LinkSpec[] {
  return pair.map(({ downBps, upBps, delayMs }, index) => ({
    name: NAMES[index]!,
    kind: index === 0 ? 'wifi' : 'lte',
    rateDownBps: downBps,
    rateUpBps: upBps,
    delayMs,
  }));
}

/** Makes the two links of a lab those of `pair`. */
export async function setPair(lab: Lab, pair: Pair): Promise<void> {
  await Promise.all(pair.map((rate, i) => setLink(lab, NAMES[i]!, rate)));
}

async function setLink(lab: Lab, name: string, { downBps, upBps, delayMs, loss = 0, queueMs }: Rate): Promise<void> {
  const link = lab.link(name);
  const queueBytes = (rateBps: number) =>
    queueMs === undefined ? queueDefaultBytes(rateBps) : Math.round((rateBps * queueMs) / 8000);
  await link.set('down', { rateBps: downBps, delayMs, loss, queueBytes: queueBytes(downBps) });
  await link.set('up', { rateBps: upBps, delayMs, loss, queueBytes: queueBytes(upBps) });
}

export function sumBps(pair: Pair, direction: 'downBps' | 'upBps'): number {
  return pair[0][direction] + pair[1][direction];
}

function symmetric(mbit: number, delayMs: number): Rate {
  return { downBps: mbit * 1e6, upBps: mbit * 1e6, delayMs };
}

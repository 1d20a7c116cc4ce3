/**
 * When overflow links are needed: all of them when the others are full (a queue that is never empty, at either end), and one
 * with a threshold of its own (`overflow_above`) when the tunnel carries more than that. Looked at at a fixed pace; a link
 * that was opened stays so for some seconds more (the path manager sees to that).
 */
import type { ConnectionApi } from '../core/engine/api.js';

/** Pace of looking, and looks in a row that a queue must not have been empty. */
export const LOAD_MS = 200;
const FULL_LOOKS = 5;
/** The rate is an average over this many looks. */
const RATE_LOOKS = 5;
/** A threshold counts as passed until the rate is below this share of it. */
const RELEASE = 0.8;

/** What is seen at one look. Byte counters only grow. */
export interface TunnelLoad {
  readonly atMs: number;
  readonly isQueueFull: boolean;
  readonly txBytes: number;
  readonly rxBytes: number;
}

export interface OverflowChange {
  readonly isSaturated: boolean;
  /** Absent: every overflow link. */
  readonly linkId?: number;
}

/** Some of these flows have more to send than their links take; one whose receiver takes no more is not held by links. */
export function areHeldByLinks(flows: readonly { readonly connection: ConnectionApi }[]): boolean {
  return flows.some(({ connection }) => connection.unsentBytes > 0 && connection.info().sendWindowBytes > 0);
}

/** Whether a queue has not been empty for some looks in a row: the links in use are full. */
export class FullWatch {
  isFull = false;
  private looks = 0;

  /** True: `isFull` is another now. */
  look(isQueueFull: boolean): boolean {
    this.looks = isQueueFull ? this.looks + 1 : 0;
    const isFull = this.isFull ? isQueueFull : this.looks >= FULL_LOOKS;
    const isNews = isFull !== this.isFull;
    this.isFull = isFull;
    return isNews;
  }
}

export class OverflowWatch {
  private readonly full = new FullWatch();
  private readonly window: TunnelLoad[] = [];
  private readonly passed = new Set<number>();

  /** What has changed since the last look. `thresholds`: bit/s by link. */
  look(load: TunnelLoad, thresholds: ReadonlyMap<number, number>): OverflowChange[] {
    const changes: OverflowChange[] = [];
    if (this.full.look(load.isQueueFull)) changes.push({ isSaturated: this.full.isFull });

    const rate = this.rate(load);
    for (const [linkId, threshold] of thresholds) {
      const isPassed = rate > (this.passed.has(linkId) ? RELEASE * threshold : threshold);
      if (isPassed === this.passed.has(linkId)) continue;
      if (isPassed) this.passed.add(linkId);
      else this.passed.delete(linkId);
      changes.push({ isSaturated: isPassed, linkId });
    }
    for (const linkId of this.passed) {
      if (thresholds.has(linkId)) continue;
      this.passed.delete(linkId);
      changes.push({ isSaturated: false, linkId });
    }
    return changes;
  }

  /** Bit/s in the busier direction. */
  private rate(load: TunnelLoad): number {
    this.window.push(load);
    if (this.window.length > RATE_LOOKS + 1) this.window.shift();
    const first = this.window[0]!;
    // A rate over less than the whole window would take any burst for a load.
    if (this.window.length <= RATE_LOOKS || load.atMs <= first.atMs) return 0;
    const bytes = Math.max(load.txBytes - first.txBytes, load.rxBytes - first.rxBytes);
    return (bytes * 8000) / (load.atMs - first.atMs);
  }
}

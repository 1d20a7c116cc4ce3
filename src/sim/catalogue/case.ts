/**
 * The handover catalogue: what happens to people's links, as data. A case says which links there are, what becomes of
 * them and when, what traffic runs meanwhile, and what the tunnel owes: every case is survived, and each has budgets.
 * tests/sim plays the table in virtual time (play.ts), the lab plays the starred cases with real processes
 * (src/lab/catalogue.ts).
 */
import type { Micros } from '../../core/base/time.js';
import type { BottleneckSpec, PathSpec, Step } from '../scenario.js';
import type { LinkTrace } from '../trace.js';

export interface CatalogueCase {
  /** As the catalogue calls it; short, and unique. */
  readonly name: string;
  readonly paths: readonly PathSpec[];
  readonly bottlenecks?: Readonly<Record<string, BottleneckSpec>>;
  readonly timeline: readonly Step[];
  readonly heading: 'down' | 'up';
  readonly durationUs: Micros;
  /** Subflows over one link, to different addresses of the server; default 1. */
  readonly maxPathsPerLink?: number;
  readonly budget: CaseBudget;
  /** How the lab plays it; null: in virtual time only. */
  readonly lab: LabPart | null;
}

export interface CaseBudget {
  /** Longest time without delivered data. */
  readonly gapUs: Micros;
  /** Against our own run confined to the best single link over the same time. */
  readonly ofBestLink: number;
  /** Links that return: from when they are back, and how soon they must carry data again. */
  readonly backInUse?: readonly { readonly path: string; readonly fromUs: Micros; readonly withinUs: Micros }[];
}

export interface LabPart {
  /** Instead of the case's timeline: shorter, or because the system there has more to say. */
  readonly timeline?: readonly Step[];
}

/** Recorded links, by name: the table is pure, so whoever plays it reads the files. */
export interface Recordings {
  readonly lteDriving: { readonly up: LinkTrace; readonly down: LinkTrace };
}

/** A link carries data again from when on, in each of these spans, it carries at least this share of its rate. */
export const IN_USE = { spanUs: 100_000, spans: 3, share: 0.1 } as const;

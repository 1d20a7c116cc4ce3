/**
 * A scenario is data: a client with several paths to a server, what happens to the paths and when, the traffic, and a
 * budget that the result must keep. `runScenario` (runner.ts) plays it; the same scenario and seed give the same run.
 */
import { type Micros, US_PER_MS } from '../core/base/time.js';
import type { LinkRole, PathMode } from '../core/pathman/types.js';
import type { HostOptions } from './host.js';
import type { LinkConfig, LinkDropReason } from './link-model.js';
import type { Middlebox } from './middlebox.js';

export interface Scenario {
  readonly name: string;
  readonly seed: number;
  readonly paths: readonly PathSpec[];
  /** Links beyond the paths that name them (PathSpec.bottleneck), by name. */
  readonly bottlenecks?: Readonly<Record<string, BottleneckSpec>>;
  readonly timeline?: readonly Step[];
  readonly traffic: readonly Traffic[];
  readonly durationUs: Micros;
  /** Goodput is measured from here to the end (or to completion). Default 0. */
  readonly warmupUs?: Micros;
  /** Default: the engine's own. */
  readonly congestion?: string;
  readonly scheduler?: string;
  /** Of the client's path manager; default 'aggregate'. */
  readonly mode?: PathMode;
  readonly maxPathsPerLink?: number;
  readonly checksum?: boolean;
  /** False: plain TCP on the first path. */
  readonly mptcp?: boolean;
  readonly receiveBufferBytes?: number;
  /** The receiving application reads nothing between these instants. */
  readonly readerPause?: { readonly fromUs: Micros; readonly untilUs: Micros };
  /** Of both hosts; see HostOptions. Defaults 250 us each: as coarse as a busy machine, and quick to simulate. */
  readonly interruptUs?: Micros;
  readonly timerSlackUs?: Micros;
  /** Further settings of both hosts. */
  readonly host?: Partial<Omit<HostOptions, 'name'>>;
  readonly budget?: Budget;
}

/** A link that several paths lead through: one queue and one transmitter each way. */
export interface BottleneckSpec {
  readonly up: Partial<LinkConfig>;
  readonly down: Partial<LinkConfig>;
}

/** One access link of the client, with all that lies between it and the server. */
export interface PathSpec {
  readonly name: string;
  readonly up: Partial<LinkConfig>;
  readonly down: Partial<LinkConfig>;
  readonly family?: 4 | 6;
  /** Made anew for each run; `seed` is the path's own. */
  readonly middleboxes?: (seed: number) => readonly Middlebox[];
  /** The uplink's queue is the client's own: see WireOptions.leftPortBytes. */
  readonly portBytes?: number;
  readonly startsDown?: boolean;
  /** What the client may use it for; default 'always'. */
  readonly role?: LinkRole;
  /** Name of the bottleneck between this link and the server. */
  readonly bottleneck?: string;
}

/**
 * dies         packets vanish, nobody is told            carrier-lost  as dies, and the client's system sees it
 * dies-up      the same away from the client only        carrier-back  the reverse of carrier-lost
 * dies-down    the same towards the client only          pauses        the radio holds packets
 * returns      the reverse of the three                  resumes       it goes on
 * rebinds      the path's NAT forgets its translations   moves         the client has another address there
 * fades        the signal falls towards nothing          clears        the signal is good again
 */
export type StepKind =
  | 'dies'
  | 'dies-up'
  | 'dies-down'
  | 'returns'
  | 'carrier-lost'
  | 'carrier-back'
  | 'pauses'
  | 'resumes'
  | 'rebinds'
  | 'moves'
  | 'fades'
  | 'clears';

export type Step = PathStep | HostStep;

export type PathStep = { readonly atUs: Micros; readonly path: string } & (
  | { readonly what: StepKind }
  | { readonly what: 'changes'; readonly up?: Partial<LinkConfig>; readonly down?: Partial<LinkConfig> }
  /** The path's NarrowRouter passes no more than this from now on. */
  | { readonly what: 'narrows'; readonly mtuBytes: number }
);

/** What happens to a host and not to a link: the server's second address comes, one of both goes; the client sleeps. */
export type HostStep = { readonly atUs: Micros } & (
  | { readonly what: 'server-gains' | 'client-sleeps' }
  | { readonly what: 'server-loses'; readonly which: 'first' | 'second' }
  | { readonly what: 'client-wakes'; readonly clockJumpUs: Micros }
);

/** Each item is a connection of its own, opened by the client on the first of its paths that is up. */
export type Traffic = TrafficOptions &
  (
    | { readonly kind: 'bulk'; readonly heading: 'down' | 'up'; readonly bytes?: number }
    | {
        readonly kind: 'request-response';
        readonly requestBytes: number;
        readonly responseBytes: number;
        readonly everyUs: Micros;
        readonly count: number;
      }
    | { readonly kind: 'idle' }
  );

export interface TrafficOptions {
  readonly startUs?: Micros;
  /** Names of the paths that it uses; default all. */
  readonly paths?: readonly string[];
  /** Instead of the scenario's. */
  readonly congestion?: string;
  readonly mptcp?: boolean;
}

/** Limits for the first traffic item, unless said otherwise; what is absent is not checked. */
export interface Budget {
  readonly minGoodputBps?: number;
  /** All bytes and the end delivered by then. */
  readonly completeByUs?: Micros;
  readonly maxGapUs?: Micros;
  readonly maxReinjectedBytes?: number;
  readonly maxDuplicateBytes?: number;
  readonly isMptcp?: boolean;
  /** At least this many payload-carrying bytes over each of these paths. */
  readonly minPathBytes?: Readonly<Record<string, number>>;
  readonly maxResponseP95Us?: Micros;
  /** Nothing was delivered that was not sent, and nothing twice or out of order: on by default. */
  readonly isIntact?: boolean;
}

/** All integers, all plain. */
export interface ScenarioResult {
  readonly scenario: string;
  readonly seed: number;
  readonly endedUs: Micros;
  readonly traffic: readonly TrafficResult[];
  readonly paths: readonly PathResult[];
  /** Engine events of both ends, in order, at most MAX_EVENTS. */
  readonly events: readonly string[];
  readonly clientCounters: Readonly<Record<string, number>>;
  readonly serverCounters: Readonly<Record<string, number>>;
  readonly drops: Readonly<Record<string, number>>;
  readonly wakes: number;
}

export interface TrafficResult {
  readonly kind: Traffic['kind'];
  readonly establishedUs: Micros;
  /** -1: not finished. */
  readonly finishedUs: Micros;
  readonly deliveredBytes: number;
  readonly goodputBps: number;
  /** Longest time without a byte delivered, from the first byte to completion or the end of the run. */
  readonly longestGapUs: Micros;
  readonly longestGapAtUs: Micros;
  readonly isMptcp: boolean;
  readonly fallbackReason: string | null;
  readonly closedWhy: string | null;
  /** -1, or the first byte of the stream that was not what was sent. */
  readonly corruptAtByte: number;
  readonly reinjectedBytes: number;
  readonly retransmittedBytes: number;
  /** Copies of the scheduler `redundant`. */
  readonly copiedBytes: number;
  readonly duplicateBytes: number;
  readonly responsesUs: readonly Micros[];
  readonly subflows: readonly string[];
}

export interface PathResult {
  readonly name: string;
  readonly up: DirectionResult;
  readonly down: DirectionResult;
}

export interface DirectionResult {
  readonly deliveredBytes: number;
  readonly deliveredPackets: number;
  readonly goodputBps: number;
  readonly maxQueuedBytes: number;
  /** IP bytes delivered in each bin of BIN_US from the start. */
  readonly bins: readonly number[];
  readonly drops: Readonly<Record<LinkDropReason, number>>;
}

export const MAX_EVENTS = 1000;
export const BIN_US: Micros = 10_000;

export interface PathOptions extends Omit<Partial<PathSpec>, 'name' | 'up' | 'down'> {
  /** Queue as time at the rate; default 100. */
  readonly queueMs?: number;
  readonly lossRate?: number;
  /** Further settings of both directions. */
  readonly both?: Partial<LinkConfig>;
  readonly upMbps?: number;
}

/** A symmetric path: `mbps` of IP bytes each way, `delayMs` one way, drop-tail. */
export function path(name: string, mbps: number, delayMs: number, options: PathOptions = {}): PathSpec {
  const { queueMs = 100, lossRate = 0, both, upMbps = mbps, ...rest } = options;
  const direction = (rateMbps: number): Partial<LinkConfig> => ({
    rateBps: Math.round(rateMbps * 1e6),
    delayUs: Math.round(delayMs * US_PER_MS),
    queueBytes: Math.max(3000, Math.round((rateMbps * 1e6 * queueMs) / 8000)),
    lossRate,
    ...both,
  });
  return { name, up: direction(upMbps), down: direction(mbps), ...rest };
}

/** The same scenario over one of its paths only; the timeline of the others goes too. */
export function confinedTo(scenario: Scenario, pathName: string): Scenario {
  const { budget: _, ...rest } = scenario;
  return {
    ...rest,
    name: `${scenario.name} [${pathName} alone]`,
    paths: scenario.paths.filter(({ name }) => name === pathName),
    timeline: (scenario.timeline ?? []).filter((step) => !('path' in step) || step.path === pathName),
  };
}

/** What the result breaks of the budget, as sentences; empty if nothing. */
export function violations(result: ScenarioResult, budget: Budget = {}): string[] {
  const out: string[] = [];
  const first = result.traffic[0]!;
  const atLeast = (what: string, value: number, limit: number | undefined) => {
    if (limit !== undefined && value < limit) out.push(`${what} ${value}, must be at least ${limit}`);
  };
  const atMost = (what: string, value: number, limit: number | undefined) => {
    if (limit !== undefined && value > limit) out.push(`${what} ${value}, must be at most ${limit}`);
  };
  atLeast('goodput (bit/s)', first.goodputBps, budget.minGoodputBps);
  atMost('longest gap (us)', first.longestGapUs, budget.maxGapUs);
  atMost('reinjected bytes', first.reinjectedBytes, budget.maxReinjectedBytes);
  atMost('duplicate bytes', first.duplicateBytes, budget.maxDuplicateBytes);
  if (budget.completeByUs !== undefined) {
    if (first.finishedUs < 0) out.push(`not complete: ${first.deliveredBytes} bytes delivered`);
    atMost('completion (us)', first.finishedUs, budget.completeByUs);
  }
  if (budget.isMptcp !== undefined && first.isMptcp !== budget.isMptcp)
    out.push(`isMptcp ${first.isMptcp} (${first.fallbackReason ?? 'no fallback'}), must be ${budget.isMptcp}`);
  for (const [name, limit] of Object.entries(budget.minPathBytes ?? {})) {
    const p = result.paths.find((each) => each.name === name)!;
    atLeast(`bytes over ${name}`, Math.max(p.up.deliveredBytes, p.down.deliveredBytes), limit);
  }
  if (budget.maxResponseP95Us !== undefined)
    for (const { kind, responsesUs } of result.traffic) {
      if (kind !== 'request-response') continue;
      atLeast('responses', responsesUs.length, 1);
      atMost('response p95 (us)', percentile(responsesUs, 0.95), budget.maxResponseP95Us);
    }
  if (budget.isIntact !== false)
    for (const [i, { corruptAtByte }] of result.traffic.entries())
      if (corruptAtByte >= 0) out.push(`traffic ${i}: delivered bytes differ from those sent at byte ${corruptAtByte}`);
  return out;
}

/** The value at share `p` of the sorted values; -1 for none. */
export function percentile(values: readonly number[], p: number): number {
  if (values.length === 0) return -1;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))]!;
}

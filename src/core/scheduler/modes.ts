/**
 * What a traffic mode comes to (DESIGN 3.4): which scheduler each lane of a session sends with, and whether the path
 * manager lets several paths carry data. The same at both ends: the client tells the server over the policy channel.
 *
 *   mode         sparse lane   bulk lane     paths         in words
 *   auto         interactive   configured    all           small flows quickly, big ones over everything
 *   aggregate    configured    configured    all           rate
 *   interactive  interactive   interactive   all (warm)    delay: the quickest path, copies elsewhere on doubt
 *   redundant    redundant     redundant     all           every byte on every path
 *   handover     min-rtt       min-rtt       one           one path at a time, the next one warm
 */
export const TRAFFIC_MODES = ['auto', 'aggregate', 'handover', 'interactive', 'redundant'] as const;
export type TrafficMode = (typeof TRAFFIC_MODES)[number];

/** Where a mode wants aggregation and the configured scheduler is another mode's own. */
const AGGREGATE_SCHEDULER = 'adaptive';

export function isTrafficMode(text: string): text is TrafficMode {
  return (TRAFFIC_MODES as readonly string[]).includes(text);
}

/** Scheduler of a lane. `configured` is `traffic.scheduler`: how this session aggregates, where its mode says so. */
export function schedulerOf(mode: TrafficMode, isSparse: boolean, configured: string): string {
  if (mode === 'interactive' || mode === 'redundant') return mode;
  if (mode === 'handover') return 'min-rtt';
  if (mode === 'auto' && isSparse) return 'interactive';
  return configured === 'interactive' || configured === 'redundant' ? AGGREGATE_SCHEDULER : configured;
}

/** How the path manager chooses who carries data. */
export function pathModeOf(mode: TrafficMode): 'aggregate' | 'handover' {
  return mode === 'handover' ? 'handover' : 'aggregate';
}

/** Where a client's link monitor and pause watch get what rtnetlink does not tell, on this host. */
import { type Clocks, HostClocks } from './clock.js';
import { FEED_VARIABLE, HostFeed } from './host-feed.js';
import { findNmcli, type NmcliHost } from './network-manager.js';
import { openSignalSource, type SignalSource } from './signal.js';

export interface HostSources {
  readonly signal: SignalSource;
  readonly nmcli: NmcliHost | null;
  readonly feed: HostFeed | null;
  readonly clocks: Clocks & { close(): void };
}

/** `onProblem`: for people. */
export function openHostSources(onProblem: (message: string) => void): HostSources {
  const file = process.env[FEED_VARIABLE];
  const feed = file === undefined || file === '' ? null : new HostFeed(file, onProblem);
  return { signal: openSignalSource(), nmcli: findNmcli(), feed, clocks: clocksOf(feed) };
}

/** The host's clocks; a host that is fed has slept as long as the feed says. */
export function clocksOf(feed: HostFeed | null): Clocks & { close(): void } {
  const host = new HostClocks();
  if (feed === null) return host;
  return {
    monotonicUs: () => host.monotonicUs(),
    boottimeUs: () => {
      feed.refresh();
      return host.boottimeUs() + feed.current.slept_s * 1e6;
    },
    close: () => host.close(),
  };
}

/**
 * What the connections of one engine know of a path (link, own address, peer's address), so that a new one does not start
 * from nothing: RFC 9040, temporal sharing (§6) from those that are over, ensemble sharing (§7) from those that live.
 *
 *  - RTT and RTTVAR give the first retransmission timeout: a lost SYN is repeated after what the path needs, not after the
 *    second that RFC 6298 (2.1) prescribes for a path that nobody knows.
 *  - ssthresh, for controllers that have one: only from a connection that was long and alone on the path, and only to one that
 *    is alone there (§6.3, §7.3: what was measured in competition says little about a share). HyStart++ stays on guard.
 *  - rate and minimum RTT, for controllers that measure them: to one that asks when its first window has been delivered and
 *    nobody else is sending on the path. What it makes of them: congestion/bbr.ts.
 *
 * Windows are not shared (RFC 9040 §10 and appendix C: nobody does): a new connection begins with RFC 6928's.
 */
import type { Micros } from '../base/time.js';
import { US_PER_MS, US_PER_S } from '../base/time.js';
import type { CongestionController, KnownPath } from '../congestion/controller.js';
import type { FlowTuple } from './flow.js';

/** Paths remembered; the one that was used longest ago goes first. */
export const MAX_PATHS = 512;
/** What was known so long ago is not believed any more: routes, radio and competition change. */
export const LIFETIME_US = 300 * US_PER_S;
/** The first timeout is this many times the path's, within these bounds; the upper one is RFC 6298's. */
const RTO_FACTOR = 2;
const MIN_INITIAL_RTO_US = 300 * US_PER_MS;
/** A shorter first timeout must not make an attempt shorter: R2 of a SYN is three minutes (RFC 9293 3.8.3). */
const EXTRA_SYN_RETRIES = 2;
/** RFC 9040 §6.3: ssthresh is worth remembering of long connections only. */
const LONG_BYTES = 1_000_000;
/** Who has more in flight is sending; less is a request, an answer, or keeps a connection alive. */
const SENDING_BYTES = 4_096;

/** The part of a subflow that is shared. */
export interface PathUser {
  readonly rtt: { readonly rtoUs: Micros; readonly hasSample: boolean };
  readonly cc: Pick<CongestionController, 'cwndBytes' | 'ssthreshBytes' | 'knownPath'>;
  readonly inFlightBytes: number;
  readonly stats: { readonly bytesSent: number };
  readonly lastReceivedUs: Micros;
}

/** For a new subflow; what is absent is not known. */
export interface PathSeed {
  readonly initialRtoUs?: Micros;
  readonly extraSynRetries: number;
  readonly initialSsthreshBytes?: number;
}

interface Path {
  readonly users: Set<PathUser>;
  rtoUs: Micros;
  ssthreshBytes: number;
  /** Measured by somebody who is not there any more. */
  known: KnownPath | null;
  /** A second user was there while the newest one was. */
  wasShared: boolean;
  heardUs: Micros;
}

const NOTHING: PathSeed = { extraSynRetries: 0 };

export class PathMemory {
  /** In the order of their last use. */
  private readonly paths = new Map<string, Path>();

  constructor(private readonly initialRtoUs: Micros) {}

  get size(): number {
    return this.paths.size;
  }

  /** What a new subflow on this path may begin with. */
  seed(nowUs: Micros, flow: FlowTuple): PathSeed {
    const path = this.paths.get(keyOf(flow));
    if (path === undefined) return NOTHING;
    for (const user of path.users) take(path, user);
    if (path.rtoUs === 0 || nowUs - path.heardUs > LIFETIME_US) return NOTHING;
    const initialRtoUs = Math.min(this.initialRtoUs, Math.max(MIN_INITIAL_RTO_US, RTO_FACTOR * path.rtoUs));
    const isAlone = path.users.size === 0 && path.ssthreshBytes > 0;
    return {
      initialRtoUs,
      extraSynRetries: initialRtoUs < this.initialRtoUs ? EXTRA_SYN_RETRIES : 0,
      ...(isAlone && { initialSsthreshBytes: path.ssthreshBytes }),
    };
  }

  add(flow: FlowTuple, user: PathUser): void {
    const key = keyOf(flow);
    const path = this.paths.get(key) ?? {
      users: new Set(),
      rtoUs: 0,
      ssthreshBytes: 0,
      known: null,
      wasShared: false,
      heardUs: 0,
    };
    path.wasShared = path.users.size > 0;
    path.users.add(user);
    this.paths.delete(key);
    this.paths.set(key, path);
    if (this.paths.size > MAX_PATHS) this.dropOldest();
  }

  /** What was measured last on the path; null: nothing that can still be believed, or others than `asker` are sending on it. */
  recall(nowUs: Micros, flow: FlowTuple, asker: PathUser['cc']): KnownPath | null {
    const path = this.paths.get(keyOf(flow));
    if (path === undefined) return null;
    let { known } = path;
    for (const user of path.users) {
      if (user.cc === asker) continue;
      if (user.inFlightBytes > SENDING_BYTES) return null;
      known = newer(known, user);
    }
    return known === null || nowUs - known.measuredUs > LIFETIME_US ? null : known;
  }

  remove(flow: FlowTuple, user: PathUser): void {
    const path = this.paths.get(keyOf(flow));
    if (path === undefined || !path.users.delete(user)) return;
    take(path, user);
    path.known = newer(path.known, user);
    const { cwndBytes, ssthreshBytes } = user.cc;
    const isTelling = !path.wasShared && path.users.size === 0 && user.stats.bytesSent >= LONG_BYTES;
    // RFC 9040 §10: the larger of half the last window and the threshold, so that a bad end is not passed on.
    if (isTelling && Number.isFinite(ssthreshBytes)) path.ssthreshBytes = Math.max(ssthreshBytes, cwndBytes / 2);
  }

  /** The link leads elsewhere now. */
  forgetLink(linkId: number): void {
    for (const [key, path] of this.paths) {
      if (!key.startsWith(`${linkId} `)) continue;
      path.rtoUs = 0;
      path.ssthreshBytes = 0;
      path.known = null;
    }
  }

  private dropOldest(): void {
    for (const [key, path] of this.paths) {
      if (path.users.size > 0) continue;
      this.paths.delete(key);
      return;
    }
  }
}

/** The newest measurement counts: RTT estimators are moving averages already. */
function take(path: Path, { rtt, lastReceivedUs }: PathUser): void {
  if (!rtt.hasSample || lastReceivedUs < path.heardUs) return;
  path.rtoUs = rtt.rtoUs;
  path.heardUs = lastReceivedUs;
}

function newer(known: KnownPath | null, { cc, stats }: PathUser): KnownPath | null {
  if (stats.bytesSent < LONG_BYTES) return known;
  const own = cc.knownPath ?? null;
  if (own === null || known === null) return own ?? known;
  const isBetter = own.isWhole ? own.measuredUs > known.measuredUs : own.rateBytesPerS > known.rateBytesPerS;
  return isBetter ? own : known;
}

function keyOf({ linkId, localAddress, remoteAddress }: FlowTuple): string {
  return `${linkId} ${localAddress.text} ${remoteAddress.text}`;
}

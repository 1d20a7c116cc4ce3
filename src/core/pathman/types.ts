/**
 * The vocabulary of the path manager (DESIGN 3.4): what it is told, what it orders, what it shows. All plain data.
 * A path is (link, local address, remote endpoint). A session's connections share its paths: the driver carries out a
 * command on each of them and reports once per path.
 */
import type { Family, IpAddress } from '../base/ip.js';
import type { IpPrefix } from '../base/prefix.js';
import type { Micros } from '../base/time.js';

/** What the user allows a link to carry: always, only when the others are full, only when the others fail, nothing. */
export type LinkRole = 'always' | 'overflow' | 'backup' | 'never';
/** 'handover': one path at a time carries data, the others stay warm. */
export type PathMode = 'aggregate' | 'handover';
export type PathState = 'down' | 'probing' | 'joining' | 'warm' | 'active' | 'draining' | 'blocked';

export interface RemoteEndpoint {
  readonly address: IpAddress;
  readonly port: number;
  /** The peer's id for this address (ADD_ADDR); absent: an address known by other means. */
  readonly addressId?: number;
}

/** Addresses to choose from: those inside one of `include` (empty: all) and inside none of `exclude`. */
export interface AddressChoice {
  readonly include: readonly IpPrefix[];
  readonly exclude: readonly IpPrefix[];
}

/** What the user says of a link. */
export interface LinkPolicy {
  readonly role: LinkRole;
  /** Lower is preferred among links of the same role; 0 unless configured. */
  readonly priority: number;
  /** False: no subflow is held on it while others carry the data. Default true. */
  readonly keepWarm?: boolean;
  /** Subflows over it, to different addresses or families. Default: `maxPathsPerLink` of the config. */
  readonly maxPaths?: number;
  /** Families that may be used, the preferred one first. Default: those of the config. */
  readonly families?: readonly Family[];
  /** Which of its own addresses are used, and which of the peer's from here. Default: all. */
  readonly local?: AddressChoice;
  readonly remote?: AddressChoice;
}

/** A link as the driver sees it; `id` is the driver's. */
export interface PathLink extends LinkPolicy {
  readonly id: number;
  readonly name: string;
  readonly isUp: boolean;
  /** Why it is not up, for people. */
  readonly whyDown?: string | null;
  readonly addresses: readonly IpAddress[];
}

export interface PathManagerConfig {
  /** A server opens nothing; its paths are those that the peer joins. */
  readonly side: 'client' | 'server';
  readonly mode: PathMode;
  /** Subflows of one connection, those being opened included. */
  readonly maxSubflows: number;
  /** Subflows over one link, to different addresses or families. */
  readonly maxPathsPerLink: number;
  /** Families that may be used, the preferred one first. */
  readonly families: readonly Family[];
}

export const DEFAULT_PATH_CONFIG: PathManagerConfig = {
  side: 'client',
  mode: 'aggregate',
  maxSubflows: 8,
  maxPathsPerLink: 1,
  families: [6, 4],
};

/** What the peer says over the policy channel (or by MP_PRIO, as a role) about one path. */
export type PeerWish =
  | { readonly what: 'role'; readonly role: LinkRole }
  | { readonly what: 'going' | 'gone' | 'returned' | 'silent' };

export type PathEvent =
  | { type: 'link-added'; link: PathLink }
  /** With nothing changed: something else happened (a route, a neighbour, the host woke up) that may let packets through. */
  | {
      type: 'link-changed';
      linkId: number;
      isUp?: boolean;
      whyDown?: string | null;
      addresses?: readonly IpAddress[];
    }
  | { type: 'link-removed'; linkId: number }
  /** The signal is falling (true) or good again: use another path if there is one, before this one breaks. */
  | { type: 'link-fading'; linkId: number; isFading: boolean }
  /** Route, signal or whatever else of the link changed for the better, perhaps: what waits there is tried at once. */
  | { type: 'link-news'; linkId: number }
  /** A packet of ours arrived over this link; may be told for every batch. */
  | { type: 'packet-received'; linkId: number }
  /** All that is known now: configured, resolved, announced. */
  | { type: 'remote-addresses'; remotes: readonly RemoteEndpoint[] }
  /** Joins are welcome (the peer has answered and keys are agreed). */
  | { type: 'session-ready' }
  /** No connection of the session is left: the next one starts afresh. */
  | { type: 'session-lost' }
  | { type: 'join-started'; pathId: number }
  | { type: 'join-established'; pathId: number }
  | { type: 'join-failed'; pathId: number; reason: string; isTransient: boolean }
  /** Server: the client opened a subflow. Its path id is what `pathIdOf` says from then on. */
  | { type: 'peer-joined'; linkId: number; localAddress: IpAddress; remote: RemoteEndpoint }
  | { type: 'subflow-stalled'; pathId: number }
  /** Also of a subflow that did not stall, but answered after its link was down: a path waits for it. */
  | { type: 'subflow-recovered'; pathId: number }
  | { type: 'subflow-closed'; pathId: number; why: string }
  /** What the user says of a link has changed; what is left out stays as it is. */
  | { type: 'link-policy'; linkId: number; policy: Partial<LinkPolicy> }
  /** What the user says of the whole tunnel has changed. */
  | { type: 'session-policy'; mode: PathMode; maxSubflows: number }
  /**
   * The regular links carry all that they can (true), or have room again. With a link: as far as that overflow link is
   * concerned (it has a threshold of its own).
   */
  | { type: 'saturation'; isSaturated: boolean; linkId?: number }
  | { type: 'peer-wish'; pathId: number; wish: PeerWish };

export type PathCommand =
  /** Open the session's first subflow here. Answered by join-established or join-failed, as a join is. */
  | { type: 'connect'; pathId: number; linkId: number; localAddress: IpAddress; remote: RemoteEndpoint }
  | { type: 'join'; pathId: number; linkId: number; localAddress: IpAddress; remote: RemoteEndpoint; backup: boolean }
  /** 'fin' is answered by subflow-closed; 'reset' ends it here and now, and a late event about it is ignored. */
  | { type: 'close'; pathId: number; how: 'fin' | 'reset' }
  | { type: 'set-backup'; pathId: number; backup: boolean }
  /** Suspect (false) or probe at once (true) every subflow of the link. */
  | { type: 'link-state'; linkId: number; isUp: boolean }
  /** The peer says that nothing gets through here: stop using the subflow until it answers. */
  | { type: 'suspect'; pathId: number; why: string }
  /** For the policy channel, by the best path that is left. */
  | { type: 'tell-peer'; pathId: number; wish: PeerWish };

/** One path as `mptun paths` shows it: a plain copy. */
export interface PathStatus {
  readonly id: number;
  readonly linkId: number;
  readonly linkName: string;
  readonly localAddress: IpAddress;
  readonly remote: RemoteEndpoint;
  readonly state: PathState;
  /** What ours and the peer's wish come to. */
  readonly role: LinkRole;
  readonly isStalled: boolean;
  /** Why it carries nothing now, or null. */
  readonly why: string | null;
  readonly stateSinceUs: Micros;
  /** Microseconds from now until the next attempt, or null. */
  readonly retryInUs: Micros | null;
  /** Attempts that failed in a row. */
  readonly failures: number;
}

/** A change of state, for the journal. */
export interface PathTransition {
  readonly nowUs: Micros;
  readonly pathId: number;
  readonly linkName: string;
  readonly from: PathState;
  readonly to: PathState;
  readonly cause: string;
}

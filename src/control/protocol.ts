/**
 * What the daemon says on its control socket, and what it takes: the contract between daemon, CLI and anybody's scripts.
 * Rules: a versioned `schema` in each document; snake_case; base units named in the key (`_bytes`, `_s`, `_bps` = bit/s);
 * RFC 3339 times; lower-case enums; `null` for "not known" or "none". Keys may be added under the same version; one
 * that changes its meaning makes a new version.
 *
 * tx and rx are always seen from the end that answers: on a client tx is up and rx is down.
 */

import { TRAFFIC_MODES, type TrafficMode } from '../core/scheduler/modes.js';

export { TRAFFIC_MODES, type TrafficMode };

export const STATUS_SCHEMA = 'mptun.status/1';
export const PATHS_SCHEMA = 'mptun.paths/1';
export const FLOWS_SCHEMA = 'mptun.flows/1';
export const EVENT_SCHEMA = 'mptun.event/1';
export const HISTORY_SCHEMA = 'mptun.history/1';
export const WHY_SCHEMA = 'mptun.why/1';
export const WHY_FLOW_SCHEMA = 'mptun.why-flow/1';
export const RESULT_SCHEMA = 'mptun.result/1';

/**
 * `starting`: setting up. `waiting`: no usable link yet (client). `connecting`: trying to reach the server. `up`.
 * `degraded`: works, but not as configured (see problems). `stopping`.
 */
export type TunnelState = 'starting' | 'waiting' | 'connecting' | 'up' | 'degraded' | 'stopping';

/** `config`, `authentication`, `unreachable`, `permission`: why it is not up, for exit codes and alerts. */
export type ProblemKind = 'config' | 'authentication' | 'unreachable' | 'permission' | 'portal' | 'resource' | 'other';

export interface Problem {
  kind: ProblemKind;
  message: string;
  /** What would put it right, or null. */
  remedy: string | null;
  /** A person has to do something (log in at a portal, change a key); waiting will not help. */
  needs_user: boolean;
}

export interface StatusDocument {
  schema: typeof STATUS_SCHEMA;
  time: string;
  name: string;
  mode: 'client' | 'server';
  version: string;
  pid: number;
  started_at: string;
  state: TunnelState;
  /** Why it is in this state, or null. */
  reason: string | null;
  problems: Problem[];
  /** Client: the server. Server: what it listens on. */
  endpoint: string;
  tun: { name: string; mtu_bytes: number; addresses: string[] };
  /** As it is now; `mode_ordered`: the mode is an operator's order (`mptun mode`), not the configuration's. */
  traffic: { mode: string; mode_ordered: boolean; scheduler: string; congestion: string; checksum: boolean };
  totals: Totals;
  /** What the best link alone would give, each way; null: nothing was carried lately, or this is a server. */
  estimate: { tx: BestLinkEstimate | null; rx: BestLinkEstimate | null };
  /** Client: one at most. Server: one per connected client. */
  sessions: SessionStatus[];
  paths: PathStatus[];
  /** Bytes of memory that are resident, CPU seconds used, open file descriptors. */
  process: { memory_bytes: number; cpu_s: number; fds: number | null };
}

/**
 * Running estimate for one direction: the highest rate that one link carried lately, of all bytes of ours on it, beside what
 * all links carry now. `ratio` is below 1 when there is less to send, or when using several links does harm.
 */
export interface BestLinkEstimate {
  best_path: string;
  best_bps: number;
  all_bps: number;
  ratio: number;
}

/** Traffic through the TUN. */
export interface Totals {
  tx_bps: number;
  rx_bps: number;
  tx_bytes: number;
  rx_bytes: number;
}

export interface SessionStatus extends Totals {
  /** The peer's name in the configuration; on a client the server's host. */
  peer: string;
  since: string;
  addresses: string[];
  connections: number;
  /** Wishes that the peer cannot honour (a peer without our policy channel). */
  unsupported: string[];
}

export type PathRole = 'always' | 'overflow' | 'backup' | 'never';
export type PathState = 'down' | 'probing' | 'joining' | 'warm' | 'active' | 'draining' | 'portal' | 'blocked';

export interface PathStatus extends Totals {
  /** Interface name here; on a server the client's address for lack of a name. */
  name: string;
  /** Peer of the session that it belongs to, or null. */
  session: string | null;
  type: string;
  role: PathRole;
  metered: boolean;
  state: PathState;
  /** Since when it has been in this state. */
  since: string;
  /** Why it carries no data now, or null when it does. */
  reason: string | null;
  /** What an operator ordered (`mptun path`), until `reset` or a reload; null: nothing. */
  order: PathOrder | null;
  local: string[];
  remote: string[];
  rtt_s: number | null;
  rtt_min_s: number | null;
  /** Share of the segments sent lately that were lost, 0 to 1. */
  loss_ratio: number | null;
  cwnd_bytes: number;
  in_flight_bytes: number;
  limit_bps: number | null;
  congestion: string;
  retransmitted_bytes: number;
  /** Bytes that were first sent here and then again on another path. */
  reinjected_bytes: number;
  /** Packets that the host dropped because our receive buffer was full; not network loss. */
  host_drops: number;
  /** What has gone over the link against its cap (null: it has none); `reached`: the limit that is used up, or null. */
  cap: {
    day_bytes: number;
    month_bytes: number;
    daily_limit_bytes: number | null;
    monthly_limit_bytes: number | null;
    reached: 'daily' | 'monthly' | null;
  } | null;
}

export interface PathOrder {
  /** null: as configured. `never`: ordered down. */
  role: PathRole | null;
  /** null: as configured. */
  limit_bps: number | null;
  since: string;
}

export interface PathsDocument {
  schema: typeof PATHS_SCHEMA;
  time: string;
  paths: PathStatus[];
  /** The host's other interfaces, and why they are no paths. */
  left_out: LeftOut[];
}

export interface LeftOut {
  name: string;
  type: string;
  reason: string;
}

/** One MPTCP connection (a lane of a session, or one captured TCP flow). */
export interface FlowStatus {
  id: number;
  session: string | null;
  /** `bulk`, `sparse`, `flow`, … */
  lane: string;
  state: string;
  is_mptcp: boolean;
  fallback_reason: string | null;
  checksums: boolean;
  remote: string;
  tx_bytes: number;
  rx_bytes: number;
  unsent_bytes: number;
  unacked_bytes: number;
  reinjected_bytes: number;
  /** Sent again at once on further paths (scheduler `redundant`). */
  copied_bytes: number;
  duplicate_bytes: number;
  out_of_order_bytes: number;
  subflows: SubflowStatus[];
}

export interface SubflowStatus {
  id: number;
  path: string;
  local: string;
  remote: string;
  state: string;
  backup: boolean;
  stalled: boolean;
  idle_reason: string | null;
  rtt_s: number | null;
  cwnd_bytes: number;
  in_flight_bytes: number;
  mss_bytes: number;
  congestion: string;
  tx_bytes: number;
  rx_bytes: number;
  retransmitted_bytes: number;
}

export interface FlowsDocument {
  schema: typeof FLOWS_SCHEMA;
  time: string;
  flows: FlowStatus[];
  /** TCP connections of applications that have a way of their own (flows of the packet lane are in its connections). */
  tcp_flows: TcpFlowStatus[];
}

/** One TCP connection of an application. tx is from the application, wherever it is asked. */
export interface TcpFlowStatus extends Totals {
  id: number;
  /** `tun`: ended at the TUN. `proxy`: from a client of our proxy. `relay`, `convert`: at a server, from one of its clients. */
  origin: 'tun' | 'proxy' | 'relay' | 'convert';
  session: string | null;
  state: 'dialing' | 'open' | 'closed';
  /** The application's end, where it is known. */
  app: string | null;
  destination: string;
  /** Name of the destination, where it is known. */
  name: string | null;
  way: string;
  /** The rule that gave it its way, or its mode; in words. */
  rule: string;
  mode: string;
  /** What mode `auto` takes it for: `interactive` or `bulk`. */
  class: string;
  /** Of what this end sends; null: not chosen yet. */
  scheduler: string | null;
  age_s: number;
  /** Id of its MPTCP connection in `flows`' terms; null: there is none (yet). */
  connection: number | null;
  is_mptcp: boolean;
  /** Received by that connection although it was there already. */
  duplicate_bytes: number;
  paths: {
    path: string;
    state: string;
    tx_bytes: number;
    rx_bytes: number;
    rtt_s: number | null;
    why: string | null;
  }[];
}

export type EventLevel = 'debug' | 'info' | 'warn' | 'error';

/** One line of `GET /v1/events`. `seq` counts up by one; a gap is told by an event of type `events-lost`. */
export interface EventRecord {
  schema: typeof EVENT_SCHEMA;
  seq: number;
  time: string;
  level: EventLevel;
  /** Kebab-case: `tunnel-state`, `path-state`, `handover` (data: its receipt), `session-opened`, `reload`, … */
  type: string;
  message: string;
  session: string | null;
  path: string | null;
  /** Figures of this type, base units in their names. */
  data: Record<string, unknown>;
}

/**
 * Why traffic moved. `link-down`, `address-gone`: told by the host. `silent`: nothing got through any more. `fading`: the
 * signal. `peer`: the other end said so. `operator`: ordered. `policy`: role, cap or configuration. `closed`: its subflows
 * ended. `preferred`: another path was chosen. `returned`: a path that was gone carries again. `overflow`: the others are full.
 */
export const HANDOVER_CAUSES = [
  'link-down',
  'address-gone',
  'silent',
  'fading',
  'peer',
  'operator',
  'policy',
  'closed',
  'preferred',
  'returned',
  'overflow',
] as const;
export type HandoverCause = (typeof HANDOVER_CAUSES)[number];

/** What a handover cost, as seen from the end that answers. */
export interface HandoverReceipt {
  /** Counts up, across restarts. */
  id: number;
  time: string;
  session: string;
  /** Paths that carried data before and after. */
  from: string[];
  to: string[];
  cause: HandoverCause;
  /** In a sentence. */
  detail: string;
  /**
   * Longest silence in the inner data delivered here while data was due; 0: shorter than 5 ms. null: no data was due (or
   * none has come since), so there is nothing to measure.
   */
  gap_s: number | null;
  /** Time without any path. */
  dark_s: number;
  /** Bytes that this end sent again on another path, and bytes that came here more than once. */
  reinjected_bytes: number;
  duplicated_bytes: number;
  /** MPTCP connections of the session that were open before and still are, and those that are not. */
  connections_carried: number;
  connections_lost: number;
  /** Inner flows that were sending. */
  flows_carried: number;
}

export interface HistoryDocument {
  schema: typeof HISTORY_SCHEMA;
  time: string;
  /** Oldest first. */
  receipts: HandoverReceipt[];
}

/** Why each path is used or not, by which rule, and what the traffic is made of. */
export interface WhyDocument {
  schema: typeof WHY_SCHEMA;
  time: string;
  mode: string;
  /** `configuration` or `operator`. */
  mode_from: string;
  scheduler: string;
  paths: WhyPath[];
  flows: WhyFlows[];
}

export interface WhyPath {
  name: string;
  /** What the rule that matched the link asks for. */
  rule: string;
  role: PathRole;
  /** `peer`: the other end wishes so. `signal`: the link is fading. */
  role_from: 'configuration' | 'operator' | 'peer' | 'signal';
  state: PathState;
  is_chosen: boolean;
  /** Why it is chosen, or why not. */
  why: string;
}

/** What would become of a TCP connection to a destination (`GET /v1/why?host=HOST&port=PORT`), and what becomes of those there are. */
export interface WhyFlowDocument {
  schema: typeof WHY_FLOW_SCHEMA;
  time: string;
  host: string;
  port: number;
  /** The address that is judged; null: the name does not resolve here (the far side may resolve it). */
  address: string | null;
  names: string[];
  /** `relay`, `direct`, `convert`, `packet` or `bypass`. */
  way: string;
  rule: string;
  mode: string;
  /** Rules in turn, up to the one that matches; `failed`: the criterion that does not hold, null: it matches. */
  rules: { rule: string; failed: string | null }[];
  /** What would be said of each path. */
  paths: { name: string; state: string; carries: boolean; why: string }[];
  /** Open flows to it. */
  flows: TcpFlowStatus[];
}

/** One lane of a session: what kind of traffic, how much, and over which paths. */
export interface WhyFlows {
  session: string | null;
  lane: string;
  kind: string;
  tx_bytes: number;
  rx_bytes: number;
  /** Share of the bytes of this connection by path, both directions, 0 to 1. */
  shares: { path: string; tx_share: number; rx_share: number; why: string }[];
}

/**
 * `POST /v1/paths/{name}`; null goes back to what the configuration says. Lasts until a reload or restart. `use`: `down` is
 * role `never`; `up` takes that back, whoever said it, and tries at once.
 */
export interface PathChange {
  role?: PathRole | null;
  limit_bps?: number | null;
  use?: 'up' | 'down';
}

/** Answer to every POST and to every error. */
export interface ResultDocument {
  schema: typeof RESULT_SCHEMA;
  ok: boolean;
  message: string;
  /** Errors one by one, for instance those of a configuration on reload. */
  details: string[];
}

/** What the daemon implements for its control server. Documents are plain copies. */
export interface StatusSource {
  /** The tunnel's. */
  readonly name: string;
  status(): StatusDocument;
  flows(): FlowStatus[];
  tcpFlows(): TcpFlowStatus[];
  leftOut(): LeftOut[];
  /** Monotonic counters by name (the engine's and the lanes'), for /metrics. */
  counters(): Readonly<Record<string, number>>;
  /** Events kept with seq > `afterSeq`, then each new one, until the returned function is called. */
  subscribe(afterSeq: number, onEvent: (event: EventRecord) => void): () => void;
  /** Result, or null when there is no such path. */
  changePath(name: string, change: PathChange): CommandResult | null;
  /** null: as configured. */
  changeMode(mode: TrafficMode | null): CommandResult;
  why(): WhyDocument;
  /** A string says what is wrong. */
  whyFlow(host: string, port: number): Promise<WhyFlowDocument | string>;
  /** Opens the proxy at a further place. Throws as `listen` does. */
  openProxy(host: string, port: number): Promise<{ host: string; port: number; close(): void }>;
  /** The newest `count`, oldest first. */
  history(count: number): HandoverReceipt[];
  reload(): Promise<CommandResult>;
}

export interface CommandResult {
  ok: boolean;
  message: string;
  details?: string[];
}

/** Checks a POST body; a string says what is wrong with it. */
export function parsePathChange(body: unknown): PathChange | string {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) return 'a JSON object is wanted';
  const change: PathChange = {};
  for (const [key, value] of Object.entries(body)) {
    if (key === 'role') {
      if (value !== null && !PATH_ROLES.has(value as string))
        return `role: one of ${[...PATH_ROLES].join(', ')}, or null`;
      change.role = value as Exclude<PathChange['role'], undefined>;
    } else if (key === 'limit_bps') {
      if (value !== null && !(Number.isSafeInteger(value) && (value as number) > 0)) {
        return 'limit_bps: a positive integer in bit/s, or null';
      }
      change.limit_bps = value as number | null;
    } else if (key === 'use') {
      if (value !== 'up' && value !== 'down') return 'use: up or down';
      change.use = value;
    } else {
      return `unknown key ${key}: role, limit_bps and use are known`;
    }
  }
  if (change.use !== undefined && change.role !== undefined) return 'use and role exclude each other';
  return Object.keys(change).length === 0 ? 'nothing to change: give role, limit_bps or use' : change;
}

/** Checks the body of `POST /v1/mode`; a string says what is wrong with it. */
export function parseModeChange(body: unknown): { mode: TrafficMode | null } | string {
  const { mode } = (body ?? {}) as { mode?: unknown };
  if (mode === null) return { mode: null };
  const known = TRAFFIC_MODES.find((m) => m === mode);
  return known === undefined ? `mode: one of ${TRAFFIC_MODES.join(', ')}, or null` : { mode: known };
}

const PATH_ROLES: ReadonlySet<string> = new Set(['always', 'overflow', 'backup', 'never']);

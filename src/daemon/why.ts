/** `mptun why`: for each path the rule, the role and the reason, and what the traffic of now is made of. Plain copies. */
import type { PathRule } from '../config/types.js';
import {
  type FlowStatus,
  type PathRole,
  type PathStatus,
  type StatusDocument,
  WHY_SCHEMA,
  type WhyDocument,
  type WhyFlows,
  type WhyPath,
} from '../control/protocol.js';

export interface WhyInput {
  readonly status: StatusDocument;
  readonly flows: readonly FlowStatus[];
  /** The rule that matched a path's link; null on a server, which takes what comes. */
  ruleOf(path: PathStatus): PathRule | null;
  /** What the path manager makes of the role (the peer's wish, a signal that is falling); null: not known here. */
  managedRole(path: PathStatus): PathRole | null;
}

export function whyDocument(input: WhyInput): WhyDocument {
  const { status } = input;
  return {
    schema: WHY_SCHEMA,
    time: status.time,
    mode: status.traffic.mode,
    mode_from: status.traffic.mode_ordered ? 'operator' : 'configuration',
    scheduler: status.traffic.scheduler,
    paths: status.paths.map((path) => whyPath(path, input)),
    flows: input.flows.map(whyFlows),
  };
}

/** `name wlan*, type wifi`: every criterion of the rule that matched. */
export function ruleText(rule: PathRule | null): string {
  if (rule === null) return 'every link (server)';
  const said = Object.entries(rule.match).filter(([, value]) => value !== null);
  return said.length === 0 ? 'any link' : said.map(([key, value]) => `${key} ${String(value)}`).join(', ');
}

function whyPath(path: PathStatus, input: WhyInput): WhyPath {
  const managed = input.managedRole(path);
  const isChosen = path.state === 'active' && path.reason === null;
  return {
    name: path.name,
    rule: ruleText(input.ruleOf(path)),
    role: managed ?? path.role,
    role_from: roleFrom(path, managed),
    state: path.state,
    is_chosen: isChosen,
    why: isChosen ? whyChosen(path, managed ?? path.role, input.status) : (path.reason ?? 'not yet in use'),
  };
}

function roleFrom(path: PathStatus, managed: PathRole | null): WhyPath['role_from'] {
  if (managed !== null && managed !== path.role) return /fading/.test(path.reason ?? '') ? 'signal' : 'peer';
  return path.order?.role === undefined || path.order.role === null ? 'configuration' : 'operator';
}

function whyChosen(path: PathStatus, role: PathRole, { traffic, paths }: StatusDocument): string {
  const others = paths.filter(
    (p) => p !== path && (p.state === 'active' || p.state === 'warm') && p.reason !== 'nothing gets through',
  );
  if (others.length === 0) return 'the only path that works';
  if (traffic.mode === 'handover') return 'the best path that works; mode handover uses one at a time';
  if (role === 'overflow') return 'overflow: the others are full';
  if (role === 'backup') return 'backup: no other path works';
  return `role ${role}: every such path carries data in mode ${traffic.mode}`;
}

const KINDS: Readonly<Record<string, string>> = {
  sparse: 'requests, DNS, voice: flows that send little',
  bulk: 'transfers: flows that send much',
};

function whyFlows(flow: FlowStatus): WhyFlows {
  const sent = flow.subflows.reduce((n, s) => n + s.tx_bytes, 0);
  const received = flow.subflows.reduce((n, s) => n + s.rx_bytes, 0);
  return {
    session: flow.session,
    lane: flow.lane,
    kind: KINDS[flow.lane] ?? flow.lane,
    tx_bytes: flow.tx_bytes,
    rx_bytes: flow.rx_bytes,
    shares: flow.subflows.map((s) => ({
      path: s.path,
      tx_share: sent === 0 ? 0 : s.tx_bytes / sent,
      rx_share: received === 0 ? 0 : s.rx_bytes / received,
      why: s.idle_reason ?? 'carries data',
    })),
  };
}

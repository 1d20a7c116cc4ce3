/** What the control socket's documents want to know of a daemon's part, and ask of it, whether it is a client or a server. */
import type {
  CommandResult,
  PathChange,
  PathStatus,
  Problem,
  StatusDocument,
  TcpFlowStatus,
  TrafficMode,
  TunnelState,
} from '../control/protocol.js';
import type { Micros } from '../core/base/time.js';
import type { FlowJudge } from './flows/judge.js';
import type { HostLink, LinkMonitor } from './link-monitor.js';
import type { ReceiptBook } from './receipts.js';
import type { LaneConnection, PathInput, RateMeter } from './status.js';

/** What the state is, and why it is not up. */
export interface Standing {
  readonly state: TunnelState;
  readonly reason: string | null;
}

export interface Sessions {
  readonly totals: StatusDocument['totals'];
  readonly sessions: StatusDocument['sessions'];
  /** Of the TUN. */
  readonly addresses: string[];
}

export interface SideView {
  readonly monitor: LinkMonitor;
  readonly tunName: string;
  readonly receipts: Iterable<ReceiptBook>;
  standing(): Standing;
  problems(): Problem[];
  /** Where the server is, in words. */
  endpoint(): string;
  traffic(): Pick<StatusDocument['traffic'], 'mode' | 'mode_ordered' | 'scheduler'>;
  sessions(meter: RateMeter, nowUs: Micros, nowMs: number): Sessions;
  connections(): LaneConnection[];
  /** Of the lanes, and of whatever else counts. */
  counters(): Record<string, number>;
  tcpFlows(nowUs: Micros, linkName: (id: number) => string): TcpFlowStatus[];
  /** What is known of a link besides its facts. */
  linkStatus(link: HostLink): Pick<PathInput, 'session' | 'usage' | 'limitBps' | 'role' | 'order' | 'known'>;
  /** For `why`: the rule that took the link, and what the path manager uses it for; null: nothing here decides that. */
  linkChoice(link: HostLink): { readonly rule: HostLink['rule']; readonly role: PathStatus['role'] | null } | null;

  // ---- The client's alone: a server says so ------------------------------------------------------------------------

  readonly judge: FlowJudge | null;
  /** Null: there is no such path. */
  changePath(name: string, change: PathChange): CommandResult | null;
  changeMode(mode: TrafficMode | null): CommandResult;
  openProxy(host: string, port: number): Promise<{ host: string; port: number; close(): void }>;
}

export function prefixed(prefix: string, counters: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counters).map(([name, n]) => [prefix + name, n]));
}

/** The client as the control socket's documents see it. */
import type {
  CommandResult,
  PathChange,
  Problem,
  StatusDocument,
  TcpFlowStatus,
  TrafficMode,
} from '../control/protocol.js';
import type { Micros } from '../core/base/time.js';
import { BULK } from '../core/lanes/packet-lane.js';
import type { ClientDaemon } from './client.js';
import { tcpFlowStatus } from './flows/flow-status.js';
import type { FlowJudge } from './flows/judge.js';
import type { HostLink, LinkMonitor } from './link-monitor.js';
import type { ReceiptBook } from './receipts.js';
import { prefixed, type Sessions, type SideView, type Standing } from './side-view.js';
import { type LaneConnection, laneCounters, type RateMeter, wallTime } from './status.js';

export class ClientView implements SideView {
  constructor(private readonly client: ClientDaemon) {}

  get monitor(): LinkMonitor {
    return this.client.links.monitor;
  }

  get tunName(): string {
    return this.client.tun.name;
  }

  get receipts(): Iterable<ReceiptBook> {
    return [this.client.receipts];
  }

  get judge(): FlowJudge {
    return this.client.flows.desk.judge;
  }

  standing(): Standing {
    const { client } = this;
    if (client.isUp) return { state: 'up', reason: null };
    if (!this.monitor.links.some((l) => l.isUp && client.roles.roleOf(l) !== 'never'))
      return { state: 'waiting', reason: 'no usable link' };
    return { state: 'connecting', reason: client.lastFailure?.why ?? null };
  }

  problems(): Problem[] {
    const problems: Problem[] = [];
    const failure = this.client.isUp ? null : this.client.lastFailure;
    if (failure !== null) {
      problems.push({
        kind: failure.isAuthentication ? 'authentication' : 'unreachable',
        message: failure.why,
        remedy: failure.isAuthentication ? 'compare the keys of both ends: mptun pubkey' : null,
        needs_user: failure.isAuthentication,
      });
    }
    for (const link of this.monitor.links) {
      if (link.connectivity !== 'portal' || !link.hasCarrier) continue;
      const message = `${link.name}: a login page answers in place of the Internet (NetworkManager)`;
      problems.push({ kind: 'portal', message, remedy: 'log in there with a browser', needs_user: true });
    }
    return problems;
  }

  endpoint(): string {
    const { host, port } = this.client.config.server;
    return `${host}:${port}`;
  }

  traffic(): Pick<StatusDocument['traffic'], 'mode' | 'mode_ordered' | 'scheduler'> {
    const { policy, roles } = this.client;
    return { mode: policy.mode, mode_ordered: roles.orders.mode !== null, scheduler: policy.schedulerOf(BULK) };
  }

  sessions(meter: RateMeter, nowUs: Micros, nowMs: number): Sessions {
    const { client } = this;
    const { lane, writer } = client.tun;
    const totals = meter.totals('tun', lane.counters.bytesOut, writer.bytesWritten, nowMs);
    const addresses = client.addresses.map((a) => a.text);
    if (client.upSinceUs === null) return { totals, sessions: [], addresses };
    const session = {
      ...totals,
      peer: this.session,
      since: wallTime(client.upSinceUs, nowUs),
      addresses,
      connections: client.connections.length,
      unsupported: [],
    };
    return { totals, sessions: [session], addresses };
  }

  connections(): LaneConnection[] {
    const { session } = this;
    return this.client.connections.map((c) => ({ session, ...c }));
  }

  counters(): Record<string, number> {
    const { flows, tun } = this.client;
    const { apps, domains, proxy } = flows.desk;
    return {
      ...laneCounters([tun.lane], tun.writer),
      ...prefixed('proxy_', proxy.counters),
      ...prefixed('names_', domains.counters),
      ...prefixed('apps_', apps.counters),
      ...prefixed('relay_', flows.relay.pool.counters),
    };
  }

  tcpFlows(nowUs: Micros, linkName: (id: number) => string): TcpFlowStatus[] {
    const entries = this.client.flows.desk.registry.entries();
    return entries.map((entry) => tcpFlowStatus(entry, this.session, nowUs, linkName));
  }

  linkStatus(link: HostLink): ReturnType<SideView['linkStatus']> {
    const { roles } = this.client;
    return {
      session: this.session,
      usage: roles.usageOf(link),
      limitBps: roles.limitOf(link),
      role: roles.roleOf(link),
      order: roles.orders.of(link.name),
      known: this.client.pathState(link.id),
    };
  }

  linkChoice(link: HostLink): ReturnType<SideView['linkChoice']> {
    return { rule: link.rule, role: this.client.pathState(link.id)?.role ?? null };
  }

  changePath(name: string, change: PathChange): CommandResult | null {
    return this.client.policy.changePath(name, change);
  }

  changeMode(mode: TrafficMode | null): CommandResult {
    return this.client.policy.changeMode(mode);
  }

  openProxy(host: string, port: number): Promise<{ host: string; port: number; close(): void }> {
    return this.client.flows.desk.proxy.listen({ host, port });
  }

  /** What the one session is called. */
  private get session(): string {
    return this.client.config.server.host;
  }
}

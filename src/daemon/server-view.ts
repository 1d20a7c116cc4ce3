/** The server as the control socket's documents see it. */
import type { CommandResult, Problem, StatusDocument, TcpFlowStatus } from '../control/protocol.js';
import type { Micros } from '../core/base/time.js';
import { convertedStatus, relayedStatus } from './flows/flow-status.js';
import type { HostLink, LinkMonitor } from './link-monitor.js';
import type { ReceiptBook } from './receipts.js';
import type { ServerDaemon } from './server.js';
import { prefixed, type Sessions, type SideView, type Standing } from './side-view.js';
import { endpointText, type LaneConnection, laneCounters, type RateMeter, wallTime } from './status.js';

export class ServerView implements SideView {
  readonly judge = null;

  constructor(private readonly server: ServerDaemon) {}

  get monitor(): LinkMonitor {
    return this.server.monitor;
  }

  get tunName(): string {
    return this.server.tun.name;
  }

  get receipts(): Iterable<ReceiptBook> {
    return this.server.receipts;
  }

  /** It waits for its clients, and that is all it has to do. */
  standing(): Standing {
    return { state: 'up', reason: null };
  }

  problems(): Problem[] {
    return [];
  }

  endpoint(): string {
    const { addresses, port } = this.server.config.listen;
    if (addresses.length === 0) return `port ${port}`;
    return addresses.map((address) => endpointText({ address, port })).join(', ');
  }

  traffic(): Pick<StatusDocument['traffic'], 'mode' | 'mode_ordered' | 'scheduler'> {
    const { mode, scheduler } = this.server.config.traffic;
    return { mode, mode_ordered: false, scheduler };
  }

  sessions(meter: RateMeter, nowUs: Micros, nowMs: number): Sessions {
    const { ownAddresses, sessions, writer } = this.server;
    let out = 0;
    const open = sessions.sessions.map((s) => {
      const received = s.session.connections.reduce((n, c) => n + (c?.pump.bytesReceived ?? 0), 0);
      out += s.lane.counters.bytesOut;
      return {
        ...meter.totals(`session/${s.sessionId}`, s.lane.counters.bytesOut, received, nowMs),
        peer: s.client.name,
        since: wallTime(s.sinceUs, nowUs),
        addresses: s.client.addresses.map((a) => a.text),
        connections: s.session.connections.filter((c) => c !== null).length,
        unsupported: [],
      };
    });
    const totals = meter.totals('tun', out, writer.bytesWritten, nowMs);
    return { totals, sessions: open, addresses: ownAddresses.map((a) => a.text) };
  }

  connections(): LaneConnection[] {
    return this.server.sessions.sessions.flatMap((s) =>
      s.session.connections
        .filter((c) => c !== null)
        .map((c) => ({ session: s.client.name, lane: c.index, connection: c.connection })),
    );
  }

  counters(): Record<string, number> {
    const { converter, relay, sessions, writer } = this.server;
    const lanes = sessions.sessions.map((s) => s.lane);
    return { ...laneCounters(lanes, writer), ...prefixed('relay_', relay.counters), ...converter?.counters };
  }

  tcpFlows(nowUs: Micros, linkName: (id: number) => string): TcpFlowStatus[] {
    const { converter, relay } = this.server;
    const converted = converter?.flows().flatMap((flow) => convertedStatus(flow, nowUs, linkName) ?? []) ?? [];
    return [...relay.flows().map((flow) => relayedStatus(flow, nowUs, linkName)), ...converted];
  }

  linkStatus(link: HostLink): ReturnType<SideView['linkStatus']> {
    return { session: null, usage: null, limitBps: null, role: link.rule.role, order: null, known: null };
  }

  /** It takes what comes. */
  linkChoice(): null {
    return null;
  }

  changePath(): CommandResult {
    return { ok: false, message: 'paths are chosen by the client' };
  }

  changeMode(): CommandResult {
    return { ok: false, message: 'the mode is chosen by the client' };
  }

  openProxy(): Promise<never> {
    return Promise.reject(new Error("proxies are the client's: ask there"));
  }
}

/**
 * What the configuration and the operator want of the client's traffic: its mode, and what each link may carry and how. It
 * holds at both ends: for our own sending here, and for the server's over the policy channel.
 */
import type { ClientConfig, PathRole } from '../config/types.js';
import type { CommandResult, PathChange } from '../control/protocol.js';
import { type LaneIndex, SPARSE } from '../core/lanes/packet-lane.js';
import type { PathEvent } from '../core/pathman/types.js';
import { pathModeOf, schedulerOf, type TrafficMode } from '../core/scheduler/modes.js';
import type { ClientLinks } from './client-links.js';
import type { Driver } from './driver.js';
import type { Journal } from './journal.js';
import type { LinkRoles } from './link-roles.js';
import type { LaneOf } from './path-subflows.js';
import { LANES, type Session } from './session.js';
import type { SessionPaths } from './session-paths.js';

export interface ClientPolicyOptions {
  config(): ClientConfig;
  readonly driver: Pick<Driver, 'flushSoon'>;
  readonly journal: Pick<Journal, 'record'>;
  readonly roles: LinkRoles;
  readonly links: ClientLinks;
  readonly paths: SessionPaths;
  readonly session: Session;
  connections(): readonly LaneOf[];
  /** News for the path managers. */
  onPathEvent(event: PathEvent): void;
}

export class ClientPolicy {
  /** What happens now is what an operator ordered. */
  isOrdering = false;

  constructor(private readonly options: ClientPolicyOptions) {}

  /** The mode in force: ordered, or configured. */
  get mode(): TrafficMode {
    return this.options.roles.orders.mode ?? this.options.config().traffic.mode;
  }

  schedulerOf(lane: LaneIndex): string {
    return schedulerOf(this.mode, lane === SPARSE, this.options.config().traffic.scheduler);
  }

  congestionOf(linkId: number): string {
    return this.options.links.monitor.link(linkId)?.rule.congestion ?? this.options.config().traffic.congestion;
  }

  /** In bytes/s, 0: none. It holds for either direction: the server is told. */
  rateLimitOf(linkId: number): number {
    const link = this.options.links.monitor.link(linkId);
    return link === null ? 0 : Math.floor((this.options.roles.limitOf(link) ?? 0) / 8);
  }

  /** An operator's order (`mptun path`), until `reset` or a reload. Null: there is no such path. */
  changePath(name: string, change: PathChange): CommandResult | null {
    const { driver, journal, links, roles } = this.options;
    const link = links.monitor.links.find((l) => l.name === name);
    if (link === undefined) return null;
    if (!roles.orders.change(name, change, roles.roleWithoutOrders(link)))
      return { ok: false, message: 'too many paths have orders' };
    const order = roles.orders.of(name);
    const message = orderText(name, order?.role ?? null, order?.limit_bps ?? null);
    journal.record('info', 'order', message, { path: name, data: { ...order } });
    this.asOrdered(() => this.applyLinks());
    // An order to use it is worth an attempt at once, whatever the back-off says.
    if (change.role !== 'never' && change.use !== 'down')
      this.options.onPathEvent({ type: 'link-news', linkId: link.id });
    driver.flushSoon();
    return { ok: true, message };
  }

  /**
   * An operator's order (`mptun mode`): another mode for all traffic, at both ends and at once; no connection is made anew.
   * Null: as configured.
   */
  changeMode(mode: TrafficMode | null): CommandResult {
    const { driver, journal, roles } = this.options;
    roles.orders.mode = mode;
    const until = mode === null ? 'as configured' : 'until reset or a reload';
    const message = `mode ${this.mode}, ${until}`;
    journal.record('info', 'order', message, { data: { mode: this.mode } });
    this.asOrdered(() => this.applyMode());
    this.tellServer();
    driver.flushSoon();
    return { ok: true, message };
  }

  /** The links' roles, limits and congestion controls may have changed. */
  applyLinks(): void {
    this.options.links.applyPolicies();
    this.options.paths.applyRules();
  }

  /** Our side of the mode: the schedulers of what we send, and how many paths carry it. */
  applyMode(): void {
    for (const { lane, connection } of this.options.connections()) connection.setScheduler(this.schedulerOf(lane));
    const { maxSubflows } = this.options.config().traffic;
    this.options.onPathEvent({ type: 'session-policy', mode: pathModeOf(this.mode), maxSubflows });
  }

  /** The policy channel: what we wish of the server's sending, link by link. */
  tellServer(): void {
    const { links, paths, session } = this.options;
    if (this.options.connections().length === 0) return;
    const wishes = paths.policyPaths((linkId) => ({
      name: links.nameOf(linkId),
      rateLimitBytesPerS: this.rateLimitOf(linkId),
      congestion: links.monitor.link(linkId)?.rule.congestion ?? '',
    }));
    const { mode } = this;
    const modes = LANES.map((lane) => ({ lane, mode, scheduler: this.schedulerOf(lane) }));
    session.sendPolicy({ paths: wishes, modes });
  }

  private asOrdered(order: () => void): void {
    this.isOrdering = true;
    order();
    this.isOrdering = false;
  }
}

function orderText(name: string, role: PathRole | null, limitBps: number | null): string {
  const said = [
    ...(role === null ? [] : [role === 'never' ? 'down' : role]),
    ...(limitBps === null ? [] : [`at most ${limitBps / 1e6} Mbit/s each way`]),
  ];
  return said.length === 0 ? `${name}: as configured` : `${name}: ${said.join(', ')}, until reset or a reload`;
}

/** What an operator ordered at run time (`mptun path`, `mptun mode`): it replaces the configuration until `reset` or a reload. */
import type { PathChange, PathOrder, PathRole, TrafficMode } from '../control/protocol.js';

/** Paths with orders at once; one more is refused. Names are those of links that exist, so this is plenty. */
const MAX_ORDERS = 256;

export class OperatorOrders {
  mode: TrafficMode | null = null;
  private readonly byName = new Map<string, PathOrder>();

  /** `now` is RFC 3339. */
  constructor(private readonly now: () => string = () => new Date().toISOString()) {}

  of(name: string): PathOrder | null {
    return this.byName.get(name) ?? null;
  }

  roleOf(name: string, configured: PathRole): PathRole {
    return this.byName.get(name)?.role ?? configured;
  }

  limitOf(name: string, configuredBps: number | null): number | null {
    return this.byName.get(name)?.limit_bps ?? configuredBps;
  }

  /** Takes an order on; `configured` is the path's role without any. False: there are too many. */
  change(name: string, change: PathChange, configured: PathRole): boolean {
    const old = this.byName.get(name);
    if (old === undefined && this.byName.size >= MAX_ORDERS) return false;
    let role = change.role === undefined ? (old?.role ?? null) : change.role;
    if (change.use === 'down') role = 'never';
    else if (change.use === 'up' && (role ?? configured) === 'never') role = configured === 'never' ? 'always' : null;
    const limit_bps = change.limit_bps === undefined ? (old?.limit_bps ?? null) : change.limit_bps;
    if (role === null && limit_bps === null) this.byName.delete(name);
    else this.byName.set(name, { role, limit_bps, since: this.now() });
    return true;
  }

  clear(): void {
    this.mode = null;
    this.byName.clear();
  }
}

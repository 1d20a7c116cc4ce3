/**
 * The client's side of the host: addresses on the TUN, and routes into it (DESIGN 3.3). Nothing of the system's own is
 * changed; there is one table of ours and a few rules, all marked with our protocol number, so that they can be found and
 * removed by anyone, also after a kill -9:
 *
 *   priority P      oif LINK lookup main               sockets bound to a link (our resolver, DHCP) are not captured
 *   priority P+1    lookup main suppress_prefixlength 0   on-link and other specific routes stay outside
 *   priority P+2…   as flows.rules say                 those that bypass, and those before them (flows/bypass.ts)
 *   behind them     lookup TABLE                       default (or `include`) into the TUN, `exclude` thrown back to main
 *
 * IPv6 that the server does not offer is unreachable at once: an application then takes IPv4, and nothing leaks.
 */
import { MAX_FLOW_RULES } from '../config/flow-lint.js';
import type { ClientConfig } from '../config/types.js';
import { type Family, type IpAddress, ipEquals } from '../core/base/ip.js';
import { NetlinkError, type NewRoute, type NewRule, ROUTE_PROTOCOL, type Rtnetlink } from '../native/index.js';
import type { RoutingRule } from './flows/bypass.js';

const RT_TABLE_MAIN = 254;
/** Metric of the "unreachable" routes: only reached where there is nothing better. */
const UNREACHABLE_METRIC = 4_000_000_000;
/** Priorities from `rulePriority` on that are ours: the two above, one for each rule for flows and for the default, the last. */
const PRIORITIES = 4 + MAX_FLOW_RULES;

type CaptureConfig = ClientConfig['capture'];

/** Removes what an earlier run left behind (routes of ours in our table, rules of ours at our priorities). */
export function cleanCapture(rt: Rtnetlink, config: CaptureConfig): number {
  let removed = 0;
  for (const rule of rt.rules()) {
    const isOurs =
      rule.protocol === ROUTE_PROTOCOL &&
      rule.priority >= config.rulePriority &&
      rule.priority < config.rulePriority + PRIORITIES;
    if (isOurs && rt.deleteRule(rule)) removed++;
  }
  for (const route of rt.routes()) {
    if (route.protocol === ROUTE_PROTOCOL && route.table === config.table && rt.deleteRoute(route)) removed++;
  }
  return removed;
}

export class Capture {
  private addresses: readonly IpAddress[] = [];
  private families: readonly Family[] = [];
  private links: readonly string[] = [];
  private flowRules: (family: Family) => readonly RoutingRule[] = () => [];
  private installed: { routes: NewRoute[]; rules: NewRule[] } = { routes: [], rules: [] };

  constructor(
    private readonly rt: Rtnetlink,
    private config: CaptureConfig,
    private readonly tunIndex: number,
  ) {}

  /** A rule for flows cannot be installed here. */
  onRefused: (why: string) => void = () => {};

  /** What the server assigned; addresses that it took back are removed. */
  setAddresses(addresses: readonly IpAddress[]): void {
    for (const old of this.addresses) {
      if (!addresses.some((a) => ipEquals(a, old))) this.rt.deleteAddress(this.tunIndex, single(old));
    }
    for (const address of addresses) this.rt.addAddress(this.tunIndex, single(address));
    this.addresses = addresses;
    this.apply();
  }

  /** Families that the server carries to the Internet. */
  setFamilies(families: readonly Family[]): void {
    this.families = families;
    this.apply();
  }

  /** Other destinations; table and priority stay what they are. */
  setConfig(config: CaptureConfig): void {
    this.config = config;
    this.apply();
  }

  /** What bypasses the tunnel by rules for flows, and what comes before it. */
  setFlowRules(rules: (family: Family) => readonly RoutingRule[]): void {
    this.flowRules = rules;
    this.apply();
  }

  /** Names of the links that the tunnel uses. */
  setLinks(names: readonly string[]): void {
    this.links = names;
    this.apply();
  }

  /** Everything back as it was. */
  remove(): void {
    for (const rule of this.installed.rules) this.rt.deleteRule(rule);
    for (const route of this.installed.routes) this.rt.deleteRoute(route);
    for (const address of this.addresses) this.rt.deleteAddress(this.tunIndex, single(address));
    this.installed = { routes: [], rules: [] };
    this.addresses = [];
  }

  /** Installs what is wanted now and removes the rest; new before old, so that nothing escapes in between. */
  private apply(): void {
    // Until the server has given an address there is nothing to send from, and nothing is captured.
    if (this.addresses.length === 0) return;
    const before = this.installed;
    const routes = this.wantedRoutes();
    const rules = this.wantedRules();
    const keys = (list: readonly object[]) => new Set(list.map(key));
    const [oldRoutes, oldRules, newRoutes, newRules] = [before.routes, before.rules, routes, rules].map(keys);
    for (const route of routes) if (!oldRoutes!.has(key(route))) this.rt.addRoute(route);
    const refused = new Set<NewRule>();
    for (const rule of rules) if (!oldRules!.has(key(rule)) && !this.addRule(rule)) refused.add(rule);
    for (const route of before.routes) if (!newRoutes!.has(key(route))) this.rt.deleteRoute(route);
    for (const rule of before.rules) if (!newRules!.has(key(rule))) this.rt.deleteRule(rule);
    this.installed = { routes, rules: rules.filter((r) => !refused.has(r)) };
  }

  /** False: this kernel does not know one of its selectors. */
  private addRule(rule: NewRule): boolean {
    try {
      this.rt.addRule(rule);
      return true;
    } catch (error) {
      // Code points: Linux 6.12. Everything else is older than what we need anyway.
      if (rule.dscp === undefined || !(error instanceof NetlinkError)) throw error;
      this.onRefused(`this kernel cannot route by dscp ${rule.dscp}: ${error.message}`);
      return false;
    }
  }

  private wantedRoutes(): NewRoute[] {
    const { config } = this;
    const routes: NewRoute[] = [];
    for (const family of [4, 6] as const) {
      const source = this.addresses.find((a) => a.family === family) ?? null;
      const isOffered = source !== null && this.families.includes(family);
      const destinations = config.include.filter((p) => p.address.family === family).map(toPrefix);
      for (const destination of config.defaultRoute ? [null, ...destinations] : destinations) {
        const common = { family, destination, table: config.table };
        if (isOffered) routes.push({ ...common, interfaceIndex: this.tunIndex, source });
        // Behind the TUN route: what is captured stays captured, even when the device goes away before us.
        if (family === 6 || isOffered) routes.push({ ...common, type: 'unreachable', metric: UNREACHABLE_METRIC });
      }
      for (const prefix of config.exclude) {
        if (prefix.address.family !== family) continue;
        routes.push({ family, destination: toPrefix(prefix), table: config.table, type: 'throw' });
      }
    }
    return routes;
  }

  private wantedRules(): NewRule[] {
    const { rulePriority: priority, table } = this.config;
    return ([4, 6] as const).flatMap((family): NewRule[] => {
      const flowRules = this.flowRules(family);
      const behind = flowRules.reduce((most, r) => Math.max(most, r.order + 1), 0);
      return [
        ...this.links.map((name) => ({ family, priority, outputInterface: name, table: RT_TABLE_MAIN })),
        { family, priority: priority + 1, table: RT_TABLE_MAIN, suppressPrefixLength: 0 },
        ...flowRules.map(({ order, isOutside, ...selector }) => ({
          family,
          priority: priority + 2 + order,
          table: isOutside ? RT_TABLE_MAIN : table,
          ...selector,
        })),
        { family, priority: priority + 2 + behind, table },
      ];
    });
  }
}

function single(address: IpAddress) {
  return { address, prefixLength: address.bytes.length * 8 };
}

function toPrefix(p: { address: IpAddress; bits: number }) {
  return { address: p.address, prefixLength: p.bits };
}

function key(item: unknown): string {
  return JSON.stringify(item, (name, value: unknown) => (name === 'bytes' ? undefined : value));
}

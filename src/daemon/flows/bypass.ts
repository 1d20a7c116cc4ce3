/**
 * The way `bypass`, and every rule before one that bypasses, as routing rules: the kernel decides by them, in the order of the
 * file, before a packet is ours. A domain is as many destinations as addresses of it are known: a rule for each is there before the
 * application hears of the address.
 *
 *   flows.rules:  to 192.0.2.0/24 → relay     port 22, uid 1000 → bypass     default bypass
 *   ip rule:      to 192.0.2.0/24 → tunnel    dport 22 uid 1000 → main       tcp → main           (then all: tunnel)
 */
import type { FlowMatch, FlowRule, FlowsConfig } from '../../config/types.js';
import { type Family, type IpAddress, parseIp } from '../../core/base/ip.js';
import type { Micros } from '../../core/base/time.js';

/** Addresses of names that have routing rules, over all rules of the file; beyond it the one that was told longest ago goes. */
export const MAX_LEARNT = 256;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;

export interface RoutingRule {
  /** Rules with a lower one come first. */
  readonly order: number;
  /** True: by the host's own routes. False: into the tunnel. */
  readonly isOutside: boolean;
  readonly to?: { readonly address: IpAddress; readonly prefixLength: number };
  readonly ipProtocol?: number;
  readonly destinationPorts?: { readonly from: number; readonly to: number };
  readonly uids?: { readonly from: number; readonly to: number };
  readonly dscp?: number;
}

interface Routed {
  readonly rule: FlowRule;
  readonly order: number;
  readonly domains: readonly RegExp[];
  /** Addresses of its domains, by text, with when each is forgotten; the one that was told last is last. */
  readonly learnt: Map<string, Micros>;
}

export class Bypass {
  private routed: Routed[] = [];
  private isDefault = false;

  constructor(config: FlowsConfig) {
    this.setConfig(config);
  }

  setConfig({ rules, default: fallback }: FlowsConfig): void {
    const before = new Map(this.routed.map((r) => [r.rule.match.domain.join(' '), r.learnt]));
    this.isDefault = fallback === 'bypass';
    const last = this.isDefault ? rules.length - 1 : rules.findLastIndex((r) => r.use === 'bypass');
    this.routed = rules.slice(0, last + 1).flatMap((rule, order): Routed[] => {
      // What a flow has carried so far changes its mode, not its way.
      if (rule.use === null || rule.match.bytesOver !== null) return [];
      const domains = rule.match.domain.map((d) => new RegExp(`^${d.replace(/\./g, '\\.').replace(/\*/g, '.*')}$`));
      return [{ rule, order, domains, learnt: before.get(rule.match.domain.join(' ')) ?? new Map() }];
    });
  }

  /** Some rule wants to hear of names. */
  get needsNames(): boolean {
    return this.routed.some((r) => r.domains.length > 0);
  }

  /** An address goes by these names. True: routing changes. */
  learn(address: IpAddress, names: readonly string[], untilUs: Micros): boolean {
    let hasChanged = false;
    for (const { domains, learnt } of this.routed) {
      if (!names.some((n) => domains.some((d) => d.test(n)))) continue;
      hasChanged ||= !learnt.has(address.text);
      learnt.delete(address.text);
      learnt.set(address.text, untilUs);
      for (const oldest of learnt.keys()) {
        if (learnt.size <= MAX_LEARNT) break;
        learnt.delete(oldest);
      }
    }
    return hasChanged;
  }

  /** True: routing changes. */
  expire(nowUs: Micros): boolean {
    let hasChanged = false;
    for (const { learnt } of this.routed) {
      for (const [text, untilUs] of learnt) if (untilUs <= nowUs) hasChanged = learnt.delete(text) || hasChanged;
    }
    return hasChanged;
  }

  /** Of one family, in order. */
  rules(family: Family): RoutingRule[] {
    const rules = this.routed.flatMap((routed) => selectors(routed, family));
    if (!this.isDefault) return rules;
    const order = (this.routed.at(-1)?.order ?? -1) + 1;
    return [...rules, { order, isOutside: true, ipProtocol: IPPROTO_TCP }];
  }
}

/** Every combination of what a rule lists. */
function selectors({ rule, order, domains, learnt }: Routed, family: Family): RoutingRule[] {
  const { match } = rule;
  const base: RoutingRule = {
    order,
    isOutside: rule.use === 'bypass',
    ...(match.app.uid === null ? {} : { uids: { from: match.app.uid, to: match.app.uid } }),
  };
  let rules: RoutingRule[] = [base];
  const times = <T>(items: readonly T[], add: (item: T) => Partial<RoutingRule>) => {
    if (items.length > 0) rules = rules.flatMap((r) => items.map((item) => ({ ...r, ...add(item) })));
  };
  const destinations = destinationsOf(match, domains, learnt).filter((d) => d.address.family === family);
  if ((match.to.length > 0 || domains.length > 0) && destinations.length === 0) return [];
  times(destinations, (to) => ({ to }));
  times(match.dscp, (dscp) => ({ dscp }));
  times(match.port, (destinationPorts) => ({ destinationPorts }));
  // The kernel matches ports only of a protocol that is named.
  const protocols =
    match.protocol === null ? [IPPROTO_TCP, IPPROTO_UDP] : [match.protocol === 'tcp' ? IPPROTO_TCP : IPPROTO_UDP];
  if (match.protocol !== null || match.port.length > 0) times(protocols, (ipProtocol) => ({ ipProtocol }));
  return rules;
}

function destinationsOf({ to }: FlowMatch, domains: readonly RegExp[], learnt: ReadonlyMap<string, Micros>) {
  if (domains.length === 0) return to.map(({ address, bits }) => ({ address, prefixLength: bits }));
  return [...learnt.keys()].map((text) => {
    const address = parseIp(text);
    return { address, prefixLength: address.bytes.length * 8 };
  });
}

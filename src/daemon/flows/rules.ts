/**
 * Which way a flow takes, and in which mode: the first rule of `flows.rules` that matches, else `flows.default`. Pure: facts in,
 * verdict with its reason out. Facts that cost something (names, the application) are asked for only by rules that need them.
 */
import type { FlowMatch, FlowRule, FlowsConfig, FlowUse } from '../../config/types.js';
import type { IpAddress } from '../../core/base/ip.js';
import { prefixContains } from '../../core/base/prefix.js';
import type { TrafficMode } from '../../core/scheduler/modes.js';
import type { AppIdentity } from './apps.js';
import type { FlowDecision, FlowWay } from './contract.js';

export interface FlowFacts {
  readonly protocol: 'tcp' | 'udp';
  /** Null: only a name is known. */
  readonly address: IpAddress | null;
  readonly port: number;
  /** Of the first packet; null: not known. */
  readonly dscp: number | null;
  /** Both ways, so far. */
  readonly bytes: number;
  /** Names of the destination, lower case, the one that was asked for first. */
  names(): readonly string[];
  /** Who opened it; null: nobody on this host, or not known. */
  app(): AppIdentity | null;
}

export interface FlowVerdict extends FlowDecision {
  /** What the rule asks for; `way` is what becomes of it here. */
  readonly use: FlowUse;
  /** Index in flows.rules; -1: none, the default. */
  readonly rule: number;
  /** In words, such as `flows.rules[2]: port 443, domain *.example.com`. */
  readonly reason: string;
  /** Bytes of the flow that may be sent on two paths at once. */
  readonly copiesBytes: number;
  /** The mode is that of all traffic, whatever that becomes. */
  readonly followsTraffic: boolean;
}

/** What there is beside the rules. */
export interface RuleContext {
  /** For rules without a mode. */
  readonly mode: TrafficMode;
  readonly hasWay: (way: FlowWay) => boolean;
}

/** A rule as `mptun why HOST:PORT` explains it. */
export interface RuleTrial {
  readonly rule: number;
  readonly text: string;
  /** The criterion that does not hold; null: it matches. */
  readonly failed: string | null;
}

export class RuleSet {
  private readonly rules: readonly CompiledRule[];
  /** Some rule looks at names, or at the application. */
  readonly needsNames: boolean;
  readonly needsApp: boolean;
  /** Some rule may take what is not TCP. */
  readonly hasPacketRules: boolean;
  /** Some rule gives flows another mode later. */
  readonly hasBytesRules: boolean;

  constructor(readonly config: FlowsConfig) {
    this.rules = config.rules.map((rule, index) => new CompiledRule(rule, index));
    const { rules } = config;
    this.needsNames = rules.some((r) => r.match.domain.length > 0);
    this.needsApp = rules.some((r) => r.match.app.cgroup !== null || r.match.app.uid !== null);
    this.hasPacketRules = rules.some(
      (r) => r.match.protocol !== 'tcp' && r.match.bytesOver === null && r.mode !== null,
    );
    this.hasBytesRules = rules.some((r) => r.match.bytesOver !== null);
  }

  /** For a flow that begins. */
  decide(facts: FlowFacts, context: RuleContext): FlowVerdict {
    for (const rule of this.rules) {
      const { match, use } = rule.rule;
      // A rule without a way has nothing to say of how a flow begins.
      if (use === null || match.bytesOver !== null || rule.failure(facts) !== null) continue;
      return verdict(use, facts, rule.rule, rule.index, rule.text, context);
    }
    return verdict(this.config.default, facts, null, -1, 'flows.default', context);
  }

  /** For a flow that has carried `facts.bytes`: what is in force now. Its way stays. */
  judgeAgain(facts: FlowFacts, before: FlowVerdict, context: RuleContext): FlowVerdict {
    for (const rule of this.rules) {
      // What comes behind the rule that it has is not asked, as when it began.
      if (before.rule >= 0 && rule.index >= before.rule && rule.rule.match.bytesOver === null) break;
      const { match, mode, copiesBytes } = rule.rule;
      if (match.bytesOver === null || rule.failure(facts) !== null) continue;
      if (rule.index === before.rule) return before;
      return {
        ...before,
        rule: rule.index,
        reason: rule.text,
        mode: mode ?? context.mode,
        copiesBytes: copiesBytes ?? 0,
        followsTraffic: mode === null,
      };
    }
    return before;
  }

  /** Each rule in turn, up to the one that matches. */
  explain(facts: FlowFacts): RuleTrial[] {
    const trials: RuleTrial[] = [];
    for (const rule of this.rules) {
      const { match, use } = rule.rule;
      const failed =
        use === null || match.bytesOver !== null ? 'counts later, by the bytes carried' : rule.failure(facts);
      trials.push({ rule: rule.index, text: rule.text, failed });
      if (failed === null) break;
    }
    return trials;
  }
}

/** `port 443, domain *.example.com`: every criterion of a match. */
export function matchText(match: FlowMatch): string {
  const { protocol, to, port, domain, app, dscp, bytesOver } = match;
  const said: string[] = [];
  if (protocol !== null) said.push(protocol);
  if (to.length > 0) said.push(`to ${to.map((p) => p.text).join(' or ')}`);
  if (port.length > 0)
    said.push(`port ${port.map((p) => (p.from === p.to ? p.from : `${p.from}-${p.to}`)).join(' or ')}`);
  if (domain.length > 0) said.push(`domain ${domain.join(' or ')}`);
  if (app.cgroup !== null) said.push(`cgroup ${app.cgroup}`);
  if (app.uid !== null) said.push(`uid ${app.uid}`);
  if (dscp.length > 0) said.push(`dscp ${dscp.join(' or ')}`);
  if (bytesOver !== null) said.push(`over ${bytesOver} bytes`);
  return said.join(', ');
}

class CompiledRule {
  readonly text: string;
  private readonly domains: readonly RegExp[];
  private readonly cgroup: RegExp | null;

  constructor(
    readonly rule: FlowRule,
    readonly index: number,
  ) {
    const { match } = rule;
    this.text = `flows.rules[${index}]: ${matchText(match)}`;
    this.domains = match.domain.map((d) => new RegExp(`^${source(d)}$`));
    // Groups below count as well.
    this.cgroup = match.app.cgroup === null ? null : new RegExp(`^${source(match.app.cgroup)}(/|$)`, 's');
  }

  /** The first criterion that does not hold; null: it matches. Cheap ones first. */
  failure(facts: FlowFacts): string | null {
    const { match } = this.rule;
    if (match.protocol !== null && match.protocol !== facts.protocol) return 'protocol';
    if (match.bytesOver !== null && facts.bytes <= match.bytesOver) return 'bytes_over';
    if (match.port.length > 0 && !match.port.some((p) => p.from <= facts.port && facts.port <= p.to)) return 'port';
    if (match.dscp.length > 0 && !(facts.dscp !== null && match.dscp.includes(facts.dscp))) return 'dscp';
    const { address } = facts;
    if (match.to.length > 0 && !(address !== null && match.to.some((p) => prefixContains(p, address)))) return 'to';
    if (this.domains.length > 0 && !facts.names().some((n) => this.domains.some((d) => d.test(n)))) return 'domain';
    if (match.app.uid === null && this.cgroup === null) return null;
    const app = facts.app();
    if (match.app.uid !== null && app?.uid !== match.app.uid) return 'app.uid';
    if (this.cgroup !== null && !(app?.cgroup != null && this.cgroup.test(app.cgroup))) return 'app.cgroup';
    return null;
  }
}

function verdict(
  use: FlowUse,
  facts: FlowFacts,
  rule: FlowRule | null,
  index: number,
  text: string,
  { mode, hasWay }: RuleContext,
): FlowVerdict {
  const common = {
    use,
    mode: rule?.mode ?? mode,
    rule: index,
    copiesBytes: rule?.copiesBytes ?? 0,
    followsTraffic: (rule?.mode ?? null) === null,
  };
  if (facts.protocol !== 'tcp') return { ...common, way: 'packet', reason: text };
  if (use === 'packet') return { ...common, way: 'packet', reason: text };
  // Routing would have kept it out if it had known in time (a name that was learnt later).
  if (use === 'bypass') return { ...common, way: 'packet', reason: `${text}; it is in the tunnel already` };
  const way = use === 'auto' ? 'relay' : use;
  if (hasWay(way)) return { ...common, way, reason: text };
  return { ...common, way: 'packet', reason: `${text}; there is no way ${way} now` };
}

function source(pattern: string): string {
  return [...pattern].map((c) => (c === '*' ? '.*' : c === '?' ? '.' : c.replace(/[^\w]/g, '\\$&'))).join('');
}

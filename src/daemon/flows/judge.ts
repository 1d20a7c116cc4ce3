/** The client's rules in force, with what they need to know: names learnt, owners of sockets, the ways that there are now. */
import type { FlowsConfig } from '../../config/types.js';
import { type IpAddress, parseIp } from '../../core/base/ip.js';
import type { Micros } from '../../core/base/time.js';
import type { Endpoint } from '../../core/engine/api.js';
import type { TrafficMode } from '../../core/scheduler/modes.js';
import type { AppIdentity, Apps } from './apps.js';
import type { FlowRules, FlowTarget, FlowWay } from './contract.js';
import type { DomainTable } from './domains.js';
import { type FlowFacts, type FlowVerdict, RuleSet, type RuleTrial } from './rules.js';

export interface JudgeHost {
  nowUs(): Micros;
  /** `traffic.mode`, or what an operator ordered. */
  mode(): TrafficMode;
  hasWay(way: FlowWay): boolean;
}

export class FlowJudge implements FlowRules {
  rules: RuleSet;
  /** Flows by the rule that took them; -1: the default. */
  readonly taken = new Map<number, number>();

  constructor(
    config: FlowsConfig,
    private readonly host: JudgeHost,
    readonly domains: DomainTable,
    private readonly apps: Apps,
  ) {
    this.rules = new RuleSet(config);
  }

  /** Names are worth learning, and showing. */
  get wantsNames(): boolean {
    return this.rules.needsNames || this.rules.config.default !== 'packet' || this.rules.config.rules.length > 0;
  }

  /** For flows that begin from now on. */
  setConfig(config: FlowsConfig): void {
    this.rules = new RuleSet(config);
    this.taken.clear();
  }

  decide(target: FlowTarget): FlowVerdict {
    const verdict = this.rules.decide(this.facts(target, 'tcp', 0), this.context());
    this.taken.set(verdict.rule, (this.taken.get(verdict.rule) ?? 0) + 1);
    return verdict;
  }

  /** A flow of packets (UDP): which rule takes it. */
  decidePackets(target: FlowTarget, protocol: 'tcp' | 'udp'): FlowVerdict {
    return this.rules.decide(this.facts(target, protocol, 0), this.context());
  }

  judgeAgain(target: FlowTarget, bytes: number, before: FlowVerdict): FlowVerdict {
    if (!this.rules.hasBytesRules) return before;
    return this.rules.judgeAgain(this.facts(target, 'tcp', bytes), before, this.context());
  }

  /** What would become of it, and each rule's say. */
  explain(target: FlowTarget): { verdict: FlowVerdict; trials: RuleTrial[]; names: readonly string[] } {
    const facts = this.facts(target, 'tcp', 0);
    const verdict = this.rules.decide(facts, this.context());
    return { verdict, trials: this.rules.explain(facts), names: facts.names() };
  }

  /** The mode in force for a flow: `traffic.mode` may change, and an operator may order another one. */
  modeOf({ mode, followsTraffic }: FlowVerdict): TrafficMode {
    return followsTraffic ? this.host.mode() : mode;
  }

  /** The names by which a destination goes; the one that was asked for first. */
  namesOf({ host, address }: FlowTarget): string[] {
    const asked = address?.text === host || isAddress(host) ? [] : [host.toLowerCase().replace(/\.$/, '')];
    const learnt = address === null ? [] : this.domains.names(this.host.nowUs(), address);
    return [...new Set([...asked, ...learnt])];
  }

  private context() {
    return { mode: this.host.mode(), hasWay: (way: FlowWay) => this.host.hasWay(way) };
  }

  private facts(target: FlowTarget, protocol: 'tcp' | 'udp', bytes: number): FlowFacts {
    const { address, port, source } = target;
    let names: readonly string[] | null = null;
    let app: AppIdentity | null | undefined;
    return {
      protocol,
      address,
      port,
      dscp: target.dscp ?? null,
      bytes,
      names: () => (names ??= this.namesOf(target)),
      app: () => (app === undefined ? (app = this.appOf(protocol, source, address, port)) : app),
    };
  }

  private appOf(protocol: 'tcp' | 'udp', source: Endpoint | null, address: IpAddress | null, port: number) {
    if (source === null || address === null) return null;
    return this.apps.find(this.host.nowUs(), protocol, source, { address, port });
  }
}

function isAddress(host: string): boolean {
  try {
    parseIp(host);
    return true;
  } catch {
    return false;
  }
}

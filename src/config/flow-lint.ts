/** What is valid in `flows`, key by key, and yet cannot work: rules that nothing reaches, and wishes that no way can grant. */
import { prefixCovers } from '../core/base/prefix.js';
import type { KeyPath } from './document.js';
import type { Report } from './load.js';
import { matchesPattern } from './match.js';
import { repeated } from './prefix.js';
import type { ClientConfig, FlowMatch, FlowRule, FlowsConfig } from './types.js';

/** Rules at most: each has a routing rule's priority of its own. */
export const MAX_FLOW_RULES = 256;
/** Routing rules that one rule with `use: bypass` (or one before it) may come to: prefixes times ports times code points. */
export const MAX_SELECTORS = 64;
const HIGHEST_PRIORITY = 32_765;

export function lintFlows(config: ClientConfig, report: Report): void {
  const { flows, capture } = config;
  const at: KeyPath = ['flows', 'rules'];
  if (flows.rules.length > MAX_FLOW_RULES)
    report(at, `has ${flows.rules.length} rules`, `give at most ${MAX_FLOW_RULES}`);
  if (capture.rulePriority + flows.rules.length + 3 > HIGHEST_PRIORITY)
    report(['capture', 'rule_priority'], 'leaves no room for a priority for each of flows.rules', 'give a lower one');
  for (const [i, rule] of flows.rules.entries()) {
    lintMatch(flows.rules, i, report);
    lintUse(rule, [...at, i], report);
  }
  lintBypass(flows, report);
  const { relay, proxy } = flows;
  if (relay.poolMin > relay.poolMax)
    report(['flows', 'relay', 'pool_min'], `is more than pool_max, ${relay.poolMax}`, 'give at most that');
  if (proxy.listen !== null && !isLoopback(proxy.listen.host))
    report(
      ['flows', 'proxy', 'listen'],
      'is not a loopback address',
      'give 127.0.0.1:PORT or [::1]:PORT: it asks nobody who they are',
    );
}

function lintMatch(rules: readonly FlowRule[], index: number, report: Report): void {
  const { match } = rules[index]!;
  const path: KeyPath = ['flows', 'rules', index, 'match'];
  repeated(match.to, [...path, 'to'], report);
  if (isEmpty(match)) {
    report(path, 'matches everything', 'give a criterion, or say it with flows.default');
    return;
  }
  if (match.bytesOver !== null && match.protocol === 'udp')
    report([...path, 'bytes_over'], 'counts the bytes of TCP flows only', 'leave it out, or protocol: udp');
  const earlier = rules.findIndex((rule, i) => i < index && coversMatch(rule.match, match));
  if (earlier >= 0)
    report(
      path,
      `never counts: whatever it matches, flows.rules[${earlier}] matches before it`,
      'put the narrower rule first',
    );
}

function lintUse({ match, use, mode, copiesBytes }: FlowRule, path: KeyPath, report: Report): void {
  if (match.bytesOver !== null && use !== null)
    report([...path, 'use'], 'a flow that has begun keeps its way', 'leave it out with bytes_over, and give a mode');
  if (match.bytesOver !== null && mode === null && copiesBytes === null)
    report([...path, 'mode'], 'is missing: the rule changes nothing', 'give a mode, such as aggregate');
  if (match.protocol === 'udp' && (use === 'relay' || use === 'direct' || use === 'convert'))
    report([...path, 'use'], `${use} carries TCP only`, 'give packet or bypass, or protocol: tcp');
  if (use === 'bypass' && (mode !== null || copiesBytes !== null))
    report([...path, mode !== null ? 'mode' : 'copies'], 'has no meaning outside the tunnel', 'leave it out');
  else if (use === 'packet' && copiesBytes !== null)
    report([...path, 'copies'], 'needs a connection of its own', 'give use: relay, direct or convert');
  else if (use === 'packet' && (mode === 'redundant' || mode === 'handover'))
    report(
      [...path, 'mode'],
      `${mode} needs a connection of its own`,
      'give interactive or aggregate: they choose the lane',
    );
  else if (copiesBytes !== null && mode !== null && mode !== 'auto' && mode !== 'interactive')
    report([...path, 'copies'], `has no meaning in mode ${mode}`, 'give mode: interactive or auto');
}

/**
 * Bypass is decided by the kernel's routing before a packet is ours, so the rule, and every other rule before it that could
 * take the same traffic, must be something that routing rules can say.
 */
function lintBypass({ rules, default: fallback }: FlowsConfig, report: Report): void {
  const last = fallback === 'bypass' ? rules.length - 1 : rules.findLastIndex((r) => r.use === 'bypass');
  for (let i = 0; i <= last; i++) {
    const { match, use } = rules[i]!;
    if (match.bytesOver !== null) continue;
    const path: KeyPath = ['flows', 'rules', i, 'match'];
    const why = use === 'bypass' ? 'bypass' : 'a rule before one that bypasses';
    if (match.app.cgroup !== null) {
      const hint =
        use === 'bypass' ? 'match the user (app.uid) instead' : 'put the rules that bypass first, or match app.uid';
      report([...path, 'app', 'cgroup'], `cannot be told apart by routing, which ${why} needs`, hint);
    }
    const count = Math.max(1, match.to.length) * Math.max(1, match.port.length) * Math.max(1, match.dscp.length);
    if (count > MAX_SELECTORS)
      report(
        path,
        `comes to ${count} routing rules, which ${why} needs`,
        `give at most ${MAX_SELECTORS} combinations of to, port and dscp`,
      );
    if (match.domain.length > 0 && match.to.length > 0)
      report([...path, 'domain'], `cannot be combined with to where ${why} needs routing rules`, 'give one of the two');
  }
}

function isEmpty(match: FlowMatch): boolean {
  const { protocol, to, port, domain, app, dscp, bytesOver } = match;
  const lists = to.length + port.length + domain.length + dscp.length;
  return lists === 0 && protocol === null && app.cgroup === null && app.uid === null && bytesOver === null;
}

/** Every flow that `narrow` takes, `wide` takes. Never says so wrongly. */
export function coversMatch(wide: FlowMatch, narrow: FlowMatch): boolean {
  return (
    (wide.protocol === null || wide.protocol === narrow.protocol) &&
    every(wide.to, narrow.to, prefixCovers) &&
    every(wide.port, narrow.port, (w, n) => w.from <= n.from && n.to <= w.to) &&
    every(wide.domain, narrow.domain, coversDomain) &&
    every(wide.dscp, narrow.dscp, (w, n) => w === n) &&
    (wide.app.uid === null || wide.app.uid === narrow.app.uid) &&
    (wide.app.cgroup === null || wide.app.cgroup === narrow.app.cgroup) &&
    (wide.bytesOver === null || (narrow.bytesOver !== null && wide.bytesOver <= narrow.bytesOver))
  );
}

/** Each entry of `narrow` is within one of `wide`; an empty list is everything. */
function every<T>(wide: readonly T[], narrow: readonly T[], covers: (w: T, n: T) => boolean): boolean {
  return wide.length === 0 || (narrow.length > 0 && narrow.every((n) => wide.some((w) => covers(w, n))));
}

function coversDomain(wide: string, narrow: string): boolean {
  // Without `?` in the language, a pattern read as plain text stands for the names that it matches.
  return wide === narrow || matchesPattern(wide, narrow);
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host);
}

/**
 * What is valid, key by key, and yet cannot work as a whole: roles that leave nothing to send on, rules that no link can
 * match or that an earlier one hides, prefixes that are said twice or take each other away. Nothing of the kind is ever meant,
 * so it is an error like any other.
 */
import { prefixContains, prefixCovers } from '../core/base/prefix.js';
import { ROLE_RANK } from '../core/pathman/policy.js';
import type { KeyPath } from './document.js';
import { lintFlows } from './flow-lint.js';
import type { Report } from './load.js';
import { shadows } from './match.js';
import { repeated } from './prefix.js';
import type { AddressFilter, ClientConfig, PathRule, Prefix, ServerConfig } from './types.js';

export function lintClient(config: ClientConfig, report: Report): void {
  const { paths, server, capture } = config;
  if (paths.length > 0 && paths.every((rule) => rule.role === 'never')) {
    report(
      ['paths', 0, 'role'],
      'every path has the role never, so nothing can be sent',
      'give one of them another role',
    );
  }
  for (const [i, rule] of paths.entries()) {
    lintMatch(paths, i, config.tun.name, report);
    lintRole(rule, ['paths', i], report);
    lintFilter(rule.local, ['paths', i, 'local'], report);
    lintFilter(rule.remote, ['paths', i, 'remote'], report);
    if (rule.maxSubflows > config.traffic.maxSubflows) {
      const most = config.traffic.maxSubflows;
      report(['paths', i, 'max_subflows'], `is more than traffic.max_subflows, ${most}`, 'give at most that');
    }
    const known = server.addresses;
    if (known.length > 0 && !known.some((a) => isChosen(rule.remote, a))) {
      report(['paths', i, 'remote'], 'leaves none of server.addresses', 'include the one to be used from this link');
    }
    const families = (list: readonly Prefix[]) => new Set(list.map((p) => p.address.family));
    const local = families(rule.local.include);
    const remote = families(rule.remote.include);
    if (local.size > 0 && remote.size > 0 && ![...local].some((f) => remote.has(f))) {
      report(
        ['paths', i, 'remote', 'include'],
        'has no address family in common with local.include',
        'give both of one family',
      );
    }
  }
  lintFilter(capture, ['capture'], report);
  lintFlows(config, report);
}

export function lintServer(config: ServerConfig, report: Report): void {
  const { egress, pool, listen } = config;
  repeated(egress.deny, ['egress', 'deny'], report);
  repeated(egress.allow, ['egress', 'allow'], report);
  for (const [i, prefix] of egress.allow.entries()) {
    if (egress.deny.some((d) => prefixCovers(d, prefix) || prefixCovers(prefix, d))) continue;
    report(
      ['egress', 'allow', i],
      `${prefix.text} is not denied by anything`,
      'leave it out, or deny a prefix around it',
    );
  }
  for (const family of ['ipv4', 'ipv6'] as const) {
    const inner = pool[family];
    const outer = listen.addresses.find((a) => inner !== null && prefixContains(inner, a));
    if (inner === null || outer === undefined) continue;
    report(['pool', family], `${inner.text} overlaps with ${outer.text} of listen.addresses`, 'give a pool of its own');
  }
}

function lintMatch(paths: readonly PathRule[], index: number, tunName: string, report: Report): void {
  const { match } = paths[index]!;
  const path = ['paths', index, 'match'] as const;
  if (match.ssid !== null && match.type !== null && match.type !== 'wifi') {
    report(
      [...path, 'ssid'],
      `nothing matches: links of type ${match.type} have no SSID`,
      'give type wifi, or no type',
    );
  }
  if (match.name === 'lo') report([...path, 'name'], 'nothing matches: loopback is never a path', 'name a link');
  if (match.name === tunName)
    report([...path, 'name'], "nothing matches: it is the tunnel's own device", 'name a link');
  const earlier = paths.findIndex((rule, i) => i < index && shadows(rule.match, match));
  // Without a criterion both match everything, which is an error of its own.
  if (earlier < 0 || Object.values(match).every((criterion) => criterion === null)) return;
  const message = `never counts: whatever it matches, paths[${earlier}] matches before it`;
  report([...path], message, 'put the narrower rule first');
}

function lintRole(rule: PathRule, path: KeyPath, report: Report): void {
  const { role, cap, overflowAboveBitPerS } = rule;
  const canOverflow = role === 'overflow' || (role === 'always' && cap?.atLimit === 'overflow');
  if (overflowAboveBitPerS !== null && !canOverflow) {
    report([...path, 'overflow_above'], `has no meaning with the role ${role}`, 'give role: overflow, or leave it out');
  }
  if (cap !== null && ROLE_RANK[cap.atLimit] <= ROLE_RANK[role]) {
    const message = `${cap.atLimit} is no less than the role ${role}, so the cap changes nothing`;
    report(
      [...path, 'cap', 'at_limit'],
      message,
      role === 'never' ? 'leave cap out' : 'give a lesser role, such as never',
    );
  }
}

function lintFilter(filter: AddressFilter, path: KeyPath, report: Report): void {
  repeated(filter.include, [...path, 'include'], report);
  repeated(filter.exclude, [...path, 'exclude'], report);
  for (const [i, prefix] of filter.include.entries()) {
    const taken = filter.exclude.find((e) => prefixCovers(e, prefix));
    if (taken === undefined) continue;
    const message = `${prefix.text} is excluded again by ${taken.text}`;
    report([...path, 'include', i], message, 'exclude less, or leave it out');
  }
}

function isChosen({ include, exclude }: AddressFilter, address: ClientConfig['server']['addresses'][number]): boolean {
  if (exclude.some((p) => prefixContains(p, address))) return false;
  return include.length === 0 || include.some((p) => prefixContains(p, address));
}

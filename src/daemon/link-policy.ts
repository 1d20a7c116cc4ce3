/** What the configuration says of a link, in the path manager's words. */
import { isMetered } from '../config/match.js';
import type { PathRole } from '../config/types.js';
import type { Family } from '../core/base/ip.js';
import { strictestRole } from '../core/pathman/policy.js';
import type { LinkPolicy } from '../core/pathman/types.js';
import type { CapReached } from './caps.js';
import type { HostLink } from './link-monitor.js';

/** Links that cost money come after those that do not, within a role. */
const PRIORITY_FREE = 0;
const PRIORITY_METERED = 1;

const FAMILIES: Record<'any' | Family, readonly Family[]> = { any: [6, 4], 4: [4, 6], 6: [6, 4] };

export function linkPolicy(link: HostLink, role: PathRole): Required<LinkPolicy> {
  const { rule } = link;
  return {
    role,
    priority: isMetered(rule, link) ? PRIORITY_METERED : PRIORITY_FREE,
    keepWarm: rule.keepWarm,
    maxPaths: rule.maxSubflows,
    families: FAMILIES[rule.preferFamily ?? 'any'],
    local: rule.local,
    remote: rule.remote,
  };
}

/** The role that is left to a link: the configured one, or what its cap lets it be. */
export function cappedRole(rule: HostLink['rule'], reached: CapReached | null): PathRole {
  return reached === null || rule.cap === null ? rule.role : strictestRole(rule.role, rule.cap.atLimit);
}

/** `daily cap reached: 2.00 GB of 2 GB; role never until 2026-11-22` */
export function capText(reached: CapReached, role: PathRole): string {
  const { period, usedBytes, limitBytes, until } = reached;
  return `${period} cap reached: ${sizeText(usedBytes)} of ${sizeText(limitBytes)}; role ${role} until ${until}`;
}

function sizeText(bytes: number): string {
  for (const [unit, factor] of [
    ['GB', 1e9],
    ['MB', 1e6],
    ['kB', 1e3],
  ] as const) {
    if (bytes >= factor) return `${Number((bytes / factor).toPrecision(4))} ${unit}`;
  }
  return `${bytes} B`;
}

/** Which pairs of addresses make a path, which path comes first, and which of those that work should carry data. */
import type { Family, IpAddress } from '../base/ip.js';
import type { Path } from './path.js';
import type { LinkRole, PathManagerConfig, PathMode, RemoteEndpoint } from './types.js';

const ROLE_RANK: Record<LinkRole, number> = { always: 0, overflow: 1, backup: 2, never: 3 };

/** Of two wishes the more reserved one. */
export function strictestRole(a: LinkRole, b: LinkRole): LinkRole {
  return ROLE_RANK[a] >= ROLE_RANK[b] ? a : b;
}

/** Same family, a family that is allowed, and a scope that can reach (RFC 6724 §3.1 in the two cases that matter). */
export function canPair(config: PathManagerConfig, local: IpAddress, remote: IpAddress): boolean {
  if (local.family !== remote.family || local.text === remote.text) return false;
  if (!config.families.includes(local.family)) return false;
  return isLinkLocal(local) === isLinkLocal(remote);
}

function isLinkLocal(address: IpAddress): boolean {
  const b = address.bytes;
  return address.family === 4 ? b[0] === 169 && b[1] === 254 : b[0] === 0xfe && (b[1]! & 0xc0) === 0x80;
}

/** Preference, best first: role, priority, family, order of the remotes, then age. */
export function comparePaths(
  config: PathManagerConfig,
  remotes: readonly RemoteEndpoint[],
  roleOf: (path: Path) => LinkRole,
): (a: Path, b: Path) => number {
  const familyRank = (family: Family) => config.families.indexOf(family);
  const remoteRank = (path: Path) =>
    remotes.findIndex((r) => r.port === path.remote.port && r.address.text === path.remote.address.text);
  return (a, b) =>
    ROLE_RANK[roleOf(a)] - ROLE_RANK[roleOf(b)] ||
    a.link.priority - b.link.priority ||
    familyRank(a.localAddress.family) - familyRank(b.localAddress.family) ||
    remoteRank(a) - remoteRank(b) ||
    a.id - b.id;
}

/**
 * The paths that should carry data, of `usable` (best first). Backups only when there is nothing else, and then one;
 * overflow when the regular ones are full or missing.
 */
export function chooseActive(
  usable: readonly Path[],
  roleOf: (path: Path) => LinkRole,
  isSaturated: boolean,
  mode: PathMode,
): readonly Path[] {
  const always = usable.filter((p) => roleOf(p) === 'always');
  const overflow = usable.filter((p) => roleOf(p) === 'overflow');
  let chosen = always;
  if (isSaturated || always.length === 0) chosen = always.concat(overflow);
  if (chosen.length === 0) chosen = usable.slice(0, 1);
  return mode === 'handover' ? chosen.slice(0, 1) : chosen;
}

/** Which pairs of addresses make a path, which path comes first, and which of those that work should carry data. */
import type { IpAddress } from '../base/ip.js';
import { prefixContains } from '../base/prefix.js';
import type { Path } from './path.js';
import type { AddressChoice, LinkRole, PathLink, PathManagerConfig, PathMode, RemoteEndpoint } from './types.js';

/** The higher the more reserved. */
export const ROLE_RANK: Record<LinkRole, number> = { always: 0, overflow: 1, backup: 2, never: 3 };

/** Of two wishes the more reserved one. */
export function strictestRole(a: LinkRole, b: LinkRole): LinkRole {
  return ROLE_RANK[a] >= ROLE_RANK[b] ? a : b;
}

/** Same family, a family that is allowed, and a scope that can reach (RFC 6724 §3.1 in the two cases that matter). */
export function canPair(config: PathManagerConfig, link: PathLink, local: IpAddress, remote: IpAddress): boolean {
  if (local.family !== remote.family || local.text === remote.text) return false;
  if (!(link.families ?? config.families).includes(local.family)) return false;
  return isLinkLocal(local) === isLinkLocal(remote) && isAllowed(link, local, remote);
}

/** Whether the user lets these two addresses be used together over this link. */
export function isAllowed(link: PathLink, local: IpAddress, remote: IpAddress): boolean {
  return isChosen(link.local, local) && isChosen(link.remote, remote);
}

function isChosen(choice: AddressChoice | undefined, address: IpAddress): boolean {
  if (choice === undefined) return true;
  if (choice.exclude.some((p) => prefixContains(p, address))) return false;
  return choice.include.length === 0 || choice.include.some((p) => prefixContains(p, address));
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
  const familyRank = ({ link, localAddress }: Path) => (link.families ?? config.families).indexOf(localAddress.family);
  const remoteRank = (path: Path) =>
    remotes.findIndex((r) => r.port === path.remote.port && r.address.text === path.remote.address.text);
  return (a, b) =>
    ROLE_RANK[roleOf(a)] - ROLE_RANK[roleOf(b)] ||
    a.link.priority - b.link.priority ||
    familyRank(a) - familyRank(b) ||
    remoteRank(a) - remoteRank(b) ||
    a.id - b.id;
}

/**
 * The paths that should carry data, of `usable` (best first). Backups only when there is nothing else, and then one;
 * overflow when it is needed because the regular ones are full, or when those are missing.
 */
export function chooseActive(
  usable: readonly Path[],
  roleOf: (path: Path) => LinkRole,
  isNeeded: (path: Path) => boolean,
  mode: PathMode,
): readonly Path[] {
  const always = usable.filter((p) => roleOf(p) === 'always');
  const overflow = usable.filter((p) => roleOf(p) === 'overflow');
  let chosen = always.concat(always.length === 0 ? overflow : overflow.filter(isNeeded));
  if (chosen.length === 0) chosen = usable.slice(0, 1);
  return mode === 'handover' ? chosen.slice(0, 1) : chosen;
}

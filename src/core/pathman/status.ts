/** A path as the status shows it: one sentence says why it carries nothing. */
import type { Micros } from '../base/time.js';
import type { Path } from './path.js';
import { isAllowed } from './policy.js';
import type { LinkRole, PathStatus } from './types.js';

export function statusOf(
  path: Path,
  nowUs: Micros,
  role: LinkRole,
  isFading: boolean,
  all: readonly Path[],
): PathStatus {
  const isWaitingForRetry =
    path.state === 'blocked' || (path.state === 'probing' && !path.hasSubflow && path.retryAtUs > nowUs);
  return {
    id: path.id,
    linkId: path.link.id,
    linkName: path.link.name,
    localAddress: path.localAddress,
    remote: path.remote,
    state: path.state,
    role,
    isStalled: path.isStalled,
    why: reason(path, nowUs, role, isFading, all),
    stateSinceUs: path.stateSinceUs,
    retryInUs: isWaitingForRetry ? Math.max(0, path.retryAtUs - nowUs) : null,
    failures: path.failures,
  };
}

function reason(path: Path, nowUs: Micros, role: LinkRole, isFading: boolean, all: readonly Path[]): string | null {
  switch (path.state) {
    case 'down':
      if (path.isOrphan) return 'its address is gone';
      if (!path.link.isUp) return path.link.whyDown ?? 'link is down';
      return isAllowed(path.link, path.localAddress, path.remote.address)
        ? 'its role is never'
        : 'its addresses are excluded';
    case 'probing':
      if (path.hasSubflow) return 'link is back, its subflow has not answered yet';
      if (path.retryAtUs > nowUs) return `last attempt failed: ${path.lastFailure}`;
      if (all.some((p) => p !== path && p.hasSubflow && p.link.id === path.link.id)) {
        return 'another path over this link is in use';
      }
      if (!all.some((p) => p.isEstablished)) return 'waits for the first connection';
      return path.link.keepWarm === false ? 'opened when it is needed (keep_warm: false)' : 'waits for its turn';
    case 'joining':
      return 'being opened';
    case 'warm':
    case 'active':
      if (path.isStalled) return 'nothing gets through';
      if (path.isPeerGone) return 'the peer says that its link is gone';
      if (path.state === 'active') return null;
      if (isFading) return 'link is fading, others carry the data';
      if (path.isPeerGoing) return 'the peer says that its link is going';
      if (role === 'overflow') return 'overflow: the others have room';
      return role === 'backup' ? 'backup: another path works' : 'another path carries the data';
    case 'draining':
      return 'being given up';
    case 'blocked':
      return `refused: ${path.lastFailure}`;
  }
}

/** Which paths carry a session's data, and why that changed: for the receipts. Pure, from the snapshots of either end. */
import type { HandoverCause } from '../control/protocol.js';
import type { SubflowInfo } from '../core/engine/api.js';
import type { PathStatus } from '../core/pathman/types.js';
import { PEER_SAYS } from './session.js';

/** What both ends know of one path, by the name that the client gave it. */
export interface CarrierView {
  readonly name: string;
  readonly carries: boolean;
  readonly cause: HandoverCause;
  /** Why it carries nothing, or null. */
  readonly why: string | null;
  readonly isOverflow: boolean;
}

/** The client's paths, best first; a link carries if one of its paths does. */
export function clientCarriers(paths: readonly PathStatus[]): CarrierView[] {
  return byName(
    paths.map((p) => ({ ...p, name: p.linkName })),
    (p) => ({
      name: p.linkName,
      carries: p.state === 'active' && p.why === null,
      cause: causeOfPath(p),
      why: p.why,
      isOverflow: p.role === 'overflow',
    }),
  );
}

function causeOfPath({ state, isStalled, why }: PathStatus): HandoverCause {
  if (isStalled) return 'silent';
  if (why !== null && /peer says/.test(why)) return 'peer';
  if (why !== null && /fading/.test(why)) return 'fading';
  if (state === 'down') {
    if (why === 'its address is gone') return 'address-gone';
    // Otherwise the link's own reason (no carrier, no address, no route).
    return why === 'its role is never' || why === 'its addresses are excluded' ? 'policy' : 'link-down';
  }
  if (state === 'draining') return 'policy';
  if (state === 'probing' || state === 'joining' || state === 'blocked') return 'closed';
  return 'preferred';
}

/** The server's view: subflows by the client's name for their path. */
export function serverCarriers(
  subflows: readonly { readonly name: string; readonly subflow: SubflowInfo }[],
): CarrierView[] {
  const open = subflows.filter(({ subflow }) => subflow.state === 'established');
  const views = byName(open, ({ name, subflow }) => ({
    name,
    carries: subflow.idleReason === null,
    cause: causeOfSubflow(subflow),
    why: subflow.idleReason,
    isOverflow: false,
  }));
  if (views.some((v) => v.carries)) return views;
  // Nothing but backups: then they carry.
  return views.map((v) => ({ ...v, carries: v.why?.startsWith('backup') === true }));
}

function causeOfSubflow({ isStalled, idleReason }: SubflowInfo): HandoverCause {
  if (idleReason?.startsWith(PEER_SAYS) || idleReason === 'backup' || idleReason === 'backup (peer)') return 'peer';
  if (isStalled) return 'silent';
  return idleReason === 'link down' ? 'link-down' : 'closed';
}

/** Why the carriers are not `before` any more. */
export function explainChange(
  before: readonly string[],
  views: readonly CarrierView[],
  isOrdered: boolean,
): { carriers: string[]; cause: HandoverCause; detail: string } {
  const carriers = views.filter((v) => v.carries).map((v) => v.name);
  const gone = before.find((name) => !carriers.includes(name));
  const added = views.find((v) => v.carries && !before.includes(v.name));
  const view = views.find((v) => v.name === gone);
  let cause: HandoverCause;
  let detail: string;
  if (gone !== undefined) {
    cause = view?.cause ?? 'closed';
    detail = `${gone}: ${view?.why ?? 'it is no longer there'}`;
    // It would still do, but something better is back.
    if (cause === 'preferred' && added !== undefined) {
      cause = 'returned';
      detail = `${added.name} carries again; ${detail}`;
    }
  } else {
    cause = added?.isOverflow ? 'overflow' : 'returned';
    detail =
      added === undefined
        ? ''
        : added.isOverflow
          ? `${added.name}: the others are full`
          : `${added.name} carries again`;
  }
  return { carriers, cause: isOrdered ? 'operator' : cause, detail };
}

/** One view a name: that of the item that carries, else the first one. */
function byName<T extends { readonly name: string }>(
  items: readonly T[],
  view: (item: T) => CarrierView,
): CarrierView[] {
  const views = new Map<string, CarrierView>();
  for (const item of items) {
    const v = view(item);
    const known = views.get(v.name);
    if (known === undefined || (v.carries && !known.carries)) views.set(v.name, v);
  }
  return [...views.values()];
}

/**
 * Events into facts (DESIGN 3.4): what each event says about links, remote addresses, the session and paths. What follows
 * from the facts is decided afterwards, in lifecycle.ts, attempts.ts and carriers.ts.
 */
import type { IpAddress } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import type { PathOrders } from './orders.js';
import type { Path } from './path.js';
import { CONNECT_HEDGE_US, OVERFLOW_HOLD_US, STABLE_US } from './timing.js';
import type { PathEvent, PathLink, PeerWish, RemoteEndpoint } from './types.js';

/** The only place where events are read; nothing but facts changes, and at most an order goes out that tells of one. */
export function take(m: PathOrders, nowUs: Micros, event: PathEvent): void {
  switch (event.type) {
    case 'link-added':
      setLink(m, event.link);
      break;
    case 'link-changed': {
      const old = m.table.links.get(event.linkId);
      if (old === undefined) break;
      setLink(m, {
        ...old,
        isUp: event.isUp ?? old.isUp,
        whyDown: event.whyDown === undefined ? (old.whyDown ?? null) : event.whyDown,
        addresses: event.addresses ?? old.addresses,
      });
      // Of a carrier the engine has been told already, and what waits begins anew.
      if (old.isUp) linkNews(m, nowUs, event.linkId);
      break;
    }
    case 'link-removed': {
      const old = m.table.links.get(event.linkId);
      if (old === undefined) break;
      setLink(m, { ...old, isUp: false, addresses: [] });
      m.table.links.delete(event.linkId);
      m.table.fading.delete(event.linkId);
      m.saturatedLinks.delete(event.linkId);
      break;
    }
    case 'link-fading':
      if (!m.table.links.has(event.linkId)) break;
      if (event.isFading) m.table.fading.add(event.linkId);
      else m.table.fading.delete(event.linkId);
      linkNews(m, nowUs, event.linkId);
      break;
    case 'link-news':
      linkNews(m, nowUs, event.linkId);
      break;
    case 'packet-received':
      signOfLife(m, nowUs, event.linkId);
      break;
    case 'remote-addresses':
      m.table.remotes = event.remotes;
      break;
    case 'session-ready':
      m.session = 'ready';
      break;
    case 'session-lost':
      loseSession(m, nowUs);
      break;
    case 'peer-joined':
      peerJoined(m, nowUs, event.linkId, event.localAddress, event.remote);
      break;
    case 'link-policy': {
      const old = m.table.links.get(event.linkId);
      if (old === undefined) break;
      setLink(m, { ...old, ...event.policy });
      for (const path of m.table.onLink(event.linkId)) path.resetBackOff(nowUs);
      break;
    }
    case 'session-policy':
      m.config = { ...m.config, mode: event.mode, maxSubflows: event.maxSubflows };
      break;
    case 'saturation':
      if (event.linkId !== undefined && !m.table.links.has(event.linkId)) break;
      m.setSaturated(event.linkId, event.isSaturated ? NEVER : nowUs + OVERFLOW_HOLD_US);
      break;
    default: {
      const path = m.table.byId(event.pathId);
      if (path !== undefined) takePathEvent(m, nowUs, path, event);
    }
  }
}

function takePathEvent(m: PathOrders, nowUs: Micros, path: Path, event: Extract<PathEvent, { pathId: number }>): void {
  switch (event.type) {
    case 'join-started':
      // The driver may have been slow to begin; the time to answer counts from here.
      if (path.state === 'joining') path.deadlineUs = Math.max(path.deadlineUs, nowUs + CONNECT_HEDGE_US);
      break;
    case 'join-established':
      if (path.state === 'joining') established(m, nowUs, path);
      break;
    case 'join-failed':
      if (path.state === 'joining') failed(m, nowUs, path, event.reason, !event.isTransient);
      break;
    case 'subflow-stalled':
      if (!path.hasSubflow || path.isStalled) break;
      path.isStalled = true;
      path.stalledSinceUs = nowUs;
      // Of a link that is down the peer knows already.
      if (path.state !== 'down' && m.table.anotherWorks(path)) m.tell(path, { what: 'silent' });
      break;
    case 'subflow-recovered':
      recovered(m, nowUs, path);
      break;
    case 'subflow-closed':
      closed(m, nowUs, path, event.why);
      break;
    case 'peer-wish':
      wished(m, path, event.wish);
  }
}

// --- links

/** Everything about links goes through here, so that the engine hears of up and down before anything else. */
function setLink(m: PathOrders, link: PathLink): void {
  const wasUp = m.table.links.get(link.id)?.isUp;
  m.table.links.set(link.id, link);
  for (const path of m.table.onLink(link.id)) path.link = link;
  if (wasUp !== undefined && wasUp !== link.isUp) {
    m.outbox.order({ type: 'link-state', linkId: link.id, isUp: link.isUp });
  }
}

/** Something about the link changed: waits that silence or failures have made long are over. */
function linkNews(m: PathOrders, nowUs: Micros, linkId: number): void {
  const link = m.table.links.get(linkId);
  if (link?.isUp !== true) return;
  let isSilent = false;
  for (const path of m.table.onLink(linkId)) {
    if (path.state === 'probing' && !path.hasSubflow) path.resetBackOff(nowUs);
    isSilent ||= path.isEstablished && (path.isStalled || path.state === 'probing');
  }
  // The engine probes at once, and quickly again.
  if (isSilent) m.outbox.order({ type: 'link-state', linkId, isUp: true });
}

/** Some path over this link waits for an answer or has never got one. */
export function isNews(m: PathOrders, linkId: number): boolean {
  for (const path of m.table.all()) {
    if (path.link.id === linkId && path.state === 'probing' && (path.hasSubflow || path.wasSilent)) return true;
  }
  return false;
}

/** A packet from where there was silence: whatever kept it away may be over. */
function signOfLife(m: PathOrders, nowUs: Micros, linkId: number): void {
  const onLink = m.table.onLink(linkId);
  const suspended = onLink.filter((p) => p.state === 'probing' && p.hasSubflow);
  if (suspended.length === 1) recovered(m, nowUs, suspended[0]!);
  if (onLink.some((p) => p.isEstablished)) return;
  for (const path of onLink) {
    if (path.state !== 'probing' || !path.wasSilent) continue;
    path.resetBackOff(nowUs);
    path.wasSilent = false;
  }
}

// --- a path's subflow

function established(m: PathOrders, nowUs: Micros, path: Path): void {
  path.isEstablished = true;
  path.establishedAtUs = nowUs;
  path.failures = 0;
  path.lastFailure = null;
  path.wasSilent = false;
  path.deadlineUs = NEVER;
  if (m.session === 'none') m.session = 'connected';
  m.move(nowUs, path, 'joined', 'established');
  m.tellReturned(path);
}

/** An attempt came to nothing: back-off; `isRefused` is policy and takes much longer (path.ts). */
export function failed(m: PathOrders, nowUs: Micros, path: Path, reason: string, isRefused: boolean): void {
  path.forgetSubflow();
  path.lastFailure = reason;
  path.wasSilent = reason === 'timeout';
  path.backOff(nowUs, m.random(), isRefused);
  m.move(nowUs, path, isRefused ? 'refused' : 'failed', reason);
}

function recovered(m: PathOrders, nowUs: Micros, path: Path): void {
  if (!path.hasSubflow) return;
  path.isStalled = false;
  path.isPeerGone = false;
  if (path.state === 'probing') {
    path.deadlineUs = NEVER;
    m.move(nowUs, path, 'recovered', 'its subflow answered');
  }
  if (path.state !== 'down') m.tellReturned(path);
}

function closed(m: PathOrders, nowUs: Micros, path: Path, why: string): void {
  if (path.state === 'joining') {
    failed(m, nowUs, path, why, false);
    return;
  }
  if (!path.hasSubflow) return;
  const wasStable = nowUs - path.establishedAtUs >= STABLE_US;
  path.forgetSubflow();
  path.lastFailure = why;
  if (wasStable) path.resetBackOff(nowUs);
  else path.backOff(nowUs, m.random(), false);
  m.move(nowUs, path, 'lost', why);
}

function wished(m: PathOrders, path: Path, wish: PeerWish): void {
  switch (wish.what) {
    case 'role':
      path.peerRole = wish.role;
      break;
    case 'going':
      path.isPeerGoing = true;
      break;
    case 'returned':
      path.isPeerGoing = false;
      if (!path.isPeerGone) break;
      path.isPeerGone = false;
      if (path.hasSubflow) m.outbox.order({ type: 'link-state', linkId: path.link.id, isUp: path.link.isUp });
      break;
    case 'gone':
      path.isPeerGone = path.hasSubflow;
      m.suspect(path, 'peer says that its link is gone');
      break;
    case 'silent':
      m.suspect(path, 'peer hears nothing from us here');
  }
}

function loseSession(m: PathOrders, nowUs: Micros): void {
  m.session = 'none';
  for (const path of m.table.all()) {
    const wasJoining = path.state === 'joining';
    path.forgetSubflow();
    path.peerRole = 'always';
    path.wasToldGone = false;
    path.resetBackOff(nowUs);
    m.move(nowUs, path, wasJoining ? 'failed' : 'lost', 'session lost');
  }
}

function peerJoined(
  m: PathOrders,
  nowUs: Micros,
  linkId: number,
  localAddress: IpAddress,
  remote: RemoteEndpoint,
): void {
  const link = m.table.links.get(linkId);
  if (link === undefined) return;
  const path = m.table.ensure(link, localAddress, remote);
  if (path === undefined) return;
  if (path.hasSubflow) {
    recovered(m, nowUs, path);
    return;
  }
  path.hasSubflow = true;
  established(m, nowUs, path);
}

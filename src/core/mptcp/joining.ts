/**
 * Further subflows: may we or the peer open one here, and under which address ids (RFC 8684 3.2, 3.4). The handshake that
 * follows is in handshake.ts.
 */
import { ipEquals } from '../base/ip.js';
import type { Micros } from '../base/time.js';
import type { JoinOptions } from '../engine/api.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { Connection } from './connection.js';
import * as handshake from './handshake.js';
import type { JoinRequest } from './join-requests.js';
import type { MptcpSubflow } from './subflow.js';

/**
 * Subflows of one connection, closing ones included, where its settings do not say less (RFC 8684 3.2: local policy). Those in
 * TIME-WAIT make way, the oldest first.
 */
export const MAX_SUBFLOWS = 16;

/** Subflow id, or -1: refused, and an event says why. */
export function join(nowUs: Micros, c: Connection, options: JoinOptions): number {
  const { remote, linkId } = options;
  const why = refusalOf(c, options);
  const localAddressId = why === null ? c.addresses.localId(options.localAddress, isIdInUse(c)) : -1;
  if (localAddressId < 0) return refuse(c, linkId, why ?? 'no address id left');
  const flow: FlowTuple = {
    linkId,
    family: remote.address.family,
    localAddress: options.localAddress,
    localPort: c.settings.flow.localPort,
    remoteAddress: remote.address,
    remotePort: remote.port,
  };
  endOldTimeWait(nowUs, c);
  const sf = c.addSubflow(nowUs, 'join', 'active', flow, options.congestion ?? c.settings.congestion);
  if (sf === null) return refuse(c, linkId, 'address pair in use');
  sf.localAddressId = localAddressId;
  sf.remoteAddressId = options.remoteAddressId ?? Math.max(0, c.addresses.remoteIdOf(remote));
  sf.isBackupWanted = options.backup ?? false;
  sf.isLocalBackup = sf.isBackupWanted;
  handshake.startJoin(sf);
  sf.tcp.connect(nowUs);
  c.host.markDirty(c);
  return sf.id;
}

function isFull(c: Connection): boolean {
  return c.subflows.filter((sf) => sf.closeReason === null).length >= c.settings.maxSubflows;
}

function endOldTimeWait(nowUs: Micros, c: Connection): void {
  if (c.subflows.length < c.settings.maxSubflows) return;
  c.subflows.find((sf) => sf.tcp.state === 'time-wait')?.tcp.abort(nowUs, false);
}

function isIdInUse(c: Connection): (addressId: number) => boolean {
  return (addressId) => c.subflows.some((sf) => sf.localAddressId === addressId);
}

/** The peer may open this further subflow now: asked at its SYN, and again when the third packet makes it a subflow. */
export function mayBeJoined(c: Connection, flow: FlowTuple): boolean {
  if (!c.isMptcp || c.state === 'closed' || isFull(c)) return false;
  if (!c.takesJoins) return false;
  if (!c.settings.joinInitial && isToInitial(c, flow)) return false; // our flag C has said so
  return c.addresses.localId(flow.localAddress) >= 0;
}

/** The third packet of a join came (join-requests.ts): the subflow whose handshake it completes. Null: refuse it. */
export function acceptJoin(nowUs: Micros, c: Connection, request: JoinRequest): MptcpSubflow | null {
  if (!mayBeJoined(c, request.flow)) return null;
  endOldTimeWait(nowUs, c);
  const sf = c.addSubflow(nowUs, 'join', 'passive', request.flow, c.settings.congestion, request.answered);
  if (sf === null) return null;
  sf.localAddressId = request.localAddressId;
  sf.remoteAddressId = request.remoteAddressId;
  sf.isRemoteBackup = request.isBackup;
  c.addresses.observe(request.remoteAddressId, { address: request.flow.remoteAddress, port: request.flow.remotePort });
  sf.join.localNonce = request.localNonce;
  sf.join.remoteNonce = request.remoteNonce;
  sf.tcp.acceptAnswered(nowUs, request.answered);
  c.host.markDirty(c);
  return sf;
}

function refusalOf(c: Connection, { remote }: JoinOptions): string | null {
  if (!c.isMptcp || c.state === 'closed') return 'not an MPTCP connection';
  // Options may pass on SYNs and yet not on data (3.1).
  if (!c.hasReceivedDss) return 'no DSS has come through yet';
  if (isFull(c)) return 'too many subflows';
  const isInitial = ipEquals(remote.address, c.remote.address) && remote.port === c.remote.port;
  return isInitial && c.isInitialAddressClosed ? 'the peer wants no joins to this address' : null;
}

function isToInitial({ settings }: Connection, flow: FlowTuple): boolean {
  return ipEquals(flow.localAddress, settings.flow.localAddress) && flow.localPort === settings.flow.localPort;
}

function refuse(c: Connection, linkId: number, why: string): number {
  c.host.emit({ type: 'subflow-closed', connectionId: c.id, subflowId: -1, linkId, why, isPermanent: false });
  return -1;
}

/**
 * From subflows to paths: what the engine says of one subflow after the other is told to the path manager once per path: its
 * first subflow is established, its last one is gone, it is stalled for good, it works again.
 */
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi, EngineEvent } from '../core/engine/api.js';
import type { PathEvent } from '../core/pathman/types.js';
import type { Member, UsedPath, UsedPaths } from './path-members.js';
import type { PathSubflows } from './path-subflows.js';
import { PEER_SAYS } from './session.js';

/**
 * A connection may suspect a path wrongly (the host was busy, the radio paused); it avoids the path at once, and finds out
 * soon. The session draws its own conclusions, and tells the peer, only after this long.
 */
export const STALL_GRACE_MS = 300;

export interface PathReportsOptions {
  readonly nowUs: () => Micros;
  /** See STALL_GRACE_MS. */
  readonly stallGraceMs: number;
  /** Calls `fn` in so many milliseconds, never within this call; the answer cancels it. */
  after(ms: number, fn: () => void): () => void;
  /** The server does not know this connection any more (it was started anew): give it up. */
  onForgotten(connection: ConnectionApi): void;
  /** What the peer should know has changed. */
  tellPeer(): void;
}

/** Who is reported to: session-paths.ts. */
export interface PathReportsHost {
  /** The session has a connection. */
  isUp(): boolean;
  handle(event: PathEvent): void;
  /** Calls `report` when the path manager has finished what it is doing. */
  soon(report: () => void): void;
}

export class PathReports {
  private isClosed = false;

  constructor(
    private readonly paths: UsedPaths,
    private readonly subflows: PathSubflows,
    private readonly options: PathReportsOptions,
    private readonly host: PathReportsHost,
  ) {}

  onEngineEvent(event: EngineEvent): void {
    if (event.type === 'connection-closed') {
      if (this.subflows.followers.delete(event.connectionId)) this.leaveAll(event.connectionId);
      return;
    }
    if (!('subflowId' in event)) return;
    const found = this.paths.find(event.connectionId, event.subflowId);
    if (found === null) return;
    const { path, member } = found;
    switch (event.type) {
      case 'subflow-established':
        this.onEstablished(path, member);
        break;
      case 'subflow-closed':
        this.onClosed(path, member, event.why, !event.isPermanent);
        break;
      case 'subflow-stalled':
        this.onStalled(path, member, event.why);
        break;
      case 'subflow-recovered':
        this.onRecovered(path, member);
        break;
      case 'subflow-silent':
      case 'subflow-heard':
        this.onHearing(member, event.type === 'subflow-silent');
        break;
      case 'priority': {
        const role = event.backup ? 'backup' : 'always';
        this.host.handle({ type: 'peer-wish', pathId: path.id, wish: { what: 'role', role } });
        break;
      }
    }
  }

  /** A connection is gone, and with it its subflows on all paths. */
  leaveAll(connectionId: number): void {
    for (const path of this.paths) this.leave(path, connectionId, null, 'its connection is gone', true);
  }

  close(): void {
    this.isClosed = true;
    for (const path of this.paths) path.endGrace();
  }

  private onEstablished(path: UsedPath, member: Member): void {
    member.isEstablished = true;
    // The peer knows our paths by the lanes' subflows.
    if (!this.subflows.followers.has(member.connection.id)) this.options.tellPeer();
    // The first subflow of a session counts when TLS and the upgrade are done: SessionPaths.onConnectionUp.
    if (path.isReported || !this.host.isUp()) return;
    path.isReported = true;
    this.host.handle({ type: 'join-established', pathId: path.id });
  }

  private onClosed(path: UsedPath, { connection, subflowId }: Member, why: string, isTransient: boolean): void {
    this.leave(path, connection.id, subflowId, why, isTransient);
    if (this.host.isUp() && !this.paths.hasMembersOf(connection.id)) this.onBare(path, connection, why);
  }

  private onStalled(path: UsedPath, member: Member, why: string): void {
    member.isStalled = true;
    path.isPeersWord = why.startsWith(PEER_SAYS);
    path.stopGrace ??= this.options.after(this.options.stallGraceMs, () => this.onLongStall(path, why));
  }

  private onRecovered(path: UsedPath, member: Member): void {
    member.isStalled = false;
    const isFirst = path.members.every((m) => m === member || m.isStalled || !m.isEstablished);
    if (!isFirst) return;
    path.endGrace();
    if (path.state === 'silent') path.state = 'ok';
    if (path.isStallReported) this.host.handle({ type: 'subflow-recovered', pathId: path.id });
    path.isStallReported = false;
  }

  private onHearing(member: Member, isSilent: boolean): void {
    const { connection, subflowId } = member;
    member.isSilent = isSilent;
    this.options.tellPeer();
    // A flow that only receives would not find out for what we send; asked, a path that works answers at once.
    if (isSilent && this.subflows.followers.has(connection.id))
      connection.suspectSubflow(this.options.nowUs(), subflowId, 'nothing is heard on it');
  }

  private onLongStall(path: UsedPath, why: string): void {
    path.stopGrace = null;
    if (this.isClosed || this.paths.get(path.id) !== path || !path.members.some((m) => m.isStalled)) return;
    // What one connection has found out, the others need not find out again.
    for (const other of path.members) {
      if (other.isStalled || !other.isEstablished) continue;
      other.isStalled = true;
      other.connection.suspectSubflow(this.options.nowUs(), other.subflowId, why);
    }
    path.isStallReported = true;
    this.host.handle({ type: 'subflow-stalled', pathId: path.id });
  }

  /**
   * A connection without any subflow: it lives on if the server lets it join again (RFC 8684 §3.4, break before make), and
   * if that is refused, the server has forgotten it.
   */
  private onBare(path: UsedPath, connection: ConnectionApi, why: string): void {
    const hasTried = path.lastJoinUs.has(connection.id);
    if (hasTried && (why === 'refused' || why === 'reset')) {
      if (this.subflows.followers.has(connection.id)) connection.abort(this.options.nowUs());
      else this.host.soon(() => this.options.onForgotten(connection));
    } else if (!hasTried) this.subflows.cover(path.id, connection);
  }

  /** A subflow of a connection is gone, or whichever it had (null); the last one of a path is news. */
  private leave(
    path: UsedPath,
    connectionId: number,
    subflowId: number | null,
    why: string,
    isTransient: boolean,
  ): void {
    if (!path.remove(connectionId, subflowId) || path.members.length > 0 || !this.host.isUp()) return;
    const wasReported = path.isReported;
    path.isReported = false;
    if (wasReported) this.host.handle({ type: 'subflow-closed', pathId: path.id, why });
    else this.host.handle({ type: 'join-failed', pathId: path.id, reason: why, isTransient });
  }
}

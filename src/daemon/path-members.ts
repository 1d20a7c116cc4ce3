/**
 * Who is on which path: the subflows of the session's connections, by path. One subflow of a connection at most belongs to
 * each path; what is known of a path beyond its subflows is kept with it, for as long as it is used.
 */
import type { IpAddress } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi, Endpoint } from '../core/engine/api.js';
import type { PolicyPathState } from '../core/lanes/policy.js';

/** A path, and where it goes. */
export interface Way {
  readonly pathId: number;
  readonly linkId: number;
  readonly localAddress: IpAddress;
  readonly remote: Endpoint;
}

export interface Member {
  readonly connection: ConnectionApi;
  readonly subflowId: number;
  isEstablished: boolean;
  isStalled: boolean;
  /** Nothing is heard on it although something should be; see the event `subflow-silent`. */
  isSilent: boolean;
}

export class UsedPath {
  readonly members: Member[] = [];
  /** When each connection was last given a subflow on it. */
  readonly lastJoinUs = new Map<number, Micros>();
  /** The path manager has been told of its first established subflow. */
  isReported = false;
  isBackup = false;
  /** The path manager knows of the stall. */
  isStallReported = false;
  /** Its stall is the peer's word, not our observation: the peer need not be told. */
  isPeersWord = false;
  /** What the peer is told of it. */
  state: PolicyPathState = 'ok';
  /** Running while a stall is too young to count. */
  stopGrace: (() => void) | null = null;

  constructor(readonly way: Way) {}

  get id(): number {
    return this.way.pathId;
  }

  memberOf(connectionId: number): Member | undefined {
    return this.members.find((m) => m.connection.id === connectionId);
  }

  /** Removes the subflow of a connection, whichever it is (null) or if it is this one. False: it is not here. */
  remove(connectionId: number, subflowId: number | null): boolean {
    const isOther = (m: Member) =>
      m.connection.id !== connectionId || (subflowId !== null && m.subflowId !== subflowId);
    const left = this.members.filter(isOther);
    if (left.length === this.members.length) return false;
    this.members.splice(0, this.members.length, ...left);
    return true;
  }

  endGrace(): void {
    this.stopGrace?.();
    this.stopGrace = null;
  }
}

export class UsedPaths implements Iterable<UsedPath> {
  private readonly byId = new Map<number, UsedPath>();

  get(pathId: number): UsedPath | undefined {
    return this.byId.get(pathId);
  }

  /** The path that goes this way, from now on used if it was not. */
  of(way: Way): UsedPath {
    let path = this.byId.get(way.pathId);
    if (path === undefined) this.byId.set(way.pathId, (path = new UsedPath(way)));
    return path;
  }

  delete(pathId: number): void {
    this.byId.delete(pathId);
  }

  clear(): void {
    this.byId.clear();
  }

  [Symbol.iterator](): Iterator<UsedPath> {
    return this.byId.values();
  }

  /** Where a subflow is a member; null: nowhere. */
  find(connectionId: number, subflowId: number): { path: UsedPath; member: Member } | null {
    for (const path of this.byId.values()) {
      const member = path.members.find((m) => m.connection.id === connectionId && m.subflowId === subflowId);
      if (member !== undefined) return { path, member };
    }
    return null;
  }

  hasMembersOf(connectionId: number): boolean {
    for (const path of this.byId.values()) if (path.memberOf(connectionId) !== undefined) return true;
    return false;
  }
}

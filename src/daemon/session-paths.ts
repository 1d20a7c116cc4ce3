/**
 * Between the path manager (which knows paths) and the session (which has several connections, each with a subflow per
 * path): carries out each command on every connection, and reports once per path. What the path manager wishes the peer to
 * know goes into one policy message, which always holds the whole picture.
 *
 *   connect → dial the session's connections over this path     join → a further subflow in each connection
 */
import { type IpAddress, ipEquals } from '../core/base/ip.js';
import { type Micros, NEVER } from '../core/base/time.js';
import type { ConnectionApi, Endpoint, EngineEvent } from '../core/engine/api.js';
import type { LaneIndex } from '../core/lanes/packet-lane.js';
import type { PolicyPath, PolicyPathState } from '../core/lanes/policy.js';
import { PathManager } from '../core/pathman/manager.js';
import type { PathCommand, PathEvent, PathStatus, PathTransition, RemoteEndpoint } from '../core/pathman/types.js';
import { DEFAULT_PATH_CONFIG, type PathMode } from '../core/pathman/types.js';
import type { RateLimit } from '../core/tcp/rate-limit.js';
import { LinkLimits } from './link-limits.js';
import { PEER_SAYS } from './session.js';

/** A connection that lacks a subflow on a path in use gets one; looked at this often, and tried again after at least this. */
const REPAIR_MS = 1_000;
const REPAIR_AGAIN_US = 3_000_000;

/**
 * A connection may suspect a path wrongly (the host was busy, the radio paused); it avoids the path at once, and finds out
 * soon. The session draws its own conclusions, and tells the peer, only after this long.
 */
export const STALL_GRACE_MS = 300;

/** SessionPathsOptions.after by Node's timers. */
export function after(ms: number, fn: () => void): () => void {
  if (ms > 0) {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  }
  let isCancelled = false;
  process.nextTick(() => {
    if (!isCancelled) fn();
  });
  return () => {
    isCancelled = true;
  };
}

export interface Way {
  readonly pathId: number;
  readonly linkId: number;
  readonly localAddress: IpAddress;
  readonly remote: Endpoint;
}

export interface LaneOf {
  readonly lane: LaneIndex;
  readonly connection: ConnectionApi;
}

export interface SessionPathsOptions {
  readonly mode: PathMode;
  /** See STALL_GRACE_MS. */
  readonly stallGraceMs: number;
  readonly nowUs: () => Micros;
  readonly random: () => number;
  /** Calls `fn` in so many milliseconds, never within this call; the answer cancels it. */
  after(ms: number, fn: () => void): () => void;
  /** Connections that are up. */
  connections(): readonly LaneOf[];
  /** Dials every lane that has no connection over `currentWay`. */
  dial(): void;
  /** Gives up the dials that are under way. */
  cancelDials(): void;
  /** Is there a route over this link to the remote address? */
  hasRoute(way: Way): boolean;
  congestionOf(linkId: number): string;
  /** What may leave over this link, bytes/s; Infinity: no limit. */
  rateLimitOf(linkId: number): number;
  /** The server does not know this connection any more (it was started anew): give it up. */
  onForgotten(connection: ConnectionApi): void;
  /** What the peer should know has changed. */
  tellPeer(): void;
  onTransition(transition: PathTransition): void;
  /** The path manager has done what followed from an event: `status` may say something new. */
  onSettled(): void;
  flushSoon(): void;
}

interface Member {
  readonly connection: ConnectionApi;
  readonly subflowId: number;
  isEstablished: boolean;
  isStalled: boolean;
  /** Nothing is heard on it although something should be; see the event `subflow-silent`. */
  isSilent: boolean;
}

interface PathMembers {
  readonly way: Way;
  readonly members: Member[];
  /** The path manager has been told of its first established subflow. */
  isReported: boolean;
  isBackup: boolean;
  /** Running while a stall is too young to count. */
  stopGrace: (() => void) | null;
  /** The path manager knows of the stall. */
  isStallReported: boolean;
  /** Its stall is the peer's word, not our observation: the peer need not be told. */
  isPeersWord: boolean;
  readonly lastJoinUs: Map<number, Micros>;
  state: PolicyPathState;
}

export class SessionPaths {
  private readonly manager: PathManager;
  private readonly paths = new Map<number, PathMembers>();
  /** Connections besides the lanes' that use the session's paths: long flows (flows/relay-client.ts). */
  readonly followers = new Map<number, ConnectionApi>();
  private readonly limits = new LinkLimits<number>();
  private target: Way | null = null;
  /** Links from which a packet would be news; kept up to date by `drain`. */
  private readonly awaited = new Set<number>();
  private stopTimer: (() => void) | null = null;
  private stopRepair: () => void;
  private isDraining = false;
  private isUp = false;
  private isClosed = false;

  constructor(private readonly options: SessionPathsOptions) {
    this.manager = new PathManager({ ...DEFAULT_PATH_CONFIG, side: 'client', mode: options.mode }, options.random);
    this.stopRepair = options.after(REPAIR_MS, () => this.repair());
  }

  /** Where the next dial goes: the path being connected, or else the best one in use. */
  get currentWay(): Way | null {
    if (this.target !== null) return this.target;
    for (const p of this.manager.paths(this.options.nowUs())) {
      if ((p.state === 'active' || p.state === 'warm') && !p.isStalled) return this.paths.get(p.id)?.way ?? null;
    }
    return null;
  }

  /** False: there is a better path than this one, which only waits (a backup, or the other link in handover). */
  isChosen(way: Way): boolean {
    const paths = this.manager.paths(this.options.nowUs());
    const isIt = paths.some((p) => p.id === way.pathId && p.state === 'active');
    return isIt || !paths.some((p) => p.state === 'active' && !p.isStalled);
  }

  handle(event: PathEvent): void {
    this.manager.handle(this.options.nowUs(), event);
    this.drain();
  }

  /** Packets came in over a link; means something only where a path waits for a sign of life. */
  onReceived(linkId: number): void {
    if (this.awaited.has(linkId)) this.handle({ type: 'packet-received', linkId });
  }

  /** The rules of the links have changed: what may leave over each, and how, is set anew. */
  applyRules(): void {
    for (const { way, members } of this.paths.values()) {
      const nowUs = this.options.nowUs();
      const limit = this.limitOf(way.linkId);
      const congestion = this.options.congestionOf(way.linkId);
      for (const m of members) {
        m.connection.limitSubflow(nowUs, m.subflowId, limit);
        m.connection.setCongestion(nowUs, m.subflowId, congestion);
      }
    }
    this.options.tellPeer();
    this.options.flushSoon();
  }

  /** Nothing that was known of any path can be trusted any more (the host slept): each is asked at once. */
  probeAll(why: string): void {
    const nowUs = this.options.nowUs();
    for (const { way, members } of this.paths.values()) {
      for (const m of members) {
        if (!m.isEstablished) continue;
        m.connection.suspectSubflow(nowUs, m.subflowId, why);
        m.connection.onLinkState(nowUs, way.linkId, true);
      }
    }
    this.options.flushSoon();
  }

  status(): PathStatus[] {
    return this.manager.paths(this.options.nowUs());
  }

  /** What the closing of the connections brings is not acted upon any more. */
  close(): void {
    this.isClosed = true;
    this.stopRepair();
    for (const path of this.paths.values()) stopGrace(path);
    this.stopTimer?.();
  }

  // ---- From the session --------------------------------------------------------------------------------------------

  /** A dial over `way` has begun: its first subflow belongs to that path. */
  onDialed(way: Way, connection: ConnectionApi): void {
    this.join(way, { connection, subflowId: firstSubflowId(connection) });
  }

  /** A connection's handshakes are done. */
  onConnectionUp(connection: ConnectionApi): void {
    const wasUp = this.isUp;
    this.isUp = true;
    const own = this.target;
    this.target = null;
    if (!wasUp && own !== null) {
      const path = this.paths.get(own.pathId);
      if (path !== undefined) path.isReported = true;
      this.manager.handle(this.options.nowUs(), { type: 'join-established', pathId: own.pathId });
      this.handle({ type: 'session-ready' });
    }
    // Paths that the session uses already, this connection uses too.
    this.coverAll(connection);
    this.drain();
  }

  /** A flow's connection uses the session's paths from now on, as the lanes' connections do. */
  follow(connection: ConnectionApi): void {
    this.followers.set(connection.id, connection);
    this.adopt(connection);
    this.coverAll(connection);
    this.options.flushSoon();
  }

  /** A dial failed, and none is left under way. */
  onDialFailed(why: string, isTransient: boolean): void {
    const way = this.target;
    if (way === null) return;
    this.target = null;
    this.handle({ type: 'join-failed', pathId: way.pathId, reason: why, isTransient });
  }

  /** A connection is gone. */
  onConnectionDown(connection: ConnectionApi): void {
    for (const [pathId, path] of this.paths)
      this.leave(pathId, path, connection.id, null, 'its connection is gone', true);
    if (this.isUp && this.options.connections().length === 0) {
      this.isUp = false;
      this.paths.clear();
      this.handle({ type: 'session-lost' });
    }
  }

  // ---- From the engine ---------------------------------------------------------------------------------------------

  onEngineEvent(event: EngineEvent): void {
    switch (event.type) {
      case 'subflow-established':
        this.withMember(event.connectionId, event.subflowId, (pathId, path, member) => {
          member.isEstablished = true;
          // The peer knows our paths by the lanes' subflows.
          if (!this.followers.has(event.connectionId)) this.options.tellPeer();
          // The first subflow of a session counts when TLS and the upgrade are done: see onConnectionUp.
          if (path.isReported || !this.isUp) return;
          path.isReported = true;
          this.handle({ type: 'join-established', pathId });
        });
        break;
      case 'subflow-closed':
        this.withMember(event.connectionId, event.subflowId, (pathId, path) => {
          const { connection } = path.members.find((m) => m.connection.id === event.connectionId)!;
          this.leave(pathId, path, event.connectionId, event.subflowId, event.why, !event.isPermanent);
          if (this.isUp && !this.hasMembers(connection)) this.onBare(pathId, path, connection, event.why);
        });
        break;
      case 'subflow-stalled':
        this.withMember(event.connectionId, event.subflowId, (pathId, path, member) => {
          member.isStalled = true;
          path.isPeersWord = event.why.startsWith(PEER_SAYS);
          path.stopGrace ??= this.options.after(this.options.stallGraceMs, () =>
            this.onLongStall(pathId, path, event.why),
          );
        });
        break;
      case 'subflow-recovered':
        this.withMember(event.connectionId, event.subflowId, (pathId, path, member) => {
          member.isStalled = false;
          const isFirst = path.members.every((m) => m === member || m.isStalled || !m.isEstablished);
          if (!isFirst) return;
          stopGrace(path);
          if (path.state === 'silent') path.state = 'ok';
          if (path.isStallReported) this.handle({ type: 'subflow-recovered', pathId });
          path.isStallReported = false;
        });
        break;
      case 'subflow-silent':
      case 'subflow-heard':
        this.withMember(event.connectionId, event.subflowId, (_pathId, _path, member) => {
          member.isSilent = event.type === 'subflow-silent';
          this.options.tellPeer();
          // A flow that only receives would not find out for what we send; asked, a path that works answers at once.
          if (member.isSilent && this.followers.has(event.connectionId)) {
            member.connection.suspectSubflow(this.options.nowUs(), event.subflowId, 'nothing is heard on it');
          }
        });
        break;
      case 'priority':
        this.withMember(event.connectionId, event.subflowId, (pathId) => {
          const role = event.backup ? 'backup' : 'always';
          this.handle({ type: 'peer-wish', pathId, wish: { what: 'role', role } });
        });
        break;
      case 'connection-closed':
        if (!this.followers.delete(event.connectionId)) break;
        for (const [pathId, path] of this.paths)
          this.leave(pathId, path, event.connectionId, null, 'its connection is gone', true);
        break;
      default:
        break;
    }
  }

  private onLongStall(pathId: number, path: PathMembers, why: string): void {
    path.stopGrace = null;
    if (this.isClosed || this.paths.get(pathId) !== path || !path.members.some((m) => m.isStalled)) return;
    // What one connection has found out, the others need not find out again.
    for (const other of path.members) {
      if (other.isStalled || !other.isEstablished) continue;
      other.isStalled = true;
      other.connection.suspectSubflow(this.options.nowUs(), other.subflowId, why);
    }
    path.isStallReported = true;
    this.handle({ type: 'subflow-stalled', pathId });
  }

  // ---- For the policy channel --------------------------------------------------------------------------------------

  /** Our wishes, path by path, with the address ids that name them in each connection. */
  policyPaths(
    describe: (linkId: number) => Pick<PolicyPath, 'name' | 'rateLimitBytesPerS' | 'congestion'>,
  ): PolicyPath[] {
    const lanes = this.options.connections();
    const infos = lanes.map(({ connection }) => connection.info());
    return [...this.paths.values()].map((path) => {
      const subflows = lanes.flatMap(({ lane, connection }, i) => {
        const own = path.members.find((m) => m.connection.id === connection.id);
        const subflow = infos[i]!.subflows.find((s) => s.id === own?.subflowId);
        return subflow === undefined ? [] : [{ lane, subflow }];
      });
      const isSilent = path.state === 'ok' && path.members.some((m) => m.isSilent);
      return {
        ...describe(path.way.linkId),
        role: path.isBackup ? 'backup' : 'always',
        state: isSilent ? 'silent' : path.state,
        addressIds: subflows.map(({ lane, subflow }) => ({
          lane,
          addressId: subflow.localAddressId,
          serverAddressId: subflow.remoteAddressId,
        })),
      };
    });
  }

  // ---- Commands ----------------------------------------------------------------------------------------------------

  /** Carries out what the path manager orders; orders that come from within are queued behind. */
  private drain(): void {
    if (this.isDraining || this.isClosed) return;
    this.isDraining = true;
    for (let command = this.manager.pollCommand(); command !== undefined; command = this.manager.pollCommand()) {
      this.carryOut(command);
    }
    for (let t = this.manager.pollTransition(); t !== undefined; t = this.manager.pollTransition()) {
      this.options.onTransition(t);
    }
    this.isDraining = false;
    this.awaited.clear();
    for (const linkId of this.manager.linkIds()) if (this.manager.awaits(linkId)) this.awaited.add(linkId);
    this.options.onSettled();
    this.arm();
    this.options.flushSoon();
  }

  private carryOut(command: PathCommand): void {
    const nowUs = this.options.nowUs();
    switch (command.type) {
      case 'connect':
        this.target = wayOf(command);
        if (this.options.hasRoute(this.target)) this.options.dial();
        else this.reportSoon(() => this.onDialFailed('no route to the server', true));
        break;
      case 'join': {
        const way = wayOf(command);
        Object.assign(this.pathOf(way), { isBackup: command.backup, state: 'ok' });
        const hasRoute = this.options.hasRoute(way);
        if (hasRoute) for (const connection of this.connections()) this.open(way, connection);
        if (this.pathOf(way).members.length === 0) {
          const reason = hasRoute ? 'the connections cannot take a further subflow' : 'no route to the server';
          this.reportSoon(() => this.handle({ type: 'join-failed', pathId: way.pathId, reason, isTransient: true }));
        }
        break;
      }
      case 'close':
        if (this.target?.pathId === command.pathId) {
          this.target = null;
          this.options.cancelDials();
        }
        this.each(command.pathId, (m) => m.connection.closeSubflow(nowUs, m.subflowId, command.how));
        if (command.how === 'reset') this.paths.delete(command.pathId);
        break;
      case 'set-backup': {
        const path = this.paths.get(command.pathId);
        if (path !== undefined) {
          path.isBackup = command.backup;
          // It was about to be given up, and is wanted again.
          if (!command.backup && path.state === 'going') path.state = 'returned';
        }
        this.each(command.pathId, (m) => this.setBackup(m, command.backup));
        break;
      }
      case 'link-state':
        for (const connection of this.connections()) {
          connection.onLinkState(nowUs, command.linkId, command.isUp);
        }
        break;
      case 'suspect':
        this.each(command.pathId, (m) => {
          m.connection.suspectSubflow(nowUs, m.subflowId, `${PEER_SAYS}: ${command.why}`);
        });
        break;
      case 'tell-peer': {
        const path = this.paths.get(command.pathId);
        if (path === undefined || (command.wish.what === 'silent' && path.isPeersWord)) break;
        if (command.wish.what !== 'role') path.state = command.wish.what;
        this.options.tellPeer();
        break;
      }
    }
  }

  private open(way: Way, connection: ConnectionApi): void {
    if (!connection.isMptcp || connection.state !== 'established') return;
    const path = this.pathOf(way);
    const nowUs = this.options.nowUs();
    if (path.members.some((m) => m.connection.id === connection.id)) return;
    path.lastJoinUs.set(connection.id, nowUs);
    const subflowId = connection.join(nowUs, {
      linkId: way.linkId,
      localAddress: way.localAddress,
      remote: way.remote,
      backup: path.isBackup,
      congestion: this.options.congestionOf(way.linkId),
    });
    if (subflowId >= 0) this.join(way, { connection, subflowId });
  }

  /** Gives `connection` a subflow on a path that it lacks. */
  private cover(pathId: number, connection: ConnectionApi): void {
    const path = this.paths.get(pathId);
    if (path === undefined || !this.options.hasRoute(path.way)) return;
    const lastUs = path.lastJoinUs.get(connection.id) ?? Number.NEGATIVE_INFINITY;
    if (this.options.nowUs() - lastUs >= REPAIR_AGAIN_US) this.open(path.way, connection);
  }

  /** ... on every path that the session uses. */
  private coverAll(connection: ConnectionApi): void {
    for (const p of this.manager.paths(this.options.nowUs())) {
      if (p.state === 'active' || p.state === 'warm' || p.state === 'joining') this.cover(p.id, connection);
    }
  }

  /** Subflows that a follower has already belong to the paths that they take. */
  private adopt(connection: ConnectionApi): void {
    for (const subflow of connection.info().subflows) {
      for (const { way, members } of this.paths.values()) {
        const isIt =
          way.linkId === subflow.linkId &&
          ipEquals(way.localAddress, subflow.local.address) &&
          ipEquals(way.remote.address, subflow.remote.address);
        if (!isIt || members.some((m) => m.connection.id === connection.id)) continue;
        this.join(way, { connection, subflowId: subflow.id });
        const member = members.at(-1)!;
        member.isEstablished = subflow.state === 'established';
        // The path may have become a backup since this connection was opened over it.
        if (this.pathOf(way).isBackup !== subflow.isBackupLocal) this.setBackup(member, this.pathOf(way).isBackup);
      }
    }
  }

  private *connections(): Iterable<ConnectionApi> {
    for (const { connection } of this.options.connections()) yield connection;
    yield* this.followers.values();
  }

  private repair(): void {
    this.stopRepair = this.options.after(REPAIR_MS, () => this.repair());
    // The session was lost meanwhile, and its paths are new ones.
    for (const connection of this.followers.values()) if (!this.hasMembers(connection)) this.adopt(connection);
    for (const p of this.manager.paths(this.options.nowUs())) {
      if (p.state !== 'active' && p.state !== 'warm') continue;
      for (const connection of this.connections()) this.cover(p.id, connection);
    }
    this.options.flushSoon();
  }

  // ---- Bookkeeping -------------------------------------------------------------------------------------------------

  private pathOf(way: Way): PathMembers {
    let path = this.paths.get(way.pathId);
    if (path === undefined) {
      path = {
        way,
        members: [],
        isReported: false,
        isBackup: false,
        isPeersWord: false,
        stopGrace: null,
        isStallReported: false,
        lastJoinUs: new Map(),
        state: 'ok',
      };
      this.paths.set(way.pathId, path);
    }
    return path;
  }

  private limitOf(linkId: number): RateLimit | null {
    return this.limits.of(this.options.nowUs(), linkId, this.options.rateLimitOf(linkId));
  }

  private join(way: Way, { connection, subflowId }: { connection: ConnectionApi; subflowId: number }): void {
    this.pathOf(way).members.push({ connection, subflowId, isEstablished: false, isStalled: false, isSilent: false });
    connection.limitSubflow(this.options.nowUs(), subflowId, this.limitOf(way.linkId));
  }

  /** Removes the members of a connection (one subflow, or all); the last one of a path is news. */
  private leave(
    pathId: number,
    path: PathMembers,
    connectionId: number,
    subflowId: number | null,
    why: string,
    isTransient: boolean,
  ): void {
    const left = path.members.filter(
      (m) => m.connection.id !== connectionId || (subflowId !== null && m.subflowId !== subflowId),
    );
    if (left.length === path.members.length) return;
    path.members.splice(0, path.members.length, ...left);
    if (left.length > 0 || !this.isUp) return;
    const wasReported = path.isReported;
    path.isReported = false;
    if (wasReported) this.handle({ type: 'subflow-closed', pathId, why });
    else this.handle({ type: 'join-failed', pathId, reason: why, isTransient });
  }

  /** Both ways: what the peer sends, and what we do. */
  private setBackup({ connection, subflowId }: Member, isBackup: boolean): void {
    const nowUs = this.options.nowUs();
    connection.setBackup(nowUs, subflowId, isBackup);
    connection.setLocalBackup(nowUs, subflowId, isBackup);
  }

  private hasMembers(connection: ConnectionApi): boolean {
    for (const { members } of this.paths.values())
      if (members.some((m) => m.connection.id === connection.id)) return true;
    return false;
  }

  /**
   * A connection without any subflow: it lives on if the server lets it join again (RFC 8684 §3.4, break before make), and
   * if that is refused, the server has forgotten it.
   */
  private onBare(pathId: number, path: PathMembers, connection: ConnectionApi, why: string): void {
    const hasTried = path.lastJoinUs.has(connection.id);
    if (hasTried && (why === 'refused' || why === 'reset')) {
      if (this.followers.has(connection.id)) connection.abort(this.options.nowUs());
      else this.reportSoon(() => this.options.onForgotten(connection));
    } else if (!hasTried) this.cover(pathId, connection);
  }

  private each(pathId: number, action: (member: Member) => void): void {
    for (const member of [...(this.paths.get(pathId)?.members ?? [])]) action(member);
  }

  private withMember(
    connectionId: number,
    subflowId: number,
    action: (pathId: number, path: PathMembers, member: Member) => void,
  ): void {
    for (const [pathId, path] of this.paths) {
      const member = path.members.find((m) => m.connection.id === connectionId && m.subflowId === subflowId);
      if (member === undefined) continue;
      action(pathId, path, member);
      return;
    }
  }

  /** Never from within a command: the path manager must have finished what it is doing. */
  private reportSoon(report: () => void): void {
    this.options.after(0, () => {
      if (!this.isClosed) report();
    });
  }

  private arm(): void {
    this.stopTimer?.();
    this.stopTimer = null;
    const deadlineUs = this.manager.nextDeadline();
    if (deadlineUs === NEVER) return;
    const delayMs = Math.max(1, Math.ceil((deadlineUs - this.options.nowUs()) / 1000));
    this.stopTimer = this.options.after(delayMs, () => {
      this.manager.onTimer(this.options.nowUs());
      this.drain();
    });
  }
}

function wayOf(c: { pathId: number; linkId: number; localAddress: IpAddress; remote: RemoteEndpoint }): Way {
  return { pathId: c.pathId, linkId: c.linkId, localAddress: c.localAddress, remote: c.remote };
}

function stopGrace(path: PathMembers): void {
  path.stopGrace?.();
  path.stopGrace = null;
}

function firstSubflowId(connection: ConnectionApi): number {
  return connection.info().subflows[0]?.id ?? 0;
}

/**
 * Between the path manager (which knows paths) and the session (which has several connections, each with a subflow per
 * path): carries out each command on every connection (path-subflows.ts), and reports once per path (path-reports.ts). What
 * the path manager wishes the peer to know goes into one policy message, which always holds the whole picture.
 *
 *   connect → dial the session's connections over this path     join → a further subflow in each connection
 */
import { NEVER } from '../core/base/time.js';
import type { ConnectionApi, EngineEvent } from '../core/engine/api.js';
import type { PolicyPath } from '../core/lanes/policy.js';
import { PathManager } from '../core/pathman/manager.js';
import type { PathCommand, PathEvent, PathStatus, PathTransition } from '../core/pathman/types.js';
import { DEFAULT_PATH_CONFIG, type PathMode } from '../core/pathman/types.js';
import { UsedPaths, type Way } from './path-members.js';
import { PathReports, type PathReportsOptions } from './path-reports.js';
import { PathSubflows, type PathSubflowsOptions } from './path-subflows.js';
import { PEER_SAYS } from './session.js';

/** A connection that lacks a subflow on a path in use gets one; looked at this often. */
const REPAIR_MS = 1_000;

/** PathReportsOptions.after by Node's timers. */
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

export interface SessionPathsOptions extends PathSubflowsOptions, PathReportsOptions {
  readonly mode: PathMode;
  readonly random: () => number;
  /** Dials every lane that has no connection over `currentWay`. */
  dial(): void;
  /** Gives up the dials that are under way. */
  cancelDials(): void;
  onTransition(transition: PathTransition): void;
  /** The path manager has done what followed from an event: `status` may say something new. */
  onSettled(): void;
  flushSoon(): void;
}

export class SessionPaths {
  private readonly manager: PathManager;
  private readonly paths = new UsedPaths();
  private readonly subflows: PathSubflows;
  private readonly reports: PathReports;
  private target: Way | null = null;
  /** Links from which a packet would be news; kept up to date by `drain`. */
  private readonly awaited = new Set<number>();
  private stopTimer: (() => void) | null = null;
  private stopRepair: () => void;
  private isDraining = false;
  private isUp = false;
  private isClosed = false;

  constructor(private readonly options: SessionPathsOptions) {
    this.subflows = new PathSubflows(this.paths, options);
    this.reports = new PathReports(this.paths, this.subflows, options, {
      isUp: () => this.isUp,
      handle: (event) => this.handle(event),
      soon: (report) => this.reportSoon(report),
    });
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

  /** See PathSubflows. */
  get followers(): ReadonlyMap<number, ConnectionApi> {
    return this.subflows.followers;
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
    this.subflows.applyRules();
    this.options.tellPeer();
    this.options.flushSoon();
  }

  /** Nothing that was known of any path can be trusted any more (the host slept): each is asked at once. */
  probeAll(why: string): void {
    this.subflows.probeAll(why);
    this.options.flushSoon();
  }

  status(): PathStatus[] {
    return this.manager.paths(this.options.nowUs());
  }

  /** See PathSubflows. */
  policyPaths(describe: Parameters<PathSubflows['policyPaths']>[0]): PolicyPath[] {
    return this.subflows.policyPaths(describe);
  }

  /** What the closing of the connections brings is not acted upon any more. */
  close(): void {
    this.isClosed = true;
    this.stopRepair();
    this.reports.close();
    this.stopTimer?.();
  }

  onEngineEvent(event: EngineEvent): void {
    this.reports.onEngineEvent(event);
  }

  // ---- From the session --------------------------------------------------------------------------------------------

  /** A dial over `way` has begun: its first subflow belongs to that path. */
  onDialed(way: Way, connection: ConnectionApi): void {
    this.subflows.add(way, connection, firstSubflowId(connection));
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
    this.subflows.followers.set(connection.id, connection);
    this.subflows.adopt(connection);
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
    this.reports.leaveAll(connection.id);
    if (this.isUp && this.options.connections().length === 0) {
      this.isUp = false;
      this.paths.clear();
      this.handle({ type: 'session-lost' });
    }
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
    switch (command.type) {
      case 'connect':
        this.target = wayOf(command);
        if (this.options.hasRoute(this.target)) this.options.dial();
        else this.reportSoon(() => this.onDialFailed('no route to the server', true));
        break;
      case 'join':
        this.carryOutJoin(wayOf(command), command.backup);
        break;
      case 'close':
        if (this.target?.pathId === command.pathId) {
          this.target = null;
          this.options.cancelDials();
        }
        this.subflows.close(command.pathId, command.how);
        if (command.how === 'reset') this.paths.delete(command.pathId);
        break;
      case 'set-backup': {
        const path = this.paths.get(command.pathId);
        if (path === undefined) break;
        path.isBackup = command.backup;
        // It was about to be given up, and is wanted again.
        if (!command.backup && path.state === 'going') path.state = 'returned';
        this.subflows.setBackup(command.pathId, command.backup);
        break;
      }
      case 'link-state':
        for (const connection of this.subflows.connections()) {
          connection.onLinkState(this.options.nowUs(), command.linkId, command.isUp);
        }
        break;
      case 'suspect':
        this.subflows.suspect(command.pathId, `${PEER_SAYS}: ${command.why}`);
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

  private carryOutJoin(way: Way, isBackup: boolean): void {
    const path = this.paths.of(way);
    path.isBackup = isBackup;
    path.state = 'ok';
    const hasRoute = this.options.hasRoute(way);
    if (hasRoute) for (const connection of this.subflows.connections()) this.subflows.open(way, connection);
    if (path.members.length > 0) return;
    const reason = hasRoute ? 'the connections cannot take a further subflow' : 'no route to the server';
    this.reportSoon(() => this.handle({ type: 'join-failed', pathId: path.id, reason, isTransient: true }));
  }

  /** Gives `connection` a subflow on every path that the session uses and it lacks. */
  private coverAll(connection: ConnectionApi): void {
    for (const p of this.manager.paths(this.options.nowUs())) {
      if (p.state === 'active' || p.state === 'warm' || p.state === 'joining') this.subflows.cover(p.id, connection);
    }
  }

  private repair(): void {
    this.stopRepair = this.options.after(REPAIR_MS, () => this.repair());
    // The session was lost meanwhile, and its paths are new ones.
    for (const connection of this.followers.values()) {
      if (!this.paths.hasMembersOf(connection.id)) this.subflows.adopt(connection);
    }
    for (const p of this.manager.paths(this.options.nowUs())) {
      if (p.state !== 'active' && p.state !== 'warm') continue;
      for (const connection of this.subflows.connections()) this.subflows.cover(p.id, connection);
    }
    this.options.flushSoon();
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

function wayOf({ pathId, linkId, localAddress, remote }: Way): Way {
  return { pathId, linkId, localAddress, remote };
}

function firstSubflowId(connection: ConnectionApi): number {
  return connection.info().subflows[0]?.id ?? 0;
}

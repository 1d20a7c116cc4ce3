/**
 * One flow straight to its destination: a connection of its own, with a path manager of its own (session-paths.ts), which
 * opens it over the best usable link, and adds subflows over the others once the destination has answered as Multipath TCP
 * (RFC 8684 3.2). A destination that speaks plain TCP is served over the one link, and needs no path manager.
 */
import type { ConnectionApi, EngineEvent } from '../../core/engine/api.js';
import { BULK } from '../../core/lanes/packet-lane.js';
import type { PathEvent, RemoteEndpoint } from '../../core/pathman/types.js';
import type { Way } from '../path-members.js';
import { STALL_GRACE_MS } from '../path-reports.js';
import { after, SessionPaths } from '../session-paths.js';
import { DialError, type DialFailure } from './contract.js';
import type { DirectHost } from './direct.js';

/** So long the first link may take to answer while there are others to ask; the last one may take what TCP takes. */
const PATIENCE_MS = 2_000;

export class DirectFlow {
  connection: ConnectionApi | null = null;
  private paths: SessionPaths | null;
  private readonly remotes = new Map<number, RemoteEndpoint>();
  private patience: NodeJS.Timeout | null = null;
  private isSettled = false;
  /** The destination has answered. */
  isOpen = false;
  /** What the last attempt failed of. */
  private failure = new DialError('unavailable', 'no link is usable');

  /** `onConnection` is told of each connection tried; `settle` is told once: null when the destination has answered, else why not. */
  constructor(
    private readonly host: DirectHost,
    private readonly remote: RemoteEndpoint,
    private readonly settle: (error: DialError | null) => void,
    private readonly onConnection: (connection: ConnectionApi) => void = () => {},
  ) {
    this.paths = new SessionPaths({
      mode: host.pathMode(),
      stallGraceMs: STALL_GRACE_MS,
      nowUs: () => host.nowUs(),
      random: Math.random,
      after,
      connections: () => {
        const c = this.connection;
        return c === null || !this.isSettled ? [] : [{ lane: BULK, connection: c }];
      },
      dial: () => void this.connect(),
      cancelDials: () => this.giveUpAttempt('unavailable', 'the link is gone', false),
      hasRoute: (way) => host.hasRoute(way.linkId, way.remote.address, way.localAddress),
      congestionOf: (linkId) => host.congestionOf(linkId),
      rateLimitOf: (linkId) => host.rateLimitOf(linkId),
      onForgotten: (connection) => connection.abort(host.nowUs()),
      tellPeer: () => {},
      onTransition: () => {},
      onSettled: () => {},
      flushSoon: () => host.flushSoon(),
    });
  }

  start(): void {
    for (const link of this.host.links()) this.handle({ type: 'link-added', link });
    this.handle({ type: 'remote-addresses', remotes: [this.remote] });
    if (this.paths !== null && this.paths.currentWay === null) this.fail();
  }

  /** News of a link. */
  handle(event: PathEvent): void {
    this.paths?.handle(event);
  }

  onReceived(linkId: number): void {
    this.paths?.onReceived(linkId);
  }

  /** What happens to a connection of ours; one that was given up is none of our business any more. */
  onEngineEvent(event: EngineEvent): void {
    if (!('connectionId' in event) || event.connectionId !== this.connection?.id) return;
    if (event.type === 'connection-established') this.onEstablished();
    else if (event.type === 'connection-closed') this.onClosed(event.why);
    else if (event.type === 'subflow-unreachable') this.giveUpAttempt('unreachable', 'a router has no way there', true);
    else if (event.type === 'address-announced') {
      const { address, port } = event.endpoint;
      // RFC 8684 3.4.1: without a port, the connection's own.
      const remote = { address, port: port > 0 ? port : this.remote.port, addressId: event.addressId };
      this.remotes.set(event.addressId, remote);
      this.tellRemotes();
    } else if (event.type === 'address-removed') {
      this.remotes.delete(event.addressId);
      this.tellRemotes();
    } else this.paths?.onEngineEvent(event);
  }

  /** Ends the attempt, or the connection. */
  abort(): void {
    this.stopPaths();
    if (this.connection !== null && this.connection.state !== 'closed') this.connection.abort(this.host.nowUs());
    this.host.flushSoon();
    this.settleOnce(new DialError('unavailable', 'given up'));
  }

  private async connect(): Promise<void> {
    const connection = await this.host.connect(() => this.paths?.currentWay ?? null);
    if (connection === null) return;
    if (this.isSettled || this.paths === null) {
      connection.api.abort(this.host.nowUs());
      return;
    }
    this.connection = connection.api;
    this.onConnection(connection.api);
    this.paths.onDialed(connection.way, connection.api);
    if (this.host.links().filter((l) => l.isUp && l.role !== 'never').length > 1) {
      const attempt = connection.api;
      // Timers come before packets: where this process was late itself, the answer may be here already.
      const look = () =>
        setImmediate(() => this.connection === attempt && this.giveUpAttempt('timeout', 'no answer', true));
      this.patience = setTimeout(() => setImmediate(look), PATIENCE_MS);
    }
  }

  private onEstablished(): void {
    const c = this.connection!;
    this.clearPatience();
    this.isOpen = true;
    this.settleOnce(null);
    if (c.isMptcp) this.paths?.onConnectionUp(c);
    else this.stopPaths();
  }

  private onClosed(why: string): void {
    this.clearPatience();
    if (this.isSettled) {
      this.stopPaths();
      return;
    }
    this.failure = new DialError(failureFor(why, this.connection!), `the destination: ${why}`);
    this.connection = null;
    // An answer is an answer, whatever the link; silence may be the link's.
    if (this.failure.failure === 'refused') this.fail();
    else this.nextLink(why);
  }

  /** Nobody answers here: the path manager looks for another link. */
  private giveUpAttempt(failure: DialFailure, why: string, tellPaths: boolean): void {
    const c = this.connection;
    if (this.isSettled || c === null) return;
    this.clearPatience();
    this.failure = new DialError(failure, why);
    this.connection = null;
    c.abort(this.host.nowUs());
    if (tellPaths) this.nextLink(why);
  }

  private nextLink(why: string): void {
    this.paths?.onDialFailed(why, true);
    if (this.paths?.currentWay === null) this.fail();
  }

  private fail(): void {
    this.stopPaths();
    this.settleOnce(this.failure);
  }

  private settleOnce(error: DialError | null): void {
    if (this.isSettled) return;
    this.isSettled = true;
    this.settle(error);
  }

  private tellRemotes(): void {
    this.handle({ type: 'remote-addresses', remotes: [this.remote, ...this.remotes.values()] });
  }

  private stopPaths(): void {
    this.clearPatience();
    this.paths?.close();
    this.paths = null;
  }

  private clearPatience(): void {
    if (this.patience !== null) clearTimeout(this.patience);
    this.patience = null;
  }
}

export interface Dialed {
  readonly way: Way;
  readonly api: ConnectionApi;
}

/** Codes of destination unreachable that say "prohibited" (RFC 1122 3.2.2.1, RFC 1812 5.2.7.1; RFC 4443 3.1). */
const PROHIBITED = { 4: new Set([9, 10, 13]), 6: new Set([1, 5, 6]) };

/** From the reasons of core/tcp (CloseReason). */
function failureFor(why: string, { icmpCode, remote }: ConnectionApi): DialFailure {
  if (why === 'refused' || why === 'reset') return 'refused';
  if (why === 'unreachable' && PROHIBITED[remote.address.family].has(icmpCode)) return 'denied';
  return why === 'unreachable' || why === 'timeout' ? why : 'unavailable';
}

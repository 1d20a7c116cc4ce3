/**
 * The way 'relay': each flow is a CONNECT to the relay over a Multipath TCP connection of its own, out of a store of
 * connections that are ready (relay-pool.ts). A flow begins on one subflow. Those over the other links are joined by the
 * session's path manager, as for its own connections, once it is worth it: the flow has carried some bytes or lasted some
 * time, or its only subflow has stalled.
 */
import type { RelayConfig } from '../../config/types.js';
import type { Micros } from '../../core/base/time.js';
import type { ConnectionApi, EngineEvent } from '../../core/engine/api.js';
import { AuthenticationError, type TlsIdentity, TlsSessions } from '../tls.js';
import { DialError, type FlowDialer, type FlowOutbound, type FlowTarget } from './contract.js';
import { type RelayCarrier, RelayConnection, UnheardError } from './relay-connection.js';
import { RelayPool } from './relay-pool.js';

/** How often young flows are looked at for that; all of them together this many times a second at most. */
const LOOK_MS = 20;
const MAX_LOOKS_PER_S = 1_000;
/** A switch of paths is no time for the handshakes of connections that nobody waits for yet. */
const REVIEW_AFTER_MS = 250;
/** Connections that one flow is tried on. */
const MAX_TRIES = 3;
/** As the tunnel's own connections (core/engine/config.ts): no NAT forgets one that waits. */
const KEEPALIVE_US = 55_000_000;

export interface RelayHost extends RelayCarrier {
  after(ms: number, fn: () => void): () => void;
  random(): number;
  /** From now on the path manager gives this connection its subflows. */
  follow(connection: ConnectionApi): void;
  /** An attempt to reach the relay failed, for people. */
  onFailed(error: Error): void;
}

export interface RelayClientOptions {
  readonly identity: TlsIdentity;
  /** Of the relay's key (tls.ts). */
  readonly pin: string;
  /** In force now. */
  config(): RelayConfig;
}

interface Young {
  readonly connection: ConnectionApi;
  readonly sinceUs: Micros;
}

export class RelayClient implements FlowDialer {
  readonly way = 'relay';
  readonly pool: RelayPool<RelayConnection>;
  /** Flows that have one subflow, by connection. */
  private readonly young = new Map<number, Young>();
  private readonly sessions = new TlsSessions();
  private stopLook: (() => void) | null = null;
  private stopReview: (() => void) | null = null;

  constructor(
    private readonly host: RelayHost,
    private readonly options: RelayClientOptions,
  ) {
    const { poolMin, poolMax } = options.config();
    this.pool = new RelayPool({
      min: poolMin,
      max: poolMax,
      open: (signal) => this.open(signal),
      nowUs: () => host.nowUs(),
      after: (ms, fn) => host.after(ms, fn),
      random: () => host.random(),
      onFailed: (error) => {
        host.onFailed(error);
        return { isPointless: error instanceof AuthenticationError };
      },
    });
  }

  /** Flows are going to come. */
  start(): void {
    this.pool.start();
  }

  async dial(target: FlowTarget, signal: AbortSignal): Promise<FlowOutbound> {
    for (let tries = 1; ; tries++) {
      const warm = await this.pool.take(signal);
      try {
        await warm.request(target, signal, tries === MAX_TRIES);
        return this.outbound(warm);
      } catch (error) {
        if (!(error instanceof UnheardError)) throw error;
        if (tries === MAX_TRIES) throw new DialError('unavailable', error.message);
      }
    }
  }

  /** What waits on this link is of no use any more. */
  onLinkGone(linkId: number): void {
    this.pool.invalidate(linkId);
  }

  /** Paths have changed states. */
  onPaths(): void {
    this.stopReview ??= this.host.after(REVIEW_AFTER_MS, () => {
      this.stopReview = null;
      this.pool.review();
    });
  }

  /** A link has come, or a way to the relay. */
  onWay(): void {
    this.pool.retryNow();
  }

  onEngineEvent(event: EngineEvent): void {
    if (!('connectionId' in event)) return;
    if (event.type === 'connection-closed') this.young.delete(event.connectionId);
    else if (event.type === 'subflow-stalled' || event.type === 'subflow-closed') this.grow(event.connectionId);
  }

  close(): void {
    this.stopLook?.();
    this.stopLook = null;
    this.stopReview?.();
    this.stopReview = null;
    this.young.clear();
    this.pool.close();
  }

  private async open(signal: AbortSignal): Promise<RelayConnection | null> {
    const { identity, pin } = this.options;
    const opened = await RelayConnection.open(this.host, identity, pin, this.sessions, signal);
    opened?.connection.setKeepAlive(this.host.nowUs(), KEEPALIVE_US);
    return opened;
  }

  private outbound(warm: RelayConnection): FlowOutbound {
    const { connection, stream } = warm;
    this.young.set(connection.id, { connection, sinceUs: this.host.nowUs() });
    this.lookLater();
    return { stream, connection, way: 'relay', abort: () => warm.close() };
  }

  /** Flows that have become worth a second subflow get it. */
  private look(): void {
    const { bytes, timeUs } = this.options.config().secondSubflowAfter;
    const nowUs = this.host.nowUs();
    for (const { connection, sinceUs } of this.young.values()) {
      const { bytesSent, bytesReceived } = connection.info();
      if (bytesSent + bytesReceived >= bytes || nowUs - sinceUs >= timeUs) this.grow(connection.id);
    }
    this.stopLook = null;
    if (this.young.size > 0) this.lookLater();
  }

  private lookLater(): void {
    const ms = Math.max(LOOK_MS, (1000 * this.young.size) / MAX_LOOKS_PER_S);
    this.stopLook ??= this.host.after(ms, () => this.look());
  }

  private grow(connectionId: number): void {
    const flow = this.young.get(connectionId);
    if (flow === undefined) return;
    this.young.delete(connectionId);
    if (flow.connection.state === 'established') this.host.follow(flow.connection);
  }
}

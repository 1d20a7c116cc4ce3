/**
 * The server's side of the relay: a standard HTTPS proxy (CONNECT) for the clients of the configuration. Who the client is
 * has been settled by TLS (server-sessions.ts); here its request is checked against its lists and limits, the destination
 * is dialed with an ordinary socket, and the two are joined (relay-flow.ts). Every request that is not carried out is
 * answered as the standards say, and counted by its reason.
 */
import type { AccessLists } from '../../config/access.js';
import type { Prefix, RelayLimits } from '../../config/types.js';
import type { Micros } from '../../core/base/time.js';
import { US_PER_S } from '../../core/base/time.js';
import type { ConnectionApi } from '../../core/engine/api.js';
import type { FlowMode } from '../../core/lanes/flow-modes.js';
import type { HttpHead } from '../http-head.js';
import type { CarriedFlow } from '../receipts.js';
import { exportJoinKeys, type SecureStream } from '../tls.js';
import { connectedHead, parseConnect, RelayError, type RelayRefusal, refusedHead } from './connect-protocol.js';
import { NO_LISTS, RelayAccess } from './relay-access.js';
import { DIAL_TIMEOUT_MS, dialTarget } from './relay-dial.js';
import { type RelayEnd, RelayFlow } from './relay-flow.js';

/** How long a refusal may take to be delivered. */
const REFUSAL_MS = 3_000;
/** A client that has vanished is found out if nothing was heard for so long; a living one of ours probes sooner. */
const CLIENT_KEEPALIVE_US = 600 * US_PER_S;

export interface RelaySettings {
  /** Hold for every client. */
  readonly egress: { readonly allow: readonly Prefix[]; readonly deny: readonly Prefix[] };
  readonly limits: RelayLimits;
  /** By client's name; one that is not in it has no lists. */
  readonly lists: ReadonlyMap<string, AccessLists>;
}

export interface RelayServerOptions {
  /** In force now; asked for each request. */
  settings(): RelaySettings;
  now(): Micros;
  /** Bytes of the client's came through the tunnel, for a destination. */
  onDelivered(client: string, bytes: number): void;
}

/** A flow as `mptun flows` shows it at the server. */
export interface RelayedFlow {
  readonly client: string;
  readonly host: string;
  readonly port: number;
  readonly sinceUs: Micros;
  readonly connection: ConnectionApi;
  /** What the client wishes for what it is sent; null: nothing (yet). */
  readonly scheduler: string | null;
  /** Null while the destination is being dialed. */
  readonly flow: RelayFlow | null;
}

interface Open extends RelayedFlow {
  readonly pin: string;
  /** Our token of its connection, by which its client names it. */
  readonly token: number;
  scheduler: string | null;
  flow: RelayFlow | null;
  readonly stop: AbortController;
}

export interface RelayClientId {
  readonly name: string;
  readonly pin: string;
}

/** A connection whose request has arrived. */
export interface RelayRequest {
  readonly client: RelayClientId;
  readonly head: HttpHead;
  readonly connection: ConnectionApi;
  readonly stream: SecureStream;
  /** What came behind the head. */
  readonly rest: Uint8Array;
}

export class RelayServer {
  /** Monotonic: requests carried out, refusals by reason, ends by reason. */
  readonly counters = { requests: 0, connected: 0 } as Record<string, number>;
  /** By the client's pin. */
  private readonly open = new Map<string, Set<Open>>();
  /** The same by connection: asked for with each event of a subflow. */
  private readonly byConnection = new Map<number, Open>();

  constructor(private readonly options: RelayServerOptions) {}

  /** Carries out a CONNECT, or answers why not. */
  carry(request: RelayRequest): void {
    this.count('requests');
    const { stream, connection } = request;
    stream.on('error', ignore);
    let entry: Open | null = null;
    const onGone = () => entry?.stop.abort();
    void (async () => {
      try {
        const target = parseConnect(request.head);
        entry = this.admit(request, target);
        stream.once('close', onGone);
        const access = this.accessOf(request.client.name);
        const signal = AbortSignal.any([entry.stop.signal, AbortSignal.timeout(DIAL_TIMEOUT_MS)]);
        const destination = await dialTarget(target, access, signal);
        stream.off('close', onGone);
        if (stream.destroyed) {
          destination.resetAndDestroy();
          throw new RelayError('failed', 'the client is gone');
        }
        // Agreed before the client hears of it, because it joins as soon as it does.
        if (target.exportsKeys) connection.useExportedKeys(this.options.now(), exportJoinKeys(stream, 'server'));
        stream.mustHearEnd = target.exportsKeys; // the client is one of ours
        connection.setKeepAlive(this.options.now(), CLIENT_KEEPALIVE_US);
        stream.write(connectedHead(target.exportsKeys));
        if (request.rest.length > 0) stream.unshift(request.rest);
        this.join(entry, request, destination);
      } catch (error) {
        stream.off('close', onGone);
        if (entry !== null) this.forget(entry);
        this.refuse(request, error as Error);
      }
    })();
  }

  /** A request of a client that is none at all. */
  countMalformed(): void {
    this.count('requests');
    this.count('refused_malformed');
  }

  /** Flows and dials under way. */
  flows(): RelayedFlow[] {
    return [...this.open.values()].flatMap((entries) => [...entries]);
  }

  /** Open flows of a client, by its pin. */
  flowsOf(pin: string): CarriedFlow[] {
    return [...(this.open.get(pin) ?? [])].flatMap(({ connection, flow }) =>
      flow === null ? [] : [{ connection, movedUs: flow.movedUs }],
    );
  }

  /** Of a client, by its pin. */
  connectionsOf(pin: string): ConnectionApi[] {
    return [...(this.open.get(pin) ?? [])].map((entry) => entry.connection);
  }

  /** Whose connection it is, or null. */
  ownerOf(connectionId: number): { readonly pin: string; readonly connection: ConnectionApi } | null {
    return this.byConnection.get(connectionId) ?? null;
  }

  /** A client's wishes for what we send it on some of its flows. Of connections that it does not have nothing happens. */
  setModes(pin: string, modes: readonly FlowMode[]): void {
    const byToken = new Map(modes.map((m) => [m.token, m.scheduler]));
    for (const entry of this.open.get(pin) ?? []) {
      const scheduler = byToken.get(entry.token);
      if (scheduler === undefined) continue;
      entry.connection.setScheduler(scheduler);
      entry.scheduler = scheduler;
    }
  }

  /** Ends what belongs to keys that are not in the configuration any more. */
  keepOnly(pins: ReadonlySet<string>): void {
    for (const [pin, entries] of this.open) if (!pins.has(pin)) endAll(entries);
  }

  close(): void {
    for (const entries of this.open.values()) endAll(entries);
  }

  private accessOf(client: string): RelayAccess {
    const { lists, egress } = this.options.settings();
    return new RelayAccess(lists.get(client) ?? NO_LISTS, egress);
  }

  /** Throws RelayError where a limit is reached. */
  private admit({ client, connection }: RelayRequest, target: { host: string; port: number }): Open {
    const { name, pin } = client;
    let entries = this.open.get(pin);
    if (entries === undefined) this.open.set(pin, (entries = new Set()));
    const { maxFlows, maxPendingDials } = this.options.settings().limits;
    if (entries.size >= maxFlows) throw new RelayError('too-many-flows', `more than ${maxFlows} flows`);
    let pending = 0;
    for (const e of entries) if (e.flow === null) pending++;
    if (pending >= maxPendingDials)
      throw new RelayError('too-many-dials', `more than ${maxPendingDials} dials at once`);
    const { host, port } = target;
    const sinceUs = this.options.now();
    const stop = new AbortController();
    const token = connection.info().localToken;
    const scheduler = null;
    const entry: Open = { client: name, pin, token, host, port, sinceUs, connection, scheduler, flow: null, stop };
    entries.add(entry);
    this.byConnection.set(connection.id, entry);
    return entry;
  }

  private join(entry: Open, { connection, stream }: RelayRequest, target: RelayFlowTarget): void {
    this.count('connected');
    entry.flow = new RelayFlow({
      connection,
      stream,
      target,
      now: () => this.options.now(),
      maxBytes: this.options.settings().limits.maxFlowBytes,
      onDelivered: (bytes) => this.options.onDelivered(entry.client, bytes),
      onEnd: (_flow, end: RelayEnd) => {
        this.count(`ended_${end.replaceAll('-', '_')}`);
        this.forget(entry);
      },
    });
  }

  private forget(entry: Open): void {
    const entries = this.open.get(entry.pin);
    entries?.delete(entry);
    this.byConnection.delete(entry.connection.id);
    if (entries?.size === 0) this.open.delete(entry.pin);
  }

  private refuse({ stream, connection }: RelayRequest, error: Error): void {
    const refusal: RelayRefusal = error instanceof RelayError ? error.refusal : 'failed';
    this.count(`refused_${refusal.replaceAll('-', '_')}`);
    if (!stream.destroyed) {
      stream.on('data', ignore);
      stream.end(refusedHead(error));
    }
    setTimeout(() => {
      stream.destroy();
      if (connection.state !== 'closed') connection.abort(this.options.now());
    }, REFUSAL_MS).unref();
  }

  private count(name: string): void {
    this.counters[name] = (this.counters[name] ?? 0) + 1;
  }
}

type RelayFlowTarget = Awaited<ReturnType<typeof dialTarget>>;

function endAll(entries: ReadonlySet<Open>): void {
  for (const entry of [...entries]) {
    if (entry.flow === null) entry.stop.abort();
    else entry.flow.abort('closed');
  }
}

function ignore(): void {}

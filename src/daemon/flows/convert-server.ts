/**
 * The converter on the server (RFC 8803): takes Multipath TCP or TCP on its port, in the SYN or in the stream, and proxies to
 * servers. What the protocol says is core/convert; here are the listener, who may use it and reach what, and the two ways to
 * dial: an ordinary socket for a Base Connect, our engine where the client wants options in the SYN and the server's back.
 */
import { connect } from 'node:net';
import type { ConverterConfig, EgressConfig } from '../../config/types.js';
import { type IpAddress, ipEquals } from '../../core/base/ip.js';
import { type IpPrefix, prefixContains } from '../../core/base/prefix.js';
import type { Micros } from '../../core/base/time.js';
import { type ConverterPolicy, type DownstreamFailure, ErrorLimit, judgeSyn } from '../../core/convert/converter.js';
import { ComputedCookies, ConfiguredCookies, type CookieJar } from '../../core/convert/cookies.js';
import { DownstreamConnections, synSettings } from '../../core/convert/downstream.js';
import { KIND_FAST_OPEN, KIND_MPTCP, KIND_SACK_PERMITTED, KIND_TIMESTAMPS } from '../../core/convert/message.js';
import { ConverterSession, type DownstreamRequest } from '../../core/convert/session.js';
import type { ConnectionApi, ConnectOptions, EngineApi, EngineEvent } from '../../core/engine/api.js';
import type { PortGuard } from '../../core/engine/ports.js';
import { keepUrgentInLine } from '../../native/index.js';
import { nodeEnv } from '../driver.js';
import { RelayAccess } from './relay-access.js';
import { SocketLeg } from './socket-leg.js';

const SWEEP_MS = 1_000;
/** Who has vanished is found out when nothing was said for so long (RFC 8803 4.3: the entry's lifetime). */
const KEEPALIVE_MS = 600_000;
/** What a client without room is told to wait. */
const RETRY_AFTER_S = 5;
const SUPPORTED_KINDS = [KIND_SACK_PERMITTED, KIND_TIMESTAMPS, KIND_MPTCP, KIND_FAST_OPEN];

export interface ConvertServerHost {
  readonly engine: EngineApi;
  /** In force now. */
  config(): { readonly convert: ConverterConfig; readonly egress: EgressConfig };
  /** How our connections are made (congestion control, buffers). */
  connectionSettings(): Partial<ConnectOptions>;
  nowUs(): Micros;
  flushSoon(): void;
  acquirePort(port: number): PortGuard;
  guarded(): Promise<void>;
  /** Link and source for packets to this address as the host's routes say; null: none of the engine's links leads there. */
  routeTo(address: IpAddress): { readonly linkId: number; readonly localAddress: IpAddress } | null;
  /** Addresses of this host: nobody is connected to them. */
  ownAddresses(): readonly IpAddress[];
}

/** A proxied connection, as `mptun flows` shows it. */
export interface ConvertedFlow {
  readonly client: IpAddress;
  readonly session: ConverterSession;
  readonly connection: ConnectionApi;
  readonly sinceUs: Micros;
}

export class ConvertServer {
  /** Monotonic: messages by what came of them. */
  readonly counters: Record<string, number> = {};
  private readonly sessions = new Map<number, ConvertedFlow>();
  private readonly perClient = new Map<string, number>();
  private readonly downstreams = new DownstreamConnections();
  private readonly guards = new Map<number, PortGuard>();
  private readonly errors = new ErrorLimit();
  private readonly computed = new ComputedCookies(nodeEnv);
  private policy: ConverterPolicy;
  private readonly guard: PortGuard;
  private readonly listener: { close(): void };
  private readonly sweeper: NodeJS.Timeout;

  /** Throws where the port is taken. */
  constructor(
    private readonly host: ConvertServerHost,
    port: number,
  ) {
    this.policy = this.makePolicy();
    this.guard = host.acquirePort(port);
    this.listener = host.engine.listen({
      port,
      ...host.connectionSettings(),
      onSyn: (nowUs, { remote, buf, offset, lengthBytes }) =>
        judgeSyn(nowUs, this.policy, remote.address, buf, offset, lengthBytes),
      onAccept: (connection) => this.accept(connection),
    });
    this.sweeper = setInterval(() => this.sweep(), SWEEP_MS);
  }

  onEngineEvent(event: EngineEvent): void {
    this.downstreams.onEvent(event);
    if (event.type !== 'connection-closed') return;
    this.guards.get(event.connectionId)?.release();
    this.guards.delete(event.connectionId);
    this.sessions.get(event.connectionId)?.session.onUpstreamClosed(event.why !== 'done');
  }

  /** The configuration has changed; connections that are there stay. */
  reload(): void {
    this.policy = this.makePolicy();
  }

  flows(): ConvertedFlow[] {
    return [...this.sessions.values()];
  }

  close(): void {
    clearInterval(this.sweeper);
    this.listener.close();
    for (const { session } of [...this.sessions.values()]) session.abort();
    for (const guard of this.guards.values()) guard.release();
    this.guard.release();
  }

  private accept(upstream: ConnectionApi): void {
    const client = upstream.remote.address;
    const { host } = this;
    const session = new ConverterSession(client, upstream, {
      policy: this.policy,
      errors: this.errors,
      nowUs: () => host.nowUs(),
      flushSoon: () => host.flushSoon(),
      dial: (request, s) => this.dial(request, s),
      onStep: (_session, reason) => this.count(reason),
      onOver: () => {
        this.sessions.delete(upstream.id);
        this.countClient(client, -1);
      },
    });
    this.sessions.set(upstream.id, { client, session, connection: upstream, sinceUs: host.nowUs() });
    this.countClient(client, 1);
    upstream.setKeepAlive(host.nowUs(), KEEPALIVE_MS * 1000);
    session.start();
  }

  private sweep(): void {
    const nowUs = this.host.nowUs();
    for (const { session } of [...this.sessions.values()]) session.sweep(nowUs);
  }

  // ---- Dialling ------------------------------------------------------------------------------------------------------

  private dial(request: DownstreamRequest, session: ConverterSession): { abort(): void } | null {
    return request.options === null ? this.dialKernel(request, session) : this.dialEngine(request, session);
  }

  /** With the options that this host's kernel uses; what the server's SYN/ACK says it keeps to itself. */
  private dialKernel({ address, port }: DownstreamRequest, session: ConverterSession): { abort(): void } {
    const socket = connect({ host: address.text, port, allowHalfOpen: true, noDelay: true });
    const onError = (error: NodeJS.ErrnoException) => session.onFailed(failureOf(error, address));
    socket.once('error', onError);
    socket.once('connect', () => {
      socket.off('error', onError);
      keepUrgentInLine(socket);
      socket.setKeepAlive(true, KEEPALIVE_MS);
      const leg = new SocketLeg(socket, (isReset) => session.onDownstreamClosed(isReset));
      session.onConnected(leg, null);
    });
    return { abort: () => socket.destroy() };
  }

  private dialEngine(
    { address, port, options, synData }: DownstreamRequest,
    session: ConverterSession,
  ): { abort(): void } | null {
    const { host } = this;
    const way = host.routeTo(address);
    if (way === null) return null;
    const guard = host.acquirePort(0);
    let connection: ConnectionApi | null = null;
    let isGivenUp = false;
    void host.guarded().then(() => {
      if (isGivenUp) {
        guard.release();
        return;
      }
      try {
        connection = host.engine.connect(host.nowUs(), {
          ...host.connectionSettings(),
          ...way,
          localPort: guard.port,
          remote: { address, port },
          ...synSettings(options, synData),
        });
      } catch {
        guard.release();
        session.onFailed({ is: 'network' });
        return;
      }
      connection.setKeepAlive(host.nowUs(), KEEPALIVE_MS * 1000);
      this.guards.set(connection.id, guard);
      this.downstreams.add(connection, session);
      host.flushSoon();
    });
    return {
      abort: () => {
        isGivenUp = true;
        connection?.abort(host.nowUs());
        host.flushSoon();
      },
    };
  }

  // ---- Policy --------------------------------------------------------------------------------------------------------

  private makePolicy(): ConverterPolicy {
    const { convert, egress } = this.host.config();
    const access = new RelayAccess({ allow: [], deny: [] }, egress);
    const isIn = (prefixes: readonly IpPrefix[], address: IpAddress) =>
      prefixes.some((p) => prefixContains(p, address));
    return {
      supportedKinds: SUPPORTED_KINDS,
      cookies: this.jarOf(convert),
      silentWithoutCookie: convert.silentWithoutCookie,
      answersPlainSyns: convert.plainSyns,
      isTrusted: (client) => isIn(convert.trusted, client),
      mayUse: (client) => isIn(convert.clients, client),
      mayReach: (_client, address, port) =>
        !this.host.ownAddresses().some((own) => ipEquals(own, address)) && access.mayReach(address, null, port),
      // The session that asks is one of them.
      hasRoom: (client) =>
        this.sessions.size <= convert.maxConnections && (this.perClient.get(client.text) ?? 0) <= convert.maxPerClient,
      retryAfterS: RETRY_AFTER_S,
    };
  }

  private jarOf(convert: ConverterConfig): CookieJar | null {
    if (convert.cookie === 'none') return null;
    return convert.cookie === 'computed' ? this.computed : new ConfiguredCookies(convert.cookies);
  }

  private countClient(client: IpAddress, change: number): void {
    const now = (this.perClient.get(client.text) ?? 0) + change;
    if (now > 0) this.perClient.set(client.text, now);
    else this.perClient.delete(client.text);
  }

  private count(reason: string): void {
    const name = `convert_${reason.replaceAll('-', '_')}`;
    this.counters[name] = (this.counters[name] ?? 0) + 1;
  }
}

/** RFC 792 and RFC 4443 3.1: the code that the kernel made this error of, as far as it tells. */
function failureOf(error: NodeJS.ErrnoException, { family }: IpAddress): DownstreamFailure {
  switch (error.code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return { is: 'reset' };
    case 'ENETUNREACH':
    case 'ENETDOWN':
      return { is: 'unreachable', icmpCode: 0 };
    case 'EHOSTUNREACH':
    case 'EHOSTDOWN':
      return { is: 'unreachable', icmpCode: family === 4 ? 1 : 3 };
    case 'EACCES':
    case 'EPERM':
      return { is: 'unreachable', icmpCode: family === 4 ? 13 : 1 };
    case 'ETIMEDOUT':
      return { is: 'timeout' };
    case 'EMFILE':
    case 'ENFILE':
    case 'ENOBUFS':
    case 'ENOMEM':
    case 'EADDRNOTAVAIL':
      return { is: 'exhausted' };
    default:
      return { is: 'network' };
  }
}

/**
 * The stack as a library: a host of its own on this machine's interfaces, beside the kernel's stack. One MptcpHost has one
 * engine, one packet port per interface, and the guard that keeps the kernel silent on its ports. Needs CAP_NET_RAW and
 * CAP_NET_ADMIN. It keeps the process alive until it is closed.
 */
import { lookup } from 'node:dns/promises';
import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { threadId } from 'node:worker_threads';
import { type IpAddress, parseIp } from '../core/base/ip.js';
import type { ChecksumPolicy, ConnectionApi, Endpoint, EngineEvent, LinkInfo } from '../core/engine/api.js';
import type { PortGuard } from '../core/engine/ports.js';
import { Driver } from '../daemon/driver.js';
import { MptcpConnection } from './connection.js';
import { codeOfEnd, MptcpError } from './errors.js';
import { HostLinks } from './links.js';
import { MptcpListener } from './listener.js';
import { Mesh, type MeshSource, waysTo } from './mesh.js';
import { CONGESTION_NAMES, checkedName, SCHEDULER_NAMES } from './names.js';

/** A write waits while more than this is unsent, unless `sendBufferBytes` says otherwise. */
const SEND_BUFFER_BYTES = 1 << 20;
/** After the end of a connection, the FINs of its subflows may take this long. */
const LINGER_MS = 2_000;
const LINGER_STEP_MS = 10;

export interface MptcpHostOptions {
  /**
   * Interfaces to use, by name, in order of preference. Empty or absent: connecting, the one that the kernel's routes choose;
   * listening, all that are up.
   */
  readonly interfaces?: readonly string[];
  /** Further ones, whose subflows carry data only while no other works. */
  readonly backupInterfaces?: readonly string[];
  /** Default of `multipath` below: true. */
  readonly multipath?: boolean;
  /** Incoming connections whose handshake is not complete; a SYN beyond is answered with a SYN cookie. Default 1024. */
  readonly maxHalfOpen?: number;
}

/** What connect and listen have in common. */
export interface ConnectionOptions {
  /** False: plain TCP (RFC 6897, TCP_MULTIPATH_ENABLE). */
  readonly multipath?: boolean;
  /** False: open no further subflow unless asked to. */
  readonly join?: boolean;
  /** Subflows at most, the first included, 1 to 16. */
  readonly maxSubflows?: number;
  /** Addresses of ours that the peer is told of (ADD_ADDR) when the connection is established. */
  readonly announce?: readonly string[];
  /** DSS checksums: true asks for them, false leaves it to the peer, 'refuse' would rather have plain TCP. */
  readonly checksum?: ChecksumPolicy;
  /** False: the peer is told to open no further subflow to the address and port of the first (RFC 8684 3.1, flag C). */
  readonly joinInitial?: boolean;
  /** One of CONGESTION_NAMES, one of SCHEDULER_NAMES. */
  readonly congestion?: string;
  readonly scheduler?: string;
  /** Receive window, shared by the subflows; and unsent bytes before a write waits. */
  readonly receiveBufferBytes?: number;
  readonly sendBufferBytes?: number;
}

export interface ConnectOptions extends ConnectionOptions {
  /** A name or an address. */
  readonly host: string;
  readonly port: number;
  /** Ours; 0 or absent: a free one. */
  readonly localPort?: number;
  /** Give up after this long, with ETIMEDOUT; absent: when SYNs have been repeated for more than three minutes. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface ListenOptions extends ConnectionOptions {
  readonly port: number;
  /** An address of ours to listen on alone; absent: all of the interfaces. */
  readonly host?: string;
}

export interface HostEvents {
  /** Whatever the engine says, of all connections. */
  event: [EngineEvent];
  /** What is wrong with an interface, for people. */
  problem: [string];
}

export class MptcpHost extends EventEmitter<HostEvents> {
  private readonly driver: Driver;
  private readonly hostLinks: HostLinks;
  private readonly sources: MeshSource[];
  private readonly open = new Map<number, MptcpConnection>();
  private readonly listeners_ = new Set<MptcpListener>();
  /** Connections that are over, whose subflows may have something to say yet. */
  private readonly ending = new Set<ConnectionApi>();
  private closing: Promise<void> | null = null;

  constructor(private readonly options: MptcpHostOptions = {}) {
    super();
    const { interfaces = [], backupInterfaces = [], maxHalfOpen } = options;
    const preferred = interfaces.length === 0 ? [null] : interfaces;
    this.sources = [
      ...preferred.map((interfaceName) => ({ interfaceName, local: null, isBackup: false })),
      ...backupInterfaces.map((interfaceName) => ({ interfaceName, local: null, isBackup: true })),
    ];
    this.driver = new Driver(
      `host_${process.pid}_${threadId}_${nextHost++}`,
      maxHalfOpen === undefined ? {} : { maxHalfOpen },
      {
        onEvent: (event) => this.onEvent(event),
        onFlushed: () => undefined,
        onReceived: () => undefined,
        onProblem: (message) => this.emit('problem', message),
      },
    );
    this.hostLinks = new HostLinks(this.driver);
  }

  // ---- Opening -------------------------------------------------------------------------------------------------------

  /**
   * Connects; resolves when the handshake is complete, with the addresses of `host` tried in turn. Rejects with an
   * MptcpError: ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH (no interface has a route), EADDRINUSE (localPort),
   * ENODEV, EINVAL; with EPERM where the process lacks the capabilities, with the error of the name look-up, or with the
   * reason of `signal`.
   */
  async connect(options: ConnectOptions): Promise<MptcpConnection> {
    const { host, port, signal, timeoutMs } = options;
    const settings = this.settings(options);
    needPort('connect', port);
    this.needOpen('connect');
    const found = await lookup(host, { all: true, verbatim: true });
    const ways = found.flatMap((entry) => {
      const address = parseIp(entry.address);
      const way = waysTo(this.hostLinks, this.sources, address)[0];
      return way === undefined ? [] : [{ ...way, remote: { address, port } }];
    });
    const signals = [signal, timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs)];
    const stop = AbortSignal.any(signals.filter((s) => s !== undefined));
    let failure: Error = new MptcpError('ENETUNREACH', 'connect', `no interface has a route to ${host}`);
    for (const { link, local, remote } of ways) {
      this.needOpen('connect');
      if (stop.aborted) throw stopped(options, remote);
      try {
        return await this.dial(link, local, remote, settings, options, stop);
      } catch (error) {
        if (stop.aborted || !(error instanceof MptcpError) || error.code === 'EADDRINUSE') throw error;
        failure = error;
      }
    }
    throw failure;
  }

  /**
   * Listens. Rejects with EADDRINUSE, EADDRNOTAVAIL (`host` is no address of ours), ENODEV (no interface is up), EINVAL, EPERM.
   */
  async listen(options: ListenOptions): Promise<MptcpListener> {
    const { port, host } = options;
    const settings = this.settings(options);
    needPort('listen', port);
    this.needOpen('listen');
    const address = host === undefined ? null : parseIp(host);
    this.openForListening(address, options.announce ?? []);
    const guard = this.acquirePort('listen', port);
    await this.driver.guarded();
    let users = 1;
    const release = () => {
      if (--users === 0) guard.release();
    };
    const engineListener = this.driver.engine.listen({
      port,
      address,
      ...settings,
      onAccept: (connection) => {
        users++;
        const stream = this.adopt(connection, options, release);
        listener.offer(stream);
      },
    });
    const listener = new MptcpListener(port, () => {
      engineListener.close();
      this.listeners_.delete(listener);
      release();
    });
    this.listeners_.add(listener);
    return listener;
  }

  // ---- Observation ---------------------------------------------------------------------------------------------------

  connections(): MptcpConnection[] {
    return [...this.open.values()];
  }

  /** The interfaces in use; `id` is the `linkId` of events and subflows. */
  links(): LinkInfo[] {
    return this.hostLinks.all();
  }

  /** Packets that this machine dropped because a receive buffer was full; not loss of the network. */
  hostDrops(linkId: number): number {
    return this.driver.hostDrops(linkId);
  }

  /** Monotonic counters: the kernel's MIB names where one exists (MPTcpExtMPJoinSynRx, …), else `drop_<reason>`. */
  counters(): Readonly<Record<string, number>> {
    return this.driver.engine.counters();
  }

  // ---- The end -------------------------------------------------------------------------------------------------------

  /**
   * Releases everything: sockets, timers, the guard. Connections that have been ended by us get up to `graceMs` for the peer's
   * end; all others are aborted at once.
   */
  close(graceMs: number = LINGER_MS): Promise<void> {
    this.closing ??= this.shutDown(graceMs);
    return this.closing;
  }

  private async shutDown(graceMs: number): Promise<void> {
    for (const listener of this.listeners_) listener.close();
    for (const stream of this.open.values()) if (!stream.writableEnded) stream.destroy();
    await until(() => [...this.open.values()].every((s) => s.closedBecause !== null), graceMs);
    for (const stream of this.open.values()) stream.abort();
    this.driver.flush();
    // The subflows exchange their FINs, so that the peer sees an orderly end.
    await until(() => [...this.ending].every(hasEnded), LINGER_MS);
    this.hostLinks.close();
    this.driver.close();
  }

  // ---- Within --------------------------------------------------------------------------------------------------------

  private async dial(
    link: LinkInfo,
    localAddress: IpAddress,
    remote: Endpoint,
    settings: ReturnType<MptcpHost['settings']>,
    options: ConnectOptions,
    stop: AbortSignal,
  ): Promise<MptcpConnection> {
    const { driver } = this;
    const guard = this.acquirePort('connect', options.localPort ?? 0);
    let stream: MptcpConnection;
    try {
      await driver.guarded();
      const way = { linkId: link.id, localAddress, localPort: guard.port, remote };
      const connection = driver.engine.connect(driver.nowUs(), { ...way, ...settings });
      stream = this.adopt(connection, options, () => guard.release());
      stream.mesh = new Mesh(
        connection,
        this.hostLinks,
        driver,
        [...this.sources],
        { link, local: localAddress },
        options.join ?? true,
      );
    } catch (error) {
      guard.release();
      throw error instanceof RangeError ? new MptcpError('EADDRINUSE', 'connect', error.message, remote) : error;
    }
    const onStop = () => stream.destroy(asError(stop.reason));
    stop.addEventListener('abort', onStop);
    driver.flushSoon();
    try {
      await opened(stream);
    } catch {
      if (stop.aborted) throw stopped(options, remote);
      throw new MptcpError(codeOfEnd(stream.closedBecause ?? 'aborted'), 'connect', '', remote);
    } finally {
      stop.removeEventListener('abort', onStop);
    }
    return stream;
  }

  private adopt(connection: ConnectionApi, options: ConnectionOptions, release: () => void): MptcpConnection {
    const { driver, hostLinks: links } = this;
    const sendBufferBytes = options.sendBufferBytes ?? SEND_BUFFER_BYTES;
    const stream = driver.attach(connection.id, new MptcpConnection(connection, { driver, links, sendBufferBytes }));
    this.open.set(connection.id, stream);
    stream.onOver = () => {
      this.open.delete(connection.id);
      for (const other of this.ending) if (hasEnded(other)) this.ending.delete(other);
      this.ending.add(connection);
      release();
    };
    stream.onEstablished = () => {
      if (!connection.isMptcp) return;
      for (const text of options.announce ?? []) connection.announce(driver.nowUs(), { address: parseIp(text) });
    };
    return stream;
  }

  private onEvent(event: EngineEvent): void {
    if ('connectionId' in event) this.open.get(event.connectionId)?.onEngineEvent(event);
    this.emit('event', event);
    this.driver.flushSoon();
  }

  private openForListening(address: IpAddress | null, announced: readonly string[]): void {
    const { interfaces = [], backupInterfaces = [] } = this.options;
    const named = [...interfaces, ...backupInterfaces];
    for (const name of named) this.hostLinks.open(name);
    // Where it is to be reached: a join to an announced address that no interface listens on would go unanswered.
    if (named.length === 0) this.hostLinks.openUsable(address === null ? null : [address, ...announced.map(parseIp)]);
    const isOurs = ({ addresses }: LinkInfo) => addresses.some((a) => a.text === address?.text);
    if (address !== null && !this.links().some(isOurs))
      throw new MptcpError('EADDRNOTAVAIL', 'listen', `no interface has ${address.text}`);
    if (this.links().length === 0) throw new MptcpError('ENODEV', 'listen', 'no interface is up');
  }

  private acquirePort(operation: string, port: number): PortGuard {
    try {
      return this.driver.acquirePort(port);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      throw new MptcpError('EADDRINUSE', operation, `port ${port}`);
    }
  }

  private settings(options: ConnectionOptions) {
    const { checksum, joinInitial, congestion, scheduler, maxSubflows, receiveBufferBytes } = options;
    return {
      mptcp: options.multipath ?? this.options.multipath ?? true,
      ...(checksum !== undefined && { checksum }),
      ...(joinInitial !== undefined && { joinInitial }),
      ...(congestion !== undefined && { congestion: checkedName('congestion', congestion, CONGESTION_NAMES) }),
      ...(scheduler !== undefined && { scheduler: checkedName('scheduler', scheduler, SCHEDULER_NAMES) }),
      ...(maxSubflows !== undefined && { maxSubflows }),
      ...(receiveBufferBytes !== undefined && { receiveBufferBytes }),
    };
  }

  private needOpen(operation: string): void {
    if (this.closing !== null) throw new MptcpError('ENOTCONN', operation, 'the host is closed');
  }
}

let nextHost = 1;

function hasEnded(connection: ConnectionApi): boolean {
  return connection.info().subflows.every((s) => s.state === 'closed' || s.state === 'time-wait');
}

function needPort(operation: string, port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new MptcpError('EINVAL', operation, `port ${port}`);
}

/** Resolves when the handshake is complete; rejects when the stream ends before. */
function opened(stream: MptcpConnection): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.once('error', reject);
    stream.once('close', reject);
    stream.once('established', () => {
      stream.off('error', reject);
      stream.off('close', reject);
      resolve();
    });
  });
}

/** The caller's reason; without one, the time was up. */
function stopped({ signal }: ConnectOptions, remote: Endpoint): Error {
  return signal?.aborted === true ? asError(signal.reason) : new MptcpError('ETIMEDOUT', 'connect', '', remote);
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}

async function until(isSo: () => boolean, limitMs: number): Promise<void> {
  for (let waited = 0; waited < limitMs && !isSo(); waited += LINGER_STEP_MS) await delay(LINGER_STEP_MS);
}

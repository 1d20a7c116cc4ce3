/**
 * The client: TUN, lane, session, links and routes put together. It starts before any link is up and waits; links come
 * and go; the session is made again whenever it is lost. The order of things:
 *
 *   start: clean up after a killed run → TUN → links → resolve → dial → addresses from the server → routes
 *   stop:  routes, rules and addresses away → connections closed → TUN closed
 */
import { randomBytes, randomInt } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import type { ClientConfig, PathRule } from '../config/types.js';
import type { CommandResult, PathChange } from '../control/protocol.js';
import type { Family, IpAddress } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi, EngineEvent } from '../core/engine/api.js';
import { CSUM_PARTIAL, type PortGuard, type ReceiveBatch } from '../core/engine/ports.js';
import type { RouteEntry } from '../core/lanes/connect-ip.js';
import { type LaneIndex, PacketLane } from '../core/lanes/packet-lane.js';
import { openTun, Rtnetlink, type TunDevice } from '../native/index.js';
import { Capture, cleanCapture } from './capture.js';
import { ClientSession } from './client-session.js';
import type { Driver } from './driver.js';
import type { Journal } from './journal.js';
import { type HostLink, type LinkChange, LinkMonitor } from './link-monitor.js';
import { Resolver } from './resolver.js';
import { LANES, laneName } from './session.js';
import type { TlsIdentity } from './tls.js';
import { TunLoop } from './tun-loop.js';
import { TunWriter } from './tun-writer.js';

/** Subflows are compared with the links this often; link events do it at once. */
const RECONCILE_MS = 500;
/** A join that failed is tried again after this, doubled each time up to the configured longest pause. */
const REJOIN_MIN_MS = 500;

export class ClientDaemon {
  readonly lane: PacketLane;
  readonly tun: TunDevice;
  readonly tunIndex: number;
  readonly writer: TunWriter;
  readonly monitor: LinkMonitor;
  readonly session: ClientSession;
  readonly resolver: Resolver;
  addresses: readonly IpAddress[] = [];
  families: readonly Family[] = [];
  /** Why it is not up, newest first; null while it is. */
  lastFailure: { why: string; isAuthentication: boolean } | null = null;
  /** Since when there has been a connection; null: there is none. */
  upSinceUs: Micros | null = null;

  private readonly rt = new Rtnetlink();
  private readonly capture: Capture;
  private readonly loop: TunLoop;
  private readonly guards = new Map<number, PortGuard>();
  private readonly joins = new Map<string, { failures: number; notBeforeMs: number }>();
  private readonly timer: NodeJS.Timeout;
  private isResolving = false;

  /** Changes by command, until a reload. */
  private readonly overrides = new Map<string, PathChange>();

  constructor(
    public config: ClientConfig,
    private readonly driver: Driver,
    private readonly journal: Journal,
    private readonly identity: TlsIdentity,
  ) {
    mkdirSync(config.stateDir, { recursive: true, mode: 0o700 });
    const left = cleanCapture(this.rt, config.capture);
    if (left > 0) journal.record('warn', 'cleaned', `removed ${left} routes and rules that an earlier run left behind`);

    this.tun = openTun({ name: config.tun.name, mode: 'tun', vnetHeader: true });
    this.tunIndex = this.rt.link(this.tun.name)!.index;
    this.rt.setLink(this.tunIndex, { up: true, mtuBytes: config.tun.mtuBytes });
    this.capture = new Capture(this.rt, config.capture, this.tunIndex);
    this.writer = new TunWriter(this.tun, config.tun.mtuBytes);
    this.lane = new PacketLane({ mtuBytes: config.tun.mtuBytes, hashSeed: randomInt(2 ** 31) });
    this.resolver = new Resolver({
      host: config.server.host,
      addresses: config.server.addresses,
      stateDir: config.stateDir,
    });
    this.session = new ClientSession({
      lane: this.lane,
      writer: this.writer,
      identity,
      serverHost: config.server.host,
      serverPin: config.server.pin,
      sessionId: randomBytes(16).toString('hex'),
      mtuBytes: config.tun.mtuBytes,
      retryMaxMs: config.server.reconnectMaxUs / 1000,
      now: () => driver.nowUs(),
      random: Math.random,
      dial: (lane, attempt) => this.dial(lane, attempt),
      openStream: (connection) => driver.openStream(connection),
      events: {
        onConnectionUp: (lane, connection) => this.onConnectionUp(lane, connection),
        onConnectionDown: (lane, connection, why) => this.onConnectionDown(lane, connection, why),
        onAttemptFailed: (lane, why, isAuthentication) => this.onAttemptFailed(lane, why, isAuthentication),
        onAddresses: (addresses, peerMtu) => this.onAddresses(addresses, peerMtu),
        onRoutes: (routes) => this.onRoutes(routes),
        onPeerPolicy: () => {},
      },
    });
    this.loop = new TunLoop(
      this.tun,
      (batch) => this.onTun(batch),
      () => {
        this.session.kick();
        this.driver.flushSoon();
      },
    );
    this.monitor = new LinkMonitor(this.rt, config.paths, this.tun.name, (change) => this.onLink(change));
    for (const link of this.monitor.links) this.addLink(link);
    this.timer = setInterval(() => this.reconcile(), RECONCILE_MS);
  }

  start(): void {
    this.resolve();
    this.session.start();
    this.driver.flushSoon();
  }

  get ownPin(): string {
    return this.identity.pin;
  }

  /** Connected, and with an address to send from. */
  get isUp(): boolean {
    return this.upSinceUs !== null && this.addresses.length > 0;
  }

  /** Takes over what can be changed while running: path rules and traffic settings (for new connections). */
  reload(config: ClientConfig): void {
    this.config = config;
    this.overrides.clear();
    this.monitor.setRules(config.paths);
    this.reconcile();
    this.tellServer();
  }

  changePath(name: string, change: PathChange): CommandResult | null {
    if (!this.monitor.links.some((l) => l.name === name) && !this.overrides.has(name)) return null;
    this.overrides.set(name, { ...this.overrides.get(name), ...change });
    const extra = [...this.overrides].flatMap(([link, c]) => this.overriding(link, c));
    this.monitor.setRules([...extra, ...this.config.paths]);
    return { ok: true, message: `${name} changed; a reload or restart takes it back` };
  }

  /** After each flush: acknowledgements may have made room. */
  onFlushed(): void {
    this.session.kick();
  }

  onEvent(event: EngineEvent): void {
    if (event.type === 'connection-closed') {
      this.guards.get(event.connectionId)?.release();
      this.guards.delete(event.connectionId);
    } else if (event.type === 'subflow-established') {
      this.joins.delete(joinKey(event.connectionId, event.linkId));
      this.tellServer();
    }
  }

  close(): void {
    clearInterval(this.timer);
    this.loop.close();
    this.monitor.close();
    this.capture.remove();
    this.session.close('the client is stopping');
    for (const guard of this.guards.values()) guard.release();
    this.tun.close();
    this.rt.close();
  }

  /** Connections of the session and their lanes. */
  get connections(): { lane: LaneIndex; connection: ConnectionApi }[] {
    return this.session.session.connections
      .filter((c) => c !== null)
      .map(({ index, connection }) => ({ lane: index, connection }));
  }

  // ---- Packets -----------------------------------------------------------------------------------------------------

  private onTun(batch: ReceiveBatch): void {
    const nowUs = this.driver.nowUs();
    for (let i = 0; i < batch.count; i++) {
      if (batch.truncated[i] === 1) {
        this.lane.counters.droppedTruncated++;
        continue;
      }
      const isUnfinished = batch.checksum[i] === CSUM_PARTIAL;
      this.lane.enqueue(nowUs, batch.slab, batch.offset[i]!, batch.length[i]!, batch.gsoSize[i]!, isUnfinished);
    }
  }

  // ---- Links -------------------------------------------------------------------------------------------------------

  private addLink(link: HostLink): void {
    this.driver.addLink(link);
    this.capture.setLinks(this.monitor.links.map((l) => l.name));
  }

  private onLink({ before, after }: LinkChange): void {
    const name = (after ?? before)!.name;
    if (before === null) this.addLink(after!);
    else if (after === null) {
      this.driver.removeLink(before.id);
      this.capture.setLinks(this.monitor.links.map((l) => l.name));
    } else this.driver.updateLink(after);
    const isUp = after?.isUp ?? false;
    if ((before?.isUp ?? false) !== isUp) {
      this.journal.record('info', 'link', `${name} is ${isUp ? 'up' : 'down'}`, { path: name });
    }
    if (isUp) {
      this.joins.clear();
      this.resolve();
      this.session.onLinkEvent();
    }
    this.reconcile();
    this.tellServer();
    this.driver.flushSoon();
  }

  private usableLinks(): HostLink[] {
    const rank = { always: 0, overflow: 1, backup: 2, never: 3 };
    return this.monitor.links.filter((l) => l.isUp).sort((a, b) => rank[a.rule.role] - rank[b.rule.role]);
  }

  /** Ways to the server: each usable link, with each of its addresses that has a route to one of the server's. */
  private ways(): { link: HostLink; local: IpAddress; remote: IpAddress }[] {
    return this.usableLinks().flatMap((link) =>
      this.resolver.addresses.flatMap((remote) =>
        link.addresses
          .filter((local) => local.family === remote.family)
          .slice(0, 1)
          .filter((local) => this.rt.nextHop(link.id, remote, local) !== null)
          .map((local) => ({ link, local, remote })),
      ),
    );
  }

  private async dial(_lane: LaneIndex, attempt: number): Promise<ConnectionApi | null> {
    if (this.ways().length === 0) return null;
    const guard = this.driver.acquirePort(0);
    await this.driver.guarded();
    const ways = this.ways();
    const way = ways[attempt % Math.max(1, ways.length)];
    if (way === undefined) {
      guard.release();
      return null;
    }
    const { config } = this;
    try {
      const connection = this.driver.engine.connect(this.driver.nowUs(), {
        linkId: way.link.id,
        localAddress: way.local,
        localPort: guard.port,
        remote: { address: way.remote, port: config.server.port },
        checksum: config.traffic.checksum,
        congestion: way.link.rule.congestion ?? config.traffic.congestion,
        scheduler: config.traffic.scheduler,
        receiveBufferBytes: config.traffic.receiveBufferBytes,
      });
      this.guards.set(connection.id, guard);
      this.driver.flushSoon();
      return connection;
    } catch (error) {
      guard.release();
      throw error;
    }
  }

  /** Every connection over every usable link: opens what is missing. */
  private reconcile(): void {
    const nowUs = this.driver.nowUs();
    const nowMs = nowUs / 1000;
    for (const { connection } of this.connections) {
      if (!connection.isMptcp || connection.state !== 'established') continue;
      const info = connection.info();
      for (const way of this.ways()) {
        const { link, local, remote } = way;
        if (info.subflows.some((s) => s.linkId === link.id && s.state !== 'closed')) continue;
        const key = joinKey(connection.id, link.id);
        const earlier = this.joins.get(key) ?? { failures: 0, notBeforeMs: 0 };
        if (nowMs < earlier.notBeforeMs) continue;
        const pauseMs = Math.min(this.config.server.reconnectMaxUs / 1000, REJOIN_MIN_MS * 2 ** earlier.failures);
        this.joins.set(key, { failures: earlier.failures + 1, notBeforeMs: nowMs + pauseMs });
        connection.join(nowUs, {
          linkId: link.id,
          localAddress: local,
          remote: { address: remote, port: this.config.server.port },
          backup: link.rule.role === 'backup',
          congestion: link.rule.congestion ?? this.config.traffic.congestion,
        });
        this.driver.flushSoon();
        break;
      }
    }
  }

  /** The policy channel: what we wish of the server's sending, link by link. */
  private tellServer(): void {
    const connections = this.connections;
    if (connections.length === 0) return;
    const subflows = connections.flatMap(({ lane, connection }) =>
      connection.info().subflows.map((s) => ({ lane, linkId: s.linkId, addressId: s.localAddressId })),
    );
    const known = new Map(this.monitor.links.map((l) => [l.id, l]));
    const ids = new Set([...subflows.map((s) => s.linkId), ...known.keys()]);
    const paths = [...ids].map((id) => {
      const link = known.get(id);
      return {
        name: link?.name ?? `link ${id}`,
        role: link?.rule.role ?? 'never',
        state: link?.isUp === true ? ('ok' as const) : ('gone' as const),
        rateLimitBytesPerS: Math.floor((link?.rule.limitBitPerS ?? 0) / 8),
        congestion: link?.rule.congestion ?? '',
        addressIds: subflows.filter((s) => s.linkId === id).map(({ lane, addressId }) => ({ lane, addressId })),
      };
    });
    const { mode, scheduler } = this.config.traffic;
    this.session.session.sendPolicy({ paths, modes: LANES.map((lane) => ({ lane, mode, scheduler })) });
  }

  /** Asks for the server's addresses on the links, best first, until one answers. */
  private resolve(): void {
    if (this.isResolving) return;
    this.isResolving = true;
    void (async () => {
      const before = this.resolver.addresses.length;
      for (const link of this.usableLinks()) if (await this.resolver.refresh(link.name)) break;
      this.isResolving = false;
      if (before === 0 && this.resolver.addresses.length > 0) this.session.onLinkEvent();
    })();
  }

  /** A rule that says the same of one link as the configuration, but for what was changed by command. */
  private overriding(name: string, change: PathChange): PathRule[] {
    const rule = this.monitor.links.find((l) => l.name === name)?.rule;
    if (rule === undefined) return [];
    return [
      {
        ...rule,
        match: { name, type: null, mac: null },
        role: change.role ?? rule.role,
        limitBitPerS: change.limit_bps ?? rule.limitBitPerS,
      },
    ];
  }

  // ---- Session -----------------------------------------------------------------------------------------------------

  private onConnectionUp(lane: LaneIndex, connection: ConnectionApi): void {
    this.lastFailure = null;
    this.upSinceUs ??= this.driver.nowUs();
    this.journal.record('info', 'connection-up', `${laneName(lane)} connection is up`, {
      data: { connection: connection.id, mptcp: connection.isMptcp },
    });
    this.reconcile();
    this.tellServer();
  }

  private onConnectionDown(lane: LaneIndex, connection: ConnectionApi, why: string): void {
    if (this.connections.length === 0) this.upSinceUs = null;
    this.journal.record('warn', 'connection-down', `${laneName(lane)} connection is lost: ${why}`, {
      data: { connection: connection.id },
    });
    this.driver.flushSoon();
  }

  private onAttemptFailed(lane: LaneIndex, why: string, isAuthentication: boolean): void {
    const isNews = this.lastFailure?.why !== why;
    this.lastFailure = { why, isAuthentication };
    if (isNews) {
      const type = isAuthentication ? 'authentication' : 'connect-failed';
      this.journal.record(isAuthentication ? 'error' : 'warn', type, why, { data: { lane: laneName(lane) } });
    }
    this.resolve();
    this.driver.flushSoon();
  }

  private onAddresses(addresses: readonly IpAddress[], peerMtuBytes: number): void {
    const { tun } = this.config;
    this.addresses = addresses.filter((a) => (a.family === 4 ? tun.ipv4 : tun.ipv6));
    const mtuBytes = Math.min(tun.mtuBytes, peerMtuBytes);
    this.rt.setLink(this.tunIndex, { mtuBytes });
    this.capture.setAddresses(this.addresses);
    const texts = this.addresses.map((a) => a.text).join(', ');
    this.journal.record('info', 'addresses', `inner addresses: ${texts}`, { data: { mtu_bytes: mtuBytes } });
  }

  private onRoutes(routes: readonly RouteEntry[]): void {
    this.families = [...new Set(routes.map((r) => r.start.family))];
    this.capture.setFamilies(this.families);
  }
}

function joinKey(connectionId: number, linkId: number): string {
  return `${connectionId}:${linkId}`;
}

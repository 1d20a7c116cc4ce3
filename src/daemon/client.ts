/**
 * The client: TUN, lane, session, links and routes put together. It starts before any link is up and waits; links come
 * and go; the session is made again whenever it is lost. The order of things:
 *
 *   start: clean up after a killed run → TUN → links → resolve → dial → addresses from the server → routes
 *   stop:  routes, rules and addresses away → connections closed → TUN closed
 *
 * What is decided where: link-roles.ts, client-policy.ts; what happens to links: client-links.ts; to paths: session-paths.ts.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { isMetered } from '../config/match.js';
import type { ClientConfig, PathRole } from '../config/types.js';
import type { HandoverReceipt } from '../control/protocol.js';
import type { IpAddress } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi, EngineEvent } from '../core/engine/api.js';
import type { RouteEntry } from '../core/lanes/connect-ip.js';
import { BULK, type LaneIndex } from '../core/lanes/packet-lane.js';
import type { PathState as ManagedState, PathEvent, PathTransition } from '../core/pathman/types.js';
import { pathModeOf } from '../core/scheduler/modes.js';
import { Rtnetlink } from '../native/index.js';
import { clientCarriers, explainChange } from './carriers.js';
import { ClientLinks } from './client-links.js';
import { ClientPolicy } from './client-policy.js';
import { ClientSession } from './client-session.js';
import { ClientTun } from './client-tun.js';
import type { Driver } from './driver.js';
import { ClientFlows } from './flows/client-flows.js';
import { GuardedConnect } from './guarded-connect.js';
import type { Journal } from './journal.js';
import { hasAddress } from './link-facts.js';
import { LinkRoles } from './link-roles.js';
import { areHeldByLinks, LOAD_MS, OverflowWatch } from './overflow.js';
import { STALL_GRACE_MS } from './path-reports.js';
import type { LaneOf } from './path-subflows.js';
import { ReceiptBook, sessionTotals } from './receipts.js';
import { Resolver } from './resolver.js';
import { ServerAddresses } from './server-addresses.js';
import { laneName } from './session.js';
import { after, SessionPaths } from './session-paths.js';
import { wallTime } from './status.js';
import type { TlsIdentity } from './tls.js';

/** What has gone over links with a cap is looked at this often. */
const USAGE_MS = 1_000;

export class ClientDaemon {
  readonly tun: ClientTun;
  readonly roles: LinkRoles;
  readonly links: ClientLinks;
  readonly policy: ClientPolicy;
  readonly flows: ClientFlows;
  readonly receipts: ReceiptBook;
  /** Inner ones, from the server. */
  addresses: readonly IpAddress[] = [];
  /** Why it is not up, newest first; null while it is. */
  lastFailure: { why: string; isAuthentication: boolean } | null = null;
  /** Since when there has been a connection; null: there is none. */
  upSinceUs: Micros | null = null;
  /** Told when `isUp`, links or failures may have changed. */
  onStateChange: () => void = () => {};
  onReceipt: (receipt: Omit<HandoverReceipt, 'id'>) => void = () => {};

  private readonly rt = new Rtnetlink();
  private readonly session: ClientSession;
  private readonly paths: SessionPaths;
  private readonly servers: ServerAddresses;
  private readonly guarded: GuardedConnect;
  private readonly overflow = new OverflowWatch();
  private readonly timers: NodeJS.Timeout[];
  private isClosed = false;

  constructor(
    public config: ClientConfig,
    private readonly driver: Driver,
    private readonly journal: Journal,
    private readonly identity: TlsIdentity,
  ) {
    const { stateDir } = config;
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    this.roles = new LinkRoles({
      usageFile: join(stateDir, 'usage.json'),
      journal,
      trafficBytes: () => new Map(this.rt.links().map((l) => [l.index, l.trafficBytes])),
    });
    this.tun = this.openTun();
    this.servers = this.makeServers();
    this.session = this.makeSession();
    this.receipts = new ReceiptBook({
      session: config.server.host,
      totals: (nowUs) => sessionTotals(nowUs, this.connections, this.tun.lane, this.flows.lane.relayed()),
      wallTime: (atUs) => wallTime(atUs, driver.nowUs()),
      onReceipt: (receipt) => this.onReceipt(receipt),
    });
    this.guarded = new GuardedConnect({
      driver,
      traffic: () => this.config.traffic,
      congestionOf: (linkId) => this.policy.congestionOf(linkId),
    });
    this.paths = this.makePaths();
    this.flows = this.makeFlows();
    this.tun.applyFlowRules(this.flows.desk);
    this.tun.applyBypass(this.flows.desk);
    this.links = this.makeLinks();
    this.policy = this.makePolicy();
    this.links.start();
    this.timers = [setInterval(() => this.lookAtLoad(), LOAD_MS), setInterval(() => this.links.countUsage(), USAGE_MS)];
  }

  start(): void {
    this.servers.tell();
    this.servers.resolve();
    this.driver.flushSoon();
  }

  get ownPin(): string {
    return this.identity.pin;
  }

  /** Connected, and with an address to send from. */
  get isUp(): boolean {
    return this.upSinceUs !== null && this.addresses.length > 0;
  }

  /** Connections of the session and their lanes. */
  get connections(): LaneOf[] {
    return this.session.session.connections
      .filter((c) => c !== null)
      .map(({ index, connection }) => ({ lane: index, connection }));
  }

  /** The state of the link's best path; null where there is none. */
  pathState(linkId: number): { state: ManagedState; reason: string | null; role: PathRole } | null {
    const link = this.links.monitor.link(linkId);
    const capText = link === null ? null : this.roles.capText(link);
    const path = this.paths.status().find((p) => p.linkId === linkId);
    if (path !== undefined) {
      const reason = path.why === null ? null : (capText ?? path.why);
      return { state: path.state, reason, role: path.role };
    }
    if (link === null || this.roles.roleOf(link) !== 'never') return null;
    return { state: 'down', reason: capText ?? 'its role is never', role: 'never' };
  }

  /** Takes over what can be changed while running: path rules and traffic settings (for new connections). */
  reload(config: ClientConfig): void {
    this.config = config;
    this.roles.orders.clear();
    this.tun.setCapture(config.capture);
    this.flows.desk.setConfig(config.flows);
    this.tun.applyFlowRules(this.flows.desk);
    this.links.monitor.setRules(config.paths);
    this.policy.applyLinks();
    this.policy.applyMode();
  }

  close(): void {
    this.isClosed = true;
    for (const timer of this.timers) clearInterval(timer);
    this.links.countUsage();
    this.roles.close();
    this.servers.close();
    this.flows.close();
    this.paths.close();
    this.links.close();
    this.tun.stop();
    this.session.close('the client is stopping');
    this.guarded.close();
    this.tun.close();
    this.rt.close();
  }

  // ---- From the driver -----------------------------------------------------------------------------------------------

  onEvent(event: EngineEvent): void {
    if (event.type === 'connection-closed') this.guarded.onConnectionClosed(event.connectionId);
    if (event.type === 'subflow-demoted' || event.type === 'subflow-promoted') this.noteDemotion(event);
    this.servers.onEngineEvent(event);
    this.paths.onEngineEvent(event);
    this.flows.onEngineEvent(event);
  }

  /** Packets came in over a link. */
  onReceived(linkId: number): void {
    this.paths.onReceived(linkId);
    this.flows.onReceived(linkId);
  }

  /** After each flush: acknowledgements may have made room. */
  onFlushed(): void {
    this.flows.onEngineFlushed();
    this.session.kick();
  }

  private noteDemotion(event: Extract<EngineEvent, { type: 'subflow-demoted' | 'subflow-promoted' }>): void {
    const { connectionId, linkId, why } = event;
    const isDemoted = event.type === 'subflow-demoted';
    const name = this.links.nameOf(linkId);
    this.journal.record(
      isDemoted ? 'warn' : 'info',
      isDemoted ? 'path-demoted' : 'path-promoted',
      `${name} ${isDemoted ? 'demoted' : 'taken back'}: ${why}`,
      { path: name, data: { connection: connectionId, why } },
    );
  }

  // ---- Packets and flows ---------------------------------------------------------------------------------------------

  private openTun(): ClientTun {
    return new ClientTun({
      tun: this.config.tun,
      capture: this.config.capture,
      rt: this.rt,
      journal: this.journal,
      nowUs: () => this.driver.nowUs(),
      onPacket: (nowUs, batch, i) => this.flows.onPacket(nowUs, batch, i),
      onDrained: () => {
        this.flows.lane.flush();
        this.session.kick();
        this.driver.flushSoon();
      },
    });
  }

  /** Overflow links are opened up when the others cannot carry all that comes, or more is carried than they are to. */
  private lookAtLoad(): void {
    const load = {
      atMs: performance.now(),
      // The peer has a queue of its own, towards us.
      isQueueFull:
        this.tun.lane.queueOf(BULK).backlogPackets > 0 ||
        this.session.session.peerPolicy?.isFull === true ||
        areHeldByLinks(this.flows.lane.relayed()),
      txBytes: this.tun.lane.counters.bytesOut + this.flows.lane.relayedBytes.up,
      rxBytes: this.tun.writer.bytesWritten + this.flows.lane.relayedBytes.down,
    };
    const thresholds = new Map<number, number>();
    for (const { id, rule } of this.links.monitor.links) {
      if (rule.overflowAboveBitPerS !== null) thresholds.set(id, rule.overflowAboveBitPerS);
    }
    for (const change of this.overflow.look(load, thresholds)) this.tellPaths({ type: 'saturation', ...change });
  }

  private makeFlows(): ClientFlows {
    const { config, driver } = this;
    return new ClientFlows({
      tun: this.tun.device,
      mtuBytes: config.tun.mtuBytes,
      config: () => this.config,
      nowUs: () => driver.nowUs(),
      flushSoon: () => driver.flushSoon(),
      links: () => this.links.pathLinks,
      mode: () => this.policy.mode,
      pathMode: () => pathModeOf(this.policy.mode),
      isMetered: (linkId) => {
        const link = this.links.monitor.link(linkId);
        return link !== null && isMetered(link.rule, link);
      },
      hasRoute: (linkId, remote, local) => this.rt.nextHop(linkId, remote, local) !== null,
      congestionOf: (linkId) => this.policy.congestionOf(linkId),
      rateLimitOf: (linkId) => this.policy.rateLimitOf(linkId) || Number.POSITIVE_INFINITY,
      identity: this.identity,
      journal: this.journal,
      connect: (way, syn) => this.guarded.connect(way, this.policy.schedulerOf(BULK), syn),
      connectToServer: () => this.guarded.connect(() => this.paths.currentWay, this.policy.schedulerOf(BULK)),
      isChosen: (way) => this.paths.isChosen(way),
      serverAddress: () => this.paths.currentWay?.remote.address ?? this.servers.first,
      follow: (connection) => this.paths.follow(connection),
      onDelivered: (bytes) => this.receipts.delivered(driver.nowUs(), bytes),
      tellServer: (modes) => this.session.session.sendFlowModes(modes),
      onBypassChanged: () => this.tun.applyBypass(this.flows.desk),
      openStream: (connection) => driver.openStream(connection),
    });
  }

  // ---- Links and paths -----------------------------------------------------------------------------------------------

  private makeLinks(): ClientLinks {
    const { config, driver, journal, roles, rt } = this;
    return new ClientLinks({
      rules: config.paths,
      ownTun: this.tun.name,
      roles,
      driver,
      rt,
      journal,
      connections: () => this.connections,
      events: {
        onPathEvent: (event) => this.tellPaths(event),
        hasRoute: (link) => this.servers.hasRoute(link),
        onLinks: (links) => this.tun.setLinks(links),
        onAddress: () => this.servers.resolve(),
        onChange: () => this.onStateChange(),
        onPause: () => {
          this.paths.probeAll('the host was asleep');
          this.servers.resolve();
        },
      },
    });
  }

  private makePolicy(): ClientPolicy {
    const { driver, journal, links, paths, roles } = this;
    return new ClientPolicy({
      config: () => this.config,
      driver,
      journal,
      roles,
      links,
      paths,
      session: this.session.session,
      connections: () => this.connections,
      onPathEvent: (event) => this.tellPaths(event),
    });
  }

  private makeServers(): ServerAddresses {
    const { server, stateDir } = this.config;
    return new ServerAddresses({
      resolver: new Resolver({ host: server.host, addresses: server.addresses, stateDir }),
      rt: this.rt,
      port: () => this.config.server.port,
      links: () => this.links.monitor.links,
      mayAsk: (link) => hasAddress(link) && this.roles.roleOf(link) !== 'never',
      after,
      onChange: (remotes) => {
        this.links.monitor.look();
        this.paths.handle({ type: 'remote-addresses', remotes });
      },
    });
  }

  private makePaths(): SessionPaths {
    const { config, driver } = this;
    return new SessionPaths({
      mode: pathModeOf(config.traffic.mode),
      stallGraceMs: STALL_GRACE_MS,
      nowUs: () => driver.nowUs(),
      random: Math.random,
      after,
      connections: () => this.connections,
      dial: () => this.session.dialNow(),
      cancelDials: () => this.session.cancelDials(),
      hasRoute: (way) => this.rt.nextHop(way.linkId, way.remote.address, way.localAddress) !== null,
      congestionOf: (linkId) => this.policy.congestionOf(linkId),
      rateLimitOf: (linkId) => this.policy.rateLimitOf(linkId) || Number.POSITIVE_INFINITY,
      onForgotten: (connection) => this.session.forget(connection),
      tellPeer: () => this.policy.tellServer(),
      onTransition: (t) => this.onTransition(t),
      onSettled: () => this.noteCarriers(),
      flushSoon: () => driver.flushSoon(),
    });
  }

  /** News for the session's paths, and for flows that have paths of their own. */
  private tellPaths(event: PathEvent): void {
    this.paths.handle(event);
    this.flows.onPathEvent(event);
  }

  private onTransition(t: PathTransition): void {
    this.journal.record('info', 'path-state', `${t.linkName}: ${t.from} → ${t.to} (${t.cause})`, {
      path: t.linkName,
      data: { from: t.from, to: t.to, cause: t.cause },
    });
    after(0, () => {
      if (!this.isClosed) this.flows.onPaths();
    });
  }

  private noteCarriers(): void {
    const paths = this.paths.status();
    this.servers.setHeard(paths.some((p) => (p.state === 'active' || p.state === 'warm') && !p.isStalled));
    const views = clientCarriers(paths);
    this.receipts.setCarriers(
      this.driver.nowUs(),
      explainChange(this.receipts.carriers, views, this.policy.isOrdering),
    );
  }

  // ---- Session -------------------------------------------------------------------------------------------------------

  private makeSession(): ClientSession {
    const { config, driver } = this;
    return new ClientSession({
      lane: this.tun.lane,
      writer: this.tun.writer,
      identity: this.identity,
      serverHost: config.server.host,
      serverPin: config.server.pin,
      sessionId: randomBytes(16).toString('hex'),
      mtuBytes: config.tun.mtuBytes,
      retryMaxMs: config.server.reconnectMaxUs / 1000,
      now: () => driver.nowUs(),
      random: Math.random,
      dial: (lane) => this.dial(lane),
      openStream: (connection) => driver.openStream(connection),
      companions: () => this.paths.followers.values(),
      events: {
        onConnectionUp: (lane, connection) => this.onConnectionUp(lane, connection),
        onConnectionDown: (lane, connection, why) => this.onConnectionDown(lane, connection, why),
        onAttemptFailed: (lane, why, isAuthentication) => this.onAttemptFailed(lane, why, isAuthentication),
        onAddresses: (addresses, peerMtu) => this.onAddresses(addresses, peerMtu),
        onRoutes: (routes) => this.onRoutes(routes),
        onPeerPolicy: () => {},
        onDelivered: (bytes) => this.receipts.delivered(driver.nowUs(), bytes),
      },
    });
  }

  /** A connection over the path that is being connected, or the best one in use; null while there is none. */
  private async dial(lane: LaneIndex): Promise<ConnectionApi | null> {
    if (this.paths.currentWay === null) return null;
    const dialed = await this.guarded.connect(() => this.paths.currentWay, this.policy.schedulerOf(lane));
    if (dialed !== null) this.paths.onDialed(dialed.way, dialed.api);
    return dialed?.api ?? null;
  }

  private onConnectionUp(lane: LaneIndex, connection: ConnectionApi): void {
    this.lastFailure = null;
    this.upSinceUs ??= this.driver.nowUs();
    this.journal.record('info', 'connection-up', `${laneName(lane)} connection is up`, {
      data: { connection: connection.id, mptcp: connection.isMptcp },
    });
    this.paths.onConnectionUp(connection);
    this.flows.onSessionUp();
    this.policy.tellServer();
    this.onStateChange();
  }

  private onConnectionDown(lane: LaneIndex, connection: ConnectionApi, why: string): void {
    if (this.connections.length === 0) this.upSinceUs = null;
    this.journal.record('warn', 'connection-down', `${laneName(lane)} connection is lost: ${why}`, {
      data: { connection: connection.id },
    });
    this.paths.onConnectionDown(connection);
    this.driver.flushSoon();
    this.onStateChange();
  }

  private onAttemptFailed(lane: LaneIndex, why: string, isAuthentication: boolean): void {
    const isNews = this.lastFailure?.why !== why;
    this.lastFailure = { why, isAuthentication };
    if (isNews) {
      const type = isAuthentication ? 'authentication' : 'connect-failed';
      this.journal.record(isAuthentication ? 'error' : 'warn', type, why, { data: { lane: laneName(lane) } });
    }
    if (!this.session.isDialing) this.paths.onDialFailed(why, !isAuthentication);
    this.servers.resolve();
    this.driver.flushSoon();
    this.onStateChange();
  }

  private onAddresses(addresses: readonly IpAddress[], peerMtuBytes: number): void {
    const { tun } = this.config;
    this.addresses = addresses.filter((a) => (a.family === 4 ? tun.ipv4 : tun.ipv6));
    const { mtuBytes } = this.tun.setAddresses(this.addresses, peerMtuBytes);
    const texts = this.addresses.map((a) => a.text).join(', ');
    this.journal.record('info', 'addresses', `inner addresses: ${texts}`, { data: { mtu_bytes: mtuBytes } });
    this.onStateChange();
  }

  private onRoutes(routes: readonly RouteEntry[]): void {
    this.tun.setFamilies([...new Set(routes.map((r) => r.start.family))]);
  }
}

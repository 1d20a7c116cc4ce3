/**
 * The client: TUN, lane, session, links and routes put together. It starts before any link is up and waits; links come
 * and go; the session is made again whenever it is lost. The order of things:
 *
 *   start: clean up after a killed run → TUN → links → resolve → dial → addresses from the server → routes
 *   stop:  routes, rules and addresses away → connections closed → TUN closed
 */
import { randomBytes, randomInt } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMetered } from '../config/match.js';
import type { ClientConfig, PathRole } from '../config/types.js';
import type { CommandResult, HandoverReceipt, PathChange } from '../control/protocol.js';
import type { Family, IpAddress } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi, Endpoint, EngineEvent } from '../core/engine/api.js';
import { CSUM_PARTIAL, type PortGuard, type ReceiveBatch } from '../core/engine/ports.js';
import type { RouteEntry } from '../core/lanes/connect-ip.js';
import { BULK, type LaneIndex, PacketLane, SPARSE } from '../core/lanes/packet-lane.js';
import type {
  PathState as ManagedState,
  PathEvent,
  PathLink,
  PathTransition,
  RemoteEndpoint,
} from '../core/pathman/types.js';
import { pathModeOf, schedulerOf, type TrafficMode } from '../core/scheduler/modes.js';
import { openTun, Rtnetlink, type TunDevice } from '../native/index.js';
import { type CapReached, type CapUsage, UsageMeter, usageKey } from './caps.js';
import { Capture, cleanCapture } from './capture.js';
import { clientCarriers, explainChange } from './carriers.js';
import { ClientSession } from './client-session.js';
import { type Pause, PauseWatch, pauseText } from './clock.js';
import type { Driver } from './driver.js';
import { FadingWatch } from './fading-watch.js';
import { ClientFlows } from './flows/client-flows.js';
import type { SynContents } from './flows/direct.js';
import type { Dialed } from './flows/direct-flow.js';
import { FlowDesk } from './flows/flow-desk.js';
import { type HostSources, openHostSources } from './host-sources.js';
import type { Journal } from './journal.js';
import type { LinkFacts } from './link-facts.js';
import { type HostLink, type LinkChange, LinkMonitor, type LinkNews } from './link-monitor.js';
import { cappedRole, capText, linkPolicy } from './link-policy.js';
import { OperatorOrders } from './operator.js';
import { areHeldByLinks, LOAD_MS, OverflowWatch } from './overflow.js';
import { ReceiptBook, sessionTotals } from './receipts.js';
import { Resolver } from './resolver.js';
import { LANES, laneName } from './session.js';
import { after, SessionPaths, STALL_GRACE_MS, type Way } from './session-paths.js';
import { wallTime } from './status.js';
import type { TlsIdentity } from './tls.js';
import { TunLoop } from './tun-loop.js';
import { TunWriter } from './tun-writer.js';

/** What has gone over links with a cap is looked at this often. */
const USAGE_MS = 1_000;

/**
 * Of the TUN, towards us. It is drained at once, so this is no queue that anybody waits in; but a burst of new connections
 * (a thousand SYNs) must fit into it while we are busy, or the applications' TCPs back off. The kernel's default is 500.
 */
const TUN_QUEUE_PACKETS = 4_000;

export class ClientDaemon {
  readonly lane: PacketLane;
  readonly tun: TunDevice;
  readonly tunIndex: number;
  readonly writer: TunWriter;
  readonly monitor: LinkMonitor;
  readonly session: ClientSession;
  readonly resolver: Resolver;
  readonly paths: SessionPaths;
  readonly flows: ClientFlows;
  readonly desk: FlowDesk;
  addresses: readonly IpAddress[] = [];
  families: readonly Family[] = [];
  /** Why it is not up, newest first; null while it is. */
  lastFailure: { why: string; isAuthentication: boolean } | null = null;
  /** Since when there has been a connection; null: there is none. */
  upSinceUs: Micros | null = null;

  private readonly rt = new Rtnetlink();
  private readonly sources: HostSources;
  private readonly pauses: PauseWatch;
  private readonly fading = new FadingWatch();
  private readonly capture: Capture;
  private readonly loop: TunLoop;
  private readonly guards = new Map<number, PortGuard>();
  private readonly announced = new Map<number, Endpoint>();
  private readonly timers: NodeJS.Timeout[];
  private readonly overflow = new OverflowWatch();
  private readonly usage: UsageMeter;
  /** Caps that are used up, by link. */
  private readonly capped = new Map<number, CapReached>();
  /** What the path manager was told of each link, as text. */
  private readonly policies = new Map<number, string>();
  private isResolving = false;
  private isClosed = false;

  /** Told when `isUp`, links or failures may have changed. */
  onStateChange: () => void = () => {};
  readonly orders = new OperatorOrders();
  /** What happens now is what an operator ordered. */
  private isOrdering = false;
  readonly receipts: ReceiptBook;
  onReceipt: (receipt: Omit<HandoverReceipt, 'id'>) => void = () => {};

  constructor(
    public config: ClientConfig,
    private readonly driver: Driver,
    private readonly journal: Journal,
    private readonly identity: TlsIdentity,
  ) {
    mkdirSync(config.stateDir, { recursive: true, mode: 0o700 });
    this.usage = new UsageMeter({
      file: join(config.stateDir, 'usage.json'),
      now: () => new Date(),
      onProblem: (message) => journal.record('warn', 'problem', message),
    });
    const left = cleanCapture(this.rt, config.capture);
    if (left > 0) journal.record('warn', 'cleaned', `removed ${left} routes and rules that an earlier run left behind`);

    this.tun = openTun({ name: config.tun.name, mode: 'tun', vnetHeader: true });
    this.tunIndex = this.rt.link(this.tun.name)!.index;
    this.rt.setLink(this.tunIndex, { up: true, mtuBytes: config.tun.mtuBytes, queuePackets: TUN_QUEUE_PACKETS });
    this.capture = new Capture(this.rt, config.capture, this.tunIndex);
    this.capture.onRefused = (why) => journal.record('error', 'problem', `flows.rules: ${why}`);
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
    this.loop = new TunLoop(
      this.tun,
      (batch) => this.onTun(batch),
      () => {
        this.flows.lane.flush();
        this.session.kick();
        this.driver.flushSoon();
      },
    );
    this.receipts = new ReceiptBook({
      session: config.server.host,
      totals: (nowUs) => sessionTotals(nowUs, this.connections, this.lane, this.flows.lane.relayed()),
      wallTime: (atUs) => wallTime(atUs, driver.nowUs()),
      onReceipt: (receipt) => this.onReceipt(receipt),
    });
    this.paths = new SessionPaths({
      mode: pathModeOf(config.traffic.mode),
      stallGraceMs: STALL_GRACE_MS,
      nowUs: () => driver.nowUs(),
      random: Math.random,
      after,
      connections: () => this.connections,
      dial: () => this.session.dialNow(),
      cancelDials: () => this.session.cancelDials(),
      hasRoute: (way) => this.rt.nextHop(way.linkId, way.remote.address, way.localAddress) !== null,
      congestionOf: (linkId) => this.congestionOf(linkId),
      rateLimitOf: (linkId) => this.rateLimitOf(linkId) || Number.POSITIVE_INFINITY,
      onForgotten: (connection) => this.session.forget(connection),
      tellPeer: () => this.tellServer(),
      onTransition: (t) => this.onTransition(t),
      onSettled: () => this.noteCarriers(),
      flushSoon: () => driver.flushSoon(),
    });
    this.flows = new ClientFlows({
      tun: this.tun,
      mtuBytes: config.tun.mtuBytes,
      config: () => this.config,
      nowUs: () => driver.nowUs(),
      flushSoon: () => driver.flushSoon(),
      links: () => this.monitor.links.map((link) => this.pathLink(link)),
      pathMode: () => pathModeOf(this.trafficMode),
      hasRoute: (linkId, remote, local) => this.rt.nextHop(linkId, remote, local) !== null,
      congestionOf: (linkId) => this.congestionOf(linkId),
      rateLimitOf: (linkId) => this.rateLimitOf(linkId) || Number.POSITIVE_INFINITY,
      identity,
      connect: (way, syn) => this.connectOver(way, this.schedulerOf(BULK), syn),
      connectToServer: () => this.connectOver(() => this.paths.currentWay, this.schedulerOf(BULK)),
      isChosen: (way) => this.paths.isChosen(way),
      serverAddress: () => this.paths.currentWay?.remote.address ?? this.resolver.addresses[0] ?? null,
      follow: (connection) => this.paths.follow(connection),
      onDelivered: (bytes) => this.receipts.delivered(driver.nowUs(), bytes),
      onRelayFailed: (error) => journal.record('debug', 'relay-failed', error.message),
      openStream: (connection) => driver.openStream(connection),
    });
    this.desk = new FlowDesk(config.flows, {
      nowUs: () => driver.nowUs(),
      mode: () => this.trafficMode,
      scheduler: () => this.config.traffic.scheduler,
      dialer: (way) => this.flows.dialers.get(way),
      isMetered: (linkId) => {
        const link = this.monitor.link(linkId);
        return link !== null && isMetered(link.rule, link);
      },
      tellServer: (modes) => this.session.session.sendFlowModes(modes),
      onBypassChanged: () => this.applyBypass(),
      sources: [{ origin: 'tun', list: () => this.flows.lane.list() }],
    });
    this.flows.rules = this.desk.judge;
    this.listenProxy(config);
    this.applyFlowRules();
    this.applyBypass();
    this.sources = openHostSources((message) => journal.record('warn', 'problem', message));
    this.monitor = new LinkMonitor(
      {
        rt: this.rt,
        rules: config.paths,
        ownTun: this.tun.name,
        side: 'client',
        ...this.sources,
        hasRoute: (link) => this.hasRoute(link),
      },
      {
        onChange: (change) => this.onLink(change),
        onNews: (link, news) => this.onLinkNews(link, news),
        onSignal: (link, signalDbm) => this.onSignal(link, signalDbm),
        isRestless: (link) => this.fading.isRestless(link.id),
      },
    );
    this.pauses = new PauseWatch(this.sources.clocks, (pause) => this.onPause(pause));
    this.countUsage();
    for (const link of this.monitor.links) this.addLink(link);
    this.timers = [setInterval(() => this.lookAtLoad(), LOAD_MS), setInterval(() => this.countUsage(), USAGE_MS)];
  }

  start(): void {
    this.setRemotes();
    this.resolve();
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
    this.orders.clear();
    this.capture.setConfig(config.capture);
    this.desk.setConfig(config.flows);
    this.applyFlowRules();
    this.monitor.setRules(config.paths);
    this.applyOrders();
    this.applyMode();
  }

  private listenProxy({ flows }: ClientConfig): void {
    const { listen } = flows.proxy;
    if (listen === null) return;
    const where = `${listen.host} port ${listen.port}`;
    this.desk.proxy.listen(listen).then(
      () => this.journal.record('info', 'proxy', `SOCKS5 and HTTP proxy on ${where}`),
      (error: Error) => this.journal.record('error', 'proxy', `no proxy on ${where}: ${error.message}`),
    );
  }

  private applyBypass(): void {
    this.capture.setFlowRules((family) => this.desk.bypass.rules(family));
  }

  private applyFlowRules(): void {
    const { rules, wantsNames } = this.desk.judge;
    this.lane.setLaneRule(rules.hasPacketRules ? (b, o, v) => this.desk.laneOf(b, o, v) : null);
    this.writer.onDnsAnswer = wantsNames ? (payload) => this.desk.onDnsAnswer(payload) : null;
  }

  /** An operator's order (`mptun path`), until `reset` or a reload. Null: there is no such path. */
  changePath(name: string, change: PathChange): CommandResult | null {
    const link = this.monitor.links.find((l) => l.name === name);
    if (link === undefined) return null;
    if (!this.orders.change(name, change, cappedRole(link.rule, this.capped.get(link.id) ?? null)))
      return { ok: false, message: 'too many paths have orders' };
    const order = this.orders.of(name);
    const message = orderText(name, order?.role ?? null, order?.limit_bps ?? null);
    this.journal.record('info', 'order', message, { path: name, data: { ...order } });
    this.asOrdered(() => this.applyOrders());
    // An order to use it is worth an attempt at once, whatever the back-off says.
    if (change.role !== 'never' && change.use !== 'down') this.tellPaths({ type: 'link-news', linkId: link.id });
    this.driver.flushSoon();
    return { ok: true, message };
  }

  /**
   * An operator's order (`mptun mode`): another mode for all traffic, at both ends and at once; no connection is made anew.
   * Null: as configured.
   */
  changeMode(mode: TrafficMode | null): CommandResult {
    this.orders.mode = mode;
    const until = mode === null ? 'as configured' : 'until reset or a reload';
    const message = `mode ${this.trafficMode}, ${until}`;
    this.journal.record('info', 'order', message, { data: { mode: this.trafficMode } });
    this.asOrdered(() => this.applyMode());
    this.tellServer();
    this.driver.flushSoon();
    return { ok: true, message };
  }

  /** The mode in force: ordered, or configured. */
  get trafficMode(): TrafficMode {
    return this.orders.mode ?? this.config.traffic.mode;
  }

  /** After each flush: acknowledgements may have made room. */
  onFlushed(): void {
    this.flows.onEngineFlushed();
    this.session.kick();
  }

  onEvent(event: EngineEvent): void {
    if (event.type === 'connection-closed') {
      this.guards.get(event.connectionId)?.release();
      this.guards.delete(event.connectionId);
    } else if (event.type === 'address-announced') {
      const { address, port } = event.endpoint;
      // RFC 8684 §3.4.1: without a port, the connection's own.
      this.announced.set(event.addressId, { address, port: port > 0 ? port : this.config.server.port });
      this.setRemotes();
    } else if (event.type === 'address-removed') {
      this.announced.delete(event.addressId);
      this.setRemotes();
    }
    if (event.type === 'subflow-demoted' || event.type === 'subflow-promoted') this.noteDemotion(event);
    this.paths.onEngineEvent(event);
    this.flows.onEngineEvent(event);
  }

  private noteDemotion(event: Extract<EngineEvent, { type: 'subflow-demoted' | 'subflow-promoted' }>): void {
    const isDemoted = event.type === 'subflow-demoted';
    const name = this.monitor.link(event.linkId)?.name ?? `link ${event.linkId}`;
    const what = isDemoted ? 'demoted' : 'taken back';
    this.journal.record(
      isDemoted ? 'warn' : 'info',
      `path-${isDemoted ? 'demoted' : 'promoted'}`,
      `${name} ${what}: ${event.why}`,
      {
        path: name,
        data: { connection: event.connectionId, why: event.why },
      },
    );
  }

  close(): void {
    this.isClosed = true;
    for (const timer of this.timers) clearInterval(timer);
    this.countUsage();
    this.usage.close();
    this.flows.close();
    this.desk.close();
    this.paths.close();
    this.loop.close();
    this.pauses.close();
    this.monitor.close();
    this.sources.clocks.close();
    this.capture.remove();
    this.session.close('the client is stopping');
    for (const guard of this.guards.values()) guard.release();
    this.tun.close();
    this.rt.close();
  }

  /** The state of the link's best path; null where there is none. */
  pathState(linkId: number): { state: ManagedState; reason: string | null; role: PathRole } | null {
    const capped = this.capped.get(linkId);
    const link = this.monitor.link(linkId);
    const why = capped === undefined || link === null ? null : capText(capped, this.roleOf(link));
    const state = this.managedState(linkId);
    if (state !== null) return why === null || state.reason === null ? state : { ...state, reason: why };
    if (link === null || this.roleOf(link) !== 'never') return null;
    return { state: 'down', reason: why ?? 'its role is never', role: 'never' };
  }

  private managedState(linkId: number): { state: ManagedState; reason: string | null; role: PathRole } | null {
    const path = this.paths.status().find((p) => p.linkId === linkId);
    return path === undefined ? null : { state: path.state, reason: path.why, role: path.role };
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
      if (this.flows.onPacket(nowUs, batch, i)) continue;
      const isUnfinished = batch.checksum[i] === CSUM_PARTIAL;
      this.lane.enqueue(nowUs, batch.slab, batch.offset[i]!, batch.length[i]!, batch.gsoSize[i]!, isUnfinished);
    }
  }

  /** Overflow links are opened up when the others cannot carry all that comes, or more is carried than they are to. */
  private lookAtLoad(): void {
    const load = {
      atMs: performance.now(),
      // The peer has a queue of its own, towards us.
      isQueueFull:
        this.lane.queueOf(BULK).backlogPackets > 0 ||
        this.session.session.peerPolicy?.isFull === true ||
        areHeldByLinks(this.flows.lane.relayed()),
      txBytes: this.lane.counters.bytesOut + this.flows.lane.relayedBytes.up,
      rxBytes: this.writer.bytesWritten + this.flows.lane.relayedBytes.down,
    };
    const thresholds = new Map<number, number>();
    for (const { id, rule } of this.monitor.links) {
      if (rule.overflowAboveBitPerS !== null) thresholds.set(id, rule.overflowAboveBitPerS);
    }
    for (const change of this.overflow.look(load, thresholds)) this.tellPaths({ type: 'saturation', ...change });
  }

  /** Counts what has gone over the links that have a cap; one that is used up, or over, changes the link's role. */
  private countUsage(): void {
    const isCapped = (link: HostLink) => link.rule.cap !== null;
    if (!this.monitor.links.some(isCapped) && this.capped.size === 0) return;
    const counters = new Map(this.rt.links().map((l) => [l.index, l.trafficBytes]));
    for (const link of this.monitor.links) {
      const { cap } = link.rule;
      const bytes = counters.get(link.id);
      const key = usageKey(link);
      if (cap !== null && bytes !== undefined) this.usage.sample(key, { id: `${BOOT_ID}/${link.id}`, bytes });
      const reached = cap === null ? null : this.usage.usage(key, cap).reached;
      const before = this.capped.get(link.id);
      if (reached === null) this.capped.delete(link.id);
      else this.capped.set(link.id, reached);
      if ((reached === null) === (before === undefined) && reached?.period === before?.period) continue;
      const message = reached === null ? 'a new period of its cap has begun' : capText(reached, this.roleOf(link));
      this.journal.record(reached === null ? 'info' : 'warn', 'cap', `${link.name}: ${message}`, {
        path: link.name,
        data: { ...reached, role: this.roleOf(link) },
      });
      this.applyPolicy(link);
    }
    this.usage.save();
  }

  /** What has gone over the link, where it has a cap. */
  usageOf(link: HostLink): CapUsage | null {
    return link.rule.cap === null ? null : this.usage.usage(usageKey(link), link.rule.cap);
  }

  /** What the link is for now: as ordered, else as configured, or what its cap has left of that. */
  roleOf(link: HostLink): PathRole {
    return this.orders.roleOf(link.name, cappedRole(link.rule, this.capped.get(link.id) ?? null));
  }

  private applyPolicy(link: HostLink): void {
    const policy = linkPolicy(link, this.roleOf(link));
    if (policy.role !== 'never') this.driver.updateLink(link);
    // It is worth new attempts at once, so only news is told.
    const text = JSON.stringify(policy);
    if (this.policies.get(link.id) === text) return;
    this.policies.set(link.id, text);
    this.tellPaths({ type: 'link-policy', linkId: link.id, policy });
  }

  /** Sockets that are bound to a link are not captured; nor could a route over it be found otherwise. */
  private setCapturedLinks(): void {
    this.capture.setLinks(this.monitor.links.map((l) => l.name));
  }

  // ---- Links -------------------------------------------------------------------------------------------------------

  private addLink(link: HostLink): void {
    const { id } = link;
    const policy = linkPolicy(link, this.roleOf(link));
    // Nothing is opened on a link that is not to be used; it is only shown.
    if (policy.role !== 'never') this.driver.addLink(link);
    this.setCapturedLinks();
    this.policies.set(id, JSON.stringify(policy));
    this.tellPaths({ type: 'link-added', link: this.pathLink(link) });
  }

  private pathLink(link: HostLink): PathLink {
    const { id, name, isUp, whyDown, addresses } = link;
    return { id, name, isUp, whyDown, addresses, ...linkPolicy(link, this.roleOf(link)) };
  }

  /** News for the session's paths, and for flows that have paths of their own. */
  private tellPaths(event: PathEvent): void {
    this.paths.handle(event);
    this.flows.onPathEvent(event);
  }

  /** Packets came in over a link. */
  onReceived(linkId: number): void {
    this.paths.onReceived(linkId);
    this.flows.onReceived(linkId);
  }

  private onLink({ before, after }: LinkChange): void {
    const name = (after ?? before)!.name;
    const isUp = after?.isUp ?? false;
    if ((before?.isUp ?? false) !== isUp) {
      const why = after?.whyDown ?? 'interface is gone';
      this.journal.record('info', 'link', isUp ? `${name} is up` : `${name} is down: ${why}`, { path: name });
    }
    if (before === null) {
      this.addLink(after!);
    } else if (after === null) {
      this.driver.removeLink(before.id);
      this.capped.delete(before.id);
      this.policies.delete(before.id);
      this.setCapturedLinks();
      this.tellPaths({ type: 'link-removed', linkId: before.id });
    } else {
      if (before.name !== after.name) {
        this.journal.record('info', 'link', `${before.name} is called ${after.name} now`, { path: after.name });
        this.addLink(after);
      }
      this.countUsage();
      this.applyPolicy(after);
      this.tellPaths({
        type: 'link-changed',
        linkId: after.id,
        isUp,
        whyDown: after.whyDown,
        addresses: after.addresses,
      });
    }
    if (after === null) this.fading.forget(before!.id);
    else if (!isUp && this.fading.reset(after.id) === false) this.setFading(after, false, 'link is down');
    if (after !== null && hasAddress(after)) this.resolve();
    this.driver.flushSoon();
    this.onStateChange();
  }

  /** Looks as before, but whatever kept packets away may be over. */
  private onLinkNews(link: HostLink, news: LinkNews): void {
    this.journal.record('debug', 'link-news', `${link.name}: ${news}`, { path: link.name });
    this.tellPaths({ type: 'link-news', linkId: link.id });
    this.driver.flushSoon();
  }

  private onSignal(link: HostLink, signalDbm: number | null): void {
    const subflows = this.connections
      .flatMap(({ connection }) => connection.info().subflows)
      .filter((s) => s.linkId === link.id);
    const verdict = this.fading.sample(this.driver.nowUs(), link, signalDbm, subflows);
    if (verdict !== null)
      this.setFading(link, verdict, signalDbm === null ? 'unknown' : `${Math.round(signalDbm)} dBm`);
  }

  private setFading(link: HostLink, isFading: boolean, detail: string): void {
    const message = `${link.name}: ${isFading ? 'its signal is fading' : 'its signal is not fading any more'} (${detail})`;
    this.journal.record('info', 'link-fading', message, { path: link.name, data: { fading: isFading } });
    this.tellPaths({ type: 'link-fading', linkId: link.id, isFading });
    this.driver.flushSoon();
  }

  /** The host slept, or this process did not run: the network may be another one, and nobody told us. */
  private onPause(pause: Pause): void {
    const data = { slept_s: pause.sleptUs / 1e6, stopped_s: pause.stoppedUs / 1e6 };
    this.journal.record('info', 'resumed', `resumed: ${pauseText(pause)}; every path is probed`, { data });
    this.monitor.reread();
    this.paths.probeAll('the host was asleep');
    this.resolve();
  }

  /** Whether any address of the server has a way out over this link. Which it is, the path manager finds out. */
  private hasRoute(link: LinkFacts): boolean {
    const remotes = [...this.resolver.addresses, ...[...this.announced.values()].map((e) => e.address)];
    const canReach = (remote: IpAddress) =>
      link.addresses.some((own) => own.family === remote.family && this.rt.nextHop(link.id, remote, own) !== null);
    return remotes.length === 0 || remotes.some(canReach);
  }

  /** The server's addresses, as configured, resolved or announced. */
  private setRemotes(): void {
    const { port } = this.config.server;
    this.monitor.look();
    const known = this.resolver.addresses.map((address): RemoteEndpoint => ({ address, port }));
    const more = [...this.announced].map(([addressId, e]): RemoteEndpoint => ({ ...e, addressId }));
    const isNew = (r: RemoteEndpoint) => !known.some((k) => k.port === r.port && k.address.text === r.address.text);
    this.paths.handle({ type: 'remote-addresses', remotes: [...known, ...more.filter(isNew)] });
  }

  private asOrdered(order: () => void): void {
    this.isOrdering = true;
    order();
    this.isOrdering = false;
  }

  private noteCarriers(): void {
    const views = clientCarriers(this.paths.status());
    this.receipts.setCarriers(this.driver.nowUs(), explainChange(this.receipts.carriers, views, this.isOrdering));
  }

  private applyOrders(): void {
    for (const link of this.monitor.links) this.applyPolicy(link);
    this.paths.applyRules();
  }

  /** The rule's or the operator's limit in bit/s. */
  limitOf(link: HostLink): number | null {
    return this.orders.limitOf(link.name, link.rule.limitBitPerS);
  }

  /** In bytes/s, 0: none. It holds for either direction: the server is told. */
  private rateLimitOf(linkId: number): number {
    const link = this.monitor.link(linkId);
    return link === null ? 0 : Math.floor((this.limitOf(link) ?? 0) / 8);
  }

  private congestionOf(linkId: number): string {
    return this.monitor.link(linkId)?.rule.congestion ?? this.config.traffic.congestion;
  }

  /** A connection over the path that is being connected, or the best one in use; null while there is none. */
  private async dial(lane: LaneIndex): Promise<ConnectionApi | null> {
    if (this.paths.currentWay === null) return null;
    const dialed = await this.connectOver(() => this.paths.currentWay, this.schedulerOf(lane));
    if (dialed !== null) this.paths.onDialed(dialed.way, dialed.api);
    return dialed?.api ?? null;
  }

  /** Opens a connection over what `wayNow` says when the port for it is guarded; null: nowhere. */
  private async connectOver(
    wayNow: () => Way | null,
    scheduler: string,
    syn?: (way: Way) => SynContents,
  ): Promise<Dialed | null> {
    const guard = this.driver.acquirePort(0);
    await this.driver.guarded();
    const way = wayNow();
    if (way === null) {
      guard.release();
      return null;
    }
    const { traffic } = this.config;
    try {
      const connection = this.driver.engine.connect(this.driver.nowUs(), {
        linkId: way.linkId,
        localAddress: way.localAddress,
        localPort: guard.port,
        remote: way.remote,
        checksum: traffic.checksum,
        congestion: this.congestionOf(way.linkId),
        scheduler,
        receiveBufferBytes: traffic.receiveBufferBytes,
        ...syn?.(way),
      });
      this.guards.set(connection.id, guard);
      this.driver.flushSoon();
      return { way, api: connection };
    } catch (error) {
      guard.release();
      throw error;
    }
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

  schedulerOf(lane: LaneIndex): string {
    return schedulerOf(this.trafficMode, lane === SPARSE, this.config.traffic.scheduler);
  }

  /** Our side of the mode: the schedulers of what we send, and how many paths carry it. */
  private applyMode(): void {
    for (const { lane, connection } of this.connections) connection.setScheduler(this.schedulerOf(lane));
    const { maxSubflows } = this.config.traffic;
    this.tellPaths({ type: 'session-policy', mode: pathModeOf(this.trafficMode), maxSubflows });
  }

  /** The policy channel: what we wish of the server's sending, link by link. */
  private tellServer(): void {
    if (this.connections.length === 0) return;
    const paths = this.paths.policyPaths((linkId) => {
      const link = this.monitor.link(linkId);
      return {
        name: link?.name ?? `link ${linkId}`,
        rateLimitBytesPerS: this.rateLimitOf(linkId),
        congestion: link?.rule.congestion ?? '',
      };
    });
    const mode = this.trafficMode;
    const modes = LANES.map((lane) => ({ lane, mode, scheduler: this.schedulerOf(lane) }));
    this.session.session.sendPolicy({ paths, modes });
  }

  /** Asks for the server's addresses on the links, best first, until one answers. */
  private resolve(): void {
    if (this.isResolving) return;
    this.isResolving = true;
    void (async () => {
      for (const link of this.monitor.links) {
        if (hasAddress(link) && this.roleOf(link) !== 'never' && (await this.resolver.refresh(link.name))) break;
      }
      this.isResolving = false;
      if (!this.isClosed) this.setRemotes();
    })();
  }

  // ---- Session -----------------------------------------------------------------------------------------------------

  private onConnectionUp(lane: LaneIndex, connection: ConnectionApi): void {
    this.lastFailure = null;
    this.upSinceUs ??= this.driver.nowUs();
    this.journal.record('info', 'connection-up', `${laneName(lane)} connection is up`, {
      data: { connection: connection.id, mptcp: connection.isMptcp },
    });
    this.paths.onConnectionUp(connection);
    this.flows.onSessionUp();
    this.desk.onSessionUp();
    this.tellServer();
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
    this.resolve();
    this.driver.flushSoon();
    this.onStateChange();
  }

  private onAddresses(addresses: readonly IpAddress[], peerMtuBytes: number): void {
    const { tun } = this.config;
    this.addresses = addresses.filter((a) => (a.family === 4 ? tun.ipv4 : tun.ipv6));
    const mtuBytes = Math.min(tun.mtuBytes, peerMtuBytes);
    this.rt.setLink(this.tunIndex, { mtuBytes });
    this.capture.setAddresses(this.addresses);
    const texts = this.addresses.map((a) => a.text).join(', ');
    this.journal.record('info', 'addresses', `inner addresses: ${texts}`, { data: { mtu_bytes: mtuBytes } });
    this.onStateChange();
  }

  private onRoutes(routes: readonly RouteEntry[]): void {
    this.families = [...new Set(routes.map((r) => r.start.family))];
    this.capture.setFamilies(this.families);
  }
}

function orderText(name: string, role: PathRole | null, limitBps: number | null): string {
  const said = [
    ...(role === null ? [] : [role === 'never' ? 'down' : role]),
    ...(limitBps === null ? [] : [`at most ${limitBps / 1e6} Mbit/s each way`]),
  ];
  return said.length === 0 ? `${name}: as configured` : `${name}: ${said.join(', ')}, until reset or a reload`;
}

/** It can ask a name server, whatever the server's addresses as last known. */
function hasAddress(link: LinkFacts): boolean {
  return link.hasCarrier && link.addresses.length > 0;
}

/** Interfaces' counters begin anew with the host. */
const BOOT_ID = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

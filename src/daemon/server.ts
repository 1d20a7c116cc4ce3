/** The server: TUN with the pools' first addresses, egress to the Internet, listener, and the sessions of its clients. */
import { randomInt } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { PLAIN_RULE } from '../config/match.js';
import { addressAt } from '../config/prefix.js';
import type { ServerConfig } from '../config/types.js';
import type { HandoverReceipt } from '../control/protocol.js';
import { type IpAddress, ipEquals } from '../core/base/ip.js';
import type { ConnectionApi, EngineEvent, SubflowInfo } from '../core/engine/api.js';
import type { PortGuard } from '../core/engine/ports.js';
import { BULK } from '../core/lanes/packet-lane.js';
import type { PolicyPath, PolicyPathId } from '../core/lanes/policy.js';
import { openTun, Rtnetlink, type TunDevice } from '../native/index.js';
import { Announcements } from './announcements.js';
import { explainChange, serverCarriers } from './carriers.js';
import type { Driver } from './driver.js';
import { Egress, offeredFamilies } from './egress.js';
import { ConvertServer } from './flows/convert-server.js';
import { RelayServer, type RelaySettings } from './flows/relay-server.js';
import type { Journal } from './journal.js';
import { type HostLink, type LinkChange, LinkMonitor } from './link-monitor.js';
import { areHeldByLinks, FullWatch, LOAD_MS } from './overflow.js';
import { STALL_GRACE_MS } from './path-reports.js';
import { ReceiptBook, sessionTotals } from './receipts.js';
import type { KnownClient } from './server-handshakes.js';
import { type ClientOfServer, ServerSessions } from './server-sessions.js';
import { laneName, PEER_SAYS } from './session.js';
import { wallTime } from './status.js';
import type { TlsIdentity } from './tls.js';
import { TunLoop } from './tun-loop.js';
import { TunWriter } from './tun-writer.js';

export class ServerDaemon {
  readonly tun: TunDevice;
  readonly writer: TunWriter;
  readonly monitor: LinkMonitor;
  readonly sessions: ServerSessions;
  readonly relay: RelayServer;
  readonly converter: ConvertServer | null;
  readonly ownAddresses: readonly IpAddress[];

  private readonly rt = new Rtnetlink();
  private readonly egress: Egress;
  private readonly loop: TunLoop;
  private readonly guard: PortGuard;
  private listener: { close(): void };
  /** Clients that are told when this flush is over. */
  private readonly untold = new Set<ClientOfServer>();
  /** Connections with a stall that is too young to tell of. */
  private readonly graces = new Map<number, NodeJS.Timeout>();
  private readonly announcements = new Announcements(() => this.config.announce);
  private readonly books = new Map<ClientOfServer, ReceiptBook>();
  onReceipt: (receipt: Omit<HandoverReceipt, 'id'>) => void = () => {};
  private readonly fullWatches = new WeakMap<ClientOfServer, FullWatch>();
  private readonly loadTimer: NodeJS.Timeout;

  constructor(
    public config: ServerConfig,
    private readonly driver: Driver,
    private readonly journal: Journal,
    private readonly identity: TlsIdentity,
  ) {
    mkdirSync(config.stateDir, { recursive: true, mode: 0o700 });
    const { pool, tun } = config;
    this.tun = openTun({ name: tun.name, mode: 'tun', vnetHeader: true });
    const tunIndex = this.rt.link(this.tun.name)!.index;
    this.rt.setLink(tunIndex, { up: true, mtuBytes: tun.mtuBytes });
    const prefixes = [pool.ipv4, pool.ipv6].filter((p) => p !== null);
    this.ownAddresses = prefixes.map((p) => addressAt(p, 1)!);
    for (const [i, p] of prefixes.entries()) {
      this.rt.addAddress(tunIndex, { address: this.ownAddresses[i]!, prefixLength: p.bits });
    }
    this.writer = new TunWriter(this.tun, tun.mtuBytes);
    this.egress = new Egress(
      { name: config.name, tunName: this.tun.name, egress: config.egress, pool, ownAddresses: this.ownAddresses },
      config.stateDir,
    );
    this.egress.install();
    this.relay = new RelayServer({
      settings: () => relaySettings(this.config),
      now: () => driver.nowUs(),
      onDelivered: (client, bytes) => {
        const s = this.sessions.sessionOf(client);
        if (s !== undefined) this.books.get(s)?.delivered(driver.nowUs(), bytes);
      },
    });
    this.sessions = new ServerSessions({
      identity,
      relay: this.relay,
      clients: knownClients(config),
      writer: this.writer,
      mtuBytes: tun.mtuBytes,
      families: offeredFamilies(this.rt, tunIndex),
      now: () => driver.nowUs(),
      congestion: () => this.config.traffic.congestion,
      hashSeed: randomInt(2 ** 31),
      openStream: (connection) => driver.openStream(connection),
      events: {
        onSessionUp: (s) => this.note('session-opened', `${s.client.name} is connected`, s.client.name),
        onSessionDown: (s, why) => {
          this.books.delete(s);
          this.note('session-closed', `${s.client.name} is gone: ${why}`, s.client.name);
        },
        onConnectionUp: (s, lane, c) => {
          this.note('connection-up', `${laneName(lane)} connection is up`, s.client.name);
          this.announcements.onConnectionUp(driver.nowUs(), c);
        },
        onConnectionDown: (s, lane, _c, why) =>
          this.note('connection-down', `${laneName(lane)} connection is lost: ${why}`, s.client.name),
        onRefused: (c, why) =>
          this.journal.record('warn', 'refused', `connection from ${c.remote.address.text} refused: ${why}`),
        onPeerPolicy: (s, m) => {
          this.journal.record('debug', 'policy', `policy ${m.serial} of ${s.client.name}`, { session: s.client.name });
          this.noteCarriers(s);
        },
        onDelivered: (s, bytes) => this.books.get(s)?.delivered(driver.nowUs(), bytes),
      },
    });
    // A server takes connections on whatever link they come in.
    this.monitor = new LinkMonitor(
      { rt: this.rt, rules: [PLAIN_RULE], ownTun: this.tun.name, side: 'server' },
      { onChange: (change) => this.onLink(change) },
    );
    for (const link of this.monitor.links) driver.addLink(this.listening(link));
    this.guard = driver.acquirePort(config.listen.port);
    this.listener = this.listen();
    this.converter = config.convert.listen === null ? null : this.openConverter(config.convert.listen.port);
    this.loop = new TunLoop(
      this.tun,
      (batch) => this.sessions.onTun(driver.nowUs(), batch),
      () => driver.flushSoon(),
    );
    this.writer.onWritten = () => this.loop.look();
    this.loadTimer = setInterval(() => this.lookAtLoad(), LOAD_MS);
  }

  start(): void {
    this.driver.flushSoon();
  }

  onFlushed(): void {
    this.sessions.kick();
  }

  /** What we hear nothing on for a while, the client should know: it may believe that all is well. */
  onEvent(event: EngineEvent): void {
    this.converter?.onEngineEvent(event);
    if (event.type.startsWith('subflow-') || event.type === 'priority') {
      const { connectionId } = event as { connectionId: number };
      const companion = this.sessions.ofCompanion(connectionId);
      if (companion !== null && event.type === 'subflow-established') {
        companion.session.session.welcome(companion.connection);
      }
      const s = companion?.session ?? this.sessions.ofConnection(connectionId);
      if (s !== null) this.noteCarriers(s);
      if (event.type === 'subflow-demoted' || event.type === 'subflow-promoted') {
        const isDemoted = event.type === 'subflow-demoted';
        const message = `a path of ${s?.client.name ?? 'a client'} ${isDemoted ? 'demoted' : 'taken back'}: ${event.why}`;
        this.journal.record(isDemoted ? 'warn' : 'info', isDemoted ? 'path-demoted' : 'path-promoted', message, {
          session: s?.client.name ?? null,
          data: { connection: event.connectionId, subflow: event.subflowId, why: event.why },
        });
      }
      if (s !== null && (event.type === 'subflow-silent' || event.type === 'subflow-heard')) {
        this.tellSoon(s);
      }
    }
    if (event.type !== 'subflow-stalled' || event.why.startsWith(PEER_SAYS)) return;
    const { connectionId } = event;
    if (this.graces.has(connectionId)) return;
    const timer = setTimeout(() => {
      this.graces.delete(connectionId);
      const s = this.sessions.ofConnection(connectionId) ?? this.sessions.ofCompanion(connectionId)?.session;
      if (s !== undefined) this.tellClient(s);
    }, STALL_GRACE_MS);
    this.graces.set(connectionId, timer);
  }

  /** Our queue towards each client: one that is not worked off means that the links in use are full. */
  private lookAtLoad(): void {
    for (const s of this.sessions.sessions) {
      let watch = this.fullWatches.get(s);
      if (watch === undefined) this.fullWatches.set(s, (watch = new FullWatch()));
      const isQueueFull = s.lane.queueOf(BULK).backlogPackets > 0 || areHeldByLinks(this.relay.flowsOf(s.client.pin));
      if (watch.look(isQueueFull)) this.tellClient(s);
    }
  }

  /** Once for all events of a flush: a path may be silent for a thousand flows at the same time. */
  private tellSoon(s: ClientOfServer): void {
    if (this.untold.size === 0) process.nextTick(() => this.tellUntold());
    this.untold.add(s);
  }

  private tellUntold(): void {
    for (const s of this.untold) s.session.sendPolicy({ paths: this.silentPaths(s), modes: [] });
    this.untold.clear();
  }

  /** The client's paths as the server sees them, by the address ids of both ends. */
  private silentPaths(s: ClientOfServer): PolicyPath[] {
    // A lane may be idle on a path on which a flow of the relay waits.
    const silent = new Set<string>();
    for (const companion of this.sessions.companionsOf(s)) {
      for (const subflow of companion.info().subflows) if (isSilent(subflow)) silent.add(addressesOf(subflow));
    }
    const paths = new Map<string, { isSilent: boolean; ids: PolicyPathId[]; name: string }>();
    for (const c of s.session.connections) {
      if (c === null) continue;
      for (const subflow of c.connection.info().subflows) {
        const { remoteAddressId: addressId, localAddressId: serverAddressId } = subflow;
        const key = `${addressId} ${serverAddressId}`;
        const name = subflow.remote.address.text;
        const path = paths.get(key) ?? { isSilent: silent.has(addressesOf(subflow)), ids: [], name };
        path.isSilent ||= isSilent(subflow);
        path.ids.push({ lane: c.index, addressId, serverAddressId });
        paths.set(key, path);
      }
    }
    return [...paths.values()].map((path) => ({
      name: path.name,
      role: 'always',
      state: path.isSilent ? 'silent' : 'ok',
      rateLimitBytesPerS: 0,
      congestion: '',
      addressIds: path.ids,
    }));
  }

  /** What the client cannot know: what we hear nothing on, and whether we have more to send than goes. */
  private tellClient(s: ClientOfServer): void {
    const isFull = this.fullWatches.get(s)?.isFull ?? false;
    s.session.sendPolicy({ paths: this.silentPaths(s), modes: [], isFull });
  }

  close(): void {
    clearInterval(this.loadTimer);
    for (const timer of this.graces.values()) clearTimeout(timer);
    this.loop.close();
    this.monitor.close();
    this.listener.close();
    this.converter?.close();
    this.sessions.close('the server is stopping');
    this.guard.release();
    this.egress.remove();
    this.tun.close();
    this.rt.close();
  }

  get ownPin(): string {
    return this.identity.pin;
  }

  /** Takes over what can be changed while running (config/diff.ts says what that is). */
  reload(config: ServerConfig): void {
    const before = this.config;
    this.config = config;
    this.sessions.setClients(knownClients(config));
    this.listener.close();
    this.listener = this.listen();
    this.converter?.reload();
    this.announcements.onReload(this.driver.nowUs(), before.announce, this.connections());
    for (const s of this.sessions.sessions) s.session.reapply();
    this.driver.flushSoon();
  }

  /** For connections to come. */
  private listen(): { close(): void } {
    return this.driver.engine.listen({
      port: this.config.listen.port,
      ...this.connectionSettings(),
      onAccept: (connection) => this.sessions.accept(connection),
    });
  }

  private connectionSettings() {
    const { checksum, congestion, scheduler, maxSubflows, receiveBufferBytes } = this.config.traffic;
    return { checksum, congestion, scheduler, maxSubflows, receiveBufferBytes };
  }

  private openConverter(port: number): ConvertServer {
    const { driver } = this;
    const links = () => this.monitor.links.map((link) => this.listening(link));
    return new ConvertServer(
      {
        engine: driver.engine,
        config: () => this.config,
        connectionSettings: () => this.connectionSettings(),
        nowUs: () => driver.nowUs(),
        flushSoon: () => driver.flushSoon(),
        acquirePort: (wanted) => driver.acquirePort(wanted),
        guarded: () => driver.guarded(),
        routeTo: (address) => {
          const route = this.rt.routeTo(address);
          const link = links().find(({ id, isUp }) => isUp && id === route?.interfaceIndex);
          const ofFamily = link?.addresses.filter(({ family }) => family === address.family) ?? [];
          const localAddress = ofFamily.find(({ text }) => text === route?.source?.text) ?? ofFamily[0];
          return link === undefined || localAddress === undefined ? null : { linkId: link.id, localAddress };
        },
        ownAddresses: () => [...this.ownAddresses, ...links().flatMap(({ addresses }) => addresses)],
      },
      port,
    );
  }

  /** The receipts of all sessions. */
  get receipts(): Iterable<ReceiptBook> {
    return this.books.values();
  }

  /** Only paths that the client has named: until then their names would change under way. */
  private noteCarriers(s: ClientOfServer): void {
    const named = s.session.connections.flatMap((c) =>
      c === null
        ? []
        : c.connection.info().subflows.flatMap((subflow) => {
            const name = nameOf(s, c.index, subflow);
            return name === null ? [] : [{ name, subflow }];
          }),
    );
    const book = this.bookOf(s);
    book.setCarriers(this.driver.nowUs(), explainChange(book.carriers, serverCarriers(named), false));
  }

  private bookOf(s: ClientOfServer): ReceiptBook {
    let book = this.books.get(s);
    if (book === undefined) {
      book = new ReceiptBook({
        session: s.client.name,
        totals: (nowUs) =>
          sessionTotals(
            nowUs,
            s.session.connections.filter((c) => c !== null),
            s.lane,
            this.relay.flowsOf(s.client.pin),
          ),
        wallTime: (atUs) => wallTime(atUs, this.driver.nowUs()),
        onReceipt: (receipt) => this.onReceipt(receipt),
      });
      this.books.set(s, book);
    }
    return book;
  }

  private onLink({ before, after }: LinkChange): void {
    if (after === null) this.driver.removeLink(before!.id);
    else if (before === null) this.driver.addLink(this.listening(after));
    else this.driver.updateLink(this.listening(after));
    const addresses = (link: HostLink | null) => (link === null ? [] : this.listening(link).addresses);
    this.announcements.onAddresses(this.driver.nowUs(), addresses(before), addresses(after), this.connections());
    this.driver.flushSoon();
  }

  private connections(): ConnectionApi[] {
    return this.sessions.sessions.flatMap(({ session }) => session.connections.flatMap((c) => c?.connection ?? []));
  }

  /** The link with those of its addresses only that are listened on. */
  private listening(link: HostLink): HostLink {
    const wanted = this.config.listen.addresses;
    if (wanted.length === 0) return link;
    return { ...link, addresses: link.addresses.filter((a) => wanted.some((w) => ipEquals(w, a))) };
  }

  private note(type: string, message: string, session: string): void {
    this.journal.record('info', type, message, { session });
  }
}

/** What the client calls the path of this subflow, or null. */
function nameOf(s: ClientOfServer, lane: number, subflow: SubflowInfo): string | null {
  const isIt = (id: PolicyPathId) =>
    id.lane === lane && id.addressId === subflow.remoteAddressId && id.serverAddressId === subflow.localAddressId;
  return s.session.peerPolicy?.paths.find((p) => p.addressIds.some(isIt))?.name ?? null;
}

function addressesOf({ remote, local }: SubflowInfo): string {
  return `${remote.address.text} ${local.address.text}`;
}

function isSilent(subflow: SubflowInfo): boolean {
  return subflow.isStalled || subflow.isSilent;
}

function relaySettings({ egress, relay, clients }: ServerConfig): RelaySettings {
  return { egress, limits: relay, lists: new Map(clients.map((c) => [c.name, c.relay])) };
}

function knownClients(config: ServerConfig): KnownClient[] {
  return config.clients.map((c) => ({
    name: c.name,
    pin: c.pin,
    addresses: [c.ipv4, c.ipv6].filter((a) => a !== null),
  }));
}

/**
 * `mptun run`: one daemon from start to end. It answers on its control socket from the first moment, whatever the state
 * of the links; SIGTERM and SIGINT end it cleanly, SIGHUP reloads what can be reloaded.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import { PinoPretty as pretty } from 'pino-pretty';
import { type Values, valuesOf } from '../config/diff.js';
import { ConfigErrors } from '../config/errors.js';
import { type LoadedConfig, loadConfigInDetail } from '../config/load.js';
import type { Config } from '../config/types.js';
import type {
  CommandResult,
  EventRecord,
  FlowStatus,
  HandoverReceipt,
  LeftOut,
  PathChange,
  PathStatus,
  Problem,
  StatusDocument,
  StatusSource,
  TcpFlowStatus,
  TrafficMode,
  TunnelState,
  WhyDocument,
  WhyFlowDocument,
} from '../control/protocol.js';
import { TUNNEL_KEEPALIVE } from '../core/engine/config.js';
import { BULK } from '../core/lanes/packet-lane.js';
import { ClientDaemon } from './client.js';
import { ControlServer } from './control-server.js';
import { Driver } from './driver.js';
import { convertedStatus, relayedStatus, tcpFlowStatus, whyFlowDocument } from './flows/flow-status.js';
import { Journal } from './journal.js';
import type { HostLink, LinkMonitor } from './link-monitor.js';
import { SystemdNotifier } from './notify-systemd.js';
import { ReceiptFile } from './receipt-file.js';
import { type ReceiptBook, receiptText } from './receipts.js';
import { planReload } from './reload.js';
import { ServerDaemon } from './server.js';
import {
  BestLinkMeter,
  commonStatus,
  endpointText,
  flowStatus,
  type LaneConnection,
  laneCounters,
  pathStatus,
  RateMeter,
  wallTime,
} from './status.js';
import { loadIdentity } from './tls.js';
import { collectSeldom, compileEarly } from './v8.js';
import { warmUp } from './warm-up.js';
import { whyDocument } from './why.js';

/** Rates are sampled this often even when nobody asks. */
const SAMPLE_MS = 1_000;
/** Receipts that have settled are looked for this often, and limits are shared anew. */
const LOOK_MS = 250;

/** Runs until a signal ends it; resolves to the exit code. Throws what stops it from starting. */
export async function runDaemon(loaded: LoadedConfig): Promise<number> {
  compileEarly();
  warmUp();
  collectSeldom();
  const daemon = await Daemon.start(loaded);
  return daemon.ended;
}

class Daemon implements StatusSource {
  get name(): string {
    return this.config.name;
  }

  readonly ended: Promise<number>;
  private readonly startedAt = new Date();
  private readonly meter = new RateMeter();
  private readonly bestLink = new BestLinkMeter();
  private readonly seen = new Map<string, { state: string; since: string }>();
  private readonly notifier = SystemdNotifier.fromEnvironment();
  private control: ControlServer | null = null;
  private state: TunnelState = 'starting';
  private end: (code: number) => void = () => {};
  private sampler: NodeJS.Timeout | null = null;
  private lookTimer: NodeJS.Timeout | null = null;
  private readonly receiptFile: ReceiptFile;

  private constructor(
    private config: Config,
    /** What is in force, key by key. */
    private values: Values,
    private readonly log: Logger,
    private readonly journal: Journal,
    private readonly driver: Driver,
    private readonly client: ClientDaemon | null,
    private readonly server: ServerDaemon | null,
  ) {
    this.ended = new Promise((resolve) => {
      this.end = resolve;
    });
    this.receiptFile = new ReceiptFile(join(config.stateDir, 'receipts.json'), (message) =>
      journal.record('warn', 'problem', message),
    );
  }

  static async start(loaded: LoadedConfig): Promise<Daemon> {
    const { config } = loaded;
    const log = logger(config);
    const journal = new Journal(log);
    const identity = await loadIdentity(config.keyFile);
    let client: ClientDaemon | null = null;
    let server: ServerDaemon | null = null;
    const driver = new Driver(
      config.name,
      {
        congestion: config.traffic.congestion,
        scheduler: config.traffic.scheduler,
        checksum: config.traffic.checksum,
        receiveBufferBytes: config.traffic.receiveBufferBytes,
        // The client is the one behind a NAT.
        tcp: config.mode === 'client' ? TUNNEL_KEEPALIVE : {},
      },
      {
        onEvent: (event) => {
          logEngineEvent(journal, event);
          client?.onEvent(event);
          server?.onEvent(event);
        },
        onFlushed: () => {
          client?.onFlushed();
          server?.onFlushed();
        },
        onReceived: (linkId) => client?.onReceived(linkId),
        onProblem: (message) => journal.record('warn', 'problem', message),
      },
    );
    try {
      if (config.mode === 'client') client = new ClientDaemon(config, driver, journal, identity);
      else server = new ServerDaemon(config, driver, journal, identity);
      const daemon = new Daemon(config, valuesOf(loaded), log, journal, driver, client, server);
      daemon.control = await ControlServer.start(daemon, {
        socketPath: config.control.socketPath,
        metricsListen: config.metrics.listen,
      });
      daemon.run();
      return daemon;
    } catch (error) {
      client?.close();
      server?.close();
      driver.close();
      throw error;
    }
  }

  private run(): void {
    process.on('SIGTERM', this.onStop);
    process.on('SIGINT', this.onStop);
    process.on('SIGHUP', this.onReload);
    this.journal.record(
      'info',
      'started',
      `mptun ${this.config.mode} ${this.config.name}, key sha256/${this.ownPin()}`,
    );
    this.client?.start();
    this.server?.start();
    this.sampler = setInterval(() => this.sample(), SAMPLE_MS);
    this.lookTimer = setInterval(() => {
      for (const book of this.receiptBooks()) book.onTimer(this.driver.nowUs());
    }, LOOK_MS);
    (this.client ?? this.server)!.onReceipt = (receipt) => this.onReceipt(receipt);
    if (this.client !== null) this.client.onStateChange = () => this.updateState();
    this.updateState();
    this.notifier.ready(`${this.config.mode} is running`);
    this.notifier.startWatchdog(() => true);
  }

  private ownPin(): string {
    return this.client?.ownPin ?? this.server?.ownPin ?? '';
  }

  private readonly onStop = (): void => {
    void this.stop();
  };

  private readonly onReload = (): void => {
    void this.reload();
  };

  private async stop(): Promise<void> {
    if (this.state === 'stopping') return;
    this.state = 'stopping';
    this.notifier.stopping('stopping');
    this.journal.record('info', 'stopping', 'stopping');
    process.off('SIGHUP', this.onReload);
    if (this.sampler !== null) clearInterval(this.sampler);
    if (this.lookTimer !== null) clearInterval(this.lookTimer);
    let code = 0;
    for (const close of [
      () => this.client?.close(),
      () => this.server?.close(),
      () => this.receiptFile.close(),
      () => this.driver.close(),
      () => this.notifier.close(),
    ]) {
      try {
        close();
      } catch (error) {
        // Every part is taken down, whatever happens to the others.
        this.journal.record('error', 'stop-failed', (error as Error).message);
        code = 1;
      }
    }
    await this.control?.close();
    rmSync(this.config.control.socketPath, { force: true });
    process.off('SIGTERM', this.onStop);
    process.off('SIGINT', this.onStop);
    this.end(code);
  }

  private sample(): void {
    this.updateState();
    this.status();
    for (const book of this.receiptBooks()) book.sample(this.driver.nowUs());
  }

  private receiptBooks(): Iterable<ReceiptBook> {
    return this.client !== null ? [this.client.receipts] : this.server!.receipts;
  }

  private onReceipt(receipt: Omit<HandoverReceipt, 'id'>): void {
    const numbered = this.receiptFile.add(receipt);
    const { session, from } = receipt;
    const data = { ...numbered };
    this.journal.record('info', 'handover', receiptText(receipt), { session, path: from.join('+') || null, data });
  }

  private updateState(): void {
    if (this.state === 'stopping') return;
    const { state } = this.judge();
    if (state === this.state) return;
    this.journal.record('info', 'tunnel-state', `${this.state} → ${state}`, { data: { from: this.state, to: state } });
    this.state = state;
    this.notifier.status(state);
  }

  /** What the state is, and why. */
  private judge(): { state: TunnelState; reason: string | null } {
    if (this.server !== null) return { state: 'up', reason: null };
    const client = this.client!;
    if (client.isUp) return { state: 'up', reason: null };
    if (!client.links.monitor.links.some((l) => l.isUp && client.roles.roleOf(l) !== 'never'))
      return { state: 'waiting', reason: 'no usable link' };
    return { state: 'connecting', reason: client.lastFailure?.why ?? null };
  }

  private problems(): Problem[] {
    const problems: Problem[] = [];
    const failure = this.client?.isUp === false ? this.client.lastFailure : null;
    if (failure !== null && failure !== undefined) {
      problems.push({
        kind: failure.isAuthentication ? 'authentication' : 'unreachable',
        message: failure.why,
        remedy: failure.isAuthentication ? 'compare the keys of both ends: mptun pubkey' : null,
        needs_user: failure.isAuthentication,
      });
    }
    for (const link of this.client?.links.monitor.links ?? []) {
      if (link.connectivity !== 'portal' || !link.hasCarrier) continue;
      const message = `${link.name}: a login page answers in place of the Internet (NetworkManager)`;
      problems.push({ kind: 'portal', message, remedy: 'log in there with a browser', needs_user: true });
    }
    if (this.driver.guardProblem !== '') {
      problems.push({ kind: 'resource', message: this.driver.guardProblem, remedy: null, needs_user: false });
    }
    return problems;
  }

  // ---- StatusSource ------------------------------------------------------------------------------------------------

  status(): StatusDocument {
    const nowMs = performance.now();
    const part = (this.client ?? this.server)!;
    const { state, reason } = this.state === 'stopping' ? { state: this.state, reason: null } : this.judge();
    const { totals, sessions, addresses } =
      this.client !== null ? this.clientSessions(this.client, nowMs) : this.serverSessions(this.server!, nowMs);
    const paths = this.paths(nowMs);
    return {
      ...commonStatus(this.config, this.trafficMode(), this.startedAt, new Date()),
      state,
      reason,
      problems: this.problems(),
      endpoint: this.endpoint(),
      tun: { name: part.tun.name, mtu_bytes: this.config.tun.mtuBytes, addresses },
      totals,
      sessions,
      estimate: this.client === null ? { tx: null, rx: null } : this.bestLink.estimate(paths, nowMs),
      paths,
    };
  }

  flows(): FlowStatus[] {
    return this.connections().map((c) => flowStatus(c, (id) => this.linkName(id)));
  }

  counters(): Readonly<Record<string, number>> {
    const lanes = this.client !== null ? [this.client.tun.lane] : this.server!.sessions.sessions.map((s) => s.lane);
    const writer = this.client?.tun.writer ?? this.server!.writer;
    return {
      ...this.driver.engine.counters(),
      ...laneCounters(lanes, writer),
      ...prefixed('proxy_', this.client?.flows.desk.proxy.counters ?? {}),
      ...prefixed('names_', this.client?.flows.desk.domains.counters ?? {}),
      ...prefixed('apps_', this.client?.flows.desk.apps.counters ?? {}),
      ...prefixed('relay_', this.server?.relay.counters ?? this.client!.flows.relay.pool.counters),
      ...this.server?.converter?.counters,
    };
  }

  subscribe(afterSeq: number, onEvent: (event: EventRecord) => void): () => void {
    return this.journal.subscribe(afterSeq, onEvent);
  }

  changePath(name: string, change: PathChange): CommandResult | null {
    if (this.client === null) return { ok: false, message: 'paths are chosen by the client' };
    return this.client.policy.changePath(name, change);
  }

  changeMode(mode: TrafficMode | null): CommandResult {
    if (this.client === null) return { ok: false, message: 'the mode is chosen by the client' };
    return this.client.policy.changeMode(mode);
  }

  tcpFlows(): TcpFlowStatus[] {
    const nowUs = this.driver.nowUs();
    const linkName = (id: number) => this.linkName(id);
    if (this.client === null) {
      const { relay, converter } = this.server!;
      const converted = converter?.flows().flatMap((flow) => convertedStatus(flow, nowUs, linkName) ?? []) ?? [];
      return [...relay.flows().map((flow) => relayedStatus(flow, nowUs, linkName)), ...converted];
    }
    const session = this.client.config.server.host;
    return this.client.flows.desk.registry.entries().map((entry) => tcpFlowStatus(entry, session, nowUs, linkName));
  }

  leftOut(): LeftOut[] {
    const { leftOut } = this.monitor;
    return leftOut.map(({ name, type, why }) => ({ name, type, reason: why }));
  }

  why(): WhyDocument {
    const linkOf = (path: PathStatus) => this.links().find((l) => l.name === path.name);
    return whyDocument({
      status: this.status(),
      flows: this.flows(),
      ruleOf: (path) => (this.client === null ? null : (linkOf(path)?.rule ?? null)),
      managedRole: (path) => this.client?.pathState(linkOf(path)?.id ?? -1)?.role ?? null,
    });
  }

  async whyFlow(host: string, port: number): Promise<WhyFlowDocument | string> {
    if (this.client === null) return "rules for flows are the client's: ask there";
    const { judge } = this.client.flows.desk;
    return whyFlowDocument({ host, port, judge, why: this.why(), flows: () => this.tcpFlows() });
  }

  openProxy(host: string, port: number): Promise<{ host: string; port: number; close(): void }> {
    if (this.client === null) return Promise.reject(new Error("proxies are the client's: ask there"));
    return this.client.flows.desk.proxy.listen({ host, port });
  }

  history(count: number): HandoverReceipt[] {
    return this.receiptFile.newest(count);
  }

  async reload(): Promise<CommandResult> {
    this.notifier.reloading(this.driver.nowUs());
    let result: CommandResult;
    try {
      const next = loadConfigInDetail(this.config.file);
      if (next.config.mode !== this.config.mode) {
        result = { ok: false, message: `this is a ${this.config.mode}: its mode needs a restart` };
      } else {
        const { config, values, result: told } = planReload(this.config, this.values, next);
        if (config.mode === 'client') this.client!.reload(config);
        else this.server!.reload(config);
        this.config = config;
        this.values = values;
        this.log.level = config.log.level;
        result = told;
      }
    } catch (error) {
      const details = error instanceof ConfigErrors ? error.message.split('\n') : [(error as Error).message];
      result = { ok: false, message: 'the new configuration is not valid; the old one stays in force', details };
    }
    this.journal.record(result.ok ? 'info' : 'error', 'reload', result.message, { data: { details: result.details } });
    this.notifier.ready(result.message);
    return result;
  }

  private trafficMode(): Pick<StatusDocument['traffic'], 'mode' | 'mode_ordered' | 'scheduler'> {
    const { traffic } = this.config;
    if (this.client === null) return { mode: traffic.mode, mode_ordered: false, scheduler: traffic.scheduler };
    const { policy, roles } = this.client;
    return { mode: policy.mode, mode_ordered: roles.orders.mode !== null, scheduler: policy.schedulerOf(BULK) };
  }

  private connections(): LaneConnection[] {
    if (this.client !== null) {
      const session = this.client.config.server.host;
      return this.client.connections.map((c) => ({ session, ...c }));
    }
    return this.server!.sessions.sessions.flatMap((s) =>
      s.session.connections
        .filter((c) => c !== null)
        .map((c) => ({ session: s.client.name, lane: c.index, connection: c.connection })),
    );
  }

  private get monitor(): LinkMonitor {
    return this.client?.links.monitor ?? this.server!.monitor;
  }

  private links(): readonly HostLink[] {
    return this.monitor.links;
  }

  private linkName(id: number): string {
    return this.links().find((l) => l.id === id)?.name ?? `link ${id}`;
  }

  private endpoint(): string {
    if (this.client !== null) {
      const { host, port } = this.client.config.server;
      return `${host}:${port}`;
    }
    const { listen } = this.server!.config;
    if (listen.addresses.length === 0) return `port ${listen.port}`;
    return listen.addresses.map((address) => endpointText({ address, port: listen.port })).join(', ');
  }

  private clientSessions(client: ClientDaemon, nowMs: number) {
    const { counters } = client.tun.lane;
    const totals = this.meter.totals('tun', counters.bytesOut, client.tun.writer.bytesWritten, nowMs);
    const addresses = client.addresses.map((a) => a.text);
    const sessions: StatusDocument['sessions'] = [];
    if (client.upSinceUs !== null) {
      sessions.push({
        ...totals,
        peer: client.config.server.host,
        since: wallTime(client.upSinceUs, this.driver.nowUs()),
        addresses,
        connections: client.connections.length,
        unsupported: [],
      });
    }
    return { totals, sessions, addresses };
  }

  private serverSessions(server: ServerDaemon, nowMs: number) {
    let out = 0;
    const sessions = server.sessions.sessions.map((s) => {
      const received = s.session.connections.reduce((n, c) => n + (c?.pump.bytesReceived ?? 0), 0);
      out += s.lane.counters.bytesOut;
      return {
        ...this.meter.totals(`session/${s.sessionId}`, s.lane.counters.bytesOut, received, nowMs),
        peer: s.client.name,
        since: wallTime(s.sinceUs, this.driver.nowUs()),
        addresses: s.client.addresses.map((a) => a.text),
        connections: s.session.connections.filter((c) => c !== null).length,
        unsupported: [],
      };
    });
    const totals = this.meter.totals('tun', out, server.writer.bytesWritten, nowMs);
    return { totals, sessions, addresses: server.ownAddresses.map((a) => a.text) };
  }

  private paths(nowMs: number): PathStatus[] {
    const connections = this.connections();
    return this.links().map((link) =>
      pathStatus(
        {
          link,
          session: this.client === null ? null : this.client.config.server.host,
          connections,
          hostDrops: this.driver.hostDrops(link.id),
          usage: this.client?.roles.usageOf(link) ?? null,
          limitBps: this.client?.roles.limitOf(link) ?? null,
          role: this.client?.roles.roleOf(link) ?? link.rule.role,
          order: this.client?.roles.orders.of(link.name) ?? null,
          congestion: link.rule.congestion ?? this.config.traffic.congestion,
          known: this.client?.pathState(link.id) ?? null,
          since: (state) => this.sinceWhen(`${link.id}`, state),
        },
        this.meter,
        nowMs,
      ),
    );
  }

  private sinceWhen(key: string, state: string): string {
    const seen = this.seen.get(key);
    if (seen?.state === state) return seen.since;
    const since = new Date().toISOString();
    this.seen.set(key, { state, since });
    return since;
  }
}

function logger(config: Config): Logger {
  const { level, format } = config.log;
  const isPretty = format === 'pretty' || (format === 'auto' && process.stdout.isTTY);
  return isPretty ? pino({ level }, pretty({ sync: true, colorize: process.stdout.isTTY })) : pino({ level });
}

function logEngineEvent(journal: Journal, event: { type: string } & Record<string, unknown>): void {
  if (event.type === 'drop') return;
  const { type, ...data } = event;
  journal.record('debug', type, Object.values(data).join(' '), { data });
}

function prefixed(prefix: string, counters: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counters).map(([name, n]) => [prefix + name, n]));
}

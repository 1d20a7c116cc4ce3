/**
 * The client's flow lane with all that belongs to it: the desk that says which way a flow goes, the dialers of the ways, and
 * their share of the news of links and connections.
 */
import type { ClientConfig } from '../../config/types.js';
import type { IpAddress } from '../../core/base/ip.js';
import type { Micros } from '../../core/base/time.js';
import type { ConnectionApi, EngineEvent } from '../../core/engine/api.js';
import type { ReceiveBatch, TunPort } from '../../core/engine/ports.js';
import type { FlowMode } from '../../core/lanes/flow-modes.js';
import type { PathEvent } from '../../core/pathman/types.js';
import { schedulerOf, type TrafficMode } from '../../core/scheduler/modes.js';
import { nodeEnv } from '../driver.js';
import type { Journal } from '../journal.js';
import type { Way } from '../path-members.js';
import { after } from '../session-paths.js';
import type { TlsIdentity } from '../tls.js';
import type { FlowDialer, FlowWay } from './contract.js';
import { ConvertDialer } from './convert-client.js';
import { DirectDialer, type DirectHost } from './direct.js';
import type { Dialed } from './direct-flow.js';
import { FlowDesk } from './flow-desk.js';
import { FlowLane } from './flow-lane.js';
import { RelayClient } from './relay-client.js';

export interface ClientFlowsOptions extends DirectHost {
  readonly tun: TunPort;
  readonly mtuBytes: number;
  readonly identity: TlsIdentity;
  readonly journal: Pick<Journal, 'record'>;
  config(): ClientConfig;
  /** Of all traffic; a rule may want another one for its flows. */
  mode(): TrafficMode;
  isMetered(linkId: number): boolean;
  /** A connection to our server, over the session's best path; null: there is none now. */
  connectToServer(): Promise<Dialed | null>;
  /** See RelayCarrier. */
  isChosen(way: Way): boolean;
  /** Of our server; null: not known yet. */
  serverAddress(): IpAddress | null;
  /** The session's path manager gives this connection its further subflows from now on. */
  follow(connection: ConnectionApi): void;
  /** See FlowLaneOptions. */
  onDelivered(bytes: number): void;
  /** See DeskHost. */
  tellServer(modes: readonly FlowMode[]): void;
  onBypassChanged(): void;
}

export class ClientFlows {
  readonly lane: FlowLane;
  readonly direct: DirectDialer;
  readonly relay: RelayClient;
  readonly convert: ConvertDialer;
  readonly dialers = new Map<FlowWay, FlowDialer>();
  readonly desk: FlowDesk;

  constructor(private readonly options: ClientFlowsOptions) {
    this.direct = new DirectDialer(options);
    this.relay = new RelayClient(
      {
        nowUs: () => options.nowUs(),
        connect: () => options.connectToServer(),
        isChosen: (way) => options.isChosen(way),
        openStream: (connection) => options.openStream(connection),
        after,
        random: Math.random,
        follow: (connection) => options.follow(connection),
        onFailed: (error) => options.journal.record('debug', 'relay-failed', error.message),
      },
      { identity: options.identity, pin: options.config().server.pin, config: () => options.config().flows.relay },
    );
    this.convert = new ConvertDialer(options, {
      config: () => options.config().flows.convert,
      serverAddress: () => options.serverAddress(),
      direct: this.direct,
    });
    this.dialers.set('direct', this.direct).set('relay', this.relay).set('convert', this.convert);
    this.lane = new FlowLane({
      env: nodeEnv,
      tun: options.tun,
      mtuBytes: options.mtuBytes,
      rules: { decide: (target) => this.desk.judge.decide(target) },
      nowUs: () => options.nowUs(),
      dialer: (way) => (way === 'packet' ? undefined : this.dialers.get(way)),
      onDelivered: (bytes) => options.onDelivered(bytes),
      schedulerOf: (mode) => schedulerOf(mode, false, options.config().traffic.scheduler),
    });
    this.desk = new FlowDesk(options.config().flows, {
      nowUs: () => options.nowUs(),
      mode: () => options.mode(),
      scheduler: () => options.config().traffic.scheduler,
      dialer: (way) => this.dialers.get(way),
      isMetered: (linkId) => options.isMetered(linkId),
      tellServer: (modes) => options.tellServer(modes),
      onBypassChanged: () => options.onBypassChanged(),
      sources: [{ origin: 'tun', list: () => this.lane.list() }],
    });
    this.listenProxy();
  }

  /** Packet `i` of a batch of the TUN. True: it was taken; false: it is the packet lane's. */
  onPacket(nowUs: Micros, batch: ReceiveBatch, i: number): boolean {
    return this.lane.onPacket(nowUs, batch, i);
  }

  /** The session is up, by one more connection: the relay can be reached. */
  onSessionUp(): void {
    if (this.mayRelay) this.relay.start();
    this.relay.onWay();
    this.desk.onSessionUp();
  }

  /** What the session's path manager is told, flows with paths of their own are told as well. */
  onPathEvent(event: PathEvent): void {
    if (event.type !== 'remote-addresses') {
      this.direct.handle(event);
      this.convert.handle(event);
    }
    if (event.type === 'link-removed' || (event.type === 'link-changed' && event.isUp === false)) {
      this.relay.onLinkGone(event.linkId);
    }
  }

  /** A path of the session has changed its state; not from within the path manager. */
  onPaths(): void {
    this.relay.onPaths();
  }

  onReceived(linkId: number): void {
    this.direct.onReceived(linkId);
    this.convert.onReceived(linkId);
  }

  onEngineEvent(event: EngineEvent): void {
    this.direct.onEngineEvent(event);
    this.convert.onEngineEvent(event);
    this.relay.onEngineEvent(event);
  }

  /** The engine has sent what may go: connections may have room. */
  onEngineFlushed(): void {
    this.lane.onEngineFlushed();
  }

  close(): void {
    this.lane.close();
    this.direct.close();
    this.convert.close();
    this.relay.close();
    this.desk.close();
  }

  private listenProxy(): void {
    const { journal } = this.options;
    const { listen } = this.options.config().flows.proxy;
    if (listen === null) return;
    const where = `${listen.host} port ${listen.port}`;
    this.desk.proxy.listen(listen).then(
      () => journal.record('info', 'proxy', `SOCKS5 and HTTP proxy on ${where}`),
      (error: Error) => journal.record('error', 'proxy', `no proxy on ${where}: ${error.message}`),
    );
  }

  /** Some flow may have to be relayed. */
  private get mayRelay(): boolean {
    const { flows } = this.options.config();
    return [flows.default, ...flows.rules.map((r) => r.use)].some((use) => use === 'relay' || use === 'auto');
  }
}

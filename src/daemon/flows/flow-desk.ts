/**
 * What the client knows and decides about flows: rules, names, owners, and the flows that are open with what becomes of their
 * modes. It looks at them all a few times a second; the rest it does when asked.
 */
import type { FlowsConfig } from '../../config/types.js';
import type { Micros } from '../../core/base/time.js';
import type { ConnectionApi } from '../../core/engine/api.js';
import type { FlowMode } from '../../core/lanes/flow-modes.js';
import { copyAddress, type InnerView, PROTO_TCP, PROTO_UDP } from '../../core/lanes/inner-packet.js';
import { BULK, type LaneIndex, SPARSE } from '../../core/lanes/packet-lane.js';
import type { TrafficMode } from '../../core/scheduler/modes.js';
import { cgroupRoot, controlGroups, SocketOwners } from '../../native/index.js';
import { Apps } from './apps.js';
import { Bypass } from './bypass.js';
import { DialError, type FlowDecision, type FlowDialer, type FlowTarget, type FlowWay } from './contract.js';
import { DomainTable } from './domains.js';
import { FlowJudge } from './judge.js';
import { dialPlain } from './kernel-dial.js';
import { type ProxyOutbound, ProxyServer } from './proxy-server.js';
import { FlowRegistry, type FlowSource, LOOK_MS } from './registry.js';

export interface DeskHost {
  nowUs(): Micros;
  mode(): TrafficMode;
  /** `traffic.scheduler`. */
  scheduler(): string;
  /** Undefined: the way cannot be had now. */
  dialer(way: FlowWay): FlowDialer | undefined;
  isMetered(linkId: number): boolean;
  /** The server is to send so on connections of ours that it ends. */
  tellServer(modes: readonly FlowMode[]): void;
  /** What bypasses the tunnel has changed. */
  onBypassChanged(): void;
  readonly sources: readonly FlowSource[];
}

export class FlowDesk {
  readonly domains = new DomainTable();
  readonly judge: FlowJudge;
  readonly apps: Apps;
  readonly registry: FlowRegistry;
  readonly proxy: ProxyServer;
  readonly bypass: Bypass;
  private readonly owners = new SocketOwners();
  private readonly timer: NodeJS.Timeout;
  /** For the server, gathered in one look. */
  private wishes: FlowMode[] = [];

  constructor(
    config: FlowsConfig,
    private readonly host: DeskHost,
  ) {
    this.bypass = new Bypass(config);
    this.domains.onLearnt = (address, names, untilUs) => {
      if (this.bypass.learn(address, names, untilUs)) host.onBypassChanged();
    };
    const root = cgroupRoot();
    this.apps = new Apps({
      owner: (protocol, local, remote) => this.owners.find(protocol, local, remote),
      groups: () => (root === null ? new Map() : controlGroups(root)),
    });
    const ways = {
      nowUs: () => host.nowUs(),
      mode: () => host.mode(),
      hasWay: (w: FlowWay) => host.dialer(w) !== undefined,
    };
    this.judge = new FlowJudge(config, ways, this.domains, this.apps);
    this.proxy = new ProxyServer({
      nowUs: () => host.nowUs(),
      decide: (target) => this.judge.decide(target),
      dial: (target, decision, signal) => this.dial(target, decision, signal),
    });
    const steering = {
      nowUs: () => host.nowUs(),
      isMetered: (linkId: number) => host.isMetered(linkId),
      scheduler: () => host.scheduler(),
      tellPeer: (connection: ConnectionApi, scheduler: string) => this.tellPeer(connection, scheduler),
    };
    const proxied: FlowSource = { origin: 'proxy', list: () => this.proxy.list() };
    this.registry = new FlowRegistry(steering, this.judge, [...host.sources, proxied]);
    this.timer = setInterval(() => this.look(), LOOK_MS);
  }

  setConfig(config: FlowsConfig): void {
    this.judge.setConfig(config);
    this.bypass.setConfig(config);
    this.host.onBypassChanged();
  }

  /** A UDP datagram from port 53 came out of the tunnel. */
  onDnsAnswer(payload: Uint8Array): void {
    if (this.judge.wantsNames) this.domains.learn(this.host.nowUs(), payload);
  }

  /** The session has a connection (again): what was said before may not have arrived. */
  onSessionUp(): void {
    for (const { flow, scheduler } of this.registry.entries()) {
      if (flow.connection !== null && scheduler !== null) this.tellPeer(flow.connection, scheduler);
    }
    this.flushWishes();
  }

  /**
   * The lane that a rule gives to a flow of packets, for its first packet at b[o..]; null: as it behaves. UDP, and TCP that is
   * not ended here.
   */
  laneOf(b: Uint8Array, o: number, v: InnerView): LaneIndex | null {
    if (!this.judge.rules.hasPacketRules || !v.hasPorts || v.isFragment) return null;
    if (v.protocol !== PROTO_UDP && v.protocol !== PROTO_TCP) return null;
    const address = copyAddress(b, o + v.dstAt, v.family);
    const source = { address: copyAddress(b, o + v.srcAt, v.family), port: v.srcPort };
    const dscp = v.family === 4 ? b[o + 1]! >> 2 : ((b[o]! & 15) << 2) | (b[o + 1]! >> 6);
    const target: FlowTarget = { host: address.text, port: v.dstPort, address, source, dscp };
    const verdict = this.judge.decidePackets(target, v.protocol === PROTO_UDP ? 'udp' : 'tcp');
    if (verdict.rule < 0) return null;
    if (verdict.mode === 'interactive') return SPARSE;
    return verdict.mode === 'aggregate' ? BULK : null;
  }

  close(): void {
    clearInterval(this.timer);
    this.proxy.close();
    this.owners.close();
  }

  /** The far side of a flow from the proxy. What is to go as packets, or past the tunnel, is the host's to route. */
  private async dial(target: FlowTarget, { way }: FlowDecision, signal: AbortSignal): Promise<ProxyOutbound> {
    if (way === 'packet') return dialPlain(target, signal);
    const dialer = this.host.dialer(way);
    if (dialer === undefined) throw new DialError('unavailable', `there is no way ${way} now`);
    return dialer.dial(target, signal);
  }

  private look(): void {
    this.registry.look();
    this.flushWishes();
    if (this.bypass.expire(this.host.nowUs())) this.host.onBypassChanged();
  }

  private tellPeer(connection: ConnectionApi, scheduler: string): void {
    const { remoteToken, isMptcp } = connection.info();
    if (isMptcp) this.wishes.push({ token: remoteToken, scheduler });
  }

  private flushWishes(): void {
    if (this.wishes.length === 0) return;
    const wishes = this.wishes;
    this.wishes = [];
    this.host.tellServer(wishes);
  }
}

/**
 * The client's flow lane with all that belongs to it: which way a flow goes, the dialers of the ways, and their share of the
 * news of links and connections.
 */
import type { ClientConfig } from '../../config/types.js';
import type { Micros } from '../../core/base/time.js';
import type { EngineEvent } from '../../core/engine/api.js';
import type { ReceiveBatch, TunPort } from '../../core/engine/ports.js';
import type { PathEvent } from '../../core/pathman/types.js';
import { schedulerOf } from '../../core/scheduler/modes.js';
import { nodeEnv } from '../driver.js';
import type { FlowDecision, FlowDialer, FlowRules, FlowTarget, FlowWay } from './contract.js';
import { DirectDialer, type DirectHost } from './direct.js';
import { FlowLane } from './flow-lane.js';

export interface ClientFlowsOptions extends DirectHost {
  readonly tun: TunPort;
  readonly mtuBytes: number;
  config(): ClientConfig;
}

export class ClientFlows {
  readonly lane: FlowLane;
  readonly direct: DirectDialer;
  readonly dialers = new Map<FlowWay, FlowDialer>();
  rules: FlowRules = { decide: (target) => this.byDefault(target) };

  constructor(private readonly options: ClientFlowsOptions) {
    this.direct = new DirectDialer(options);
    this.dialers.set('direct', this.direct);
    this.lane = new FlowLane({
      env: nodeEnv,
      tun: options.tun,
      mtuBytes: options.mtuBytes,
      rules: { decide: (target) => this.rules.decide(target) },
      nowUs: () => options.nowUs(),
      dialer: (way) => (way === 'packet' ? undefined : this.dialers.get(way)),
      schedulerOf: (mode) => schedulerOf(mode, false, options.config().traffic.scheduler),
    });
  }

  /** Packet `i` of a batch of the TUN. True: it was taken; false: it is the packet lane's. */
  onPacket(nowUs: Micros, batch: ReceiveBatch, i: number): boolean {
    return this.lane.onPacket(nowUs, batch, i);
  }

  /** What the session's path manager is told, flows with paths of their own are told as well. */
  onPathEvent(event: PathEvent): void {
    if (event.type !== 'remote-addresses') this.direct.handle(event);
  }

  onReceived(linkId: number): void {
    this.direct.onReceived(linkId);
  }

  onEngineEvent(event: EngineEvent): void {
    this.direct.onEngineEvent(event);
  }

  /** The engine has sent what may go: connections may have room. */
  onEngineFlushed(): void {
    this.lane.onEngineFlushed();
  }

  close(): void {
    this.lane.close();
    this.direct.close();
  }

  private byDefault(_target: FlowTarget): FlowDecision {
    const { flows, traffic } = this.options.config();
    const { default: use } = flows;
    const way = use === 'auto' ? (this.dialers.has('relay') ? 'relay' : 'packet') : use;
    return { way: way === 'bypass' ? 'packet' : way, mode: traffic.mode };
  }
}

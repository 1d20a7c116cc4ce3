/**
 * The client's TUN: the device, what this host routes into it, and what becomes of the packets that come out of it: a flow
 * that is ended here (flows/), or the packet lane.
 */
import { randomInt } from 'node:crypto';
import type { CaptureConfig, TunConfig } from '../config/types.js';
import type { Family, IpAddress } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import { CSUM_PARTIAL, type ReceiveBatch } from '../core/engine/ports.js';
import { PacketLane } from '../core/lanes/packet-lane.js';
import { openTun, type Rtnetlink, type TunDevice } from '../native/index.js';
import { Capture, cleanCapture } from './capture.js';
import type { FlowDesk } from './flows/flow-desk.js';
import type { Journal } from './journal.js';
import type { HostLink } from './link-monitor.js';
import { TunLoop } from './tun-loop.js';
import { TunWriter } from './tun-writer.js';

/**
 * Of the TUN, towards us. It is drained at once, so this is no queue that anybody waits in; but a burst of new connections
 * (a thousand SYNs) must fit into it while we are busy, or the applications' TCPs back off. The kernel's default is 500.
 */
const TUN_QUEUE_PACKETS = 4_000;

export interface ClientTunOptions {
  readonly tun: TunConfig;
  readonly capture: CaptureConfig;
  readonly rt: Rtnetlink;
  readonly journal: Pick<Journal, 'record'>;
  nowUs(): Micros;
  /** A packet, lent until this returns. True: it was taken, and is none of the packet lane's. */
  onPacket(nowUs: Micros, batch: ReceiveBatch, i: number): boolean;
  /** After the last packet of an event. */
  onDrained(): void;
}

export class ClientTun {
  readonly device: TunDevice;
  readonly writer: TunWriter;
  readonly lane: PacketLane;
  private readonly index: number;
  private readonly capture: Capture;
  private readonly loop: TunLoop;

  /** Opens the device, after cleaning up what a killed run has left behind. */
  constructor(private readonly options: ClientTunOptions) {
    const { capture, journal, rt, tun } = options;
    const left = cleanCapture(rt, capture);
    if (left > 0) journal.record('warn', 'cleaned', `removed ${left} routes and rules that an earlier run left behind`);
    this.device = openTun({ name: tun.name, mode: 'tun', vnetHeader: true });
    this.index = rt.link(this.device.name)!.index;
    rt.setLink(this.index, { up: true, mtuBytes: tun.mtuBytes, queuePackets: TUN_QUEUE_PACKETS });
    this.capture = new Capture(rt, capture, this.index);
    this.capture.onRefused = (why) => journal.record('error', 'problem', `flows.rules: ${why}`);
    this.writer = new TunWriter(this.device, tun.mtuBytes);
    this.lane = new PacketLane({ mtuBytes: tun.mtuBytes, hashSeed: randomInt(2 ** 31) });
    this.loop = new TunLoop(
      this.device,
      (batch) => this.onBatch(batch),
      () => options.onDrained(),
    );
    this.writer.onWritten = () => this.loop.look();
  }

  get name(): string {
    return this.device.name;
  }

  /** The server's assignment: the device has these addresses, and takes no packets that its TUN would not. */
  setAddresses(addresses: readonly IpAddress[], peerMtuBytes: number): { mtuBytes: number } {
    const mtuBytes = Math.min(this.options.tun.mtuBytes, peerMtuBytes);
    this.options.rt.setLink(this.index, { mtuBytes });
    this.capture.setAddresses(addresses);
    return { mtuBytes };
  }

  /** Families that the server takes to the Internet. */
  setFamilies(families: readonly Family[]): void {
    this.capture.setFamilies(families);
  }

  setCapture(config: CaptureConfig): void {
    this.capture.setConfig(config);
  }

  /** Sockets that are bound to a link are not captured; nor could a route over it be found otherwise. */
  setLinks(links: readonly HostLink[]): void {
    this.capture.setLinks(links.map((l) => l.name));
  }

  /** What the rules want of packets: a lane for some, the answers of name servers for learning from. */
  applyFlowRules(desk: FlowDesk): void {
    const { rules, wantsNames } = desk.judge;
    this.lane.setLaneRule(rules.hasPacketRules ? (b, o, v) => desk.laneOf(b, o, v) : null);
    this.writer.onDnsAnswer = wantsNames ? (payload) => desk.onDnsAnswer(payload) : null;
  }

  /** What the rules let past the tunnel. */
  applyBypass(desk: FlowDesk): void {
    this.capture.setFlowRules((family) => desk.bypass.rules(family));
  }

  /** Takes no more packets: routes, rules and addresses go. */
  stop(): void {
    this.loop.close();
    this.capture.remove();
  }

  /** After `stop`. */
  close(): void {
    this.device.close();
  }

  private onBatch(batch: ReceiveBatch): void {
    const { options, lane } = this;
    const nowUs = options.nowUs();
    for (let i = 0; i < batch.count; i++) {
      if (batch.truncated[i] === 1) {
        lane.counters.droppedTruncated++;
        continue;
      }
      if (options.onPacket(nowUs, batch, i)) continue;
      const isUnfinished = batch.checksum[i] === CSUM_PARTIAL;
      lane.enqueue(nowUs, batch.slab, batch.offset[i]!, batch.length[i]!, batch.gsoSize[i]!, isUnfinished);
    }
  }
}

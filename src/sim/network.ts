/**
 * The network: hosts, wires between them, and virtual time. A discrete-event loop over one deadline per actor (a link
 * direction, a middlebox, a host) and a list of planned actions. Two runs with the same seed are the same run.
 *
 * A wire joins a link of the left host with a link of the right one; several wires may end at one link of the right
 * host (a server with one address), which then routes by destination address. Wires may share a bottleneck:
 *
 *   left ── up ── boxes ──┐                       ┌── right
 *                         ├── bottleneck.up ──────┤
 *   left ── up ── boxes ──┘                       └── right      and back: bottleneck.down, then each wire's own `down`
 */
import { type Micros, NEVER } from '../core/base/time.js';
import type { LinkInfo } from '../core/engine/api.js';
import type { TransmitBatch } from '../core/engine/ports.js';
import { DeadlineHeap } from './deadline-heap.js';
import { defaultHostOptions, type EngineFactory, Host, type HostOptions } from './host.js';
import { type LinkConfig, LinkModel, type LinkState } from './link-model.js';
import type { Heading, Middlebox, MiddleboxOut } from './middlebox.js';
import { type PacketExit, PacketPool, type SimPacket } from './packet.js';
import { Prng } from './prng.js';
import { type PacketSink, segmentPacket } from './segment.js';

export interface WireOptions {
  readonly name: string;
  readonly left: Host;
  readonly leftLinkId: number;
  readonly right: Host;
  readonly rightLinkId: number;
  /** Left to right, and right to left. */
  readonly up: Partial<LinkConfig>;
  readonly down: Partial<LinkConfig>;
  readonly middleboxes?: readonly Middlebox[];
  /**
   * The left host's own port holds the uplink's queue (SIOCOUTQ shows it, and above this many bytes the port refuses
   * packets); null: the queue is somewhere in the network, unseen.
   */
  readonly leftPortBytes?: number | null;
  /** One queue and transmitter each way that this wire shares with others. */
  readonly bottleneck?: Bottleneck | null;
}

/** A link model each way between the wires that name it and the right host. */
export interface Bottleneck {
  readonly name: string;
  readonly up: Direction;
  readonly down: Direction;
}

/** Sees every packet at every host's port, both ways. The packet is lent. */
export type Tap = (nowUs: Micros, host: Host, linkId: number, isSent: boolean, packet: SimPacket) => void;

interface Actor {
  wake(nowUs: Micros): void;
}

export class Network {
  nowUs: Micros = 0;
  readonly deadlines = new DeadlineHeap();
  readonly pool = new PacketPool();
  readonly hosts: Host[] = [];
  readonly wires: Wire[] = [];
  /** Packets that ended outside a link, by reason. */
  readonly drops: Record<string, number> = {};
  tap: Tap | null = null;
  /** Actor wake-ups so far: the simulator's own cost. */
  wakes = 0;
  private readonly actors: Actor[] = [];
  private readonly luck: Prng;
  private bottlenecks = 0;
  private planned: { atUs: Micros; action: () => void }[] = [];

  constructor(readonly seed: number) {
    this.luck = new Prng(seed);
  }

  addHost(options: Partial<HostOptions> & { name: string }, factory: EngineFactory): Host {
    const actor = this.deadlines.add();
    const host = new Host(this, actor, { ...defaultHostOptions, ...options }, factory, this.luck.u32());
    this.actors.push(host);
    this.hosts.push(host);
    return host;
  }

  connect(options: WireOptions): Wire {
    const wire = new Wire(this, options, this.luck.fork(this.wires.length + 1000));
    this.wires.push(wire);
    return wire;
  }

  addBottleneck(name: string, up: Partial<LinkConfig>, down: Partial<LinkConfig>): Bottleneck {
    const luck = this.luck.fork(2000 + this.bottlenecks++);
    const leave = (packet: SimPacket) => packet.exit!(packet);
    return { name, up: new Direction(this, up, luck.u32(), leave), down: new Direction(this, down, luck.u32(), leave) };
  }

  /** Plans `action` at an instant of virtual time; equal instants go in the order in which they were planned. */
  at(atUs: Micros, action: () => void): void {
    let i = this.planned.length;
    while (i > 0 && this.planned[i - 1]!.atUs > atUs) i--;
    this.planned.splice(i, 0, { atUs: Math.max(atUs, this.nowUs), action });
  }

  /** Runs until `untilUs`, or until `isDone` says so (asked after every instant). Returns the time reached. */
  run(untilUs: Micros, isDone: () => boolean = () => false): Micros {
    for (;;) {
      const plannedUs = this.planned.length > 0 ? this.planned[0]!.atUs : NEVER;
      const nextUs = Math.min(plannedUs, this.deadlines.firstUs);
      if (nextUs > untilUs) break;
      if (nextUs > this.nowUs) {
        if (isDone()) return this.nowUs;
        this.nowUs = nextUs;
      }
      if (plannedUs <= nextUs) {
        this.planned.shift()!.action();
        continue;
      }
      const actor = this.deadlines.first;
      this.wakes++;
      this.actors[actor]!.wake(nextUs);
    }
    if (untilUs !== NEVER) this.nowUs = untilUs;
    return this.nowUs;
  }

  register(actor: Actor): number {
    this.actors.push(actor);
    return this.deadlines.add();
  }

  /** A host's port takes one packet of a batch. False: not now. */
  transmit(host: Host, linkId: number, batch: TransmitBatch, index: number): boolean {
    const link = host.links.get(linkId);
    if (link !== undefined && this.isPortFull(host, linkId)) return false;
    this.sendingHost = host;
    this.sendingLink = linkId;
    segmentPacket(batch, index, this.pool, this.segmentSink, host.options.passWhole);
    return true;
  }

  localQueueBytes(host: Host, linkId: number): number {
    for (const wire of this.wires)
      if (wire.options.left === host && wire.options.leftLinkId === linkId && wire.options.leftPortBytes != null)
        return wire.up.model.queuedBytes;
    return 0;
  }

  countDrop(packet: SimPacket, reason: string): void {
    this.drops[reason] = (this.drops[reason] ?? 0) + 1;
    this.pool.release(packet);
  }

  private sendingHost: Host | null = null;
  private sendingLink = 0;
  private readonly segmentSink: PacketSink = {
    onPacket: (packet) => this.route(this.sendingHost!, this.sendingLink, packet),
  };

  private isPortFull(host: Host, linkId: number): boolean {
    for (const wire of this.wires) {
      const { left, leftLinkId, leftPortBytes } = wire.options;
      if (left === host && leftLinkId === linkId && leftPortBytes != null)
        return wire.up.model.queuedBytes > leftPortBytes;
    }
    return false;
  }

  private route(host: Host, linkId: number, packet: SimPacket): void {
    if (this.tap !== null) this.tap(this.nowUs, host, linkId, true, packet);
    for (const wire of this.wires) {
      const o = wire.options;
      if (o.left === host && o.leftLinkId === linkId) {
        wire.sendRight(packet);
        return;
      }
      if (o.right === host && o.rightLinkId === linkId && wire.reachesLeft(packet)) {
        wire.sendLeft(packet);
        return;
      }
    }
    this.countDrop(packet, 'no-route');
  }
}

/** Two link models and a chain of middleboxes between two hosts. */
export class Wire {
  readonly up: Direction;
  readonly down: Direction;
  private readonly boxes: readonly Middlebox[];
  private readonly outs: MiddleboxOut[];
  private readonly boxActors: number[];
  /** Raw bytes of addresses at the left end; refreshed when they change. */
  private leftAddresses: readonly Uint8Array[] = [];
  private leftInfo: LinkInfo | undefined;
  private readonly toRight: PacketExit = (packet) => this.arrive(packet, 'right');
  private readonly toLeft: PacketExit = (packet) => this.down.enqueue(packet);
  private readonly fromRight: PacketExit = (packet) => this.pass(this.boxes.length - 1, packet, 'left');

  constructor(
    private readonly network: Network,
    readonly options: WireOptions,
    luck: Prng,
  ) {
    this.boxes = options.middleboxes ?? [];
    this.up = new Direction(network, options.up, luck.u32(), (packet) => this.pass(0, packet, 'right'));
    this.up.sender = options.left;
    this.down = new Direction(network, options.down, luck.u32(), (packet) => this.arrive(packet, 'left'));
    this.outs = this.boxes.map((_, index) => ({
      pool: network.pool,
      forward: (packet: SimPacket, heading: Heading) =>
        this.pass(heading === 'right' ? index + 1 : index - 1, packet, heading),
      drop: (packet: SimPacket, reason: string) => network.countDrop(packet, reason),
    }));
    this.boxActors = this.boxes.map((box, index) =>
      box.nextDeadline === undefined
        ? -1
        : network.register({
            wake: (nowUs) => {
              box.onTimer?.(nowUs, this.outs[index]!);
              this.armBox(index);
            },
          }),
    );
  }

  get name(): string {
    return this.options.name;
  }

  setState(state: LinkState): void {
    this.up.setState(state);
    this.down.setState(state);
  }

  sendRight(packet: SimPacket): void {
    this.up.enqueue(packet);
  }

  sendLeft(packet: SimPacket): void {
    this.cross(this.options.bottleneck?.down, packet, this.fromRight);
  }

  /** True if the packet's destination is an address of the left end, translated ones included. */
  reachesLeft(packet: SimPacket): boolean {
    const { left, leftLinkId } = this.options;
    const info = left.links.get(leftLinkId);
    if (info !== this.leftInfo) {
      this.leftInfo = info;
      this.leftAddresses = (info?.addresses ?? []).map((a) => a.bytes);
    }
    const at = packet.destinationOffset;
    for (const bytes of this.leftAddresses) if (equalAt(bytes, packet, at)) return true;
    for (const box of this.boxes)
      if (box.publicAddresses?.().some((bytes) => equalAt(bytes, packet, at)) === true) return true;
    return false;
  }

  private pass(index: number, packet: SimPacket, heading: Heading): void {
    if (index >= 0 && index < this.boxes.length) {
      this.boxes[index]!.process(this.network.nowUs, heading, packet, this.outs[index]!);
      this.armBox(index);
    } else if (heading === 'right') this.cross(this.options.bottleneck?.up, packet, this.toRight);
    else this.toLeft(packet);
  }

  private cross(shared: Direction | undefined, packet: SimPacket, exit: PacketExit): void {
    if (shared === undefined) {
      exit(packet);
      return;
    }
    packet.exit = exit;
    shared.enqueue(packet);
  }

  private armBox(index: number): void {
    const actor = this.boxActors[index]!;
    if (actor >= 0) this.network.deadlines.set(actor, this.boxes[index]!.nextDeadline!());
  }

  private arrive(packet: SimPacket, heading: Heading): void {
    const o = this.options;
    const host = heading === 'right' ? o.right : o.left;
    const linkId = heading === 'right' ? o.rightLinkId : o.leftLinkId;
    if (this.network.tap !== null) this.network.tap(this.network.nowUs, host, linkId, false, packet);
    host.receive(packet, linkId);
  }
}

/** A link model as an actor of the network. */
export class Direction {
  readonly model: LinkModel<SimPacket>;
  /** Whose port the queue is, if anybody's. */
  sender: Host | null = null;
  private readonly actor: number;

  constructor(
    private readonly network: Network,
    config: Partial<LinkConfig>,
    seed: number,
    private readonly deliver: (packet: SimPacket) => void,
  ) {
    this.model = new LinkModel(config, seed, (packet) => network.pool.release(packet));
    this.actor = network.register(this);
  }

  enqueue(packet: SimPacket): void {
    this.model.enqueue(this.network.nowUs, packet.length, packet);
    this.arm();
  }

  configure(changes: Partial<LinkConfig>): void {
    this.model.configure(this.network.nowUs, changes);
    this.arm();
  }

  setState(state: LinkState): void {
    this.model.setState(this.network.nowUs, state);
    this.arm();
  }

  wake(nowUs: Micros): void {
    for (let packet = this.model.poll(nowUs); packet !== undefined; packet = this.model.poll(nowUs))
      this.deliver(packet);
    this.arm();
    this.sender?.onWritable();
  }

  private arm(): void {
    this.network.deadlines.set(this.actor, this.model.nextDeadline());
  }
}

function equalAt(bytes: Uint8Array, packet: SimPacket, at: number): boolean {
  if (bytes.length !== packet.addressBytes) return false;
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== packet.buf[at + i]) return false;
  return true;
}

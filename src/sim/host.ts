/**
 * A host: one engine and its links. It does what a driver does, in virtual time: hands received packets up in batches,
 * calls onTimer at the deadline, flushes after every input, and arms its one timer again.
 */
import type { CoreEnv } from '../core/base/env.js';
import { type Micros, NEVER } from '../core/base/time.js';
import type { Edge, EngineApi, EngineEvent, LinkInfo } from '../core/engine/api.js';
import type { TransmitBatch } from '../core/engine/ports.js';
import { SeededEnv } from './env.js';
import type { Network } from './network.js';
import type { SimPacket } from './packet.js';
import { Receiver } from './receive.js';

export interface HostOptions {
  readonly name: string;
  /** Merge in-order segments on receipt, as GRO does. */
  readonly gro: boolean;
  /** Interrupt moderation: received packets wait up to this long for company. */
  readonly interruptUs: Micros;
  /** The timer fires up to this late: deadlines are rounded up to multiples of it. */
  readonly timerSlackUs: Micros;
  /** Super-packets leave whole, as over veth; else they are cut into segments. */
  readonly passWhole: boolean;
}

export const defaultHostOptions: Omit<HostOptions, 'name'> = Object.freeze({
  gro: true,
  interruptUs: 0,
  timerSlackUs: 0,
  passWhole: false,
});

export type EngineFactory = (env: CoreEnv, host: Host) => EngineApi;

/** Packets that may wait for a host's interrupt; more are dropped and counted, as by a full receive ring. */
export const MAX_PENDING_PACKETS = 65_536;
/** Wake-ups at one instant without a packet moving: the engine asks for a deadline that it does not serve. */
const MAX_IDLE_WAKES = 200;
/** Rounds of events whose handlers cause more events, at one instant. */
const MAX_EVENT_ROUNDS = 100;

export class Host implements Edge {
  readonly name: string;
  readonly env: CoreEnv;
  readonly engine: EngineApi;
  readonly links = new Map<number, LinkInfo>();
  /** Called for each engine event, inside the host's wake-up; it may call the engine. */
  onEvent: ((nowUs: Micros, event: EngineEvent) => void) | null = null;
  packetsReceived = 0;
  pendingDrops = 0;
  private clockShiftUs: Micros = 0;
  private suspended = false;
  private readonly receiver: Receiver;
  private pending: SimPacket[] = [];
  private interruptAtUs: Micros = NEVER;
  private idleWakes = 0;
  private lastWakeUs: Micros = -1;
  private packetsSent = 0;
  private packetsSeen = 0;
  /** Its port refused a packet: flush again when the link has room. */
  private isBlocked = false;

  constructor(
    private readonly network: Network,
    readonly actor: number,
    readonly options: HostOptions,
    factory: EngineFactory,
    seed: number,
  ) {
    this.name = options.name;
    this.env = new SeededEnv(seed);
    this.receiver = new Receiver(options.gro);
    this.engine = factory(this.env, this);
  }

  /** This host's clock. */
  get nowUs(): Micros {
    return this.network.nowUs + this.clockShiftUs;
  }

  get isSuspended(): boolean {
    return this.suspended;
  }

  /** The machine sleeps: nothing runs, what arrives is lost. */
  suspend(): void {
    this.suspended = true;
    for (const packet of this.pending.splice(0)) this.network.pool.release(packet);
    this.interruptAtUs = NEVER;
    this.network.deadlines.set(this.actor, NEVER);
  }

  /** It goes on, and its clock has jumped ahead by so much more than the time that it slept. */
  wakeUp(clockJumpUs: Micros): void {
    this.suspended = false;
    this.clockShiftUs += clockJumpUs;
    this.poke();
  }

  /** When the network must act for this host to have acted at `atUs` of its own clock. */
  toNetworkUs(atUs: Micros): Micros {
    return atUs === NEVER ? NEVER : Math.max(atUs - this.clockShiftUs, this.network.nowUs);
  }

  addLink(link: LinkInfo): void {
    this.links.set(link.id, link);
    this.engine.addLink(this.nowUs, link);
    this.poke();
  }

  /** The driver learns from the system that a link changed (carrier, addresses). */
  updateLink(linkId: number, changes: Partial<LinkInfo>): void {
    const link = { ...this.links.get(linkId)!, ...changes };
    this.links.set(linkId, link);
    this.engine.updateLink(this.nowUs, link);
    this.poke();
  }

  /** To be called after any call into the engine from outside a wake-up: it runs at this instant. */
  poke(): void {
    this.network.deadlines.set(this.actor, this.network.nowUs);
  }

  /** A packet arrives; it is handed up at the next interrupt. */
  receive(packet: SimPacket, linkId: number): void {
    if (this.pending.length >= MAX_PENDING_PACKETS || this.suspended) {
      this.pendingDrops++;
      this.network.pool.release(packet);
      return;
    }
    packet.linkId = linkId;
    this.pending.push(packet);
    this.packetsReceived++;
    if (this.pending.length > 1) return;
    this.interruptAtUs = this.network.nowUs + this.options.interruptUs;
    if (this.interruptAtUs < this.network.deadlines.get(this.actor))
      this.network.deadlines.set(this.actor, this.interruptAtUs);
  }

  /** A link of this host has room again. */
  onWritable(): void {
    if (this.isBlocked) this.poke();
  }

  wake(networkUs: Micros): void {
    if (this.suspended) {
      this.network.deadlines.set(this.actor, NEVER);
      return;
    }
    const engine = this.engine;
    const nowUs = networkUs + this.clockShiftUs;
    if (networkUs >= this.interruptAtUs) this.handUp(nowUs);
    if (engine.nextDeadline() <= nowUs) engine.onTimer(nowUs);
    this.isBlocked = false;
    engine.flush(nowUs, this);
    for (let round = 0; this.drainEvents(nowUs); round++) {
      if (round === MAX_EVENT_ROUNDS) throw new Error(`host ${this.name}: events without end at ${nowUs} us`);
      engine.flush(nowUs, this);
    }
    this.network.deadlines.set(this.actor, Math.min(this.timerUs(engine.nextDeadline()), this.interruptAtUs));
    this.watchForLivelock(nowUs);
  }

  /** Edge: one packet after the other onto the wire, until a bounded local queue is full. */
  send(linkId: number, batch: TransmitBatch, from: number): number {
    let taken = 0;
    for (let i = from; i < batch.count; i++, taken++) {
      if (!this.network.transmit(this, linkId, batch, i)) {
        this.isBlocked = true;
        break;
      }
    }
    this.packetsSent += taken;
    return taken;
  }

  queuedBytes(linkId: number): number {
    return this.network.localQueueBytes(this, linkId);
  }

  private handUp(nowUs: Micros): void {
    const packets = this.pending;
    this.pending = [];
    this.interruptAtUs = NEVER;
    const receiver = this.receiver;
    for (let i = 0; i < packets.length; ) {
      const linkId = packets[i]!.linkId;
      receiver.clear();
      while (i < packets.length && packets[i]!.linkId === linkId && receiver.add(packets[i]!)) {
        this.network.pool.release(packets[i]!);
        i++;
      }
      this.engine.onPackets(nowUs, linkId, receiver.batch);
    }
  }

  private drainEvents(nowUs: Micros): boolean {
    let any = false;
    for (let event = this.engine.pollEvent(); event !== undefined; event = this.engine.pollEvent()) {
      any = true;
      this.onEvent?.(nowUs, event);
    }
    return any && this.onEvent !== null;
  }

  private timerUs(deadlineUs: Micros): Micros {
    const slackUs = this.options.timerSlackUs;
    if (deadlineUs === NEVER) return NEVER;
    if (!Number.isSafeInteger(deadlineUs))
      throw new Error(`host ${this.name}: the deadline is not in whole microseconds: ${deadlineUs}`);
    const atUs = this.toNetworkUs(deadlineUs);
    return slackUs > 0 ? Math.ceil(atUs / slackUs) * slackUs : atUs;
  }

  private watchForLivelock(nowUs: Micros): void {
    const moved = this.packetsSent + this.packetsReceived;
    if (nowUs > this.lastWakeUs || moved > this.packetsSeen) this.idleWakes = 0;
    else if (++this.idleWakes > MAX_IDLE_WAKES)
      throw new Error(
        `host ${this.name}: livelock at ${nowUs} us: deadline ${this.engine.nextDeadline()} is never served`,
      );
    this.lastWakeUs = nowUs;
    this.packetsSeen = moved;
  }
}

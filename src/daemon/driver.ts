/**
 * The driver of one engine: packet ports and the guard below, one timer, one flush. Every input ends in `flushSoon` (the
 * engine asks for it by itself where something is to be sent); the flush itself runs once at the end of the tick, so that
 * everything that arrived together is answered together:
 *
 *   packets in / timer / application  →  flushSoon  →  flush: engine.flush, events, onFlushed (which may write more)
 */
import { createHash, createHmac, randomFillSync } from 'node:crypto';
import type { CoreEnv } from '../core/base/env.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi, Edge, EngineApi, EngineEvent, LinkInfo } from '../core/engine/api.js';
import type { EngineConfig } from '../core/engine/config.js';
import { Engine } from '../core/engine/engine.js';
import { type PortGuard, ReceiveBatch } from '../core/engine/ports.js';
import {
  DeadlineTimer,
  GuardPool,
  GuardTable,
  monotonicUs,
  openPacketPort,
  PACKET_SLOT_BYTES,
  type PacketSocketPort,
  Poller,
  READABLE,
} from '../native/index.js';
import { ConnectionDuplex } from './duplex.js';

/** Packets per receive call, and calls per readiness event: then the loop sees to the other links. */
const SLOTS = 32;
const RECEIVE_ROUNDS = 8;
/** Flushes in a row while applications write more from within. */
const FLUSH_ROUNDS = 8;
const SWEEP_MS = 5_000;

interface OpenLink {
  info: LinkInfo;
  readonly port: PacketSocketPort;
  readonly poller: Poller;
  hostDrops: number;
}

export interface DriverEvents {
  onEvent(event: EngineEvent): void;
  /** After each flush: what was acknowledged, and what may be written now, has changed. */
  onFlushed(): void;
  /** Packets came in over a link: once for all that one readiness of its port brought. */
  onReceived(linkId: number): void;
  /** A link could not be opened, or the guard has a problem: for people. */
  onProblem(message: string): void;
}

export class Driver implements Edge {
  readonly engine: EngineApi;
  private readonly links = new Map<number, OpenLink>();
  private readonly guards: GuardPool;
  private readonly table: GuardTable;
  private readonly timer: DeadlineTimer;
  private readonly sweep: NodeJS.Timeout;
  private readonly streams = new Map<number, ConnectionDuplex>();
  private readonly batch = new ReceiveBatch(SLOTS, PACKET_SLOT_BYTES);
  private isScheduled = false;
  private isFlushing = false;
  private isClosed = false;

  /** `name` is the tunnel's: it names the guard table. */
  constructor(
    name: string,
    config: Partial<EngineConfig>,
    private readonly events: DriverEvents,
  ) {
    this.engine = new Engine(nodeEnv, config, () => this.flushSoon());
    this.table = new GuardTable(name);
    this.guards = new GuardPool((ports) => this.onPorts(ports));
    this.timer = new DeadlineTimer(() => {
      this.isScheduled = true;
      this.engine.onTimer(this.nowUs());
      this.flush();
    });
    this.sweep = setInterval(() => this.guards.sweep(), SWEEP_MS);
  }

  nowUs(): Micros {
    return monotonicUs();
  }

  /** Opens a port on the link. A link that cannot be opened is reported, and tried again by `updateLink`. */
  addLink(info: LinkInfo): void {
    if (this.links.has(info.id)) {
      this.updateLink(info);
      return;
    }
    try {
      this.openLink(info);
    } catch (error) {
      this.events.onProblem(`cannot use ${info.name}: ${(error as Error).message}`);
    }
  }

  /** As `addLink`, for a link that is new; throws SystemError where it cannot be opened. */
  openLink(info: LinkInfo): void {
    const port = openPacketPort({
      interfaceName: info.name,
      ports: this.guards.ports(),
      onWritable: () => this.flushSoon(),
    });
    const poller = new Poller(port.fd, () => this.receive(info.id));
    poller.watch(READABLE);
    this.links.set(info.id, { info, port, poller, hostDrops: 0 });
    this.engine.addLink(this.nowUs(), info);
    this.setGuardedInterfaces();
  }

  updateLink(info: LinkInfo): void {
    const link = this.links.get(info.id);
    if (link === undefined) {
      this.addLink(info);
      return;
    }
    link.info = info;
    this.engine.updateLink(this.nowUs(), info);
  }

  removeLink(id: number): void {
    const link = this.links.get(id);
    if (link === undefined) return;
    this.links.delete(id);
    link.poller.close();
    link.port.close();
    this.engine.removeLink(this.nowUs(), id);
    this.setGuardedInterfaces();
  }

  /** Packets that the host dropped on this link because our receive buffer was full; not network loss. */
  hostDrops(id: number): number {
    const link = this.links.get(id);
    if (link === undefined) return 0;
    link.hostDrops += link.port.takeDrops();
    return link.hostDrops;
  }

  /** Keeps the host silent on a port (0: a free one). Wait for `guarded` before using it. */
  acquirePort(port: number): PortGuard {
    return this.guards.acquire(port);
  }

  /** Resolves when the guard stands. */
  guarded(): Promise<void> {
    return this.table.settled();
  }

  /** Why connections may be broken by the host's firewall, or ''. */
  get guardProblem(): string {
    return this.table.problem;
  }

  /** The connection as a Duplex; closed with it. */
  openStream(connection: ConnectionApi): ConnectionDuplex {
    return this.attach(connection.id, new ConnectionDuplex(connection, this));
  }

  /** `stream` is told when the connection has closed. */
  attach<T extends ConnectionDuplex>(connectionId: number, stream: T): T {
    this.streams.set(connectionId, stream);
    return stream;
  }

  flushSoon(): void {
    if (this.isScheduled || this.isFlushing) {
      this.isScheduled = true;
      return;
    }
    this.isScheduled = true;
    process.nextTick(() => this.flush());
  }

  /** Sends what may go, tells what happened, and re-arms the timer. */
  flush(): void {
    if (this.isFlushing || this.isClosed) return;
    this.isFlushing = true;
    let rounds = 0;
    do {
      this.isScheduled = false;
      this.engine.flush(this.nowUs(), this);
      for (let event = this.engine.pollEvent(); event !== undefined; event = this.engine.pollEvent()) {
        this.onEvent(event);
      }
      this.events.onFlushed();
    } while (this.isScheduled && ++rounds < FLUSH_ROUNDS);
    this.isFlushing = false;
    if (this.isScheduled) {
      this.isScheduled = false;
      this.flushSoon();
    }
    this.timer.set(this.engine.nextDeadline());
  }

  close(): void {
    // What closing connections still have to say goes out first.
    this.flush();
    this.isClosed = true;
    clearInterval(this.sweep);
    this.timer.close();
    for (const link of this.links.values()) {
      link.poller.close();
      link.port.close();
    }
    this.links.clear();
    this.guards.close();
    this.table.close();
  }

  // Edge.
  send(linkId: number, batch: Parameters<Edge['send']>[1], from: number): number {
    const link = this.links.get(linkId);
    // A link that is gone takes everything: holding it back would block the batch for ever.
    return link === undefined ? batch.count - from : link.port.send(batch, from);
  }

  queuedBytes(linkId: number): number {
    return this.links.get(linkId)?.port.queuedBytes() ?? 0;
  }

  private receive(linkId: number): void {
    const link = this.links.get(linkId);
    if (link === undefined) return;
    for (let round = 0; round < RECEIVE_ROUNDS; round++) {
      const count = link.port.receive(this.batch);
      if (count === 0) break;
      if (round === 0) this.events.onReceived(linkId);
      this.engine.onPackets(this.nowUs(), linkId, this.batch);
      if (count < SLOTS) break;
    }
    // Not at once: what came out of the tunnel goes into the TUN first, and waits for no acknowledgment of ours.
    this.flushSoon();
  }

  private onEvent(event: EngineEvent): void {
    if (event.type === 'connection-closed') {
      this.streams.get(event.connectionId)?.onConnectionClosed(event.why);
      this.streams.delete(event.connectionId);
    }
    this.events.onEvent(event);
  }

  private onPorts(ports: ReadonlySet<number>): void {
    for (const { port } of this.links.values()) port.setPorts(ports);
    this.table.setPorts(ports);
  }

  private setGuardedInterfaces(): void {
    this.table.setInterfaces([...this.links.values()].map(({ info }) => ({ name: info.name, index: info.id })));
  }
}

/** Luck and hashes of a real host. */
export const nodeEnv: CoreEnv = {
  randomBytes: (out) => void randomFillSync(out),
  sha256: (data) => createHash('sha256').update(data).digest(),
  hmacSha256: (key, data) => createHmac('sha256', key).update(data).digest(),
};

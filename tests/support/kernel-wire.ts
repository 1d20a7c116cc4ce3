/**
 * Our engine against a kernel MPTCP application, with the simulator's middleboxes on the real packets between them:
 *
 *   engine (this process) ── boxes ── TUN b1 10.1.0.2 ╗
 *   10.1.0.1, 10.2.0.1    ── boxes ── TUN b2 10.2.0.2 ╩ a namespace with the application in it
 *
 * The devices have no offloads, so the kernel's segments cross the boxes as they would cross a router. The engine is the
 * left host.
 */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseIp } from '../../src/core/base/ip.js';
import { type Micros, NEVER } from '../../src/core/base/time.js';
import type { ConnectionApi, ConnectionInfo, Edge, EngineEvent } from '../../src/core/engine/api.js';
import { Engine } from '../../src/core/engine/engine.js';
import { CSUM_UNKNOWN, CSUM_VALID, ReceiveBatch, type TransmitBatch } from '../../src/core/engine/ports.js';
import {
  DeadlineTimer,
  inNamespace,
  monotonicUs,
  openTun,
  Poller,
  READABLE,
  type TunDevice,
} from '../../src/native/index.js';
import type { Heading, Middlebox, MiddleboxOut } from '../../src/sim/middlebox.js';
import { PacketPool, type SimPacket } from '../../src/sim/packet.js';
import { Receiver } from '../../src/sim/receive.js';
import { segmentPacket } from '../../src/sim/segment.js';
import type { PeerReport } from './kernel-peer.js';
import { BYTES, type MiddleboxCase } from './middlebox-cases.js';
import { TestNamespace } from './netns.js';
import { nodeEnv } from './node-env.js';
import { Collector, streamOf } from './through-boxes.js';

const PEER = fileURLToPath(new URL('./kernel-peer.js', import.meta.url));
const PATHS = 2;
const SLOTS = 64;
const SLOT_BYTES = 9_216;
/** For connecting and the transfer itself, on a busy machine. */
const TRANSFER_MS = 8_000;
const JOIN_RETRY_MS = 5;
/** Sent by either before the second path is there, which needs proof that the first works; and how long to wait for it. */
const FIRST_BYTES = 1_000;
const PATIENCE_MS = 300;
/** What a connection that cannot go on is given to show it. */
const BROKEN_MS = 1_500;

export interface KernelOutcome {
  /** What we received, and our side's end of it. */
  readonly received: Uint8Array;
  readonly hasEnded: boolean;
  readonly info: ConnectionInfo | null;
  readonly counters: Readonly<Record<string, number>>;
  readonly events: readonly EngineEvent[];
  /** What the application received. */
  readonly peer: PeerReport;
  /** MPTcpExt counters of the kernel, as far as they moved, without the prefix. */
  readonly kernel: Readonly<Record<string, number>>;
  readonly ms: number;
}

export class KernelLab {
  readonly kernel: TestNamespace;
  private readonly tuns: TunDevice[];
  private readonly peer: ChildProcess;
  private readonly waiting = new Map<string, (line: never) => void>();
  private nextId = 1;

  constructor(label: string) {
    this.kernel = new TestNamespace(label);
    const { kernel } = this;
    kernel.run('sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0');
    this.tuns = Array.from({ length: PATHS }, (_, i) => {
      const name = `b${i + 1}`;
      const tun = inNamespace(kernel.name, () => openTun({ name, mode: 'tun', vnetHeader: false }));
      // Segments that boxes have glued together are longer than 1500 bytes.
      kernel.ip('link', 'set', name, 'up', 'mtu', '9000', 'txqueuelen', '10000');
      kernel.ip('addr', 'add', `10.${i + 1}.0.2/24`, 'dev', name);
      kernel.ip('route', 'add', 'default', 'dev', name, 'metric', String(i + 1));
      return tun;
    });
    kernel.ip('route', 'add', '203.0.113.2', 'dev', 'b2');
    kernel.ip('mptcp', 'limits', 'set', 'subflows', '2', 'add_addr_accepted', '0');
    this.peer = kernel.spawn('mptcpize', 'run', 'node', PEER);
    createInterface({ input: this.peer.stdout! }).on('line', (text) => {
      const line = JSON.parse(text) as { id: number; ready?: boolean };
      this.waiting.get(`${line.id} ${line.ready === true ? 'ready' : 'report'}`)?.(line as never);
    });
  }

  close(): void {
    for (const tun of this.tuns) tun.close();
    this.kernel.close();
  }

  /** One connection through the case's boxes, our engine in the given role. `isBroken`: it will not come to an end. */
  async run(what: MiddleboxCase, role: 'client' | 'server', isBroken: boolean): Promise<KernelOutcome> {
    const { paths = 1, checksum = [false, false], bytes = BYTES, slackUs = 0 } = what;
    const { kernel } = this;
    // Linux that has said DATA_FIN takes no more joins, and, should it fall back, never tells its application of our FIN
    // (decision 7).
    const isPolite = what.altered !== undefined || paths === 2;
    const isKernelSumming = role === 'client' ? checksum[1] : checksum[0];
    kernel.run('sysctl', '-qw', `net.mptcp.checksum_enabled=${isKernelSumming ? 1 : 0}`);
    kernel.ip('mptcp', 'endpoint', 'flush');
    if (role === 'server' && paths === 2) kernel.ip('mptcp', 'endpoint', 'add', '10.2.0.2', 'dev', 'b2', 'subflow');
    const before = this.counters();
    const id = this.nextId++;
    const port = 5000 + id;
    const startedAt = performance.now();
    const session = new Session(this.tuns, what, role, port, bytes);
    try {
      const report = this.line<PeerReport>(id, 'report');
      const request = { port, bytes, isPolite, firstBytes: paths === 2 ? FIRST_BYTES : bytes };
      if (role === 'client') {
        const ready = this.line(id, 'ready');
        this.ask({ id, host: null, ...request });
        await ready;
        session.connect();
      } else this.ask({ id, host: what.dial ?? '10.1.0.1', ...request });
      const limitMs = isBroken ? BROKEN_MS : TRANSFER_MS + slackUs / 1000;
      const timer = setTimeout(() => {
        session.stop();
        this.ask({ id, drop: true });
      }, limitMs);
      await session.ended;
      const peer = await report;
      clearTimeout(timer);
      const ms = performance.now() - startedAt;
      return { ...session.outcome(), peer, kernel: difference(before, this.counters()), ms };
    } finally {
      session.close();
    }
  }

  private ask(request: object): void {
    this.peer.stdin!.write(`${JSON.stringify(request)}\n`);
  }

  private line<T>(id: number, kind: 'ready' | 'report'): Promise<T> {
    return new Promise((resolve) => this.waiting.set(`${id} ${kind}`, resolve));
  }

  private counters(): Record<string, number> {
    const { kernel } = JSON.parse(this.kernel.run('nstat', '-as', '--json')) as { kernel: Record<string, number> };
    return kernel;
  }
}

/** One engine, its wires, and one connection. */
class Session implements Edge {
  readonly ended: Promise<void>;
  private readonly engine = new Engine(nodeEnv);
  private readonly wires: Wire[];
  private readonly timer = new DeadlineTimer(() => this.pump());
  private readonly reader = new Collector();
  private readonly events: EngineEvent[] = [];
  private connection: ConnectionApi | null = null;
  private finish: () => void = () => undefined;
  private retry: NodeJS.Timeout | null = null;
  private isPumping = false;
  /** With two paths most of the data (the peer's as well) waits for the second one, or until it is clear that it will not come. */
  private sendRest: () => void = () => undefined;
  private patience: NodeJS.Timeout | null = null;

  constructor(
    tuns: readonly TunDevice[],
    private readonly what: MiddleboxCase,
    role: 'client' | 'server',
    private readonly port: number,
    private readonly bytes: number,
  ) {
    this.ended = new Promise((resolve) => {
      this.finish = resolve;
    });
    const ways =
      role === 'client'
        ? ({ toServer: 'right', toClient: 'left' } as const)
        : ({ toServer: 'left', toClient: 'right' } as const);
    const nowUs = monotonicUs();
    this.wires = tuns.map((tun, i) => {
      const [us, them] = [`10.${i + 1}.0.1`, `10.${i + 1}.0.2`];
      const addresses = role === 'client' ? { client: us, server: them } : { client: them, server: us };
      this.engine.addLink(nowUs, { id: i, name: tun.name, mtuBytes: 1500, addresses: [parseIp(us)], isUp: true });
      return new Wire(tun, what.boxes(ways, i, addresses), () => this.pump());
    });
    const { checksum = [false, false] } = what;
    if (role === 'server') {
      this.engine.listen({ port, checksum: checksum[1], onAccept: (connection) => this.adopt(connection) });
    }
  }

  connect(): void {
    const { checksum = [false, false], dial = '10.1.0.2' } = this.what;
    this.adopt(
      this.engine.connect(monotonicUs(), {
        linkId: 0,
        localAddress: parseIp('10.1.0.1'),
        localPort: 40_000,
        remote: { address: parseIp(dial), port: this.port },
        checksum: checksum[0],
      }),
    );
    this.pump();
  }

  stop(): void {
    this.finish();
  }

  close(): void {
    if (this.retry !== null) clearTimeout(this.retry);
    if (this.patience !== null) clearTimeout(this.patience);
    this.connection?.abort(monotonicUs());
    this.pump();
    this.timer.close();
    for (const wire of this.wires) wire.close();
  }

  outcome() {
    return {
      received: this.reader.bytes,
      hasEnded: this.reader.hasEnded,
      info: this.connection?.info() ?? null,
      counters: this.engine.counters(),
      events: this.events,
    };
  }

  // Edge.
  send(linkId: number, batch: TransmitBatch, from: number): number {
    for (let i = from; i < batch.count; i++) segmentPacket(batch, i, this.wires[linkId]!.pool, this.wires[linkId]!);
    return batch.count - from;
  }

  queuedBytes(): number {
    return 0;
  }

  private adopt(connection: ConnectionApi): void {
    this.connection = connection;
    connection.setReader(this.reader);
    const all = streamOf('client', this.bytes);
    const firstBytes = this.what.paths === 2 ? FIRST_BYTES : this.bytes;
    connection.write(monotonicUs(), all.subarray(0, firstBytes));
    this.sendRest = () => {
      this.sendRest = () => undefined;
      connection.write(monotonicUs(), all.subarray(firstBytes));
      connection.end(monotonicUs());
      setImmediate(() => this.pump());
    };
    if (this.what.paths !== 2) this.sendRest();
    else this.patience = setTimeout(() => this.sendRest(), PATIENCE_MS);
  }

  /** Everything that is due: packets in, boxes' timers, the engine's, packets out. */
  private pump(): void {
    if (this.isPumping) return;
    this.isPumping = true;
    for (const [linkId, wire] of this.wires.entries()) {
      wire.runBoxes();
      wire.handUp((batch) => this.engine.onPackets(monotonicUs(), linkId, batch));
    }
    const nowUs = monotonicUs();
    if (this.engine.nextDeadline() <= nowUs) this.engine.onTimer(nowUs);
    this.engine.flush(nowUs, this);
    for (let event = this.engine.pollEvent(); event !== undefined; event = this.engine.pollEvent()) this.onEvent(event);
    this.isPumping = false;
    let deadlineUs = this.engine.nextDeadline();
    for (const wire of this.wires) deadlineUs = Math.min(deadlineUs, wire.nextDeadline());
    this.timer.set(deadlineUs);
  }

  private onEvent(event: EngineEvent): void {
    this.events.push(event);
    // A join that lost its option on the way is a connection of its own, which the peer resets.
    if (event.type === 'connection-closed' && event.connectionId === this.connection?.id) this.finish();
    if (event.type === 'connection-established' && this.retry === null) this.join();
    if (event.type === 'subflow-established' && event.subflowId > 0) this.sendRest();
  }

  /** As soon as the peer is known to have our key. */
  private join(): void {
    if (this.what.paths !== 2 || this.connection?.isMptcp !== true || this.engine.connections()[0]?.state === 'closed')
      return;
    const id = this.connection.join(monotonicUs(), {
      linkId: 1,
      localAddress: parseIp('10.2.0.1'),
      remote: { address: parseIp('10.2.0.2'), port: this.port },
    });
    if (id < 0) this.retry = setTimeout(() => this.join(), JOIN_RETRY_MS);
    else setImmediate(() => this.pump());
  }
}

/** A TUN device behind a chain of boxes: 'right' goes into it. */
class Wire {
  readonly pool = new PacketPool();
  private readonly receiver = new Receiver(true);
  private readonly inbox = new ReceiveBatch(SLOTS, SLOT_BYTES);
  private readonly outs: MiddleboxOut[];
  private readonly arrived: SimPacket[] = [];
  private readonly poller: Poller;

  constructor(
    private readonly tun: TunDevice,
    private readonly boxes: readonly Middlebox[],
    onReadable: () => void,
  ) {
    this.outs = boxes.map((_, index) => ({
      pool: this.pool,
      forward: (packet, heading) => this.pass(heading === 'right' ? index + 1 : index - 1, packet, heading),
      drop: (packet) => this.pool.release(packet),
    }));
    this.poller = new Poller(tun.fd, onReadable);
    this.poller.watch(READABLE);
  }

  close(): void {
    this.poller.close();
  }

  /** PacketSink: a segment of the engine's. */
  onPacket(packet: SimPacket): void {
    this.pass(0, packet, 'right');
  }

  nextDeadline(): Micros {
    let at = NEVER;
    for (const box of this.boxes) at = Math.min(at, box.nextDeadline?.() ?? NEVER);
    return at;
  }

  runBoxes(): void {
    const nowUs = monotonicUs();
    for (const [i, box] of this.boxes.entries()) {
      if ((box.nextDeadline?.() ?? NEVER) <= nowUs) box.onTimer!(nowUs, this.outs[i]!);
    }
  }

  /** What the device has sent, through the boxes, to `onBatch`. */
  handUp(onBatch: (batch: ReceiveBatch) => void): void {
    const { inbox, receiver } = this;
    do {
      this.tun.receive(inbox);
      for (let i = 0; i < inbox.count; i++) {
        const packet = this.pool.take(inbox.length[i]!);
        packet.buf.set(inbox.slab.subarray(inbox.offset[i]!, inbox.offset[i]! + inbox.length[i]!));
        packet.length = inbox.length[i]!;
        packet.checksum = CSUM_VALID;
        packet.parse();
        this.pass(this.boxes.length - 1, packet, 'left');
      }
    } while (inbox.count === SLOTS);
    for (let from = 0; from < this.arrived.length; ) {
      receiver.clear();
      while (from < this.arrived.length && receiver.add(this.arrived[from]!)) this.pool.release(this.arrived[from++]!);
      onBatch(receiver.batch);
    }
    this.arrived.length = 0;
  }

  private pass(index: number, packet: SimPacket, heading: Heading): void {
    if (index >= 0 && index < this.boxes.length) {
      this.boxes[index]!.process(monotonicUs(), heading, packet, this.outs[index]!);
    } else if (heading === 'left') this.arrived.push(packet);
    else {
      if (packet.isTcp && packet.checksum !== CSUM_UNKNOWN) packet.writeTcpChecksum();
      this.tun.sendFrames(packet.buf, ZERO, Int32Array.of(packet.length), 0, 1);
      this.pool.release(packet);
    }
  }
}

const ZERO = Int32Array.of(0);

function difference(before: Record<string, number>, after: Record<string, number>): Record<string, number> {
  const moved: Record<string, number> = {};
  for (const [name, n] of Object.entries(after)) {
    const by = n - (before[name] ?? 0);
    if (by !== 0 && name.startsWith('MPTcpExt')) moved[name.slice('MPTcpExt'.length)] = by;
  }
  return moved;
}

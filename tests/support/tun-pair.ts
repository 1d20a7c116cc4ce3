/**
 * An application's host (our engine, plain TCP) and a terminator, with a TUN between them that neither delays nor loses, in
 * virtual time.
 */
import { parseIp } from '../../src/core/base/ip.js';
import type { ConnectionApi, Edge, EngineEvent } from '../../src/core/engine/api.js';
import { Engine } from '../../src/core/engine/engine.js';
import { ReceiveBatch, TransmitBatch } from '../../src/core/engine/ports.js';
import type { FlowAttempt } from '../../src/core/flows/attempt.js';
import { Terminator, type TerminatorOptions } from '../../src/core/flows/terminator.js';
import { type MemoryPort, memoryLink } from '../../src/native/memory/memory-port.js';
import { nodeEnv } from './node-env.js';
import { addTcp, type SeenPacket, seen, type TcpFields } from './packets.js';

export const APP = { 4: '192.0.2.1', 6: '2001:db8:ffff::1' } as const;
export const TARGET = { 4: '198.51.100.9', 6: '2001:db8::9' } as const;
const SLOT_BYTES = 68_000;

export class TunPair {
  nowUs = 1_000_000;
  readonly app = new Engine(nodeEnv);
  readonly terminator: Terminator;
  readonly attempts: FlowAttempt[] = [];
  readonly events: EngineEvent[] = [];
  /** What crossed, in order. */
  readonly up: SeenPacket[] = [];
  readonly down: SeenPacket[] = [];
  /** Packets of the application that the terminator left alone. */
  left = 0;
  /** Says whether a SYN is taken. */
  takes: (attempt: FlowAttempt) => boolean = () => true;
  /** Packets that are lost: asked for each. */
  loses: (packet: SeenPacket, isUp: boolean) => boolean = () => false;
  private readonly appPort: MemoryPort;
  private readonly tunPort: MemoryPort;
  private readonly batch = new ReceiveBatch(1, SLOT_BYTES);
  private nextPort = 40_000;

  constructor(options: Partial<TerminatorOptions> = {}) {
    [this.appPort, this.tunPort] = memoryLink();
    this.app.addLink(0, {
      id: 0,
      name: 'tun',
      mtuBytes: 1500,
      addresses: [parseIp(APP[4]), parseIp(APP[6])],
      isUp: true,
    });
    this.terminator = new Terminator(nodeEnv, {
      mtuBytes: 1500,
      onSyn: (attempt) => {
        if (!this.takes(attempt)) return false;
        this.attempts.push(attempt);
        return true;
      },
      ...options,
    });
  }

  /** The application connects; its SYN has left. */
  connect(family: 4 | 6 = 4, localPort = this.nextPort++): ConnectionApi {
    const connection = this.app.connect(this.nowUs, {
      linkId: 0,
      localAddress: parseIp(APP[family]),
      localPort,
      remote: { address: parseIp(TARGET[family]), port: 80 },
      mptcp: false,
    });
    this.run(0);
    return connection;
  }

  /** ... and is accepted. */
  open(family: 4 | 6 = 4, localPort?: number) {
    const application = this.connect(family, localPort);
    const flow = this.attempts.at(-1)!.accept(this.nowUs)!;
    this.run(1_000);
    return { application, flow };
  }

  /** A packet by hand, from the application's host. */
  inject(fields: TcpFields): boolean {
    const batch = new TransmitBatch(1);
    addTcp(batch, fields);
    this.appPort.send(batch, 0);
    return this.deliverUp() === 0;
  }

  /** Lets `us` pass, and all that happens in it. */
  run(us: number): void {
    const endUs = this.nowUs + us;
    for (;;) {
      this.settle();
      const at = Math.min(this.app.nextDeadline(), this.terminator.nextDeadline());
      if (at > endUs) break;
      this.nowUs = Math.max(this.nowUs, at);
      this.app.onTimer(this.nowUs);
      this.terminator.onTimer(this.nowUs);
    }
    this.nowUs = endUs;
  }

  /** The end of a connection of the application's, as its engine tells. */
  endOf(connection: ConnectionApi): string | undefined {
    for (const e of this.events) if (e.type === 'connection-closed' && e.connectionId === connection.id) return e.why;
    return undefined;
  }

  private settle(): void {
    for (let moved = 1; moved > 0; ) {
      this.app.flush(this.nowUs, edgeTo(this.appPort));
      for (let e = this.app.pollEvent(); e !== undefined; e = this.app.pollEvent()) this.events.push(e);
      const before = this.up.length + this.down.length;
      this.deliverUp();
      this.terminator.flush(this.nowUs, edgeTo(this.tunPort));
      while (this.appPort.receive(this.batch) > 0) {
        const packet = seen(this.batch, 0);
        this.down.push(packet);
        if (!this.loses(packet, false)) this.app.onPackets(this.nowUs, 0, this.batch);
      }
      moved = this.up.length + this.down.length - before;
    }
  }

  private deliverUp(): number {
    let left = 0;
    while (this.tunPort.receive(this.batch) > 0) {
      const packet = seen(this.batch, 0);
      this.up.push(packet);
      if (this.loses(packet, true)) continue;
      if (!this.terminator.onPacket(this.nowUs, this.batch, 0)) left++;
    }
    this.left += left;
    return left;
  }
}

function edgeTo(port: MemoryPort): Edge {
  return { send: (_linkId, batch, from) => port.send(batch, from), queuedBytes: () => 0 };
}

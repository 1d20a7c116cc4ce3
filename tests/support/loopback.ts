/**
 * In-memory twins for tests above the engine: a pair of connections whose bytes cross at once, a Duplex over one, and a
 * TUN that remembers what was sent to it.
 */
import { parseIp } from '../../src/core/base/ip.js';
import type { Micros } from '../../src/core/base/time.js';
import type {
  ByteReader,
  ConnectionApi,
  ConnectionInfo,
  ConnectionState,
  ExportedKeys,
  SubflowInfo,
} from '../../src/core/engine/api.js';
import type { TransmitBatch, TunPort } from '../../src/core/engine/ports.js';
import type { RateLimit } from '../../src/core/tcp/rate-limit.js';
import { ConnectionDuplex } from '../../src/daemon/duplex.js';

let nextId = 1;

export class LoopbackConnection implements ConnectionApi {
  readonly id = nextId++;
  state: ConnectionState = 'established';
  readonly isMptcp = true;
  readonly remote = { address: parseIp('192.0.2.1'), port: 443 };
  readonly synBytesAcked = -1;
  readonly synAckOptions = null;
  readonly icmpCode = -1;
  unsentBytes = 0;
  unackedBytes = 0;
  deliveryRateBytesPerS = 0;
  peer: LoopbackConnection | null = null;
  /** While true, written bytes stay "unsent". */
  isBlocked = false;
  readonly calls: string[] = [];
  subflows: SubflowInfo[] = [];
  private readonly queue: Uint8Array[] = [];
  private reader: ByteReader | null = null;
  private lowWaterBytes = 0;
  private onSpace: () => void = () => {};
  private isScheduled = false;
  private hasEnded = false;
  /** The other end has been told of ours. */
  private isEndTold = false;

  write(_nowUs: Micros, bytes: Uint8Array): void {
    this.queue.push(bytes);
    this.unsentBytes += bytes.length;
    this.schedule();
  }

  setSendSpace(lowWaterBytes: number, onSpace: () => void): void {
    this.lowWaterBytes = lowWaterBytes;
    this.onSpace = onSpace;
  }

  setReader(reader: ByteReader): void {
    this.reader = reader;
    this.peer?.schedule();
  }

  answerSyn(): void {}

  unblock(): void {
    this.isBlocked = false;
    this.schedule();
  }

  resume(): void {
    this.peer?.schedule();
  }

  /** Limits by subflow id. */
  readonly limits = new Map<number, RateLimit | null>();

  setCongestion(): void {}

  limitSubflow(_nowUs: Micros, subflowId: number, limit: RateLimit | null): void {
    this.limits.set(subflowId, limit);
  }

  /** What `useExportedKeys` was called with. */
  exportedKeys: ExportedKeys | null = null;

  useExportedKeys(_nowUs: Micros, keys: ExportedKeys): void {
    this.exportedKeys = keys;
  }

  end(): void {
    this.hasEnded = true;
    this.schedule();
  }

  abort(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.calls.push('abort');
    const peer = this.peer;
    if (peer !== null && peer.state !== 'closed') {
      peer.state = 'closed';
      setImmediate(() => peer.onClosed('reset'));
    }
  }

  /** Told when the other end aborts, and when both have come to their end. */
  onClosed: (why: 'reset' | 'done') => void = () => {};

  join(): number {
    return -1;
  }
  closeSubflow(): void {}
  setBackup(): void {}
  setTakesJoins(takesJoins: boolean): void {
    this.calls.push(`setTakesJoins ${takesJoins}`);
  }

  setLocalBackup(_nowUs: Micros, subflowId: number, backup: boolean): void {
    this.calls.push(`setLocalBackup ${subflowId} ${backup}`);
  }
  announce(): number {
    return 0;
  }
  withdraw(): void {}
  onLinkState(): void {}
  suspectSubflow(_nowUs: Micros, subflowId: number, why: string): void {
    this.calls.push(`suspect ${subflowId}: ${why}`);
  }
  setKeepAlive(_nowUs: Micros, idleUs: Micros): void {
    this.calls.push(`keepalive ${idleUs}`);
  }
  setScheduler(name: string): void {
    this.calls.push(`scheduler ${name}`);
  }
  info(): ConnectionInfo {
    return { subflows: this.subflows } as unknown as ConnectionInfo;
  }

  /** Both ends have said and heard everything. */
  private finish(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    setImmediate(() => this.onClosed('done'));
  }

  private isClosed(): boolean {
    return this.state === 'closed';
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(() => {
      this.isScheduled = false;
      this.deliver();
    });
  }

  private deliver(): void {
    const to = this.peer;
    if (this.isBlocked || this.state === 'closed' || to === null || to.reader === null) return;
    for (let chunk = this.queue.shift(); chunk !== undefined; chunk = this.queue.shift()) {
      this.unsentBytes -= chunk.length;
      // Lent, at an odd offset, and gone afterwards: as from the engine.
      const lent = new Uint8Array(chunk.length + 3);
      lent.set(chunk, 3);
      const taken = to.reader.onBytes(lent, 3, chunk.length);
      lent.fill(0xee);
      if (taken < chunk.length) {
        this.queue.unshift(chunk.subarray(taken));
        this.unsentBytes += chunk.length - taken;
        return;
      }
      if (this.isClosed()) return;
    }
    if (this.hasEnded && !this.isEndTold) {
      this.isEndTold = true;
      to.reader.onEnd();
      if (to.isEndTold) for (const c of [this, to]) c.finish();
    }
    if (this.unsentBytes <= this.lowWaterBytes) this.onSpace();
  }
}

export function loopbackPair(): [LoopbackConnection, LoopbackConnection] {
  const a = new LoopbackConnection();
  const b = new LoopbackConnection();
  a.peer = b;
  b.peer = a;
  return [a, b];
}

/** The daemon's own Duplex, over a twin. */
export class LoopbackStream extends ConnectionDuplex {
  constructor(connection: LoopbackConnection) {
    super(connection, { nowUs: () => 0, flushSoon: () => undefined });
    connection.onClosed = (why) => this.onConnectionClosed(why);
  }
}

export interface SentPacket {
  readonly bytes: Uint8Array;
  readonly gsoSize: number;
  readonly csumOffset: number;
}

/** What was sent to the device, whole packets. */
export class MemoryTun implements TunPort {
  readonly sent: SentPacket[] = [];
  private waiting: (() => void)[] = [];

  receive(): number {
    return 0;
  }

  send(batch: TransmitBatch, from: number): number {
    for (let i = from; i < batch.count; i++) {
      const bytes = new Uint8Array(batch.totalLength[i]!);
      const at = batch.headerOffset[i]!;
      bytes.set(batch.headers.subarray(at, at + batch.headerLength[i]!));
      let o = batch.headerLength[i]!;
      for (let p = batch.partStart[i]!; p < batch.partStart[i + 1]!; p++) {
        const offset = batch.partOffset[p]!;
        bytes.set(batch.parts[p]!.subarray(offset, offset + batch.partLength[p]!), o);
        o += batch.partLength[p]!;
      }
      if (o !== bytes.length) throw new Error(`packet of ${bytes.length} bytes is made of ${o}`);
      this.sent.push({ bytes, gsoSize: batch.gsoSize[i]!, csumOffset: batch.csumOffset[i]! });
    }
    for (const resolve of this.waiting.splice(0)) resolve();
    return batch.count - from;
  }

  /** Resolves when `count` packets have been sent in all. */
  async until(count: number): Promise<void> {
    while (this.sent.length < count) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  close(): void {}
}

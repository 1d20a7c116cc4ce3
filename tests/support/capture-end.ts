/**
 * One end of a capture, played by our own stack: the real engine with its luck forced (keys, nonces, ISNs, address ids) and
 * the kernel's choice of subflow for each byte, so that both ends speak of the same numbers. Whatever it sends is recorded.
 */
import type { CoreEnv } from '../../src/core/base/env.js';
import type { ControllerFactory } from '../../src/core/congestion/controller.js';
import { Reno } from '../../src/core/congestion/reno.js';
import type { ByteReader, ConnectionApi, LinkInfo } from '../../src/core/engine/api.js';
import { Engine } from '../../src/core/engine/engine.js';
import { CSUM_VALID, ReceiveBatch, type TransmitBatch } from '../../src/core/engine/ports.js';
import type { Connection } from '../../src/core/mptcp/connection.js';
import type { Scheduler, SchedulerInput } from '../../src/core/scheduler/scheduler.js';
import type { FlowTuple } from '../../src/core/tcp/flow.js';
import { parseSegment, SegmentView } from '../../src/core/wire/segment.js';
import type { SentStretch } from './capture-says.js';
import { decode, type Segment, subflowOf, type Trace } from './capture-trace.js';
import { nodeEnv } from './node-env.js';

export interface EndSettings {
  readonly mptcp: boolean;
  readonly checksum: boolean;
  /** False: our flag C. */
  readonly joinInitial: boolean;
  /** As a server: data in the SYN is taken. */
  readonly takesSynData: boolean;
  /** As a client: data in the SYN, and the Fast Open option beside it. */
  readonly synData?: Uint8Array;
  readonly synOptions?: Uint8Array;
  readonly maxSubflows?: number;
  readonly receiveBufferBytes?: number;
}

/** The first draw of 8 bytes is the key, draws of 4 are nonces (and offsets of timestamps, which do not matter). */
class ForcedLuck implements CoreEnv {
  nonce = 0;
  private draws = 0;
  private keysDrawn = 0;

  constructor(private readonly key: Uint8Array | null) {}

  randomBytes(out: Uint8Array): void {
    out.fill(++this.draws);
    if (out.length === 8 && this.keysDrawn++ === 0 && this.key !== null) out.set(this.key);
    if (out.length === 4) new DataView(out.buffer, out.byteOffset, 4).setUint32(0, this.nonce);
  }

  sha256(data: Uint8Array): Uint8Array {
    return nodeEnv.sha256(data);
  }

  hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array {
    return nodeEnv.hmacSha256(key, data);
  }
}

/** Congestion control is not compared: what the peer's window admits goes at once. */
class NeverHolds extends Reno {
  override get cwndBytes(): number {
    return 1 << 24;
  }

  override get pacingRateBytesPerS(): number {
    return Number.POSITIVE_INFINITY;
  }
}

class ForcedEngine extends Engine {
  constructor(
    luck: ForcedLuck,
    private readonly trace: Trace,
    private readonly kernelsChoice: Scheduler,
  ) {
    super(luck);
  }

  override isn(_nowUs: number, flow: FlowTuple): number {
    const own = { address: flow.localAddress, port: flow.localPort };
    const peer = { address: flow.remoteAddress, port: flow.remotePort };
    return this.trace.subflows[subflowOf(this.trace, own, peer)]?.ownIsn ?? 0;
  }

  override scheduler(): Scheduler {
    return this.kernelsChoice;
  }

  override controller(): ControllerFactory {
    return (config) => new NeverHolds(config);
  }
}

export class CaptureEnd {
  readonly engine: ForcedEngine;
  readonly sent: Segment[] = [];
  /** Packets that belong to no subflow of the capture. */
  strays = 0;
  readonly received: number[] = [];
  /** The application reads; false: it lets bytes wait. */
  isReading = true;
  connection: Connection | null = null;
  private readonly luck: ForcedLuck;
  private readonly seg = new SegmentView();
  private readonly batch = new ReceiveBatch(1, 2048);
  private nowUs = 0;

  constructor(
    private readonly trace: Trace,
    private readonly settings: EndSettings,
    private readonly choices: readonly SentStretch[],
  ) {
    this.luck = new ForcedLuck(trace.ownKey);
    this.engine = new ForcedEngine(this.luck, trace, { name: 'kernel', select: (input) => this.select(input) });
    for (const link of linksOf(trace)) this.engine.addLink(0, link);
    if (trace.end === 'A') return;
    for (const port of new Set(trace.subflows.filter((s) => s.opener === 'peer').map((s) => s.own.port))) {
      this.engine.listen({
        ...settings,
        port,
        onAccept: (c) => this.adopt(c),
        ...(settings.takesSynData && { onSyn: () => 'take' }),
      });
    }
  }

  connect(nowUs: number): void {
    const { own, peer } = this.trace.subflows[0]!;
    this.adopt(
      this.engine.connect(nowUs, {
        ...this.settings,
        linkId: this.linkOf(0),
        localAddress: own.address,
        localPort: own.port,
        remote: peer,
      }),
    );
  }

  /** False: not possible (yet). */
  join(nowUs: number, subflow: number, addressId: number, remoteAddressId: number, backup: boolean): boolean {
    const { own, peer } = this.trace.subflows[subflow]!;
    this.forceAddressId(own.address.text, addressId);
    this.luck.nonce = this.nonceOf(subflow);
    const options = { linkId: this.linkOf(subflow), localAddress: own.address, remote: peer, remoteAddressId, backup };
    return this.connection !== null && this.connection.join(nowUs, options) >= 0;
  }

  forceAddressId(address: string, addressId: number): void {
    const { addresses } = this.connection!;
    const inner = addresses.localId.bind(addresses);
    addresses.localId = (a) => (a.text === address ? addressId : inner(a));
  }

  /** Our id of a subflow of the capture, or -1. */
  subflowId(subflow: number): number {
    return this.connection?.subflows.find((sf) => this.nameOf(sf.flow) === subflow)?.id ?? -1;
  }

  deliver(nowUs: number, subflow: number, ip: Uint8Array): void {
    this.luck.nonce = this.nonceOf(subflow);
    const { batch } = this;
    batch.slab.set(ip);
    batch.count = 1;
    batch.length[0] = ip.length;
    batch.checksum[0] = CSUM_VALID;
    this.engine.onPackets(nowUs, this.linkOf(subflow), batch);
    this.flush(nowUs);
  }

  flush(nowUs: number): void {
    this.nowUs = nowUs;
    this.engine.flush(nowUs, { send: (_link, batch, from) => this.record(batch, from), queuedBytes: () => 0 });
  }

  onTimer(nowUs: number): void {
    this.engine.onTimer(nowUs);
    this.flush(nowUs);
  }

  /** The first connection is the one; a further one is a join that lost its MP_JOIN. */
  private adopt(connection: ConnectionApi): void {
    if (this.connection !== null) return;
    this.connection = connection as Connection;
    const reader: ByteReader = {
      onBytes: (buf, offset, lengthBytes) => {
        if (!this.isReading) return 0;
        for (let i = 0; i < lengthBytes; i++) this.received.push(buf[offset + i]!);
        return lengthBytes;
      },
      onEnd: () => {},
    };
    connection.setReader(reader);
    for (const [subflow, { opener, own }] of this.trace.subflows.entries()) {
      // The responder's SYN/ACK names the address by the id it has.
      if (subflow === 0 || opener === 'own') continue;
      const answer = this.trace.own.find((s) => s.subflow === subflow && s.handshake.startsWith('MP_JOIN'));
      if (answer !== undefined) this.forceAddressId(own.address.text, answer.joinAddressId);
    }
  }

  /** New data go where the kernel put them; what goes again goes anywhere. */
  private select({ paths }: SchedulerInput): number {
    const { sender, subflows } = this.connection!;
    const isFree = (p: SchedulerInput['paths'][number]) => p.isUsable && !p.isStalled && p.availableBytes > 0;
    const wanted = this.choices.find((s) => s.dsn <= sender.sndNxt && sender.sndNxt < s.dsn + s.lengthBytes)?.subflow;
    const isAgain = sender.reinjections.first !== undefined;
    const kernels = paths.find((p) => this.nameOf(subflows[p.index]!.flow) === wanted);
    if (!isAgain && kernels?.isUsable) return kernels.availableBytes > 0 ? kernels.index : -1;
    return paths.find(isFree)?.index ?? -1;
  }

  private nameOf(flow: FlowTuple): number {
    const own = { address: flow.localAddress, port: flow.localPort };
    return subflowOf(this.trace, own, { address: flow.remoteAddress, port: flow.remotePort });
  }

  private nonceOf(subflow: number): number {
    return this.trace.own.find((s) => s.subflow === subflow && s.handshake.includes('nonce'))?.nonce ?? 0;
  }

  private linkOf(subflow: number): number {
    return linkOfAddress(this.trace.subflows[subflow]!.own.address.text);
  }

  private record(batch: TransmitBatch, from: number): number {
    for (let i = from; i < batch.count; i++) {
      const ip = packetOf(batch, i);
      if (parseSegment(ip, 0, ip.length, batch.gsoSize[i]!, this.seg) !== 'ok')
        throw new Error('we sent what cannot be parsed');
      const segment = decode(this.trace, ip, this.seg, this.nowUs, 'own');
      if (segment === null) this.strays++;
      else this.sent.push(segment);
    }
    return batch.count - from;
  }
}

/** Link i of the captures has 10.0.i.0/24 and fd00:i::/64. */
function linkOfAddress(text: string): number {
  return Number(/^(?:10\.0\.|fd00:)(\d+)/.exec(text)![1]);
}

function linksOf(trace: Trace): LinkInfo[] {
  const links = new Map<number, LinkInfo['addresses'][number][]>();
  for (const { address } of trace.subflows.map((s) => s.own)) {
    const id = linkOfAddress(address.text);
    const addresses = links.get(id) ?? [];
    if (!addresses.some((a) => a.text === address.text)) addresses.push(address);
    links.set(id, addresses);
  }
  return [...links].map(([id, addresses]) => ({ id, name: `link${id}`, mtuBytes: 1500, addresses, isUp: true }));
}

function packetOf(batch: TransmitBatch, i: number): Uint8Array {
  const ip = new Uint8Array(batch.totalLength[i]!);
  const at = batch.headerOffset[i]!;
  ip.set(batch.headers.subarray(at, at + batch.headerLength[i]!));
  let o = batch.headerLength[i]!;
  for (let p = batch.partStart[i]!; p < batch.partStart[i + 1]!; p++) {
    const part = batch.parts[p]!.subarray(batch.partOffset[p]!, batch.partOffset[p]! + batch.partLength[p]!);
    ip.set(part, o);
    o += part.length;
  }
  return ip;
}

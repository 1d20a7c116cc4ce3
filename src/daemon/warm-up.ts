/**
 * A rehearsal in memory, before the first packet: two engines, two links, both lanes, a few megabytes each way, in virtual
 * time and without a socket. V8 compiles what runs often; without this the first seconds of real traffic run twenty times
 * slower than what follows, and an inner TCP that takes that for the path ends its slow start at a few Mbit/s.
 * (Measured: docs/decisions/0004-v8-settings-and-cost.md.)
 */
import { type IpAddress, parseIp } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import { putU16, putU32 } from '../core/base/wire-int.js';
import type { ConnectionApi, Edge } from '../core/engine/api.js';
import { Engine } from '../core/engine/engine.js';
import { CSUM_VALID, ReceiveBatch, type TransmitBatch, type TunPort } from '../core/engine/ports.js';
import { CapsuleDecoder, type CapsuleValue } from '../core/lanes/capsule.js';
import type { AddressRule } from '../core/lanes/inner-check.js';
import { BULK, PacketLane, WRITE_ROOM_BYTES } from '../core/lanes/packet-lane.js';
import { finishChecksum, sumRange } from '../core/wire/checksum.js';
import { writeIpHeader } from '../core/wire/ip.js';
import { nodeEnv } from './driver.js';
import { TunWriter } from './tun-writer.js';

/** Inner bytes each way. */
const BYTES = 4_000_000;
/** It ends by then whatever happens: the packets of a second of wall time at most. */
const MAX_STEPS = 60_000;
const MTU_BYTES = 1500;
const INNER_MSS = 1448;
const INNER_HEADER_BYTES = 52;
/** One inner packet in this many is a super-packet of this many segments. */
const SUPER_EVERY = 8;
const SUPER_SEGMENTS = 8;
const DELAYS_US: readonly Micros[] = [1_000, 3_000];
const PORT = 443;

/** Link 0 and link 1 join the same two hosts; what leaves on a link arrives on the one of the same id. */
const CLIENT = [parseIp('192.0.2.1'), parseIp('192.0.2.2')] as const;
const SERVER = parseIp('192.0.2.3');
const INNER_CLIENT = parseIp('192.0.2.4');
const INNER_SERVER = parseIp('192.0.2.5');
const NO_TUN: TunPort = { receive: () => 0, send: (batch, from) => batch.count - from, close: () => {} };

interface Flying {
  readonly atUs: Micros;
  readonly bytes: Uint8Array;
  readonly gsoSize: number;
}

/** Takes about half a second of CPU on an idle machine. Returns the bytes of the streams that arrived at the client and at the server. */
export function warmUp(): readonly [number, number] {
  const client = new End(INNER_CLIENT, INNER_SERVER);
  const server = new End(INNER_SERVER, INNER_CLIENT);
  for (const [id, address] of CLIENT.entries()) {
    const link = { id, name: `link${id}`, mtuBytes: MTU_BYTES, isUp: true };
    client.engine.addLink(0, { ...link, addresses: [address] });
    server.engine.addLink(0, { ...link, addresses: [SERVER] });
  }
  server.engine.listen({ port: PORT, onAccept: (connection) => server.attach(connection) });
  const remote = { address: SERVER, port: PORT };
  const ours = client.engine.connect(0, { linkId: 0, localAddress: CLIENT[0], localPort: 40_000, remote });
  client.attach(ours);
  let hasJoined = false;
  let nowUs = 0;
  for (let step = 0; step < MAX_STEPS; step++) {
    client.step(nowUs, server);
    server.step(nowUs, client);
    if (client.receivedBytes >= BYTES && server.receivedBytes >= BYTES) break;
    if (!hasJoined) hasJoined = ours.join(nowUs, { linkId: 1, localAddress: CLIENT[1], remote }) >= 0;
    nowUs = Math.max(nowUs + 1, Math.min(client.nextUs(), server.nextUs()));
    if (!Number.isFinite(nowUs)) break;
  }
  return [client.receivedBytes, server.receivedBytes];
}

/** One end: an engine, whose packets fly to the other end, and a lane above its connection. */
class End implements Edge {
  readonly engine = new Engine(nodeEnv);
  receivedBytes = 0;
  private readonly flying: Flying[][] = DELAYS_US.map(() => []);
  private sentBytes = 0;
  private packets = 0;
  private nowUs: Micros = 0;
  private connection: ConnectionApi | null = null;
  private readonly lane = new PacketLane({ mtuBytes: MTU_BYTES, hashSeed: 1 });
  private readonly writer = new TunWriter(NO_TUN, MTU_BYTES);
  private readonly decoder = new CapsuleDecoder();
  private readonly batch = new ReceiveBatch(1, 68_000);
  private readonly writeRoom = new Uint8Array(WRITE_ROOM_BYTES);
  private readonly inner: Uint8Array;
  private readonly rule: AddressRule;

  constructor(source: IpAddress, destination: IpAddress) {
    this.inner = innerPacket(source, destination);
    this.rule = { field: 'destination', addresses: [source] };
    this.lane.setUp(BULK);
    this.lane.peerTakesSuper = true;
  }

  attach(connection: ConnectionApi): void {
    this.connection = connection;
    const sink = { onCapsule: (_type: number, value: CapsuleValue) => void this.writer.write(value, this.rule) };
    connection.setReader({
      onBytes: (buf, offset, lengthBytes) => {
        this.receivedBytes += lengthBytes;
        // Lent bytes; the decoder wants them unchanged until the capsule is complete.
        this.decoder.push(buf.slice(offset, offset + lengthBytes), 0, lengthBytes, sink);
        return lengthBytes;
      },
      onEnd: () => {},
    });
    connection.setSendSpace(20_000, () => this.pump());
    this.pump();
  }

  nextUs(): Micros {
    let at = this.engine.nextDeadline();
    for (const queue of this.flying) at = Math.min(at, queue[0]?.atUs ?? at);
    return at;
  }

  /** The deadlines of `nowUs`, and the packets of the other end that arrive then. */
  step(nowUs: Micros, other: End): void {
    this.nowUs = nowUs;
    const { batch } = this;
    for (const [linkId, queue] of other.flying.entries()) {
      while (queue.length > 0 && queue[0]!.atUs <= nowUs) {
        const { bytes, gsoSize } = queue.shift()!;
        batch.slab.set(bytes);
        batch.length[0] = bytes.length;
        batch.gsoSize[0] = gsoSize;
        batch.checksum[0] = CSUM_VALID;
        batch.count = 1;
        this.engine.onPackets(nowUs, linkId, batch);
      }
    }
    if (this.engine.nextDeadline() <= nowUs) this.engine.onTimer(nowUs);
    this.engine.flush(nowUs, this);
    while (this.engine.pollEvent() !== undefined);
  }

  send(linkId: number, batch: TransmitBatch, from: number): number {
    for (let i = from; i < batch.count; i++) {
      const bytes = new Uint8Array(batch.totalLength[i]!);
      const header = batch.headerOffset[i]!;
      bytes.set(batch.headers.subarray(header, header + batch.headerLength[i]!));
      let o = batch.headerLength[i]!;
      for (let p = batch.partStart[i]!; p < batch.partStart[i + 1]!; p++) {
        const offset = batch.partOffset[p]!;
        bytes.set(batch.parts[p]!.subarray(offset, offset + batch.partLength[p]!), o);
        o += batch.partLength[p]!;
      }
      this.flying[linkId]!.push({ atUs: this.nowUs + DELAYS_US[linkId]!, bytes, gsoSize: batch.gsoSize[i]! });
    }
    return batch.count - from;
  }

  queuedBytes(): number {
    return 0;
  }

  /** Keeps the connection supplied until everything is written. */
  private pump(): void {
    const c = this.connection;
    if (c === null || this.sentBytes >= BYTES) return;
    for (let i = 0; i < SUPER_EVERY; i++) {
      const isSuper = this.packets++ % SUPER_EVERY === 0;
      const lengthBytes = INNER_HEADER_BYTES + INNER_MSS * (isSuper ? SUPER_SEGMENTS : 1);
      putU16(this.inner, 2, lengthBytes);
      putU32(this.inner, 24, this.sentBytes);
      putU16(this.inner, 10, 0);
      putU16(this.inner, 10, finishChecksum(sumRange(this.inner, 0, 20)));
      this.lane.enqueue(this.nowUs, this.inner, 0, lengthBytes, isSuper ? INNER_MSS : 0, true);
      this.sentBytes += lengthBytes;
    }
    for (;;) {
      const filled = this.lane.pull(this.nowUs, BULK, this.writeRoom, 65_536);
      if (filled === 0) break;
      c.write(this.nowUs, this.writeRoom.slice(0, filled));
      this.lane.written(BULK, this.sentBytes);
      this.lane.acked(BULK, this.sentBytes);
    }
  }
}

/** A TCP packet with timestamps, long enough for a super-packet; lengths and numbers are filled in for each use. */
function innerPacket(source: IpAddress, destination: IpAddress): Uint8Array {
  const packet = new Uint8Array(INNER_HEADER_BYTES + INNER_MSS * SUPER_SEGMENTS);
  writeIpHeader(packet, 0, 4, source, destination, packet.length - 20, 6, 0, 1);
  putU16(packet, 20, 50_000);
  putU16(packet, 22, 443);
  packet[32] = 0x80;
  packet[33] = 0x10;
  packet.fill(1, 40, INNER_HEADER_BYTES);
  return packet;
}

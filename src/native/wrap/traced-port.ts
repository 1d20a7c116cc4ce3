/**
 * A port that shows every packet to an observer, around any other, and a pcap file as an observer. What is seen is what
 * crosses the port: super-packets whole, checksums as left to hardware (as tcpdump sees them on the same host).
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Micros } from '../../core/base/time.js';
import type { PacketPort, ReceiveBatch, TransmitBatch } from '../../core/engine/ports.js';
import { gather } from '../memory/memory-port.js';

/** `packet` is lent until the call returns. */
export type PacketObserver = (direction: 'in' | 'out', nowUs: Micros, packet: Uint8Array, gsoSize: number) => void;

export class TracedPort implements PacketPort {
  constructor(
    readonly inner: PacketPort,
    readonly nowUs: () => Micros,
    readonly observer: PacketObserver,
  ) {}

  receive(batch: ReceiveBatch): number {
    const count = this.inner.receive(batch);
    const nowUs = this.nowUs();
    for (let i = 0; i < count; i++) {
      const o = batch.offset[i]!;
      this.observer('in', nowUs, batch.slab.subarray(o, o + batch.length[i]!), batch.gsoSize[i]!);
    }
    return count;
  }

  send(batch: TransmitBatch, from: number): number {
    const taken = this.inner.send(batch, from);
    const nowUs = this.nowUs();
    for (let i = from; i < from + taken; i++) this.observer('out', nowUs, gather(batch, i), batch.gsoSize[i]!);
    return taken;
  }

  queuedBytes(): number {
    return this.inner.queuedBytes();
  }

  takeDrops(): number {
    return this.inner.takeDrops();
  }

  close(): void {
    this.inner.close();
  }
}

const LINKTYPE_RAW = 101;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const SNAP_BYTES = 65_535;
const BUFFER_BYTES = 1 << 20;

/** A pcap file of IP packets. Writes are buffered; `close` writes the rest. */
export class PcapFile {
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #used = 0;

  /** `epochUs`: wall time at the clock's zero, so that the file shows dates. */
  constructor(
    path: string,
    readonly epochUs: number = 0,
  ) {
    this.#fd = openSync(path, 'w', 0o600);
    const b = this.#buffer;
    b.writeUInt32LE(MAGIC_MICROSECONDS, 0);
    b.writeUInt16LE(2, 4);
    b.writeUInt16LE(4, 6);
    b.fill(0, 8, 16);
    b.writeUInt32LE(SNAP_BYTES, 16);
    b.writeUInt32LE(LINKTYPE_RAW, 20);
    this.#used = 24;
  }

  readonly observer: PacketObserver = (_direction, nowUs, packet) => {
    const kept = Math.min(packet.length, SNAP_BYTES);
    if (this.#used + 16 + kept > BUFFER_BYTES) this.flush();
    const b = this.#buffer;
    const at = nowUs + this.epochUs;
    b.writeUInt32LE(Math.floor(at / 1e6), this.#used);
    b.writeUInt32LE(Math.floor(at % 1e6), this.#used + 4);
    b.writeUInt32LE(kept, this.#used + 8);
    b.writeUInt32LE(packet.length, this.#used + 12);
    b.set(packet.subarray(0, kept), this.#used + 16);
    this.#used += 16 + kept;
  };

  flush(): void {
    writeSync(this.#fd, this.#buffer, 0, this.#used);
    this.#used = 0;
  }

  close(): void {
    this.flush();
    closeSync(this.#fd);
  }
}

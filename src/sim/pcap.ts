/** A pcap file of raw IP packets (LINKTYPE_RAW, microseconds), as bytes: whoever wants a file writes it. */
import type { Micros } from '../core/base/time.js';
import { CSUM_PARTIAL } from '../core/engine/ports.js';
import type { SimPacket } from './packet.js';

const LINKTYPE_RAW = 101;
const SNAP_BYTES = 65_535;
const CHUNK_BYTES = 1 << 20;
/** Bytes kept at most; later packets are left out and counted. */
export const MAX_PCAP_BYTES = 256 << 20;

export class PcapWriter {
  private readonly chunks: Uint8Array[] = [];
  private chunk = new Uint8Array(CHUNK_BYTES);
  private used = 0;
  private total = 0;
  packets = 0;
  /** Packets beyond MAX_PCAP_BYTES. */
  leftOut = 0;

  /** `snapBytes`: bytes kept of each packet. */
  constructor(private readonly snapBytes: number = SNAP_BYTES) {
    const view = this.reserve(24)!;
    view.setUint32(0, 0xa1b2c3d4, true);
    view.setUint16(4, 2, true);
    view.setUint16(6, 4, true);
    view.setUint32(16, snapBytes, true);
    view.setUint32(20, LINKTYPE_RAW, true);
  }

  /** Adds a packet, a checksum left to hardware filled in as on a real wire. The packet is not kept. */
  add(nowUs: Micros, packet: SimPacket): void {
    if (packet.isTcp && packet.gsoSize === 0 && packet.checksum === CSUM_PARTIAL) packet.writeTcpChecksum();
    const kept = Math.min(packet.length, this.snapBytes);
    const view = this.reserve(16 + kept);
    if (view === null) {
      this.leftOut++;
      return;
    }
    view.setUint32(0, Math.floor(nowUs / 1e6), true);
    view.setUint32(4, nowUs % 1e6, true);
    view.setUint32(8, kept, true);
    view.setUint32(12, packet.length, true);
    this.chunk.set(packet.buf.subarray(0, kept), this.used - kept);
    this.packets++;
  }

  /** The whole file. */
  finish(): Uint8Array {
    const out = new Uint8Array(this.total);
    let at = 0;
    for (const part of [...this.chunks, this.chunk.subarray(0, this.used)]) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }

  private reserve(bytes: number): DataView | null {
    if (this.total + bytes > MAX_PCAP_BYTES) return null;
    if (this.used + bytes > CHUNK_BYTES) {
      this.chunks.push(this.chunk.subarray(0, this.used));
      this.chunk = new Uint8Array(CHUNK_BYTES);
      this.used = 0;
    }
    const view = new DataView(this.chunk.buffer, this.used, bytes);
    this.used += bytes;
    this.total += bytes;
    return view;
  }
}

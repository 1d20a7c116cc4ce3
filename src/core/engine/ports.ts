/**
 * What the edge implements: batches in, batches out. One call per batch, no callback per packet. Packets here are IP
 * packets (the edge adds and strips link-layer and vnet headers). Every port has an in-memory twin for tests.
 */

/** Checksum state of a received packet. */
export const CSUM_UNKNOWN = 0; // verify in software
export const CSUM_VALID = 1; // somebody verified it
export const CSUM_PARTIAL = 2; // local sender left it to hardware; bytes are good by construction

/** Received packets, lent until the consumer's callback returns. Slot i: slab[offset[i] .. offset[i]+length[i]). */
export class ReceiveBatch {
  count = 0;
  readonly slab: Uint8Array;
  readonly offset: Int32Array;
  readonly length: Int32Array;
  /** > 0: super-packet with segments of this many payload bytes. */
  readonly gsoSize: Int32Array;
  /** CSUM_*. */
  readonly checksum: Uint8Array;
  /** True when the packet was longer than its slot (counted and to be dropped). */
  readonly truncated: Uint8Array;

  constructor(
    readonly slots: number,
    readonly slotBytes: number,
  ) {
    this.slab = new Uint8Array(slots * slotBytes);
    this.offset = new Int32Array(slots);
    this.length = new Int32Array(slots);
    this.gsoSize = new Int32Array(slots);
    this.checksum = new Uint8Array(slots);
    this.truncated = new Uint8Array(slots);
  }
}

/** Bytes free in front of each header for the edge's own (vnet 12 + Ethernet 14, rounded up). */
export const LINK_HEADROOM_BYTES = 32;
/** Room per packet for IP (40) and TCP (60) headers behind the headroom. */
export const HEADER_SLOT_BYTES = 160;

/**
 * Packets to send: per packet one header (IP + TCP, in `headers`) and a run of payload slices. Filled by the engine,
 * handed to a port, cleared by the engine. Checksums: the L4 checksum field holds the pseudo-header sum (not
 * complemented) and `csumStart`/`csumOffset` say where; the edge passes them on as VIRTIO_NET_HDR_F_NEEDS_CSUM.
 */
export class TransmitBatch {
  count = 0;
  readonly headers: Uint8Array;
  /** Offset of the IP header in `headers` (LINK_HEADROOM_BYTES are free before it), and header bytes (IP + L4). */
  readonly headerOffset: Int32Array;
  readonly headerLength: Int32Array;
  /** IP header length, = where the L4 header (checksum start) begins relative to the IP header. */
  readonly csumStart: Int32Array;
  /** Offset of the checksum field in the L4 header (16 TCP, 6 UDP), or -1: nothing to do. */
  readonly csumOffset: Int32Array;
  /** > 0: super-packet. */
  readonly gsoSize: Int32Array;
  readonly family: Uint8Array;
  /** Total IP length. */
  readonly totalLength: Int32Array;
  /** Slices of packet i: parts[partStart[i] .. partStart[i+1]). */
  readonly partStart: Int32Array;
  readonly parts: Uint8Array[] = [];
  readonly partOffset: Int32Array;
  readonly partLength: Int32Array;
  partCount = 0;

  constructor(
    readonly slots: number,
    readonly maxParts: number = slots * 8,
  ) {
    this.headers = new Uint8Array(slots * HEADER_SLOT_BYTES);
    this.headerOffset = new Int32Array(slots);
    this.headerLength = new Int32Array(slots);
    this.csumStart = new Int32Array(slots);
    this.csumOffset = new Int32Array(slots);
    this.gsoSize = new Int32Array(slots);
    this.family = new Uint8Array(slots);
    this.totalLength = new Int32Array(slots);
    this.partStart = new Int32Array(slots + 1);
    this.partOffset = new Int32Array(maxParts);
    this.partLength = new Int32Array(maxParts);
  }

  clear(): void {
    this.count = 0;
    this.partCount = 0;
    this.parts.length = 0;
  }
}

/** One physical link (or the in-memory twin). */
export interface PacketPort {
  /** Reads what is there, up to batch.slots packets; returns batch.count. */
  receive(batch: ReceiveBatch): number;
  /** Sends packets from index `from`; returns how many were taken. Fewer than asked is back-pressure, not an error. */
  send(batch: TransmitBatch, from: number): number;
  /** Bytes in qdisc and driver that have not left yet (SIOCOUTQ). */
  queuedBytes(): number;
  /** Packets that the kernel dropped because our receive buffer was full, since the last call. */
  takeDrops(): number;
  close(): void;
}

/** The TUN device: same batches. */
export interface TunPort {
  receive(batch: ReceiveBatch): number;
  send(batch: TransmitBatch, from: number): number;
  close(): void;
}

/** Keeps the host's own stack silent on a port that our stack uses (DESIGN 3.2, "guard"). */
export interface PortGuard {
  readonly port: number;
  release(): void;
}

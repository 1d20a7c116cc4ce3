/**
 * struct virtio_net_hdr (linux/virtio_net.h), the 10 bytes in front of each packet of a TUN or packet socket:
 *   u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start, u16 csum_offset   (host byte order)
 * Offsets in it count from the start of the link header; ours count from the IP header, hence `linkBytes`.
 */
import { CSUM_PARTIAL, CSUM_UNKNOWN, CSUM_VALID, type ReceiveBatch, type TransmitBatch } from '../core/engine/ports.js';

export const VNET_BYTES = 10;

const F_NEEDS_CSUM = 1;
const F_DATA_VALID = 2;

const GSO_NONE = 0;
const GSO_TCPV4 = 1;
const GSO_TCPV6 = 4;
const GSO_UDP_L4 = 5;
const GSO_ECN = 0x80;

const TCP_CSUM_OFFSET = 16;
const TCP_FLAGS_OFFSET = 13;
const TCP_CWR = 0x80;

/**
 * After a native receive that put packets at `leadBytes` into each slot: moves offset/length past vnet and link
 * headers and fills gsoSize and checksum. A packet too short for them gets length 0.
 */
export function readVnetHeaders(batch: ReceiveBatch, count: number, leadBytes: number, linkBytes: number): void {
  const { slab, slotBytes, offset, length, gsoSize, checksum } = batch;
  const skip = VNET_BYTES + linkBytes;
  for (let i = 0; i < count; i++) {
    const o = i * slotBytes + leadBytes;
    offset[i] = o + skip;
    length[i] = Math.max(0, length[i]! - skip);
    gsoSize[i] = slab[o + 1] === GSO_NONE ? 0 : slab[o + 4]! | (slab[o + 5]! << 8);
    const flags = slab[o]!;
    checksum[i] =
      flags === 0 ? CSUM_UNKNOWN : flags & F_NEEDS_CSUM ? CSUM_PARTIAL : flags & F_DATA_VALID ? CSUM_VALID : 0;
  }
}

/** The same for descriptors without vnet headers. */
export function clearVnetFields(batch: ReceiveBatch, count: number, leadBytes: number): void {
  for (let i = 0; i < count; i++) {
    batch.offset[i] = i * batch.slotBytes + leadBytes;
    batch.gsoSize[i] = 0;
    batch.checksum[i] = CSUM_UNKNOWN;
  }
}

/** Writes the header of packet `i` directly before its link header of `linkBytes`, which precedes the IP header. */
export function writeVnetHeader(batch: TransmitBatch, i: number, linkBytes: number): void {
  const h = batch.headers;
  const ip = batch.headerOffset[i]!;
  const o = ip - linkBytes - VNET_BYTES;
  const csumOffset = batch.csumOffset[i]!;
  const csumStart = batch.csumStart[i]! + linkBytes;
  const gsoSize = batch.gsoSize[i]!;
  h[o] = csumOffset < 0 ? 0 : F_NEEDS_CSUM;
  h[o + 1] = gsoSize === 0 ? GSO_NONE : gsoType(batch, i);
  put16(h, o + 2, gsoSize === 0 ? 0 : batch.headerLength[i]! + linkBytes);
  put16(h, o + 4, gsoSize);
  put16(h, o + 6, csumOffset < 0 ? 0 : csumStart);
  put16(h, o + 8, Math.max(csumOffset, 0));
}

function gsoType(batch: TransmitBatch, i: number): number {
  if (batch.csumOffset[i] !== TCP_CSUM_OFFSET) return GSO_UDP_L4;
  // RFC 3168 6.1.2: CWR is said once. Without the ECN bit segmentation would copy it onto every segment.
  const flags = batch.headers[batch.headerOffset[i]! + batch.csumStart[i]! + TCP_FLAGS_OFFSET]!;
  return (batch.family[i] === 4 ? GSO_TCPV4 : GSO_TCPV6) | (flags & TCP_CWR ? GSO_ECN : 0);
}

function put16(b: Uint8Array, o: number, v: number): void {
  b[o] = v;
  b[o + 1] = v >>> 8;
}

/** Reads classic pcap files: either byte order, microseconds or nanoseconds, Ethernet or raw IP. For tests only. */
import { readFileSync } from 'node:fs';

const MAGIC_US = 0xa1b2c3d4;
const MAGIC_NS = 0xa1b23c4d;
const LINK_ETHERNET = 1;
const LINK_RAW = 101;
const ETHERNET_HEADER_BYTES = 14;

export interface PcapPacket {
  /** Microseconds since the epoch. */
  timeUs: number;
  /** The IP packet, link-layer header taken off (padding of short frames included). */
  ip: Uint8Array;
}

/** The IP packets of a capture; other frames (ARP) are left out. */
export function readPcap(path: string | URL): PcapPacket[] {
  const file = readFileSync(path);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const little = [MAGIC_US, MAGIC_NS].includes(view.getUint32(0, true));
  const magic = view.getUint32(0, little);
  if (magic !== MAGIC_US && magic !== MAGIC_NS) throw new Error(`${path}: not a pcap file`);
  const link = view.getUint32(20, little);
  if (link !== LINK_ETHERNET && link !== LINK_RAW) throw new Error(`${path}: link type ${link}`);

  const packets: PcapPacket[] = [];
  let o = 24;
  while (o + 16 <= file.length) {
    const seconds = view.getUint32(o, little);
    const fraction = view.getUint32(o + 4, little);
    const captured = view.getUint32(o + 8, little);
    const frame = new Uint8Array(file.subarray(o + 16, o + 16 + captured));
    o += 16 + captured;
    const ip = link === LINK_RAW ? frame : ethernetPayload(frame);
    const us = magic === MAGIC_NS ? Math.floor(fraction / 1000) : fraction;
    if (ip !== null) packets.push({ timeUs: seconds * 1_000_000 + us, ip });
  }
  return packets;
}

function ethernetPayload(frame: Uint8Array): Uint8Array | null {
  const type = (frame[12]! << 8) | frame[13]!;
  return type === 0x0800 || type === 0x86dd ? frame.subarray(ETHERNET_HEADER_BYTES) : null;
}

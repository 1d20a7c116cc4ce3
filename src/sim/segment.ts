/**
 * What the sending network card does: takes one packet of a TransmitBatch and puts it on the wire as real segments.
 * Super-packets are cut as hardware does it (TSO): headers and options are copied onto every segment, the sequence
 * number and IPv4 id advance, FIN and PSH stay for the last, CWR for the first (RFC 3168 6.1.2).
 */
import { getU16, getU32, putU16 } from '../core/base/wire-int.js';
import type { TransmitBatch } from '../core/engine/ports.js';
import { type PacketPool, type SimPacket, TCP_CWR, TCP_FIN, TCP_PSH } from './packet.js';

/** Takes packets as they are cut; `owner` rather than a closure, since this runs for every packet. */
export interface PacketSink {
  onPacket(packet: SimPacket): void;
}

/** Cuts packet `index` of `batch` into segments, or (`whole`) passes a super-packet on as it is, as veth does. */
export function segmentPacket(
  batch: TransmitBatch,
  index: number,
  pool: PacketPool,
  sink: PacketSink,
  whole = false,
): void {
  const headerAt = batch.headerOffset[index]!;
  const headerBytes = batch.headerLength[index]!;
  const payloadBytes = batch.totalLength[index]! - headerBytes;
  const gsoSize = batch.gsoSize[index]!;
  const cutBytes = gsoSize > 0 && gsoSize < payloadBytes && !whole ? gsoSize : payloadBytes;
  let part = batch.partStart[index]!;
  let partUsed = 0;
  let sentBytes = 0;
  do {
    const sizeBytes = Math.min(cutBytes, payloadBytes - sentBytes);
    const packet = pool.take(headerBytes + sizeBytes);
    const buf = packet.buf;
    for (let i = 0; i < headerBytes; i++) buf[i] = batch.headers[headerAt + i]!;
    let at = headerBytes;
    for (let needed = sizeBytes; needed > 0; ) {
      const n = Math.min(needed, batch.partLength[part]! - partUsed);
      const from = batch.partOffset[part]! + partUsed;
      buf.set(batch.parts[part]!.subarray(from, from + n), at);
      at += n;
      needed -= n;
      partUsed += n;
      if (partUsed === batch.partLength[part]!) {
        part++;
        partUsed = 0;
      }
    }
    packet.length = at;
    packet.parse();
    if (cutBytes < payloadBytes) finishSegment(packet, sentBytes, cutBytes, sentBytes + sizeBytes === payloadBytes);
    else if (gsoSize > 0 && gsoSize < payloadBytes) packet.gsoSize = gsoSize;
    sentBytes += sizeBytes;
    sink.onPacket(packet);
  } while (sentBytes < payloadBytes);
}

/** Makes a copy of a super-packet's header right for the segment at `offsetBytes` of the payload. */
export function finishSegment(packet: SimPacket, offsetBytes: number, cutBytes: number, isLast: boolean): void {
  if (packet.family === 4) putU16(packet.buf, 4, getU16(packet.buf, 4) + Math.round(offsetBytes / cutBytes));
  packet.seq = getU32(packet.buf, packet.l4Offset + 4) + offsetBytes;
  let flags = packet.flags;
  if (!isLast) flags &= ~(TCP_FIN | TCP_PSH);
  if (offsetBytes > 0) flags &= ~TCP_CWR;
  packet.flags = flags;
  packet.setLength(packet.length);
}

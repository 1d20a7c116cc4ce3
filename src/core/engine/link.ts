/**
 * The sending side of one link: a TransmitBatch that subflows fill through SegmentSink and the edge empties. Holds what
 * the edge would not take until the next flush, and knows when the local queue is long enough (DESIGN 3.2: about 2 ms).
 */
import type { Family, IpAddress } from '../base/ip.js';
import type { SegmentSink } from '../tcp/owner.js';
import type { TcpSubflow } from '../tcp/subflow.js';
import { ECN_ECT0, ECN_NOT_ECT, ipHeaderBytes, PROTO_TCP, pseudoHeaderSum, writeIpHeader } from '../wire/ip.js';
import { putTcpChecksum, TCP_CHECKSUM_OFFSET } from '../wire/tcp.js';
import type { Edge, LinkInfo } from './api.js';
import { HEADER_SLOT_BYTES, LINK_HEADROOM_BYTES, TransmitBatch } from './ports.js';

const BATCH_SLOTS = 64;
const BATCH_PARTS = 1024;
/** A unit has at most this many slices (mptcp/send-buffer.ts: MAX_UNIT_PARTS). */
const PARTS_RESERVE = 40;
/** Bytes that may wait in qdisc and driver: 2 ms at the link's sending rate, but never less than this. */
const MIN_LOCAL_QUEUE_BYTES = 6_000;
const LOCAL_QUEUE_S = 0.002;

export class Link implements SegmentSink {
  readonly batch = new TransmitBatch(BATCH_SLOTS, BATCH_PARTS);
  readonly headers = this.batch.headers;
  /** Packets of `batch` before this index were taken by the edge. */
  private sentUpTo = 0;
  private edge: Edge | null = null;
  /** The edge refused: wait for the next flush. */
  isBlocked = false;
  /** `isBusy` said yes in this flush: somebody waits for the local queue. */
  wasBusy = false;
  private isQueueKnown = false;
  private sendingRate: (linkId: number) => number = () => 0;
  bytesSent = 0;
  packetsSent = 0;
  private ident = 0;

  constructor(public info: LinkInfo) {}

  /** Begins a flush: `rateBytesPerS` tells what the subflows on this link may send together. */
  begin(edge: Edge, rateBytesPerS: (linkId: number) => number): void {
    this.edge = edge;
    this.sendingRate = rateBytesPerS;
    this.isBlocked = false;
    this.wasBusy = false;
    this.isQueueKnown = false;
    this.send();
  }

  /**
   * Enough is queued locally: no new data, acknowledgments only. The edge is asked once a flush (it is a system call),
   * and only when data wants to go.
   */
  isBusy(): boolean {
    if (!this.isQueueKnown && this.edge !== null) {
      this.isQueueKnown = true;
      const queued = this.edge.queuedBytes(this.info.id);
      this.wasBusy = queued > MIN_LOCAL_QUEUE_BYTES && queued > this.sendingRate(this.info.id) * LOCAL_QUEUE_S;
    }
    return this.wasBusy;
  }

  /** Ends a flush: what is in the batch goes out. */
  finish(): void {
    this.send();
    this.edge = null;
  }

  /** The link is gone: what waited for it is lost, as on a wire. */
  discard(): void {
    this.batch.clear();
    this.sentUpTo = 0;
  }

  hasRoom(): boolean {
    const b = this.batch;
    if (b.count < BATCH_SLOTS && b.partCount + PARTS_RESERVE <= BATCH_PARTS) return true;
    if (!this.isBlocked) this.send();
    return this.batch.count < BATCH_SLOTS && this.batch.partCount + PARTS_RESERVE <= BATCH_PARTS;
  }

  reserve(sf: TcpSubflow): number {
    return this.batch.count * HEADER_SLOT_BYTES + LINK_HEADROOM_BYTES + ipHeaderBytes(sf.flow.family);
  }

  commit(
    sf: TcpSubflow,
    tcpOffset: number,
    tcpHeaderBytes: number,
    parts: readonly Uint8Array[],
    skipBytes: number,
    lengthBytes: number,
    mssBytes: number,
    ect: boolean,
  ): void {
    const { localAddress, remoteAddress } = sf.flow;
    const gsoSize = mssBytes > 0 && lengthBytes > mssBytes ? mssBytes : 0;
    this.add(localAddress, remoteAddress, tcpOffset, tcpHeaderBytes, parts, skipBytes, lengthBytes, gsoSize, ect);
  }

  /** A complete TCP segment without a subflow (RST to nobody): header at `tcpOffset` from `reserveFor`. */
  add(
    source: IpAddress,
    destination: IpAddress,
    tcpOffset: number,
    tcpHeaderBytes: number,
    parts: readonly Uint8Array[],
    skipBytes: number,
    lengthBytes: number,
    gsoSize: number,
    ect: boolean,
  ): void {
    const b = this.batch;
    const i = b.count++;
    const { family } = source;
    const ipBytes = ipHeaderBytes(family);
    const ipOffset = tcpOffset - ipBytes;
    const l4Bytes = tcpHeaderBytes + lengthBytes;
    // A super-packet's segments take consecutive idents: leave room for them.
    this.ident = (this.ident + 1 + (gsoSize > 0 ? Math.ceil(lengthBytes / gsoSize) : 0)) & 0xffff;
    const ecn = ect ? ECN_ECT0 : ECN_NOT_ECT;
    writeIpHeader(b.headers, ipOffset, family, source, destination, l4Bytes, PROTO_TCP, ecn, this.ident);
    putTcpChecksum(b.headers, tcpOffset, pseudoHeaderSum(source, destination, PROTO_TCP, l4Bytes));
    b.headerOffset[i] = ipOffset;
    b.headerLength[i] = ipBytes + tcpHeaderBytes;
    b.csumStart[i] = ipBytes;
    b.csumOffset[i] = TCP_CHECKSUM_OFFSET;
    b.gsoSize[i] = gsoSize;
    b.family[i] = family;
    b.totalLength[i] = ipBytes + l4Bytes;
    b.partStart[i] = b.partCount;
    let skip = skipBytes;
    let left = lengthBytes;
    for (let p = 0; left > 0; p++) {
      const part = parts[p]!;
      if (skip >= part.length) {
        skip -= part.length;
        continue;
      }
      const n = Math.min(left, part.length - skip);
      b.parts[b.partCount] = part;
      b.partOffset[b.partCount] = skip;
      b.partLength[b.partCount] = n;
      b.partCount++;
      left -= n;
      skip = 0;
    }
    b.partStart[i + 1] = b.partCount;
    this.bytesSent += ipBytes + l4Bytes;
    this.packetsSent++;
  }

  /** A whole IP packet that is none of TCP's (an ICMP error), checksums made; `packet` must not change until it has left. */
  addPacket(packet: Uint8Array, family: Family): void {
    const b = this.batch;
    const i = b.count++;
    const ipBytes = ipHeaderBytes(family);
    const at = i * HEADER_SLOT_BYTES + LINK_HEADROOM_BYTES;
    b.headers.set(packet.subarray(0, ipBytes), at);
    b.headerOffset[i] = at;
    b.headerLength[i] = ipBytes;
    b.csumStart[i] = ipBytes;
    b.csumOffset[i] = -1;
    b.gsoSize[i] = 0;
    b.family[i] = family;
    b.totalLength[i] = packet.length;
    b.partStart[i] = b.partCount;
    b.parts[b.partCount] = packet;
    b.partOffset[b.partCount] = ipBytes;
    b.partLength[b.partCount++] = packet.length - ipBytes;
    b.partStart[i + 1] = b.partCount;
    this.bytesSent += packet.length;
    this.packetsSent++;
  }

  private send(): void {
    const b = this.batch;
    if (this.edge === null || b.count === 0) return;
    if (this.sentUpTo < b.count) this.sentUpTo += this.edge.send(this.info.id, b, this.sentUpTo);
    if (this.sentUpTo < b.count) {
      this.isBlocked = true;
      return;
    }
    b.clear();
    this.sentUpTo = 0;
  }
}

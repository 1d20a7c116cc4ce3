/** Boxes that meddle with the conversation: change its bytes, reset it, or answer in the receiver's name. */

import { getU16, putU16, putU32 } from '../../core/base/wire-int.js';
import type { Heading, Middlebox, MiddleboxOut } from '../middlebox.js';
import { type SimPacket, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../packet.js';
import { FlowTable, seqDistance } from './flows.js';
import { shiftSack } from './rewrite.js';

export interface PayloadEdit {
  readonly heading: Heading;
  /** Byte of the flow (first payload byte = 0) that is overwritten, or before which bytes are put. */
  readonly atByte: number;
  /** Replacement of as many bytes, TCP checksum made right. */
  readonly replace?: Uint8Array;
  /** Bytes put in, as an application gateway does: sequence numbers behind it are shifted both ways. May outgrow the MTU. */
  readonly insert?: Uint8Array;
}

/** Changes payload, and fixes what TCP would notice: only a DSS checksum can tell. */
export class PayloadEditor implements Middlebox {
  readonly name = 'payload-editor';
  /** Segments changed. */
  edits = 0;
  private readonly flows = new FlowTable<{ isn: number | null }>(() => ({ isn: null }));

  constructor(private readonly edit: PayloadEdit) {}

  process(_nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    if (!packet.isTcp || packet.gsoSize > 0) {
      out.forward(packet, heading);
      return;
    }
    const flow = this.flows.of(packet, heading);
    const { atByte, replace, insert } = this.edit;
    if (heading === this.edit.heading) {
      if ((packet.flags & TCP_SYN) !== 0) flow.isn = packet.seq;
      else if (flow.isn !== null) {
        const at = seqDistance(packet.seq, (flow.isn + 1) >>> 0);
        if (replace !== undefined) this.overwrite(packet, atByte - at, replace);
        if (insert !== undefined) packet = this.insertInto(packet, at, insert, out);
      }
    } else if (insert !== undefined && flow.isn !== null) {
      const acked = seqDistance(packet.ack, (flow.isn + 1) >>> 0);
      if (acked > atByte) packet.ack = packet.ack - Math.min(insert.length, acked - atByte);
      if (acked > atByte) shiftSack(packet, -insert.length);
      packet.markRewritten();
    }
    out.forward(packet, heading);
  }

  private overwrite(packet: SimPacket, from: number, bytes: Uint8Array): void {
    let changed = false;
    for (let i = 0; i < bytes.length; i++) {
      const at = from + i;
      if (at < 0 || at >= packet.payloadBytes) continue;
      packet.buf[packet.payloadOffset + at] = bytes[i]!;
      changed = true;
    }
    if (!changed) return;
    this.edits++;
    packet.markRewritten();
  }

  private insertInto(packet: SimPacket, at: number, bytes: Uint8Array, out: MiddleboxOut): SimPacket {
    const offset = this.edit.atByte - at;
    if (offset < 0) packet.seq = packet.seq + bytes.length;
    if (offset < 0 || offset >= packet.payloadBytes) return packet;
    const longer = out.pool.take(packet.length + bytes.length);
    longer.copyFrom(packet);
    const cut = packet.payloadOffset + offset;
    longer.buf.set(bytes, cut);
    longer.buf.set(packet.buf.subarray(cut, packet.length), cut + bytes.length);
    longer.setLength(packet.length + bytes.length);
    longer.markRewritten();
    out.pool.release(packet);
    this.edits++;
    return longer;
  }
}

export interface RstInjection {
  /** Injected behind this many segments of a flow in `heading`. */
  readonly afterSegments: number;
  readonly heading: Heading;
  /** 'exact': RFC 5961 accepts it. 'in-window': it must be challenged. 'both': exact ones, to either end. */
  readonly kind: 'exact' | 'in-window' | 'both';
}

/** A censor or a confused firewall: RSTs in the peer's name. Once per flow. */
export class RstInjector implements Middlebox {
  readonly name = 'rst-injector';
  injected = 0;
  private readonly flows = new FlowTable(() => ({ segments: 0 }));

  constructor(private readonly config: RstInjection) {}

  process(_nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    const { afterSegments, kind } = this.config;
    const isOurs = packet.isTcp && heading === this.config.heading && (packet.flags & (TCP_SYN | TCP_RST)) === 0;
    if (!isOurs || ++this.flows.of(packet, heading).segments !== afterSegments) {
      out.forward(packet, heading);
      return;
    }
    const endBytes = packet.payloadBytes + ((packet.flags & TCP_FIN) !== 0 ? 1 : 0);
    const onward = bareSegment(packet, out, false);
    onward.flags = TCP_RST | TCP_ACK;
    onward.seq = packet.seq + endBytes + (kind === 'in-window' ? 7 : 0);
    const back = kind === 'both' ? bareSegment(packet, out, true) : null;
    if (back !== null) back.flags = TCP_RST | TCP_ACK;
    this.injected++;
    out.forward(packet, heading);
    out.forward(onward, heading);
    if (back !== null) out.forward(back, heading === 'right' ? 'left' : 'right');
  }
}

/**
 * A proxy that acknowledges data before the receiver has it (a "performance enhancing" box), without MPTCP options; with
 * `dropEvery`, it then loses every n-th segment that it has acknowledged: only data-level retransmission can help.
 */
export class ProxyAcker implements Middlebox {
  readonly name = 'proxy-acker';
  acked = 0;
  lost = 0;
  private readonly flows = new FlowTable<{ nextSeq: number | null; window: number }>(() => ({
    nextSeq: null,
    window: 0,
  }));

  constructor(
    private readonly heading: Heading,
    private readonly dropEvery = 0,
  ) {}

  process(_nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    const flow = packet.isTcp ? this.flows.of(packet, heading) : null;
    if (flow === null || heading !== this.heading) {
      if (flow !== null) flow.window = packet.window;
      out.forward(packet, heading);
      return;
    }
    if ((packet.flags & TCP_SYN) !== 0) flow.nextSeq = (packet.seq + 1) >>> 0;
    if (packet.payloadBytes === 0 || flow.nextSeq === null || packet.seq !== flow.nextSeq) {
      out.forward(packet, heading);
      return;
    }
    flow.nextSeq = (packet.seq + packet.payloadBytes) >>> 0;
    this.acked++;
    const ack = bareSegment(packet, out, true);
    ack.flags = TCP_ACK;
    ack.ack = flow.nextSeq;
    ack.window = flow.window;
    if (this.dropEvery > 0 && this.acked % this.dropEvery === 0) {
      this.lost++;
      out.drop(packet, this.name);
    } else out.forward(packet, heading);
    out.forward(ack, heading === 'right' ? 'left' : 'right');
  }
}

/** A segment without payload and options in the flow of `like`, the same way or (`reversed`) back. */
function bareSegment(like: SimPacket, out: MiddleboxOut, reversed: boolean): SimPacket {
  const packet = out.pool.take(like.l4Offset + 20);
  const buf = packet.buf;
  buf.set(like.buf.subarray(0, like.l4Offset + 20));
  buf[like.l4Offset + 12] = 5 << 4;
  packet.length = like.l4Offset + 20;
  packet.parse();
  if (reversed) {
    const n = like.addressBytes;
    buf.set(like.buf.subarray(like.destinationOffset, like.destinationOffset + n), packet.sourceOffset);
    buf.set(like.buf.subarray(like.sourceOffset, like.sourceOffset + n), packet.destinationOffset);
    putU16(buf, packet.l4Offset, getU16(like.buf, like.l4Offset + 2));
    putU16(buf, packet.l4Offset + 2, getU16(like.buf, like.l4Offset));
    putU32(buf, packet.l4Offset + 4, like.ack);
    putU32(buf, packet.l4Offset + 8, (like.seq + like.payloadBytes) >>> 0);
  }
  packet.setLength(packet.length);
  packet.markRewritten();
  return packet;
}

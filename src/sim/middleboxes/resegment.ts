/** Boxes that cut segments up or glue them together: proxies of small MTU, and LRO in a router (which must not, and does). */
import { type Micros, NEVER } from '../../core/base/time.js';
import { CSUM_UNKNOWN } from '../../core/engine/ports.js';
import type { Heading, Middlebox, MiddleboxOut } from '../middlebox.js';
import { type SimPacket, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN } from '../packet.js';
import { finishSegment } from '../segment.js';
import { FlowTable } from './flows.js';

/** Cuts payload into pieces of at most `maxBytes`; options are copied onto each piece, or stay on the first only. */
export class Splitter implements Middlebox {
  readonly name = 'splitter';
  splits = 0;

  constructor(
    private readonly maxBytes: number,
    private readonly options: 'copy' | 'first' = 'copy',
  ) {}

  process(_nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    const payloadBytes = packet.payloadBytes;
    if (!packet.isTcp || payloadBytes <= this.maxBytes) {
      out.forward(packet, heading);
      return;
    }
    this.splits++;
    for (let at = 0; at < payloadBytes; at += this.maxBytes) {
      const sizeBytes = Math.min(this.maxBytes, payloadBytes - at);
      const piece = out.pool.take(packet.payloadOffset + sizeBytes);
      const from = packet.payloadOffset + at;
      piece.buf.set(packet.buf.subarray(0, packet.payloadOffset));
      piece.buf.set(packet.buf.subarray(from, from + sizeBytes), packet.payloadOffset);
      piece.length = packet.payloadOffset + sizeBytes;
      piece.parse();
      piece.checksum = packet.checksum;
      piece.markRewritten();
      if (at > 0 && this.options === 'first') piece.buf.fill(1, piece.l4Offset + 20, piece.payloadOffset);
      finishSegment(piece, at, this.maxBytes, at + sizeBytes === payloadBytes);
      out.forward(piece, heading);
    }
    out.pool.release(packet);
  }
}

interface Held {
  packet: SimPacket | null;
  untilUs: Micros;
}

/**
 * Glues contiguous data segments of a flow into one of up to `maxBytes`, whatever their options say, and keeps the
 * options of the first only: mappings of the later ones are lost.
 */
export class Coalescer implements Middlebox {
  readonly name = 'coalescer';
  merges = 0;
  private readonly flows: Record<Heading, FlowTable<Held>> = {
    right: new FlowTable<Held>(() => ({ packet: null, untilUs: NEVER })),
    left: new FlowTable<Held>(() => ({ packet: null, untilUs: NEVER })),
  };
  private deadlineUs: Micros = NEVER;

  constructor(
    private readonly maxBytes: number,
    private readonly holdUs: Micros,
  ) {}

  process(nowUs: Micros, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    if (!packet.isTcp) {
      out.forward(packet, heading);
      return;
    }
    const held = this.flows[heading].of(packet, heading);
    const isSound = packet.checksum !== CSUM_UNKNOWN;
    const isPlainData = isSound && packet.payloadBytes > 0 && (packet.flags & (TCP_SYN | TCP_RST | TCP_FIN)) === 0;
    const first = held.packet;
    if (first !== null) {
      const isNext = packet.seq === (first.seq + first.payloadBytes) >>> 0;
      if (isPlainData && isNext && first.payloadBytes + packet.payloadBytes <= this.maxBytes) {
        this.merges++;
        held.packet = glue(first, packet, out);
        return;
      }
      held.packet = null;
      out.forward(first, heading);
    }
    if (!isPlainData) {
      out.forward(packet, heading);
      return;
    }
    held.packet = packet;
    held.untilUs = nowUs + this.holdUs;
    this.deadlineUs = Math.min(this.deadlineUs, held.untilUs);
  }

  nextDeadline(): Micros {
    return this.deadlineUs;
  }

  onTimer(nowUs: Micros, out: MiddleboxOut): void {
    this.deadlineUs = NEVER;
    for (const heading of ['right', 'left'] as const)
      for (const held of this.flows[heading].values()) {
        if (held.packet === null) continue;
        if (held.untilUs > nowUs) {
          this.deadlineUs = Math.min(this.deadlineUs, held.untilUs);
          continue;
        }
        const packet = held.packet;
        held.packet = null;
        out.forward(packet, heading);
      }
  }
}

/** `next` appended to `first`: both are used up. */
function glue(first: SimPacket, next: SimPacket, out: MiddleboxOut): SimPacket {
  const whole = out.pool.take(first.length + next.payloadBytes);
  whole.copyFrom(first);
  whole.buf.set(next.buf.subarray(next.payloadOffset, next.length), first.length);
  whole.ack = next.ack;
  whole.window = next.window;
  whole.flags = first.flags | (next.flags & (TCP_PSH | TCP_ACK));
  whole.setLength(first.length + next.payloadBytes);
  whole.markRewritten();
  out.pool.release(first);
  out.pool.release(next);
  return whole;
}

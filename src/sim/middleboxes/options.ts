/** Boxes that do not like TCP options: firewalls that blank them, normalisers that remove them or drop the segment. */
import type { Heading, Middlebox, MiddleboxOut } from '../middlebox.js';
import type { SimPacket } from '../packet.js';
import { Classifier, FlowTable, type SegmentClass } from './flows.js';

export const OPTION_SACK_PERMITTED = 4;
export const OPTION_SACK = 5;
export const OPTION_TIMESTAMPS = 8;
export const OPTION_MPTCP = 30;
const OPTION_NOP = 1;

export interface OptionFilterConfig {
  /** Option kind; default MPTCP. */
  readonly kind?: number;
  /** MPTCP subtype; default any. */
  readonly subtype?: number;
  /** Which segments; default all. */
  readonly on?: readonly SegmentClass[];
  /** Which way; default both. */
  readonly heading?: Heading;
  /** Overwrite with NOPs, cut out of the header, or drop the whole segment. */
  readonly action: 'blank' | 'remove' | 'drop';
  /** Begin only at this instant (a route change mid-connection); default at once. */
  readonly fromUs?: number;
  /** Begin only with so many segments of a flow, both ways counted; default at once. */
  readonly fromSegment?: number;
}

export class OptionFilter implements Middlebox {
  readonly name: string;
  /** Options blanked or removed, segments dropped. */
  hits = 0;
  private readonly classifier = new Classifier();
  private readonly seen = new FlowTable(() => ({ segments: 0 }));

  constructor(private readonly config: OptionFilterConfig) {
    this.name = `option-${config.action}`;
  }

  process(nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    const { kind = OPTION_MPTCP, subtype = -1, on, action } = this.config;
    if (packet.isTcp && packet.gsoSize === 0) {
      const segmentClass = this.classifier.classify(packet, heading);
      const applies =
        (this.config.heading ?? heading) === heading &&
        (on === undefined || on.includes(segmentClass)) &&
        nowUs >= (this.config.fromUs ?? 0) &&
        ++this.seen.of(packet, heading).segments >= (this.config.fromSegment ?? 0);
      for (let o = applies ? packet.findOption(kind, subtype) : -1; o >= 0; o = packet.findOption(kind, subtype, o)) {
        this.hits++;
        if (action === 'drop') {
          out.drop(packet, this.name);
          return;
        }
        packet.buf.fill(OPTION_NOP, o, o + packet.buf[o + 1]!);
        packet.markRewritten();
      }
      if (action === 'remove') squeezeNops(packet);
    }
    out.forward(packet, heading);
  }
}

/** Takes runs of four aligned NOPs out of the header. */
function squeezeNops(packet: SimPacket): void {
  const buf = packet.buf;
  const isNopWord = (o: number) => buf[o] === 1 && buf[o + 1] === 1 && buf[o + 2] === 1 && buf[o + 3] === 1;
  for (let o = packet.l4Offset + 20; o < packet.payloadOffset; ) {
    if (!isNopWord(o) || !isOptionBoundary(packet, o)) {
      o += 4;
      continue;
    }
    buf.copyWithin(o, o + 4, packet.length);
    packet.payloadOffset -= 4;
    packet.buf[packet.l4Offset + 12] = ((packet.payloadOffset - packet.l4Offset) >> 2) << 4;
    packet.setLength(packet.length - 4);
  }
}

/** True if an option (not the inside of one) begins at `at`. */
function isOptionBoundary(packet: SimPacket, at: number): boolean {
  for (let o = packet.l4Offset + 20; o <= at; o += packet.buf[o] === 1 ? 1 : Math.max(2, packet.buf[o + 1]!)) {
    if (o === at) return true;
    if (packet.buf[o] === 0) return false;
  }
  return false;
}

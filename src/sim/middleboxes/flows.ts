/** What the middleboxes share: flows by their ports as seen on one wire, and the kind of a segment. */
import type { Heading } from '../middlebox.js';
import { type SimPacket, TCP_ACK, TCP_RST, TCP_SYN } from '../packet.js';

/** Flows a box remembers; when full, the oldest is forgotten. */
export const MAX_FLOWS = 4096;

/** State per flow, made on first sight. */
export class FlowTable<S> {
  private readonly flows = new Map<number, S>();

  constructor(private readonly make: () => S) {}

  /** The state of the flow that a packet belongs to, the same for both headings. */
  of(packet: SimPacket, heading: Heading): S {
    const key =
      heading === 'right'
        ? packet.sourcePort * 65536 + packet.destinationPort
        : packet.destinationPort * 65536 + packet.sourcePort;
    let state = this.flows.get(key);
    if (state === undefined) {
      if (this.flows.size >= MAX_FLOWS) this.flows.delete(this.flows.keys().next().value!);
      state = this.make();
      this.flows.set(key, state);
    }
    return state;
  }

  values(): IterableIterator<S> {
    return this.flows.values();
  }
}

/** 'third' is the first segment that the SYN's sender sends after its SYN, with data or without. */
export type SegmentClass = 'syn' | 'synack' | 'third' | 'data' | 'ack' | 'rst';

export class Classifier {
  private readonly flows = new FlowTable(() => ({ opener: 'right' as Heading, sawThird: false }));

  classify(packet: SimPacket, heading: Heading): SegmentClass {
    const flags = packet.flags;
    const flow = this.flows.of(packet, heading);
    if ((flags & TCP_RST) !== 0) return 'rst';
    if ((flags & TCP_SYN) !== 0) {
      if ((flags & TCP_ACK) !== 0) return 'synack';
      flow.opener = heading;
      flow.sawThird = false;
      return 'syn';
    }
    if (!flow.sawThird && heading === flow.opener) {
      flow.sawThird = true;
      return 'third';
    }
    return packet.payloadBytes > 0 ? 'data' : 'ack';
  }
}

/** a - b in sequence space, as a signed distance. */
export function seqDistance(a: number, b: number): number {
  return (a - b) | 0;
}

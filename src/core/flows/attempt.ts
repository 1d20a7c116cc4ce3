/**
 * A SYN that is not answered yet: somebody finds out whether the destination takes the connection, and then says `accept` or
 * `refuse` (RFC 9293 3.10.7.2). Repetitions of the SYN are absorbed meanwhile; the latest is what the answer answers, because
 * of its timestamp.
 */
import { ipFromBytes } from '../base/ip.js';
import type { Micros } from '../base/time.js';
import type { Endpoint } from '../engine/api.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { SegmentView } from '../wire/segment.js';
import type { TerminatedFlow } from './flow.js';

/**
 * How a connection is refused: as the destination would (RST), as a router would (ICMP: no way to the host, or forbidden), or
 * not at all, so that the application's TCP goes on asking.
 */
export type Refusal = 'refused' | 'unreachable' | 'denied' | 'silence';

export interface AttemptHost {
  acceptFlow(nowUs: Micros, attempt: FlowAttempt): TerminatedFlow | null;
  refuseFlow(nowUs: Micros, attempt: FlowAttempt, how: Refusal): void;
}

export class FlowAttempt {
  readonly source: Endpoint;
  readonly target: Endpoint;
  /** Of the SYN. */
  readonly dscp: number;
  /** SYNs seen. */
  syns = 0;
  /** Neither accepted nor refused yet. */
  isPending = true;
  /** The SYN, from its IP header on. */
  packet: Uint8Array = NONE;

  constructor(
    private readonly host: AttemptHost,
    readonly flow: FlowTuple,
    syn: SegmentView,
    /** Our sequence numbers must lie above this one, which an earlier connection used; -1: any will do. */
    readonly isnAbove: number,
  ) {
    this.source = { address: flow.remoteAddress, port: flow.remotePort };
    this.target = { address: flow.localAddress, port: flow.localPort };
    this.dscp = syn.dscp;
    this.note(syn);
  }

  /** The SYN again, or another of the same four-tuple. */
  note(syn: SegmentView): void {
    this.syns++;
    this.packet = syn.buf.slice(syn.ipStart, syn.ipEnd);
  }

  /** Answers the SYN. Null: it was answered, refused or given up before. */
  accept(nowUs: Micros): TerminatedFlow | null {
    if (!this.isPending) return null;
    this.isPending = false;
    return this.host.acceptFlow(nowUs, this);
  }

  refuse(nowUs: Micros, how: Refusal): void {
    if (!this.isPending) return;
    this.isPending = false;
    this.host.refuseFlow(nowUs, this, how);
  }
}

/** The four-tuple of a received segment, seen from its destination. */
export function flowOf(seg: SegmentView, linkId: number): FlowTuple {
  return {
    linkId,
    family: seg.family,
    localAddress: ipFromBytes(seg.buf, seg.dstOff, seg.family),
    localPort: seg.dstPort,
    remoteAddress: ipFromBytes(seg.buf, seg.srcOff, seg.family),
    remotePort: seg.srcPort,
  };
}

const NONE = new Uint8Array(0);

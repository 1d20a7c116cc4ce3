/**
 * Copies on every path (scheduler `redundant`): each subflow has a place of its own in the stream and goes on from there,
 * with bytes that others carry already or with new ones. What was DATA_ACKed meanwhile is skipped, so a path is never
 * further behind than the data in flight, and what it may have outstanding is bounded by its own window.
 */
import type { Connection } from './connection.js';
import type { MptcpSubflow } from './subflow.js';

export class Copies {
  /** Sent as copies so far. */
  bytes = 0;

  constructor(private readonly c: Connection) {}

  /** Copies are in order on this connection now. */
  get areWanted(): boolean {
    return this.c.mode === 'mptcp' && this.c.dispatcher.scheduler.carries !== undefined;
  }

  /** Bytes that others have taken, that are not DATA_ACKed, and that `sf` has not carried. */
  pendingBytes(sf: MptcpSubflow): number {
    const { sndUna, sndNxt, buffer } = this.c.sender;
    return Math.max(0, Math.min(sndNxt, buffer.endDsn) - Math.max(sf.carriedTo, sndUna));
  }

  /** Any usable subflow is behind. */
  get arePending(): boolean {
    return this.areWanted && this.c.subflows.some((sf) => sf.isUsable && this.pendingBytes(sf) > 0);
  }

  /** Where `sf` goes on; what it need not carry any more is counted. */
  nextDsn(sf: MptcpSubflow): number {
    const { sndUna } = this.c.sender;
    if (sf.carriedTo < sndUna) {
      this.c.host.count('redundant_skipped_bytes', sndUna - sf.carriedTo);
      sf.carriedTo = sndUna;
    }
    return sf.carriedTo;
  }

  onSent(sf: MptcpSubflow, lengthBytes: number): void {
    this.bytes += lengthBytes;
    sf.bytesCopied += lengthBytes;
    this.c.host.count('redundant_copies');
    this.c.host.count('redundant_copied_bytes', lengthBytes);
  }

  /** Reinjections away from a subflow are copies that the others carry, or will in their turn. */
  dropReinjections(): void {
    const { reinjections } = this.c.sender;
    for (let r = reinjections.first; r !== undefined && r.notOn >= 0; r = reinjections.first)
      reinjections.consume(r.endDsn - r.dsn);
  }

  /** Another scheduler takes over: bytes that no working subflow has carried go again. */
  finish(): void {
    const { sender, subflows } = this.c;
    let carriedTo = sender.sndUna;
    for (const sf of subflows) if (sf.isUsable && !sf.isStalled) carriedTo = Math.max(carriedTo, sf.carriedTo);
    sender.reinject(carriedTo, Math.min(sender.sndNxt, sender.buffer.endDsn), -1);
  }
}

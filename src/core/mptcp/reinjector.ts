/**
 * Which bytes go again on another subflow, and why (RFC 8684 3.3.6, DESIGN 3.5): their subflow stalled or ended, they were
 * lost on a slow path, or they block the peer's window. The queue they wait in is reinjection.ts; what DATA_ACK alone can
 * tell is in data-rto.ts. TCP goes on retransmitting on the old subflow as well.
 */
import type { Connection } from './connection.js';
import type { OutboundMapping } from './send-buffer.js';
import type { MptcpSubflow } from './subflow.js';

/** Bytes that block the window go again in steps of this. */
const UNBLOCK_BYTES = 65_536;

export class Reinjector {
  /** Everything below went again already because it blocked the window. */
  private unblockedTo = 0;

  constructor(private readonly c: Connection) {}

  /** All that `sf` has outstanding. */
  takeFrom(sf: MptcpSubflow): void {
    const { c } = this;
    if (c.mode !== 'mptcp') return;
    forEachOutstanding(sf, (dsn, endDsn) => c.sender.reinject(dsn, endDsn, sf.id));
  }

  /** The first `maxBytes` that `sf` has outstanding, to be sent on another subflow besides. */
  copyFrom(sf: MptcpSubflow, maxBytes: number): void {
    const { c } = this;
    if (c.mode !== 'mptcp') return;
    let leftBytes = maxBytes;
    forEachOutstanding(sf, (dsn, endDsn) => {
      if (leftBytes <= 0) return;
      const to = Math.min(endDsn, dsn + leftBytes);
      c.sender.reinject(dsn, to, sf.id);
      leftBytes -= to - dsn;
    });
  }

  /**
   * Bytes lost on a slow path hold back everything that a quicker one delivers: they go again on the quicker one at once
   * (opportunistic reinjection), besides TCP's own retransmission.
   */
  onLost(sf: MptcpSubflow, seq: number, lengthBytes: number, m: OutboundMapping | null): void {
    const { c } = this;
    if (c.mode !== 'mptcp' || m === null || m.dll === 0) return;
    const isQuicker = (other: MptcpSubflow) =>
      other !== sf && other.isUsable && !other.isStalled && other.tcp.rtt.srttUs < sf.tcp.rtt.srttUs;
    if (!c.subflows.some(isQuicker)) return;
    const dsn = m.dsn + seq - m.ssn;
    c.sender.reinject(dsn, dsn + lengthBytes, sf.id);
  }

  /**
   * The peer's window is full behind bytes that a slow path still carries: they go again on a quicker one ("opportunistic
   * reinjection", DESIGN 3.5), a step at a time and each byte once.
   */
  unblockWindow(): void {
    const { c } = this;
    const s = c.sender;
    if (s.sndUna < this.unblockedTo || c.subflows.length < 2) return;
    this.unblockedTo = s.sndUna + 1;
    const blocker = c.subflows.find((sf) => sf.isUsable && this.hasOutstanding(sf, s.sndUna));
    if (blocker === undefined) return;
    const { srttUs } = blocker.tcp.rtt;
    const isQuicker = (sf: MptcpSubflow) => sf.isUsable && !sf.isStalled && 2 * sf.tcp.rtt.srttUs < srttUs;
    if (!c.subflows.some((sf) => sf !== blocker && isQuicker(sf))) return;
    const limit = s.sndUna + UNBLOCK_BYTES;
    forEachOutstanding(blocker, (dsn, endDsn) => {
      if (dsn >= limit) return;
      s.reinject(dsn, endDsn, blocker.id);
      this.unblockedTo = Math.max(this.unblockedTo, endDsn);
    });
    c.host.count('window_unblocked');
  }

  hasOutstanding(sf: MptcpSubflow, dsn: number): boolean {
    let found = false;
    forEachOutstanding(sf, (from, to) => {
      if (from <= dsn && dsn < to) found = true;
    });
    return found;
  }
}

/** Data ranges that `sf` has sent and TCP has not seen acknowledged, not even by SACK. */
function forEachOutstanding(sf: MptcpSubflow, fn: (dsn: number, endDsn: number) => void): void {
  sf.tcp.forEachUnacked((seq, lengthBytes, tag, isSacked) => {
    const m = tag as OutboundMapping | null;
    if (isSacked || m === null || m.dll === 0) return;
    const dsn = m.dsn + seq - m.ssn;
    fn(dsn, dsn + lengthBytes);
  });
}

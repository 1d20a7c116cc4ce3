/**
 * Which bytes go again on another subflow, and why (RFC 8684 3.3.6, DESIGN 3.5): their subflow stalled or ended, they were
 * lost on a slow path, or they block the peer's window. The queue they wait in is reinjection.ts; what DATA_ACK alone can
 * tell is in data-rto.ts. TCP goes on retransmitting on the old subflow as well.
 */
import { type Micros, NEVER, US_PER_MS } from '../base/time.js';
import type { Connection } from './connection.js';
import { isSoonerElsewhere } from './leaving.js';
import type { OutboundMapping } from './send-buffer.js';
import type { MptcpSubflow } from './subflow.js';

/** Bytes that block go again in steps, which double while one follows the other within an RTT of the path that blocks. */
const UNBLOCK_BYTES = 65_536;
const UNBLOCK_LATE_BYTES = 262_144;
const UNBLOCK_MAX_BYTES = 1 << 20;
/** A copy that a patient scheduler wants arrives in so much of the original's time. */
const PATIENT_SHARE = 0.5;
/** Silence that is late: four deviations of the RTT, and never less than this, for a delayed ACK or a busy machine. */
const LATE_MIN_US: Micros = 40 * US_PER_MS;

export class Reinjector {
  /** Everything below went again already because it blocked the window. */
  private unblockedTo = 0;
  private unblockedUs: Micros = Number.NEGATIVE_INFINITY;
  private stepBytes = UNBLOCK_BYTES;

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

  /** What `sf` has outstanding of its own bytes [fromSeq, toSeq), to be sent on another subflow besides. */
  copyBetween(sf: MptcpSubflow, fromSeq: number, toSeq: number): void {
    const { c } = this;
    sf.tcp.forEachUnacked((seq, lengthBytes, tag, isSacked) => {
      const m = tag as OutboundMapping | null;
      if (isSacked || m === null || m.dll === 0) return;
      const from = Math.max(seq, fromSeq);
      const to = Math.min(seq + lengthBytes, toSeq);
      if (from < to) c.sender.reinject(m.dsn + from - m.ssn, m.dsn + to - m.ssn, sf.id);
    });
  }

  /**
   * Bytes lost on a slow path hold back everything that a quicker one delivers: they go again on the quicker one at once
   * (opportunistic reinjection), besides TCP's own retransmission. So do those of a path that a long queue has made slow,
   * whatever its round trips were like before. Each is a byte sent twice: a patient scheduler wants that only where it
   * saves half of the time.
   */
  onLost(sf: MptcpSubflow, seq: number, lengthBytes: number, m: OutboundMapping | null): void {
    const { c } = this;
    if (c.mode !== 'mptcp' || m === null || m.dll === 0) return;
    const { isPatient } = c.dispatcher.scheduler;
    const limitUs = sf.tcp.rtt.srttUs * (isPatient ? PATIENT_SHARE : 1);
    const isQuicker = (other: MptcpSubflow) =>
      other !== sf && other.isUsable && !other.isStalled && other.tcp.rtt.srttUs < limitUs;
    if (!c.subflows.some(isQuicker) && !isSoonerElsewhere(c, sf, isPatient ? PATIENT_SHARE : undefined)) return;
    const dsn = m.dsn + seq - m.ssn;
    c.sender.reinject(dsn, dsn + lengthBytes, sf.id);
  }

  /**
   * Opportunistic reinjection and penalisation (DESIGN 3.5). The peer's window is full behind bytes that a slow path still
   * carries, or those bytes are late by that path's own measure while quicker paths go on delivering behind them: they go
   * again on a quicker one, a step at a time and each byte once, and the slow path's window is halved. One that is late gets
   * no new bytes until it acknowledges something.
   */
  unblock(nowUs: Micros): void {
    const { c } = this;
    const s = c.sender;
    if (c.mode !== 'mptcp' || c.subflows.length < 2 || s.sndUna < this.unblockedTo || s.unackedBytes === 0) return;
    if (c.copies.areWanted) return;
    if (s.isWindowLimited) {
      this.unblockedTo = s.sndUna + 1;
      const blocker = c.subflows.find((sf) => sf.isUsable && this.hasOutstanding(sf, s.sndUna));
      if (blocker === undefined || !this.hasQuicker(blocker)) return;
      this.takeHeadFrom(nowUs, blocker, UNBLOCK_BYTES, 'window_unblocked');
      this.penalise(nowUs, blocker);
      return;
    }
    for (const sf of c.subflows) {
      if (sf.lateAtUs !== NEVER || !sf.isUsable || sf.isStalled || !isLate(nowUs, sf) || !this.hasQuicker(sf)) continue;
      sf.lateAtUs = nowUs;
      break;
    }
    for (const sf of c.subflows) {
      if (sf.lateAtUs === NEVER || !this.hasOutstanding(sf, s.sndUna)) continue;
      this.takeHeadFrom(nowUs, sf, UNBLOCK_LATE_BYTES, 'head_unblocked');
      return;
    }
  }

  /** A path that was late has acknowledged something: it takes new bytes again. */
  onProgress(sf: MptcpSubflow): void {
    if (sf.tcp.lastProgressUs > sf.lateAtUs || sf.tcp.oldestUnackedSentUs === NEVER) sf.lateAtUs = NEVER;
  }

  /** Another path delivers in less than half the time, and has done so since `slow` sent its oldest bytes. */
  private hasQuicker(slow: MptcpSubflow): boolean {
    const { srttUs } = slow.tcp.rtt;
    const sentUs = slow.tcp.oldestUnackedSentUs;
    for (const sf of this.c.subflows) {
      if (sf === slow || !sf.isUsable || sf.isStalled || this.c.harm.isSetAside(sf)) continue;
      if (2 * sf.tcp.rtt.srttUs < srttUs && (sf.tcp.lastProgressUs > sentUs || this.c.sender.isWindowLimited))
        return true;
    }
    return false;
  }

  private takeHeadFrom(nowUs: Micros, blocker: MptcpSubflow, firstStepBytes: number, counter: string): void {
    const { c } = this;
    const isInRow = nowUs - this.unblockedUs < blocker.tcp.rtt.srttUs;
    this.stepBytes = isInRow ? Math.min(2 * this.stepBytes, UNBLOCK_MAX_BYTES) : firstStepBytes;
    this.unblockedUs = nowUs;
    const limit = c.sender.sndUna + this.stepBytes;
    forEachOutstanding(blocker, (dsn, endDsn) => {
      if (dsn >= limit) return;
      c.sender.reinject(dsn, endDsn, blocker.id);
      this.unblockedTo = Math.max(this.unblockedTo, endDsn);
    });
    c.host.count(counter);
  }

  /** For the window only: what is merely late has lost something, to which congestion control answers. */
  private penalise(nowUs: Micros, blocker: MptcpSubflow): void {
    const { tcp } = blocker;
    if (blocker.penalty.impose(nowUs, tcp.rtt.srttUs, tcp.cc.cwndBytes, tcp.inFlightBytes, tcp.mssBytes))
      this.c.host.count('path_penalised');
  }

  hasOutstanding(sf: MptcpSubflow, dsn: number): boolean {
    let found = false;
    forEachOutstanding(sf, (from, to) => {
      if (from <= dsn && dsn < to) found = true;
    });
    return found;
  }
}

/** Its oldest bytes ought to have been acknowledged by now, and nothing at all has been for a while. */
function isLate(nowUs: Micros, sf: MptcpSubflow): boolean {
  const { oldestUnackedSentUs, lastProgressUs, rtt } = sf.tcp;
  if (oldestUnackedSentUs === NEVER) return false;
  return nowUs - Math.max(lastProgressUs, oldestUnackedSentUs + rtt.srttUs) > Math.max(LATE_MIN_US, 4 * rtt.rttVarUs);
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

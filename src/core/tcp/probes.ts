/**
 * Segments that ask rather than carry: tail loss probe (RFC 8985 7.3), path probe (DESIGN 3.4), window probe (RFC 9293
 * 3.8.6.1), keepalive (RFC 9293 3.8.4). When each is due is said by its own clock (loss-probe.ts, path-probe.ts, persist.ts).
 */
import type { Micros } from '../base/time.js';
import type { LossRecovery } from './loss-recovery.js';
import type { SegmentSink } from './owner.js';
import { PersistTimer } from './persist.js';
import { IN_FLIGHT, LOST, SACKED } from './scoreboard.js';
import { NO_PARTS } from './segment-writer.js';
import type { SendContext } from './send-context.js';
import type { Transmitter } from './transmitter.js';

export class Probes {
  readonly persist = new PersistTimer();

  constructor(
    private readonly ctx: SendContext,
    private readonly recovery: LossRecovery,
    private readonly transmitter: Transmitter,
  ) {}

  /** A probe is due, or the persist timer wants to be armed. */
  get hasUrgentWork(): boolean {
    if (this.recovery.probe.isDue || this.ctx.pathProbe.isDue || this.persist.isDue) return true;
    return !this.persist.isArmed && this.#isWindowBlocked();
  }

  /** RFC 8985 7.3: new data if there is some and the window takes it, else the last segment again. */
  sendTailProbe(nowUs: Micros, sink: SegmentSink): void {
    const { board, space, sf, owner, stats, mss, rtt } = this.ctx;
    const { probe } = this.recovery;
    probe.isDue = false;
    const last = board.tail;
    if (last === null || this.recovery.phase !== 'open') return;
    stats.tlps++;
    const canSendNew = !space.finQueued && sf.canSendData && space.windowRoomBytes >= mss.bytes;
    if (canSendNew && owner.hasPending(sf) && this.transmitter.pullAndSend(nowUs, sink, mss.bytes)) {
      probe.onProbeSent(space.sndNxt, false, rtt);
      return;
    }
    if (last.status !== IN_FLIGHT) return;
    const rec = last.lengthBytes > mss.bytes ? board.split(last, last.endSeq - mss.bytes) : last;
    this.transmitter.retransmit(nowUs, sink, rec);
    probe.onProbeSent(space.sndNxt, true, rtt);
  }

  /** One segment to learn whether the path is alive: the first unacknowledged one, or an empty one that must be answered. */
  sendPathProbe(nowUs: Micros, sink: SegmentSink): void {
    const { board, stats, mss, pathProbe, pmtu } = this.ctx;
    pathProbe.isDue = false;
    const head = board.head;
    if (head === null || head.status === SACKED) {
      stats.keepalives++;
      this.sendKeepalive(nowUs, sink);
      return;
    }
    // Probes stand in for the RTO here too: what cannot be reached with full segments may be with smaller ones.
    if (pmtu.onRto(nowUs, head.lengthBytes >= mss.bytes)) mss.refresh();
    if (head.lengthBytes > mss.bytes) board.split(head, head.seq + mss.bytes);
    if (head.status === LOST) this.recovery.undo.onProbed(head.lengthBytes);
    this.transmitter.retransmit(nowUs, sink, head);
  }

  /** RFC 9293 3.8.6.1: what little the window takes, else an empty segment that the peer must answer with its window. */
  sendWindowProbe(nowUs: Micros, sink: SegmentSink): void {
    const { board, space, sf, stats } = this.ctx;
    this.persist.isDue = false;
    if (!board.isEmpty || !sf.canSendData) return;
    if (!this.#isWindowBlocked()) return; // opened meanwhile
    const room = space.windowRoomBytes;
    stats.zeroWindowProbes++;
    // The override timeout of sender SWS avoidance (3.8.6.2.1 condition 4): a small window is used after all.
    if (room > 0 && this.transmitter.pullAndSend(nowUs, sink, room)) return;
    // As Linux does: an old sequence number instead of a byte of new data. It needs no mapping and nobody can drop it.
    this.sendKeepalive(nowUs, sink);
  }

  /** A segment that the peer must answer although it carries nothing new (RFC 9293 3.8.4): SEG.SEQ = SND.NXT - 1. */
  sendKeepalive(nowUs: Micros, sink: SegmentSink): void {
    const { writer, space, mss } = this.ctx;
    writer.write(nowUs, sink, 'ack', 0, space.sndNxt - 1, 0, null, NO_PARTS, 0, mss.bytes, false);
  }

  /** After all that may go has gone. */
  updatePersist(nowUs: Micros): void {
    this.persist.update(nowUs, this.#isWindowBlocked(), this.ctx.rtt);
  }

  /** Nothing is outstanding, and only a window keeps it so: nobody but a probe would learn that it opened. */
  #isWindowBlocked(): boolean {
    const { board, space, sf, owner, mss, pathProbe } = this.ctx;
    if (!board.isEmpty || !sf.canSendData || pathProbe.isOn) return false;
    if (owner.isWindowBlocked?.(sf) === true) return true;
    return space.usableWindowBytes(mss.bytes) <= 0 && owner.hasPending(sf);
  }
}

/**
 * SEGMENT ARRIVES (RFC 9293 3.10.7): in SYN-SENT (3.10.7.3), and in all later states (3.10.7.4) once acceptance.ts has said
 * that the segment may be taken: options, ACK and window, payload, FIN.
 */
import type { Micros } from '../base/time.js';
import { type SegmentView, TCP_ACK, TCP_CWR, TCP_FIN, TCP_RST, TCP_SYN } from '../wire/segment.js';
import { Acceptance } from './acceptance.js';
import { mayReceive } from './states.js';
import type { Tcb } from './tcb.js';

const ECN_CE = 3;

export class SegmentArrives {
  readonly #acceptance: Acceptance;

  constructor(private readonly tcb: Tcb) {
    this.#acceptance = new Acceptance(tcb);
  }

  onSegment(nowUs: Micros, seg: SegmentView): void {
    if (this.tcb.state === 'closed') return;
    if (this.tcb.state === 'syn-sent') this.#onSynSent(nowUs, seg);
    else this.#onSynchronized(nowUs, seg);
  }

  /** The peer's SYN: its numbers and options. */
  takeSyn(nowUs: Micros, seg: SegmentView): void {
    this.tcb.sf.irs = seg.seq;
    this.tcb.lastReceivedUs = nowUs;
    this.tcb.handshake.onPeerSyn(nowUs, seg);
  }

  // ---- SYN-SENT (3.10.7.3)

  #onSynSent(nowUs: Micros, seg: SegmentView): void {
    const { tcb } = this;
    const { sf, stats, answers, handshake } = tcb;
    const hasAck = (seg.flags & TCP_ACK) !== 0;
    const synBytesAcked = hasAck ? (seg.ack - sf.iss - 1) >>> 0 : 0;
    if (synBytesAcked > handshake.offeredBytes) {
      stats.dropBadAck++;
      if ((seg.flags & TCP_RST) === 0) answers.refuse(seg);
      return;
    }
    if ((seg.flags & TCP_RST) !== 0) {
      if (hasAck && tcb.askOwner(nowUs, seg)) tcb.closing.close(nowUs, 'refused');
      return;
    }
    if ((seg.flags & TCP_SYN) === 0) return;
    sf.iss = (sf.iss + synBytesAcked) >>> 0;
    sf.synBytesAcked = synBytesAcked;
    this.takeSyn(nowUs, seg);
    if (!tcb.askOwner(nowUs, seg)) return;
    if (!hasAck) {
      // RFC 9293 3.5, figure 8: simultaneous open.
      tcb.state = 'syn-received';
      handshake.keepData(seg);
      handshake.isSynDue = true;
      return;
    }
    handshake.complete(nowUs, seg, 0);
    if (!tcb.isOpen) return;
    tcb.receiver.ackNow = true;
    if (seg.payloadLen > 0) this.#takePayload(nowUs, seg, 1);
    if (tcb.isOpen) tcb.closing.takeFin(nowUs, seg, 1 + seg.payloadLen);
    if (tcb.isOpen) tcb.owner.onSegmentDone(nowUs, sf, seg);
  }

  // ---- all later states (3.10.7.4)

  #onSynchronized(nowUs: Micros, seg: SegmentView): void {
    const { tcb } = this;
    const acceptance = this.#acceptance;
    switch (acceptance.judge(nowUs, seg)) {
      case 'take':
        this.#take(nowUs, seg, acceptance.seq, acceptance.ack, acceptance.payloadBytes);
        return;
      case 'duplicate':
        tcb.answers.duplicate(nowUs, seg, acceptance.seq);
        return;
      case 'challenge':
        tcb.answers.challenge(nowUs);
        return;
      case 'reset':
        if (tcb.askOwner(nowUs, seg)) tcb.closing.onReset(nowUs);
        return;
      case 'refuse':
        tcb.answers.refuse(seg);
        return;
      case 'syn-again':
        tcb.handshake.isSynDue = true;
        return;
      case 'drop':
        return;
    }
  }

  #take(nowUs: Micros, seg: SegmentView, seq: number, ack: number, payloadBytes: number): void {
    const { tcb } = this;
    const { closing, ts } = tcb;
    if (!tcb.askOwner(nowUs, seg)) return;
    tcb.lastReceivedUs = nowUs;
    tcb.keepalive.onReceived();
    if (ts.enabled && seg.hasTs) {
      ts.onAccepted(nowUs, seg.tsVal, seq, tcb.receiver.lastAckSent);
      ts.onEcho(seg.tsEcr);
      if (payloadBytes > 0) ts.onDataEcho(nowUs, seg.tsEcr);
    }
    if (tcb.negotiated.ecn) this.#noteCongestionMarks(seg);
    if (tcb.state === 'syn-received') tcb.handshake.complete(nowUs, seg, seq);
    if (!tcb.isOpen) return;

    this.#takeAck(nowUs, seg, seq, ack);
    if (!tcb.isOpen) return;
    if (mayReceive(tcb.state) && payloadBytes > 0) this.#takePayload(nowUs, seg, seq);
    if (!tcb.isOpen) return;
    if (payloadBytes === seg.payloadLen) closing.takeFin(nowUs, seg, seq + seg.payloadLen);
    if (tcb.state === 'time-wait' && (seg.flags & TCP_FIN) !== 0) closing.startTimeWait(nowUs);
    if (tcb.isOpen) tcb.owner.onSegmentDone(nowUs, tcb.sf, seg);
  }

  /** RFC 3168 6.1.3: CWR ends the echo, and CE on the same segment begins a new one. */
  #noteCongestionMarks(seg: SegmentView): void {
    const { writer } = this.tcb;
    if ((seg.flags & TCP_CWR) !== 0) writer.echoCongestion = false;
    if (seg.ecn === ECN_CE && seg.payloadLen > 0) writer.echoCongestion = true;
  }

  /** Fifth: ACK, with the window of the segment (RFC 7323 2.3: scaled). */
  #takeAck(nowUs: Micros, seg: SegmentView, seq: number, ack: number): void {
    const { tcb } = this;
    const { sender, negotiated } = tcb;
    const { space } = sender;
    if (ack < space.sndUna) return; // an old one, overtaken
    const hadWindow = space.sndWnd;
    space.updateWindow(seq, ack, seg.window * 2 ** negotiated.sendShift);
    if (sender.board.isEmpty) sender.onAlive(nowUs);
    sender.onAck(nowUs, seg, ack, space.sndWnd !== hadWindow);
    if (tcb.isOpen && space.finSeq >= 0 && space.sndUna > space.finSeq) tcb.closing.onFinAcked(nowUs);
  }

  /** Seventh: trims to what is new and inside the window, hands it to the owner, notes it for ACK and SACK. */
  #takePayload(nowUs: Micros, seg: SegmentView, segSeq: number): void {
    const { tcb } = this;
    const { receiver, stats } = tcb;
    let seq = segSeq;
    let offset = seg.payloadOff;
    let bytes = seg.payloadLen;
    const oldBytes = Math.min(bytes, receiver.rcvNxt - seq);
    if (oldBytes > 0) {
      receiver.noteDuplicate(seq, seq + oldBytes);
      seq += oldBytes;
      offset += oldBytes;
      bytes -= oldBytes;
    }
    const excess = seq + bytes - receiver.rightEdge;
    if (excess > 0) {
      stats.dropOutOfWindow++;
      bytes -= excess;
      receiver.ackNow = true;
    }
    if (bytes <= 0) return;
    if (!receiver.hasRoomFor(seq, seq + bytes)) {
      stats.dropRangesFull++;
      receiver.ackNow = true;
      return;
    }
    tcb.owner.onPayload(nowUs, tcb.sf, seg, seq, offset, bytes);
    if (!tcb.isOpen) return;
    receiver.onData(nowUs, seq, seq + bytes, seg.gsoSize > 0 ? seg.gsoSize : seg.payloadLen);
  }
}

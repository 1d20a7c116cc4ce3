/**
 * One TCP endpoint: the user calls, timers and polls of RFC 9293 3.10. Segments go to segment-arrives.ts (with RFC 5961
 * and RFC 7323 in acceptance.ts), the ends to closing.ts, the beginning to handshake.ts, data to sender.ts and receiver.ts;
 * all share the control block, tcb.ts. It owns no bytes: see owner.ts.
 *
 * Driving it: `onSegment`, `onIcmp`, `onTimer` and the owner's calls change state and emit nothing; `pollTransmit` then
 * emits all that may go. `nextDeadline` is when `onTimer` followed by `pollTransmit` is due. A closed subflow may still
 * owe a RST: poll once more (`hasWork`) before forgetting it.
 */
import { type CoreEnv, randomU32 } from '../base/env.js';
import { unwrap32 } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import type { CongestionController, ControllerFactory } from '../congestion/controller.js';
import type { IcmpErrorClass } from '../wire/icmp.js';
import { type SegmentView, TCP_ACK, TCP_RST, TCP_SYN } from '../wire/segment.js';
import { type AnsweredSyn, synOf } from './answered-syn.js';
import { type SubflowConfig, SubflowStats } from './config.js';
import type { FlowTuple } from './flow.js';
import type { SegmentSink, SubflowOwner } from './owner.js';
import type { RateLimit } from './rate-limit.js';
import { RttEstimator } from './rtt.js';
import { SACKED } from './scoreboard.js';
import { SegmentArrives } from './segment-arrives.js';
import { NO_PARTS } from './segment-writer.js';
import { isSynchronized, maySend, type TcpState } from './states.js';
import { Tcb } from './tcb.js';
import { isTsBefore } from './timestamps.js';

export type { SubflowConfig } from './config.js';
export { DEFAULT_SUBFLOW_CONFIG, SubflowStats } from './config.js';
export type { TcpState } from './states.js';

export class TcpSubflow {
  readonly rtt: RttEstimator;
  readonly stats = new SubflowStats();
  /**
   * Initial sequence numbers on the wire; `irs` is 0 until the peer's SYN arrived. Data that a SYN carried and that was taken
   * counts as part of the SYN, for MPTCP numbers without it (RFC 8684 B.2): these are then the numbers of its last byte.
   */
  iss: number;
  irs = 0;
  /** Bytes of our SYN's data that the SYN/ACK acknowledged. */
  synBytesAcked = 0;
  icmpCode = -1;

  readonly #tcb: Tcb;
  readonly #input: SegmentArrives;
  #ackRequested = false;

  constructor(
    readonly env: CoreEnv,
    readonly owner: SubflowOwner,
    readonly flow: FlowTuple,
    readonly config: SubflowConfig,
    isn: number,
    /** Where our timestamp clock starts (RFC 7323 7.1). */
    readonly tsOffset: number = randomU32(env),
  ) {
    this.iss = isn >>> 0;
    this.rtt = new RttEstimator(config.initialRtoUs, config.minRtoUs, config.maxRtoUs);
    this.#tcb = new Tcb(this, owner);
    this.#input = new SegmentArrives(this.#tcb);
  }

  get state(): TcpState {
    return this.#tcb.state;
  }
  /** ESTABLISHED or a later state that is not closed. */
  get isEstablished(): boolean {
    return isSynchronized(this.#tcb.state);
  }
  /** ESTABLISHED or CLOSE-WAIT, and our FIN not asked for. */
  get canSendData(): boolean {
    return maySend(this.#tcb.state) || (this.#tcb.state === 'syn-received' && this.#tcb.handshake.isEarly);
  }
  get cc(): CongestionController {
    return this.#tcb.sender.cc;
  }
  /** Changes the congestion controller in mid-flight. */
  setController(create: ControllerFactory): void {
    const { initialCwndSegments, coupling } = this.config;
    this.#tcb.sender.setController(create({ mssBytes: this.mssBytes, initialCwndSegments, coupling }));
  }
  get sndUna(): number {
    return this.#tcb.sender.space.sndUna;
  }
  get sndNxt(): number {
    return this.#tcb.sender.space.sndNxt;
  }
  /** SND.WND, unscaled bytes from sndUna. */
  get sndWndBytes(): number {
    return this.#tcb.sender.space.sndWnd;
  }
  /** Shift of the window field in the peer's segments without SYN (RFC 7323 2.2): for the connection-level window. */
  get sndWndShift(): number {
    return this.#tcb.negotiated.sendShift;
  }
  /** Round trip as the receiver of data sees it, which has no ACKs to measure by; 0 while unknown. */
  get receiveRttUs(): Micros {
    return Math.max(this.#tcb.ts.dataAgeUs, this.rtt.srttUs);
  }
  get rcvNxt(): number {
    return this.#tcb.receiver.rcvNxt;
  }
  /** End of the highest data received, out of order included. */
  get maxRcvNxt(): number {
    return this.#tcb.receiver.maxRcvNxt;
  }
  /** Payload of a full data segment, after all options. */
  get mssBytes(): number {
    return this.#tcb.sender.mss.bytes;
  }
  /** The owner's options take another length now. */
  refreshMss(): void {
    this.#tcb.sender.mss.refresh();
  }
  /** RFC 6675 pipe. */
  get inFlightBytes(): number {
    return this.#tcb.sender.recovery.inFlightBytes;
  }
  get deliveryRateBytesPerS(): number {
    return this.#tcb.sender.rate.bytesPerS;
  }
  /** Consecutive timeouts without progress; during the handshake, retransmissions of the SYN or SYN/ACK. */
  get rtoCount(): number {
    return isSynchronized(this.#tcb.state) ? this.#tcb.sender.recovery.rtoCount : this.#tcb.handshake.retransmits;
  }
  /** When the earliest outstanding byte was first sent; NEVER if none is outstanding. */
  get oldestUnackedSentUs(): Micros {
    return this.#tcb.sender.board.oldestFirstSentUs;
  }
  /** When the last acceptable segment arrived. */
  get lastReceivedUs(): Micros {
    return this.#tcb.lastReceivedUs;
  }
  /** When something of ours was last acknowledged (cumulatively or by SACK). */
  get lastProgressUs(): Micros {
    return this.#tcb.sender.lastProgressUs;
  }
  /** Fast recovery or RTO recovery is under way. */
  get isRecovering(): boolean {
    return this.#tcb.sender.recovery.phase !== 'open';
  }

  // ---- opening and closing

  /** Active open: queues the SYN, with as much of `synData` as it may carry. */
  connect(nowUs: Micros, synData?: Uint8Array): void {
    const tcb = this.#tcb;
    if (synData !== undefined) tcb.handshake.offerData(synData);
    tcb.state = 'syn-sent';
    tcb.isActiveOpen = true;
    tcb.sender.onOpen();
    tcb.handshake.isSynDue = true;
    tcb.lastReceivedUs = nowUs;
  }

  /**
   * Passive open by a SYN that the engine matched: queues the SYN/ACK (RFC 9293 3.10.7.2). `isTaken`: its data is the owner's
   * already. `isHeld`: the SYN/ACK waits for `answerSyn`.
   */
  accept(nowUs: Micros, syn: SegmentView, isTaken = false, isHeld = false): void {
    const tcb = this.#tcb;
    tcb.state = 'syn-received';
    tcb.sender.onOpen();
    this.#input.takeSyn(nowUs, syn);
    tcb.handshake.isHeld = isHeld;
    if (isTaken) tcb.handshake.takeData(syn);
    // Data in the SYN has no place in MPTCP's data sequence space (RFC 8684 B.2): else it is not taken, and comes again.
    else if (this.owner.dataOptionBytes(this) === 0) tcb.handshake.keepData(syn);
    if (tcb.askOwner(nowUs, syn)) tcb.handshake.isSynDue = true;
    else tcb.closing.close(nowUs, 'aborted');
  }

  /** The SYN/ACK that was held back leaves at the next poll. */
  answerSyn(): void {
    this.#tcb.handshake.isHeld = false;
  }

  /** As `accept`, of a SYN that was answered without a subflow (answered-syn.ts): nothing is sent. */
  acceptAnswered(nowUs: Micros, answered: AnsweredSyn): void {
    this.accept(nowUs, synOf(answered));
    if (this.#tcb.isOpen) this.#tcb.handshake.onAnswered(nowUs, answered.sentUs);
  }

  /**
   * FIN after all data pulled so far; nothing is pulled afterwards. Half-close, unless `isForGood`: then a peer that has
   * acknowledged it and says nothing more is forgotten after `finWait2Us`.
   */
  sendFin(nowUs: Micros, isForGood = false): void {
    this.#tcb.closing.sendFin(nowUs, isForGood);
  }

  /** Gives the subflow up at once, with a RST (options by writeOptions 'rst') or silently. */
  abort(nowUs: Micros, sendRst: boolean): void {
    this.#tcb.closing.abort(nowUs, sendRst);
  }

  /** RFC 9293 3.6.1, RFC 6191: a SYN that may open a new connection although this one is in TIME-WAIT. */
  acceptsNewSyn(syn: SegmentView): boolean {
    if (this.#tcb.state !== 'time-wait' || (syn.flags & (TCP_SYN | TCP_ACK | TCP_RST)) !== TCP_SYN) return false;
    const { ts } = this.#tcb;
    if (syn.hasTs) {
      // RFC 6191 2: with timestamps on both, a newer one; where the old connection had none, any.
      if (!ts.enabled || isTsBefore(ts.recent, syn.tsVal)) return true;
      if (syn.tsVal !== ts.recent) return false;
    }
    return unwrap32(syn.seq, this.irs, this.rcvNxt) > this.rcvNxt;
  }

  /** In TIME-WAIT, and a new connection of ours on the same four-tuple is safe all the same (RFC 6191 2). */
  get mayBeReplaced(): boolean {
    return this.#tcb.state === 'time-wait' && this.#tcb.ts.enabled;
  }

  // ---- owner's controls

  /** A pure ACK leaves at the next poll, whatever else does: it carries options that the owner wants out. */
  requestAck(_nowUs: Micros): void {
    this.#ackRequested = true;
  }

  /** New data admitted now: least of cwnd - pipe, the peer's window on this subflow, and pacing credit. */
  availableBytes(nowUs: Micros): number {
    return this.canSendData ? this.#tcb.sender.availableBytes(nowUs) : 0;
  }

  /** A limit that this subflow shares with whoever else has been given it (an operator's wish, not a measurement); null: none. */
  setRateLimit(limit: RateLimit | null): void {
    this.#tcb.sender.limit = limit;
  }

  /** It is the limit that admits nothing now. */
  isHeldByLimit(nowUs: Micros): boolean {
    return this.#tcb.sender.isHeldByLimit(nowUs);
  }

  /** When pacing admits data; `nowUs` if it does. */
  readyAtUs(nowUs: Micros): Micros {
    return this.#tcb.sender.readyAtUs(nowUs);
  }

  /** As `readyAtUs`, by an owner with bytes that will wake us then; `forgetCredit` when it has none any more. */
  awaitCredit(nowUs: Micros): Micros {
    return this.#tcb.sender.awaitCredit(nowUs);
  }

  forgetCredit(): void {
    this.#tcb.sender.forgetCredit();
  }

  /** The owner has nothing (more) for this subflow although it could send: delivery-rate samples are app-limited. */
  markAppLimited(_nowUs: Micros): void {
    if (this.canSendData) this.#tcb.sender.onAppLimited();
  }

  /** Outstanding payload in sequence order. */
  forEachUnacked(fn: (seq: number, lengthBytes: number, tag: unknown, isSacked: boolean) => void): void {
    for (let rec = this.#tcb.sender.board.head; rec !== null; rec = rec.next) {
      if (rec.lengthBytes > 0) fn(rec.seq, rec.lengthBytes, rec.tag, rec.status === SACKED);
    }
  }

  /**
   * While the owner suspects the path dead: one segment (the first unacknowledged one, or an empty one that must be
   * answered) every `us`, and nothing else but ACKs. 0, and any progress, end it.
   */
  setProbeInterval(us: Micros): void {
    this.#tcb.sender.setProbeInterval(us);
  }

  /** The link came back: forget the back-off, ask at once. */
  kick(nowUs: Micros): void {
    if (this.#tcb.state === 'syn-sent' || this.#tcb.state === 'syn-received') {
      this.#tcb.handshake.kick();
    } else if (isSynchronized(this.#tcb.state) && this.#tcb.state !== 'time-wait') {
      this.#tcb.sender.kick(nowUs);
    }
  }

  /** The path works again after an outage: its round-trip time, rate and window are measured anew. */
  restartPath(nowUs: Micros): void {
    this.#tcb.sender.restartPath(nowUs);
  }

  /** Sends an empty segment that the peer has to answer (as a keepalive is). */
  ask(): void {
    this.#tcb.keepalive.isDue = true;
  }

  /** The peer has had a segment that left at `sentUs` or later. Without timestamps nobody knows: taken for true. */
  hasEchoed(sentUs: Micros): boolean {
    const { ts } = this.#tcb;
    return !ts.enabled || ts.hasEchoed(sentUs);
  }

  /** The MTU of the local link changed. */
  onMtuChange(mtuBytes: number): void {
    this.#tcb.sender.onLinkMtu(mtuBytes);
  }

  setNoDelay(noDelay: boolean): void {
    this.#tcb.sender.noDelay = noDelay;
  }

  /** RFC 9293 3.8.4 MUST-24: keepalives of this connection on or off; times that are not said are the config's. */
  setKeepAlive(isOn: boolean, idleUs?: Micros): void {
    const { keepalive } = this.#tcb;
    keepalive.isOn = isOn;
    if (idleUs !== undefined) keepalive.idleUs = idleUs;
  }

  /** Keepalives sent since anything was heard. */
  get keepalivesUnanswered(): number {
    return this.#tcb.keepalive.unanswered;
  }

  // ---- inputs

  /** One segment whose addresses and ports are this subflow's and whose checksum is good. */
  onSegment(nowUs: Micros, seg: SegmentView): void {
    this.stats.segmentsReceived++;
    this.#input.onSegment(nowUs, seg);
  }

  /**
   * An ICMP error that quotes a segment of ours with wire sequence number `quotedSeq`. 'too-big' comes with the MTU of
   * the next hop, 0 from a router older than RFC 1191; 'hard': protocol, port or host unreachable by policy (RFC 9293
   * 3.9.2.2).
   */
  onIcmp(nowUs: Micros, errorClass: IcmpErrorClass, mtuBytes: number, quotedSeq: number, code = -1): void {
    const { state, sender, closing } = this.#tcb;
    const { sndUna, sndNxt } = sender.space;
    // RFC 5927 4.1: only what is in flight can have caused it.
    const seq = unwrap32(quotedSeq, this.iss, sndUna);
    if (state === 'closed' || seq < sndUna || seq >= sndNxt) {
      this.stats.dropIcmpSequence++;
      return;
    }
    if (errorClass === 'too-big') sender.onPacketTooBig(nowUs, mtuBytes, seq);
    else if (errorClass === 'hard' && state === 'syn-sent') {
      this.icmpCode = code;
      closing.close(nowUs, 'unreachable');
    }
  }

  onTimer(nowUs: Micros): void {
    const { state, handshake, receiver, sender, closing, keepalive } = this.#tcb;
    switch (state) {
      case 'closed':
        return;
      case 'syn-sent':
      case 'syn-received':
        handshake.onTimer(nowUs);
        return;
      case 'time-wait':
        receiver.onTimer(nowUs);
        closing.endTimeWait(nowUs);
        return;
    }
    receiver.onTimer(nowUs);
    sender.onTimer(nowUs);
    if (closing.givesUp(nowUs)) return;
    if (nowUs >= this.#keepaliveAtUs() && !keepalive.onTimer()) closing.close(nowUs, 'timeout');
  }

  /** When `onTimer` is due next; NEVER if nothing is pending. Waking early or late is harmless. */
  nextDeadline(): Micros {
    const { state, handshake, receiver, sender, closing } = this.#tcb;
    switch (state) {
      case 'closed':
        return NEVER;
      case 'syn-sent':
      case 'syn-received':
        return handshake.deadlineUs;
      case 'time-wait':
        return Math.min(closing.lingerUntilUs, receiver.ackDeadlineUs);
    }
    return Math.min(
      receiver.ackDeadlineUs,
      sender.nextDeadline(),
      closing.lingerUntilUs,
      closing.giveUpAtUs,
      this.#keepaliveAtUs(),
    );
  }

  #keepaliveAtUs(): Micros {
    const { sender, keepalive, lastReceivedUs } = this.#tcb;
    return keepalive.deadlineUs(lastReceivedUs, sender.isIdle);
  }

  // ---- output

  /** Something would be emitted now (a scheduler that gives this subflow nothing may still make it less). */
  hasWork(nowUs: Micros): boolean {
    const { state, answers, handshake, keepalive, receiver, sender } = this.#tcb;
    if (answers.rst !== null) return true;
    if (state === 'closed') return false;
    if (handshake.mayAnswer || this.#ackRequested || keepalive.isDue) return true;
    if (!isSynchronized(state) && !this.canSendData) return false;
    if (receiver.ackNow || nowUs >= receiver.ackDeadlineUs || sender.hasUrgentWork(nowUs)) return true;
    return this.canSendData && this.owner.hasPending(this) && sender.availableBytes(nowUs) > 0;
  }

  /** Emits all that may go, until the sink is full. */
  pollTransmit(nowUs: Micros, sink: SegmentSink): void {
    const { state, answers, handshake, keepalive, receiver, sender } = this.#tcb;
    if (answers.rst !== null && sink.hasRoom()) this.#emitRst(nowUs, sink, answers.rst);
    if (state === 'closed') return;
    if (!isSynchronized(state)) {
      if (handshake.mayAnswer && sink.hasRoom()) this.#emitSyn(nowUs, sink);
      if (this.canSendData) sender.transmit(nowUs, sink);
      return;
    }
    if (this.#ackRequested && sink.hasRoom()) this.#emitAck(nowUs, sink);
    if (this.#tcb.state !== 'time-wait') sender.transmit(nowUs, sink);
    if (keepalive.isDue && sink.hasRoom()) {
      keepalive.isDue = false;
      this.stats.keepalives++;
      sender.sendKeepalive(nowUs, sink);
    }
    if (receiver.ackNow && sink.hasRoom()) this.#emitAck(nowUs, sink);
  }

  #emitSyn(nowUs: Micros, sink: SegmentSink): void {
    const { state, handshake, sender, writer } = this.#tcb;
    handshake.onSynSent(nowUs);
    sender.space.lastSentUs = nowUs;
    if (state === 'syn-sent') {
      const data = handshake.dataForSyn;
      const parts = data.length === 0 ? NO_PARTS : [data];
      writer.write(nowUs, sink, 'syn', TCP_SYN, 0, data.length, null, parts, 0, data.length, false);
      return;
    }
    writer.write(nowUs, sink, 'synack', TCP_SYN, 0, 0, null, NO_PARTS, 0, this.mssBytes, false);
    if (!handshake.hasTakenData || handshake.isEarly) return;
    handshake.isEarly = true;
    sender.mss.refresh();
    this.owner.onSynAnswered?.();
  }

  #emitAck(nowUs: Micros, sink: SegmentSink): void {
    const { writer } = this.#tcb;
    this.#ackRequested = false;
    writer.write(nowUs, sink, 'ack', 0, this.sndNxt, 0, null, NO_PARTS, 0, this.mssBytes, false);
  }

  #emitRst(nowUs: Micros, sink: SegmentSink, rst: { seq: number; flags: number }): void {
    const { answers, writer } = this.#tcb;
    answers.rst = null;
    writer.write(nowUs, sink, 'rst', rst.flags, rst.seq, 0, null, NO_PARTS, 0, this.mssBytes, false);
  }
}

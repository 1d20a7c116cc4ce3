/**
 * One TCP endpoint: the state machine of RFC 9293 3.10 with RFC 5961 (blind attacks), RFC 7323 (scaling, timestamps,
 * PAWS) and RFC 5927 (ICMP), put together from Sender, Receiver and SegmentWriter. It owns no bytes: see owner.ts.
 *
 * Driving it: `onSegment`, `onIcmp`, `onTimer` and the owner's calls change state and emit nothing; `pollTransmit` then
 * emits all that may go. `nextDeadline` is when `onTimer` followed by `pollTransmit` is due. A closed subflow may still
 * owe a RST: poll once more (`hasWork`) before forgetting it.
 */
import type { CoreEnv } from '../base/env.js';
import { randomU32 } from '../base/env.js';
import { unwrap32 } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import type { CongestionController } from '../congestion/controller.js';
import { SegmentView, TCP_ACK, TCP_CWR, TCP_ECE, TCP_FIN, TCP_RST, TCP_SYN } from '../wire/segment.js';
import { AckLimiter } from './ack-limiter.js';
import { type SubflowConfig, SubflowStats } from './config.js';
import type { FlowTuple } from './flow.js';
import type { CloseReason, SegmentSink, SubflowOwner } from './owner.js';
import { Receiver } from './receiver.js';
import { RttEstimator } from './rtt.js';
import { SACKED } from './scoreboard.js';
import { type Negotiated, NO_PARTS, SegmentWriter } from './segment-writer.js';
import { Sender } from './sender.js';
import { isSynchronized, mayReceive, maySend, type TcpState } from './states.js';
import { isTsBefore, Timestamps } from './timestamps.js';

export type { SubflowConfig } from './config.js';
export { DEFAULT_SUBFLOW_CONFIG, SubflowStats } from './config.js';
export type { TcpState } from './states.js';

/** RFC 7323 2.3: a larger shift is taken as this one. */
const MAX_SHIFT = 14;
const ECN_CE = 3;

export class TcpSubflow {
  readonly rtt: RttEstimator;
  readonly stats = new SubflowStats();
  /** Initial sequence numbers on the wire; `irs` is 0 until the peer's SYN arrived. */
  readonly iss: number;
  irs = 0;

  readonly #sender: Sender;
  readonly #receiver: Receiver;
  readonly #writer: SegmentWriter;
  readonly #ts: Timestamps;
  readonly #limiter: AckLimiter;
  readonly #negotiated: Negotiated;

  #state: TcpState = 'closed';
  #isActiveOpen = false;
  #lastReceivedUs: Micros = 0;

  // Handshake.
  #synDue = false;
  #synSentUs: Micros = 0;
  #synRetransmits = 0;
  #synDeadlineUs: Micros = NEVER;
  #synData: Uint8Array | null = null;
  #finWhenEstablished = false;

  /** A RST to send: relative sequence number and flags. */
  #rst: { seq: number; flags: number } | null = null;
  #ackRequested = false;
  /** Sequence number of the peer's FIN, also when it came early; -1: none yet. */
  #peerFinSeq = -1;
  /** End of TIME-WAIT, or of FIN-WAIT-2 without news. */
  #lingerUntilUs: Micros = NEVER;
  #keepaliveCount = 0;
  #keepaliveDue = false;

  constructor(
    readonly env: CoreEnv,
    readonly owner: SubflowOwner,
    readonly flow: FlowTuple,
    readonly config: SubflowConfig,
    isn: number,
  ) {
    this.iss = isn >>> 0;
    this.rtt = new RttEstimator(config.initialRtoUs, config.minRtoUs, config.maxRtoUs);
    this.#ts = new Timestamps(randomU32(env));
    this.#limiter = new AckLimiter(config.challengeAcksPerSecond);
    this.#receiver = new Receiver(config, this.stats);
    const headerBytes = (flow.family === 6 ? 40 : 20) + 20;
    this.#negotiated = {
      sendShift: 0,
      receiveShift: 0,
      sack: false,
      ecn: false,
      offerWscale: true,
      offerSack: config.useSack,
      offerTs: config.useTimestamps,
      offerEcn: config.useEcn,
      localMss: config.mtuBytes - headerBytes,
    };
    const cc = config.congestion({
      mssBytes: config.mtuBytes - headerBytes - (config.useTimestamps ? 12 : 0),
      initialCwndSegments: config.initialCwndSegments,
    });
    this.#writer = new SegmentWriter(this, owner, this.#receiver, this.#ts, this.#negotiated, this.stats);
    this.#sender = new Sender(this, owner, config, this.rtt, cc, this.#ts, this.stats, this.#writer);
  }

  get state(): TcpState {
    return this.#state;
  }
  /** ESTABLISHED or a later state that is not closed. */
  get isEstablished(): boolean {
    return isSynchronized(this.#state);
  }
  /** ESTABLISHED or CLOSE-WAIT, and our FIN not asked for. */
  get canSendData(): boolean {
    return maySend(this.#state);
  }
  get cc(): CongestionController {
    return this.#sender.cc;
  }
  get sndUna(): number {
    return this.#sender.space.sndUna;
  }
  get sndNxt(): number {
    return this.#sender.space.sndNxt;
  }
  /** SND.WND, unscaled bytes from sndUna. */
  get sndWndBytes(): number {
    return this.#sender.space.sndWnd;
  }
  /** Shift of the window field in the peer's segments without SYN (RFC 7323 2.2): for the connection-level window. */
  get sndWndShift(): number {
    return this.#negotiated.sendShift;
  }
  get rcvNxt(): number {
    return this.#receiver.rcvNxt;
  }
  /** End of the highest data received, out of order included. */
  get maxRcvNxt(): number {
    return this.#receiver.maxRcvNxt;
  }
  /** Payload of a full data segment, after all options. */
  get mssBytes(): number {
    return this.#sender.mss.bytes;
  }
  /** RFC 6675 pipe. */
  get inFlightBytes(): number {
    return this.#sender.recovery.inFlightBytes;
  }
  get deliveryRateBytesPerS(): number {
    return this.#sender.rate.bytesPerS;
  }
  /** Consecutive timeouts without progress; during the handshake, retransmissions of the SYN or SYN/ACK. */
  get rtoCount(): number {
    return isSynchronized(this.#state) ? this.#sender.recovery.rtoCount : this.#synRetransmits;
  }
  /** When the earliest outstanding byte was first sent; NEVER if none is outstanding. */
  get oldestUnackedSentUs(): Micros {
    return this.#sender.board.oldestFirstSentUs;
  }
  /** When the last acceptable segment arrived. */
  get lastReceivedUs(): Micros {
    return this.#lastReceivedUs;
  }
  /** When something of ours was last acknowledged (cumulatively or by SACK). */
  get lastProgressUs(): Micros {
    return this.#sender.lastProgressUs;
  }
  /** Fast recovery or RTO recovery is under way. */
  get isRecovering(): boolean {
    return this.#sender.recovery.phase !== 'open';
  }

  // ---- opening and closing

  /** Active open: queues the SYN. */
  connect(nowUs: Micros): void {
    this.#state = 'syn-sent';
    this.#isActiveOpen = true;
    this.#sender.onOpen();
    this.#synDue = true;
    this.#lastReceivedUs = nowUs;
  }

  /** Passive open by a SYN that the engine matched: queues the SYN/ACK (RFC 9293 3.10.7.2). */
  accept(nowUs: Micros, syn: SegmentView): void {
    this.#state = 'syn-received';
    this.#sender.onOpen();
    this.#onPeerSyn(nowUs, syn);
    this.#keepSynData(syn);
    if (this.#askOwner(nowUs, syn)) this.#synDue = true;
    else if (this.#isOpen()) this.#close(nowUs, 'aborted');
  }

  /** FIN after all data pulled so far; nothing is pulled afterwards. */
  sendFin(nowUs: Micros): void {
    switch (this.#state) {
      case 'syn-sent':
        this.#close(nowUs, 'aborted');
        return;
      case 'syn-received':
        this.#finWhenEstablished = true;
        return;
      case 'established':
        this.#state = 'fin-wait-1';
        break;
      case 'close-wait':
        this.#state = 'last-ack';
        break;
      default:
        return;
    }
    this.#sender.space.finQueued = true;
  }

  /** Gives the subflow up at once, with a RST (options by writeOptions 'rst') or silently. */
  abort(nowUs: Micros, sendRst: boolean): void {
    if (this.#state === 'closed') return;
    // Where no SYN of the peer has been seen, nobody knows of us.
    const wantsRst = sendRst && this.rcvNxt > 0 && this.#state !== 'time-wait';
    if (wantsRst) this.#rst = { seq: this.#sender.space.sndNxt, flags: TCP_RST | TCP_ACK };
    this.#close(nowUs, 'aborted');
  }

  /** RFC 9293 3.6.1, RFC 6191: a SYN that may open a new connection although this one is in TIME-WAIT. */
  acceptsNewSyn(syn: SegmentView): boolean {
    if (this.#state !== 'time-wait' || (syn.flags & (TCP_SYN | TCP_ACK | TCP_RST)) !== TCP_SYN) return false;
    if (this.#ts.enabled && syn.hasTs && isTsBefore(this.#ts.recent, syn.tsVal)) return true;
    return unwrap32(syn.seq, this.irs, this.rcvNxt) > this.rcvNxt;
  }

  // ---- owner's controls

  /** A pure ACK leaves at the next poll, whatever else does: it carries options that the owner wants out. */
  requestAck(_nowUs: Micros): void {
    this.#ackRequested = true;
  }

  /** New data admitted now: least of cwnd - pipe, the peer's window on this subflow, and pacing credit. */
  availableBytes(nowUs: Micros): number {
    return this.canSendData ? this.#sender.availableBytes(nowUs) : 0;
  }

  /** When pacing admits data; `nowUs` if it does. */
  /** At most this much leaves here, bytes/s of payload (an operator's wish, not a measurement); Infinity: no limit. */
  setRateLimit(bytesPerS: number): void {
    this.#sender.rateLimitBytesPerS = bytesPerS;
  }

  readyAtUs(nowUs: Micros): Micros {
    return this.#sender.readyAtUs(nowUs);
  }

  /** As `readyAtUs`, by an owner with bytes that will wake us then; `forgetCredit` when it has none any more. */
  awaitCredit(nowUs: Micros): Micros {
    return this.#sender.awaitCredit(nowUs);
  }

  forgetCredit(): void {
    this.#sender.forgetCredit();
  }

  /** The owner has nothing (more) for this subflow although it could send: delivery-rate samples are app-limited. */
  markAppLimited(_nowUs: Micros): void {
    if (this.canSendData) this.#sender.onAppLimited();
  }

  /** Outstanding payload in sequence order. */
  forEachUnacked(fn: (seq: number, lengthBytes: number, tag: unknown, isSacked: boolean) => void): void {
    for (let rec = this.#sender.board.head; rec !== null; rec = rec.next) {
      if (rec.lengthBytes > 0) fn(rec.seq, rec.lengthBytes, rec.tag, rec.status === SACKED);
    }
  }

  /**
   * While the owner suspects the path dead: one segment (the first unacknowledged one, or an empty one that must be
   * answered) every `us`, and nothing else but ACKs. 0, and any progress, end it.
   */
  setProbeInterval(us: Micros): void {
    this.#sender.setProbeInterval(us);
  }

  /** The link came back: forget the back-off, ask at once. */
  kick(nowUs: Micros): void {
    if (this.#state === 'syn-sent' || this.#state === 'syn-received') {
      this.#synRetransmits = 0;
      this.#synDue = true;
    } else if (isSynchronized(this.#state) && this.#state !== 'time-wait') {
      this.#sender.kick(nowUs);
    }
  }

  /** The MTU of the local link changed. */
  onMtuChange(mtuBytes: number): void {
    this.#sender.onLinkMtu(mtuBytes);
  }

  setNoDelay(noDelay: boolean): void {
    this.#sender.noDelay = noDelay;
  }

  // ---- inputs

  /** One segment whose addresses and ports are this subflow's and whose checksum is good. */
  onSegment(nowUs: Micros, seg: SegmentView): void {
    this.stats.segmentsReceived++;
    if (this.#state === 'closed') return;
    if (this.#state === 'syn-sent') this.#onSegmentSynSent(nowUs, seg);
    else this.#onSegmentSynchronized(nowUs, seg);
  }

  /**
   * An ICMP error that quotes a segment of ours with wire sequence number `quotedSeq`. `mtuBytes` > 0: fragmentation
   * needed / packet too big. `hard`: protocol, port or host unreachable by policy (RFC 9293 3.9.2.2).
   */
  onIcmp(nowUs: Micros, hard: boolean, mtuBytes: number, quotedSeq: number): void {
    // RFC 5927 4.1: only what is in flight can have caused it.
    const seq = unwrap32(quotedSeq, this.iss, this.#sender.space.sndUna);
    if (this.#state === 'closed' || seq < this.#sender.space.sndUna || seq >= this.#sender.space.sndNxt) {
      this.stats.dropIcmpSequence++;
      return;
    }
    if (mtuBytes > 0) this.#sender.onPacketTooBig(nowUs, mtuBytes);
    else if (hard && this.#state === 'syn-sent') this.#close(nowUs, 'unreachable');
  }

  onTimer(nowUs: Micros): void {
    switch (this.#state) {
      case 'closed':
        return;
      case 'syn-sent':
      case 'syn-received':
        this.#onSynTimer(nowUs);
        return;
      case 'time-wait':
        this.#receiver.onTimer(nowUs);
        if (nowUs >= this.#lingerUntilUs) this.#state = 'closed';
        return;
    }
    this.#receiver.onTimer(nowUs);
    this.#sender.onTimer(nowUs);
    if (this.#givesUp(nowUs)) return;
    if (nowUs >= this.#keepaliveAtUs()) this.#onKeepaliveTimer(nowUs);
  }

  /** When `onTimer` is due next; NEVER if nothing is pending. Waking early or late is harmless. */
  nextDeadline(): Micros {
    switch (this.#state) {
      case 'closed':
        return NEVER;
      case 'syn-sent':
      case 'syn-received':
        return this.#synDeadlineUs;
      case 'time-wait':
        return Math.min(this.#lingerUntilUs, this.#receiver.ackDeadlineUs);
    }
    return Math.min(
      this.#receiver.ackDeadlineUs,
      this.#sender.nextDeadline(),
      this.#lingerUntilUs,
      this.#giveUpAtUs(),
      this.#keepaliveAtUs(),
    );
  }

  // ---- output

  /** Something would be emitted now (a scheduler that gives this subflow nothing may still make it less). */
  hasWork(nowUs: Micros): boolean {
    if (this.#rst !== null) return true;
    if (this.#state === 'closed') return false;
    if (this.#synDue || this.#ackRequested || this.#keepaliveDue) return true;
    if (!isSynchronized(this.#state)) return false;
    const { ackNow, ackDeadlineUs } = this.#receiver;
    if (ackNow || nowUs >= ackDeadlineUs || this.#sender.hasUrgentWork(nowUs)) return true;
    return this.canSendData && this.owner.hasPending(this) && this.#sender.availableBytes(nowUs) > 0;
  }

  /** Emits all that may go, until the sink is full. */
  pollTransmit(nowUs: Micros, sink: SegmentSink): void {
    if (this.#rst !== null && sink.hasRoom()) this.#emitRst(nowUs, sink, this.#rst);
    if (this.#state === 'closed') return;
    if (!isSynchronized(this.#state)) {
      if (this.#synDue && sink.hasRoom()) this.#emitSyn(nowUs, sink);
      return;
    }
    if (this.#ackRequested && sink.hasRoom()) this.#emitAck(nowUs, sink);
    if (this.#state !== 'time-wait') this.#sender.transmit(nowUs, sink);
    if (this.#keepaliveDue && sink.hasRoom()) {
      this.#keepaliveDue = false;
      this.stats.keepalives++;
      this.#sender.sendKeepalive(nowUs, sink);
    }
    if (this.#receiver.ackNow && sink.hasRoom()) this.#emitAck(nowUs, sink);
  }

  // ---- SYN-SENT (RFC 9293 3.10.7.3)

  #onSegmentSynSent(nowUs: Micros, seg: SegmentView): void {
    const hasAck = (seg.flags & TCP_ACK) !== 0;
    if (hasAck && seg.ack !== (this.iss + 1) >>> 0) {
      this.stats.dropBadAck++;
      if ((seg.flags & TCP_RST) === 0) this.#answerWithRst(seg);
      return;
    }
    if ((seg.flags & TCP_RST) !== 0) {
      if (!hasAck) return;
      if (!this.#askOwner(nowUs, seg)) return;
      this.#close(nowUs, 'refused');
      return;
    }
    if ((seg.flags & TCP_SYN) === 0) return;
    this.#onPeerSyn(nowUs, seg);
    if (!this.#askOwner(nowUs, seg)) return;
    if (!hasAck) {
      // RFC 9293 3.5, figure 8: simultaneous open.
      this.#state = 'syn-received';
      this.#keepSynData(seg);
      this.#synDue = true;
      return;
    }
    this.#establish(nowUs, seg, 0);
    if (!this.#isOpen()) return;
    this.#receiver.ackNow = true;
    if (seg.payloadLen > 0) this.#takePayload(nowUs, seg, 1);
    if (this.#isOpen()) this.#takeFin(nowUs, seg, 1 + seg.payloadLen);
    if (this.#isOpen()) this.owner.onSegmentDone(nowUs, this, seg);
  }

  // ---- all later states (RFC 9293 3.10.7.4)

  #onSegmentSynchronized(nowUs: Micros, seg: SegmentView): void {
    const { flags } = seg;
    const receiver = this.#receiver;
    let seq = unwrap32(seg.seq, this.irs, receiver.rcvNxt);
    const isSyn = (flags & TCP_SYN) !== 0;
    const isRst = (flags & TCP_RST) !== 0;
    let lengthBytes = seg.payloadLen + ((flags & TCP_FIN) !== 0 ? 1 : 0) + (isSyn ? 1 : 0);
    let takesSyn = false;
    if (this.#state === 'syn-received' && isSyn && !isRst && seq === 0) {
      if ((flags & TCP_ACK) === 0) {
        this.#synDue = true; // our SYN/ACK was lost
        return;
      }
      // The other half of a simultaneous open: its SYN is known, its ACK is news.
      takesSyn = true;
      seq = 1;
      lengthBytes--;
    }

    // First: sequence number. PAWS comes before (RFC 7323 5.3), and never stops a RST.
    if (this.#ts.enabled && seg.hasTs && !isRst && this.#ts.failsPaws(nowUs, seg.tsVal)) {
      this.stats.dropPaws++;
      this.#answerDuplicate(nowUs, seg, seq);
      return;
    }
    let payloadBytes = seg.payloadLen;
    if (!receiver.isAcceptable(seq, lengthBytes)) {
      if (isRst) return;
      // A shut window takes no data, but the ACK of a segment that would be next is as good as any (3.10.7.4).
      const isWindowProbe = seq === receiver.rcvNxt && receiver.windowBytes === 0;
      if (!isWindowProbe || isSyn) {
        this.#answerDuplicate(nowUs, seg, seq);
        return;
      }
      this.stats.dropOutOfWindow++;
      receiver.ackNow = true;
      payloadBytes = 0;
    }

    // Second: RST (RFC 5961 3.2). Third: SYN (RFC 5961 4.2).
    if (isRst) {
      if (seq !== receiver.rcvNxt) this.#challenge(nowUs);
      else if (this.#askOwner(nowUs, seg)) this.#onReset(nowUs);
      return;
    }
    if (isSyn && !takesSyn) {
      this.#challenge(nowUs);
      return;
    }

    // Fourth: ACK (RFC 5961 5.2).
    if ((flags & TCP_ACK) === 0) {
      this.stats.dropNoAck++;
      return;
    }
    const ack = unwrap32(seg.ack, this.iss, this.#sender.space.sndUna);
    if (this.#state === 'syn-received') {
      if (ack !== 1) {
        this.stats.dropBadAck++;
        this.#answerWithRst(seg);
        return;
      }
    } else if (ack > this.#sender.space.sndNxt || ack < this.#sender.space.sndUna - this.#sender.space.maxSndWnd) {
      this.stats.dropBadAck++;
      this.#challenge(nowUs);
      return;
    }

    if (!this.#askOwner(nowUs, seg)) return;
    this.#lastReceivedUs = nowUs;
    this.#keepaliveCount = 0;
    if (this.#ts.enabled && seg.hasTs) this.#ts.onAccepted(nowUs, seg.tsVal, seq, receiver.lastAckSent);
    if (this.#negotiated.ecn) this.#noteCongestionMarks(seg);
    if (this.#state === 'syn-received') this.#establish(nowUs, seg, seq);
    if (!this.#isOpen()) return;

    this.#onAck(nowUs, seg, seq, ack);
    if (!this.#isOpen()) return;
    const receives = mayReceive(this.#state);
    if (receives && payloadBytes > 0) this.#takePayload(nowUs, seg, seq);
    if (!this.#isOpen()) return;
    const isWhole = payloadBytes === seg.payloadLen;
    if (isWhole) this.#takeFin(nowUs, seg, seq + seg.payloadLen);
    if (this.#state === 'time-wait' && (flags & TCP_FIN) !== 0) this.#startTimeWait(nowUs);
    if (this.#isOpen()) this.owner.onSegmentDone(nowUs, this, seg);
  }

  #onAck(nowUs: Micros, seg: SegmentView, seq: number, ack: number): void {
    const sender = this.#sender;
    if (ack < sender.space.sndUna) return; // an old one, overtaken
    const { space } = sender;
    const hadWindow = space.sndWnd;
    space.updateWindow(seq, ack, seg.window * 2 ** this.#negotiated.sendShift);
    if (sender.board.isEmpty) sender.onAlive(nowUs);
    sender.onAck(nowUs, seg, ack, space.sndWnd !== hadWindow);
    if (!this.#isOpen() || space.finSeq < 0 || space.sndUna <= space.finSeq) return;
    // Our FIN is acknowledged.
    if (this.#state === 'fin-wait-1') {
      this.#state = 'fin-wait-2';
      if (this.config.finWait2Us > 0) this.#lingerUntilUs = nowUs + this.config.finWait2Us;
    } else if (this.#state === 'closing') {
      this.#enterTimeWait(nowUs);
    } else if (this.#state === 'last-ack') {
      this.#close(nowUs, 'done');
    }
  }

  /** Trims to what is new and inside the window, hands it to the owner, notes it for ACK and SACK. */
  #takePayload(nowUs: Micros, seg: SegmentView, segSeq: number): void {
    const receiver = this.#receiver;
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
      this.stats.dropOutOfWindow++;
      bytes -= excess;
      receiver.ackNow = true;
    }
    if (bytes <= 0) return;
    if (!receiver.hasRoomFor(seq, seq + bytes)) {
      this.stats.dropRangesFull++;
      receiver.ackNow = true;
      return;
    }
    this.owner.onPayload(nowUs, this, seg, seq, offset, bytes);
    if (!this.#isOpen()) return;
    receiver.onData(nowUs, seq, seq + bytes, seg.gsoSize > 0 ? seg.gsoSize : seg.payloadLen);
  }

  /** RFC 9293 3.10.7.4, eighth: FIN, which may have come before the data in front of it. */
  #takeFin(nowUs: Micros, seg: SegmentView, finSeq: number): void {
    if (!mayReceive(this.#state)) return;
    if ((seg.flags & TCP_FIN) !== 0 && this.#peerFinSeq < 0) {
      this.#peerFinSeq = finSeq;
      this.#receiver.ackNow = true;
    }
    if (this.#peerFinSeq < 0 || this.#receiver.rcvNxt !== this.#peerFinSeq) return;
    this.#receiver.onFin();
    switch (this.#state) {
      case 'established':
        this.#state = 'close-wait';
        break;
      case 'fin-wait-1':
        this.#state = 'closing';
        break;
      case 'fin-wait-2':
        this.owner.onPeerFin(nowUs, this);
        if (this.#isOpen()) this.#enterTimeWait(nowUs);
        return;
    }
    this.owner.onPeerFin(nowUs, this);
  }

  // ---- handshake

  /** Takes the peer's SYN: numbers and options (RFC 7323 1.3, 2.2, 3.2; RFC 2018 2; RFC 3168 6.1.1). */
  #onPeerSyn(nowUs: Micros, seg: SegmentView): void {
    const n = this.#negotiated;
    this.irs = seg.seq;
    this.#lastReceivedUs = nowUs;
    const isSynAck = (seg.flags & TCP_ACK) !== 0;
    n.offerWscale &&= seg.wscale >= 0;
    n.sendShift = n.offerWscale ? Math.min(seg.wscale, MAX_SHIFT) : 0;
    n.receiveShift = n.offerWscale ? this.config.windowScale : 0;
    n.offerSack &&= seg.sackPermitted;
    n.sack = n.offerSack;
    n.offerTs &&= seg.hasTs;
    this.#ts.enabled = n.offerTs;
    if (n.offerTs) this.#ts.onSyn(nowUs, seg.tsVal);
    // A SYN says ECE and CWR, a SYN/ACK only ECE.
    const marks = seg.flags & (TCP_ECE | TCP_CWR);
    n.offerEcn &&= marks === (isSynAck ? TCP_ECE : TCP_ECE | TCP_CWR);
    n.ecn = n.offerEcn;
    this.#receiver.onSyn(0);
    this.#sender.onPeerSyn(nowUs, seg, n.sack, n.ecn);
  }

  /** T23, RFC 9293 3.10.7.2: data in a SYN is kept (one segment's worth) until the handshake is complete. */
  #keepSynData(syn: SegmentView): void {
    const bytes = Math.min(syn.payloadLen, this.#negotiated.localMss);
    if (bytes <= 0) return;
    this.#synData = syn.buf.slice(syn.payloadOff, syn.payloadOff + bytes);
    this.#receiver.onSyn(bytes);
  }

  #establish(nowUs: Micros, seg: SegmentView, seq: number): void {
    const sender = this.#sender;
    sender.onSynAcked(nowUs, seq);
    if (this.#synRetransmits === 0) {
      this.rtt.onSample(nowUs, nowUs - this.#synSentUs, 1);
    } else {
      const ageUs = this.#ts.enabled && seg.hasTs ? this.#ts.ageUs(nowUs, seg.tsEcr) : 0;
      if (ageUs > 0 && ageUs < this.config.maxRtoUs) this.rtt.onSample(nowUs, ageUs, 1);
      this.rtt.onSynRetransmitted(); // RFC 6298 5.7
    }
    this.#synDue = false;
    this.#synDeadlineUs = NEVER;
    this.#state = 'established';
    this.owner.onEstablished(nowUs, this);
    if (this.#synData !== null && this.#isOpen()) this.#deliverSynData(nowUs, this.#synData);
    if (this.#finWhenEstablished && this.#isOpen()) this.sendFin(nowUs);
  }

  #deliverSynData(nowUs: Micros, data: Uint8Array): void {
    const view = new SegmentView();
    view.buf = data;
    view.payloadLen = data.length;
    this.#synData = null;
    this.owner.onPayload(nowUs, this, view, 1, 0, data.length);
    this.stats.bytesReceived += data.length;
  }

  #onSynTimer(nowUs: Micros): void {
    if (nowUs < this.#synDeadlineUs) return;
    if (this.#synRetransmits >= this.config.synRetries) {
      this.#close(nowUs, 'timeout');
      return;
    }
    this.#synRetransmits++;
    this.#synDue = true;
    this.#negotiated.offerEcn = false; // RFC 3168 6.1.1.1: perhaps somebody drops ECN-setup SYNs
    this.#synDeadlineUs = nowUs + this.rtt.backedOffUs(this.#synRetransmits);
  }

  // ---- answers

  /** An unacceptable segment (RFC 9293 3.10.7.4): say where we are; data that had arrived before is named (RFC 2883). */
  #answerDuplicate(nowUs: Micros, seg: SegmentView, seq: number): void {
    if (this.#state === 'syn-received') {
      this.#synDue = true;
      return;
    }
    const end = seq + seg.payloadLen;
    if (seg.payloadLen > 0 && end <= this.#receiver.rcvNxt) {
      this.#receiver.noteDuplicate(seq, end);
    } else {
      this.stats.dropOutOfWindow++;
      if (this.#limiter.take(nowUs)) this.#receiver.ackNow = true;
    }
    if (this.#state === 'time-wait' && (seg.flags & TCP_FIN) !== 0) {
      this.#receiver.ackNow = true;
      this.#startTimeWait(nowUs); // RFC 9293 3.10.7.4: the peer's FIN again
    }
  }

  /** RFC 5961 7: rate-limited. */
  #challenge(nowUs: Micros): void {
    if (!this.#limiter.take(nowUs)) {
      this.stats.challengeAcksSuppressed++;
      return;
    }
    this.stats.challengeAcks++;
    if (this.#state === 'syn-received') this.#synDue = true;
    else this.#receiver.ackNow = true;
  }

  /** RFC 9293 3.10.7.3, 3.10.7.4: <SEQ=SEG.ACK><CTL=RST>, and we go on. */
  #answerWithRst(seg: SegmentView): void {
    this.#rst = { seq: unwrap32(seg.ack, this.iss, 0), flags: TCP_RST };
  }

  #noteCongestionMarks(seg: SegmentView): void {
    // RFC 3168 6.1.3: CWR ends the echo, and CE on the same segment begins a new one.
    if ((seg.flags & TCP_CWR) !== 0) this.#writer.echoCongestion = false;
    if (seg.ecn === ECN_CE && seg.payloadLen > 0) this.#writer.echoCongestion = true;
  }

  /** The owner sees the options; false: it wants the segment ignored or the subflow aborted (which then has happened). */
  #askOwner(nowUs: Micros, seg: SegmentView): boolean {
    const verdict = this.owner.onOptions(nowUs, this, seg);
    if (verdict === 'reset') this.abort(nowUs, true);
    return verdict === 'continue' && this.#isOpen();
  }

  #onReset(nowUs: Micros): void {
    const isRefused = this.#state === 'syn-received' && this.#isActiveOpen;
    this.#close(nowUs, isRefused ? 'refused' : 'reset');
  }

  // ---- ends

  #isOpen(): boolean {
    return this.#state !== 'closed';
  }

  #close(nowUs: Micros, why: CloseReason): void {
    if (this.#state === 'closed') return;
    const wasTold = this.#state === 'time-wait';
    this.#state = 'closed';
    if (!wasTold) this.owner.onClosed(nowUs, this, why);
  }

  #enterTimeWait(nowUs: Micros): void {
    this.#state = 'time-wait';
    this.#startTimeWait(nowUs);
    this.owner.onClosed(nowUs, this, 'done');
  }

  #startTimeWait(nowUs: Micros): void {
    this.#lingerUntilUs = nowUs + this.config.timeWaitUs;
  }

  /** R2 (RFC 9293 3.8.3), an unanswered persist timer, or FIN-WAIT-2 without end. */
  #giveUpAtUs(): Micros {
    return this.#sender.stuckSinceUs + this.config.r2Us;
  }

  #givesUp(nowUs: Micros): boolean {
    if (this.#state === 'fin-wait-2' && nowUs >= this.#lingerUntilUs) this.#close(nowUs, 'done');
    else if (nowUs >= this.#giveUpAtUs()) this.#close(nowUs, 'timeout');
    return !this.#isOpen();
  }

  #keepaliveAtUs(): Micros {
    const { keepaliveIdleUs, keepaliveIntervalUs } = this.config;
    if (keepaliveIdleUs <= 0 || !this.#sender.board.isEmpty || this.#sender.isProbing) return NEVER;
    return this.#lastReceivedUs + keepaliveIdleUs + this.#keepaliveCount * keepaliveIntervalUs;
  }

  #onKeepaliveTimer(nowUs: Micros): void {
    if (this.#keepaliveCount >= this.config.keepaliveProbes) {
      this.#close(nowUs, 'timeout');
      return;
    }
    this.#keepaliveCount++;
    this.#keepaliveDue = true;
  }

  // ---- emission of what is not data

  #emitSyn(nowUs: Micros, sink: SegmentSink): void {
    const kind = this.#state === 'syn-sent' ? 'syn' : 'synack';
    this.#synDue = false;
    this.#synSentUs = nowUs;
    this.#sender.space.lastSentUs = nowUs;
    this.#synDeadlineUs = nowUs + this.rtt.backedOffUs(this.#synRetransmits);
    this.#writer.write(nowUs, sink, kind, TCP_SYN, 0, 0, null, NO_PARTS, 0, this.mssBytes, false);
  }

  #emitAck(nowUs: Micros, sink: SegmentSink): void {
    this.#ackRequested = false;
    this.#writer.write(nowUs, sink, 'ack', 0, this.#sender.space.sndNxt, 0, null, NO_PARTS, 0, this.mssBytes, false);
  }

  #emitRst(nowUs: Micros, sink: SegmentSink, rst: { seq: number; flags: number }): void {
    this.#rst = null;
    this.#writer.write(nowUs, sink, 'rst', rst.flags, rst.seq, 0, null, NO_PARTS, 0, this.mssBytes, false);
  }
}

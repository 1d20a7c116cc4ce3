/**
 * Sending half of a subflow: sequence space, windows, loss recovery, what to send next. It composes the small machines
 * (scoreboard, RACK, TLP, PRR, pacer, delivery rate, path MTU, congestion control) and owns their order. Read first:
 * RFC 9293 3.8, RFC 6675 5, RFC 8985, RFC 6298 5, RFC 3522.
 *
 * Phases:  open ─loss→ recovery ─SND.UNA reaches the recovery point→ open
 *          any ─RTO→ rto ─SND.UNA reaches the recovery point→ open;    recovery, rto ─spurious→ open
 */
import { unwrap32 } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import { AckSample, type CongestionController } from '../congestion/controller.js';
import { type SegmentView, TCP_CWR, TCP_ECE, TCP_FIN, TCP_PSH } from '../wire/segment.js';
import type { SubflowConfig, SubflowStats } from './config.js';
import { DeliveryRate } from './delivery-rate.js';
import { LossProbe } from './loss-probe.js';
import type { SegmentSink, SendUnit, SubflowOwner } from './owner.js';
import { Pacer } from './pacer.js';
import { PathMtu } from './pmtu.js';
import { ProportionalRateReduction } from './prr.js';
import { Rack } from './rack.js';
import type { RttEstimator } from './rtt.js';
import { IN_FLIGHT, LOST, SACKED, Scoreboard, type ScoreboardObserver, type SentRecord } from './scoreboard.js';
import { NO_PARTS, type SegmentWriter } from './segment-writer.js';
import type { TcpSubflow } from './subflow.js';
import { isTsBefore, type Timestamps } from './timestamps.js';

const TCP_HEADER = 20;
const TIMESTAMPS_OPTION = 12;
/** RFC 6691, RFC 9293 3.7.1: an MSS below this is somebody's mistake or attack. */
const MIN_MSS = 88;
/** RFC 6582 and 5681: duplicate ACKs that mean loss, without SACK. */
const DUP_THRESH = 3;

type Phase = 'open' | 'recovery' | 'rto';

export class Sender implements ScoreboardObserver {
  sndUna = 0;
  sndNxt = 0;
  /** SND.WND and the greatest seen (RFC 9293 3.8.6.2.1, RFC 5961 5.2). */
  sndWnd = 0;
  maxSndWnd = 0;
  /** SACK was negotiated; without it loss detection is NewReno's. */
  sackOk = false;
  ecnOk = false;
  /** MSS option of the peer. */
  peerMss: number;
  /** Payload of a full data segment. */
  mssBytes: number;
  /** Consecutive timeouts without progress. */
  rtoCount = 0;
  lastProgressUs: Micros = 0;
  lastSentUs: Micros = 0;
  noDelay: boolean;
  finQueued = false;
  /** Sequence number of our FIN once sent, else -1. */
  finSeq = -1;

  readonly board: Scoreboard;
  readonly rate = new DeliveryRate();
  readonly pmtu: PathMtu;

  readonly #rack = new Rack();
  readonly #probe = new LossProbe();
  readonly #prr = new ProportionalRateReduction();
  readonly #pacer: Pacer;
  readonly #sample = new AckSample();
  readonly #ipHeaderBytes: number;

  #phase: Phase = 'open';
  #recoveryPoint = 0;
  #rtoBaseUs: Micros = 0;
  #tlpBaseUs: Micros = 0;
  #wl1 = 0;
  #wl2 = 0;
  #dupAcks = 0;

  // What the next transmit owes regardless of window and pacing.
  #forceRetransmit = false;
  #tlpDue = false;
  #probeDue = false;
  #persistDue = false;

  #persistAtUs: Micros = NEVER;
  #persistCount = 0;
  #probeIntervalUs: Micros = 0;
  #nextProbeUs: Micros = NEVER;
  #pacingBlockedUntilUs: Micros = NEVER;
  /** The controller knows of the current pause in sending. */
  #hasRestarted = false;
  #kickedUs: Micros = 0;

  // Congestion-window validation (RFC 7661), as of the last flight.
  #wasCwndLimited = false;
  #usageSeq = 0;
  #maxFlightBytes = 0;

  // Undo of a reduction that proves unnecessary: RFC 3522 (echoed timestamp), RFC 5682 (F-RTO), DSACK.
  #undoMarker = -1;
  #undoBytes = 0;
  #eifelTs = -1;
  #eifelSeq = 0;
  #frtoArmed = false;
  #rtoAtUs: Micros = 0;

  // ECN (RFC 3168 6.1.2).
  #ecnPoint = -1;
  #cwrPending = false;

  // Scratch of the ACK in progress.
  #nowUs: Micros = 0;
  #tsEcr = -1;
  #isCumulative = false;
  #deliveredBytes = 0;
  #lostBytes = 0;
  #newestSentUs: Micros = -1;
  #retransmittedSentUs: Micros = -1;
  #retransmittedFirstUs: Micros = -1;
  #originalDelivered = false;
  readonly #lose = (rec: SentRecord): void => this.#markLost(rec);

  constructor(
    private readonly sf: TcpSubflow,
    private readonly owner: SubflowOwner,
    private readonly config: SubflowConfig,
    private readonly rtt: RttEstimator,
    readonly cc: CongestionController,
    private readonly ts: Timestamps,
    private readonly stats: SubflowStats,
    private readonly writer: SegmentWriter,
  ) {
    this.board = new Scoreboard(this);
    const isV6 = sf.flow.family === 6;
    this.#ipHeaderBytes = isV6 ? 40 : 20;
    this.peerMss = config.mtuBytes - this.#ipHeaderBytes - TCP_HEADER; // until the peer's SYN says
    this.pmtu = new PathMtu(config.mtuBytes, isV6);
    this.#pacer = new Pacer(config.maxSuperBytes);
    this.noDelay = config.noDelay;
    this.mssBytes = this.#ceilingMss();
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** RFC 6675 pipe. Without SACK each duplicate ACK stands for a segment that has left the network. */
  get inFlightBytes(): number {
    if (this.sackOk) return this.board.inFlightBytes;
    return Math.max(0, this.board.inFlightBytes - this.#dupAcks * this.mssBytes);
  }

  /** Room in the peer's window for new data; negative if the peer shrank it (RFC 9293 3.8.6). */
  get windowRoomBytes(): number {
    return this.sndUna + this.sndWnd - this.sndNxt;
  }

  get isProbing(): boolean {
    return this.#probeIntervalUs > 0;
  }

  // ---- handshake

  /** The peer's SYN: MSS option (RFC 9293 3.7.1: 536 or 1220 without one) and window, unscaled. */
  onPeerSyn(nowUs: Micros, seg: SegmentView): void {
    const fallback = seg.family === 6 ? 1220 : 536;
    this.peerMss = seg.mss < 0 ? fallback : Math.max(seg.mss, MIN_MSS);
    this.sndWnd = seg.window;
    this.maxSndWnd = Math.max(this.maxSndWnd, seg.window);
    this.lastProgressUs = nowUs;
    this.refreshMss();
  }

  /** Our SYN is acknowledged by a segment at `seq` (relative). */
  onSynAcked(nowUs: Micros, seq: number): void {
    this.sndUna = 1;
    this.#wl1 = seq;
    this.#wl2 = 1;
    this.lastProgressUs = nowUs;
    this.refreshMss();
  }

  /** RFC 9293 3.10.7.4, fifth check: SND.WND from a segment no older than the one that set it last. */
  updateWindow(seq: number, ack: number, windowBytes: number): void {
    if (this.#wl1 > seq || (this.#wl1 === seq && this.#wl2 > ack)) return;
    this.sndWnd = windowBytes;
    this.maxSndWnd = Math.max(this.maxSndWnd, windowBytes);
    this.#wl1 = seq;
    this.#wl2 = ack;
  }

  /** Effective send MSS (RFC 9293 3.7.1): peer's MSS and path MTU, less the options of a data segment. */
  refreshMss(): void {
    const mss = this.#ceilingMss();
    if (mss === this.mssBytes) return;
    this.mssBytes = mss;
    this.cc.onMssChange(mss);
  }

  // ---- acknowledgments

  /** An acceptable ACK (RFC 9293 3.10.7.4, 5961 5.2): `ack` in [sndUna, sndNxt]; the window is up to date. */
  onAck(nowUs: Micros, seg: SegmentView, ack: number, windowChanged: boolean): void {
    const prevUna = this.sndUna;
    const priorInFlightBytes = this.inFlightBytes;
    const flightBytes = this.sndNxt - prevUna;
    const advanced = ack > prevUna;
    this.#nowUs = nowUs;
    this.#tsEcr = this.ts.enabled && seg.hasTs ? seg.tsEcr : -1;
    this.#deliveredBytes = 0;
    this.#lostBytes = 0;
    this.#newestSentUs = -1;
    this.#retransmittedSentUs = -1;
    this.#originalDelivered = false;
    this.rate.beginAck();

    this.#isCumulative = true;
    this.sndUna = ack;
    if (advanced) this.board.ackTo(ack);
    this.#isCumulative = false;
    const dsackEnd = this.sackOk && seg.sackCount > 0 ? this.#processSack(seg, ack) : -1;
    const isDuplicate = !advanced && seg.payloadLen === 0 && !windowChanged && (seg.flags & TCP_FIN) === 0;
    if (!this.sackOk) this.#countDuplicates(advanced, isDuplicate && flightBytes > 0, ack - prevUna);

    const rttUs = this.#measure(nowUs, flightBytes);
    if (advanced || this.#deliveredBytes > 0) this.#onProgress(nowUs, advanced, ack - prevUna);

    if (this.#phase !== 'open') this.#detectSpurious(advanced, prevUna, ack);
    this.#detectLosses(nowUs, advanced);
    const isTailRepaired = this.#probe.onAck(ack, dsackEnd, isDuplicate && seg.sackCount === 0);
    if (this.#phase !== 'open' && ack >= this.#recoveryPoint) this.#exitRecovery(nowUs);
    if (this.#phase === 'open') {
      if (this.#lostBytes > 0) {
        this.#enterRecovery(nowUs, priorInFlightBytes, flightBytes);
      } else if (isTailRepaired) {
        // RFC 8985 7.4.2: the probe hid a loss from everybody else.
        this.cc.onCongestionEvent(nowUs, priorInFlightBytes, 'loss');
        this.cc.onRecoveryExit(nowUs);
      } else if (this.ecnOk && (seg.flags & TCP_ECE) !== 0 && ack > this.#ecnPoint) {
        this.#onCongestionEcho(nowUs, priorInFlightBytes);
      }
    }
    if (this.#phase === 'recovery') {
      const isSafe = advanced && this.#lostBytes === 0;
      this.#prr.onAck(this.#deliveredBytes, this.inFlightBytes, this.cc.ssthreshBytes, this.mssBytes, isSafe);
    }
    this.#informController(nowUs, seg, advanced ? ack - prevUna : 0, priorInFlightBytes, rttUs);
    if (this.board.isEmpty) this.#rack.deadlineUs = NEVER;
  }

  onDelivered(rec: SentRecord, endSeq: number): void {
    const bytes = endSeq - rec.seq;
    this.#deliveredBytes += bytes;
    if (rec.transmissions === 1) {
      if (rec.sentUs > this.#newestSentUs) this.#newestSentUs = rec.sentUs;
      if (rec.sentUs < this.#rtoAtUs) this.#originalDelivered = true;
    } else if (this.#isCumulative && rec.sentUs > this.#retransmittedSentUs) {
      this.#retransmittedSentUs = rec.sentUs;
      this.#retransmittedFirstUs = rec.firstSentUs;
    }
    if (this.sackOk) {
      // Only a cumulative ACK says which transmission it answers: TS.Recent does not move for data out of order.
      const isAnswered = this.#isCumulative && this.#tsEcr >= 0;
      const echoIsOlder = isAnswered && isTsBefore(this.#tsEcr, this.ts.valueAt(rec.sentUs));
      this.#rack.onDelivered(this.#nowUs, rec, endSeq, this.rtt, echoIsOlder);
    }
    this.rate.onDelivered(this.#nowUs, rec, bytes);
  }

  onAcked(seq: number, lengthBytes: number, tag: unknown): void {
    this.owner.onAcked(this.#nowUs, this.sf, seq, lengthBytes, tag);
  }

  // ---- timers

  nextDeadline(): Micros {
    return Math.min(
      this.#rtoDeadlineUs(),
      this.#tlpDeadlineUs(),
      this.isProbing ? this.#nextProbeUs : this.#rack.deadlineUs,
      this.#persistAtUs,
      this.#pacingDeadlineUs(),
    );
  }

  /** Credit matters only to who has something to send and a window for it: else the deadline wakes us for nothing. */
  #pacingDeadlineUs(): Micros {
    if (this.#pacingBlockedUntilUs === NEVER) return NEVER;
    const lost = this.board.firstLost;
    if (this.#cwndRoom() < (lost === null ? this.mssBytes : this.#retransmitUnit(lost))) return NEVER;
    return lost !== null || this.owner.hasPending(this.sf) ? this.#pacingBlockedUntilUs : NEVER;
  }

  onTimer(nowUs: Micros): void {
    this.#nowUs = nowUs;
    if (this.isProbing) {
      if (nowUs < this.#nextProbeUs) return;
      this.#probeDue = true;
      this.#nextProbeUs = nowUs + this.#probeIntervalUs;
      return;
    }
    if (nowUs >= this.#rack.deadlineUs) this.#onReorderingTimer(nowUs);
    if (nowUs >= this.#tlpDeadlineUs()) {
      this.#tlpDue = true;
      this.#rtoBaseUs = nowUs; // RFC 8985 7.3: the RTO starts over
    } else if (nowUs >= this.#rtoDeadlineUs()) {
      this.#onRto(nowUs);
    }
    if (nowUs >= this.#persistAtUs) {
      this.#persistDue = true;
      this.#persistCount++;
      this.#persistAtUs = nowUs + this.rtt.backedOffUs(this.#persistCount);
    }
  }

  /** See TcpSubflow.setProbeInterval. */
  setProbeInterval(us: Micros): void {
    if (us > 0) this.#nextProbeUs = (this.isProbing ? this.#nextProbeUs - this.#probeIntervalUs : this.lastSentUs) + us;
    else this.#nextProbeUs = NEVER;
    if (us === 0 && this.isProbing) this.#rtoBaseUs = Math.max(this.#rtoBaseUs, this.#nowUs);
    this.#probeIntervalUs = us;
  }

  /** A segment arrived while nothing was outstanding: the path is alive. */
  onAlive(nowUs: Micros): void {
    if (!this.isProbing) return;
    this.#nowUs = nowUs;
    this.setProbeInterval(0);
  }

  /** The path may be back: forget the back-off and ask at once. */
  kick(nowUs: Micros): void {
    this.rtoCount = 0;
    this.#kickedUs = nowUs;
    this.#rtoBaseUs = nowUs;
    this.#persistCount = 0;
    this.#probeDue = true;
    if (this.isProbing) this.#nextProbeUs = nowUs + this.#probeIntervalUs;
  }

  /** A validated ICMP report (RFC 1191, 8201): what no longer fits goes again, and nobody calls it congestion (4821 7.5). */
  onPacketTooBig(nowUs: Micros, mtuBytes: number): void {
    if (!this.pmtu.onPacketTooBig(nowUs, mtuBytes)) return;
    this.stats.pmtuReductions++;
    this.refreshMss();
    this.#nowUs = nowUs;
    let rec = this.board.oldestInFlight;
    while (rec !== null) {
      const next = rec.queueNext;
      if (rec.lengthBytes > this.mssBytes) this.#markLost(rec);
      rec = next;
    }
    this.#lostBytes = 0;
  }

  /** The local link's MTU changed. */
  onLinkMtu(mtuBytes: number): void {
    this.pmtu.onLinkMtu(mtuBytes);
    this.refreshMss();
  }

  /** Since when nothing has got through although something should: for R2 (RFC 9293 3.8.3). NEVER: nothing is owed. */
  get stuckSinceUs(): Micros {
    // A path that the owner probes is the owner's to give up; one that was away starts anew when it is back.
    if (this.board.isEmpty || this.isProbing) return NEVER;
    return Math.max(this.lastProgressUs, this.board.oldestFirstSentUs, this.#kickedUs);
  }

  // ---- sending

  /** New data admitted now, bytes (TcpSubflow.availableBytes without the state check). */
  availableBytes(nowUs: Micros): number {
    if (this.isProbing || this.finQueued || this.board.lostBytes > 0) return 0;
    this.#updatePacer(nowUs);
    const room = Math.min(this.#cwndRoom(), this.#usableWindow());
    return Math.max(0, Math.floor(Math.min(room, this.#pacer.allowanceBytes)));
  }

  readyAtUs(nowUs: Micros): Micros {
    this.#updatePacer(nowUs);
    return this.#pacer.readyAtUs(nowUs);
  }

  awaitCredit(nowUs: Micros): Micros {
    this.#updatePacer(nowUs);
    return this.#pacer.awaitCredit(nowUs);
  }

  forgetCredit(): void {
    this.#pacer.forget();
  }

  #updatePacer(nowUs: Micros): void {
    this.#pacer.update(nowUs, this.cc.pacingRateBytesPerS, this.mssBytes);
    // We woke too late to use the path: what is in flight now says nothing about it.
    if (this.#pacer.takeLostCredit()) this.rate.onAppLimited(this.inFlightBytes);
  }

  /** Nothing to send although the window has room: rate samples of this flight say little about the path. */
  onAppLimited(): void {
    if (this.#cwndRoom() >= this.mssBytes && this.board.lostBytes === 0) this.rate.onAppLimited(this.inFlightBytes);
  }

  /** Something must go out that window and pacing do not hold back, or a lost segment may. */
  hasUrgentWork(nowUs: Micros): boolean {
    if (this.#forceRetransmit && this.board.firstLost !== null) return true;
    if (this.#tlpDue || this.#probeDue || this.#persistDue || (this.finQueued && this.finSeq < 0)) return true;
    if (this.#persistAtUs === NEVER && this.#isWindowBlocked()) return true; // to arm the persist timer
    if (this.isProbing || this.board.firstLost === null) return false;
    this.#updatePacer(nowUs);
    return Math.min(this.#cwndRoom(), this.#pacer.allowanceBytes) >= this.#retransmitUnit(this.board.firstLost);
  }

  /** Emits what may go: probes, retransmissions, new data, FIN. */
  transmit(nowUs: Micros, sink: SegmentSink): void {
    this.#nowUs = nowUs;
    this.#pacingBlockedUntilUs = NEVER;
    if (this.pmtu.maybeRaise(nowUs)) this.refreshMss();
    if (this.#probeDue && sink.hasRoom()) this.#sendPathProbe(nowUs, sink);
    if (this.isProbing) return;
    if (this.#tlpDue && sink.hasRoom()) this.#sendTailProbe(nowUs, sink);
    if (this.#persistDue && sink.hasRoom()) this.#sendWindowProbe(nowUs, sink);

    this.#updatePacer(nowUs);
    const before = this.lastSentBytes;
    while (sink.hasRoom() && this.#sendLost(nowUs, sink));
    if (this.board.firstLost === null) while (sink.hasRoom() && this.#sendNew(nowUs, sink));
    if (this.finQueued && this.finSeq < 0 && this.board.firstLost === null && sink.hasRoom())
      this.#sendFin(nowUs, sink);
    if (this.lastSentBytes !== before) this.#validateWindow();
    this.#armPersist(nowUs);
  }

  /** Payload bytes put on the wire, retransmissions included. */
  get lastSentBytes(): number {
    return this.stats.bytesSent + this.stats.bytesRetransmitted;
  }

  /** A segment that the peer must answer although it carries nothing new (RFC 9293 3.8.4): SEG.SEQ = SND.NXT - 1. */
  sendKeepalive(nowUs: Micros, sink: SegmentSink): void {
    this.writer.write(nowUs, sink, 'ack', 0, this.sndNxt - 1, 0, null, NO_PARTS, 0, this.mssBytes, false);
  }

  #ceilingMss(): number {
    const path = this.pmtu.mtuBytes - this.#ipHeaderBytes - TCP_HEADER;
    const options = (this.ts.enabled ? TIMESTAMPS_OPTION : 0) + this.owner.dataOptionBytes(this.sf);
    return Math.max(1, Math.min(path, this.peerMss) - options);
  }

  #cwndRoom(): number {
    const inFlight = this.inFlightBytes;
    if (this.#phase === 'recovery' && Number.isFinite(this.cc.ssthreshBytes)) {
      // An empty pipe brings no ACK that could grow the quota.
      return inFlight === 0 ? Math.max(this.#prr.quotaBytes, this.mssBytes) : this.#prr.quotaBytes;
    }
    const room = this.cc.cwndBytes - inFlight;
    return inFlight === 0 ? Math.max(room, this.mssBytes) : room;
  }

  /** Window that sender-side silly-window avoidance lets us use (RFC 9293 3.8.6.2.1, conditions 1 and 3). */
  #usableWindow(): number {
    const room = this.windowRoomBytes;
    if (room >= this.mssBytes) return room;
    return room > 0 && room * 2 >= this.maxSndWnd ? room : 0;
  }

  #superCap(): number {
    return Math.max(this.mssBytes, this.#pacer.quantumBytes);
  }

  #wholeSegments(bytes: number): number {
    return bytes < this.mssBytes ? bytes : bytes - (bytes % this.mssBytes);
  }

  #retransmitUnit(rec: SentRecord): number {
    return Math.min(rec.lengthBytes, this.mssBytes);
  }

  /** Retransmits (part of) the first lost record; false: none, or not now. */
  #sendLost(nowUs: Micros, sink: SegmentSink): boolean {
    const rec = this.board.firstLost;
    if (rec === null) return false;
    const unit = this.#retransmitUnit(rec);
    let bytes = unit;
    if (!this.#forceRetransmit) {
      const cwndRoom = this.#cwndRoom();
      const allowance = this.#pacer.allowanceBytes;
      if (cwndRoom < unit) {
        this.#wasCwndLimited = true;
        return false;
      }
      if (allowance < unit) {
        this.#pacingBlockedUntilUs = this.#pacer.awaitCredit(nowUs);
        return false;
      }
      const most = this.#wholeSegments(Math.floor(Math.min(cwndRoom, allowance, this.#superCap())));
      bytes = Math.min(rec.lengthBytes, Math.max(unit, most));
    }
    this.#forceRetransmit = false;
    if (bytes < rec.lengthBytes) this.board.split(rec, rec.seq + bytes);
    if (this.#eifelTs < 0 && this.ts.enabled) {
      this.#eifelTs = this.ts.valueAt(nowUs);
      this.#eifelSeq = rec.seq;
    }
    this.#undoBytes += bytes;
    if (this.#phase === 'recovery') this.#prr.onSent(bytes);
    this.#retransmit(nowUs, sink, rec);
    return true;
  }

  #retransmit(nowUs: Micros, sink: SegmentSink, rec: SentRecord): void {
    const isFlightEmpty = this.board.inFlightBytes === 0;
    this.board.markRetransmitted(nowUs, rec);
    this.rate.onSent(nowUs, rec, isFlightEmpty);
    // The earliest outstanding data goes again: the RTO must give this transmission its time.
    if (rec === this.board.head) this.#rtoBaseUs = nowUs;
    this.lastSentUs = nowUs;
    this.#pacer.spend(rec.lengthBytes);
    this.cc.onSent(nowUs, rec.lengthBytes, this.inFlightBytes);
    this.stats.bytesRetransmitted += rec.lengthBytes;
    // Retransmissions are never ECT (RFC 3168 6.1.5).
    this.#write(nowUs, sink, rec, false, 0);
  }

  /** Pulls and sends one (super-)unit; false: nothing to send, or not now. */
  #sendNew(nowUs: Micros, sink: SegmentSink): boolean {
    if (this.finQueued || !this.sf.canSendData) return false;
    this.#restartAfterIdle(nowUs);
    const cwndRoom = this.#cwndRoom();
    const window = this.#usableWindow();
    if (!this.owner.hasPending(this.sf)) {
      this.onAppLimited();
      return false;
    }
    if (cwndRoom < this.mssBytes) {
      this.#wasCwndLimited = true;
      return false;
    }
    if (window <= 0) return false;
    const allowance = this.#pacer.allowanceBytes;
    if (allowance <= 0) {
      this.#pacingBlockedUntilUs = this.#pacer.awaitCredit(nowUs);
      if (this.inFlightBytes + 2 * this.#pacer.quantumBytes >= this.cc.cwndBytes) this.#wasCwndLimited = true;
      return false;
    }
    const most = this.#wholeSegments(Math.floor(Math.min(cwndRoom, window, allowance, this.#superCap())));
    if (!this.noDelay && this.#holdsForNagle(most)) return false;
    return this.#pullAndSend(nowUs, sink, most);
  }

  /** RFC 5681 4.1: what the window was worth before a pause is not known to hold. Once per pause. */
  #restartAfterIdle(nowUs: Micros): void {
    const idleUs = nowUs - this.lastSentUs;
    if (!this.board.isEmpty || this.#hasRestarted || this.lastSentUs === 0 || idleUs <= this.rtt.rtoUs) return;
    this.#hasRestarted = true;
    this.cc.onIdleRestart(nowUs, idleUs, this.rtt.rtoUs);
  }

  #pullAndSend(nowUs: Micros, sink: SegmentSink, maxBytes: number): boolean {
    const unit = this.owner.pull(nowUs, this.sf, maxBytes);
    // Pending bytes that we do not get are the scheduler's choice; it says itself when that leaves the path idle.
    if (unit === null) return false;
    this.#append(nowUs, sink, unit);
    return true;
  }

  #append(nowUs: Micros, sink: SegmentSink, unit: SendUnit): void {
    this.#hasRestarted = false;
    if (this.board.isEmpty) this.#rtoBaseUs = nowUs; // RFC 6298 5.1
    const isFlightEmpty = this.board.inFlightBytes === 0;
    const rec = this.board.append(nowUs, this.sndNxt, unit);
    this.rate.onSent(nowUs, rec, isFlightEmpty);
    this.sndNxt = rec.endSeq;
    this.lastSentUs = nowUs;
    this.#tlpBaseUs = nowUs;
    if (this.#phase === 'recovery') this.#prr.onSent(unit.lengthBytes);
    this.#pacer.spend(unit.lengthBytes);
    this.cc.onSent(nowUs, unit.lengthBytes, this.inFlightBytes);
    this.stats.bytesSent += unit.lengthBytes;
    let flags = this.owner.hasPending(this.sf) ? 0 : TCP_PSH;
    if (this.#cwrPending) {
      flags |= TCP_CWR; // RFC 3168 6.1.2: on the first new data after the reduction
      this.#cwrPending = false;
    }
    this.#write(nowUs, sink, rec, this.ecnOk, flags);
  }

  #sendFin(nowUs: Micros, sink: SegmentSink): void {
    if (this.board.isEmpty) this.#rtoBaseUs = nowUs;
    const isFlightEmpty = this.board.inFlightBytes === 0;
    const rec = this.board.append(nowUs, this.sndNxt, null);
    this.rate.onSent(nowUs, rec, isFlightEmpty);
    this.finSeq = rec.seq;
    this.sndNxt = rec.endSeq;
    this.lastSentUs = nowUs;
    this.#tlpBaseUs = nowUs;
    this.#write(nowUs, sink, rec, false, 0);
  }

  #write(nowUs: Micros, sink: SegmentSink, rec: SentRecord, ect: boolean, flags: number): void {
    const kind = rec.isFin ? 'fin' : 'data';
    const wire = rec.isFin ? flags | TCP_FIN : flags;
    const { seq, lengthBytes, tag, parts, firstOffset } = rec;
    this.writer.write(nowUs, sink, kind, wire, seq, lengthBytes, tag, parts, firstOffset, this.mssBytes, ect);
  }

  /** RFC 9293 3.7.4: a segment that is not full waits while data is unacknowledged. Needs owner.pendingBytes. */
  #holdsForNagle(mostBytes: number): boolean {
    if (this.board.isEmpty || this.owner.pendingBytes === undefined) return false;
    return Math.min(mostBytes, this.owner.pendingBytes(this.sf)) < this.mssBytes;
  }

  /** RFC 7661 in the shape of Linux' tcp_cwnd_validate: did the last flight use the window? */
  #validateWindow(): void {
    const flight = this.inFlightBytes;
    const isLimited = this.cc.cwndBytes - flight < this.mssBytes;
    const isMore = !this.#wasCwndLimited && flight > this.#maxFlightBytes;
    if (this.sndUna >= this.#usageSeq || isLimited || isMore) {
      this.#wasCwndLimited = isLimited;
      this.#maxFlightBytes = flight;
      this.#usageSeq = this.sndNxt;
    }
  }

  #isCwndLimited(): boolean {
    return this.#wasCwndLimited || (this.cc.inSlowStart && this.cc.cwndBytes < 2 * this.#maxFlightBytes);
  }

  // ---- probes

  /** RFC 8985 7.3: new data if there is some and the window takes it, else the last segment again. */
  #sendTailProbe(nowUs: Micros, sink: SegmentSink): void {
    this.#tlpDue = false;
    const last = this.board.tail;
    if (last === null || this.#phase !== 'open') return;
    this.stats.tlps++;
    const canSendNew = !this.finQueued && this.sf.canSendData && this.windowRoomBytes >= this.mssBytes;
    if (canSendNew && this.owner.hasPending(this.sf)) {
      const unit = this.owner.pull(nowUs, this.sf, this.mssBytes);
      if (unit !== null) {
        this.#append(nowUs, sink, unit);
        this.#probe.onProbeSent(this.sndNxt, false);
        return;
      }
    }
    if (last.status !== IN_FLIGHT) return;
    const rec = last.lengthBytes > this.mssBytes ? this.board.split(last, last.endSeq - this.mssBytes) : last;
    this.#retransmit(nowUs, sink, rec);
    this.#probe.onProbeSent(this.sndNxt, true);
  }

  /** One segment to learn whether the path is alive: the first unacknowledged one, or an empty one that must be answered. */
  #sendPathProbe(nowUs: Micros, sink: SegmentSink): void {
    this.#probeDue = false;
    const head = this.board.head;
    if (head === null || head.status === SACKED) {
      this.stats.keepalives++;
      this.sendKeepalive(nowUs, sink);
      return;
    }
    if (head.lengthBytes > this.mssBytes) this.board.split(head, head.seq + this.mssBytes);
    if (head.status === LOST) this.#undoBytes += head.lengthBytes;
    this.#retransmit(nowUs, sink, head);
  }

  /** RFC 9293 3.8.6.1: what little the window takes, else an empty segment that the peer must answer with its window. */
  #sendWindowProbe(nowUs: Micros, sink: SegmentSink): void {
    this.#persistDue = false;
    if (!this.board.isEmpty || !this.sf.canSendData) return;
    if (!this.#isWindowBlocked()) return; // opened meanwhile
    const room = this.windowRoomBytes;
    this.stats.zeroWindowProbes++;
    // The override timeout of sender SWS avoidance (3.8.6.2.1 condition 4): a small window is used after all.
    if (room > 0 && this.#pullAndSend(nowUs, sink, room)) return;
    // As Linux does: an old sequence number instead of a byte of new data. It needs no mapping and nobody can drop it.
    this.sendKeepalive(nowUs, sink);
  }

  /** Nothing is outstanding, and only a window keeps it so: nobody but a probe would learn that it opened. */
  #isWindowBlocked(): boolean {
    if (!this.board.isEmpty || !this.sf.canSendData || this.isProbing) return false;
    if (this.owner.isWindowBlocked?.(this.sf) === true) return true;
    return this.#usableWindow() <= 0 && this.owner.hasPending(this.sf);
  }

  #armPersist(nowUs: Micros): void {
    const isBlocked = this.#isWindowBlocked();
    if (!isBlocked) this.#clearPersist();
    else if (this.#persistAtUs === NEVER) this.#persistAtUs = nowUs + this.rtt.backedOffUs(this.#persistCount);
  }

  #clearPersist(): void {
    this.#persistAtUs = NEVER;
    this.#persistCount = 0;
    this.#persistDue = false;
  }

  // ---- loss

  #rtoDeadlineUs(): Micros {
    if (this.isProbing || this.board.isEmpty) return NEVER;
    return this.#rtoBaseUs + this.rtt.backedOffUs(this.rtoCount);
  }

  #tlpDeadlineUs(): Micros {
    const { board } = this;
    const isWatched =
      this.sackOk && this.#phase === 'open' && !this.#probe.isActive && !this.#tlpDue && !this.isProbing;
    if (!isWatched || board.isEmpty || board.sackedBytes > 0 || board.lostBytes > 0) return NEVER;
    const isSingle = board.inFlightBytes <= this.mssBytes;
    return Math.min(this.#tlpBaseUs + this.#probe.timeoutUs(this.rtt, isSingle), this.#rtoDeadlineUs());
  }

  #onReorderingTimer(nowUs: Micros): void {
    const inFlight = this.inFlightBytes;
    this.#lostBytes = 0;
    this.#detectLosses(nowUs, false);
    if (this.#lostBytes > 0 && this.#phase === 'open') this.#enterRecovery(nowUs, inFlight, this.sndNxt - this.sndUna);
  }

  #detectLosses(nowUs: Micros, advanced: boolean): void {
    if (this.sackOk) {
      if (this.board.isEmpty) return;
      const reoWndUs = this.#rack.reoWndUs(this.rtt, this.board, this.mssBytes, this.#phase !== 'open');
      this.#rack.detect(nowUs, this.board, reoWndUs, this.#lose);
      return;
    }
    // RFC 6582 3.2: the third duplicate ACK, and each partial ACK in recovery, give the first segment up.
    const isThird = this.#phase === 'open' && this.#dupAcks === DUP_THRESH;
    const isPartial = this.#phase === 'recovery' && advanced && this.sndUna < this.#recoveryPoint;
    const head = this.board.head;
    if ((!isThird && !isPartial) || head === null || head.status !== IN_FLIGHT) return;
    if (head.lengthBytes > this.mssBytes) this.board.split(head, head.seq + this.mssBytes);
    this.#markLost(head);
    this.#forceRetransmit = true;
  }

  #countDuplicates(advanced: boolean, isDuplicate: boolean, ackedBytes: number): void {
    if (advanced) {
      const segments = Math.ceil(ackedBytes / this.mssBytes);
      this.#dupAcks = this.#phase === 'recovery' ? Math.max(0, this.#dupAcks - Math.max(0, segments - 1)) : 0;
      if (this.sndUna >= this.#recoveryPoint) this.#dupAcks = 0;
    } else if (isDuplicate) {
      this.#dupAcks++;
    }
  }

  #markLost(rec: SentRecord): void {
    this.#lostBytes += rec.endSeq - rec.seq;
    this.stats.segmentsLost += Math.max(1, Math.ceil(rec.lengthBytes / this.mssBytes));
    const { seq, lengthBytes, tag } = rec;
    this.board.markLost(rec);
    if (lengthBytes > 0) this.owner.onLost(this.#nowUs, this.sf, seq, lengthBytes, tag);
  }

  /** RFC 6675 5 (4): once per window of data. */
  #enterRecovery(nowUs: Micros, priorInFlightBytes: number, flightBytes: number): void {
    this.#phase = 'recovery';
    this.#recoveryPoint = this.sndNxt;
    this.#startUndo();
    this.#probe.cancel();
    this.#forceRetransmit = true;
    this.stats.fastRecoveries++;
    this.#prr.enter(flightBytes);
    // One reduction per window, whether by mark or by loss (RFC 3168 6.1.2).
    if (this.sndUna > this.#ecnPoint) this.cc.onCongestionEvent(nowUs, priorInFlightBytes, 'loss');
  }

  #exitRecovery(nowUs: Micros): void {
    if (this.#phase === 'recovery') this.#rack.onRecoveryExit();
    this.#phase = 'open';
    this.#forceRetransmit = false;
    this.#dupAcks = 0;
    this.cc.onRecoveryExit(nowUs);
  }

  #onRto(nowUs: Micros): void {
    const { board } = this;
    this.stats.rtos++;
    this.rtoCount++;
    this.#rtoBaseUs = nowUs;
    const inFlight = this.inFlightBytes;
    if (board.head !== null && board.head.status === SACKED) board.renege(); // RFC 2018 8
    if (this.rtoCount === 1) {
      this.#frtoArmed = this.#phase === 'open';
      this.#rtoAtUs = nowUs;
      this.#startUndo();
      this.cc.onRto(nowUs, inFlight);
    }
    this.#phase = 'rto';
    this.#recoveryPoint = this.sndNxt;
    this.#probe.cancel();
    this.#tlpDue = false;
    this.#dupAcks = 0;
    const reoWndUs = this.#rack.reoWndUs(this.rtt, board, this.mssBytes, true);
    if (this.sackOk) this.#rack.detectOnRto(nowUs, board, reoWndUs, this.#lose);
    else for (let rec = board.oldestInFlight; rec !== null; rec = board.oldestInFlight) this.#markLost(rec);
    const head = board.head;
    if (head !== null && head.status === IN_FLIGHT) this.#markLost(head);
    this.#forceRetransmit = true;
    if (head !== null && this.pmtu.onRto(nowUs, head.lengthBytes >= this.mssBytes)) this.refreshMss();
    this.owner.onRto(nowUs, this.sf, this.rtoCount);
  }

  #startUndo(): void {
    this.#undoMarker = this.sndUna;
    this.#undoBytes = 0;
    this.#eifelTs = -1;
  }

  #detectSpurious(advanced: boolean, prevUna: number, ack: number): void {
    if (this.#undoMarker < 0) return;
    // RFC 5682 3.1, SACK form: after the timeout, data that was not sent again arrived: the timeout was spurious.
    if (this.#phase === 'rto' && this.#frtoArmed && this.#originalDelivered) {
      this.#undo();
      return;
    }
    // RFC 3522 3.2: the first ACK that covers the first retransmission echoes a timestamp from before it.
    if (!advanced || this.#eifelTs < 0 || prevUna > this.#eifelSeq || ack <= this.#eifelSeq) return;
    const isSpurious = this.#tsEcr >= 0 && isTsBefore(this.#tsEcr, this.#eifelTs);
    this.#eifelTs = -1;
    if (isSpurious) this.#undo();
  }

  #undo(): void {
    this.stats.spurious++;
    this.#undoMarker = -1;
    this.#eifelTs = -1;
    this.#frtoArmed = false;
    this.rtoCount = 0;
    this.board.unmarkLost();
    this.#forceRetransmit = false;
    this.#phase = 'open';
    this.cc.onUndo(this.#nowUs);
  }

  // ---- pieces of onAck

  /** Marks SACKed data; returns the right edge of a DSACK block, or -1. */
  #processSack(seg: SegmentView, ack: number): number {
    const { iss } = this.sf;
    let dsackEnd = -1;
    let first = 0;
    this.stats.sacksReceived++;
    const left0 = unwrap32(seg.sackLeft[0]!, iss, ack);
    const right0 = unwrap32(seg.sackRight[0]!, iss, ack);
    let isDsack = right0 <= ack; // RFC 2883 4: below the cumulative point …
    if (!isDsack && seg.sackCount > 1) {
      // … or within the second block.
      const left1 = unwrap32(seg.sackLeft[1]!, iss, ack);
      const right1 = unwrap32(seg.sackRight[1]!, iss, ack);
      isDsack = left0 >= left1 && right0 <= right1;
    }
    if (isDsack && left0 < right0) {
      first = 1;
      dsackEnd = right0;
      this.#onDsack(left0, right0);
    }
    // Lowest block first: several new blocks in one ACK are lost ACKs, not reordering.
    let floor = ack;
    for (let done = first; done < seg.sackCount; done++) {
      let left = -1;
      let right = -1;
      for (let i = first; i < seg.sackCount; i++) {
        const l = Math.max(unwrap32(seg.sackLeft[i]!, iss, ack), floor);
        const r = unwrap32(seg.sackRight[i]!, iss, ack);
        if (l < r && r <= this.sndNxt && (left < 0 || l < left)) {
          left = l;
          right = r;
        }
      }
      if (left < 0) break;
      this.board.sack(left, right);
      floor = right;
    }
    return dsackEnd;
  }

  #onDsack(left: number, right: number): void {
    this.stats.dsacksReceived++;
    this.#rack.onDsack(this.sndUna, this.sndNxt);
    if (this.#undoMarker < 0 || left < this.#undoMarker || right === this.#probe.endSeq) return;
    if (this.#undoBytes <= 0) return;
    this.#undoBytes -= right - left;
    if (this.#undoBytes <= 0) this.#undo(); // all that was retransmitted had arrived before
  }

  /** One RTT sample from this ACK, -1 if it yields none (Karn; RFC 7323 4.1 makes retransmissions measurable). */
  #measure(nowUs: Micros, flightBytes: number): Micros {
    let rttUs = -1;
    if (this.#newestSentUs >= 0) {
      rttUs = nowUs - this.#newestSentUs;
    } else if (this.#retransmittedSentUs >= 0 && this.#tsEcr >= 0) {
      // RFC 7323 4.1: the echo says which transmission is answered. One that is neither the last nor the first is what a
      // receiver repeats when it gets duplicates: it measures a lost ACK, not the path.
      const isLast = this.#tsEcr === this.ts.valueAt(this.#retransmittedSentUs);
      const isFirst = this.#tsEcr === this.ts.valueAt(this.#retransmittedFirstUs);
      if (isLast) rttUs = nowUs - this.#retransmittedSentUs;
      else if (isFirst) rttUs = nowUs - this.#retransmittedFirstUs;
    }
    if (rttUs >= 0) this.rtt.onSample(nowUs, rttUs, Math.ceil(flightBytes / (2 * this.mssBytes)));
    return rttUs;
  }

  #onProgress(nowUs: Micros, advanced: boolean, ackedBytes: number): void {
    this.lastProgressUs = nowUs;
    if (this.isProbing) this.setProbeInterval(0);
    if (!advanced) return;
    this.rtoCount = 0;
    this.#rtoBaseUs = nowUs; // RFC 6298 5.3
    this.#tlpBaseUs = nowUs;
    this.#tlpDue = false;
    if (this.pmtu.onProgress(nowUs, ackedBytes)) this.refreshMss();
  }

  #onCongestionEcho(nowUs: Micros, inFlightBytes: number): void {
    this.stats.ecnReductions++;
    this.cc.onCongestionEvent(nowUs, inFlightBytes, 'ecn');
    this.#ecnPoint = this.sndNxt;
    this.#cwrPending = true;
  }

  #informController(nowUs: Micros, seg: SegmentView, ackedBytes: number, priorBytes: number, rttUs: Micros): void {
    this.rate.endAck(nowUs, this.rtt.hasSample ? this.rtt.minRttUs : 0);
    if (this.#deliveredBytes === 0 && this.#lostBytes === 0) return;
    const s = this.#sample;
    s.nowUs = nowUs;
    s.deliveredBytes = this.#deliveredBytes;
    s.ackedBytes = ackedBytes;
    s.lostBytes = this.#lostBytes;
    s.priorInFlightBytes = priorBytes;
    s.inFlightBytes = this.inFlightBytes;
    s.rttUs = rttUs;
    s.srttUs = this.rtt.srttUs;
    s.minRttUs = this.rtt.hasSample ? this.rtt.minRttUs : 0;
    s.rateBytesPerS = this.rate.sampleBytesPerS;
    s.isAppLimited = this.rate.sampleIsAppLimited;
    s.totalDeliveredBytes = this.rate.deliveredBytes;
    s.priorDeliveredBytes = this.rate.samplePriorDeliveredBytes;
    s.inRecovery = this.#phase !== 'open';
    s.ece = this.ecnOk && (seg.flags & TCP_ECE) !== 0;
    s.isCwndLimited = !s.ece && this.#isCwndLimited(); // RFC 3168 6.1.2: no growth by an ACK that says ECE
    this.cc.onAck(s);
  }
}

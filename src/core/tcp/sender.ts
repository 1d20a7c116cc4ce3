/**
 * Sending half of a subflow. It puts the machines together and owns their order: an ACK (`onAck`), the clocks (`onTimer`),
 * a poll (`transmit`). What is lost is decided in loss-recovery.ts, what goes out in transmitter.ts, what asks the peer in
 * probes.ts; the sequence variables are in send-space.ts. Read first: RFC 9293 3.8, RFC 6675 5, RFC 8985, RFC 6298 5.
 */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import { AckSample, type CongestionController } from '../congestion/controller.js';
import { MPO } from '../wire/mptcp-options.js';
import { type SegmentView, TCP_ECE, TCP_FIN } from '../wire/segment.js';
import { AckNews } from './ack-news.js';
import type { SubflowConfig, SubflowStats } from './config.js';
import { DeliveryRate } from './delivery-rate.js';
import { EcnReaction } from './ecn-reaction.js';
import { initialWindowBytes } from './initial-window.js';
import { LossRecovery } from './loss-recovery.js';
import type { SegmentSink, SubflowOwner } from './owner.js';
import { PathProbe } from './path-probe.js';
import { PathMtu } from './pmtu.js';
import { Probes } from './probes.js';
import type { RateLimit } from './rate-limit.js';
import type { RttEstimator } from './rtt.js';
import { SackBlocks } from './sack-blocks.js';
import { Scoreboard, type ScoreboardObserver, type SentRecord } from './scoreboard.js';
import type { SegmentWriter } from './segment-writer.js';
import type { SendContext } from './send-context.js';
import { SendMss } from './send-mss.js';
import { SendSpace } from './send-space.js';
import type { TcpSubflow } from './subflow.js';
import type { Timestamps } from './timestamps.js';
import { Transmitter } from './transmitter.js';

export class Sender implements ScoreboardObserver {
  readonly space = new SendSpace();
  readonly board: Scoreboard;
  readonly rate = new DeliveryRate();
  readonly mss: SendMss;
  readonly recovery: LossRecovery;
  lastProgressUs: Micros = 0;

  readonly #ctx: SendContext;
  readonly #initialCwndSegments: number;
  readonly #pmtu: PathMtu;
  readonly #ecn = new EcnReaction();
  readonly #pathProbe = new PathProbe();
  readonly #transmitter: Transmitter;
  readonly #probes: Probes;
  readonly #sack = new SackBlocks();
  readonly #news = new AckNews();
  readonly #sample = new AckSample();
  /** Time of the input or poll in progress. */
  #nowUs: Micros = 0;
  #kickedUs: Micros = 0;

  constructor(
    private readonly sf: TcpSubflow,
    private readonly owner: SubflowOwner,
    config: SubflowConfig,
    private readonly rtt: RttEstimator,
    public cc: CongestionController,
    private readonly ts: Timestamps,
    private readonly stats: SubflowStats,
    writer: SegmentWriter,
  ) {
    this.#initialCwndSegments = config.initialCwndSegments;
    this.board = new Scoreboard(this);
    this.#pmtu = new PathMtu(config.mtuBytes, sf.flow.family === 6);
    this.mss = new SendMss(sf, owner, this.#pmtu, ts, cc);
    const ctx: SendContext = (this.#ctx = {
      sf,
      owner,
      rtt,
      cc,
      ts,
      stats,
      writer,
      space: this.space,
      board: this.board,
      rate: this.rate,
      pmtu: this.#pmtu,
      mss: this.mss,
      ecn: this.#ecn,
      pathProbe: this.#pathProbe,
    });
    this.recovery = new LossRecovery(ctx);
    this.#transmitter = new Transmitter(ctx, this.recovery, config.maxSuperBytes, config.noDelay);
    this.#probes = new Probes(ctx, this.recovery, this.#transmitter);
  }

  get isProbing(): boolean {
    return this.#pathProbe.isOn;
  }

  /** Nothing is outstanding and nothing waits: for keepalives. */
  get isIdle(): boolean {
    return this.board.isEmpty && !this.isProbing && !this.#probes.persist.isArmed;
  }

  /**
   * Since when nothing has got through although something should: for R2 (RFC 9293 3.8.3). NEVER: nothing is owed. Where
   * only the peer's window is in the way, a peer that answers (`lastReceivedUs`) is never given up (3.8.6.1 MUST-37, and
   * SHLD-17 for a window that shrank).
   */
  stuckSinceUs(lastReceivedUs: Micros): Micros {
    const { board, space } = this;
    // A path that the owner probes is the owner's to give up; one that was away starts anew when it is back.
    if (this.isProbing) return NEVER;
    const { head } = board;
    if (head === null) return Math.max(this.#probes.persist.sinceUs, lastReceivedUs, this.#kickedUs);
    const sinceUs = Math.max(this.lastProgressUs, head.firstSentUs, this.#kickedUs);
    const isShut = space.sndWnd < Math.min(head.endSeq - head.seq, this.mss.bytes);
    return isShut ? Math.max(sinceUs, lastReceivedUs) : sinceUs;
  }

  // ---- handshake

  /** Our SYN or SYN/ACK takes sequence number 0. */
  onOpen(): void {
    this.space.sndNxt = 1;
  }

  /** The peer's SYN, and what its options and ours settle. */
  onPeerSyn(nowUs: Micros, seg: SegmentView, usesSack: boolean, usesEcn: boolean): void {
    this.recovery.usesSack = usesSack;
    this.#ecn.isOn = usesEcn;
    this.space.onPeerSyn(seg.window);
    this.lastProgressUs = nowUs;
    this.mss.onPeerSyn(seg);
  }

  /** Our SYN, which was repeated `retransmits` times, is acknowledged by a segment at `seq` (relative). */
  onSynAcked(nowUs: Micros, seq: number, retransmits: number): void {
    this.space.onSynAcked(seq);
    this.lastProgressUs = nowUs;
    this.mss.refresh();
    const segments = this.#initialCwndSegments;
    this.cc.onInitialWindow(initialWindowBytes(segments, this.mss.bytes, retransmits));
  }

  /** Another congestion controller from here on. It knows nothing of the path, so it begins as after a handshake. */
  setController(cc: CongestionController): void {
    this.cc = cc;
    this.#ctx.cc = cc;
    this.mss.cc = cc;
    cc.onMssChange(this.mss.bytes);
    cc.onInitialWindow(initialWindowBytes(this.#initialCwndSegments, this.mss.bytes, 0));
  }

  // ---- acknowledgments

  /** An acceptable ACK (RFC 9293 3.10.7.4, 5961 5.2): `ack` in [sndUna, sndNxt]; the window is up to date. */
  onAck(nowUs: Micros, seg: SegmentView, ack: number, windowChanged: boolean): void {
    const { board, recovery, space, rate } = this;
    const news = this.#news;
    const prevUna = space.sndUna;
    const tsEcr = this.ts.enabled && seg.hasTs ? seg.tsEcr : -1;
    this.#nowUs = nowUs;
    news.begin(nowUs, prevUna, ack, space.sndNxt - prevUna, recovery.inFlightBytes, tsEcr);
    news.hasEce = (seg.flags & TCP_ECE) !== 0;
    news.hasSack = seg.sackCount > 0;
    // An ACK sent for the sake of an MPTCP signal is no sign of congestion (RFC 8684 3); a DSS is no signal.
    const isSignal = (seg.mptcp.present & ~MPO.dss) !== 0;
    const isBare = seg.payloadLen === 0 && !windowChanged && (seg.flags & TCP_FIN) === 0;
    news.isDuplicate = ack <= prevUna && isBare && !isSignal;
    recovery.beginAck(nowUs);
    rate.beginAck();

    space.sndUna = ack;
    if (news.advanced) board.ackTo(ack);
    news.endCumulative();
    if (!recovery.usesSack) recovery.countDuplicates(news);
    else if (news.hasSack) this.#takeSack(seg, ack);

    if (recovery.takeMtuRaise()) this.mss.refresh();
    const rttUs = news.rttUs(this.ts);
    if (rttUs >= 0) this.rtt.onSample(nowUs, rttUs, Math.ceil(news.flightBytes / (2 * this.mss.bytes)));
    if (news.advanced || news.deliveredBytes > 0) this.#onProgress(nowUs, news);
    recovery.onAck(nowUs, news);
    this.#informController(nowUs, news, rttUs);
  }

  onDelivered(rec: SentRecord, endSeq: number): void {
    const bytes = endSeq - rec.seq;
    this.#news.onDelivered(rec, bytes);
    this.recovery.onDelivered(rec, endSeq, this.#news);
    this.rate.onDelivered(this.#nowUs, rec, bytes);
  }

  onAcked(seq: number, lengthBytes: number, tag: unknown): void {
    this.owner.onAcked(this.#nowUs, this.sf, seq, lengthBytes, tag);
  }

  /** A segment arrived while nothing was outstanding: the path is alive. */
  onAlive(nowUs: Micros): void {
    if (!this.isProbing) return;
    this.#nowUs = nowUs;
    this.setProbeInterval(0);
  }

  #takeSack(seg: SegmentView, ack: number): void {
    const { iss } = this.sf;
    this.stats.sacksReceived++;
    if (this.#sack.findDsack(seg, iss, ack)) {
      this.#news.dsackEnd = this.#sack.dsackEnd;
      this.recovery.onDsack(this.#sack.dsackLeft, this.#sack.dsackEnd);
    }
    this.#sack.mark(seg, iss, ack, this.space.sndNxt, this.board);
  }

  #onProgress(nowUs: Micros, news: AckNews): void {
    this.lastProgressUs = nowUs;
    if (this.isProbing) this.setProbeInterval(0);
    if (!news.advanced) return;
    this.recovery.onProgress(nowUs);
    this.#pmtu.onProgress(this.space.sndUna);
  }

  #informController(nowUs: Micros, news: AckNews, rttUs: Micros): void {
    const { rate, rtt, recovery } = this;
    rate.endAck(nowUs, rtt.hasSample ? rtt.minRttUs : 0);
    if (news.deliveredBytes === 0 && recovery.lostBytes === 0) return;
    const s = this.#sample;
    s.nowUs = nowUs;
    s.deliveredBytes = news.deliveredBytes;
    s.ackedBytes = news.ackedBytes;
    s.lostBytes = recovery.lostBytes;
    s.priorInFlightBytes = news.priorInFlightBytes;
    s.inFlightBytes = recovery.inFlightBytes;
    s.rttUs = rttUs;
    s.srttUs = rtt.srttUs;
    s.minRttUs = rtt.hasSample ? rtt.minRttUs : 0;
    s.rateBytesPerS = rate.sampleBytesPerS;
    s.isAppLimited = rate.sampleIsAppLimited;
    s.totalDeliveredBytes = rate.deliveredBytes;
    s.priorDeliveredBytes = rate.samplePriorDeliveredBytes;
    s.inRecovery = recovery.phase !== 'open';
    s.ece = this.#ecn.isOn && news.hasEce;
    s.isCwndLimited = !s.ece && this.#transmitter.isCwndLimited; // RFC 3168 6.1.2: no growth by an ACK that says ECE
    this.cc.onAck(s);
  }

  // ---- timers and other news of the path

  nextDeadline(): Micros {
    return Math.min(
      this.recovery.nextDeadline(),
      this.#pathProbe.deadlineUs,
      this.#probes.persist.deadlineUs,
      this.#transmitter.nextDeadline(),
    );
  }

  onTimer(nowUs: Micros): void {
    this.#nowUs = nowUs;
    if (this.isProbing) {
      this.#pathProbe.onTimer(nowUs);
      return;
    }
    this.recovery.onTimer(nowUs);
    this.#probes.persist.onTimer(nowUs, this.rtt);
  }

  /** See TcpSubflow.setProbeInterval. */
  setProbeInterval(us: Micros): void {
    if (us === 0 && this.isProbing) this.recovery.postponeRto(this.#nowUs);
    this.#pathProbe.setInterval(us, this.space.lastSentUs);
  }

  /** The path may be back: forget the back-off and ask at once. */
  kick(nowUs: Micros): void {
    this.#kickedUs = nowUs;
    this.recovery.rtoCount = 0;
    this.recovery.restartRto(nowUs);
    this.#probes.persist.forgetBackOff();
    this.#pathProbe.kick(nowUs);
  }

  /** See TcpSubflow.restartPath. */
  restartPath(nowUs: Micros): void {
    this.rtt.restart(nowUs);
    this.rate.restart(nowUs);
    this.recovery.restartPath(nowUs);
    this.cc.onPathRestart(nowUs);
  }

  /** A validated ICMP report (RFC 1191, 8201). */
  onPacketTooBig(nowUs: Micros, mtuBytes: number, seq: number): void {
    if (!this.#pmtu.onPacketTooBig(nowUs, mtuBytes, seq)) return;
    this.stats.pmtuReductions++;
    this.mss.refresh();
    this.#nowUs = nowUs;
    this.recovery.loseOversized(nowUs);
  }

  /** The local link's MTU changed. */
  onLinkMtu(mtuBytes: number): void {
    this.#pmtu.onLinkMtu(mtuBytes);
    this.mss.refresh();
  }

  // ---- sending

  set noDelay(noDelay: boolean) {
    this.#transmitter.noDelay = noDelay;
  }

  availableBytes(nowUs: Micros): number {
    return this.#transmitter.availableBytes(nowUs);
  }

  set limit(limit: RateLimit | null) {
    this.#transmitter.limit = limit;
  }

  isHeldByLimit(nowUs: Micros): boolean {
    return this.#transmitter.isHeldByLimit(nowUs);
  }

  readyAtUs(nowUs: Micros): Micros {
    return this.#transmitter.readyAtUs(nowUs);
  }

  awaitCredit(nowUs: Micros): Micros {
    return this.#transmitter.awaitCredit(nowUs);
  }

  forgetCredit(): void {
    this.#transmitter.forgetCredit();
  }

  onAppLimited(): void {
    this.#transmitter.onAppLimited();
  }

  /** Something must go out that window and pacing do not hold back, or a lost segment may. */
  hasUrgentWork(nowUs: Micros): boolean {
    return this.#probes.hasUrgentWork || this.#transmitter.hasUrgentWork(nowUs);
  }

  /** Emits what may go: probes, retransmissions, new data, FIN. */
  transmit(nowUs: Micros, sink: SegmentSink): void {
    const probes = this.#probes;
    this.#nowUs = nowUs;
    this.#transmitter.beginPoll();
    if (this.#pmtu.maybeRaise(nowUs, this.recovery.usesSack)) this.mss.refresh();
    if (this.#pathProbe.isDue && sink.hasRoom()) probes.sendPathProbe(nowUs, sink);
    if (this.isProbing) return;
    if (this.recovery.probe.isDue && sink.hasRoom()) probes.sendTailProbe(nowUs, sink);
    if (probes.persist.isDue && sink.hasRoom()) probes.sendWindowProbe(nowUs, sink);
    this.#transmitter.transmit(nowUs, sink);
    probes.updatePersist(nowUs);
  }

  sendKeepalive(nowUs: Micros, sink: SegmentSink): void {
    this.#probes.sendKeepalive(nowUs, sink);
  }
}

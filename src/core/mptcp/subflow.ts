/**
 * One subflow of a connection: the owner of a TcpSubflow (see tcp/owner.ts). Its MPTCP options are in options-out.ts and
 * options-in.ts, the way from subflow bytes to data bytes in inbound-data.ts, the handshakes in handshake.ts. Whatever
 * concerns several subflows is in connection.ts and the files that it names.
 */
import { type Micros, NEVER } from '../base/time.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { CloseReason, OptionVerdict, SegmentKind, SendUnit, SubflowOwner } from '../tcp/owner.js';
import { type SubflowConfig, TcpSubflow } from '../tcp/subflow.js';
import { dssBytes } from '../wire/mptcp-options.js';
import type { SegmentView } from '../wire/segment.js';
import type { Connection } from './connection.js';
import * as handshake from './handshake.js';
import { InboundData } from './inbound-data.js';
import { OptionsIn } from './options-in.js';
import { OptionsOut } from './options-out.js';
import { Penalty } from './penalty.js';
import { PriorityWord } from './priority.js';
import type { ReceiveMappings } from './receive-mapping.js';
import type { OutboundMapping } from './send-buffer.js';
import { SignalQueue, signalBytes } from './signals.js';
import { Arrivals } from './silence.js';

/** Signals follow one another after this long, but at most two in a row: they are duplicate ACKs to others (RFC 8684 4). */
const SIGNAL_GAP_US: Micros = 5_000;
const SIGNALS_IN_ROW = 2;

export type SubflowRole = 'initial' | 'join';
export type SubflowSide = 'active' | 'passive';

export class MptcpSubflow implements SubflowOwner {
  readonly tcp: TcpSubflow;
  localAddressId = 0;
  remoteAddressId = 0;
  /** Data may flow: the initial subflow from the handshake on, a join after its fourth packet (RFC 8684 3.2). */
  isConfirmed = false;
  /** We keep our own data off it / we asked the peer to / the peer asked us to (RFC 8684 3.3.8). */
  isLocalBackup = false;
  isBackupWanted = false;
  isRemoteBackup = false;
  /** No progress while bytes are outstanding, or the driver says that the link is gone. */
  isStalled = false;
  stalledAtUs: Micros = 0;
  stallReason = '';
  /** Stalled: since when it has had the chance to answer (its link was there), and since when it is probed quickly. */
  askedSinceUs: Micros = 0;
  quickSinceUs: Micros = 0;
  /** Since when it is late (doubts.ts); NEVER: it is not. */
  doubtedAtUs: Micros = NEVER;
  /** Since when it has kept the head of line waiting for longer than it should (reinjector.ts); NEVER: it does not. */
  lateAtUs: Micros = NEVER;
  /** It is being left (leaving.ts), and of what it has outstanding everything from here on went again elsewhere. */
  copiedFromSeq = Number.POSITIVE_INFINITY;
  /** Why it is set aside although it works (harm-watch.ts), or null. */
  demotedWhy: string | null = null;
  /** Why the scheduler passes it over, as of harm-watch's last look, or null. */
  passedOverWhy: string | null = null;
  /** Halved when it blocks others. */
  readonly penalty = new Penalty();
  isLinkDown = false;
  /** The handshake is not complete, and data may go all the same: the peer's came with its SYN (RFC 7413 3). */
  isEarly = false;
  /** When payload came in, and: it was busy and has gone silent while bytes behind a hole wait (silence.ts). */
  readonly arrivals = new Arrivals();
  isSilent = false;
  /** We or the peer are ending this subflow: no new data. */
  isClosing = false;
  /** Our FIN waits until outstanding data is safe (RFC 8684 3.3.3). */
  isFinWaiting = false;
  /** Our FIN went out before the connection was over: that it arrived does not say that our last DATA_ACK did. */
  isFinEarly = false;
  bytesReinjected = 0;
  /** It has carried the stream without a gap up to here (copies.ts), and this much of it as copies. */
  carriedTo = 1;
  bytesCopied = 0;
  /** MP_JOIN material (handshake.ts). */
  readonly join = new handshake.JoinState();
  /** What a RST that we send now says (RFC 8684 3.6), -1: no MP_TCPRST. */
  resetReason = -1;
  /** The peer's RST said that it may be tried again (T, 3.6). */
  isResetTransient = false;
  /** MP_FAIL to send with the RST: relative DSN, -1 none. */
  failDsn = -1;
  readonly signals = new SignalQueue();
  readonly priority = new PriorityWord(this);
  signalAtUs: Micros = NEVER;
  /** ACKs sent for signals alone since a segment that said something else as well. */
  private signalsInRow = 0;
  private rowEndsAtUs: Micros = 0;
  private rowSndNxt = 0;
  private rowRcvNxt = 0;
  /** A DSS that carries our DATA_FIN is due on this subflow's next ACK. */
  isFinDue = false;
  /** Data goes without a DATA_ACK: it would say nothing new (number-sizes.ts). */
  omitsDataAck = false;
  closeReason: CloseReason | null = null;

  private readonly out = new OptionsOut(this);
  private readonly inbound = new InboundData(this);
  private readonly in = new OptionsIn(this, this.inbound);

  constructor(
    readonly connection: Connection,
    readonly id: number,
    readonly role: SubflowRole,
    readonly side: SubflowSide,
    readonly flow: FlowTuple,
    config: SubflowConfig,
    isn: number,
  ) {
    const { host } = connection;
    this.tcp = new TcpSubflow(host.env, this, flow, config, isn, host.tsOffset(flow));
  }

  /** New data may be scheduled here (window, cwnd and pacing aside). */
  get isUsable(): boolean {
    return (this.isConfirmed || this.isEarly) && !this.isClosing && !this.isLinkDown && this.tcp.canSendData;
  }

  get mappings(): ReceiveMappings {
    return this.inbound.mappings;
  }

  receiveAsStream(nowUs: Micros, ssn: number, dsn: number): void {
    this.inbound.receiveAsStream(nowUs, ssn, dsn);
  }

  /**
   * ACKs of data came without the DATA_ACK that earlier ones had, or data without a mapping. Where nothing moves at data
   * level either, options do not pass, and what goes again here might be taken twice by a peer that has fallen back.
   */
  get hasLostOptions(): boolean {
    return this.in.bareSegments > 0;
  }

  get isBackup(): boolean {
    return this.isRemoteBackup || this.isLocalBackup;
  }

  // ---- Options out ---------------------------------------------------------------------------------------------

  /** Of a DSS with mapping and DATA_ACK, or of the keys, which the first data has in its place. */
  dataOptionBytes(): number {
    const { mode, fallback, numbers, keys, isProven } = this.connection;
    if (mode === 'tcp' && !fallback.needsOptionRoom) return 0;
    const bytes = dssBytes(this.omitsDataAck ? 0 : numbers.ackBytes, numbers.dsnBytes, keys.checksums);
    return isProven || this.side === 'passive' ? bytes : Math.max(bytes, handshake.capableDataBytes(keys.checksums));
  }

  ackOptionBytes(): number {
    const signal = this.signals.first;
    return signal === undefined ? 0 : signalBytes(signal);
  }

  writeOptions(
    _sf: TcpSubflow,
    kind: SegmentKind,
    _seq: number,
    _lengthBytes: number,
    tag: unknown,
    out: Uint8Array,
    o: number,
    roomBytes: number,
  ): number {
    const c = this.connection;
    if (kind === 'rst') return this.out.writeReset(out, o, roomBytes);
    if (kind === 'syn' || kind === 'synack') return handshake.writeSynOptions(this, kind, out, o, roomBytes);
    const mapping = tag as OutboundMapping | null;
    // After a fallback the infinite mapping is the last option, and goes with each retransmission of its data (3.7). Before the
    // peer's keys are here its data cannot be acknowledged, but ours has its mapping (B.3, figure 19).
    if (c.mode !== 'mptcp' && mapping?.dll !== 0 && (c.mode === 'tcp' || mapping === null))
      return kind === 'ack' ? this.out.writeFail(out, o, roomBytes) : o;
    if (handshake.isProving(this, mapping)) return handshake.writeProof(this, mapping, out, o, roomBytes);
    if (mapping !== null) return this.out.writeMapping(mapping, out, o, roomBytes);
    return this.out.writeAck(out, o, roomBytes);
  }

  /** Queues an option for the next pure ACKs; after a fallback there are none (RFC 8684 3.7). */
  signal(nowUs: Micros, signal: Parameters<SignalQueue['push']>[0]): void {
    if (this.connection.mode === 'tcp') return;
    this.signals.push(signal);
    if (this.signalAtUs === NEVER) this.signalAtUs = nowUs;
    this.connection.host.markDirty(this.connection);
  }

  /** Called by the connection's poll: asks TCP for an ACK that carries the next signal or the DATA_FIN. */
  pumpSignals(nowUs: Micros): void {
    if (this.signalAtUs > nowUs) return;
    this.signalAtUs = NEVER;
    if (this.signals.isEmpty || !this.tcp.isEstablished) return;
    if (!this.mayAckForSignal(nowUs)) {
      this.signalAtUs = this.rowEndsAtUs;
      return;
    }
    this.tcp.requestAck(nowUs);
    if (this.signals.first!.kind === 'prio') this.priority.onSent(nowUs);
    this.signalAtUs = nowUs + SIGNAL_GAP_US;
  }

  /** A row ends with data of either side, or with time enough that nobody on the path takes what follows for a part of it. */
  private mayAckForSignal(nowUs: Micros): boolean {
    const { sndNxt, rcvNxt, rtt } = this.tcp;
    if (sndNxt !== this.rowSndNxt || rcvNxt !== this.rowRcvNxt || nowUs >= this.rowEndsAtUs) this.signalsInRow = 0;
    if (this.signalsInRow >= SIGNALS_IN_ROW) return false;
    this.signalsInRow++;
    this.rowSndNxt = sndNxt;
    this.rowRcvNxt = rcvNxt;
    this.rowEndsAtUs = nowUs + rtt.rtoUs;
    return true;
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  windowBytes(): number {
    return this.connection.receiver.windowBytes();
  }

  pull(_nowUs: Micros, _sf: TcpSubflow, maxBytes: number): SendUnit | null {
    return this.connection.pullFor(this, maxBytes);
  }

  hasPending(): boolean {
    return this.isUsable && this.connection.hasPendingFor(this);
  }

  /** Only the peer's window holds bytes back: TCP must ask whether it opened (RFC 9293 3.8.6.1). */
  isWindowBlocked(): boolean {
    return this.isUsable && this.connection.sender.isWindowLimited;
  }

  onAcked(nowUs: Micros, _sf: TcpSubflow, seq: number, lengthBytes: number, tag: unknown): void {
    const c = this.connection;
    const m = tag as OutboundMapping | null;
    // After a fallback only subflow acknowledgments free the send buffer (RFC 8684 3.7).
    if (c.mode === 'tcp' || c.fallback.isUnderWay) {
      if (m !== null) c.onDataAcked(nowUs, m.dsn + (seq - m.ssn) + lengthBytes);
    } else if (m !== null) {
      const dsn = m.dsn + (seq - m.ssn);
      c.dataRto.onDelivered(nowUs, dsn, dsn + lengthBytes);
    }
  }

  onLost(_nowUs: Micros, _sf: TcpSubflow, seq: number, lengthBytes: number, tag: unknown): void {
    this.connection.reinjector.onLost(this, seq, lengthBytes, tag as OutboundMapping | null);
  }

  onRto(nowUs: Micros, _sf: TcpSubflow, count: number): void {
    this.connection.health.onRto(nowUs, this, count);
  }

  // ---- Options in ----------------------------------------------------------------------------------------------

  onOptions(nowUs: Micros, _sf: TcpSubflow, seg: SegmentView): OptionVerdict {
    return this.in.onSegment(nowUs, seg);
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  onPayload(
    nowUs: Micros,
    _sf: TcpSubflow,
    seg: SegmentView,
    firstSeq: number,
    firstOffset: number,
    lengthBytes: number,
  ): void {
    this.connection.silence.onPayload(nowUs, this, lengthBytes);
    this.inbound.deliver(nowUs, seg.buf, firstSeq, firstOffset, lengthBytes);
  }

  onSegmentDone(nowUs: Micros, _sf: TcpSubflow, seg: SegmentView): void {
    this.inbound.onSegmentDone(nowUs, seg.payloadLen > 0);
    this.connection.afterSegment(nowUs, this);
  }

  // ---- Life ----------------------------------------------------------------------------------------------------

  onSynAnswered(): void {
    this.connection.onSynAnswered(this);
  }

  onEstablished(nowUs: Micros): void {
    handshake.onTcpEstablished(nowUs, this);
  }

  onPeerFin(nowUs: Micros): void {
    this.connection.closing.onSubflowFin(nowUs, this);
  }

  onClosed(nowUs: Micros, _sf: TcpSubflow, why: CloseReason): void {
    this.closeReason = why;
    this.connection.closing.onSubflowClosed(nowUs, this, why);
  }

  lingers(): boolean {
    return this.connection.closing.lingers(this);
  }
}

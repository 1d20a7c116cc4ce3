/**
 * One TCP connection of an application, ended here: plain TCP (core/tcp) with the bytes of both directions. We are the
 * destination that the application wanted to talk to. Read first: tcp/owner.ts; RFC 9293 3.5 to 3.10.
 *
 * Sending takes references (bytes must not change) and always accepts: respect `unsentBytes`. Received bytes are lent to the
 * reader; what it does not take waits here, the window shuts, and the application's sender stops.
 */
import { type Micros, NEVER } from '../base/time.js';
import type { ByteReader, Endpoint } from '../engine/api.js';
import { DataReceiver } from '../mptcp/receiver.js';
import { SendBuffer } from '../mptcp/send-buffer.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { CloseReason, OptionVerdict, SegmentSink, SendUnit, SubflowOwner } from '../tcp/owner.js';
import { type SubflowConfig, TcpSubflow } from '../tcp/subflow.js';
import type { SegmentView } from '../wire/segment.js';
import { FIRST_WINDOW_BYTES, MAX_FLIGHT_BYTES, MAX_WINDOW_BYTES } from './settings.js';
import type { FlowHost } from './terminator.js';

export class TerminatedFlow implements SubflowOwner {
  readonly tcp: TcpSubflow;
  readonly source: Endpoint;
  readonly target: Endpoint;
  /** Payload bytes taken from the application's stream in order, and acknowledged by it. */
  get bytesReceived(): number {
    return this.receiver.bytesReceived;
  }
  bytesAcked = 0;
  /** How it ended, null while it lives (TIME-WAIT is an end). */
  closeReason: CloseReason | null = null;
  /** It has ended; called once, from within. What was received before may still be read. */
  onOver: (why: CloseReason) => void = () => {};

  private readonly receiver = new DataReceiver(FIRST_WINDOW_BYTES);
  private buffer = new SendBuffer(1);
  /** Relative sequence number of the next byte that TCP has not taken. */
  private sndNxt = 1;
  private isEndWanted = false;
  private lowWaterBytes = 0;
  private onSpace: (() => void) | null = null;
  /** Bytes read when the window was last made larger. */
  private grownAtBytes = 0;
  private windowEdgeSent = 0;
  private creditAtUs: Micros = NEVER;

  constructor(
    private readonly host: FlowHost,
    readonly flow: FlowTuple,
    config: SubflowConfig,
    isn: number,
  ) {
    this.source = { address: flow.remoteAddress, port: flow.remotePort };
    this.target = { address: flow.localAddress, port: flow.localPort };
    this.tcp = new TcpSubflow(host.env, this, flow, config, isn, host.tsOffset(flow));
  }

  // ---- The application's bytes -------------------------------------------------------------------------------------

  setReader(reader: ByteReader): void {
    this.receiver.setReader(reader);
  }

  /** The reader can take bytes again. */
  resume(nowUs: Micros): void {
    this.receiver.resume();
    this.growWindow();
    this.updateWindow(nowUs);
  }

  /** The reader has left bytes here. */
  get isStalled(): boolean {
    return this.receiver.unreadBytes > 0;
  }

  /** What the window may be now. */
  get windowLimitBytes(): number {
    return this.receiver.capacityBytes;
  }

  // ---- Bytes for the application -----------------------------------------------------------------------------------

  write(_nowUs: Micros, bytes: Uint8Array): void {
    if (this.isEndWanted || this.closeReason !== null) return;
    this.buffer.append(bytes);
    this.host.markDirty(this);
  }

  /** Bytes written that are not on their way yet. */
  get unsentBytes(): number {
    return this.buffer.endDsn - this.sndNxt;
  }

  /** `onSpace` is called (inside flush) whenever unsentBytes has fallen to `lowWaterBytes` or below. */
  setSendSpace(lowWaterBytes: number, onSpace: () => void): void {
    this.lowWaterBytes = lowWaterBytes;
    this.onSpace = onSpace;
  }

  /** FIN behind what was written; reading goes on. */
  end(_nowUs: Micros): void {
    this.isEndWanted = true;
    this.host.markDirty(this);
  }

  /** RST, at once. */
  abort(nowUs: Micros): void {
    this.tcp.abort(nowUs, true);
    this.host.markDirty(this);
  }

  // ---- Driven by the terminator ------------------------------------------------------------------------------------

  poll(nowUs: Micros, sink: SegmentSink): void {
    const { tcp } = this;
    if (tcp.nextDeadline() <= nowUs) tcp.onTimer(nowUs);
    if (this.isEndWanted && this.unsentBytes === 0) tcp.sendFin(nowUs);
    tcp.pollTransmit(nowUs, sink);
    if (this.isEndWanted && this.unsentBytes === 0 && tcp.canSendData) {
      tcp.sendFin(nowUs);
      tcp.pollTransmit(nowUs, sink);
    }
    this.creditAtUs = this.hasPending() && sink.hasRoom() ? tcp.awaitCredit(nowUs) : NEVER;
    if (!this.hasPending()) tcp.forgetCredit();
    const { onSpace } = this;
    if (onSpace !== null && !this.isEndWanted && this.unsentBytes <= this.lowWaterBytes) onSpace();
  }

  /** More may go than the last poll had room for. */
  hasWork(nowUs: Micros): boolean {
    return this.tcp.hasWork(nowUs);
  }

  nextDeadline(): Micros {
    return Math.min(this.tcp.nextDeadline(), this.creditAtUs);
  }

  // ---- SubflowOwner ------------------------------------------------------------------------------------------------

  dataOptionBytes(): number {
    return 0;
  }

  writeOptions(
    _sf: TcpSubflow,
    _kind: string,
    _seq: number,
    _bytes: number,
    _tag: unknown,
    _out: Uint8Array,
    o: number,
  ) {
    return o;
  }

  windowBytes(): number {
    this.windowEdgeSent = this.receiver.windowEdge();
    return this.receiver.windowBytes();
  }

  pull(_nowUs: Micros, _sf: TcpSubflow, maxBytes: number): SendUnit | null {
    if (this.unsentBytes === 0) return null;
    const { parts, firstOffset, lengthBytes } = this.buffer.take(this.sndNxt, maxBytes);
    this.sndNxt += lengthBytes;
    return { lengthBytes, parts, firstOffset, tag: null };
  }

  /** At the limit there is nothing to send: an acknowledgment will be news. */
  hasPending(): boolean {
    return this.unsentBytes > 0 && this.tcp.inFlightBytes < MAX_FLIGHT_BYTES;
  }

  pendingBytes(): number {
    return this.unsentBytes;
  }

  onOptions(): OptionVerdict {
    return 'continue';
  }

  /** Urgent data is data (RFC 6093 5): it stays in its place in the stream. */
  onPayload(_nowUs: Micros, _sf: TcpSubflow, seg: SegmentView, seq: number, offset: number, lengthBytes: number): void {
    this.receiver.accept(seq, seg.buf, offset, lengthBytes);
  }

  onSegmentDone(): void {
    this.growWindow();
    this.host.markDirty(this);
  }

  onEstablished(): void {}

  onPeerFin(): void {
    this.receiver.setFin(this.receiver.rcvNxt);
  }

  onClosed(_nowUs: Micros, _sf: TcpSubflow, why: CloseReason): void {
    this.closeReason = why;
    this.onSpace = null;
    // TIME-WAIT keeps numbers, not bytes.
    this.buffer = new SendBuffer(this.buffer.endDsn);
    this.sndNxt = this.buffer.endDsn;
    this.host.onFlowClosed(this, this.receiver.capacityBytes - FIRST_WINDOW_BYTES);
    this.onOver(why);
  }

  onRto(): void {}

  onAcked(_nowUs: Micros, _sf: TcpSubflow, seq: number, lengthBytes: number): void {
    this.bytesAcked += lengthBytes;
    this.buffer.free(seq + lengthBytes);
  }

  onLost(): void {}

  // ---- The window --------------------------------------------------------------------------------------------------

  private growWindow(): void {
    const { receiver } = this;
    const limit = receiver.capacityBytes;
    if (limit >= MAX_WINDOW_BYTES || receiver.unreadBytes > 0) return;
    if (receiver.bytesReceived - this.grownAtBytes < limit || !this.host.takeWindow(limit)) return;
    this.grownAtBytes = receiver.bytesReceived;
    receiver.grow(2 * limit);
  }

  /** Announces a window that has opened by a good part, since the application may be waiting for it (RFC 9293 3.8.6.2.2). */
  private updateWindow(nowUs: Micros): void {
    const { receiver, tcp } = this;
    if (receiver.peekEdge() - this.windowEdgeSent < receiver.capacityBytes / 4 || !tcp.isEstablished) return;
    tcp.requestAck(nowUs);
    this.host.markDirty(this);
  }
}

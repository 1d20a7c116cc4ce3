/**
 * The receiving half of a connection at data level (RFC 8684 3.3.2 to 3.3.4): one rcvNxt, one window shared by all
 * subflows, reassembly, and hand-over to the application. In-order bytes go up in the same call without a copy; what the
 * application does not take, and what is out of order, is copied and counted against the window.
 */
import type { ByteReader } from '../engine/api.js';
import { Reassembly } from './reassembly.js';

/**
 * Memory that reassembly may take, in windows. Segments of ordinary size never need more than two, blocks half empty and
 * overhead included, so a sender that keeps to the window loses nothing; only crumbs are evicted.
 */
const REASSEMBLY_FACTOR = 2;

export class DataReceiver {
  /** Next relative DSN expected; the DATA_ACK we send. */
  rcvNxt = 1;
  /** DSN of the peer's DATA_FIN, -1 while unknown. */
  finDsn = -1;
  /** The DATA_FIN was reached: the stream is complete. */
  isFinished = false;
  bytesReceived = 0;
  /** Bytes far beyond the window, dropped (RFC 8684 3.8). */
  outOfWindowBytes = 0;

  private reader: ByteReader | null = null;
  private readonly ahead: Reassembly;
  private unread: Uint8Array[] = [];
  private unreadOffset = 0;
  unreadBytes = 0;
  private endDelivered = false;
  /** Right edge of the window ever advertised: it never moves left (RFC 8684 3.3.4). */
  private rightEdge: number;

  constructor(private limitBytes: number) {
    this.ahead = new Reassembly(REASSEMBLY_FACTOR * limitBytes);
    this.rightEdge = this.rcvNxt + limitBytes;
  }

  get outOfOrderBytes(): number {
    return this.ahead.storedBytes;
  }

  get duplicateBytes(): number {
    return this.ahead.duplicateBytes;
  }

  get evictedBytes(): number {
    return this.ahead.evictedBytes;
  }

  /** Bytes held back by a hole at rcvNxt. */
  get hasHole(): boolean {
    return !this.ahead.isEmpty;
  }

  setReader(reader: ByteReader): void {
    this.reader = reader;
    this.resume();
  }

  /** Right edge to advertise now. */
  windowEdge(): number {
    this.rightEdge = Math.max(this.rightEdge, this.rcvNxt + this.limitBytes - this.unreadBytes);
    return this.rightEdge;
  }

  windowBytes(): number {
    return this.windowEdge() - this.rcvNxt;
  }

  /** What the window edge would be without having advertised it: for deciding on a window update. */
  peekEdge(): number {
    return Math.max(this.rightEdge, this.rcvNxt + this.limitBytes - this.unreadBytes);
  }

  get capacityBytes(): number {
    return this.limitBytes;
  }

  /** A larger buffer from now on; it never becomes smaller, as the window does not. */
  grow(limitBytes: number): void {
    if (limitBytes <= this.limitBytes) return;
    this.limitBytes = limitBytes;
    this.ahead.limitBytes = REASSEMBLY_FACTOR * limitBytes;
  }

  /** Takes bytes at `dsn`. The next in-order byte is taken whatever the buffers hold. True if rcvNxt moved. */
  accept(dsn: number, buf: Uint8Array, offset: number, lengthBytes: number): boolean {
    let at = dsn;
    let off = offset;
    let end = dsn + lengthBytes;
    // Linux adds a window that it saw earlier on a subflow to a newer DATA_ACK, and so overshoots one that shrinks. What
    // it sent is acknowledged at subflow level already: dropped, it would come back only by data-level timeouts. So as
    // much again as the window is taken; the reassembly's own limit bounds what that can cost.
    const taken = this.rightEdge + this.limitBytes;
    const edge = this.finDsn >= 0 ? Math.min(taken, this.finDsn) : taken;
    if (end > edge) {
      this.outOfWindowBytes += end - Math.max(edge, at);
      end = edge;
    }
    if (at < this.rcvNxt) {
      this.ahead.duplicateBytes += Math.min(this.rcvNxt, Math.max(end, at)) - at;
      off += this.rcvNxt - at;
      at = this.rcvNxt;
    }
    if (end <= at) return false;
    if (at > this.rcvNxt) {
      this.ahead.insert(at, buf, off, end - at);
      return false;
    }
    if (this.ahead.isEmpty) this.deliver(buf, off, end - at, true);
    else this.deliverAmong(buf, off, at, end);
    this.checkFin();
    return true;
  }

  /** The peer's DATA_FIN has this DSN. True if rcvNxt moved past it now. */
  setFin(dsn: number): boolean {
    if (this.finDsn < 0 && dsn >= this.rcvNxt) this.finDsn = dsn;
    return this.checkFin();
  }

  /** The DATA_FIN said where the stream ends by its sender's count, which does not hold any more: another end will come. */
  forgetFin(): void {
    if (!this.isFinished) this.finDsn = -1;
  }

  /**
   * The stream ends with what is here, although its DATA_FIN has another DSN: bytes were added or taken out on the way
   * (RFC 8684 3.7). The DATA_FIN is acknowledged as the sender numbers it.
   */
  endHere(finDsn: number): void {
    if (this.isFinished || this.hasHole) return;
    this.finDsn = this.rcvNxt;
    this.checkFin();
    this.rcvNxt = finDsn + 1;
  }

  /** Bytes of a SYN: first of the stream, and outside of the data sequence space (RFC 8684 B.2). */
  takeSynData(buf: Uint8Array, offset: number, lengthBytes: number): void {
    if (lengthBytes === 0) return;
    this.unread.push(buf.slice(offset, offset + lengthBytes));
    this.unreadBytes += lengthBytes;
    this.bytesReceived += lengthBytes;
  }

  /** The application can take bytes again. */
  resume(): void {
    const reader = this.reader;
    if (reader === null) return;
    while (this.unread.length > 0) {
      const chunk = this.unread[0]!;
      const left = chunk.length - this.unreadOffset;
      const took = reader.onBytes(chunk, this.unreadOffset, left);
      this.unreadBytes -= took;
      if (took < left) {
        this.unreadOffset += took;
        return;
      }
      this.unread.shift();
      this.unreadOffset = 0;
    }
    this.deliverEnd();
  }

  private deliver(buf: Uint8Array, offset: number, lengthBytes: number, isLent: boolean): void {
    this.rcvNxt += lengthBytes;
    this.bytesReceived += lengthBytes;
    let took = 0;
    if (this.reader !== null && this.unread.length === 0) took = this.reader.onBytes(buf, offset, lengthBytes);
    if (took === lengthBytes) return;
    const rest = isLent
      ? buf.slice(offset + took, offset + lengthBytes)
      : buf.subarray(offset + took, offset + lengthBytes);
    this.unread.push(rest);
    this.unreadBytes += rest.length;
  }

  /** In-order bytes [at, end), some of which may be here already: of those the first copy counts (RFC 8684 3.3.1). */
  private deliverAmong(buf: Uint8Array, offset: number, at: number, end: number): void {
    while (this.rcvNxt < end) {
      const from = this.rcvNxt;
      const to = Math.min(end, this.ahead.firstDsn);
      if (to > from) this.deliver(buf, offset + from - at, to - from, true);
      this.drainAhead();
      this.ahead.duplicateBytes += Math.max(0, Math.min(end, this.rcvNxt) - to);
    }
  }

  private drainAhead(): void {
    for (let bytes = this.ahead.takeAt(this.rcvNxt); bytes !== null; bytes = this.ahead.takeAt(this.rcvNxt)) {
      this.deliver(bytes, 0, bytes.length, false);
    }
  }

  private checkFin(): boolean {
    if (this.isFinished || this.finDsn < 0 || this.rcvNxt !== this.finDsn) return false;
    this.rcvNxt += 1;
    this.rightEdge = Math.max(this.rightEdge, this.rcvNxt);
    this.isFinished = true;
    this.ahead.clear();
    this.deliverEnd();
    return true;
  }

  private deliverEnd(): void {
    if (!this.isFinished || this.endDelivered || this.unread.length > 0 || this.reader === null) return;
    this.endDelivered = true;
    this.reader.onEnd();
  }
}

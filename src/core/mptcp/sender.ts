/**
 * The sending half of a connection at data level: what was written, what subflows have taken, what the peer has
 * DATA_ACKed, its window, our DATA_FIN, and what has to go again elsewhere. Which subflow takes it is decided in
 * dispatch.ts by the scheduler. (RFC 8684 3.3.1 to 3.3.6.)
 */
import { type Micros, NEVER } from '../base/time.js';
import { ReinjectionQueue } from './reinjection.js';
import { type DataUnit, SendBuffer } from './send-buffer.js';

/** DLL is a 16-bit field. */
export const MAX_MAPPING_BYTES = 65535;
/** First retransmission of a DATA_FIN, doubling up to the maximum (RFC 8684 3.3.3 leaves the timer to us). */
const FIN_RETRANSMIT_US: Micros = 300_000;
const FIN_RETRANSMIT_MAX_US: Micros = 10_000_000;

export class DataSender {
  readonly buffer = new SendBuffer(1);
  readonly reinjections = new ReinjectionQueue();
  /** Lowest relative DSN not DATA_ACKed, and next DSN that no subflow has taken. */
  sndUna = 1;
  sndNxt = 1;
  /** Greatest DATA_ACK + window seen: shrinks never (RFC 8684 3.3.5). */
  windowEdge = 1;
  /** DSN of our DATA_FIN once `end` was called, -1 before. */
  finDsn = -1;
  finAcked = false;
  /** When the DATA_FIN goes (again): NEVER while it must wait or is acknowledged. */
  finAtUs: Micros = NEVER;
  finTries = 0;
  bytesReinjected = 0;
  lastAckUs: Micros = 0;

  get unsentBytes(): number {
    return this.buffer.endDsn - this.sndNxt;
  }

  get unackedBytes(): number {
    return Math.max(0, Math.min(this.sndNxt, this.buffer.endDsn) - this.sndUna); // sndUna passes endDsn with the DATA_FIN
  }

  /** New bytes that the peer's window admits now. */
  get sendableBytes(): number {
    return Math.max(0, Math.min(this.buffer.endDsn, this.windowEdge) - this.sndNxt);
  }

  get isWindowLimited(): boolean {
    return this.unsentBytes > 0 && this.windowEdge <= this.sndNxt;
  }

  takeNew(maxBytes: number): DataUnit {
    const unit = this.buffer.take(this.sndNxt, Math.min(maxBytes, this.sendableBytes, MAX_MAPPING_BYTES));
    this.sndNxt += unit.lengthBytes;
    return unit;
  }

  /** The first range to reinject; call only when there is one. Returns its DSN through `reinjections.first` before. */
  takeReinjection(maxBytes: number): DataUnit {
    const range = this.reinjections.first!;
    const unit = this.buffer.take(range.dsn, Math.min(maxBytes, range.endDsn - range.dsn, MAX_MAPPING_BYTES));
    this.reinjections.consume(unit.lengthBytes);
    this.bytesReinjected += unit.lengthBytes;
    return unit;
  }

  /** Bytes from `dsn` on, which another subflow has taken before. */
  takeCopy(dsn: number, maxBytes: number): DataUnit {
    return this.buffer.take(dsn, Math.min(maxBytes, MAX_MAPPING_BYTES));
  }

  /** Asks for [dsn, endDsn) to go again on another subflow than `notOn`. Already acknowledged bytes are skipped. */
  reinject(dsn: number, endDsn: number, notOn: number): void {
    const from = Math.max(dsn, this.sndUna);
    if (from < endDsn) this.reinjections.add(from, endDsn, notOn);
  }

  /** A DATA_ACK (relative). False when it is not plausible and must be ignored. */
  onDataAck(nowUs: Micros, dataAck: number): boolean {
    const top = this.finDsn >= 0 && this.sndNxt > this.buffer.endDsn ? this.finDsn + 1 : this.sndNxt;
    if (dataAck > top) return false;
    if (dataAck <= this.sndUna) return true;
    this.sndUna = dataAck;
    this.lastAckUs = nowUs;
    this.buffer.free(dataAck);
    this.reinjections.dropBelow(dataAck);
    if (this.finDsn >= 0 && dataAck === this.finDsn + 1) {
      this.finAcked = true;
      this.finAtUs = NEVER;
    }
    return true;
  }

  /** Bytes before all that was written; only while nothing has been sent. */
  prepend(bytes: Uint8Array): void {
    this.buffer.prepend(bytes);
    if (this.finDsn >= 0) this.finDsn += bytes.length;
  }

  /** No more writes: the DATA_FIN takes the DSN behind the last byte. */
  end(): void {
    if (this.finDsn < 0) this.finDsn = this.buffer.endDsn;
  }

  /** All bytes were taken by subflows and the DATA_FIN has not been sent yet. */
  get isFinReady(): boolean {
    return this.finDsn >= 0 && !this.finAcked && this.sndNxt >= this.finDsn;
  }

  /** The DATA_FIN went out: it owns its DSN now, and is due again unless acknowledged. */
  onFinSent(nowUs: Micros): void {
    this.sndNxt = this.finDsn + 1;
    const backoff = Math.min(FIN_RETRANSMIT_US * 2 ** this.finTries, FIN_RETRANSMIT_MAX_US);
    this.finTries++;
    this.finAtUs = nowUs + backoff;
  }
}

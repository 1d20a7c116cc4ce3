/**
 * Joins an application's connection, ended at the TUN, with the far side of its flow: bytes, ends and resets both ways, each
 * direction on its own. Nothing is buffered here: a side that does not take bytes leaves them with the other side's TCP, whose
 * window shuts, and the sender waits. Bytes are copied once on each way, out of what is lent.
 */
import type { Micros } from '../../core/base/time.js';
import type { ByteReader } from '../../core/engine/api.js';
import type { TerminatedFlow } from '../../core/flows/flow.js';
import { copyOf, sendAheadBytes } from '../duplex.js';
import type { FlowOutbound } from './contract.js';
import { WriteBlocks } from './write-blocks.js';

/** Towards the far side: what may wait in its stream (TLS takes it in its own time). */
const STREAM_AHEAD_BYTES = 256 * 1024;
/** ... and below the stream, in the connection, at least (duplex.ts). */
const UNSENT_MIN_BYTES = 128 * 1024;
/** Towards the application: bytes that wait for its window; reading goes on below the second. */
const BACKLOG_BYTES = 256 * 1024;
const BACKLOG_LOW_BYTES = 64 * 1024;

/** One for all flows. */
const blocks = new WriteBlocks();

export interface SpliceHost {
  nowUs(): Micros;
  /** The flow has something to send. */
  flushSoon(): void;
  /** The connection has no room for this splice: `retry` it after the next flush. */
  wait(splice: Splice): void;
  /** Bytes came from the far side, for the application; went from it to the far side. */
  onDelivered(splice: Splice, bytes: number): void;
  onSent(splice: Splice, bytes: number): void;
}

export class Splice implements ByteReader {
  /** When bytes last went through, either way. */
  movedUs: Micros;
  private isPaused = false;
  private isCorked = false;
  private hasEnded = false;
  private isOver = false;

  constructor(
    readonly flow: TerminatedFlow,
    readonly outbound: FlowOutbound,
    private readonly host: SpliceHost,
  ) {
    this.movedUs = host.nowUs();
    const { stream } = outbound;
    stream.on('data', this.onData);
    stream.on('end', () => this.onFarEnd());
    stream.on('drain', () => this.retry());
    stream.on('error', () => this.abort());
    stream.on('close', () => this.onStreamClosed());
    flow.setSendSpace(BACKLOG_LOW_BYTES, () => this.onSpace());
    flow.setReader(this);
    // A dialer may have stopped it behind its own handshake.
    stream.resume();
  }

  /** Ends both sides at once. */
  abort(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.flow.abort(this.host.nowUs());
    this.outbound.abort();
    this.host.flushSoon();
  }

  // ---- From the application to the far side ------------------------------------------------------------------------

  onBytes(buf: Uint8Array, offset: number, lengthBytes: number): number {
    const { stream } = this.outbound;
    if (this.isOver || stream.destroyed) return lengthBytes;
    if (!this.hasRoom()) {
      this.host.wait(this);
      return 0;
    }
    // What arrives together leaves together.
    if (!this.isCorked) {
      this.isCorked = true;
      stream.cork();
      process.nextTick(this.uncork);
    }
    this.movedUs = this.host.nowUs();
    this.host.onSent(this, lengthBytes);
    // A connection keeps what it is given until it is acknowledged; TLS is done with it when it says so.
    if (this.outbound.lendsData === true) stream.write(copyOf(buf, offset, lengthBytes));
    else blocks.write(stream, buf, offset, lengthBytes);
    return lengthBytes;
  }

  onEnd(): void {
    if (!this.isOver) this.outbound.stream.end();
  }

  /** There may be room now. */
  retry(): void {
    if (this.isOver || !this.flow.isStalled) return;
    if (!this.hasRoom()) {
      this.host.wait(this);
      return;
    }
    this.flow.resume(this.host.nowUs());
    this.host.flushSoon();
  }

  private hasRoom(): boolean {
    const { stream, connection } = this.outbound;
    if (stream.writableLength >= STREAM_AHEAD_BYTES) return false;
    return connection.unsentBytes < sendAheadBytes(connection, UNSENT_MIN_BYTES);
  }

  private readonly uncork = (): void => {
    this.isCorked = false;
    this.outbound.stream.uncork();
  };

  // ---- From the far side to the application ------------------------------------------------------------------------

  private readonly onData = (chunk: Buffer): void => {
    if (this.isOver) return;
    const { flow, outbound, host } = this;
    this.movedUs = host.nowUs();
    host.onDelivered(this, chunk.length);
    flow.write(this.movedUs, outbound.lendsData === true ? copyOf(chunk, 0, chunk.length) : chunk);
    host.flushSoon();
    if (flow.unsentBytes > BACKLOG_BYTES && !this.isPaused) {
      this.isPaused = true;
      outbound.stream.pause();
    }
  };

  private onSpace(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.outbound.stream.resume();
  }

  private onFarEnd(): void {
    if (this.isOver) return;
    this.hasEnded = true;
    this.flow.end(this.host.nowUs());
    this.host.flushSoon();
  }

  /** Whoever closes before both directions have come to their end breaks the connection. */
  private onStreamClosed(): void {
    if (!this.hasEnded || !this.outbound.stream.writableFinished) this.abort();
    this.isOver = true;
  }
}

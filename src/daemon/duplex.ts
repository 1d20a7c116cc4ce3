/**
 * A connection as a Node Duplex. As it is, for node:tls: writing hands references to the engine and is done at once: how
 * much may be written is the writer's business (lane-pump.ts). Reading lends: a 'data' listener that is called at once gets
 * the engine's own bytes and must be done with them when it returns, as node:tls is (it decrypts out of a copy). Bytes that
 * have to wait are copied; where nobody reads, the connection's receive window fills up instead of our memory.
 *
 * With a send buffer it is for applications (library/connection.ts): bytes are copied both ways, so that nobody has to know
 * the above, and writes wait for room.
 */
import { Duplex } from 'node:stream';
import type { Micros } from '../core/base/time.js';
import type { ByteReader, ConnectionApi } from '../core/engine/api.js';

/** Bytes that may wait for an application here; and for TLS, which takes them at once unless its own reader has stopped. */
const READ_AHEAD_BYTES = 1024 * 1024;
const TLS_READ_AHEAD_BYTES = 128 * 1024;

/** What may wait in a connection: at least so many bytes, and so many microseconds' worth of its delivery rate, within this. */
const AHEAD_US = 5_000;
const MAX_AHEAD_BYTES = 2 * 1024 * 1024;
/** A connection of which TLS has heard and said everything waits so long for the peer's FIN (Linux: tcp_fin_timeout). */
const FIN_TIMEOUT_MS = 60_000;

export function sendAheadBytes(connection: ConnectionApi, minBytes: number): number {
  const aheadBytes = (connection.deliveryRateBytesPerS * AHEAD_US) / 1_000_000;
  return Math.max(minBytes, Math.min(MAX_AHEAD_BYTES, aheadBytes));
}

export interface DuplexHost {
  nowUs(): Micros;
  flushSoon(): void;
}

export class ConnectionDuplex extends Duplex {
  /** Bytes given to the connection so far. */
  bytesQueued = 0;
  private isHolding = false;
  /** Inside `_read`, where `push` only queues. */
  private isReading = false;
  /** `_read` has been called: until then a stream queues what is pushed, flowing or not. */
  private hasRead = false;
  private readonly isCopying: boolean;
  /** Of a write that waits until `connection.unsentBytes` is below half the send buffer. */
  private whenRoom: ((error?: Error | null) => void) | null = null;
  private isBelowTls = false;

  constructor(
    protected readonly connection: ConnectionApi,
    protected readonly host: DuplexHost,
    /** Bytes that may be unsent before a write waits; null: no limit, no copies. */
    private sendBufferBytes: number | null = null,
  ) {
    super({
      allowHalfOpen: true,
      // See `endIfOver`.
      autoDestroy: false,
      readableHighWaterMark: sendBufferBytes === null ? TLS_READ_AHEAD_BYTES : READ_AHEAD_BYTES,
    });
    this.isCopying = sendBufferBytes !== null;
    connection.setReader(this.reader);
    if (sendBufferBytes !== null) this.limitUnsent(sendBufferBytes);
    else this.on('end', this.endIfOver).on('finish', this.endIfOver);
  }

  /**
   * What is read from now on is read by TLS, whose own reader may be slower: bytes wait there when there are none left here,
   * and node:tls forgets them when the stream below closes. So TLS is who ends this one.
   */
  carryTls(): void {
    this.isBelowTls = true;
  }

  /**
   * From now on a write waits while more than this is unsent, or than goes in AHEAD_US if that is more; so whoever writes
   * through TLS is held back as well.
   */
  limitUnsent(bytes: number): void {
    this.sendBufferBytes = bytes;
    this.connection.setSendSpace(bytes / 2, () => this.onRoom());
  }

  /** The engine has closed the connection; `why` as in its event. */
  onConnectionClosed(why: string): void {
    if (this.destroyed) return;
    if (why !== 'done') this.destroy(new Error(`connection closed: ${why}`));
    else if (this.isBelowTls) return;
    // What waits for its reader is the reader's, also behind the end.
    else if (this.readableLength > 0 || this.isHolding) this.once('end', () => this.destroy());
    else this.destroy();
  }

  /** Both directions have come to their end. (An application's stream ends with its connection, which knows of failures.) */
  private readonly endIfOver = (): void => {
    if (this.readableEnded && this.writableFinished && !this.isBelowTls) this.destroy();
  };

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.give(this.host.nowUs(), chunk);
    this.finishWrite(done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    const nowUs = this.host.nowUs();
    for (const { chunk } of chunks) this.give(nowUs, chunk);
    this.finishWrite(done);
  }

  private give(nowUs: Micros, chunk: Buffer): void {
    this.bytesQueued += chunk.length;
    this.connection.write(nowUs, this.isCopying ? copyOf(chunk, 0, chunk.length) : chunk);
  }

  private finishWrite(done: () => void): void {
    this.host.flushSoon();
    const limitBytes = this.unsentLimitBytes();
    if (this.connection.unsentBytes <= limitBytes) {
      done();
      return;
    }
    this.whenRoom = done;
    // Asked again when it is half empty, so that more is there before the links run dry.
    this.connection.setSendSpace(limitBytes / 2, () => this.onRoom());
  }

  private unsentLimitBytes(): number {
    if (this.sendBufferBytes === null) return Number.POSITIVE_INFINITY;
    // An application's buffer is as long as it said.
    return this.isCopying ? this.sendBufferBytes : sendAheadBytes(this.connection, this.sendBufferBytes);
  }

  private onRoom(error: Error | null = null): void {
    const done = this.whenRoom;
    this.whenRoom = null;
    done?.(error);
  }

  override _read(): void {
    this.hasRead = true;
    if (!this.isHolding) return;
    this.isHolding = false;
    this.isReading = true;
    this.connection.resume(this.host.nowUs());
    this.isReading = false;
    this.host.flushSoon();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.connection.end(this.host.nowUs());
    this.host.flushSoon();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.isBelowTls && error === null && this.writableFinished) {
      // TLS ends with the peer's close_notify, its FIN may come later; and what we have said is not acknowledged yet.
      setTimeout(() => this.abortUnlessClosed(), FIN_TIMEOUT_MS).unref();
    } else if (!(this.writableFinished && this.readableEnded)) this.abortUnlessClosed();
    this.onRoom(error);
    done(error);
  }

  private abortUnlessClosed(): void {
    if (this.connection.state === 'closed') return;
    this.connection.abort(this.host.nowUs());
    this.host.flushSoon();
  }

  private readonly reader: ByteReader = {
    onBytes: (buf, offset, lengthBytes) => {
      if (this.destroyed) return lengthBytes;
      if (this.isHolding) return 0;
      const isLent =
        this.hasRead &&
        this.readableFlowing === true &&
        this.readableLength === 0 &&
        !this.isReading &&
        this.listenerCount('data') > 0;
      const bytes = isLent && !this.isCopying ? lend(buf, offset, lengthBytes) : copyOf(buf, offset, lengthBytes);
      if (!this.push(bytes)) this.isHolding = true;
      return lengthBytes;
    },
    onEnd: () => {
      if (!this.destroyed) this.push(null);
    },
  };
}

function lend(buf: Uint8Array, offset: number, lengthBytes: number): Buffer {
  return Buffer.from(buf.buffer, buf.byteOffset + offset, lengthBytes);
}

/** Not from Node's pool: a slice that waits would pin 8 KB for a few bytes. */
export function copyOf(buf: Uint8Array, offset: number, lengthBytes: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(lengthBytes);
  copy.set(buf.subarray(offset, offset + lengthBytes));
  return copy;
}

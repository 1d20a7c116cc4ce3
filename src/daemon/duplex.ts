/**
 * A connection as a Node Duplex. As it is, for our own use: writing hands references to the engine and is done at once: how
 * much may be written is the writer's business (lane-pump.ts). Reading lends: a 'data' listener that is called at once gets
 * the engine's own bytes and must be done with them when it returns. Bytes that have to wait are copied; where nobody
 * reads, the connection's receive window fills up instead of our memory.
 *
 * With TLS (`startTls`) its bytes are the plaintext; what is written is copied on its way, and what is read is the reader's.
 *
 * With a send buffer it is for applications (library/connection.ts): bytes are copied both ways, so that nobody has to know
 * the above, and writes wait for room.
 */
import { Duplex } from 'node:stream';
import type { Micros } from '../core/base/time.js';
import type { ByteReader, ConnectionApi } from '../core/engine/api.js';
import { type TlsContext, TlsEnd, type TlsEvents } from '../native/index.js';

/** Bytes that may wait here for an application; and for ourselves, who take them at once unless our own reader has stopped. */
const READ_AHEAD_BYTES = 1024 * 1024;
const OWN_READ_AHEAD_BYTES = 128 * 1024;
/** Writes that came together and are no longer than this share their records. */
const JOINED_BYTES = 16_384;

/** What may wait in a connection: at least so many bytes, and so many microseconds' worth of its delivery rate, within this. */
const AHEAD_US = 5_000;
const MAX_AHEAD_BYTES = 2 * 1024 * 1024;
/** A connection on which TLS has heard and said everything waits so long for the peer's FIN (Linux: tcp_fin_timeout). */
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
  /**
   * The peer is one that ends with close_notify: without it, somebody between may have cut the rest off (RFC 8446 6.1), and the
   * stream breaks instead of ending. Not every program's TLS does.
   */
  mustHearEnd = false;
  private isHolding = false;
  /** The end has been read; nothing follows. */
  private isEndRead = false;
  /** Inside `_read`, where `push` only queues. */
  private isReading = false;
  /** `_read` has been called: until then a stream queues what is pushed, flowing or not. */
  private hasRead = false;
  private readonly isCopying: boolean;
  /** Of a write that waits until `connection.unsentBytes` is below half the send buffer. */
  private whenRoom: ((error?: Error | null) => void) | null = null;
  private tls: TlsEnd | null = null;
  /** What was written, or ended, before the handshake was done. */
  private whenSecure: (() => void) | null = null;

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
      readableHighWaterMark: sendBufferBytes === null ? OWN_READ_AHEAD_BYTES : READ_AHEAD_BYTES,
    });
    this.isCopying = sendBufferBytes !== null;
    connection.setReader(this.reader);
    if (sendBufferBytes !== null) this.limitUnsent(sendBufferBytes);
    else this.on('end', this.endIfOver).on('finish', this.endIfOver);
  }

  /**
   * TLS from the first byte on. 'secure' follows when the handshake is done, with `session` a resumed one if the server agrees;
   * later 'session', with one to resume (client). Bytes that are written before wait.
   */
  startTls(context: TlsContext, session: Uint8Array | null = null): void {
    this.tls = new TlsEnd(context, this.tlsEvents, session);
    this.tls.start();
  }

  /** What the peer is: to be asked from 'secure' on. Null before `startTls`. */
  get secured(): Pick<TlsEnd, 'peerKey' | 'alpn' | 'isResumed' | 'exportKey'> | null {
    return this.tls;
  }

  /** From now on a write waits while more than this is unsent, or than goes in AHEAD_US if that is more. */
  limitUnsent(bytes: number): void {
    this.sendBufferBytes = bytes;
    this.connection.setSendSpace(bytes / 2, () => this.onRoom());
  }

  /** The engine has closed the connection; `why` as in its event. */
  onConnectionClosed(why: string): void {
    if (this.destroyed) return;
    if (why !== 'done') this.destroy(new Error(`connection closed: ${why}`));
    // What waits for its reader is the reader's, the end as well.
    else if (!this.readableEnded && (this.isEndRead || this.isHolding)) this.once('end', () => this.destroy());
    else this.destroy();
  }

  /** Both directions have come to their end. (An application's stream ends with its connection, which knows of failures.) */
  private readonly endIfOver = (): void => {
    if (this.readableEnded && this.writableFinished) this.destroy();
  };

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.waitsForTls(() => this._write(chunk, encoding, done))) return;
    this.give(this.host.nowUs(), this.tls?.encrypt(chunk) ?? this.own(chunk));
    this.finishWrite(done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    if (this.waitsForTls(() => this._writev(chunks, done))) return;
    const nowUs = this.host.nowUs();
    for (const chunk of this.tls === null ? chunks.map((c) => c.chunk) : joined(chunks)) {
      this.give(nowUs, this.tls?.encrypt(chunk) ?? this.own(chunk));
    }
    this.finishWrite(done);
  }

  /** True: it will be called when the handshake is done. */
  private waitsForTls(retry: () => void): boolean {
    if (this.tls === null || this.tls.canEncrypt) return false;
    this.whenSecure = retry;
    return true;
  }

  private own(chunk: Buffer): Buffer {
    return this.isCopying ? copyOf(chunk, 0, chunk.length) : chunk;
  }

  private give(nowUs: Micros, chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.bytesQueued += chunk.length;
    this.connection.write(nowUs, chunk);
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
    if (this.waitsForTls(() => this._final(done))) return;
    this.tls?.end();
    this.connection.end(this.host.nowUs());
    this.host.flushSoon();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.whenSecure = null;
    if (this.tls !== null && error === null && this.writableFinished) {
      // TLS ends with the peer's close_notify, its FIN may come later; and what we have said is not acknowledged yet.
      setTimeout(() => this.abortUnlessClosed(), FIN_TIMEOUT_MS).unref();
    } else if (!(this.writableFinished && this.readableEnded)) this.abortUnlessClosed();
    this.tls?.close();
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
      if (this.tls !== null) {
        this.tls.decrypt(buf, offset, lengthBytes);
        return lengthBytes;
      }
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
      if (this.destroyed) return;
      if (this.tls === null) this.pushEnd();
      else if (!this.tls.canEncrypt) this.destroy(new Error('closed during the handshake'));
      // Behind TLS's own end it is no news.
      else if (!this.isEndRead && this.mustHearEnd) this.destroy(new Error('ended without close_notify'));
      else if (!this.isEndRead) this.pushEnd();
    },
  };

  private readonly tlsEvents: TlsEvents = {
    onSecure: () => {
      this.emit('secure');
      const retry = this.whenSecure;
      this.whenSecure = null;
      if (!this.destroyed) retry?.();
    },
    onPlain: (bytes) => {
      if (!this.isEndRead && !this.push(bytes)) this.isHolding = true;
    },
    onCipher: (bytes) => {
      this.give(this.host.nowUs(), bytes);
      this.host.flushSoon();
    },
    onSession: (session) => void this.emit('session', session),
    onEnd: () => this.pushEnd(),
    onFailed: (error) => void this.destroy(error),
  };

  private pushEnd(): void {
    this.isEndRead = true;
    this.push(null);
    // Who has not begun to read, as a connection in store, is told as well.
    if (this.readableFlowing === null) this.read(0);
  }
}

function lend(buf: Uint8Array, offset: number, lengthBytes: number): Buffer {
  return Buffer.from(buf.buffer, buf.byteOffset + offset, lengthBytes);
}

function joined(chunks: readonly { chunk: Buffer }[]): readonly Buffer[] {
  const all = chunks.map((c) => c.chunk);
  const bytes = all.reduce((sum, chunk) => sum + chunk.length, 0);
  return bytes <= JOINED_BYTES ? [Buffer.concat(all, bytes)] : all;
}

/** Not from Node's pool: a slice that waits would pin 8 KB for a few bytes. */
export function copyOf(buf: Uint8Array, offset: number, lengthBytes: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(lengthBytes);
  copy.set(buf.subarray(offset, offset + lengthBytes));
  return copy;
}

/**
 * A connection as a Node Duplex, for node:tls. Writing hands references to the engine and is done at once: how much may
 * be written is the writer's business (lane-pump.ts). Reading copies, because the engine lends its bytes only until the
 * call returns; where nobody reads, the connection's receive window fills up instead of our memory.
 */
import { Duplex } from 'node:stream';
import type { Micros } from '../core/base/time.js';
import type { ByteReader, ConnectionApi } from '../core/engine/api.js';

/** Bytes that may wait for a reader here. */
const READ_AHEAD_BYTES = 1024 * 1024;

export interface DuplexHost {
  nowUs(): Micros;
  flushSoon(): void;
}

export class ConnectionDuplex extends Duplex {
  /** Bytes given to the connection so far. */
  bytesQueued = 0;
  private isHolding = false;

  constructor(
    private readonly connection: ConnectionApi,
    private readonly host: DuplexHost,
  ) {
    super({ allowHalfOpen: true, readableHighWaterMark: READ_AHEAD_BYTES });
    connection.setReader(this.reader);
  }

  /** The engine has closed the connection; `why` as in its event. */
  onConnectionClosed(why: string): void {
    if (this.destroyed) return;
    if (why === 'done') this.destroy();
    else this.destroy(new Error(`connection closed: ${why}`));
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.bytesQueued += chunk.length;
    this.connection.write(this.host.nowUs(), chunk);
    this.host.flushSoon();
    done();
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    const nowUs = this.host.nowUs();
    for (const { chunk } of chunks) {
      this.bytesQueued += chunk.length;
      this.connection.write(nowUs, chunk);
    }
    this.host.flushSoon();
    done();
  }

  override _read(): void {
    if (!this.isHolding) return;
    this.isHolding = false;
    this.connection.resume(this.host.nowUs());
    this.host.flushSoon();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.connection.end(this.host.nowUs());
    this.host.flushSoon();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.connection.state !== 'closed' && !(this.writableFinished && this.readableEnded)) {
      this.connection.abort(this.host.nowUs());
      this.host.flushSoon();
    }
    done(error);
  }

  private readonly reader: ByteReader = {
    onBytes: (buf, offset, lengthBytes) => {
      if (this.destroyed) return lengthBytes;
      if (this.isHolding) return 0;
      // A copy of its own, not of the pool: TLS keeps slices, and a slice would pin 8 KB for a few bytes.
      const copy = Buffer.allocUnsafeSlow(lengthBytes);
      copy.set(buf.subarray(offset, offset + lengthBytes));
      if (!this.push(copy)) this.isHolding = true;
      return lengthBytes;
    },
    onEnd: () => {
      if (!this.destroyed) this.push(null);
    },
  };
}

/**
 * One relayed flow at the server: the client's TLS stream and the destination's socket, joined. Each direction has the
 * back-pressure of its reader; an end of one direction is passed on as an end (FIN), a reset as a reset, both ways.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Micros } from '../../core/base/time.js';
import type { ConnectionApi } from '../../core/engine/api.js';

/** A destination that has vanished is found out by the kernel's keepalives, if nothing was said for so long. */
const TARGET_KEEPALIVE_MS = 600_000;

export type RelayEnd = 'done' | 'reset-by-client' | 'reset-by-target' | 'byte-limit' | 'closed';

export interface RelayFlowParts {
  readonly connection: ConnectionApi;
  /** The client's, decrypted. */
  readonly stream: Duplex;
  readonly target: Socket;
  readonly now: () => Micros;
  /** Both directions together. */
  readonly maxBytes: number;
  /** Bytes came from the client, for the destination. */
  onDelivered(bytes: number): void;
  onEnd(flow: RelayFlow, end: RelayEnd): void;
}

export class RelayFlow {
  /** From the client, and to it. */
  bytesUp = 0;
  bytesDown = 0;
  /** When bytes last went through, either way. */
  movedUs: Micros;
  private end: RelayEnd | null = null;
  private open = 2;

  constructor(private readonly parts: RelayFlowParts) {
    this.movedUs = parts.now();
    const { stream, target } = parts;
    target.setKeepAlive(true, TARGET_KEEPALIVE_MS);
    this.join(stream, target, (bytes) => {
      this.bytesUp += bytes;
      parts.onDelivered(bytes);
    });
    this.join(target, stream, (bytes) => {
      this.bytesDown += bytes;
    });
    target.on('error', () => this.abort('reset-by-target'));
    stream.on('error', () => this.abort('reset-by-client'));
    target.on('close', () => this.onClose());
    stream.on('close', () => {
      // Closed before it had said and heard everything: whatever it was, to the destination it is a reset.
      if (!stream.readableEnded || !stream.writableFinished) this.abort('reset-by-client');
      this.onClose();
    });
    // It was held while the destination was dialed.
    stream.resume();
  }

  /** Ends both sides at once: RST to the destination, MP_FASTCLOSE to the client. */
  abort(why: RelayEnd): void {
    if (this.end !== null) return;
    this.end = why;
    const { connection, stream, target, now } = this.parts;
    if (!target.destroyed) target.resetAndDestroy();
    if (connection.state !== 'closed') connection.abort(now());
    stream.destroy();
  }

  private join(from: Duplex, to: Duplex, count: (bytes: number) => void): void {
    from.on('data', (chunk: Buffer) => {
      this.movedUs = this.parts.now();
      count(chunk.length);
      if (this.bytesUp + this.bytesDown > this.parts.maxBytes) this.abort('byte-limit');
      else if (!to.write(chunk)) from.pause();
    });
    to.on('drain', () => from.resume());
    from.on('end', () => to.end());
  }

  private onClose(): void {
    if (--this.open > 0) return;
    this.parts.onEnd(this, this.end ?? 'done');
  }
}

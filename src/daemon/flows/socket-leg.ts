/** A kernel's socket as one leg of a proxied connection (core/convert/session.ts): lent bytes, back-pressure, ends, resets. */
import type { Socket } from 'node:net';
import type { Micros } from '../../core/base/time.js';
import type { Leg } from '../../core/convert/session.js';
import type { ByteReader } from '../../core/engine/api.js';

export class SocketLeg implements Leg {
  private reader: ByteReader | null = null;
  /** What the reader would not take. */
  private rest: Buffer | null = null;
  private hasEnded = false;
  private isEndTold = false;

  /** `onClosed` is told once when the socket is gone; `isReset`: not in good order. */
  constructor(
    private readonly socket: Socket,
    onClosed: (isReset: boolean) => void,
  ) {
    socket.pause();
    socket.on('data', (chunk) => this.onData(chunk));
    socket.on('end', () => this.onEnd());
    socket.on('error', () => undefined); // 'close' tells
    socket.on('close', (hadError) => onClosed(hadError || !this.hasEnded));
  }

  write(_nowUs: Micros, bytes: Uint8Array): void {
    if (this.socket.writable) this.socket.write(bytes);
  }

  get unsentBytes(): number {
    return this.socket.writableLength;
  }

  /** Called with an empty buffer, which is below any mark. */
  setSendSpace(_lowWaterBytes: number, onSpace: () => void): void {
    this.socket.removeAllListeners('drain');
    this.socket.on('drain', onSpace);
  }

  setReader(reader: ByteReader): void {
    this.reader = reader;
    this.resume();
  }

  resume(): void {
    const { rest } = this;
    this.rest = null;
    if (rest !== null && !this.give(rest)) return;
    if (this.hasEnded) this.tellEnd();
    else this.socket.resume();
  }

  end(): void {
    if (this.socket.writable) this.socket.end();
  }

  abort(): void {
    this.socket.resetAndDestroy();
  }

  private onData(chunk: Buffer): void {
    // 'data' may come once more after `pause`.
    if (this.rest !== null) this.rest = Buffer.concat([this.rest, chunk]);
    else this.give(chunk);
  }

  /** False: the reader is full, and the rest waits. */
  private give(chunk: Buffer): boolean {
    const taken = this.reader?.onBytes(chunk, 0, chunk.length) ?? 0;
    if (taken === chunk.length) return true;
    this.rest = chunk.subarray(taken);
    this.socket.pause();
    return false;
  }

  private onEnd(): void {
    this.hasEnded = true;
    if (this.rest === null) this.tellEnd();
  }

  private tellEnd(): void {
    if (this.isEndTold || this.reader === null) return;
    this.isEndTold = true;
    this.reader.onEnd();
  }
}

/**
 * Takes one Convert message off the front of a stream (RFC 8803 6: the first bytes of the stream, both ways) and nothing
 * behind it: what follows is the user's. Holds at most MAX_MESSAGE_BYTES.
 */
import { CONVERT_HEADER_BYTES, NO_BYTES } from './message.js';
import { type ConvertFault, messageBytes } from './parse.js';

export class MessageReader {
  /** The header cannot be used, and no length is known. */
  fault: ConvertFault | null = null;
  private bytes: Uint8Array = new Uint8Array(CONVERT_HEADER_BYTES);
  private fill = 0;
  private isHeaderRead = false;

  /** Takes what belongs to the message; how much that was. */
  take(buf: Uint8Array, offset: number, lengthBytes: number): number {
    let taken = 0;
    while (taken < lengthBytes && !this.isDone) {
      const n = Math.min(lengthBytes - taken, this.bytes.length - this.fill);
      this.bytes.set(buf.subarray(offset + taken, offset + taken + n), this.fill);
      this.fill += n;
      taken += n;
      if (!this.isHeaderRead && this.fill === CONVERT_HEADER_BYTES) this.readHeader();
    }
    return taken;
  }

  private readHeader(): void {
    this.isHeaderRead = true;
    const total = messageBytes(this.bytes, 0);
    if (typeof total === 'string') this.fault = total;
    else {
      const whole = new Uint8Array(total);
      whole.set(this.bytes);
      this.bytes = whole;
    }
  }

  /** The message is whole, or cannot be read. */
  get isDone(): boolean {
    return this.fault !== null || (this.isHeaderRead && this.fill === this.bytes.length);
  }

  /** What has arrived of it. */
  get message(): Uint8Array {
    return this.fill === 0 ? NO_BYTES : this.bytes.subarray(0, this.fill);
  }
}

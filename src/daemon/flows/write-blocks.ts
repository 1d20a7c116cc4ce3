/**
 * Room for bytes on their way into a stream, used again when the stream has taken them. A copy of its own for each piece of a
 * quick flow is garbage outside the JavaScript heap, of which V8 lets 64 MB gather before it looks.
 */

import { copyOf } from '../duplex.js';

/** A super-packet's payload. */
const BLOCK_BYTES = 65_536;
/** Less than this has a copy of its own. */
const SMALL_BYTES = 8_192;
/** Kept for later at most; further ones are left to the collector. */
const MAX_FREE = 32;

export class WriteBlocks {
  private readonly free: ArrayBuffer[] = [];

  /** Writes a copy of the bytes to `stream`. */
  write(stream: NodeJS.WritableStream, buf: Uint8Array, offset: number, lengthBytes: number): void {
    if (lengthBytes < SMALL_BYTES || lengthBytes > BLOCK_BYTES) {
      stream.write(copyOf(buf, offset, lengthBytes));
      return;
    }
    const block = this.free.pop() ?? new ArrayBuffer(BLOCK_BYTES);
    const copy = Buffer.from(block, 0, lengthBytes);
    copy.set(buf.subarray(offset, offset + lengthBytes));
    stream.write(copy, () => {
      if (this.free.length < MAX_FREE) this.free.push(block);
    });
  }
}

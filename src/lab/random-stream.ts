/**
 * Pseudo-random test data that both ends can make without sending it: the AES-128-CTR key stream of a seed. It does not
 * compress, any byte lost, doubled or reordered changes its SHA-256, and it costs a fraction of what the network costs.
 */
import { createCipheriv, createHash, type Hash } from 'node:crypto';
import { Readable } from 'node:stream';

const CHUNK_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(CHUNK_BYTES);

/** Endless: `next(n)` gives the next `n` bytes of the stream of `seed`. */
export class RandomSource {
  readonly #cipher;

  constructor(seed: number) {
    const key = createHash('sha256').update(`mptun lab ${seed}`).digest().subarray(0, 16);
    this.#cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  }

  next(bytes: number): Buffer {
    return this.#cipher.update(bytes <= CHUNK_BYTES ? ZEROS.subarray(0, bytes) : Buffer.alloc(bytes));
  }
}

/** The first `bytes` of the stream of `seed` (Infinity: endless), as fast as the reader takes them. */
export function randomStream(seed: number, bytes: number): Readable {
  const source = new RandomSource(seed);
  let left = bytes;
  return new Readable({
    highWaterMark: CHUNK_BYTES * 4,
    read() {
      if (left <= 0) {
        this.push(null);
        return;
      }
      const n = Math.min(CHUNK_BYTES, left);
      left -= n;
      this.push(source.next(n));
    },
  });
}

/** Hex SHA-256 of the first `bytes` of the stream of `seed`. */
export function randomSha256(seed: number, bytes: number): string {
  const source = new RandomSource(seed);
  const hash: Hash = createHash('sha256');
  for (let left = bytes; left > 0; left -= CHUNK_BYTES) hash.update(source.next(Math.min(CHUNK_BYTES, left)));
  return hash.digest('hex');
}

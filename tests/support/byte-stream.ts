/** Long byte streams that both ends can make: AES-CTR over zeros, so any shift, loss or repetition changes the hash. */
import { createCipheriv, createHash } from 'node:crypto';

const BLOCK_BYTES = 256 * 1024;

/** Yields `bytes` bytes in blocks, the same for the same seed. */
export function* byteStream(seed: string, bytes: number): Generator<Buffer> {
  const key = createHash('sha256').update(seed).digest();
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  for (let left = bytes; left > 0; left -= BLOCK_BYTES) {
    yield cipher.update(Buffer.alloc(Math.min(left, BLOCK_BYTES)));
  }
}

export function streamHash(seed: string, bytes: number): string {
  const hash = createHash('sha256');
  for (const block of byteStream(seed, bytes)) hash.update(block);
  return hash.digest('hex');
}

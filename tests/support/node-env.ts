/** CoreEnv over node:crypto, and small hex helpers. */
import { createHash, createHmac, randomFillSync } from 'node:crypto';
import type { CoreEnv } from '../../src/core/base/env.js';

export const nodeEnv: CoreEnv = {
  randomBytes: (out) => void randomFillSync(out),
  sha256: (data) => new Uint8Array(createHash('sha256').update(data).digest()),
  hmacSha256: (key, data) => new Uint8Array(createHmac('sha256', key).update(data).digest()),
};

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

export function unhex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'hex'));
}

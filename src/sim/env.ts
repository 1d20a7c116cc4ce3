/** The core's world in a simulation: everything random comes from one seed. */
import type { CoreEnv } from '../core/base/env.js';
import { hmacSha256, sha256 } from './hash.js';
import { Prng } from './prng.js';

export class SeededEnv implements CoreEnv {
  private readonly luck: Prng;

  constructor(seed: number) {
    this.luck = new Prng(seed);
  }

  randomBytes(out: Uint8Array): void {
    this.luck.fill(out);
  }

  sha256(data: Uint8Array): Uint8Array {
    return sha256(data);
  }

  hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array {
    return hmacSha256(key, data);
  }
}

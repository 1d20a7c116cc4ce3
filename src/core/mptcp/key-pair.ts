/** Both ends' keys and what follows from them (RFC 8684 3.1). Never logged. */
import type { CoreEnv } from '../base/env.js';
import type { U64 } from '../base/seq.js';
import { deriveFromKey, keyBytes, keyU64 } from './keys.js';

const UNKNOWN: U64 = { hi: 0, lo: 0 };

export class KeyPair {
  readonly localToken: number;
  readonly idsnLocal: U64;
  readonly localHi: number;
  readonly localLo: number;
  remote: Uint8Array | null = null;
  remoteHi = 0;
  remoteLo = 0;
  remoteToken = 0;
  idsnRemote: U64 = UNKNOWN;
  /** DSS checksums are in use: either side asked (3.1). */
  checksums = false;

  constructor(
    private readonly env: CoreEnv,
    readonly local: Uint8Array,
  ) {
    const { token, idsn } = deriveFromKey(env, local);
    this.localToken = token;
    this.idsnLocal = idsn;
    ({ hi: this.localHi, lo: this.localLo } = keyU64(local));
  }

  setRemote(hi: number, lo: number): void {
    this.remote = keyBytes(hi, lo);
    this.remoteHi = hi;
    this.remoteLo = lo;
    const { token, idsn } = deriveFromKey(this.env, this.remote);
    this.remoteToken = token;
    this.idsnRemote = idsn;
  }
}

/**
 * Both ends' keys and what follows from them (RFC 8684 3.1). Never logged.
 *
 * Token and IDSN always come from the keys of the handshake. What *authenticates* (the HMACs of MP_JOIN and ADD_ADDR,
 * and MP_FASTCLOSE) comes from them too, until both ends have agreed, inside TLS, on keys that were never on the wire
 * (RFC 7430 2): then an eavesdropper who saw the handshake can neither join nor close the connection.
 */
import type { CoreEnv } from '../base/env.js';
import type { U64 } from '../base/seq.js';
import type { ExportedKeys } from '../engine/api.js';
import { deriveFromKey, equalConstantTime, KEY_BYTES, keyBytes, keyU64 } from './keys.js';

const NO_KEY = new Uint8Array(KEY_BYTES);
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
  /** Secrets behind the HMACs (any length) and MP_FASTCLOSE keys (8 bytes), of this end and of the peer. */
  authLocal: Uint8Array;
  authRemote: Uint8Array = NO_KEY;
  private fastcloseLocal: Uint8Array;
  private fastcloseRemote: Uint8Array = NO_KEY;
  /** The secrets above are not the handshake's. */
  isExported = false;
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
    this.authLocal = local;
    this.fastcloseLocal = local;
  }

  setRemote(hi: number, lo: number): void {
    this.remote = keyBytes(hi, lo);
    this.remoteHi = hi;
    this.remoteLo = lo;
    const { token, idsn } = deriveFromKey(this.env, this.remote);
    this.remoteToken = token;
    this.idsnRemote = idsn;
    if (this.isExported) return;
    this.authRemote = this.remote;
    this.fastcloseRemote = this.remote;
  }

  /** Secrets agreed elsewhere replace the handshake's keys for authentication. */
  useExported(keys: ExportedKeys): void {
    this.isExported = true;
    this.authLocal = keys.local;
    this.authRemote = keys.remote;
    this.fastcloseLocal = keys.fastcloseLocal;
    this.fastcloseRemote = keys.fastcloseRemote;
  }

  /** The key that the peer's MP_FASTCLOSE must carry: ours (3.5). Compared in constant time. */
  isFastcloseKey(hi: number, lo: number): boolean {
    return equalConstantTime(keyBytes(hi, lo), this.fastcloseLocal, KEY_BYTES);
  }

  /** The key that our MP_FASTCLOSE carries: the peer's (3.5). */
  get fastcloseKey(): U64 {
    return keyU64(this.fastcloseRemote);
  }
}

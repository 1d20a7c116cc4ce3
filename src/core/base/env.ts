/**
 * What the core needs from the world besides packets and time: luck and hashing, injected so that tests can force
 * keys, nonces and ISNs, and so that the core itself imports nothing.
 */
export interface CoreEnv {
  /** Fills `out` with bytes from a CSPRNG (tests: a seeded generator). */
  randomBytes(out: Uint8Array): void;
  /** SHA-256, 32 bytes. Not on the packet path (handshakes only). */
  sha256(data: Uint8Array): Uint8Array;
  /** HMAC-SHA256, 32 bytes. Not on the packet path (handshakes and ADD_ADDR only). */
  hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array;
}

/** A uniformly random 32-bit unsigned integer. */
export function randomU32(env: CoreEnv): number {
  const b = new Uint8Array(4);
  env.randomBytes(b);
  return ((b[0]! << 24) | (b[1]! << 16) | (b[2]! << 8) | b[3]!) >>> 0;
}

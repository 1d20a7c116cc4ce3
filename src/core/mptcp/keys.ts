/**
 * What MPTCP derives from its keys (RFC 8684 3.1, 3.2, 3.4.1) and the DSS checksum (3.3.1). Hashes come from CoreEnv.
 * Keys are hashed exactly as they stand on the wire. HMAC keys are byte strings of any length: an exporter's output may
 * stand in for the 8 bytes of the handshake.
 */
import type { CoreEnv } from '../base/env.js';
import type { IpAddress } from '../base/ip.js';
import type { U64 } from '../base/seq.js';
import { getU32, putU16, putU32 } from '../base/wire-int.js';
import { finishChecksum, foldSum, sumParts, sumRange } from '../wire/checksum.js';
import { ADD_ADDR_HMAC_BYTES } from '../wire/mptcp-options.js';

export const KEY_BYTES = 8;

/** What both ends compute from one key. */
export interface KeyDerivation {
  /** Most significant 32 bits of SHA-256(key): names the connection in MP_JOIN. */
  readonly token: number;
  /** Least significant 64 bits of the same digest: initial data sequence number of the key's owner. */
  readonly idsn: U64;
}

/** `key` is the 8 bytes in network order. */
export function deriveFromKey(env: CoreEnv, key: Uint8Array): KeyDerivation {
  const digest = env.sha256(key);
  return { token: getU32(digest, 0), idsn: { hi: getU32(digest, 24), lo: getU32(digest, 28) } };
}

/** A fresh key from the injected generator. The caller checks that its token is free (RFC 8684 3.1). */
export function randomKey(env: CoreEnv): Uint8Array {
  const key = new Uint8Array(KEY_BYTES);
  env.randomBytes(key);
  return key;
}

export function keyBytes(hi: number, lo: number): Uint8Array {
  const key = new Uint8Array(KEY_BYTES);
  putU32(key, 0, hi);
  putU32(key, 4, lo);
  return key;
}

export function keyU64(key: Uint8Array): U64 {
  return { hi: getU32(key, 0), lo: getU32(key, 4) };
}

/**
 * The full 32-byte HMAC that the host with `senderKey` and `senderNonce` proves itself with in MP_JOIN (3.2):
 * HMAC(KeySender || KeyReceiver, NonceSender || NonceReceiver). HMAC-A has the initiator as sender and its first 20 bytes
 * go into the third ACK; HMAC-B has the responder as sender and its first 8 go into the SYN/ACK.
 */
export function joinHmac(
  env: CoreEnv,
  senderKey: Uint8Array,
  receiverKey: Uint8Array,
  senderNonce: number,
  receiverNonce: number,
): Uint8Array {
  const message = new Uint8Array(8);
  putU32(message, 0, senderNonce);
  putU32(message, 4, receiverNonce);
  return env.hmacSha256(concatKeys(senderKey, receiverKey), message);
}

/** The 8 bytes that authenticate an ADD_ADDR (3.4.1): the *last* 64 bits. `port` -1 (absent) is hashed as zero. */
export function addAddrHmac(
  env: CoreEnv,
  senderKey: Uint8Array,
  receiverKey: Uint8Array,
  addressId: number,
  address: IpAddress,
  port: number,
): Uint8Array {
  const addressBytes = address.bytes.length;
  const message = new Uint8Array(1 + addressBytes + 2);
  message[0] = addressId;
  message.set(address.bytes, 1);
  putU16(message, 1 + addressBytes, Math.max(port, 0));
  const full = env.hmacSha256(concatKeys(senderKey, receiverKey), message);
  return full.slice(full.length - ADD_ADDR_HMAC_BYTES);
}

/** Compares the first `length` bytes in a time that does not depend on them. Shorter inputs are unequal. */
export function equalConstantTime(a: Uint8Array, b: Uint8Array, length: number): boolean {
  if (a.length < length || b.length < length) return false;
  let difference = 0;
  for (let i = 0; i < length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

/**
 * Sum of the DSS pseudo-header (3.3.1): the full 64-bit DSN whatever its form on the wire, the relative SSN, the
 * data-level length (with DATA_FIN included), zero. Folded, not complemented.
 */
export function dssPseudoSum(dsnHi: number, dsnLo: number, ssn: number, dll: number): number {
  return foldSum(
    (dsnHi >>> 16) +
      (dsnHi & 0xffff) +
      (dsnLo >>> 16) +
      (dsnLo & 0xffff) +
      (ssn >>> 16) +
      (ssn & 0xffff) +
      (dll & 0xffff),
  );
}

/**
 * The DSS checksum field over `payloadBytes` bytes that start `skipBytes` into `parts`. With DATA_FIN and data, `dll` is
 * payloadBytes + 1; with DATA_FIN alone, 1 over no bytes and SSN 0.
 */
export function dssChecksum(
  dsnHi: number,
  dsnLo: number,
  ssn: number,
  dll: number,
  parts: readonly Uint8Array[],
  skipBytes: number,
  payloadBytes: number,
): number {
  return finishChecksum(sumParts(parts, skipBytes, payloadBytes, dssPseudoSum(dsnHi, dsnLo, ssn, dll)));
}

/** The same over one run of bytes. */
export function dssChecksumRange(
  dsnHi: number,
  dsnLo: number,
  ssn: number,
  dll: number,
  buf: Uint8Array,
  offset: number,
  lengthBytes: number,
): number {
  return finishChecksum(sumRange(buf, offset, lengthBytes, dssPseudoSum(dsnHi, dsnLo, ssn, dll)));
}

/**
 * True if a mapping's bytes arrived unchanged: `dataSum` is the sum of its payload (`sumRange`, or a RunningSum that was
 * fed as the segments came in).
 */
export function verifyDssChecksum(
  dsnHi: number,
  dsnLo: number,
  ssn: number,
  dll: number,
  dataSum: number,
  checksum: number,
): boolean {
  return foldSum(dssPseudoSum(dsnHi, dsnLo, ssn, dll) + dataSum + checksum) === 0xffff;
}

function concatKeys(first: Uint8Array, second: Uint8Array): Uint8Array {
  const key = new Uint8Array(first.length + second.length);
  key.set(first, 0);
  key.set(second, first.length);
  return key;
}

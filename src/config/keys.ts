/**
 * Keys and pins. A key is a PEM PKCS#8 file (ECDSA P-256 by default, Ed25519 understood), readable by its owner only.
 * Peers know each other by pin: base64 of SHA-256 over the SubjectPublicKeyInfo, written `sha256/…`. TLS needs a
 * certificate around the key; it is self-signed, made anew at start, and nothing in it but the key is looked at.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  webcrypto,
} from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';

export const PIN_PREFIX = 'sha256/';

/** Why a key file cannot be used, and what to do about it. */
export class KeyError extends Error {
  readonly code = 'MPTUN_KEY';

  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
    this.name = 'KeyError';
  }
}

export type KeyType = 'p256' | 'ed25519';

/** A new private key as PEM PKCS#8 text. */
export function generateKey(type: KeyType = 'p256'): string {
  const { privateKey } =
    type === 'p256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519');
  return privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
}

/** Reads a private key file. Throws KeyError: missing, readable by group or others, not a key, or a kind we do not use. */
export function loadKey(path: string): KeyObject {
  let text: string;
  try {
    const stat = statSync(path);
    if (!stat.isFile()) throw new KeyError(`${path} is not a file`, 'give the path of a key made with: mptun genkey');
    const mode = stat.mode & 0o777;
    if ((mode & 0o077) !== 0) {
      throw new KeyError(
        `key file ${path} is accessible to other users (mode ${mode.toString(8).padStart(4, '0')})`,
        `run: chmod 600 ${path}`,
      );
    }
    text = readFileSync(path, 'utf8');
  } catch (err) {
    if (err instanceof KeyError) throw err;
    const code = (err as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw new KeyError(`key file ${path} does not exist`, `make one with: mptun genkey ${path}`);
    throw new KeyError(`cannot read key file ${path} (${code})`, 'it must be readable by the user that mptun runs as');
  }
  return parseKey(text, path);
}

/** Parses PEM text; `source` is for messages only. */
export function parseKey(text: string, source: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    throw new KeyError(`${source} does not hold a PEM private key`, 'make one with: mptun genkey FILE');
  }
  keyAlgorithm(key, source);
  return key;
}

/** Pin of a private or public key: 44 base64 characters. */
export function pinOf(key: KeyObject): string {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return pinOfSpki(publicKey.export({ format: 'der', type: 'spki' }));
}

/** Pin of a DER SubjectPublicKeyInfo. */
export function pinOfSpki(spki: Uint8Array): string {
  return createHash('sha256').update(spki).digest('base64');
}

/** The base64 form of a pin written with or without `sha256/`, or null when it is not one. */
export function parsePin(text: string): string | null {
  const base64 = text.startsWith(PIN_PREFIX) ? text.slice(PIN_PREFIX.length) : text;
  if (!/^[A-Za-z0-9+/]{43}=$/.test(base64)) return null;
  // The last character of 32 bytes carries two zero bits; anything else would never compare equal.
  return Buffer.from(base64, 'base64').toString('base64') === base64 ? base64 : null;
}

/** A self-signed certificate for `key` as PEM, valid without end: expiry would be an outage, the pin is what counts. */
export async function certificateFor(key: KeyObject): Promise<string> {
  const algorithm = keyAlgorithm(key, 'key');
  // Loaded here: it takes longer than the rest of the program, and only TLS needs it.
  await import('reflect-metadata');
  const { X509CertificateGenerator } = await import('@peculiar/x509');
  const { subtle } = webcrypto;
  const [signingKey, publicKey] = await Promise.all([
    subtle.importKey('pkcs8', key.export({ format: 'der', type: 'pkcs8' }), algorithm, false, ['sign']),
    subtle.importKey('spki', createPublicKey(key).export({ format: 'der', type: 'spki' }), algorithm, true, ['verify']),
  ]);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: '01',
    subject: 'CN=mptun',
    issuer: 'CN=mptun',
    notBefore: new Date('2020-01-01T00:00:00Z'),
    // RFC 5280 4.1.2.5: "no well-defined expiration date".
    notAfter: new Date('9999-12-31T23:59:59Z'),
    signingAlgorithm: algorithm,
    publicKey,
    signingKey,
  });
  return certificate.toString('pem');
}

function keyAlgorithm(key: KeyObject, source: string): { name: string; namedCurve?: string; hash?: string } {
  if (key.asymmetricKeyType === 'ed25519') return { name: 'Ed25519' };
  if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') {
    return { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  }
  throw new KeyError(
    `${source} is a key of kind ${key.asymmetricKeyType}, which mptun does not use`,
    'make one with: mptun genkey FILE',
  );
}

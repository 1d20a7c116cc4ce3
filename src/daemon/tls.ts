/**
 * TLS 1.3 with both ends pinned (DESIGN 3.3; native/tls.ts for what it is made of). A certificate is only the envelope of a key: what is compared is SHA-256
 * over the SubjectPublicKeyInfo (RFC 7469 §2.4). A session may be resumed (RFC 8446 §2.2, with a key exchange of its own),
 * which spares both ends the signatures: a flow's connection costs half as much. It brings the certificates of the first
 * handshake along, and their pins are checked as in a full one, so a client taken out of the configuration is out at once.
 */

import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import * as tls from 'node:tls';
import { certificateFor, loadKey, pinOf, pinOfSpki } from '../config/keys.js';
import type { ExportedKeys } from '../core/engine/api.js';
import { TlsContext } from '../native/index.js';
import type { ConnectionDuplex } from './duplex.js';

const ALPN = 'http/1.1';
/** Kept for one server. */
const MAX_TICKETS = 64;
/** A session can be resumed for so long. */
const SESSION_S = 3_600;

/** Our key as TLS wants it. */
export interface TlsIdentity {
  readonly keyPem: string;
  readonly certificatePem: string;
  /** Base64 of SHA-256 over our own SPKI. */
  readonly pin: string;
}

/** The peer is not who it should be, or says that we are not. `code` is stable. */
export class AuthenticationError extends Error {
  override readonly name = 'AuthenticationError';

  constructor(
    readonly code: 'server-pin' | 'no-client-certificate' | 'unknown-client' | 'refused-by-peer',
    message: string,
  ) {
    super(message);
  }
}

/** Reads the key file and wraps the key into a certificate. Throws KeyError. */
export async function loadIdentity(keyFile: string): Promise<TlsIdentity> {
  return identityFor(loadKey(keyFile));
}

export async function identityFor(key: KeyObject): Promise<TlsIdentity> {
  return {
    keyPem: key.export({ format: 'pem', type: 'pkcs8' }).toString(),
    certificatePem: await certificateFor(key),
    pin: pinOf(createPublicKey(key)),
  };
}

/**
 * Sessions to resume with one server; used once each (RFC 8446 C.4), but for the last one. They come from connections whose
 * pin was right: who can resume them is the server that proved its key then.
 */
export class TlsSessions {
  private readonly tickets: Buffer[] = [];

  get size(): number {
    return this.tickets.length;
  }

  add(ticket: Buffer): void {
    if (this.tickets.length >= MAX_TICKETS) this.tickets.shift();
    this.tickets.push(ticket);
  }

  take(): Buffer | undefined {
    return this.tickets.length > 1 ? this.tickets.pop() : this.tickets[0];
  }

  /** The server may not know them any more, or not take them. */
  clear(): void {
    this.tickets.length = 0;
  }
}

/** A connection of ours with TLS on it. */
export type SecureStream = ConnectionDuplex;

/** Starts TLS as client on `stream`, resuming one of `sessions`. 'secure' follows; then call `checkServerPin`. */
export function startTlsClient(stream: ConnectionDuplex, identity: TlsIdentity, sessions?: TlsSessions): SecureStream {
  stream.startTls(contextOf(identity, 'client'), sessions?.take());
  return stream;
}

/** Starts TLS as server on `stream`. 'secure' follows; then look at `peerPin`. */
export function startTlsServer(stream: ConnectionDuplex, identity: TlsIdentity): SecureStream {
  stream.startTls(contextOf(identity, 'server'));
  return stream;
}

/** The same as client on a socket of the kernel. 'secureConnect' follows; then call `checkServerPin`. */
export function startTlsOnSocket(socket: Socket, identity: TlsIdentity): tls.TLSSocket {
  let secureContext = socketContexts.get(identity);
  if (secureContext === undefined) {
    const { keyPem: key, certificatePem: cert } = identity;
    secureContext = tls.createSecureContext({ key, cert, minVersion: 'TLSv1.3' });
    socketContexts.set(identity, secureContext);
  }
  return tls.connect({
    socket,
    secureContext,
    ALPNProtocols: [ALPN],
    // The pin is what counts; names and issuers of a self-signed envelope say nothing.
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
}

/** Pin of the key that the peer has proved to hold (RFC 8446 §4.4.3), or null if it showed none. */
export function peerPin(stream: SecureStream | tls.TLSSocket): string | null {
  const spki =
    stream instanceof tls.TLSSocket
      ? stream.getPeerX509Certificate()?.publicKey.export({ format: 'der', type: 'spki' })
      : stream.secured?.peerKey();
  return spki === undefined || spki === null ? null : pinOfSpki(spki);
}

/**
 * Throws AuthenticationError unless the server holds the pinned key and speaks our protocol. A proxy that is not ours need not
 * name its protocol (RFC 7301 3.2: without the extension, it is what the port is for). `sessions` of `startTlsClient`.
 */
export function checkServerPin(
  stream: SecureStream | tls.TLSSocket,
  expectedPin: string,
  alpn: 'needed' | 'optional' = 'needed',
  sessions?: TlsSessions,
): void {
  const isSocket = stream instanceof tls.TLSSocket;
  // A client's session does not remember the server's certificate, but only one that was checked gets into `sessions`.
  const isKnown = sessions !== undefined && !isSocket && stream.secured?.isResumed === true;
  const pin = isKnown ? expectedPin : peerPin(stream);
  if (pin !== expectedPin) {
    throw new AuthenticationError(
      'server-pin',
      `the server's key is sha256/${pin ?? '(none)'}, but the configuration pins sha256/${expectedPin}`,
    );
  }
  const protocol = (isSocket ? stream.alpnProtocol : stream.secured?.alpn) || null;
  if (protocol !== ALPN && (alpn === 'needed' || protocol !== null)) {
    throw new AuthenticationError('server-pin', `the server does not speak ${ALPN} (ALPN)`);
  }
  if (sessions !== undefined) stream.on('session', (ticket: Buffer) => sessions.add(ticket));
}

/** Made once: parsing key and certificate takes longer than a handshake's own arithmetic. */
const socketContexts = new WeakMap<TlsIdentity, tls.SecureContext>();
const contexts = { client: new WeakMap<TlsIdentity, TlsContext>(), server: new WeakMap<TlsIdentity, TlsContext>() };

function contextOf(identity: TlsIdentity, side: 'client' | 'server'): TlsContext {
  let context = contexts[side].get(identity);
  if (context === undefined) {
    context = new TlsContext({
      side,
      key: createPrivateKey(identity.keyPem).export({ format: 'der', type: 'pkcs8' }),
      certificate: new X509Certificate(identity.certificatePem).raw,
      alpn: ALPN,
      // What OpenSSL wants to know of a server that asks for certificates before it resumes a session.
      sessionId: 'mptun',
      sessionS: SESSION_S,
    });
    contexts[side].set(identity, context);
  }
  return context;
}

/** Label of the exporter (RFC 5705 4: private use begins with EXPORTER and is not registered). */
const EXPORTER_LABEL = 'EXPORTER-mptun-join-keys';
const HMAC_KEY_BYTES = 32;
const FASTCLOSE_KEY_BYTES = 8;

/**
 * Keys for MP_JOIN, ADD_ADDR and MP_FASTCLOSE that were never on the wire (RFC 7430 2, RFC 5705, RFC 8446 7.5): HMAC key
 * of the client, of the server, then the MP_FASTCLOSE keys in the same order. Call it after the handshake.
 */
export function exportJoinKeys(stream: SecureStream, side: 'client' | 'server'): ExportedKeys {
  if (stream.secured === null) throw new TypeError('no TLS');
  const out = stream.secured.exportKey(EXPORTER_LABEL, 2 * (HMAC_KEY_BYTES + FASTCLOSE_KEY_BYTES));
  let o = 0;
  const next = (bytes: number) => Uint8Array.from(out.subarray(o, (o += bytes)));
  const clientKey = next(HMAC_KEY_BYTES);
  const serverKey = next(HMAC_KEY_BYTES);
  const clientFastclose = next(FASTCLOSE_KEY_BYTES);
  const serverFastclose = next(FASTCLOSE_KEY_BYTES);
  return side === 'client'
    ? { local: clientKey, remote: serverKey, fastcloseLocal: clientFastclose, fastcloseRemote: serverFastclose }
    : { local: serverKey, remote: clientKey, fastcloseLocal: serverFastclose, fastcloseRemote: clientFastclose };
}

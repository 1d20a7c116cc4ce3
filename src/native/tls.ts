/**
 * One end of a TLS 1.3 connection (RFC 8446), sans-I/O: ciphertext in, plaintext out, and back. It is the OpenSSL that
 * Node carries; Node's own binding to it works between streams, three of them for a connection of ours, each with a copy and
 * a few buffers for every record (measured: docs/decisions/0011-tls.md). Certificates are not judged here: ask `peerKey`.
 */
import { addon, type TlsContextHandle, type TlsHandle } from './addon.js';

/** As tlsDecrypt returns them. */
const SECURE = 1;
const ENDED = 2;
const FAILED = 4;
const OUTPUT = 8;
const SESSION = 16;
const PARTIAL = 32;

/** A record's payload at most, and what a record adds to it: header, content type, tag (RFC 8446 5.1, 5.2). */
const RECORD_BYTES = 16_384;
const RECORD_OVERHEAD_BYTES = 22;
/** An answer to the peer's key update (RFC 8446 4.6.3) goes in front of what is written next. */
const KEY_UPDATE_BYTES = 5 + RECORD_OVERHEAD_BYTES;
/** As much as this is decrypted here and then copied: room made for it would mostly be too large. */
const SCRATCH_BYTES = 2 * RECORD_BYTES;
const scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
const result = new Int32Array(2);

export interface TlsContextOptions {
  readonly side: 'client' | 'server';
  /** PKCS #8, DER. */
  readonly key: Uint8Array;
  /** X.509, DER. */
  readonly certificate: Uint8Array;
  /** The one protocol that is offered, or taken where the client offers any (RFC 7301). */
  readonly alpn: string;
  /** A server resumes what it knows under the same name, for so long. */
  readonly sessionId: string;
  readonly sessionS: number;
}

/** Made once for a key: parsing it takes longer than a handshake's own arithmetic. Throws what OpenSSL says. */
export class TlsContext {
  readonly handle: TlsContextHandle;

  constructor({ side, key, certificate, alpn, sessionId, sessionS }: TlsContextOptions) {
    this.handle = addon.tlsContext(side === 'server' ? 1 : 0, key, certificate, alpn, sessionId, sessionS);
  }
}

/** Called from within `start`, `decrypt` and `end`; each may close the end. */
export interface TlsEvents {
  /** The handshake is done: what the peer is can be asked for, and bytes can be encrypted. Before any plaintext. */
  onSecure(): void;
  /** The callee's own from now on. */
  onPlain(bytes: Buffer): void;
  /** To be sent, the callee's own: a handshake's, an alert, an answer. */
  onCipher(bytes: Buffer): void;
  /** A client's: it can be resumed once. */
  onSession(session: Buffer): void;
  /** The peer has said that it says no more (close_notify). */
  onEnd(): void;
  /** The peer, or somebody between, broke the rules, or refuses us. The alert went to `onCipher`. */
  onFailed(error: Error): void;
}

export class TlsEnd {
  private readonly handle: TlsHandle;
  private isSecure = false;
  /** The peer has ended, or failed. */
  private isOver = false;
  private hasFailed = false;
  private isClosed = false;
  /** Of a record that is not complete: at most so many bytes of plaintext come with it. */
  private keptBytes = 0;

  constructor(
    /** Kept while the handshake may look at it. */
    readonly context: TlsContext,
    private readonly events: TlsEvents,
    session: Uint8Array | null = null,
  ) {
    this.handle = addon.tlsOpen(context.handle, session);
  }

  /** A client's first flight. */
  start(): void {
    this.sendOutput();
  }

  get canEncrypt(): boolean {
    return this.isSecure && !this.isClosed;
  }

  /** Takes ciphertext, lent until it returns; what comes behind the end is nobody's. */
  decrypt(cipher: Uint8Array, offset: number, lengthBytes: number): void {
    let taken = 0;
    // Once more behind the handshake: whoever waits for it gets its word in first.
    while (taken < lengthBytes && !this.isClosed && !this.isOver) {
      const given = lengthBytes - taken;
      const neededBytes = given + this.keptBytes;
      const room = neededBytes <= SCRATCH_BYTES ? scratch : Buffer.allocUnsafeSlow(neededBytes);
      const flags = addon.tlsDecrypt(this.handle, cipher, offset + taken, given, room, 0, room.length, result);
      const plainBytes = result[0]!;
      taken += result[1]!;
      this.keptBytes = (flags & PARTIAL) === 0 ? 0 : Math.min(neededBytes - plainBytes, RECORD_BYTES);
      this.tell(flags, room, plainBytes);
    }
  }

  /**
   * One or more records, in an array of their own. Only when `canEncrypt`. Empty if OpenSSL won't: it is over, or the peer keeps
   * it waiting in the middle of a message of its own; `onFailed` has been told.
   */
  encrypt(plain: Uint8Array): Buffer {
    const records = Math.ceil(plain.length / RECORD_BYTES);
    const room = Buffer.allocUnsafeSlow(plain.length + records * RECORD_OVERHEAD_BYTES + KEY_UPDATE_BYTES);
    const length = addon.tlsEncrypt(this.handle, plain, 0, plain.length, room, 0, room.length);
    if (length < 0) {
      this.fail();
      return room.subarray(0, 0);
    }
    return room.subarray(0, length);
  }

  /** Says close_notify; the other direction goes on. */
  end(): void {
    if (this.isClosed) return;
    addon.tlsEnd(this.handle);
    this.sendOutput();
  }

  /** Frees what OpenSSL holds. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    addon.tlsClose(this.handle);
  }

  /** SubjectPublicKeyInfo (DER) of the key that the peer has proved to hold; null: it showed none. */
  peerKey(): Buffer | null {
    return this.isClosed ? null : addon.tlsPeerKey(this.handle);
  }

  get alpn(): string | null {
    return this.isClosed ? null : addon.tlsAlpn(this.handle);
  }

  get isResumed(): boolean {
    return !this.isClosed && addon.tlsIsResumed(this.handle) === 1;
  }

  /** RFC 8446 7.5, without a context value. Throws before the handshake is done, and when the end is closed. */
  exportKey(label: string, lengthBytes: number): Buffer {
    const room = Buffer.alloc(lengthBytes);
    if (this.isClosed || !addon.tlsExport(this.handle, label, room)) throw new Error('TLS is not established');
    return room;
  }

  /** What a call of tlsDecrypt brought, in its order. */
  private tell(flags: number, room: Buffer, plainBytes: number): void {
    const { events } = this;
    // Our last flight goes before whatever the listeners say; an alert before they end it.
    if ((flags & OUTPUT) !== 0) this.sendOutput();
    if ((flags & SECURE) !== 0 && !this.isSecure) {
      this.isSecure = true;
      events.onSecure();
    }
    if (plainBytes > 0 && !this.isClosed) {
      events.onPlain(room === scratch ? copyOf(room, plainBytes) : room.subarray(0, plainBytes));
    }
    if ((flags & SESSION) !== 0) this.tellSessions();
    if ((flags & (ENDED | FAILED)) === 0 || this.isClosed) return;
    if ((flags & ENDED) === 0) this.fail();
    else {
      this.isOver = true;
      events.onEnd();
    }
  }

  /** Told once. */
  private fail(): void {
    if (this.hasFailed || this.isClosed) return;
    this.isOver = true;
    this.hasFailed = true;
    this.events.onFailed(new Error(addon.tlsError(this.handle)));
  }

  private tellSessions(): void {
    while (!this.isClosed) {
      const session = addon.tlsSession(this.handle);
      if (session === null) return;
      this.events.onSession(session);
    }
  }

  private sendOutput(): void {
    const bytes = this.isClosed ? null : addon.tlsTake(this.handle);
    if (bytes !== null) this.events.onCipher(bytes);
  }
}

/** Not from Node's pool: a slice that waits would pin 8 KB for a few bytes. */
function copyOf(bytes: Buffer, lengthBytes: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(lengthBytes);
  bytes.copy(copy, 0, 0, lengthBytes);
  return copy;
}

/**
 * Connections from their acceptance to their first request: TLS, who it is, and what is wanted: a place in a session, or a
 * flow (CONNECT). Only pinned keys get any further, and strangers and friends alike are few at a time.
 */
import type { IpAddress } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi } from '../core/engine/api.js';
import type { ConnectionDuplex } from './duplex.js';
import { isConnect, notAllowedHead } from './flows/connect-protocol.js';
import type { RelayServer } from './flows/relay-server.js';
import { HeadReader } from './http-head.js';
import { AuthenticationError, peerPin, type SecureStream, startTlsServer, type TlsIdentity } from './tls.js';
import { parseRequest, refusalHead, type UpgradeRequest } from './upgrade.js';

const HANDSHAKE_TIMEOUT_MS = 8_000;
/** Connections that have not shown a known key yet; more are refused, so that strangers cannot fill the memory. */
const MAX_HANDSHAKES = 128;
/** A client that has shown its key may keep connections in store for flows to come (relay-pool.ts): so long, so many. */
const REQUEST_TIMEOUT_MS = 1_200_000;
const MAX_WAITING = 320;
/** Bytes of a relayed flow that may be unsent before its destination is held back. */
const RELAY_UNSENT_BYTES = 128 * 1024;
/** How long a refusal may take to be delivered. */
const REFUSAL_MS = 3_000;

/** A client as configured. */
export interface KnownClient {
  readonly name: string;
  readonly pin: string;
  readonly addresses: readonly IpAddress[];
}

/** A client wants a connection of its to be one of a session. */
export interface ClientRequest {
  readonly client: KnownClient;
  readonly request: UpgradeRequest;
  readonly connection: ConnectionApi;
  readonly stream: SecureStream;
  /** What came behind the request. */
  readonly rest: Uint8Array;
}

export interface ServerHandshakesOptions {
  readonly identity: TlsIdentity;
  /** Carries out CONNECT requests. */
  readonly relay: Pick<RelayServer, 'carry' | 'countMalformed'>;
  readonly now: () => Micros;
  clientOf(pin: string): KnownClient | undefined;
  openStream(connection: ConnectionApi): ConnectionDuplex;
  onRequest(request: ClientRequest): void;
  onRefused(connection: ConnectionApi, why: string): void;
}

export class ServerHandshakes {
  /** Connections that have not shown a known key yet. */
  private strangers = 0;
  /** Each ends a connection that has made no request yet. */
  private readonly unfinished = new Set<() => boolean>();
  /** Connections without a request yet, by client. */
  private readonly waiting = new Map<KnownClient, number>();

  constructor(private readonly options: ServerHandshakesOptions) {}

  /** A connection that the engine accepted. */
  accept(connection: ConnectionApi): void {
    const { options } = this;
    const stream = options.openStream(connection);
    if (this.strangers >= MAX_HANDSHAKES) {
      stream.on('error', ignore).destroy();
      connection.abort(options.now());
      options.onRefused(connection, `more than ${MAX_HANDSHAKES} handshakes at once`);
      return;
    }
    startTlsServer(stream, options.identity);
    const reader = new HeadReader();
    // Who it waits for: a stranger, or a client that may take its time.
    let holder: KnownClient | null = null;
    this.strangers++;
    let isOver = false;
    const release = () => {
      clearTimeout(timer);
      if (holder === null) this.strangers--;
      else if (this.waiting.get(holder) === 1) this.waiting.delete(holder);
      else this.waiting.set(holder, this.waiting.get(holder)! - 1);
    };
    const end = () => {
      if (isOver) return false;
      isOver = true;
      this.unfinished.delete(drop);
      release();
      stream.off('data', onData).off('close', onClose).off('error', onError).off('secure', onSecure);
      stream.on('error', ignore);
      return true;
    };
    const drop = () => {
      if (!end()) return false;
      stream.destroy();
      if (connection.state !== 'closed') connection.abort(options.now());
      return true;
    };
    const abandon = (why: string) => {
      if (drop()) options.onRefused(connection, why);
    };
    this.unfinished.add(drop);
    let timer = setTimeout(() => abandon('no request in time'), HANDSHAKE_TIMEOUT_MS);
    const onSecure = () => {
      const client = options.clientOf(peerPin(stream) ?? '');
      if (client === undefined) return; // told so when it asks for something
      const waiting = this.waiting.get(client) ?? 0;
      if (waiting >= MAX_WAITING) {
        abandon(`more than ${MAX_WAITING} connections of ${client.name} without a request`);
        return;
      }
      release();
      holder = client;
      this.waiting.set(client, waiting + 1);
      timer = setTimeout(() => abandon('no request in time'), REQUEST_TIMEOUT_MS);
    };
    const onError = (error: Error) => abandon(`TLS: ${error.message}`);
    const onClose = () => {
      // Connections in store come and go; that is nothing to tell of.
      if (holder === null) abandon('closed during the handshake');
      else if (end() && connection.state !== 'closed') connection.abort(options.now());
    };
    const onData = (chunk: Buffer) => {
      try {
        if (!reader.push(chunk)) return;
        const head = reader.head!;
        // First who, then what: a stranger learns nothing about what would have been a right request.
        const client = head.fields.has('mptun-reason') ? null : this.identify(stream);
        if (client !== null && isConnect(head)) {
          end();
          stream.pause();
          stream.limitUnsent(RELAY_UNSENT_BYTES);
          options.relay.carry({ client, head, connection, stream, rest: reader.rest });
          return;
        }
        const request = parseRequest(head);
        end();
        options.onRequest({ client: client!, request, connection, stream, rest: reader.rest });
      } catch (error) {
        if (!end()) return;
        options.onRefused(connection, (error as Error).message);
        if (holder !== null && !(error instanceof AuthenticationError)) options.relay.countMalformed();
        const isOther = holder !== null && reader.head !== null && !reader.head.startLine.startsWith('GET /');
        stream.on('data', ignore);
        stream.end(isOther ? notAllowedHead() : refusalHead(error as Error));
        setTimeout(() => {
          stream.destroy();
          if (connection.state !== 'closed') connection.abort(options.now());
        }, REFUSAL_MS).unref();
      }
    };
    stream.on('error', onError).on('close', onClose).on('secure', onSecure).on('data', onData);
  }

  close(): void {
    for (const drop of [...this.unfinished]) drop();
  }

  private identify(stream: SecureStream): KnownClient {
    const pin = peerPin(stream);
    if (pin === null) throw new AuthenticationError('no-client-certificate', 'the client showed no certificate');
    const client = this.options.clientOf(pin);
    if (client === undefined) {
      throw new AuthenticationError('unknown-client', `key sha256/${pin} is not in the server's list of clients`);
    }
    return client;
  }
}

function ignore(): void {}

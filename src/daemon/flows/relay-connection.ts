/**
 * A connection to the relay on the client's side: opened, through TLS with the pin checked, and then, for one flow, the
 * CONNECT. The request is one segment and the answer one round trip; nothing else is waited for.
 */
import type { Micros } from '../../core/base/time.js';
import type { ConnectionApi } from '../../core/engine/api.js';
import type { ConnectionDuplex } from '../duplex.js';
import { HeadReader } from '../http-head.js';
import type { Way } from '../path-members.js';
import {
  checkServerPin,
  exportJoinKeys,
  type SecureStream,
  startTlsClient,
  type TlsIdentity,
  type TlsSessions,
} from '../tls.js';
import { connectHead, parseConnectAnswer } from './connect-protocol.js';
import { DialError, type FlowTarget } from './contract.js';
import type { Warm } from './relay-pool.js';

/** From the first SYN to the end of the TLS handshake. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** The relay's TCP acknowledges a request within a round trip; one that is not after this many is lost, or its path is. */
const UNHEARD_RTTS = 4;
const UNHEARD_MIN_MS = 1_000;

/** What carries the relay's connections. */
export interface RelayCarrier {
  nowUs(): Micros;
  /** A connection to the relay over the best way; null: nowhere now. */
  connect(): Promise<{ readonly way: Way; readonly api: ConnectionApi } | null>;
  openStream(connection: ConnectionApi): ConnectionDuplex;
  /** False: a connection opened over this way now would take a better one. */
  isChosen(way: Way): boolean;
}

/** The relay did not get the request, or not this way: it may be asked over another connection. */
export class UnheardError extends Error {
  override readonly name = 'UnheardError';
}

export class RelayConnection implements Warm {
  onGone: () => void = () => {};
  private isGone = false;

  private constructor(
    readonly way: Way,
    readonly connection: ConnectionApi,
    readonly stream: SecureStream,
    private readonly carrier: RelayCarrier,
  ) {
    stream.on('close', () => {
      if (this.isGone) return;
      this.isGone = true;
      this.onGone();
    });
    stream.on('end', this.onIdleEnd);
  }

  /** Resolves when TLS is done and the pin is right. Throws AuthenticationError, or why it failed; null: no way. */
  static async open(
    carrier: RelayCarrier,
    identity: TlsIdentity,
    pin: string,
    sessions: TlsSessions,
    signal: AbortSignal,
  ): Promise<RelayConnection | null> {
    const dialed = await carrier.connect();
    if (dialed === null) return null;
    const { api, way } = dialed;
    const stream = carrier.openStream(api);
    startTlsClient(stream, identity, sessions);
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        stream.off('error', note).on('error', ignore).off('close', onClose).off('secure', onSecure);
      };
      const fail = (error: Error) => {
        end();
        // Should a session be what was wrong, the next attempt does without.
        sessions.clear();
        stream.destroy();
        if (api.state !== 'closed') api.abort(carrier.nowUs());
        reject(error);
      };
      let why: Error | null = null;
      const note = (error: Error) => {
        why ??= error;
      };
      const onClose = () => fail(why ?? new Error('the relay closed the connection during the handshake'));
      const onAbort = () => fail(new Error('given up'));
      const onSecure = () => {
        try {
          checkServerPin(stream, pin, 'optional', sessions);
        } catch (error) {
          fail(error as Error);
          return;
        }
        end();
        resolve(new RelayConnection(way, api, stream, carrier));
      };
      const timer = setTimeout(() => fail(new Error('the relay does not answer in time')), HANDSHAKE_TIMEOUT_MS);
      stream.on('error', note).on('close', onClose).on('secure', onSecure);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
    });
  }

  /** A relay that waits for requests no longer. */
  private readonly onIdleEnd = (): void => this.close();

  get linkId(): number {
    return this.way.linkId;
  }

  get isUsable(): boolean {
    if (this.isGone || this.connection.state !== 'established') return false;
    return this.carrier.isChosen(this.way) && !this.connection.info().subflows.every(isStalled);
  }

  /** Ends it at once. */
  close(): void {
    if (this.connection.state !== 'closed') this.connection.abort(this.carrier.nowUs());
    this.stream.destroy();
  }

  /**
   * Asks for a destination; resolves when the relay has reached it, and `stream` then carries the flow's bytes, paused. Throws
   * DialError as the relay answers, UnheardError where it was not heard (`isLast`: only if the connection is lost). In either case, and if `signal` is aborted, this
   * connection is closed.
   */
  request(target: FlowTarget, signal: AbortSignal, isLast: boolean): Promise<void> {
    const { stream, connection } = this;
    const reader = new HeadReader();
    stream.off('end', this.onIdleEnd);
    return new Promise((resolve, reject) => {
      const end = () => {
        isOver = true;
        clearTimeout(unheard);
        signal.removeEventListener('abort', onAbort);
        stream.off('data', onData).off('close', onClose).off('end', onClose);
      };
      const fail = (error: Error) => {
        end();
        this.close();
        reject(error);
      };
      const onAbort = () => fail(new DialError('unavailable', 'given up'));
      const onClose = () => fail(new UnheardError('the relay closed the connection'));
      const onData = (chunk: Buffer) => {
        try {
          if (!reader.push(chunk)) return;
          const { exportsKeys } = parseConnectAnswer(reader.head!, target.host.includes(':'));
          // The relay uses them already; nothing is joined before this.
          if (exportsKeys) connection.useExportedKeys(this.carrier.nowUs(), exportJoinKeys(stream, 'client'));
          stream.mustHearEnd = exportsKeys; // the relay is one of ours
        } catch (error) {
          fail(error instanceof DialError ? error : new DialError('unavailable', (error as Error).message));
          return;
        }
        end();
        stream.pause();
        if (reader.rest.length > 0) stream.unshift(reader.rest);
        resolve();
      };
      let isOver = false;
      const look = () => {
        if (!isOver && connection.unackedBytes + connection.unsentBytes > 0)
          fail(new UnheardError('the relay was not heard of'));
      };
      const patienceMs = Math.max(UNHEARD_MIN_MS, (UNHEARD_RTTS * rttUs(connection)) / 1000);
      // What came while this process had no time to look is looked at first.
      const unheard = isLast ? undefined : setTimeout(() => setImmediate(look), patienceMs);
      stream.on('data', onData).on('close', onClose).on('end', onClose);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      else if (this.isGone) onClose();
      else stream.write(connectHead(target));
    });
  }
}

function ignore(): void {}

function isStalled(subflow: { readonly isStalled: boolean }): boolean {
  return subflow.isStalled;
}

function rttUs(connection: ConnectionApi): Micros {
  return connection.info().subflows[0]?.srttUs ?? 0;
}

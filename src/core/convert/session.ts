/**
 * One proxied connection at the converter (RFC 8803 4.2, 4.3, 5.1): what the client says, the dial, the answer, and then the
 * bytes, ends and resets of both connections, joined. Sans-I/O: connections are given as legs, of the engine or around a
 * kernel's socket; the host dials, tells what became of it, and calls `sweep` now and then.
 *
 *   reading ─message→ dialling ─SYN/ACK→ joined ─both ends→ over      reading, dialling ─no→ answering ─→ over
 */
import type { IpAddress } from '../base/ip.js';
import { type Micros, NEVER, US_PER_S } from '../base/time.js';
import type { ByteReader } from '../engine/api.js';
import {
  ConverterExchange,
  type ConverterPolicy,
  type ConverterReason,
  type ConverterStep,
  type DownstreamFailure,
  type ErrorLimit,
} from './converter.js';
import { KIND_FAST_OPEN, NO_BYTES, type TcpOption } from './message.js';

/** A client says what it wants within this time. */
export const MESSAGE_TIMEOUT_US: Micros = 10 * US_PER_S;
/** A server answers within this time. */
export const DIAL_TIMEOUT_US: Micros = 30 * US_PER_S;
/** A client that is answered with an error resets the connection (6.2.8); one that does not is reset after this. */
export const ANSWER_LINGER_US: Micros = 5 * US_PER_S;
/** Bytes that may be unsent on one leg before the other is not read any more, and when it is again. */
const UNSENT_MAX_BYTES = 256 * 1024;
const UNSENT_LOW_BYTES = 64 * 1024;

/** Half of a ConnectionApi: what joining two of them takes. */
export interface Leg {
  write(nowUs: Micros, bytes: Uint8Array): void;
  readonly unsentBytes: number;
  setSendSpace(lowWaterBytes: number, onSpace: () => void): void;
  setReader(reader: ByteReader): void;
  resume(nowUs: Micros): void;
  end(nowUs: Micros): void;
  abort(nowUs: Micros): void;
}

export interface Upstream extends Leg {
  answerSyn(nowUs: Micros): void;
}

export interface DownstreamRequest {
  readonly address: IpAddress;
  readonly port: number;
  /** Wanted in the SYN; null: as the host likes. */
  readonly options: readonly TcpOption[] | null;
  /** For the SYN, together with the Fast Open cookie in `options`; else empty. */
  readonly synData: Uint8Array;
}

export interface SessionHost {
  readonly policy: ConverterPolicy;
  readonly errors: ErrorLimit;
  nowUs(): Micros;
  /** Something is to be sent. */
  flushSoon(): void;
  /**
   * Dials; `onConnected` or `onFailed` of the session is called later, never from within. The answer ends the attempt; null:
   * there is nothing to dial with.
   */
  dial(request: DownstreamRequest, session: ConverterSession): { abort(): void } | null;
  /** One for each session, when it is clear what became of its message. */
  onStep(session: ConverterSession, reason: ConverterReason | 'dial' | 'connected'): void;
  onOver(session: ConverterSession): void;
}

export type SessionState = 'reading' | 'dialling' | 'joined' | 'answering' | 'over';

export class ConverterSession {
  state: SessionState = 'reading';
  /** Where to; null before it is known. */
  target: { readonly address: IpAddress; readonly port: number } | null = null;
  bytesUp = 0;
  bytesDown = 0;
  private readonly exchange: ConverterExchange;
  private attempt: { abort(): void } | null = null;
  private downstream: Leg | null = null;
  private deadlineUs: Micros;
  private hasUpstreamEnded = false;
  private hasDownstreamEnded = false;

  constructor(
    readonly client: IpAddress,
    private readonly upstream: Upstream,
    private readonly host: SessionHost,
  ) {
    this.exchange = new ConverterExchange(host.policy, host.errors, client);
    this.deadlineUs = host.nowUs() + MESSAGE_TIMEOUT_US;
  }

  /** Begins to read; may be over when this returns. */
  start(): void {
    this.upstream.setReader({
      onBytes: (buf, offset, lengthBytes) => this.onMessageBytes(buf, offset, lengthBytes),
      onEnd: () => {
        this.hasUpstreamEnded = true;
        this.exchange.onEnd();
        this.doStep();
      },
    });
  }

  // ---- The message ---------------------------------------------------------------------------------------------

  private onMessageBytes(buf: Uint8Array, offset: number, lengthBytes: number): number {
    // What follows the message waits in the connection until there is somebody to give it to.
    if (this.state !== 'reading') return this.state === 'dialling' ? 0 : lengthBytes;
    const { exchange } = this;
    const taken = exchange.onBytes(this.host.nowUs(), buf, offset, lengthBytes);
    const isForSyn = exchange.step?.do === 'dial' && exchange.step.options?.some(isFastOpen) === true;
    this.doStep(isForSyn ? buf.slice(offset + taken, offset + lengthBytes) : NO_BYTES);
    return isForSyn || this.isDraining ? lengthBytes : taken;
  }

  /** What the client says now is for nobody. */
  private get isDraining(): boolean {
    return this.state === 'answering' || this.state === 'over';
  }

  private doStep(synData: Uint8Array = NO_BYTES): void {
    const { step } = this.exchange;
    if (this.state !== 'reading' || step === null) return;
    if (step.do !== 'dial') {
      this.conclude(step);
      return;
    }
    this.state = 'dialling';
    this.host.onStep(this, 'dial');
    this.target = { address: step.address, port: step.port };
    this.deadlineUs = this.host.nowUs() + DIAL_TIMEOUT_US;
    this.bytesUp += synData.length;
    this.attempt = this.host.dial({ ...this.target, options: step.options, synData }, this);
    if (this.attempt === null) this.refuse({ is: 'network' });
  }

  /** Everything but a dial. */
  private conclude(step: Exclude<ConverterStep, { do: 'dial' }>): void {
    const nowUs = this.host.nowUs();
    this.host.onStep(this, step.reason);
    if (step.do === 'reset') {
      this.finish();
      this.upstream.abort(nowUs);
      return;
    }
    this.state = 'answering';
    this.deadlineUs = nowUs + ANSWER_LINGER_US;
    this.upstream.answerSyn(nowUs);
    // The error and the end, in good order: a RST could overtake the error (6.2.2).
    if (step.do === 'answer') this.upstream.write(nowUs, step.bytes);
    this.upstream.end(nowUs);
    this.host.flushSoon();
  }

  // ---- The server ----------------------------------------------------------------------------------------------

  /** The server has accepted; `serverOptions` of its SYN/ACK, null: not known. */
  onConnected(downstream: Leg, serverOptions: Uint8Array | null): void {
    const { upstream, host } = this;
    if (this.state !== 'dialling') {
      downstream.abort(host.nowUs());
      return;
    }
    this.attempt = null;
    this.downstream = downstream;
    const nowUs = host.nowUs();
    this.state = 'joined';
    this.deadlineUs = NEVER;
    host.onStep(this, 'connected');
    upstream.write(nowUs, this.exchange.connected(serverOptions));
    upstream.answerSyn(nowUs);
    this.join(downstream, upstream, 'down');
    if (this.hasUpstreamEnded) downstream.end(nowUs);
    else this.join(upstream, downstream, 'up');
    host.flushSoon();
  }

  onFailed(failure: DownstreamFailure): void {
    if (this.state !== 'dialling') return;
    this.refuse(failure);
    this.upstream.resume(this.host.nowUs());
  }

  private refuse(failure: DownstreamFailure): void {
    this.attempt = null;
    const step = this.exchange.failed(this.host.nowUs(), failure);
    if (step.do !== 'dial') this.conclude(step);
  }

  /** The server's connection is over; `isReset`: not in good order. */
  onDownstreamClosed(isReset: boolean): void {
    // MP_FASTCLOSE to the client where the server said RST (5.1). Otherwise there may be bytes that wait to be read.
    if (this.state === 'joined' && isReset) this.abort();
  }

  /** The client's connection is over: with all its subflows, not with one of them (5.1). */
  onUpstreamClosed(isReset: boolean): void {
    if (this.state === 'over') return;
    const isComplete = this.hasUpstreamEnded && this.hasDownstreamEnded && !isReset;
    if (!isComplete) this.downstream?.abort(this.host.nowUs());
    this.finish();
    this.host.flushSoon();
  }

  /** Ends both at once. */
  abort(): void {
    if (this.state === 'over') return;
    const nowUs = this.host.nowUs();
    this.downstream?.abort(nowUs);
    this.finish();
    this.upstream.abort(nowUs);
    this.host.flushSoon();
  }

  /** Ends what takes too long. */
  sweep(nowUs: Micros): void {
    if (nowUs < this.deadlineUs) return;
    if (this.state === 'dialling') {
      this.attempt?.abort();
      this.onFailed({ is: 'timeout' });
    } else this.abort();
  }

  private finish(): void {
    if (this.state === 'over') return;
    this.state = 'over';
    this.deadlineUs = NEVER;
    this.attempt?.abort();
    this.attempt = null;
    this.host.onOver(this);
  }

  // ---- Bytes ---------------------------------------------------------------------------------------------------

  /** Bytes of `from` to `to`, copied once; `from` waits while `to` has enough to send. */
  private join(from: Leg, to: Leg, direction: 'up' | 'down'): void {
    let isWaiting = false;
    to.setSendSpace(UNSENT_LOW_BYTES, () => {
      if (!isWaiting) return;
      isWaiting = false;
      from.resume(this.host.nowUs());
    });
    from.setReader({
      onBytes: (buf, offset, lengthBytes) => {
        if (this.state !== 'joined') return lengthBytes;
        if (to.unsentBytes >= UNSENT_MAX_BYTES) {
          isWaiting = true;
          return 0;
        }
        to.write(this.host.nowUs(), buf.slice(offset, offset + lengthBytes));
        if (direction === 'up') this.bytesUp += lengthBytes;
        else this.bytesDown += lengthBytes;
        this.host.flushSoon();
        return lengthBytes;
      },
      onEnd: () => {
        if (direction === 'up') this.hasUpstreamEnded = true;
        else this.hasDownstreamEnded = true;
        to.end(this.host.nowUs());
        this.host.flushSoon();
      },
    });
  }
}

const isFastOpen = ({ kind, value }: TcpOption) => kind === KIND_FAST_OPEN && value.length > 0;

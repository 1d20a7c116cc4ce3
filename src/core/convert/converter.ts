/**
 * The converter's side of one connection (RFC 8803 6): reads what the client says first, and comes to a step: dial, answer,
 * refuse. Sans-I/O: `onBytes`, then do what `step` says; a dial ends in `connected` or `failed`, whose bytes are the first
 * of the stream back. `judgeSyn` says beforehand what to do with a SYN (4.2, 6, 9).
 *
 * Order of the checks: form of the message, who the client is, its cookie, and only then what it wants.
 */
import type { IpAddress } from '../base/ip.js';
import type { Micros } from '../base/time.js';
import { TokenBucket } from '../base/token-bucket.js';
import type { CookieJar } from './cookies.js';
import {
  CONVERT_ERROR,
  CONVERT_HEADER_BYTES,
  CONVERT_VERSIONS,
  echoOf,
  encodeMessage,
  errorMessage,
  isConnectable,
  KIND_AO,
  KIND_EOL,
  KIND_FAST_OPEN,
  KIND_MSS,
  KIND_NOP,
  KIND_SACK,
  KIND_WSCALE,
  NO_BYTES,
  type TcpOption,
  TLV_CONNECT,
  TLV_COOKIE,
  TLV_EXTENDED_HEADER,
  TLV_INFO,
  TLV_SUPPORTED,
  type Tlv,
} from './message.js';
import { type ConvertFault, messageBytes, parseMessage } from './parse.js';
import { MessageReader } from './reader.js';

/** Kinds that are each stack's own affair: ignored in Connect, never announced (7.1 to 7.3). */
const IGNORED_KINDS: readonly number[] = [KIND_EOL, KIND_NOP, KIND_MSS, KIND_WSCALE, KIND_SACK];
/** Error messages to one client: so many per second, and so many at once (6.2.5). */
const ERRORS_PER_S = 5;
const ERRORS_AT_ONCE = 20;
/** Delay of Error 65 where one server was silent; 0 would mean 30 s (6.2.8). */
const SILENT_RETRY_S = 1;
/** Clients whose errors are counted one by one; the oldest go first. */
const MAX_LIMITED_CLIENTS = 1024;

export interface ConverterPolicy {
  /** Option kinds of SYNs that clients may ask for. */
  readonly supportedKinds: readonly number[];
  /** null: no cookie is asked for. */
  readonly cookies: CookieJar | null;
  /** A missing cookie is answered with silence instead of Error 3. */
  readonly silentWithoutCookie: boolean;
  /** SYNs without a message are answered: such a client says what it wants in the stream. */
  readonly answersPlainSyns: boolean;
  /** Source addresses of this network cannot be forged: a SYN alone may have us dial (RFC 7413 7.3). */
  isTrusted(client: IpAddress): boolean;
  mayUse(client: IpAddress): boolean;
  mayReach(client: IpAddress, address: IpAddress, port: number): boolean;
  /** There is room for another connection of this client. */
  hasRoom(client: IpAddress): boolean;
  /** Seconds after which a client that found no room should come again; 0: the default. */
  readonly retryAfterS: number;
}

/** What the downstream connection ran into. */
export type DownstreamFailure =
  | { readonly is: 'reset' }
  | { readonly is: 'unreachable'; readonly icmpCode: number }
  /** No route, no socket: forwarding does not work. */
  | { readonly is: 'network' }
  /** Silence. It may be this one server's, so others need not wait. */
  | { readonly is: 'timeout' }
  | { readonly is: 'exhausted' };

export type ConverterStep =
  /** Reset the connection: this is not Convert, or nothing can be said about it. */
  | { readonly do: 'reset'; readonly reason: ConverterReason }
  /** End the connection without a word. */
  | { readonly do: 'close'; readonly reason: ConverterReason }
  /** Send this, then end the connection in good order: a RST could overtake it (6.2.2). */
  | { readonly do: 'answer'; readonly bytes: Uint8Array; readonly reason: ConverterReason }
  | {
      readonly do: 'dial';
      readonly address: IpAddress;
      readonly port: number;
      readonly options: readonly TcpOption[] | null;
    };

/** Reasons in counters. */
export type ConverterReason =
  | ConvertFault
  | 'no-message'
  | 'no-tlv'
  | 'not-for-converters'
  | 'client-not-allowed'
  | 'cookie-missing'
  | 'cookie-invalid'
  | 'address-invalid'
  | 'unsupported-option'
  | 'destination-denied'
  | 'no-room'
  | 'info'
  | 'server-reset'
  | 'server-unreachable'
  | 'server-silent'
  | 'network-failure'
  | 'errors-limited';

/** What becomes of a SYN. */
export type SynVerdict =
  /** No answer at all. */
  | 'ignore'
  /** An ordinary handshake. */
  | 'answer'
  /** An ordinary handshake that takes the SYN's data: what it asks for is done once the address is proven. */
  | 'take'
  /** Dial now; the SYN/ACK follows the server's. */
  | 'hold';

/** Errors that go out, for all connections of a converter. */
export class ErrorLimit {
  private readonly clients = new Map<string, TokenBucket>();

  take(nowUs: Micros, client: IpAddress): boolean {
    let bucket = this.clients.get(client.text);
    if (bucket === undefined) {
      bucket = new TokenBucket(ERRORS_PER_S, ERRORS_AT_ONCE);
      this.clients.set(client.text, bucket);
      for (const oldest of this.clients.keys()) {
        if (this.clients.size <= MAX_LIMITED_CLIENTS) break;
        this.clients.delete(oldest);
      }
    }
    return bucket.take(nowUs);
  }
}

export class ConverterExchange {
  step: ConverterStep | null = null;
  private readonly reader = new MessageReader();
  private wantsInfo = false;

  constructor(
    private readonly policy: ConverterPolicy,
    private readonly errors: ErrorLimit,
    private readonly client: IpAddress,
  ) {}

  /** Takes the message and nothing behind it; how many bytes that was. */
  onBytes(nowUs: Micros, buf: Uint8Array, offset: number, lengthBytes: number): number {
    if (this.step !== null) return 0;
    const taken = this.reader.take(buf, offset, lengthBytes);
    if (this.reader.isDone) this.step = this.conclude(nowUs);
    return taken;
  }

  /** The client ended the stream before its message was whole. */
  onEnd(): void {
    this.step ??= { do: 'close', reason: 'no-message' };
  }

  /** The server has accepted. `serverOptions` of its SYN/ACK; null: not known. Returns the answer. */
  connected(serverOptions: Uint8Array | null): Uint8Array {
    const tlvs: Tlv[] = this.wantsInfo ? [this.supported()] : [];
    if (serverOptions !== null) tlvs.push({ type: TLV_EXTENDED_HEADER, options: serverOptions });
    return encodeMessage(tlvs);
  }

  /** The server has not. */
  failed(nowUs: Micros, failure: DownstreamFailure): ConverterStep {
    switch (failure.is) {
      case 'reset':
        return this.refuse(nowUs, CONVERT_ERROR.connectionReset, 'server-reset');
      case 'unreachable':
        return this.refuse(nowUs, CONVERT_ERROR.unreachable, 'server-unreachable', Uint8Array.of(failure.icmpCode));
      case 'network':
        return this.refuse(nowUs, CONVERT_ERROR.networkFailure, 'network-failure', this.delay());
      case 'timeout':
        return this.refuse(nowUs, CONVERT_ERROR.networkFailure, 'server-silent', Uint8Array.of(SILENT_RETRY_S));
      case 'exhausted':
        return this.refuse(nowUs, CONVERT_ERROR.resourceExceeded, 'no-room', this.delay());
    }
  }

  private conclude(nowUs: Micros): ConverterStep {
    const { fault, message } = this.reader;
    if (fault === 'unsupported-version') {
      return this.refuse(nowUs, CONVERT_ERROR.unsupportedVersion, fault, Uint8Array.from(CONVERT_VERSIONS));
    }
    if (fault !== null) return { do: 'reset', reason: fault };
    const { fault: mistake, tlvs, unknownType } = parseMessage(message);
    // What is of no use to a converter: undefined types, type 0 (6.2.2), and what only converters send.
    const isForeign = tlvs.some(({ type }) => type !== TLV_INFO && type !== TLV_CONNECT && type !== TLV_COOKIE);
    if (mistake === 'reserved-type' || (mistake === null && (unknownType >= 0 || isForeign))) {
      const reason = mistake ?? (unknownType >= 0 ? 'unknown-type' : 'not-for-converters');
      return this.refuse(nowUs, CONVERT_ERROR.unsupportedMessage, reason, echoOf(message));
    }
    if (mistake !== null) return this.refuse(nowUs, CONVERT_ERROR.malformed, mistake, echoOf(message));
    return this.admit(nowUs, tlvs) ?? this.serve(nowUs, tlvs, message);
  }

  /** Who the client is. null: it may go on. */
  private admit(nowUs: Micros, tlvs: readonly Tlv[]): ConverterStep | null {
    const { policy, client } = this;
    if (!policy.mayUse(client)) return this.refuse(nowUs, CONVERT_ERROR.notAuthorized, 'client-not-allowed');
    const { cookies } = policy;
    if (cookies === null) return null;
    const cookie = cookieOf(tlvs);
    if (cookie === null) {
      if (policy.silentWithoutCookie) return { do: 'close', reason: 'cookie-missing' };
      const fresh = cookies.cookieFor(nowUs, client);
      // Error 3 is only for who can give one (6.2.8).
      if (fresh === null) return this.refuse(nowUs, CONVERT_ERROR.notAuthorized, 'cookie-missing');
      const value = new Uint8Array(1 + fresh.length);
      value.set(fresh, 1);
      return this.refuse(nowUs, CONVERT_ERROR.missingCookie, 'cookie-missing', value);
    }
    if (cookies.isValid(nowUs, client, cookie)) return null;
    return this.refuse(nowUs, CONVERT_ERROR.notAuthorized, 'cookie-invalid');
  }

  /** What it wants. */
  private serve(nowUs: Micros, tlvs: readonly Tlv[], message: Uint8Array): ConverterStep {
    const { policy, client } = this;
    this.wantsInfo = tlvs.some(({ type }) => type === TLV_INFO);
    const connect = tlvs.find((tlv) => tlv.type === TLV_CONNECT);
    if (connect === undefined) {
      if (this.wantsInfo) return { do: 'answer', bytes: encodeMessage([this.supported()]), reason: 'info' };
      return this.refuse(nowUs, CONVERT_ERROR.malformed, 'no-tlv', echoOf(message));
    }
    const { address, port } = connect;
    if (!isConnectable(address) || port === 0) {
      return this.refuse(nowUs, CONVERT_ERROR.malformed, 'address-invalid', echoOf(message));
    }
    const options = connect.options?.filter(({ kind }) => !IGNORED_KINDS.includes(kind)) ?? null;
    const unsupported = options?.filter((option) => !this.supports(option)) ?? [];
    if (unsupported.length > 0) {
      const kinds = Uint8Array.from(new Set(unsupported.map(({ kind }) => kind)));
      return this.refuse(nowUs, CONVERT_ERROR.unsupportedOption, 'unsupported-option', kinds);
    }
    if (!policy.mayReach(client, address, port)) {
      return this.refuse(nowUs, CONVERT_ERROR.notAuthorized, 'destination-denied');
    }
    if (!policy.hasRoom(client)) {
      return this.refuse(nowUs, CONVERT_ERROR.resourceExceeded, 'no-room', this.delay());
    }
    return { do: 'dial', address, port, options };
  }

  /** Only a Fast Open cookie makes sense at another host than where it was given: timestamps and keys do not (7.4, 7.5). */
  private supports({ kind, value }: TcpOption): boolean {
    if (kind === KIND_AO || !this.policy.supportedKinds.includes(kind)) return false;
    return value.length === 0 || kind === KIND_FAST_OPEN;
  }

  private supported(): Tlv {
    const kinds = this.policy.supportedKinds.filter((kind) => kind !== KIND_AO && !IGNORED_KINDS.includes(kind));
    return { type: TLV_SUPPORTED, kinds };
  }

  private delay(): Uint8Array {
    return Uint8Array.of(Math.min(255, this.policy.retryAfterS));
  }

  private refuse(nowUs: Micros, code: number, reason: ConverterReason, value: Uint8Array = NO_BYTES): ConverterStep {
    if (!this.errors.take(nowUs, this.client)) return { do: 'close', reason: 'errors-limited' };
    return { do: 'answer', bytes: errorMessage(code, value), reason };
  }
}

/**
 * What to do with a SYN that carries `lengthBytes` at `offset` of `buf`. A host is dialled on a SYN only if nobody can have
 * forged it: by the address or by a cookie. So nothing that we send to others answers to a forged SYN (RFC 8803 9.3).
 */
export function judgeSyn(
  nowUs: Micros,
  policy: ConverterPolicy,
  client: IpAddress,
  buf: Uint8Array,
  offset: number,
  lengthBytes: number,
): SynVerdict {
  const total = lengthBytes < CONVERT_HEADER_BYTES ? 'not-convert' : messageBytes(buf, offset);
  // Absent a policy SYNs without Convert TLVs are ignored (6).
  if (total === 'not-convert') return policy.answersPlainSyns ? 'answer' : 'ignore';
  if (typeof total === 'string' || total > lengthBytes) return 'take';
  const { fault, tlvs } = parseMessage(buf.subarray(offset, offset + total));
  const cookie = cookieOf(tlvs);
  if (policy.cookies !== null && cookie === null && policy.silentWithoutCookie) return 'ignore';
  if (fault !== null || !policy.mayUse(client) || !tlvs.some(({ type }) => type === TLV_CONNECT)) return 'take';
  if (policy.cookies === null) return policy.isTrusted(client) ? 'hold' : 'take';
  return cookie !== null && policy.cookies.isValid(nowUs, client, cookie) ? 'hold' : 'take';
}

function cookieOf(tlvs: readonly Tlv[]): Uint8Array | null {
  return tlvs.find((tlv) => tlv.type === TLV_COOKIE)?.cookie ?? null;
}

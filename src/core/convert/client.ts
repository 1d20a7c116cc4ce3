/**
 * The client's side of one connection to a converter (RFC 8803 6): what it says first, and what the answer comes to. Sans-I/O;
 * the owner sends `request` as the first bytes of the stream (in the SYN where it may), gives what arrives to `onBytes` and
 * looks at `outcome`. Whatever the answer is but 'connected' or 'informed', the connection is to be reset (6.2.1, 6.2.2, 6.2.8).
 */
import type { IpAddress } from '../base/ip.js';
import {
  CONVERT_ERROR,
  CONVERT_VERSION,
  encodeMessage,
  type TcpOption,
  TLV_CONNECT,
  TLV_COOKIE,
  TLV_ERROR,
  TLV_EXTENDED_HEADER,
  TLV_INFO,
  TLV_SUPPORTED,
  type Tlv,
} from './message.js';
import { type ConvertFault, parseMessage } from './parse.js';
import { MessageReader } from './reader.js';

export interface ConvertRequest {
  /** null: nothing to connect to, only to ask what the converter supports. */
  readonly remote: { readonly address: IpAddress; readonly port: number } | null;
  /** Wanted in the converter's SYN; null: what the converter likes. */
  readonly options?: readonly TcpOption[] | null;
  /** Ask for the list of supported TCP extensions (6.2.3). */
  readonly info?: boolean;
  readonly cookie?: Uint8Array | null;
  readonly version?: number;
}

/** What an Error TLV, or an answer that is none, says. */
export type ConvertFailure =
  | { readonly why: 'bad-answer'; readonly fault: ConvertFault | 'unexpected-tlv' }
  /** The stream ended before the answer did. */
  | { readonly why: 'no-answer' }
  | { readonly why: 'unsupported-version'; readonly versions: readonly number[] }
  /** Errors 1 and 2: it does not understand us. */
  | { readonly why: 'rejected'; readonly code: number }
  | { readonly why: 'missing-cookie'; readonly cookie: Uint8Array }
  | { readonly why: 'not-authorized' }
  | { readonly why: 'unsupported-options'; readonly kinds: readonly number[] }
  /** Errors 64 and 65. `waitS` 0: nothing was said. */
  | { readonly why: 'exhausted' | 'network-failure'; readonly waitS: number }
  | { readonly why: 'connection-reset' }
  | { readonly why: 'unreachable'; readonly icmpCode: number }
  | { readonly why: 'unknown-error'; readonly code: number };

export type ConvertOutcome =
  | {
      readonly is: 'connected';
      /** Options of the server's SYN/ACK where the converter told them. */
      readonly serverOptions: Uint8Array | null;
      readonly supportedKinds: readonly number[] | null;
    }
  /** Answer to Info alone. */
  | { readonly is: 'informed'; readonly supportedKinds: readonly number[] }
  | { readonly is: 'failed'; readonly failure: ConvertFailure };

export class ConvertClient {
  /** First bytes of the stream; user data follows at once (RFC 8803 6). */
  readonly request: Uint8Array;
  outcome: ConvertOutcome | null = null;
  /** TLVs of types that we do not know, skipped. */
  skippedTlvs = 0;
  private readonly reader = new MessageReader();
  private readonly wantsConnection: boolean;

  constructor(request: ConvertRequest) {
    this.request = encodeRequest(request);
    this.wantsConnection = request.remote !== null;
  }

  /** Takes the answer and nothing behind it; how many bytes that was. */
  onBytes(buf: Uint8Array, offset: number, lengthBytes: number): number {
    if (this.outcome !== null) return 0;
    const taken = this.reader.take(buf, offset, lengthBytes);
    if (this.reader.isDone) this.outcome = this.conclude();
    return taken;
  }

  onEnd(): void {
    this.outcome ??= { is: 'failed', failure: { why: 'no-answer' } };
  }

  private conclude(): ConvertOutcome {
    const { fault, message } = this.reader;
    if (fault === 'unsupported-version') return failed({ why: fault, versions: [message[0]!] });
    if (fault !== null) return failed({ why: 'bad-answer', fault });
    const parsed = parseMessage(message);
    if (parsed.fault !== null) return failed({ why: 'bad-answer', fault: parsed.fault });
    if (parsed.unknownType >= 0) this.skippedTlvs++;
    return this.judge(parsed.tlvs);
  }

  private judge(tlvs: readonly Tlv[]): ConvertOutcome {
    let serverOptions: Uint8Array | null = null;
    let supportedKinds: readonly number[] | null = null;
    for (const tlv of tlvs) {
      if (tlv.type === TLV_ERROR) return failed(failureOf(tlv.code, tlv.value));
      if (tlv.type === TLV_EXTENDED_HEADER) serverOptions = tlv.options;
      else if (tlv.type === TLV_SUPPORTED) supportedKinds = tlv.kinds;
      // Info, Connect and Cookie are for the other way.
      else return failed({ why: 'bad-answer', fault: 'unexpected-tlv' });
    }
    if (this.wantsConnection) return { is: 'connected', serverOptions, supportedKinds };
    return { is: 'informed', supportedKinds: supportedKinds ?? [] };
  }
}

function encodeRequest({ remote, options, info, cookie, version }: ConvertRequest): Uint8Array {
  const tlvs: Tlv[] = [];
  if (info === true || remote === null) tlvs.push({ type: TLV_INFO });
  if (remote !== null) tlvs.push({ type: TLV_CONNECT, ...remote, options: options ?? null });
  if (cookie !== undefined && cookie !== null) tlvs.push({ type: TLV_COOKIE, cookie });
  return encodeMessage(tlvs, version ?? CONVERT_VERSION);
}

function failed(failure: ConvertFailure): ConvertOutcome {
  return { is: 'failed', failure };
}

/** RFC 8803 6.2.8. */
function failureOf(code: number, value: Uint8Array): ConvertFailure {
  const first = value[0] ?? 0;
  switch (code) {
    case CONVERT_ERROR.unsupportedVersion:
      // Zeros are padding, and no version has that number.
      return { why: 'unsupported-version', versions: [...value].filter((version) => version !== 0) };
    case CONVERT_ERROR.malformed:
    case CONVERT_ERROR.unsupportedMessage:
      return { why: 'rejected', code };
    case CONVERT_ERROR.missingCookie:
      return { why: 'missing-cookie', cookie: value.slice(1) };
    case CONVERT_ERROR.notAuthorized:
      return { why: 'not-authorized' };
    case CONVERT_ERROR.unsupportedOption:
      return { why: 'unsupported-options', kinds: [...value].filter((kind) => kind !== 0) };
    case CONVERT_ERROR.resourceExceeded:
      return { why: 'exhausted', waitS: first };
    case CONVERT_ERROR.networkFailure:
      return { why: 'network-failure', waitS: first };
    case CONVERT_ERROR.connectionReset:
      return { why: 'connection-reset' };
    case CONVERT_ERROR.unreachable:
      return { why: 'unreachable', icmpCode: first };
    default:
      return { why: 'unknown-error', code };
  }
}

/** The highest version that both speak (6.2.8); -1: none. */
export function commonVersion(ours: readonly number[], theirs: readonly number[]): number {
  return Math.max(-1, ...ours.filter((version) => theirs.includes(version)));
}

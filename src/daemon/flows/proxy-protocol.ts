/**
 * What a client of our proxy says before its bytes: SOCKS5 (RFC 1928) or HTTP (RFC 9110 §9.3.6 CONNECT, RFC 9112 §3.2.2 the
 * absolute form). One port speaks both: a SOCKS client begins with a version, an HTTP client with a letter. Sans-I/O; total:
 * any bytes come to a target, to a refusal with the standard's words and a reason that is counted, or to "more".
 *
 * Of SOCKS5: CONNECT without authentication; BIND and UDP ASSOCIATE are refused (reply 7). Of HTTP: CONNECT, and the absolute
 * form for http:, which is forwarded: one request per connection, its hop-by-hop fields left out (RFC 9110 §7.6.1).
 */
import { ipFromBytes } from '../../core/base/ip.js';
import { formatHead, HeadError, MAX_HEAD_BYTES, parseFields, parseHead } from '../http-head.js';
import { connectedHead, parseAuthority, parseConnect, RelayError, refusedHead } from './connect-protocol.js';
import type { DialError } from './contract.js';

const SOCKS_VERSION = 5;
const METHOD_NONE = 0x00;
const METHOD_UNACCEPTABLE = 0xff;
const COMMAND_CONNECT = 1;
const TYPE_IPV4 = 1;
const TYPE_NAME = 3;
const TYPE_IPV6 = 4;

/** RFC 1928 §6. */
const REPLY = {
  succeeded: 0,
  failure: 1,
  denied: 2,
  'network-unreachable': 3,
  'host-unreachable': 4,
  refused: 5,
  'command-not-supported': 7,
  'address-type-not-supported': 8,
} as const;

/** Why a client was not understood or not served: counters of the proxy. */
export type ProxyRefusal =
  | 'socks-version'
  | 'socks-no-method'
  | 'socks-command'
  | 'socks-address-type'
  | 'socks-malformed'
  | 'http-malformed'
  | 'http-too-long'
  | 'http-not-absolute'
  | 'http-scheme'
  | 'http-transfer-encoding';

export interface ProxyTarget {
  readonly kind: 'socks' | 'connect' | 'forward';
  readonly host: string;
  readonly port: number;
  /** What goes to the destination first (a forwarded request's head). */
  readonly preface: Uint8Array;
  /** Of a forwarded request: bytes of content that follow; the client says nothing more. Infinity: a tunnel. */
  readonly contentBytes: number;
}

export type ProxyStep =
  | { readonly type: 'more' }
  /** Say this, and wait for more. */
  | { readonly type: 'answer'; readonly bytes: Uint8Array }
  | { readonly type: 'target'; readonly target: ProxyTarget; readonly rest: Uint8Array }
  /** Say this and close. */
  | { readonly type: 'refused'; readonly reason: ProxyRefusal; readonly bytes: Uint8Array };

const MORE: ProxyStep = { type: 'more' };
const NOTHING = new Uint8Array(0);

export class ProxyHandshake {
  private pending: Buffer = Buffer.alloc(0);
  private state: 'start' | 'socks-methods' | 'socks-request' | 'http' | 'over' = 'start';

  /** Call again with no bytes after an 'answer': what came with it may be enough for the next step. */
  push(chunk: Uint8Array): ProxyStep {
    if (chunk.length > 0) this.pending = Buffer.concat([this.pending, chunk]);
    if (this.state === 'start') {
      const first = this.pending[0];
      if (first === undefined) return MORE;
      // RFC 9110 §9.1: a method is a token. Nothing of SOCKS begins so.
      if (/[A-Za-z]/.test(String.fromCharCode(first))) this.state = 'http';
      else if (first === SOCKS_VERSION) this.state = 'socks-methods';
      else return this.refuse('socks-version', NOTHING);
    }
    if (this.state === 'socks-methods') return this.methods();
    if (this.state === 'socks-request') return this.request();
    return this.state === 'http' ? this.head() : MORE;
  }

  /** RFC 1928 §3: version, number of methods, methods. */
  private methods(): ProxyStep {
    const b = this.pending;
    if (b.length < 2 || b.length < 2 + b[1]!) return MORE;
    const offered = b.subarray(2, 2 + b[1]!);
    if (!offered.includes(METHOD_NONE)) {
      return this.refuse('socks-no-method', Uint8Array.of(SOCKS_VERSION, METHOD_UNACCEPTABLE));
    }
    this.pending = b.subarray(2 + b[1]!);
    this.state = 'socks-request';
    return { type: 'answer', bytes: Uint8Array.of(SOCKS_VERSION, METHOD_NONE) };
  }

  /** §4: version, command, reserved, address type, address, port. */
  private request(): ProxyStep {
    const b = this.pending;
    if (b.length < 4) return MORE;
    if (b[0] !== SOCKS_VERSION) return this.refuse('socks-malformed', socksReply('failure'));
    const type = b[3]!;
    if (type !== TYPE_IPV4 && type !== TYPE_NAME && type !== TYPE_IPV6) {
      return this.refuse('socks-address-type', socksReply('address-type-not-supported'));
    }
    if (type === TYPE_NAME && b.length < 5) return MORE;
    const from = type === TYPE_NAME ? 5 : 4;
    const end = from + (type === TYPE_IPV4 ? 4 : type === TYPE_IPV6 ? 16 : b[4]!);
    if (b.length < end + 2) return MORE;
    if (b[1] !== COMMAND_CONNECT) return this.refuse('socks-command', socksReply('command-not-supported'));
    const port = b.readUInt16BE(end);
    const host =
      type === TYPE_NAME ? b.toString('latin1', from, end) : ipFromBytes(b, from, type === TYPE_IPV4 ? 4 : 6).text;
    try {
      parseAuthority(host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);
    } catch {
      return this.refuse('socks-malformed', socksReply('failure'));
    }
    return this.target('socks', host, port, end + 2);
  }

  private head(): ProxyStep {
    const b = this.pending;
    const end = b.indexOf('\r\n\r\n', 0, 'latin1');
    if (end < 0 ? b.length > MAX_HEAD_BYTES : end > MAX_HEAD_BYTES) {
      return this.refuse('http-too-long', httpRefusal('431 Request Header Fields Too Large'));
    }
    if (end < 0) return MORE;
    const text = b.toString('latin1', 0, end);
    try {
      if (!text.startsWith('CONNECT ')) return this.forward(text, end + 4);
      const { host, port } = parseConnect(parseHead(text));
      return this.target('connect', host, port, end + 4);
    } catch (error) {
      if (!(error instanceof RelayError || error instanceof HeadError)) throw error;
      return this.refuse('http-malformed', Buffer.from(refusedHead(error), 'latin1'));
    }
  }

  /** RFC 9112 §3.2.2: `GET http://HOST[:PORT]/PATH HTTP/1.1`. Throws HeadError or RelayError. */
  private forward(text: string, behind: number): ProxyStep {
    const lineEnd = text.indexOf('\r\n');
    const line = lineEnd < 0 ? text : text.slice(0, lineEnd);
    const fields = lineEnd < 0 ? [] : parseFields(text.slice(lineEnd + 2).split('\r\n'));
    const m = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP\/1\.[01]$/.exec(line);
    if (m === null) throw new HeadError('malformed start line');
    const [, method, uri] = m as unknown as [string, string, string];
    const u = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)([^#]*)$/.exec(uri);
    if (u === null) return this.refuse('http-not-absolute', httpRefusal('400 Bad Request'));
    const [, scheme, authority, rest] = u as unknown as [string, string, string, string];
    // What is not http goes through CONNECT, if at all.
    if (scheme.toLowerCase() !== 'http') return this.refuse('http-scheme', httpRefusal('501 Not Implemented'));
    const { host, port } = parseAuthority(/:\d*$/.test(authority) ? authority : `${authority}:80`);
    const one = (name: string) => fields.filter(([n]) => n === name).map(([, value]) => value);
    if (one('transfer-encoding').length > 0) {
      return this.refuse('http-transfer-encoding', httpRefusal('411 Length Required'));
    }
    const lengths = new Set(one('content-length'));
    const [length = '0'] = lengths;
    // RFC 9112 §6.3: lengths that differ, or are none, are not to be guessed at.
    if (lengths.size > 1 || !/^\d{1,15}$/.test(length)) throw new HeadError('malformed Content-Length');
    const hop = new Set([
      ...HOP_BY_HOP,
      ...one('connection').flatMap((v) => v.split(',').map((t) => t.trim().toLowerCase())),
    ]);
    const kept = fields.filter(([name]) => !hop.has(name)).map(([name, value]) => `${name}: ${value}`);
    const origin = rest.startsWith('/') ? rest : `/${rest}`;
    const head = [`${method} ${origin} HTTP/1.1`, `host: ${authority}`, ...kept, 'connection: close', 'via: 1.1 mptun'];
    const preface = Buffer.from(`${head.join('\r\n')}\r\n\r\n`, 'latin1');
    return this.target('forward', host, port, behind, preface, Number(length));
  }

  private target(
    kind: ProxyTarget['kind'],
    host: string,
    port: number,
    behind: number,
    preface: Uint8Array = NOTHING,
    contentBytes = Number.POSITIVE_INFINITY,
  ): ProxyStep {
    this.state = 'over';
    const rest = this.pending.subarray(behind);
    return { type: 'target', target: { kind, host, port, preface, contentBytes }, rest };
  }

  private refuse(reason: ProxyRefusal, bytes: Uint8Array): ProxyStep {
    this.state = 'over';
    return { type: 'refused', reason, bytes };
  }
}

/** RFC 9110 §7.6.1; Host is said anew (RFC 9112 §3.2.2). */
const HOP_BY_HOP = [
  'connection',
  'proxy-connection',
  'keep-alive',
  'te',
  'trailer',
  'upgrade',
  'host',
  'proxy-authorization',
  'proxy-authenticate',
];

/** What a client is told when its destination has been reached; a forwarded request's answer is the destination's own. */
export function connectedAnswer(kind: ProxyTarget['kind']): Uint8Array {
  if (kind === 'socks') return socksReply('succeeded');
  return kind === 'connect' ? Buffer.from(connectedHead(false), 'latin1') : NOTHING;
}

/** ... and when it has not. */
export function failedAnswer(kind: ProxyTarget['kind'], error: DialError): Uint8Array {
  const { failure, message, icmpCode } = error;
  if (kind !== 'socks') {
    const refusal = failure === 'unavailable' ? 'failed' : failure;
    return Buffer.from(refusedHead(new RelayError(refusal, message)), 'latin1');
  }
  if (failure === 'unreachable') return socksReply(icmpCode === 0 ? 'network-unreachable' : 'host-unreachable');
  if (failure === 'timeout') return socksReply('host-unreachable');
  return socksReply(failure === 'unavailable' ? 'failure' : failure);
}

/** §6; the bound address is of no use to anybody, and not known for most ways. */
function socksReply(reply: keyof typeof REPLY): Uint8Array {
  return Uint8Array.of(SOCKS_VERSION, REPLY[reply], 0, TYPE_IPV4, 0, 0, 0, 0, 0, 0);
}

function httpRefusal(status: string): Uint8Array {
  return Buffer.from(formatHead(`HTTP/1.1 ${status}`, { Connection: 'close', 'Content-Length': '0' }), 'latin1');
}

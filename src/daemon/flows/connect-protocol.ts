/**
 * HTTP CONNECT as both ends of the relay speak it: the request (RFC 9110 §9.3.6, RFC 9112 §3.2.3), the standard's answers,
 * and Proxy-Status (RFC 9209), which tells a refused destination from an unreachable one, so that the client's application
 * gets the RST or the ICMP message that it would have got without us. Headers of ours are those of upgrade.ts.
 */
import { formatHead, HeadError, type HttpHead, hasToken } from '../http-head.js';
import { DialError, type DialFailure } from './contract.js';

/** What the server says of itself in Proxy-Status (a token, RFC 9209 §2). */
const PROXY_NAME = 'mptun';
/** As in an upgrade: the join keys come from this TLS connection. */
const JOIN_KEYS = 'Mptun-Join-Keys';
const TLS_EXPORTER = 'tls-exporter';
/** Longest domain name (RFC 1035 §2.3.4, as text). */
const MAX_NAME_CHARS = 253;

export interface ConnectRequest {
  /** Name, IPv4 address, or IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
  readonly exportsKeys: boolean;
}

/** Why a request was not carried out: the counter of the server, and what the client is told. */
export type RelayRefusal =
  | 'malformed'
  | 'denied'
  | 'refused'
  | 'unreachable'
  | 'unresolved'
  | 'timeout'
  | 'too-many-flows'
  | 'too-many-dials'
  | 'failed';

/** A request that is not carried out, and what to answer. */
export class RelayError extends Error {
  override readonly name = 'RelayError';

  constructor(
    readonly refusal: RelayRefusal,
    message: string,
    /** Of the ICMP message (or its cause) that the server's kernel got, e.g. ENETUNREACH. */
    readonly errno: string | null = null,
  ) {
    super(message);
  }
}

/** Status and error type (RFC 9209 §2.3) of each refusal. */
const ANSWERS: Readonly<Record<RelayRefusal, readonly [status: string, error: string]>> = {
  malformed: ['400 Bad Request', 'http_request_error'],
  denied: ['403 Forbidden', 'destination_ip_prohibited'],
  refused: ['502 Bad Gateway', 'connection_refused'],
  unreachable: ['502 Bad Gateway', 'destination_ip_unroutable'],
  unresolved: ['502 Bad Gateway', 'dns_error'],
  timeout: ['504 Gateway Timeout', 'connection_timeout'],
  'too-many-flows': ['503 Service Unavailable', 'connection_limit_reached'],
  'too-many-dials': ['503 Service Unavailable', 'connection_limit_reached'],
  failed: ['502 Bad Gateway', 'proxy_internal_error'],
};

/** True for what `parseConnect` is to look at, well-formed or not. */
export function isConnect(head: HttpHead): boolean {
  return head.startLine.startsWith('CONNECT ');
}

/** Throws RelayError 'malformed'. */
export function parseConnect(head: HttpHead): ConnectRequest {
  const match = /^CONNECT ([^ ]+) HTTP\/1\.([01])$/.exec(head.startLine);
  if (match === null) throw malformed('the request line is not CONNECT HOST:PORT HTTP/1.1');
  const [, authority, minor] = match as unknown as [string, string, string];
  const { fields } = head;
  // RFC 9112 §3.2: a request of HTTP/1.1 without Host is to be answered with 400.
  if (minor === '1' && (fields.get('host') ?? '') === '') throw malformed('no Host');
  // RFC 9110 §9.3.6: no content; whatever claims some would be taken for the tunnel's bytes by one of us.
  if (fields.has('transfer-encoding') || Number(fields.get('content-length') ?? 0) !== 0) {
    throw malformed('a CONNECT request has no content');
  }
  return { ...parseAuthority(authority), exportsKeys: hasToken(fields.get('mptun-join-keys'), TLS_EXPORTER) };
}

/** `HOST:PORT`, an IPv6 address in brackets (RFC 9112 §3.2.3). Throws RelayError 'malformed'. */
export function parseAuthority(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]@/?#]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65_535) throw malformed('the target is not HOST:PORT');
  const host = match[1] ?? match[2]!;
  if (match[1] === undefined && !isHostName(host)) throw malformed('the target is no host name or address');
  return { host, port };
}

/** The client's request; one segment. */
export function connectHead(target: { readonly host: string; readonly port: number }): string {
  const authority = `${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`;
  return formatHead(`CONNECT ${authority} HTTP/1.1`, { Host: authority, [JOIN_KEYS]: TLS_EXPORTER });
}

/** The server's yes: bytes of the tunnel follow. */
export function connectedHead(exportsKeys: boolean): string {
  return formatHead('HTTP/1.1 200 Connection Established', exportsKeys ? { [JOIN_KEYS]: TLS_EXPORTER } : {});
}

/** The server's no. */
export function refusedHead(error: Error): string {
  const refusal = error instanceof RelayError ? error.refusal : error instanceof HeadError ? 'malformed' : 'failed';
  const [status, type] = ANSWERS[refusal];
  const details = error instanceof RelayError && error.errno !== null ? error.errno : error.message;
  return formatHead(`HTTP/1.1 ${status}`, {
    'Proxy-Status': `${PROXY_NAME}; error=${type}; details=${quoted(details)}`,
    Connection: 'close',
    'Content-Length': '0',
  });
}

/** Answer to a request of a client that may use us, but for something that we do not do. */
export function notAllowedHead(): string {
  return formatHead('HTTP/1.1 405 Method Not Allowed', {
    Allow: 'CONNECT, GET',
    Connection: 'close',
    'Content-Length': '0',
  });
}

export interface ConnectAnswer {
  /** Join keys come from the TLS connection (ours only; another proxy ignores the wish). */
  readonly exportsKeys: boolean;
}

/** Throws DialError for everything but 2xx. `isIpv6`: which ICMP's codes are told. */
export function parseConnectAnswer(head: HttpHead, isIpv6: boolean): ConnectAnswer {
  const status = Number(/^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(head.startLine)?.[1] ?? 0);
  if (status >= 200 && status < 300) return { exportsKeys: hasToken(head.fields.get('mptun-join-keys'), TLS_EXPORTER) };
  const proxyStatus = head.fields.get('proxy-status') ?? '';
  const error = /;\s*error=([a-z_]+)/.exec(proxyStatus)?.[1];
  const details = /;\s*details="((?:[^"\\]|\\.)*)"/.exec(proxyStatus)?.[1] ?? '';
  const failure = (error === undefined ? undefined : FAILURES[error]) ?? failureOf(status);
  const message = `the relay answers ${head.startLine.slice(9)}${error === undefined ? '' : ` (${error})`}`;
  throw new DialError(failure, message, failure === 'unreachable' ? icmpCode(details, isIpv6) : null);
}

/** RFC 9209 §2.3, as far as an application can tell them apart. */
const FAILURES: Readonly<Record<string, DialFailure>> = {
  connection_refused: 'refused',
  connection_terminated: 'refused',
  connection_timeout: 'timeout',
  connection_read_timeout: 'timeout',
  dns_timeout: 'unreachable',
  dns_error: 'unreachable',
  destination_not_found: 'unreachable',
  destination_unavailable: 'unreachable',
  destination_ip_unroutable: 'unreachable',
  destination_ip_prohibited: 'denied',
  http_request_denied: 'denied',
  connection_limit_reached: 'unavailable',
};

/** Of a proxy that does not say more (RFC 9110 §15.6). */
function failureOf(status: number): DialFailure {
  if (status === 403) return 'denied';
  if (status === 502) return 'unreachable';
  if (status === 504) return 'timeout';
  return 'unavailable';
}

/** RFC 792 and RFC 4443 §3.1: network and host unreachable; no route and address unreachable. */
function icmpCode(errno: string, isIpv6: boolean): number | null {
  if (errno === 'ENETUNREACH') return 0;
  if (errno === 'EHOSTUNREACH') return isIpv6 ? 3 : 1;
  return null;
}

function isHostName(text: string): boolean {
  if (text.length > MAX_NAME_CHARS) return false;
  // Underscores do occur in names that people connect to; a trailing dot is the root.
  return text
    .replace(/\.$/, '')
    .split('.')
    .every((label) => /^(?!-)[A-Za-z0-9_-]{1,63}(?<!-)$/.test(label));
}

function malformed(message: string): RelayError {
  return new RelayError('malformed', message);
}

/** A string of RFC 8941 §3.3.3. */
function quoted(text: string): string {
  return `"${text.replace(/[^\x20-\x7e]/g, '?').replace(/["\\]/g, (c) => `\\${c}`)}"`;
}

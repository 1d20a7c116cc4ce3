/**
 * What the two ends say to each other before capsules: `Upgrade: connect-ip` (RFC 9484 §4.2, §4.3) with headers of ours
 * that a standard peer ignores. Whatever is agreed for a connection is agreed here, inside TLS:
 *
 *   Mptun-Session: 32 hex digits; connections that name the same session (of the same key) belong together
 *   Mptun-Lane:    sparse | bulk: what this connection is for
 *   Mptun-Context: super=2: the context of unfinished and super-packets (core/lanes/capsule.ts); answered if agreed
 *   Mptun-Join-Keys: tls-exporter: later MP_JOINs are authenticated with keys from this TLS connection (tls.ts); answered
 *                  if agreed
 *   Mptun-Mtu:     longest inner packet that the sender's TUN makes
 *   Mptun-Reason:  in a refusal: why, as a word, and then for people
 */
import { CONTEXT_SUPER } from '../core/lanes/capsule.js';
import { BULK, LANE_NAMES, type LaneIndex, SPARSE } from '../core/lanes/packet-lane.js';
import { formatHead, HeadError, type HttpHead, hasToken } from './http-head.js';
import { AuthenticationError } from './tls.js';

/** RFC 9484 §3: every target, every protocol. */
const TARGET = '/.well-known/masque/ip/*/*/';
const SUPER = `super=${CONTEXT_SUPER}`;
const TLS_EXPORTER = 'tls-exporter';
const MIN_MTU_BYTES = 1_280;
const DEFAULT_MTU_BYTES = 1_500;

export interface UpgradeRequest {
  readonly sessionId: string;
  readonly lane: LaneIndex;
  readonly takesSuper: boolean;
  readonly exportsKeys: boolean;
  readonly mtuBytes: number;
}

export interface UpgradeAnswer {
  readonly takesSuper: boolean;
  readonly exportsKeys: boolean;
  readonly mtuBytes: number;
}

/** A request or an answer that is not ours, or a refusal that is not about authentication. */
export class UpgradeError extends Error {
  override readonly name = 'UpgradeError';
}

export function requestHead(host: string, request: UpgradeRequest): string {
  return formatHead(`GET ${TARGET} HTTP/1.1`, {
    Host: host.includes(':') ? `[${host}]` : host,
    Connection: 'Upgrade',
    Upgrade: 'connect-ip',
    'Capsule-Protocol': '?1',
    'Mptun-Session': request.sessionId,
    'Mptun-Lane': LANE_NAMES[request.lane],
    ...(request.takesSuper ? { 'Mptun-Context': SUPER } : {}),
    ...(request.exportsKeys ? { 'Mptun-Join-Keys': TLS_EXPORTER } : {}),
    'Mptun-Mtu': String(request.mtuBytes),
  });
}

/** Told to a server whose key is not the pinned one, so that its log says why nobody comes in. No secret in it. */
export function clientRefusalHead(reason: string): string {
  return formatHead('OPTIONS * HTTP/1.1', { Host: 'mptun', 'Mptun-Reason': reason, Connection: 'close' });
}

/** Throws UpgradeError (→ 400) or AuthenticationError (the client refuses our key). */
export function parseRequest(head: HttpHead): UpgradeRequest {
  const f = head.fields;
  const reason = f.get('mptun-reason');
  if (reason !== undefined) throw new AuthenticationError('refused-by-peer', `the client refuses us: ${reason}`);
  if (head.startLine !== `GET ${TARGET} HTTP/1.1`)
    throw new UpgradeError(`not a connect-ip request: ${head.startLine}`);
  if (!hasToken(f.get('connection'), 'upgrade') || !hasToken(f.get('upgrade'), 'connect-ip')) {
    throw new UpgradeError('no Upgrade: connect-ip');
  }
  // RFC 9484 §4.2: exactly one non-empty Host.
  if ((f.get('host') ?? '') === '') throw new UpgradeError('no Host');
  const sessionId = f.get('mptun-session') ?? '';
  if (!/^[0-9a-f]{32}$/.test(sessionId)) throw new UpgradeError('no valid Mptun-Session');
  const laneName = f.get('mptun-lane');
  if (laneName !== 'sparse' && laneName !== 'bulk') throw new UpgradeError('no valid Mptun-Lane');
  return {
    sessionId,
    lane: laneName === 'bulk' ? BULK : SPARSE,
    takesSuper: hasToken(f.get('mptun-context'), SUPER),
    exportsKeys: hasToken(f.get('mptun-join-keys'), TLS_EXPORTER),
    mtuBytes: parseMtu(f.get('mptun-mtu')),
  };
}

export function answerHead(answer: UpgradeAnswer): string {
  return formatHead('HTTP/1.1 101 Switching Protocols', {
    Connection: 'Upgrade',
    Upgrade: 'connect-ip',
    'Capsule-Protocol': '?1',
    ...(answer.takesSuper ? { 'Mptun-Context': SUPER } : {}),
    ...(answer.exportsKeys ? { 'Mptun-Join-Keys': TLS_EXPORTER } : {}),
    'Mptun-Mtu': String(answer.mtuBytes),
  });
}

/** The refusal of `error`; the status says what kind, the reason what exactly. */
export function refusalHead(error: Error): string {
  const status =
    error instanceof AuthenticationError
      ? error.code === 'no-client-certificate'
        ? '401 Unauthorized'
        : '403 Forbidden'
      : error instanceof UpgradeError || error instanceof HeadError
        ? '400 Bad Request'
        : '503 Service Unavailable';
  const word = error instanceof AuthenticationError ? error.code : 'refused';
  return formatHead(`HTTP/1.1 ${status}`, {
    Connection: 'close',
    'Content-Length': '0',
    'Mptun-Reason': `${word}; ${error.message}`,
  });
}

/** Throws AuthenticationError (401, 403) or UpgradeError. */
export function parseAnswer(head: HttpHead): UpgradeAnswer {
  const status = /^HTTP\/1\.1 (\d{3})(?: |$)/.exec(head.startLine)?.[1];
  const f = head.fields;
  if (status === '101') {
    if (!hasToken(f.get('connection'), 'upgrade') || !hasToken(f.get('upgrade'), 'connect-ip')) {
      throw new UpgradeError('101 without Upgrade: connect-ip');
    }
    return {
      takesSuper: hasToken(f.get('mptun-context'), SUPER),
      exportsKeys: hasToken(f.get('mptun-join-keys'), TLS_EXPORTER),
      mtuBytes: parseMtu(f.get('mptun-mtu')),
    };
  }
  const reason = f.get('mptun-reason') ?? head.startLine;
  const word = reason.split(';')[0]!;
  if (status === '401' || status === '403') {
    const code = word === 'no-client-certificate' || word === 'unknown-client' ? word : 'refused-by-peer';
    throw new AuthenticationError(code, `the server refuses us: ${reason}`);
  }
  throw new UpgradeError(`the server refuses the connection: ${reason}`);
}

function parseMtu(value: string | undefined): number {
  if (value === undefined) return DEFAULT_MTU_BYTES;
  const mtu = /^\d{1,5}$/.test(value) ? Number(value) : 0;
  if (mtu < MIN_MTU_BYTES || mtu > 65_535) throw new UpgradeError(`Mptun-Mtu ${value} is out of range`);
  return mtu;
}

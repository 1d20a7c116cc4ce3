/**
 * Far sides by sockets of the kernel, for flows that need nothing of our stack: what the host itself routes (packet, bypass), and
 * all of `mptun proxy` without a daemon: straight to the destination, or by CONNECT through an HTTPS proxy, over the kernel's
 * Multipath TCP where it has it.
 */
import { lookup } from 'node:dns/promises';
import type { Socket } from 'node:net';
import * as tls from 'node:tls';
import { parseIpOrNull } from '../../config/prefix.js';
import type { IpAddress } from '../../core/base/ip.js';
import { connectKernelMptcp, SystemError } from '../../native/index.js';
import { HeadReader } from '../http-head.js';
import { checkServerPin, startTlsOnSocket, type TlsIdentity } from '../tls.js';
import { connectHead, parseConnectAnswer, RelayError, type RelayRefusal } from './connect-protocol.js';
import { DialError, type DialFailure, type FlowTarget } from './contract.js';
import type { ProxyOutbound } from './proxy-server.js';
import { NO_LISTS, RelayAccess } from './relay-access.js';
import { dialTarget, interleaved } from './relay-dial.js';

/** While there are other addresses to try. */
const ATTEMPT_MS = 3_000;
const CONNECT_MS = 20_000;

const EVERYWHERE = new RelayAccess(NO_LISTS, { allow: [], deny: [] });

/** An ordinary TCP connection, wherever the host's routes lead. Throws DialError. */
export async function dialPlain(target: FlowTarget, signal: AbortSignal): Promise<ProxyOutbound> {
  try {
    return plain(await dialTarget(target, EVERYWHERE, signal));
  } catch (error) {
    if (error instanceof RelayError) throw new DialError(FAILURES[error.refusal], error.message);
    throw error;
  }
}

const FAILURES: Readonly<Record<RelayRefusal, DialFailure>> = {
  malformed: 'unavailable',
  denied: 'denied',
  refused: 'refused',
  unreachable: 'unreachable',
  unresolved: 'unreachable',
  timeout: 'timeout',
  'too-many-flows': 'unavailable',
  'too-many-dials': 'unavailable',
  failed: 'unavailable',
};

/** Straight to the destination over the kernel's Multipath TCP. Throws DialError. */
export async function dialKernel(target: FlowTarget, signal: AbortSignal): Promise<ProxyOutbound> {
  return plain(await connectAny(target.host, target.port, signal));
}

/** An HTTPS proxy that flows go through. */
export interface HttpsProxy {
  readonly host: string;
  readonly port: number;
  /** Ours: both keys are pinned. Else as for any web server, with these certificates of authorities (null: the usual ones). */
  readonly trust:
    | { readonly identity: TlsIdentity; readonly pin: string }
    | { readonly authorities: string | null; readonly credentials: string | null };
}

/** By CONNECT through the proxy, over the kernel's Multipath TCP. Throws DialError. */
export async function dialThrough(proxy: HttpsProxy, target: FlowTarget, signal: AbortSignal): Promise<ProxyOutbound> {
  const socket = await connectAny(proxy.host, proxy.port, AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS)]));
  const secure = await secured(socket, proxy, signal);
  const fields = 'credentials' in proxy.trust && proxy.trust.credentials !== null ? proxy.trust.credentials : null;
  return new Promise((resolve, reject) => {
    const reader = new HeadReader();
    const end = () => {
      signal.removeEventListener('abort', onAbort);
      secure.off('data', onData).off('error', fail).off('close', onClose).pause();
    };
    const fail = (error: Error) => {
      end();
      secure.on('error', ignore).destroy();
      socket.destroy();
      reject(error instanceof DialError ? error : new DialError('unavailable', `the proxy: ${error.message}`));
    };
    const onClose = () => fail(new Error('closed the connection'));
    const onAbort = () => fail(new DialError('timeout', 'the proxy does not answer'));
    const onData = (chunk: Buffer) => {
      try {
        if (!reader.push(chunk)) return;
        parseConnectAnswer(reader.head!, target.host.includes(':'));
      } catch (error) {
        fail(error as Error);
        return;
      }
      end();
      if (reader.rest.length > 0) secure.unshift(reader.rest);
      resolve({
        stream: secure,
        connection: null,
        abort: () => {
          socket.resetAndDestroy();
          secure.destroy();
        },
      });
    };
    secure.on('data', onData).on('error', fail).on('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    secure.write(withCredentials(connectHead(target), fields));
  });
}

function secured(socket: Socket, { host, trust }: HttpsProxy, signal: AbortSignal): Promise<tls.TLSSocket> {
  const secure =
    'identity' in trust
      ? startTlsOnSocket(socket, trust.identity)
      : tls.connect({
          socket,
          // Whom the certificate is to be for; RFC 6066 3: an address is not sent as a server name.
          host,
          ALPNProtocols: ['http/1.1'],
          ...(parseIpOrNull(host) === null ? { servername: host } : {}),
          ...(trust.authorities === null ? {} : { ca: trust.authorities }),
        });
  return new Promise((resolve, reject) => {
    const end = () => {
      signal.removeEventListener('abort', onAbort);
      secure.off('error', fail);
    };
    const fail = (error: Error) => {
      end();
      secure.on('error', ignore).destroy();
      socket.destroy();
      reject(new DialError('unavailable', `the proxy: ${error.message}`));
    };
    const onAbort = () => fail(new Error('no answer'));
    secure.once('error', fail);
    signal.addEventListener('abort', onAbort, { once: true });
    secure.once('secureConnect', () => {
      try {
        if ('identity' in trust) checkServerPin(secure, trust.pin, 'optional');
        end();
        resolve(secure);
      } catch (error) {
        fail(error as Error);
      }
    });
  });
}

async function connectAny(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  const addresses = interleaved(await addressesOf(host));
  let last = new DialError('unreachable', `${host} has no address`);
  for (const [i, address] of addresses.entries()) {
    const isLast = i === addresses.length - 1;
    const patience = isLast ? signal : AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_MS)]);
    try {
      return (await connectKernelMptcp(address, port, patience)).socket;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      last = new DialError(failureOf(error.code), `${address.text} port ${port}: ${error.message}`);
      if (signal.aborted) break;
    }
  }
  throw last;
}

async function addressesOf(host: string): Promise<IpAddress[]> {
  const literal = parseIpOrNull(host);
  if (literal !== null) return [literal];
  const found = await lookup(host, { all: true, verbatim: true }).catch(() => []);
  return found.flatMap(({ address }) => parseIpOrNull(address) ?? []);
}

function failureOf(code: string): DialFailure {
  if (code === 'ECONNREFUSED' || code === 'ECONNRESET') return 'refused';
  return code === 'ETIMEDOUT' || code === 'ECANCELED' ? 'timeout' : 'unreachable';
}

function plain(socket: Socket): ProxyOutbound {
  return { stream: socket, connection: null, abort: () => socket.resetAndDestroy() };
}

/** RFC 9110 §11.7.2, with the scheme Basic (RFC 7617). */
function withCredentials(head: string, credentials: string | null): string {
  if (credentials === null) return head;
  const value = Buffer.from(credentials, 'utf8').toString('base64');
  return head.replace(/\r\n\r\n$/, `\r\nProxy-Authorization: Basic ${value}\r\n\r\n`);
}

function ignore(): void {}

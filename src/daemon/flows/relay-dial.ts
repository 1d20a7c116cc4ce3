/**
 * The relay's connection to the destination: an ordinary socket of the kernel, the quickest of the destination's addresses
 * (Happy Eyeballs, RFC 8305 §4 and §5: families take turns, attempts start 250 ms apart or as soon as one failed).
 */
import { lookup } from 'node:dns/promises';
import { connect, type Socket } from 'node:net';
import { parseIpOrNull } from '../../config/prefix.js';
import type { IpAddress } from '../../core/base/ip.js';
import { keepUrgentInLine } from '../../native/index.js';
import { RelayError } from './connect-protocol.js';
import type { RelayAccess } from './relay-access.js';

/** RFC 8305 §8: Connection Attempt Delay. */
const ATTEMPT_DELAY_MS = 250;
/** Addresses of one name that are tried. */
const MAX_ADDRESSES = 8;
/** A dial in all, resolution included. The kernel itself gives a SYN up after about two minutes (tcp_syn_retries). */
export const DIAL_TIMEOUT_MS = 60_000;

/** What a failed attempt says, the most telling first: an answer says more than silence. */
const RANK = ['refused', 'unreachable', 'timeout', 'failed'] as const;

/**
 * Connects to `host:port`. Throws RelayError; on `signal` whatever is under way ends, and the error is 'timeout' if its
 * reason is a TimeoutError. The socket is half-open capable and has no listeners.
 */
export async function dialTarget(
  target: { readonly host: string; readonly port: number },
  access: RelayAccess,
  signal: AbortSignal,
): Promise<Socket> {
  const addresses = await permittedAddresses(target, access, signal);
  return race(interleaved(addresses).slice(0, MAX_ADDRESSES), target.port, signal);
}

async function permittedAddresses(
  { host, port }: { readonly host: string; readonly port: number },
  access: RelayAccess,
  signal: AbortSignal,
): Promise<IpAddress[]> {
  const literal = parseIpOrNull(host);
  const denied = () => new RelayError('denied', `${host}:${port} is not for this client`);
  if (literal !== null) {
    if (!access.mayReach(literal, null, port)) throw denied();
    return [literal];
  }
  if (!access.mayResolve(host, port)) throw denied();
  const found = await resolve(host, signal);
  const permitted = found.filter((address) => access.mayReach(address, host, port));
  if (permitted.length === 0) throw denied();
  return permitted;
}

/** What the host's resolver says (RFC 6724 order). It cannot be interrupted; an aborted wait leaves it to itself. */
async function resolve(host: string, signal: AbortSignal): Promise<IpAddress[]> {
  const entries = lookup(host, { all: true, verbatim: true }).catch((error: NodeJS.ErrnoException) => {
    throw new RelayError('unresolved', `${host} does not resolve (${error.code ?? error.message})`);
  });
  const aborted = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(abortError(signal));
    else signal.addEventListener('abort', () => reject(abortError(signal)), { once: true });
  });
  entries.catch(ignore);
  aborted.catch(ignore);
  return (await Promise.race([entries, aborted])).flatMap(({ address }) => parseIpOrNull(address) ?? []);
}

function race(addresses: readonly IpAddress[], port: number, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolvePromise, reject) => {
    const open = new Set<Socket>();
    const failures: RelayError[] = [];
    let next = 0;
    let timer: NodeJS.Timeout | null = null;
    const settle = () => {
      if (timer !== null) clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      for (const socket of open) socket.destroy();
    };
    const onAbort = () => {
      settle();
      reject(abortError(signal));
    };
    const attempt = () => {
      if (timer !== null) clearTimeout(timer);
      timer = null;
      const address = addresses[next++];
      if (address === undefined) return;
      const socket = connect({ host: address.text, port, allowHalfOpen: true, noDelay: true });
      open.add(socket);
      const onError = (error: NodeJS.ErrnoException) => {
        socket.on('error', ignore);
        open.delete(socket);
        failures.push(dialError(error, address, port));
        if (next < addresses.length) attempt();
        else if (open.size === 0) {
          settle();
          failures.sort((a, b) => rank(a) - rank(b));
          reject(failures[0]!);
        }
      };
      socket.once('error', onError);
      socket.once('connect', () => {
        socket.off('error', onError);
        keepUrgentInLine(socket);
        open.delete(socket);
        settle();
        resolvePromise(socket);
      });
      if (next < addresses.length) timer = setTimeout(attempt, ATTEMPT_DELAY_MS);
    };
    if (signal.aborted) reject(abortError(signal));
    else {
      signal.addEventListener('abort', onAbort, { once: true });
      attempt();
    }
  });
}

/** The families take turns, beginning with the one that the resolver puts first (RFC 8305 §4). */
export function interleaved(addresses: readonly IpAddress[]): IpAddress[] {
  const first = addresses.filter((a) => a.family === addresses[0]?.family);
  const second = addresses.filter((a) => a.family !== addresses[0]?.family);
  return addresses.flatMap((_, i) => [first[i], second[i]].filter((a) => a !== undefined));
}

function dialError(error: NodeJS.ErrnoException, address: IpAddress, port: number): RelayError {
  const code = error.code ?? 'EIO';
  const where = `${address.text} port ${port}`;
  switch (code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return new RelayError('refused', `${where} refuses`, code);
    case 'ETIMEDOUT':
      return new RelayError('timeout', `${where} does not answer`, code);
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'EHOSTDOWN':
    case 'ENETDOWN':
    case 'EADDRNOTAVAIL':
    case 'EACCES':
    case 'EPERM':
      return new RelayError('unreachable', `${where} cannot be reached`, code);
    default:
      return new RelayError('failed', `${where}: ${error.message}`, code);
  }
}

function rank(error: RelayError): number {
  const at = (RANK as readonly string[]).indexOf(error.refusal);
  return at < 0 ? RANK.length : at;
}

function abortError(signal: AbortSignal): RelayError {
  const isTimeout = (signal.reason as Error | undefined)?.name === 'TimeoutError';
  return isTimeout
    ? new RelayError('timeout', 'the destination does not answer')
    : new RelayError('failed', 'cancelled');
}

function ignore(): void {}

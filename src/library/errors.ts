/** Failures as Node reports those of its own sockets: an Error with `code`, `errno`, `syscall`, and where to. */
import { constants } from 'node:os';
import type { Endpoint } from '../core/engine/api.js';

export type MptcpErrorCode =
  | 'ECONNREFUSED' // a RST answered our SYN
  | 'ECONNRESET' // a RST, or MP_FASTCLOSE, of the peer
  | 'ECONNABORTED' // by ourselves: destroy(), abort(), MptcpHost.close()
  | 'ETIMEDOUT' // no answer for too long, or no path for five minutes
  | 'EHOSTUNREACH' // a hard ICMP error answered our SYN
  | 'ENETUNREACH' // no interface of ours has a route
  | 'EADDRINUSE' // the port or the address pair is taken
  | 'EADDRNOTAVAIL' // no interface has this address
  | 'ENODEV' // no interface of this name
  | 'ENOTCONN' // the connection is over
  | 'EOPNOTSUPP' // the connection is plain TCP
  | 'ENOENT' // no such subflow, or address
  | 'EAGAIN' // refused for now: see `reason`
  | 'EINVAL'; // an argument that cannot be meant

/** `message` as Node has it: "connect ECONNREFUSED 192.0.2.1:5000". */
export class MptcpError extends Error {
  override readonly name = 'MptcpError';
  /** Negative, as libuv has it. */
  readonly errno: number;
  readonly address?: string;
  readonly port?: number;

  constructor(
    readonly code: MptcpErrorCode,
    readonly syscall: string,
    /** In words: what the engine says of the end, or what is wrong with the argument. */
    readonly reason: string,
    remote?: Endpoint,
  ) {
    const where = remote === undefined ? '' : ` ${formatEndpoint(remote)}`;
    super(`${syscall} ${code}${where}${reason === '' ? '' : ` (${reason})`}`);
    this.errno = -constants.errno[code];
    if (remote === undefined) return;
    this.address = remote.address.text;
    this.port = remote.port;
  }
}

/** The engine's words for the end of a connection (EngineEvent 'connection-closed') as an error code. */
export function codeOfEnd(why: string): MptcpErrorCode {
  switch (why) {
    case 'refused':
      return 'ECONNREFUSED';
    case 'timeout':
    case 'no path for too long':
      return 'ETIMEDOUT';
    case 'unreachable':
      return 'EHOSTUNREACH';
    case 'aborted':
      return 'ECONNABORTED';
    default:
      return 'ECONNRESET';
  }
}

/** "192.0.2.1:80", "[2001:db8::1]:80". */
export function formatEndpoint({ address, port }: Endpoint): string {
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
}

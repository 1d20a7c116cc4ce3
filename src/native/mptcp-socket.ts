/**
 * A stream socket of the kernel's Multipath TCP (IPPROTO_MPTCP, Linux 5.6), which Node cannot open by itself, as an ordinary
 * net.Socket; plain TCP where the kernel has none. Needs no privilege.
 */
import { Socket } from 'node:net';
import type { IpAddress } from '../core/base/ip.js';
import { addon, check, SystemError } from './addon.js';
import { Poller, WRITABLE } from './poller.js';
import { keepUrgentInLine } from './urgent.js';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const IPPROTO_TCP = 6;
const IPPROTO_MPTCP = 262;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const TCP_INFO = 11;
/** Of struct tcp_info, 64 bits: what came in order, the FIN included. */
const BYTES_RECEIVED_AT = 128;
const SOL_MPTCP = 284;
const MPTCP_INFO = 1;
const ECONNRESET = 104;
const EINPROGRESS = 115;
const ECANCELED = 125;
/** How a kernel without Multipath TCP, or with it switched off, says so: EINVAL, ENOPROTOOPT, EPROTONOSUPPORT. */
const NO_MPTCP: ReadonlySet<number> = new Set([22, 92, 93]);

/**
 * A Multipath TCP socket that has become plain TCP loses what stands behind an urgent byte if the FIN comes before it was read
 * (seen with Linux 6.18), and says that the stream has ended. A stream that is cut off is broken, not ended.
 */
class MptcpSocket extends Socket {
  constructor(private readonly fd: number) {
    super({ fd, readable: true, writable: true, allowHalfOpen: true });
  }

  override push(chunk: Uint8Array | null, encoding?: BufferEncoding): boolean {
    if (chunk !== null || this.bytesRead + 1 >= plainBytesReceived(this.fd)) return super.push(chunk, encoding);
    this.destroy(new SystemError('read: the rest of the stream is lost', ECONNRESET));
    return false;
  }
}

/** In order, and its FIN; 0 where the peer speaks Multipath TCP, whose bytes have other ways as well, or nobody knows. */
function plainBytesReceived(fd: number): number {
  if (addon.getsockopt(fd, SOL_MPTCP, MPTCP_INFO, Buffer.alloc(64)) >= 0) return 0;
  const info = Buffer.alloc(BYTES_RECEIVED_AT + 8);
  if (addon.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info) < info.length) return 0;
  return Number(info.readBigUInt64LE(BYTES_RECEIVED_AT));
}

export interface KernelSocket {
  readonly socket: Socket;
  /** The socket is an MPTCP one; whether the peer agreed is another matter. */
  readonly isMptcp: boolean;
}

/** Connects to `address`:`port`. Throws SystemError with the kernel's reason; ECANCELED when `signal` aborts. */
export async function connectKernelMptcp(address: IpAddress, port: number, signal: AbortSignal): Promise<KernelSocket> {
  const family = address.family === 4 ? AF_INET : AF_INET6;
  let fd = addon.socket(family, SOCK_STREAM, IPPROTO_MPTCP);
  const isMptcp = !NO_MPTCP.has(-fd);
  if (!isMptcp) fd = addon.socket(family, SOCK_STREAM, IPPROTO_TCP);
  check(fd, 'socket');
  try {
    const rc = addon.connect(fd, socketAddress(address, port));
    if (rc < 0 && rc !== -EINPROGRESS) throw new SystemError(`connect to ${address.text}`, -rc);
    if (rc < 0) await writable(fd, signal);
    const error = Buffer.alloc(4);
    check(addon.getsockopt(fd, SOL_SOCKET, SO_ERROR, error), 'SO_ERROR');
    const errno = error.readInt32LE(0);
    if (errno !== 0) throw new SystemError(`connect to ${address.text}`, errno);
  } catch (err) {
    addon.close(fd);
    throw err;
  }
  // The socket owns the descriptor from here on.
  const socket = isMptcp
    ? new MptcpSocket(fd)
    : new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
  socket.setNoDelay(true);
  // Multipath TCP leaves urgent data where it is, and has no such option.
  if (!isMptcp) keepUrgentInLine(socket);
  return { socket, isMptcp };
}

function writable(fd: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (settle: () => void) => {
      signal.removeEventListener('abort', onAbort);
      poller.close();
      settle();
    };
    const onAbort = () => end(() => reject(new SystemError('connect', ECANCELED)));
    // An error is readiness, too: SO_ERROR tells.
    const poller = new Poller(fd, () => end(resolve));
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    poller.watch(WRITABLE);
  });
}

/** sockaddr_in, sockaddr_in6. */
function socketAddress({ family, bytes }: IpAddress, port: number): Uint8Array {
  const out = Buffer.alloc(family === 4 ? 16 : 28);
  out.writeUInt16LE(family === 4 ? AF_INET : AF_INET6, 0);
  out.writeUInt16BE(port, 2);
  out.set(bytes, family === 4 ? 4 : 8);
  return out;
}

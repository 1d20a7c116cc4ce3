/**
 * The addon's surface, typed, and the only place that loads it. Every function that makes a system call returns
 * -errno on failure; `check` turns that into a `SystemError`. Batches treat some errors as back-pressure instead.
 */
import { createRequire } from 'node:module';
import { endianness } from 'node:os';
import { fileURLToPath } from 'node:url';
import { getSystemErrorName } from 'node:util';

/** A libuv poll handle; opaque. */
export type PollHandle = { readonly __poll: unique symbol };

/** Key, certificate and settings of one side of TLS; opaque. */
export type TlsContextHandle = { readonly __tlsContext: unique symbol };
/** One end of a TLS connection; opaque. */
export type TlsHandle = { readonly __tls: unique symbol };

export interface Addon {
  open(path: string, flags: number): number;
  close(fd: number): number;
  read(fd: number, room: Uint8Array): number;
  write(fd: number, bytes: Uint8Array): number;
  /** Bytes by pointer (in and out), a number by value. */
  ioctl(fd: number, request: number, argument: Uint8Array | number): number;
  /** Non-blocking, close-on-exec. */
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, name: Uint8Array): number;
  connect(fd: number, name: Uint8Array): number;
  listen(fd: number, backlog: number): number;
  getsockname(fd: number, room: Uint8Array): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array): number;
  getsockopt(fd: number, level: number, option: number, room: Uint8Array): number;
  /** SO_ATTACH_FILTER: classic BPF, 8 bytes an instruction. */
  attachFilter(fd: number, program: Uint8Array): number;
  sendto(fd: number, bytes: Uint8Array, flags: number, name: Uint8Array | null): number;
  recv(fd: number, room: Uint8Array, flags: number): number;
  ifNameToIndex(name: string): number;
  /** Calling thread only. */
  setns(fd: number, type: number): number;
  unshare(flags: number): number;
  prctl(option: number, value: number): number;
  /** CLOCK_MONOTONIC, microseconds. */
  monotonicUs(): number;
  timerfdCreate(): number;
  /** Absolute deadline on monotonicUs's clock; 0 disarms. Clears a pending expiry. */
  timerfdSet(fd: number, deadlineUs: number): number;
  /** RFC 1071 sum of big-endian words, folded, not complemented, added to `initial`. */
  checksum(bytes: Uint8Array, offset: number, length: number, initial: number): number;
  /** Packet i to slab[i * slotBytes + leadBytes ..]. Count, 0 if there is nothing, or -errno. */
  receiveBatch(
    fd: number,
    flags: number,
    slab: Uint8Array,
    slotBytes: number,
    leadBytes: number,
    maxSlots: number,
    length: Int32Array,
    truncated: Uint8Array,
  ): number;
  /** Packets taken; 0 on EAGAIN/ENOBUFS for the first; -errno on any other error of the first. */
  sendBatch(
    fd: number,
    flags: number,
    heads: Uint8Array,
    headOffset: Int32Array,
    headLength: Int32Array,
    prefixBytes: number,
    parts: readonly Uint8Array[] | null,
    partStart: Int32Array | null,
    partOffset: Int32Array | null,
    partLength: Int32Array | null,
    from: number,
    to: number,
    names: Uint8Array | null,
    nameBytes: number,
    nameIndex: Uint8Array | null,
  ): number;
  pollOpen(fd: number, callback: (events: number) => void): PollHandle | number;
  pollStart(poll: PollHandle, events: number): number;
  pollRef(poll: PollHandle, on: number): number;
  pollClose(poll: PollHandle): number;
  /** TLS (addon/tls.c; `TlsEnd` is what to use). The first two throw what OpenSSL says. */
  tlsContext(
    isServer: number,
    key: Uint8Array,
    certificate: Uint8Array,
    alpn: string,
    sessionId: string,
    sessionS: number,
  ): TlsContextHandle;
  tlsOpen(context: TlsContextHandle, session: Uint8Array | null): TlsHandle;
  tlsDecrypt(
    end: TlsHandle,
    cipher: Uint8Array,
    cipherOffset: number,
    cipherBytes: number,
    plain: Uint8Array,
    plainOffset: number,
    plainBytes: number,
    result: Int32Array,
  ): number;
  tlsEncrypt(
    end: TlsHandle,
    plain: Uint8Array,
    plainOffset: number,
    plainBytes: number,
    cipher: Uint8Array,
    cipherOffset: number,
    cipherBytes: number,
  ): number;
  tlsTake(end: TlsHandle): Buffer | null;
  tlsEnd(end: TlsHandle): void;
  tlsClose(end: TlsHandle): void;
  tlsPeerKey(end: TlsHandle): Buffer | null;
  tlsSession(end: TlsHandle): Buffer | null;
  tlsIsResumed(end: TlsHandle): number;
  tlsAlpn(end: TlsHandle): string | null;
  tlsExport(end: TlsHandle, label: string, room: Uint8Array): boolean;
  tlsError(end: TlsHandle): string;
}

/** `receiveBatch`/`sendBatch`: the descriptor is a socket (recvmmsg/sendmmsg), else read/writev. */
export const BATCH_SOCKET = 1;

/** A system call failed. `code` is the errno's name ("EPERM"), `errno` its positive number. */
export class SystemError extends Error {
  readonly code: string;

  constructor(
    what: string,
    readonly errno: number,
  ) {
    const code = getSystemErrorName(-errno);
    super(`${what}: ${code}`);
    this.name = 'SystemError';
    this.code = code;
  }
}

/** `rc`, or a SystemError saying what was tried. */
export function check(rc: number, what: string): number {
  if (rc < 0) throw new SystemError(what, -rc);
  return rc;
}

function load(): Addon {
  if (endianness() !== 'LE') throw new Error('mptun: only little-endian hosts are supported');
  const require = createRequire(import.meta.url);
  const root = fileURLToPath(new URL('../../../', import.meta.url));
  const candidates = [
    `${root}build/mptun_native.node`,
    `${root}prebuilds/${process.platform}-${process.arch}/mptun_native.node`,
  ];
  const failures: string[] = [];
  for (const path of candidates) {
    try {
      return require(path) as Addon;
    } catch (error) {
      failures.push((error as Error).message.split('\n', 1)[0]!);
    }
  }
  throw new Error(`mptun: the native addon is missing; run "npm run native" (${failures.join('; ')})`);
}

export const addon: Addon = load();

/**
 * Keeps the host's own stack silent on ports that our stack uses (DESIGN 3.2). Without it the kernel would answer our
 * peers' segments with RST. One dual-stack listener per port with the filter `ret #0` swallows every segment, on any
 * host that lets segments through to it, and reserves the port. What a *rejecting* firewall needs besides is in
 * guard-table.ts.
 */

import type { Micros } from '../core/base/time.js';
import type { PortGuard } from '../core/engine/ports.js';
import { addon, check } from './addon.js';
import { rejectAll } from './bpf.js';
import { monotonicUs } from './poller.js';

/** Guards at once, held and lingering; each is a descriptor. Beyond it `acquire` throws. */
export const MAX_GUARDS = 8_192;
/** A released guard stays this long: segments of the old connection may still arrive (TIME-WAIT, RFC 9293 3.4.1). */
export const LINGER_US = 60_000_000;

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

/** All guards of one namespace. `onPorts` is told whenever the set of guarded ports has changed. */
export class GuardPool {
  readonly #fds = new Map<number, number>();
  /** Released ports and when their guard may go, oldest first. */
  readonly #lingering = new Map<number, Micros>();

  constructor(
    readonly onPorts: (ports: ReadonlySet<number>) => void = () => undefined,
    readonly nowUs: () => Micros = monotonicUs,
  ) {}

  /** Guards `port`, or a free one of the kernel's choosing (0). Throws SystemError EADDRINUSE if somebody has it. */
  acquire(port: number): PortGuard {
    if (this.#fds.size >= MAX_GUARDS) throw new RangeError(`more than ${MAX_GUARDS} guarded ports`);
    let guarded = port;
    if (this.#lingering.delete(port)) {
      // Taken again before its guard went.
    } else {
      const fd = openListener(port);
      guarded = portOf(fd);
      this.#fds.set(guarded, fd);
      this.onPorts(this.ports());
    }
    let isHeld = true;
    return {
      port: guarded,
      release: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#lingering.set(guarded, this.nowUs() + LINGER_US);
      },
    };
  }

  /** Every port guarded now, lingering ones included. */
  ports(): ReadonlySet<number> {
    return new Set(this.#fds.keys());
  }

  /** Lets go of what was released LINGER_US ago. Call every few seconds. */
  sweep(): void {
    const nowUs = this.nowUs();
    let hasChanged = false;
    for (const [port, dueUs] of this.#lingering) {
      if (nowUs < dueUs) break;
      this.#lingering.delete(port);
      addon.close(this.#fds.get(port)!);
      this.#fds.delete(port);
      hasChanged = true;
    }
    if (hasChanged) this.onPorts(this.ports());
  }

  close(): void {
    for (const fd of this.#fds.values()) addon.close(fd);
    this.#fds.clear();
    this.#lingering.clear();
  }
}

function openListener(port: number): number {
  const six = addon.socket(AF_INET6, SOCK_STREAM, 0);
  const isDual = six >= 0;
  // A host without IPv6 has nothing to keep silent there.
  const fd = isDual ? six : check(addon.socket(AF_INET, SOCK_STREAM, 0), 'guard socket');
  try {
    if (isDual) check(addon.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, new Uint8Array(4)), 'guard: dual stack');
    // Before listen: not one segment gets an answer.
    check(addon.attachFilter(fd, rejectAll()), 'guard filter');
    const name = Buffer.alloc(isDual ? 28 : 16);
    name.writeUInt16LE(isDual ? AF_INET6 : AF_INET, 0);
    name.writeUInt16BE(port, 2);
    check(addon.bind(fd, name), `guard port ${port}`);
    check(addon.listen(fd, 1), `guard port ${port}`);
    return fd;
  } catch (error) {
    addon.close(fd);
    throw error;
  }
}

function portOf(fd: number): number {
  const name = Buffer.alloc(28);
  check(addon.getsockname(fd, name), 'guard port');
  return name.readUInt16BE(2);
}

/**
 * Keeps the host's own stack silent on ports that our stack uses (DESIGN 3.2). Without it the kernel would answer our
 * peers' segments with RST. One dual-stack listener per port with the filter `ret #0` swallows every segment, on any
 * host that lets segments through to it, and reserves the port. What a *rejecting* firewall needs besides is in
 * guard-table.ts.
 */
import { randomInt } from 'node:crypto';
import type { Micros } from '../core/base/time.js';
import type { PortGuard } from '../core/engine/ports.js';
import { addon, check } from './addon.js';
import { rejectAll } from './bpf.js';
import { monotonicUs } from './poller.js';

/** Guards at once, held and lingering; each is a descriptor. Beyond it `acquire` throws. */
export const MAX_GUARDS = 8_192;
/** A released guard stays this long: segments of the old connection may still arrive (TIME-WAIT, RFC 9293 3.4.1). */
export const LINGER_US = 60_000_000;

/** Neighbouring ports that are opened at once, at most: as many as are guarded already. */
const MAX_BLOCK = 64;
/** Once so many ports linger, the oldest of them is used again before further ones are opened. */
const REUSE_ABOVE = 512;

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

/** Ports that were opened together, and are let go of together. */
interface Block {
  readonly ports: readonly number[];
  /** Held or lingering. */
  busy: number;
}

/**
 * All guards of one namespace. `onPorts` is told whenever the set of guarded ports has changed. Who asks for any port gets one
 * out of a block of neighbours, and blocks are larger the more ports are in use: a packet socket's filter counts ranges, and
 * each change of the set is some work.
 */
export class GuardPool {
  readonly #fds = new Map<number, number>();
  readonly #blocks = new Map<number, Block>();
  /** Of blocks, in nobody's hands. */
  readonly #spare: number[] = [];
  /** Released ports and when their guard may go, oldest first. */
  readonly #lingering = new Map<number, Micros>();

  constructor(
    readonly onPorts: (ports: ReadonlySet<number>) => void = () => undefined,
    readonly nowUs: () => Micros = monotonicUs,
  ) {}

  /** Guards `port`, or a free one of the kernel's choosing (0). Throws SystemError EADDRINUSE if somebody has it. */
  acquire(port: number): PortGuard {
    const guarded = port === 0 ? this.#any() : port;
    // Taken again before its guard went, or opened with a neighbour.
    const isKnown = this.#lingering.delete(guarded);
    const spareAt = isKnown ? -1 : this.#spare.indexOf(guarded);
    if (spareAt >= 0) this.#spare.splice(spareAt, 1);
    if (!isKnown && spareAt < 0) {
      this.#open(guarded, 1);
      this.#spare.pop();
    }
    if (!isKnown) this.#blocks.get(guarded)!.busy++;
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

  /** Every port guarded now, lingering and spare ones included. */
  ports(): ReadonlySet<number> {
    return new Set(this.#fds.keys());
  }

  /** Lets go of blocks of which the last port was released LINGER_US ago. Call every few seconds. */
  sweep(): void {
    const nowUs = this.nowUs();
    const idle = new Set<Block>();
    for (const [port, dueUs] of this.#lingering) {
      if (nowUs < dueUs) break;
      this.#lingering.delete(port);
      this.#spare.push(port);
      const block = this.#blocks.get(port)!;
      if (--block.busy === 0) idle.add(block);
    }
    for (const { ports } of idle) {
      for (const port of ports) {
        addon.close(this.#fds.get(port)!);
        this.#fds.delete(port);
        this.#blocks.delete(port);
        this.#spare.splice(this.#spare.indexOf(port), 1);
      }
    }
    if (idle.size > 0) this.onPorts(this.ports());
  }

  close(): void {
    for (const fd of this.#fds.values()) addon.close(fd);
    this.#fds.clear();
    this.#blocks.clear();
    this.#spare.length = 0;
    this.#lingering.clear();
  }

  /** A port that nobody holds; at random among those there are, so that the next one cannot be foretold (RFC 6056 3). */
  #any(): number {
    if (this.#spare.length === 0 && this.#lingering.size >= REUSE_ABOVE) {
      // Timestamps keep the old connection's segments apart from the new one's (RFC 6191 2).
      const [port] = this.#lingering.keys();
      return port!;
    }
    if (this.#spare.length === 0) this.#open(0, Math.min(MAX_BLOCK, Math.max(1, this.#fds.size)));
    return this.#spare[randomInt(this.#spare.length)]!;
  }

  /** Opens `port` (0: any) and up to `count` - 1 neighbours that are free; they are spare ones then. */
  #open(port: number, count: number): void {
    if (this.#fds.size >= MAX_GUARDS) throw new RangeError(`more than ${MAX_GUARDS} guarded ports`);
    const ports: number[] = [];
    const block: Block = { ports, busy: 0 };
    for (let i = 0; i < count; i++) {
      let fd: number;
      try {
        fd = openListener(i === 0 ? port : ports[0]! + i);
      } catch (error) {
        if (i === 0) throw error;
        break; // somebody has the neighbour, or there is none
      }
      const opened = portOf(fd);
      ports.push(opened);
      this.#fds.set(opened, fd);
      this.#blocks.set(opened, block);
      this.#spare.push(opened);
    }
    this.onPorts(this.ports());
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

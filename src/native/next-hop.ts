/**
 * Link addresses of next hops on one Ethernet-like interface. The kernel resolves, probes and expires neighbours; here
 * is a cache of its answers that the packet path reads without allocating:
 *
 *   destination (4 or 16 bytes) -> Neighbour -> hardware address
 *
 * Packets that bypass the kernel's stack do not keep its entries alive, so whatever is in use is announced with NTF_USE
 * again and again: a gateway that changes its address, or fails, is noticed by the kernel's own probing (RFC 4861 7.3).
 */
import { type Family, type IpAddress, ipFromBytes } from '../core/base/ip.js';
import { type Micros, NEVER } from '../core/base/time.js';
import { type NetlinkEvent, NetlinkMonitor, NUD_FAILED, NUD_VALID, Rtnetlink } from './netlink/index.js';

/** Cached destinations; when full the cache is emptied (everything in it can be asked again). */
export const MAX_DESTINATIONS = 4_096;
/** A neighbour in use is announced to the kernel this often. */
export const REFRESH_US = 5_000_000;
/** While a neighbour is unknown, packets to it wait this long, and are then dropped until it is resolved. */
export const RESOLVE_PATIENCE_US = 1_000_000;
/** A neighbour or route that failed is tried again after this. */
const RETRY_US = 1_000_000;

const MAC_BYTES = 6;

/** `lookup` found no hardware address: */
export const HOP_WAIT = 1; // resolution is under way; try again when `onChange` says so
export const HOP_DROP = 2; // no route, or it does not answer

interface Hop {
  readonly address: IpAddress;
  readonly mac: Uint8Array;
  isValid: boolean;
  /** Since when packets have waited for it; NEVER while none do. */
  awaitedSinceUs: Micros;
  /** When the kernel was told of its use last. */
  announcedUs: Micros;
}

interface Destination {
  readonly family: Family;
  readonly bytes: Uint8Array;
  /** null: there is no route. */
  readonly hop: Hop | null;
  readonly lookedUpUs: Micros;
  /** The next of the same hash. */
  readonly chain: Destination | null;
}

export class NextHops {
  readonly #netlink = new Rtnetlink();
  readonly #monitor: NetlinkMonitor;
  readonly #hops = new Map<string, Hop>();
  readonly #destinations = new Map<number, Destination>();
  #count = 0;
  #last: Destination | null = null;

  /** Opens in the caller's namespace. `onChange`: a lookup that said HOP_WAIT or HOP_DROP may answer differently now. */
  constructor(
    readonly interfaceIndex: number,
    readonly onChange: () => void,
  ) {
    this.#monitor = new NetlinkMonitor(['neighbour', 'route', 'address', 'rule'], (event) => this.#onEvent(event));
  }

  /**
   * The hardware address for the packet whose destination is at `at` in `buf` (lent until the next call), or HOP_WAIT or
   * HOP_DROP. The source, as long, is at `sourceAt`: the kernel's rules may route by it.
   */
  lookup(buf: Uint8Array, sourceAt: number, at: number, family: Family, nowUs: Micros): Uint8Array | number {
    const last = this.#last;
    const destination =
      last !== null && matches(last, buf, at, family) ? last : this.#find(buf, sourceAt, at, family, nowUs);
    this.#last = destination;
    const hop = destination.hop;
    if (hop === null) {
      if (nowUs - destination.lookedUpUs > RETRY_US) this.forget();
      return HOP_DROP;
    }
    if (nowUs - hop.announcedUs >= (hop.isValid ? REFRESH_US : RETRY_US)) this.#announce(hop, nowUs);
    if (hop.isValid) return hop.mac;
    if (hop.awaitedSinceUs === NEVER) hop.awaitedSinceUs = nowUs;
    return nowUs - hop.awaitedSinceUs < RESOLVE_PATIENCE_US ? HOP_WAIT : HOP_DROP;
  }

  /** Drops everything cached; the kernel is asked again. */
  forget(): void {
    this.#destinations.clear();
    this.#hops.clear();
    this.#count = 0;
    this.#last = null;
  }

  /** Whether following the kernel keeps the process alive. */
  setRef(on: boolean): void {
    this.#monitor.setRef(on);
  }

  close(): void {
    this.#monitor.close();
    this.#netlink.close();
  }

  #find(buf: Uint8Array, sourceAt: number, at: number, family: Family, nowUs: Micros): Destination {
    const hash = hashOf(buf, at, family);
    const head = this.#destinations.get(hash) ?? null;
    for (let d = head; d !== null; d = d.chain) if (matches(d, buf, at, family)) return d;

    if (this.#count >= MAX_DESTINATIONS) this.forget();
    const address = ipFromBytes(buf, at, family);
    const route = this.#netlink.nextHop(this.interfaceIndex, address, ipFromBytes(buf, sourceAt, family));
    const destination: Destination = {
      family,
      bytes: address.bytes,
      hop: route === null ? null : this.#hopFor(route.address),
      lookedUpUs: nowUs,
      chain: this.#destinations.get(hash) ?? null,
    };
    this.#destinations.set(hash, destination);
    this.#count++;
    return destination;
  }

  #hopFor(address: IpAddress): Hop {
    const known = this.#hops.get(address.text);
    if (known !== undefined) return known;
    const entry = this.#netlink.neighbour(this.interfaceIndex, address);
    const hop: Hop = {
      address,
      mac: new Uint8Array(MAC_BYTES),
      isValid: false,
      awaitedSinceUs: NEVER,
      announcedUs: Number.NEGATIVE_INFINITY,
    };
    if (entry !== null) learn(hop, entry.mac, entry.state);
    this.#hops.set(address.text, hop);
    return hop;
  }

  #announce(hop: Hop, nowUs: Micros): void {
    hop.announcedUs = nowUs;
    try {
      this.#netlink.useNeighbour(this.interfaceIndex, hop.address);
    } catch {
      // The interface is going down, or the neighbour table is full: as if it did not answer.
      hop.isValid = false;
    }
  }

  #onEvent(event: NetlinkEvent): void {
    switch (event.type) {
      case 'neighbour':
      case 'neighbour-removed': {
        if (event.neighbour.interfaceIndex !== this.interfaceIndex) return;
        const hop = this.#hops.get(event.neighbour.address.text);
        if (hop === undefined) return;
        const wasValid = hop.isValid;
        learn(hop, event.neighbour.mac, event.type === 'neighbour' ? event.neighbour.state : NUD_FAILED);
        // Lost: have it resolved anew at the next use.
        if (wasValid && !hop.isValid) hop.announcedUs = Number.NEGATIVE_INFINITY;
        if (!wasValid && hop.isValid) this.onChange();
        return;
      }
      default:
        // Routes, addresses or rules changed (or events were lost): every answer may be different.
        this.forget();
        this.onChange();
    }
  }
}

function learn(hop: Hop, mac: Uint8Array, state: number): void {
  hop.isValid = (state & NUD_VALID) !== 0 && mac.length === MAC_BYTES;
  if (!hop.isValid) return;
  hop.mac.set(mac);
  hop.awaitedSinceUs = NEVER;
}

function matches(d: Destination, buf: Uint8Array, at: number, family: Family): boolean {
  if (d.family !== family) return false;
  const bytes = d.bytes;
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== buf[at + i]) return false;
  return true;
}

/** FNV-1a over the address, as a small integer. */
function hashOf(buf: Uint8Array, at: number, family: Family): number {
  let hash = 0x811c9dc5 | 0;
  for (let i = family === 4 ? 4 : 16; i > 0; i--) hash = Math.imul(hash ^ buf[at++]!, 0x01000193);
  return hash;
}

/**
 * Address ids of both ends (RFC 8684 3.2, 3.4): which id stands for which address, what we have announced and whether it
 * was echoed, what the peer has announced. Per connection; ids are recycled once removed. Soft state only.
 */
import { type IpAddress, ipEquals } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import type { Endpoint } from '../engine/api.js';

/** Addresses remembered per connection and direction; further announcements are ignored (and counted). */
export const MAX_ADDRESSES = 32;
/** An ADD_ADDR without an echo is repeated after this long, doubling, at most so often (3.4.1 leaves it to us). */
export const ADD_ADDR_RETRY_US: Micros = 1_000_000;
export const ADD_ADDR_TRIES = 4;

export interface Announcement {
  readonly addressId: number;
  readonly address: IpAddress;
  /** -1: the port of the connection. */
  readonly port: number;
  tries: number;
  /** When to repeat; NEVER once echoed or given up. */
  atUs: Micros;
}

/** An address of the peer's: announced, or seen as the source of a join of its (then it may be a translator's). */
interface RemoteAddress {
  readonly endpoint: Endpoint;
  readonly isObserved: boolean;
}

export class AddressBook {
  private readonly localIds = new Map<string, number>();
  private readonly remote = new Map<number, RemoteAddress>();
  readonly announcements: Announcement[] = [];

  /** The initial subflow's addresses have id 0 at both ends. */
  setInitial(local: IpAddress, remote: Endpoint): void {
    this.localIds.set(local.text, 0);
    this.remote.set(0, { endpoint: remote, isObserved: false });
  }

  /**
   * Id of a local address, assigned at first use; -1 when all 255 are taken. Of more than MAX_ADDRESSES the oldest that is
   * neither announced nor, by `isInUse`, that of a subflow gives up its id: leases come and go for as long as a connection
   * lives.
   */
  localId(address: IpAddress, isInUse: (addressId: number) => boolean = () => true): number {
    const known = this.localIds.get(address.text);
    if (known !== undefined) return known;
    if (this.localIds.size >= MAX_ADDRESSES) this.recycle(isInUse);
    const used = new Set(this.localIds.values());
    for (let id = 1; id <= 255; id++) {
      if (used.has(id)) continue;
      this.localIds.set(address.text, id);
      return id;
    }
    return -1;
  }

  private recycle(isInUse: (addressId: number) => boolean): void {
    for (const [text, id] of this.localIds) {
      if (id === 0 || isInUse(id) || this.announcements.some((a) => a.addressId === id)) continue;
      this.localIds.delete(text);
      return;
    }
  }

  /** Local addresses that have an id. */
  get localCount(): number {
    return this.localIds.size;
  }

  /** Addresses that the peer has announced and we have taken. */
  get acceptedCount(): number {
    let count = 0;
    for (const [id, { isObserved }] of this.remote) if (id !== 0 && !isObserved) count++;
    return count;
  }

  releaseLocal(addressId: number): void {
    for (const [text, id] of this.localIds) if (id === addressId) this.localIds.delete(text);
    this.retract(addressId);
  }

  /** The announcement of an id is not repeated any more. */
  retract(addressId: number): void {
    const i = this.announcements.findIndex((a) => a.addressId === addressId);
    if (i >= 0) this.announcements.splice(i, 1);
  }

  remoteEndpoint(addressId: number): Endpoint | undefined {
    return this.remote.get(addressId)?.endpoint;
  }

  remoteIdOf(endpoint: Endpoint): number {
    for (const [id, { endpoint: e }] of this.remote) {
      if (ipEquals(e.address, endpoint.address) && e.port === endpoint.port) return id;
    }
    return -1;
  }

  /** MP_JOIN came from this endpoint under this id (3.4.1: such ids are stored as well). */
  observe(addressId: number, endpoint: Endpoint): void {
    const known = this.remote.get(addressId);
    if (known === undefined ? this.remote.size >= MAX_ADDRESSES : !known.isObserved) return;
    this.remote.set(addressId, { endpoint, isObserved: true });
  }

  /**
   * The peer announces that `addressId` is this endpoint. 'new', 'known', 'conflict' (an id keeps its address until removed;
   * its port may change, which counts as 'new') or 'full'.
   */
  learn(addressId: number, endpoint: Endpoint): 'new' | 'known' | 'conflict' | 'full' {
    const known = this.remote.get(addressId);
    if (known !== undefined && !known.isObserved) {
      if (!ipEquals(known.endpoint.address, endpoint.address)) return 'conflict';
      if (known.endpoint.port === endpoint.port) return 'known';
    } else if (known === undefined && this.remote.size >= MAX_ADDRESSES) return 'full';
    this.remote.set(addressId, { endpoint, isObserved: false });
    return 'new';
  }

  /** Ids of all that the peer has announced or joined from, but for the initial address. */
  remoteIds(): number[] {
    return [...this.remote.keys()].filter((id) => id !== 0);
  }

  forgetRemote(addressId: number): boolean {
    return this.remote.delete(addressId);
  }

  onEcho(addressId: number): void {
    for (const a of this.announcements) if (a.addressId === addressId) a.atUs = NEVER;
  }

  nextDeadline(): Micros {
    let at = NEVER;
    for (const a of this.announcements) at = Math.min(at, a.atUs);
    return at;
  }
}

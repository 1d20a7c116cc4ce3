/**
 * Names of addresses, learnt from what name servers answer to applications (DNS over UDP that comes out of the tunnel), and
 * from proxies' clients, who ask by name. A name reached through a chain of CNAMEs is a name of the address, and so is each link of it.
 * Bounded: the address that was told longest ago goes first.
 */
import type { IpAddress } from '../../core/base/ip.js';
import type { Micros } from '../../core/base/time.js';
import { parseNames } from '../dns-message.js';

/** Addresses that are remembered, and names of each. */
export const MAX_ADDRESSES = 4_096;
export const MAX_NAMES = 16;
/** Applications use an address longer than its TTL; and nobody needs to be believed for days. */
const MIN_TTL_S = 60;
const MAX_TTL_S = 86_400;

interface Entry {
  /** Newest last; with when it is forgotten. */
  readonly names: Map<string, Micros>;
}

export class DomainTable {
  /** By address; in the order in which they were last told. */
  private readonly byAddress = new Map<string, Entry>();
  readonly counters = { answers: 0, malformed: 0, names: 0, evicted: 0 };
  /** A name was told of an address (again). */
  onLearnt: (address: IpAddress, names: readonly string[], untilUs: Micros) => void = () => {};

  /** What a name server said: the payload of a UDP datagram from port 53. */
  learn(nowUs: Micros, message: Uint8Array): void {
    const answer = parseNames(message);
    if (answer === null) {
      this.counters.malformed++;
      return;
    }
    this.counters.answers++;
    for (const { address, ttlS, names } of answer) {
      this.tell(nowUs, address, names, nowUs + Math.min(MAX_TTL_S, Math.max(MIN_TTL_S, ttlS)) * 1_000_000);
    }
  }

  /** `name` was asked for and led to `address`. */
  note(nowUs: Micros, address: IpAddress, name: string): void {
    this.tell(nowUs, address, [name.toLowerCase().replace(/\.$/, '')], nowUs + MIN_TTL_S * 1_000_000);
  }

  /** Names of the address, the newest first. */
  names(nowUs: Micros, address: IpAddress): string[] {
    const entry = this.byAddress.get(address.text);
    if (entry === undefined) return [];
    const names: string[] = [];
    for (const [name, untilUs] of entry.names) {
      if (untilUs > nowUs) names.unshift(name);
      else entry.names.delete(name);
    }
    if (entry.names.size === 0) this.byAddress.delete(address.text);
    return names;
  }

  get size(): number {
    return this.byAddress.size;
  }

  /** `names`: the one that was asked for first. */
  private tell(nowUs: Micros, address: IpAddress, names: readonly string[], untilUs: Micros): void {
    const entry = this.byAddress.get(address.text) ?? { names: new Map<string, Micros>() };
    this.byAddress.delete(address.text);
    this.byAddress.set(address.text, entry);
    for (const name of [...names].reverse()) {
      const before = entry.names.get(name) ?? 0;
      entry.names.delete(name);
      entry.names.set(name, Math.max(before, untilUs));
      this.counters.names++;
    }
    for (const name of entry.names.keys()) {
      if (entry.names.size <= MAX_NAMES) break;
      entry.names.delete(name);
    }
    if (this.byAddress.size > MAX_ADDRESSES) {
      this.byAddress.delete(this.byAddress.keys().next().value!);
      this.counters.evicted++;
    }
    this.onLearnt(address, this.names(nowUs, address), untilUs);
  }
}

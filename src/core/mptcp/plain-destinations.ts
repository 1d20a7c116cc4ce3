/**
 * Destinations that answer plain TCP but not MPTCP (RFC 8684 3.9.3: middleboxes that drop SYNs with unknown options):
 * connections there begin without MPTCP for a while, rather than each wait for its SYNs to be lost. By link as well, for
 * the box is on the path; a link that gets other addresses is another network and begins anew.
 */
import type { IpAddress } from '../base/ip.js';
import { type Micros, US_PER_S } from '../base/time.js';

/** Destinations remembered; when full, the one noted longest ago is forgotten. */
export const MAX_PLAIN_DESTINATIONS = 256;
/** How long the first time (SYNs are lost by chance, too), doubling each time that it proves true again. */
export const PLAIN_FIRST_US: Micros = 60 * US_PER_S;
export const PLAIN_LONGEST_US: Micros = 3600 * US_PER_S;

interface Entry {
  readonly linkId: number;
  readonly untilUs: Micros;
  readonly forUs: Micros;
}

export class PlainDestinations {
  /** Oldest note first. Entries outlive their time, so that the next one is longer. */
  private readonly entries = new Map<string, Entry>();

  get size(): number {
    return this.entries.size;
  }

  /** A connection to `address` over this link had better begin without MPTCP. */
  has(nowUs: Micros, linkId: number, address: IpAddress): boolean {
    const entry = this.entries.get(keyOf(linkId, address));
    return entry !== undefined && nowUs < entry.untilUs;
  }

  /** SYNs with MPTCP went unanswered, and one without was answered. */
  note(nowUs: Micros, linkId: number, address: IpAddress): void {
    const key = keyOf(linkId, address);
    const before = this.entries.get(key);
    const forUs = before === undefined ? PLAIN_FIRST_US : Math.min(2 * before.forUs, PLAIN_LONGEST_US);
    this.entries.delete(key);
    if (this.entries.size >= MAX_PLAIN_DESTINATIONS) this.entries.delete(this.entries.keys().next().value!);
    this.entries.set(key, { linkId, untilUs: nowUs + forUs, forUs });
  }

  /** A SYN with MPTCP was answered in kind. */
  forget(linkId: number, address: IpAddress): void {
    this.entries.delete(keyOf(linkId, address));
  }

  forgetLink(linkId: number): void {
    for (const [key, entry] of this.entries) if (entry.linkId === linkId) this.entries.delete(key);
  }
}

function keyOf(linkId: number, address: IpAddress): string {
  return `${linkId} ${address.text}`;
}

/** The limits of links: what may leave over each, by whatever connection. A link is named as its owner likes. */
import type { Micros } from '../core/base/time.js';
import { RateLimit } from '../core/tcp/rate-limit.js';

export class LinkLimits<Name> {
  private readonly limits = new Map<Name, RateLimit>();

  /** The one limit of this link at `bytesPerS` from now on, for all of its subflows; 0 or Infinity: none, null. */
  of(nowUs: Micros, name: Name, bytesPerS: number): RateLimit | null {
    if (bytesPerS === 0 || bytesPerS === Number.POSITIVE_INFINITY) {
      this.limits.delete(name);
      return null;
    }
    let limit = this.limits.get(name);
    if (limit === undefined) this.limits.set(name, (limit = new RateLimit(bytesPerS)));
    else if (limit.rateBytesPerS !== bytesPerS) limit.setRate(nowUs, bytesPerS);
    return limit;
  }

  /** Links with other names are gone. */
  keepOnly(names: readonly Name[]): void {
    for (const name of this.limits.keys()) if (!names.includes(name)) this.limits.delete(name);
  }
}

/**
 * Cookies of a converter (RFC 8803 6.2.7, RFC 7413 4.1.2): a keyed hash of the client's address, so that nothing is stored and
 * only who receives at that address can have one. The secret moves on; a cookie of the epoch before is still good.
 */
import type { CoreEnv } from '../base/env.js';
import type { IpAddress } from '../base/ip.js';
import { type Micros, US_PER_S } from '../base/time.js';

/** A multiple of 4: padding cannot be told from a cookie's own bytes. */
const COOKIE_BYTES = 16;
const SECRET_BYTES = 32;
/** How long a secret gives cookies; they are taken for up to twice as long. */
const EPOCH_US: Micros = 24 * 3600 * US_PER_S;

/** What a converter asks cookies of. */
export interface CookieJar {
  /** One for this client, or null: they are given out otherwise (configured on the client). */
  cookieFor(nowUs: Micros, client: IpAddress): Uint8Array | null;
  isValid(nowUs: Micros, client: IpAddress, cookie: Uint8Array): boolean;
}

export class ComputedCookies implements CookieJar {
  private readonly secret = new Uint8Array(SECRET_BYTES);

  constructor(private readonly env: CoreEnv) {
    env.randomBytes(this.secret);
  }

  cookieFor(nowUs: Micros, client: IpAddress): Uint8Array {
    return this.cookieOf(Math.floor(nowUs / EPOCH_US), client);
  }

  isValid(nowUs: Micros, client: IpAddress, cookie: Uint8Array): boolean {
    const epoch = Math.floor(nowUs / EPOCH_US);
    return isSame(cookie, this.cookieOf(epoch, client)) || isSame(cookie, this.cookieOf(epoch - 1, client));
  }

  private cookieOf(epoch: number, client: IpAddress): Uint8Array {
    const data = new Uint8Array(8 + client.bytes.length);
    new DataView(data.buffer).setFloat64(0, epoch);
    data.set(client.bytes, 8);
    return this.env.hmacSha256(this.secret, data).slice(0, COOKIE_BYTES);
  }
}

/** Cookies that were given to the clients by other means; they prove who one is, not where. */
export class ConfiguredCookies implements CookieJar {
  private readonly cookies: readonly Uint8Array[];

  constructor(cookies: readonly Uint8Array[]) {
    this.cookies = cookies.map(padded);
  }

  cookieFor(): null {
    return null;
  }

  isValid(_nowUs: Micros, _client: IpAddress, cookie: Uint8Array): boolean {
    let isKnown = false;
    for (const each of this.cookies) if (isSame(each, cookie)) isKnown = true;
    return isKnown;
  }
}

/** As it arrives: zero padded to whole words. */
function padded(cookie: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.ceil(cookie.length / 4) * 4);
  out.set(cookie);
  return out;
}

/** In time that does not tell where they differ. */
function isSame(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

/**
 * What a client remembers of one converter from one connection to the next: the cookie (RFC 8803 6.2.8, one for each address
 * of ours, which it is bound to), the version, what it supports, how long to leave it alone, and which servers speak MPTCP
 * themselves (5.1), so that the next connection can go there without it.
 */
import { type Micros, NEVER, US_PER_S } from '../base/time.js';
import { type ConvertFailure, commonVersion } from './client.js';
import { CONVERT_VERSION, CONVERT_VERSIONS, KIND_MPTCP, MAX_MESSAGE_BYTES } from './message.js';
import { parseOptions } from './parse.js';

/** RFC 8803 6.2.8: where Errors 64 and 65 say nothing. */
export const DEFAULT_WAIT_US: Micros = 30 * US_PER_S;
/** A network that takes data out of SYNs, or a converter that speaks no version of ours: we look again after this. */
export const UNUSABLE_US: Micros = 600 * US_PER_S;
/** That a server speaks MPTCP is believed this long. */
const SERVER_LIFETIME_US: Micros = 24 * 3600 * US_PER_S;
/** Servers remembered; the oldest go first. */
export const MAX_SERVERS = 4096;
/** Addresses of ours with a cookie; the oldest go first. */
export const MAX_COOKIES = 64;
/** Longer ones leave no room for the rest of a message, and are not kept. */
const MAX_COOKIE_BYTES = MAX_MESSAGE_BYTES - 256;

/** What to do about a failure. 'again': at once, with what we know now. */
export type AfterFailure = 'again' | 'give-up';

export class ConverterKnowledge {
  version = CONVERT_VERSION;
  /** Option kinds for Connect that the converter takes; null: not asked yet. */
  supportedKinds: readonly number[] | null = null;
  /** No connection before this. */
  blockedUntilUs: Micros = 0;
  blockedBecause = '';
  /** It is the network that is to blame. */
  private isNetworks = false;
  private readonly cookies = new Map<string, Uint8Array>();
  private readonly servers = new Map<string, Micros>();
  private readonly refusedKinds = new Set<number>();

  /** `cookie`: configured, and not to be replaced; null: as the converter gives them. */
  constructor(private readonly configuredCookie: Uint8Array | null = null) {}

  isBlocked(nowUs: Micros): boolean {
    return nowUs < this.blockedUntilUs;
  }

  cookieFor(localAddress: string): Uint8Array | null {
    return this.configuredCookie ?? this.cookies.get(localAddress) ?? null;
  }

  /** The converter takes this option kind in Connect, as far as we know. */
  mayAskFor(kind: number): boolean {
    return !this.refusedKinds.has(kind) && (this.supportedKinds === null || this.supportedKinds.includes(kind));
  }

  /** `localAddress` is where the request came from, `cookie` what it held. */
  onFailure(nowUs: Micros, failure: ConvertFailure, localAddress: string, cookie: Uint8Array | null): AfterFailure {
    switch (failure.why) {
      case 'missing-cookie':
        // With a cookie in the request the converter contradicts itself.
        if (cookie !== null || failure.cookie.length === 0 || failure.cookie.length > MAX_COOKIE_BYTES)
          return 'give-up';
        this.cookies.delete(localAddress);
        this.cookies.set(localAddress, failure.cookie);
        dropOldest(this.cookies, MAX_COOKIES);
        return 'again';
      case 'not-authorized':
        // It may be the cookie, which holds for a time only: once more, to be given a new one.
        return this.cookies.get(localAddress) === cookie && this.cookies.delete(localAddress) ? 'again' : 'give-up';
      case 'unsupported-version': {
        const version = commonVersion(CONVERT_VERSIONS, failure.versions);
        if (version < 0 || version === this.version) {
          this.block(nowUs, UNUSABLE_US, 'it speaks no version of the protocol that we know');
          return 'give-up';
        }
        this.version = version;
        return 'again';
      }
      case 'unsupported-options':
        if (failure.kinds.every((kind) => this.refusedKinds.has(kind))) return 'give-up';
        for (const kind of failure.kinds) this.refusedKinds.add(kind);
        return 'again';
      case 'exhausted':
      case 'network-failure':
        this.block(nowUs, failure.waitS > 0 ? failure.waitS * US_PER_S : DEFAULT_WAIT_US, failure.why);
        return 'give-up';
      default:
        return 'give-up';
    }
  }

  /** The SYN/ACK did not acknowledge what the SYN carried: something on the way meddles, and we MUST stop here (8). */
  onSynDataLost(nowUs: Micros): void {
    this.block(nowUs, UNUSABLE_US, 'the network takes the data out of SYNs');
    this.isNetworks = true;
  }

  /** The network is another one. */
  onNetworkChange(): void {
    if (this.isNetworks) this.blockedUntilUs = 0;
  }

  /** Options of the server's SYN/ACK as the converter told them. */
  onServerOptions(nowUs: Micros, server: string, options: Uint8Array): void {
    this.servers.delete(server);
    const parsed = parseOptions(options, 0, options.length);
    if (parsed === 'tcp-option' || !parsed.some(({ kind }) => kind === KIND_MPTCP)) return;
    this.servers.set(server, nowUs + SERVER_LIFETIME_US);
    dropOldest(this.servers, MAX_SERVERS);
  }

  /** The server (address and port, as text) speaks MPTCP itself: no need of a converter. */
  speaksMptcp(nowUs: Micros, server: string): boolean {
    return nowUs < (this.servers.get(server) ?? -NEVER);
  }

  /** Going there directly did not come to MPTCP. */
  forgetServer(server: string): void {
    this.servers.delete(server);
  }

  get serverCount(): number {
    return this.servers.size;
  }

  private block(nowUs: Micros, forUs: Micros, why: string): void {
    this.blockedUntilUs = Math.max(this.blockedUntilUs, nowUs + forUs);
    this.blockedBecause = why;
    this.isNetworks = false;
  }
}

function dropOldest(map: Map<string, unknown>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) return;
    map.delete(key);
  }
}

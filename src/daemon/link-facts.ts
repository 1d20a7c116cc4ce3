/**
 * What is known of one network interface of this host: the value that path rules match on (link-match.ts), that the path
 * manager is told of, and that the status shows. Whatever nobody knows is null; nothing here is ever required to be known.
 */
import type { LinkType } from '../config/types.js';
import type { Family, IpAddress } from '../core/base/ip.js';

/** What NetworkManager's connectivity check found. `portal`: a login page answers in place of the Internet. */
export type Connectivity = 'full' | 'limited' | 'portal' | 'none';

export interface DefaultRoute {
  readonly family: Family;
  /** null: the route needs none (raw IP, PPP). */
  readonly gateway: IpAddress | null;
  readonly metric: number;
}

export interface LinkFacts {
  /** Interface index: what makes it the same link, whatever it is called. */
  readonly id: number;
  readonly name: string;
  readonly type: LinkType;
  /** Hardware address, lower case with colons; null where there is none. */
  readonly mac: string | null;
  /** The one burnt in, where the present one was made up for privacy; null: unknown or none. */
  readonly permanentMac: string | null;
  readonly mtuBytes: number;
  /** Switched on by the administrator. */
  readonly isEnabled: boolean;
  /** Packets can pass (IFF_RUNNING: on, with carrier, not dormant). */
  readonly hasCarrier: boolean;
  /** Usable as sources: neither link-local, nor tentative, nor deprecated; preferred ones first. */
  readonly addresses: readonly IpAddress[];
  /** Best first. Empty where routes are not followed (server). */
  readonly defaultRoutes: readonly DefaultRoute[];
  /** Carrier, an address, and (client) a route to the server. Whether something answers is the path manager's business. */
  readonly isUp: boolean;
  /** Why not, in words; null when it is up. */
  readonly whyDown: string | null;
  /** Of the WiFi network it is in. */
  readonly ssid: string | null;
  /** As last sampled. */
  readonly signalDbm: number | null;
  /** NetworkManager's word on whether traffic costs money. */
  readonly isMetered: boolean | null;
  readonly connectivity: Connectivity | null;
  /**
   * Why it is none of the host's own ways to the Internet (a bridge, a tunnel, the host end of a container), or null: only
   * a rule that gives its very name or MAC takes such a link.
   */
  readonly whyVirtual: string | null;
}

/** It can ask a name server, whatever the tunnel's server's addresses as last known. */
export function hasAddress(link: LinkFacts): boolean {
  return link.hasCarrier && link.addresses.length > 0;
}

/** What rtnetlink tells, as plain values (rtnetlink(7), linux/rtnetlink.h, linux/fib_rules.h). */
import type { Family, IpAddress } from '../../core/base/ip.js';

/** A network interface. */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mtuBytes: number;
  /** Administratively up. */
  readonly isUp: boolean;
  /** Up, with carrier, and not dormant: packets can pass (IFF_RUNNING). */
  readonly isRunning: boolean;
  readonly isLoopback: boolean;
  /** ARPHRD_*: 1 is Ethernet; 0xfffe (TUN), 519 (raw IP) and 512 (PPP) have no link header. */
  readonly hardwareType: number;
  /** Hardware address; empty where there is none. */
  readonly mac: Uint8Array;
  /** The one burnt in; empty where there is none, or the kernel does not say. */
  readonly permanentMac: Uint8Array;
  /** "tun", "veth", "bridge", "wireguard", ...; '' for physical devices. */
  readonly kind: string;
  /** Bytes received and sent since the interface exists. */
  readonly trafficBytes: number;
  /** Index of the bridge or bond that this is a port of, or 0. */
  readonly masterIndex: number;
}

export interface InterfaceAddress {
  readonly interfaceIndex: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
  /** RT_SCOPE_*: 0 global, 253 link, 254 host. */
  readonly scope: number;
  /** Duplicate address detection is not over (or failed): not usable as a source. */
  readonly isTentative: boolean;
  /** Its preferred lifetime is over: not for new connections. */
  readonly isDeprecated: boolean;
  /** RFC 8981. */
  readonly isTemporary: boolean;
}

export interface Prefix {
  readonly address: IpAddress;
  readonly prefixLength: number;
}

export type RouteType =
  | 'unicast'
  | 'local'
  | 'broadcast'
  | 'blackhole'
  | 'unreachable'
  | 'prohibit'
  | 'throw'
  | 'other';

export interface Route {
  readonly family: Family;
  /** null: default. */
  readonly destination: Prefix | null;
  readonly gateway: IpAddress | null;
  /** 0 where the route has no device. */
  readonly interfaceIndex: number;
  readonly table: number;
  /** RTPROT_*: who installed it (3 boot, 4 static, 16 dhcp, ...); ours is ROUTE_PROTOCOL. */
  readonly protocol: number;
  readonly metric: number;
  readonly type: RouteType;
  /** Preferred source. */
  readonly source: IpAddress | null;
  /** RT_SCOPE_*: 253 (link) says on-link. */
  readonly scope: number;
}

/** Our mark on routes and rules (RTPROT and FRA_PROTOCOL), by which they are found and removed. */
export const ROUTE_PROTOCOL = 77;

export const NUD_INCOMPLETE = 0x01;
export const NUD_REACHABLE = 0x02;
export const NUD_STALE = 0x04;
export const NUD_DELAY = 0x08;
export const NUD_PROBE = 0x10;
export const NUD_FAILED = 0x20;
export const NUD_NOARP = 0x40;
export const NUD_PERMANENT = 0x80;
/** States in which the hardware address may be used. */
export const NUD_VALID = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_NOARP | NUD_PERMANENT;

export interface Neighbour {
  readonly interfaceIndex: number;
  readonly address: IpAddress;
  /** Empty while unknown. */
  readonly mac: Uint8Array;
  /** NUD_*. */
  readonly state: number;
}

/** A policy rule. Absent selectors match everything. */
export interface Rule {
  readonly family: Family;
  readonly priority: number;
  /** Table to look up; 0 with another action than lookup. */
  readonly table: number;
  readonly action: 'lookup' | 'unreachable' | 'blackhole' | 'prohibit' | 'other';
  readonly protocol: number;
  readonly from?: Prefix;
  readonly to?: Prefix;
  readonly inputInterface?: string;
  readonly outputInterface?: string;
  readonly mark?: { readonly value: number; readonly mask: number };
  /** Routes whose prefix is this long or shorter do not count (0: ignore default routes). */
  readonly suppressPrefixLength?: number;
  readonly uids?: { readonly from: number; readonly to: number };
  /** IPPROTO_*; ports count only with one. */
  readonly ipProtocol?: number;
  readonly destinationPorts?: { readonly from: number; readonly to: number };
  /** Linux 6.12 and later. */
  readonly dscp?: number;
  /** Match what the selectors do not. */
  readonly invert?: boolean;
}

export type NetlinkEvent =
  | { readonly type: 'link'; readonly link: Link }
  | { readonly type: 'link-removed'; readonly link: Link }
  | { readonly type: 'address'; readonly address: InterfaceAddress }
  | { readonly type: 'address-removed'; readonly address: InterfaceAddress }
  | { readonly type: 'route'; readonly route: Route }
  | { readonly type: 'route-removed'; readonly route: Route }
  | { readonly type: 'neighbour'; readonly neighbour: Neighbour }
  | { readonly type: 'neighbour-removed'; readonly neighbour: Neighbour }
  | { readonly type: 'rule'; readonly rule: Rule }
  | { readonly type: 'rule-removed'; readonly rule: Rule }
  /** Notifications were lost: read everything afresh. */
  | { readonly type: 'overflow' };

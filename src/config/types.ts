/**
 * The complete configuration as the program uses it: typed, frozen, every default filled in, units in the names, paths
 * absolute. Made by `loadConfig` only. The YAML side of it (snake_case, units in the values) is `schema.ts`.
 */
import type { Family, IpAddress } from '../core/base/ip.js';
import type { IpPrefix } from '../core/base/prefix.js';
import type { TrafficMode } from '../core/scheduler/modes.js';
import type { AccessLists } from './access.js';

export type Config = ClientConfig | ServerConfig;

export interface CommonConfig {
  /** Tunnel name: names the socket, the nft table, the state directory. [a-z0-9][a-z0-9_-]{0,31}. */
  readonly name: string;
  /** The file this came from, absolute. */
  readonly file: string;
  /** Private key (PEM), absolute; checked to be readable by its owner only. */
  readonly keyFile: string;
  /** Last good server addresses and the like; created by the daemon (systemd: StateDirectory). */
  readonly stateDir: string;
  readonly tun: TunConfig;
  readonly traffic: TrafficConfig;
  readonly control: ControlConfig;
  readonly log: LogConfig;
  readonly metrics: MetricsConfig;
}

export interface ClientConfig extends CommonConfig {
  readonly mode: 'client';
  readonly server: RemoteServer;
  readonly capture: CaptureConfig;
  /** First match wins; a link that nothing matches is not used. */
  readonly paths: readonly PathRule[];
  readonly flows: FlowsConfig;
}

export interface ServerConfig extends CommonConfig {
  readonly mode: 'server';
  readonly listen: ListenConfig;
  readonly clients: readonly ClientEntry[];
  /** Inner addresses: the server's own is the first of each pool. */
  readonly pool: PoolConfig;
  readonly egress: EgressConfig;
  readonly relay: RelayLimits;
  /** Further addresses of this server, announced to clients with ADD_ADDR. */
  readonly announce: readonly IpAddress[];
  readonly convert: ConverterConfig;
}

/** An RFC 8803 converter beside the tunnel's listener. `egress.deny` and `egress.allow` hold for it too. */
export interface ConverterConfig {
  /** null: there is none. */
  readonly listen: { readonly port: number } | null;
  /** Who may use it, by address: RFC 8803 is for one administration's network (1.3, 9.2). Empty: nobody. */
  readonly clients: readonly Prefix[];
  /** Of these nobody can forge addresses: a SYN alone may have us dial (RFC 7413 7.3). */
  readonly trusted: readonly Prefix[];
  /** What a cookie proves: nothing, none is asked for; that the client receives at its address; that it was told `cookies`. */
  readonly cookie: 'none' | 'computed' | 'configured';
  readonly cookies: readonly Uint8Array[];
  /** A client without a cookie gets no answer (RFC 8803 6.2.7). */
  readonly silentWithoutCookie: boolean;
  /** SYNs without a message are answered, for clients that cannot send data in one. */
  readonly plainSyns: boolean;
  readonly maxConnections: number;
  readonly maxPerClient: number;
}

export interface RemoteServer {
  /** Name or address. */
  readonly host: string;
  readonly port: number;
  /** Base64 of SHA-256 over the server key's SPKI. */
  readonly pin: string;
  /** Not empty: used instead of resolving `host`. */
  readonly addresses: readonly IpAddress[];
  /** Longest pause between attempts to reach the server. */
  readonly reconnectMaxUs: number;
}

export interface TunConfig {
  readonly name: string;
  readonly mtuBytes: number;
  /** Client: take the IPv4 / IPv6 address that the server assigns. Server: derived from the pools. */
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}

export interface CaptureConfig {
  /** All traffic goes into the tunnel, except on-link prefixes and `exclude`. */
  readonly defaultRoute: boolean;
  readonly include: readonly Prefix[];
  readonly exclude: readonly Prefix[];
  readonly table: number;
  readonly rulePriority: number;
}

/** `usb`: a phone or stick that lends its connection, by cable or Bluetooth. `other`: not one of the host's own links. */
export type LinkType = 'ethernet' | 'wifi' | 'cellular' | 'usb' | 'other';
export type PathRole = 'always' | 'overflow' | 'backup' | 'never';

/** Every criterion given must hold; null ones do not matter. */
export interface PathMatch {
  /** Interface name; `*` and `?` are wildcards. */
  readonly name: string | null;
  readonly type: LinkType | null;
  /** Lower case, colons. */
  readonly mac: string | null;
  /** Name of the wifi network; `*` and `?` are wildcards. */
  readonly ssid: string | null;
}

export interface PathRule {
  readonly match: PathMatch;
  readonly role: PathRole;
  /** An overflow link carries data from this much traffic of the tunnel on; null: only when the others are full. */
  readonly overflowAboveBitPerS: number | null;
  /** Null: what the system says, else by the type of the link (match.ts). */
  readonly metered: boolean | null;
  readonly cap: UsageCap | null;
  /** False: no subflow while others carry the data. */
  readonly keepWarm: boolean;
  /** Null: whatever answers first. */
  readonly preferFamily: Family | null;
  /** Subflows of one connection over this link, to different addresses. */
  readonly maxSubflows: number;
  readonly local: AddressFilter;
  readonly remote: AddressFilter;
  /** Most that is sent on this link each way, or null. */
  readonly limitBitPerS: number | null;
  /** Instead of `traffic.congestion`, or null. */
  readonly congestion: CongestionName | null;
}

/** How much may go over a link, both ways together. */
export interface UsageCap {
  readonly dailyBytes: number | null;
  readonly monthlyBytes: number | null;
  /** Day of the month on which a month begins, 1 to 31 (in shorter months: the last day). */
  readonly resetDay: number;
  /** The role from then on, until the day or month is over. */
  readonly atLimit: Exclude<PathRole, 'always'>;
}

/** Addresses inside one of `include` (empty: all) and inside none of `exclude`. */
export interface AddressFilter {
  readonly include: readonly Prefix[];
  readonly exclude: readonly Prefix[];
}

/**
 * The way of a flow. relay: HTTP CONNECT at our server. direct: straight to the destination. convert: through an RFC 8803
 * converter. packet: its packets, in the packet lane. bypass: outside the tunnel. auto: the relay where it is to be had, else packet.
 */
export const FLOW_USES = ['auto', 'relay', 'direct', 'convert', 'packet', 'bypass'] as const;
export type FlowUse = (typeof FLOW_USES)[number];

export interface FlowsConfig {
  /** For TCP that no rule takes; everything else is for the packet lane then. */
  readonly default: FlowUse;
  /** First match wins. */
  readonly rules: readonly FlowRule[];
  readonly relay: RelayConfig;
  readonly convert: ConvertConfig;
  readonly proxy: {
    /** SOCKS5 and HTTP CONNECT, on loopback; null: none. */
    readonly listen: { readonly host: string; readonly port: number } | null;
  };
}

/** Every criterion given must hold (of a list: one of its entries); empty and null ones do not matter. */
export interface FlowMatch {
  readonly protocol: 'tcp' | 'udp' | null;
  readonly to: readonly Prefix[];
  readonly port: readonly { readonly from: number; readonly to: number }[];
  /** Lower case; `*` is any text, dots too. */
  readonly domain: readonly string[];
  readonly app: {
    /** Path in the cgroup hierarchy, `*` and `?` as wildcards; groups below count as well. */
    readonly cgroup: string | null;
    readonly uid: number | null;
  };
  /** 0 to 63. */
  readonly dscp: readonly number[];
  /** Bytes of the flow, both ways; a rule that has this counts only from then on, and leaves the way as it is. */
  readonly bytesOver: number | null;
}

export interface FlowRule {
  readonly match: FlowMatch;
  /** Null (with `bytesOver` only): the way that the flow has taken already. */
  readonly use: FlowUse | null;
  /** Null: as `traffic.mode` says. */
  readonly mode: TrafficMode | null;
  /** Bytes of a flow that may be sent on two paths at once; null: none on principle. */
  readonly copiesBytes: number | null;
}

export interface RelayConfig {
  /** Idle connections that are kept ready, at least and at most. */
  readonly poolMin: number;
  readonly poolMax: number;
  /** A flow gets its second subflow when it has carried so much, or lasted so long. */
  readonly secondSubflowAfter: { readonly bytes: number; readonly timeUs: number };
}

export interface ConvertConfig {
  /** Null: the tunnel's server. */
  readonly server: string | null;
  readonly port: number;
  /** Null: none, until the converter asks for one and tells it. */
  readonly cookie: Uint8Array | null;
  /** What we want of the converter goes in the SYN; false: behind the handshake. */
  readonly synData: boolean;
}

export { TRAFFIC_MODES, type TrafficMode } from '../core/scheduler/modes.js';
/** As core/scheduler/index.ts has them: `schedulers`. */
export const SCHEDULER_NAMES = [
  'adaptive',
  'patient',
  'min-rtt',
  'round-robin',
  'blest',
  'ecf',
  'interactive',
  'redundant',
] as const;
export type SchedulerName = (typeof SCHEDULER_NAMES)[number];
/** As core/congestion/index.ts has them: `controllers`. */
export const CONGESTION_NAMES = ['bbr', 'cubic', 'reno', 'lia', 'olia', 'balia'] as const;
export type CongestionName = (typeof CONGESTION_NAMES)[number];

export interface TrafficConfig {
  readonly mode: TrafficMode;
  readonly scheduler: SchedulerName;
  readonly congestion: CongestionName;
  /** Subflows of one connection, over all links. */
  readonly maxSubflows: number;
  /** DSS checksums (RFC 8684 3.3): for networks with middleboxes that change or coalesce payload. */
  readonly checksum: boolean;
  /** Receive buffer of one connection. */
  readonly receiveBufferBytes: number;
}

export interface ListenConfig {
  readonly port: number;
  /** Empty: every address of every interface. */
  readonly addresses: readonly IpAddress[];
}

export interface ClientEntry {
  readonly name: string;
  /** Base64 of SHA-256 over the client key's SPKI. */
  readonly pin: string;
  /** Inner addresses; filled from the pools where the file gives none, null where there is no pool of that family. */
  readonly ipv4: IpAddress | null;
  readonly ipv6: IpAddress | null;
  /** What it may reach through the relay, besides what `egress` says. */
  readonly relay: AccessLists;
}

/** Of one client of the relay (HTTP CONNECT). */
export interface RelayLimits {
  readonly maxFlows: number;
  /** Destinations that are being dialed at the same time. */
  readonly maxPendingDials: number;
  /** Of one flow, both directions together; Infinity: no limit. */
  readonly maxFlowBytes: number;
}

export interface PoolConfig {
  readonly ipv4: Prefix | null;
  readonly ipv6: Prefix | null;
}

export interface EgressConfig {
  /** True: source addresses become the server's, through one nft table of our own. False: the network routes the pools. */
  readonly masquerade: boolean;
  /** Outgoing interface, or null: the one that the routing table says. */
  readonly interface: string | null;
  /** Destinations that clients may not reach, unless `allow` says so. */
  readonly deny: readonly Prefix[];
  readonly allow: readonly Prefix[];
}

export interface ControlConfig {
  /** Unix socket, absolute. */
  readonly socketPath: string;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error';
export interface LogConfig {
  readonly level: LogLevel;
  /** 'auto': pretty on a terminal, JSON otherwise. */
  readonly format: 'auto' | 'json' | 'pretty';
}

export interface MetricsConfig {
  /** Also serve /metrics on this TCP address; null: on the control socket only. */
  readonly listen: { readonly host: string; readonly port: number } | null;
}

export interface Prefix extends IpPrefix {
  /** Canonical text, e.g. `10.0.0.0/8`. */
  readonly text: string;
}

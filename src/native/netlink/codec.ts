/** rtnetlink messages to and from the values of types.ts. Fixed parts: ifinfomsg, ifaddrmsg, rtmsg, ndmsg, fib_rule_hdr. */
import { type Family, type IpAddress, ipFromBytes } from '../../core/base/ip.js';
import { attributeString, type Message, MessageBuilder, parseAttributes } from './message.js';
import type { InterfaceAddress, Link, Neighbour, NetlinkEvent, Prefix, Route, RouteType, Rule } from './types.js';

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;
export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;
export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
export const RTM_GETRULE = 34;

export const AF_INET = 2;
export const AF_INET6 = 10;

const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;
const IFF_RUNNING = 0x40;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_STATS64 = 23;
const IFLA_PERM_ADDRESS = 54;
const IFLA_INFO_KIND = 1;

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_TEMPORARY = 0x01;
const IFA_F_DADFAILED = 0x08;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_TENTATIVE = 0x40;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_TABLE = 15;

const NDA_DST = 1;
const NDA_LLADDR = 2;

const FRA_DST = 1;
const FRA_SRC = 2;
const FRA_IIFNAME = 3;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_OIFNAME = 17;
const FRA_UID_RANGE = 20;
const FRA_PROTOCOL = 21;
const FRA_IP_PROTO = 22;
const FRA_DPORT_RANGE = 24;
const FRA_DSCP = 25;
const FIB_RULE_INVERT = 0x2;

const ROUTE_TYPES: Readonly<Record<number, RouteType>> = {
  1: 'unicast',
  2: 'local',
  3: 'broadcast',
  6: 'blackhole',
  7: 'unreachable',
  8: 'prohibit',
  9: 'throw',
};
const RULE_ACTIONS: Readonly<Record<number, Rule['action']>> = {
  1: 'lookup',
  6: 'blackhole',
  7: 'unreachable',
  8: 'prohibit',
};

export function familyNumber(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6;
}

export function parseLink(m: Message): Link {
  const b = m.body;
  const flags = b.readUInt32LE(8);
  const a = parseAttributes(b, 16);
  const info = a.get(IFLA_LINKINFO);
  return {
    index: b.readInt32LE(4),
    name: attributeString(a.get(IFLA_IFNAME)),
    mtuBytes: a.get(IFLA_MTU)?.readUInt32LE(0) ?? 0,
    isUp: (flags & IFF_UP) !== 0,
    isRunning: (flags & IFF_UP) !== 0 && (flags & IFF_RUNNING) !== 0,
    isLoopback: (flags & IFF_LOOPBACK) !== 0,
    hardwareType: b.readUInt16LE(2),
    mac: Uint8Array.from(a.get(IFLA_ADDRESS) ?? []),
    permanentMac: Uint8Array.from(a.get(IFLA_PERM_ADDRESS) ?? []),
    kind: info === undefined ? '' : attributeString(parseAttributes(info, 0).get(IFLA_INFO_KIND)),
    trafficBytes: trafficOf(a.get(IFLA_STATS64)),
    masterIndex: a.get(IFLA_MASTER)?.readUInt32LE(0) ?? 0,
  };
}

/** struct rtnl_link_stats64: packets received and sent, then bytes received and sent. */
function trafficOf(stats: Buffer | undefined): number {
  if (stats === undefined || stats.length < 32) return 0;
  const u64 = (at: number) => stats.readUInt32LE(at) + stats.readUInt32LE(at + 4) * 2 ** 32;
  return u64(16) + u64(24);
}

export function parseAddress(m: Message): InterfaceAddress | null {
  const b = m.body;
  const a = parseAttributes(b, 8);
  // On a point-to-point link IFA_ADDRESS is the far end and IFA_LOCAL ours.
  const address = ipOf(b[0]!, a.get(IFA_LOCAL) ?? a.get(IFA_ADDRESS));
  if (address === null) return null;
  const flags = a.get(IFA_FLAGS)?.readUInt32LE(0) ?? b[2]!;
  return {
    interfaceIndex: b.readUInt32LE(4),
    address,
    prefixLength: b[1]!,
    scope: b[3]!,
    isTentative: (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) !== 0,
    isDeprecated: (flags & IFA_F_DEPRECATED) !== 0,
    // IPv4 uses the same bit for "secondary".
    isTemporary: b[0] === AF_INET6 && (flags & IFA_F_TEMPORARY) !== 0,
  };
}

export function buildAddress(type: number, flags: number, index: number, prefix: Prefix): MessageBuilder {
  const fixed = Buffer.alloc(8);
  fixed[0] = familyNumber(prefix.address.family);
  fixed[1] = prefix.prefixLength;
  fixed.writeUInt32LE(index, 4);
  return new MessageBuilder(type, flags)
    .fixed(fixed)
    .attribute(IFA_LOCAL, prefix.address.bytes)
    .attribute(IFA_ADDRESS, prefix.address.bytes);
}

export function parseRoute(m: Message): Route | null {
  const b = m.body;
  if (b[0] !== AF_INET && b[0] !== AF_INET6) return null;
  const a = parseAttributes(b, 12);
  const destination = ipOf(b[0], a.get(RTA_DST));
  return {
    family: b[0] === AF_INET ? 4 : 6,
    destination: destination === null ? null : { address: destination, prefixLength: b[1]! },
    gateway: ipOf(b[0], a.get(RTA_GATEWAY)),
    interfaceIndex: a.get(RTA_OIF)?.readUInt32LE(0) ?? 0,
    table: a.get(RTA_TABLE)?.readUInt32LE(0) ?? b[4]!,
    protocol: b[5]!,
    metric: a.get(RTA_PRIORITY)?.readUInt32LE(0) ?? 0,
    type: ROUTE_TYPES[b[7]!] ?? 'other',
    source: ipOf(b[0], a.get(RTA_PREFSRC)),
    scope: b[6]!,
  };
}

export function buildRoute(type: number, flags: number, route: Route): MessageBuilder {
  const fixed = Buffer.alloc(12);
  fixed[0] = familyNumber(route.family);
  fixed[1] = route.destination?.prefixLength ?? 0;
  fixed[4] = route.table < 256 ? route.table : 0;
  fixed[5] = route.protocol;
  fixed[6] = route.scope;
  fixed[7] = numberOf(ROUTE_TYPES, route.type);
  const m = new MessageBuilder(type, flags).fixed(fixed).u32(RTA_TABLE, route.table);
  if (route.destination !== null) m.attribute(RTA_DST, route.destination.address.bytes);
  if (route.gateway !== null) m.attribute(RTA_GATEWAY, route.gateway.bytes);
  if (route.interfaceIndex !== 0) m.u32(RTA_OIF, route.interfaceIndex);
  if (route.source !== null) m.attribute(RTA_PREFSRC, route.source.bytes);
  if (route.metric !== 0) m.u32(RTA_PRIORITY, route.metric);
  return m;
}

export function parseNeighbour(m: Message): Neighbour | null {
  const b = m.body;
  const a = parseAttributes(b, 12);
  const address = ipOf(b[0]!, a.get(NDA_DST));
  if (address === null) return null;
  return {
    interfaceIndex: b.readInt32LE(4),
    address,
    mac: Uint8Array.from(a.get(NDA_LLADDR) ?? []),
    state: b.readUInt16LE(8),
  };
}

export function buildNeighbour(
  type: number,
  flags: number,
  neighbour: { interfaceIndex: number; address: IpAddress; state: number; ntfFlags: number; mac?: Uint8Array },
): MessageBuilder {
  const fixed = Buffer.alloc(12);
  fixed[0] = familyNumber(neighbour.address.family);
  fixed.writeInt32LE(neighbour.interfaceIndex, 4);
  fixed.writeUInt16LE(neighbour.state, 8);
  fixed[10] = neighbour.ntfFlags;
  const m = new MessageBuilder(type, flags).fixed(fixed).attribute(NDA_DST, neighbour.address.bytes);
  if (neighbour.mac !== undefined) m.attribute(NDA_LLADDR, neighbour.mac);
  return m;
}

export function parseRule(m: Message): Rule | null {
  const b = m.body;
  if (b[0] !== AF_INET && b[0] !== AF_INET6) return null;
  const a = parseAttributes(b, 12);
  const from = ipOf(b[0], a.get(FRA_SRC));
  const to = ipOf(b[0], a.get(FRA_DST));
  const suppress = a.get(FRA_SUPPRESS_PREFIXLEN)?.readInt32LE(0) ?? -1;
  const mark = a.get(FRA_FWMARK)?.readUInt32LE(0);
  const uids = a.get(FRA_UID_RANGE);
  const ports = a.get(FRA_DPORT_RANGE);
  const ipProtocol = a.get(FRA_IP_PROTO)?.[0];
  const dscp = a.get(FRA_DSCP)?.[0];
  return {
    family: b[0] === AF_INET ? 4 : 6,
    priority: a.get(FRA_PRIORITY)?.readUInt32LE(0) ?? 0,
    table: a.get(FRA_TABLE)?.readUInt32LE(0) ?? b[4]!,
    action: RULE_ACTIONS[b[7]!] ?? 'other',
    protocol: a.get(FRA_PROTOCOL)?.[0] ?? 0,
    ...(from === null ? {} : { from: { address: from, prefixLength: b[2]! } }),
    ...(to === null ? {} : { to: { address: to, prefixLength: b[1]! } }),
    ...(a.has(FRA_IIFNAME) ? { inputInterface: attributeString(a.get(FRA_IIFNAME)) } : {}),
    ...(a.has(FRA_OIFNAME) ? { outputInterface: attributeString(a.get(FRA_OIFNAME)) } : {}),
    ...(mark === undefined ? {} : { mark: { value: mark, mask: a.get(FRA_FWMASK)?.readUInt32LE(0) ?? 0xffff_ffff } }),
    ...(uids === undefined ? {} : { uids: { from: uids.readUInt32LE(0), to: uids.readUInt32LE(4) } }),
    ...(ipProtocol === undefined ? {} : { ipProtocol }),
    ...(ports === undefined ? {} : { destinationPorts: { from: ports.readUInt16LE(0), to: ports.readUInt16LE(2) } }),
    ...(dscp === undefined ? {} : { dscp }),
    ...(suppress < 0 ? {} : { suppressPrefixLength: suppress }),
    ...((b.readUInt32LE(8) & FIB_RULE_INVERT) !== 0 ? { invert: true } : {}),
  };
}

export function buildRule(type: number, flags: number, rule: Rule): MessageBuilder {
  const fixed = Buffer.alloc(12);
  fixed[0] = familyNumber(rule.family);
  fixed[1] = rule.to?.prefixLength ?? 0;
  fixed[2] = rule.from?.prefixLength ?? 0;
  fixed[4] = rule.table < 256 ? rule.table : 0;
  fixed[7] = numberOf(RULE_ACTIONS, rule.action);
  fixed.writeUInt32LE(rule.invert === true ? FIB_RULE_INVERT : 0, 8);
  const m = new MessageBuilder(type, flags)
    .fixed(fixed)
    .u32(FRA_PRIORITY, rule.priority)
    .attribute(FRA_PROTOCOL, new Uint8Array([rule.protocol]));
  if (rule.table !== 0) m.u32(FRA_TABLE, rule.table);
  if (rule.from !== undefined) m.attribute(FRA_SRC, rule.from.address.bytes);
  if (rule.to !== undefined) m.attribute(FRA_DST, rule.to.address.bytes);
  if (rule.inputInterface !== undefined) m.string(FRA_IIFNAME, rule.inputInterface);
  if (rule.outputInterface !== undefined) m.string(FRA_OIFNAME, rule.outputInterface);
  if (rule.mark !== undefined) m.u32(FRA_FWMARK, rule.mark.value).u32(FRA_FWMASK, rule.mark.mask);
  if (rule.suppressPrefixLength !== undefined) m.u32(FRA_SUPPRESS_PREFIXLEN, rule.suppressPrefixLength);
  if (rule.uids !== undefined)
    m.attribute(FRA_UID_RANGE, new Uint8Array(Uint32Array.of(rule.uids.from, rule.uids.to).buffer));
  if (rule.ipProtocol !== undefined) m.attribute(FRA_IP_PROTO, Uint8Array.of(rule.ipProtocol));
  if (rule.destinationPorts !== undefined) {
    const { from, to } = rule.destinationPorts;
    m.attribute(FRA_DPORT_RANGE, new Uint8Array(Uint16Array.of(from, to).buffer));
  }
  if (rule.dscp !== undefined) m.attribute(FRA_DSCP, Uint8Array.of(rule.dscp));
  return m;
}

/** A notification, or null if it is of a kind that nobody here wants (bridge entries, multicast routes, ...). */
export function parseEvent(m: Message): NetlinkEvent | null {
  switch (m.type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      // AF_BRIDGE announces port state with the same type.
      if (m.body[0] !== 0) return null;
      return { type: m.type === RTM_NEWLINK ? 'link' : 'link-removed', link: parseLink(m) };
    case RTM_NEWADDR:
    case RTM_DELADDR: {
      const address = parseAddress(m);
      return address && { type: m.type === RTM_NEWADDR ? 'address' : 'address-removed', address };
    }
    case RTM_NEWROUTE:
    case RTM_DELROUTE: {
      const route = parseRoute(m);
      return route && { type: m.type === RTM_NEWROUTE ? 'route' : 'route-removed', route };
    }
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH: {
      const neighbour = parseNeighbour(m);
      return neighbour && { type: m.type === RTM_NEWNEIGH ? 'neighbour' : 'neighbour-removed', neighbour };
    }
    case RTM_NEWRULE:
    case RTM_DELRULE: {
      const rule = parseRule(m);
      return rule && { type: m.type === RTM_NEWRULE ? 'rule' : 'rule-removed', rule };
    }
    default:
      return null;
  }
}

function ipOf(family: number, payload: Buffer | undefined): IpAddress | null {
  if (family === AF_INET && payload?.length === 4) return ipFromBytes(payload, 0, 4);
  if (family === AF_INET6 && payload?.length === 16) return ipFromBytes(payload, 0, 6);
  return null;
}

function numberOf(table: Readonly<Record<number, string>>, name: string): number {
  for (const [number, value] of Object.entries(table)) if (value === name) return Number(number);
  throw new RangeError(`cannot be installed: ${name}`);
}

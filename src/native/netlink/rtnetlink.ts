/**
 * Links, addresses, routes, rules and neighbours of the namespace in which this was opened: read, change, and look up.
 * Synchronous, off the packet path. Changes throw NetlinkError with the kernel's own words.
 */
import { type IpAddress, parseIp } from '../../core/base/ip.js';
import * as codec from './codec.js';
import {
  MessageBuilder,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
} from './message.js';
import { NetlinkError, NetlinkSocket } from './socket.js';
import {
  type InterfaceAddress,
  type Link,
  type Neighbour,
  NUD_REACHABLE,
  type Prefix,
  ROUTE_PROTOCOL,
  type Route,
  type Rule,
} from './types.js';

const NETLINK_ROUTE = 0;
const REQUEST = NLM_F_REQUEST | NLM_F_ACK;
const CREATE = REQUEST | NLM_F_CREATE | NLM_F_EXCL;
const PUT = REQUEST | NLM_F_CREATE | NLM_F_REPLACE;

const IFF_UP = 1;
const IFA_FLAGS = 8;
const IFA_F_NODAD = 0x02;
const IFLA_MTU = 4;
const IFLA_TXQLEN = 13;
const IFLA_IFNAME = 3;
const RTA_DST = 1;
const RTA_SRC = 2;
const RTA_OIF = 4;
const RTM_F_FIB_MATCH = 0x2000;
const NTF_USE = 0x01;
const NUD_NONE = 0;
const RT_TABLE_MAIN = 254;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;

/** What `addRoute` needs; the rest of Route has these defaults: main table, our protocol, unicast. */
export type NewRoute = Pick<Route, 'family' | 'destination'> & Partial<Route>;
export type NewRule = Pick<Rule, 'family' | 'priority'> & Partial<Rule>;

/** Where a packet goes next on its link. */
export interface NextHop {
  /** Whose hardware address is needed: the gateway, or the destination itself if it is on the link. */
  readonly address: IpAddress;
  readonly source: IpAddress | null;
}

export class Rtnetlink {
  readonly #socket = new NetlinkSocket(NETLINK_ROUTE);

  links(): Link[] {
    return this.#dump(codec.RTM_GETLINK, new Uint8Array(16), 'list links').map(codec.parseLink);
  }

  /** The link called `name`, or null. */
  link(name: string): Link | null {
    const message = new MessageBuilder(codec.RTM_GETLINK, REQUEST).fixed(new Uint8Array(16)).string(IFLA_IFNAME, name);
    const answer = this.#ask(message, `look up ${name}`);
    return answer === null ? null : codec.parseLink(answer);
  }

  addresses(): InterfaceAddress[] {
    return present(this.#dump(codec.RTM_GETADDR, new Uint8Array(8), 'list addresses').map(codec.parseAddress));
  }

  /** All tables, both families. */
  routes(): Route[] {
    return present(this.#dump(codec.RTM_GETROUTE, new Uint8Array(12), 'list routes').map(codec.parseRoute));
  }

  rules(): Rule[] {
    return present(this.#dump(codec.RTM_GETRULE, new Uint8Array(12), 'list rules').map(codec.parseRule));
  }

  neighbours(): Neighbour[] {
    return present(this.#dump(codec.RTM_GETNEIGH, new Uint8Array(12), 'list neighbours').map(codec.parseNeighbour));
  }

  setLink(index: number, change: { up?: boolean; mtuBytes?: number; queuePackets?: number }): void {
    const fixed = Buffer.alloc(16);
    fixed.writeInt32LE(index, 4);
    if (change.up !== undefined) {
      fixed.writeUInt32LE(change.up ? IFF_UP : 0, 8);
      fixed.writeUInt32LE(IFF_UP, 12);
    }
    const message = new MessageBuilder(codec.RTM_NEWLINK, REQUEST).fixed(fixed);
    if (change.mtuBytes !== undefined) message.u32(IFLA_MTU, change.mtuBytes);
    if (change.queuePackets !== undefined) message.u32(IFLA_TXQLEN, change.queuePackets);
    this.#socket.request(message, `change link ${index}`);
  }

  deleteLink(index: number): void {
    const fixed = Buffer.alloc(16);
    fixed.writeInt32LE(index, 4);
    this.#socket.request(new MessageBuilder(codec.RTM_DELLINK, REQUEST).fixed(fixed), `delete link ${index}`);
  }

  /** Adds an address, or refreshes the same one. */
  addAddress(index: number, prefix: Prefix): void {
    const message = codec.buildAddress(codec.RTM_NEWADDR, PUT, index, prefix);
    // RFC 4862 5.4 is not for us: nobody else is on a point-to-point device, and waiting would delay the tunnel.
    if (prefix.address.family === 6) message.u32(IFA_FLAGS, IFA_F_NODAD);
    this.#socket.request(message, `add address ${text(prefix)}`);
  }

  /** Removes an address; false if it was not there. */
  deleteAddress(index: number, prefix: Prefix): boolean {
    const message = codec.buildAddress(codec.RTM_DELADDR, REQUEST, index, prefix);
    return this.#delete(message, `delete address ${text(prefix)}`);
  }

  /** Adds a route, or replaces the one with the same destination, table and metric. */
  addRoute(route: NewRoute): void {
    const whole = wholeRoute(route);
    this.#socket.request(codec.buildRoute(codec.RTM_NEWROUTE, PUT, whole), `add route ${routeText(whole)}`);
  }

  /** Removes a route; false if it was not there. */
  deleteRoute(route: NewRoute): boolean {
    const whole = wholeRoute(route);
    return this.#delete(codec.buildRoute(codec.RTM_DELROUTE, REQUEST, whole), `delete route ${routeText(whole)}`);
  }

  /** Adds a rule; an equal one that exists is left as it is. */
  addRule(rule: NewRule): void {
    const whole = wholeRule(rule);
    try {
      this.#socket.request(codec.buildRule(codec.RTM_NEWRULE, CREATE, whole), `add rule ${whole.priority}`);
    } catch (error) {
      if (!(error instanceof NetlinkError) || error.code !== 'EEXIST') throw error;
    }
  }

  /** Removes a rule; false if it was not there. */
  deleteRule(rule: NewRule): boolean {
    const whole = wholeRule(rule);
    return this.#delete(codec.buildRule(codec.RTM_DELRULE, REQUEST, whole), `delete rule ${whole.priority}`);
  }

  /**
   * The next hop towards `destination` out of this interface, from `source`, as the kernel's own rules and tables say;
   * null without a route there. (For IPv4 the kernel would otherwise assume that everything is on the link.)
   */
  nextHop(interfaceIndex: number, destination: IpAddress, source: IpAddress | null): NextHop | null {
    if (this.#routeGet(interfaceIndex, destination, source, RTM_F_FIB_MATCH) === null) return null;
    const route = this.#routeGet(interfaceIndex, destination, source, 0);
    if (route === null) return null;
    if (route.interfaceIndex !== interfaceIndex) {
      // With a source IPv6 takes the interface as a mere wish: where no rule routes by source, two links with a default
      // route each would give the better one's for both.
      return destination.family === 6 && source !== null ? this.nextHop(interfaceIndex, destination, null) : null;
    }
    return { address: route.gateway ?? destination, source: route.source };
  }

  /** The route that the kernel's own traffic to `destination` would take, or null. */
  routeTo(destination: IpAddress): Route | null {
    return this.#routeGet(0, destination, null, 0);
  }

  /** The entry for an address on an interface, or null if the kernel has none. */
  neighbour(interfaceIndex: number, address: IpAddress): Neighbour | null {
    const target = { interfaceIndex, address, state: NUD_NONE, ntfFlags: 0 };
    const answer = this.#ask(codec.buildNeighbour(codec.RTM_GETNEIGH, REQUEST, target), `neighbour ${address.text}`);
    return answer === null ? null : codec.parseNeighbour(answer);
  }

  /**
   * Tells the kernel that the neighbour is about to be used, exactly as its own sending would: an unknown one is
   * resolved, a stale one is probed. The outcome arrives as neighbour events.
   */
  useNeighbour(interfaceIndex: number, address: IpAddress): void {
    const target = { interfaceIndex, address, state: NUD_NONE, ntfFlags: NTF_USE };
    const message = codec.buildNeighbour(codec.RTM_NEWNEIGH, REQUEST | NLM_F_CREATE, target);
    this.#socket.request(message, `use neighbour ${address.text}`);
  }

  /** Writes an entry (for tests and point-to-multipoint links with known addresses). */
  setNeighbour(interfaceIndex: number, address: IpAddress, mac: Uint8Array, state: number = NUD_REACHABLE): void {
    const message = codec.buildNeighbour(codec.RTM_NEWNEIGH, PUT, { interfaceIndex, address, state, ntfFlags: 0, mac });
    this.#socket.request(message, `set neighbour ${address.text}`);
  }

  close(): void {
    this.#socket.close();
  }

  #dump(type: number, fixed: Uint8Array, what: string) {
    return this.#socket.dump(() => new MessageBuilder(type, NLM_F_REQUEST | NLM_F_DUMP).fixed(fixed), what);
  }

  #routeGet(index: number, destination: IpAddress, source: IpAddress | null, flags: number): Route | null {
    const fixed = Buffer.alloc(12);
    fixed[0] = codec.familyNumber(destination.family);
    fixed[1] = destination.bytes.length * 8;
    fixed[2] = source === null ? 0 : source.bytes.length * 8;
    fixed.writeUInt32LE(flags, 8);
    const message = new MessageBuilder(codec.RTM_GETROUTE, REQUEST).fixed(fixed).attribute(RTA_DST, destination.bytes);
    if (index !== 0) message.u32(RTA_OIF, index);
    if (source !== null) message.attribute(RTA_SRC, source.bytes);
    const answer = this.#ask(message, `route to ${destination.text}`, UNROUTABLE);
    return answer === null ? null : codec.parseRoute(answer);
  }

  /** The one message that answers, or null where the kernel says that there is no such thing. */
  #ask(message: MessageBuilder, what: string, absent: ReadonlySet<string> = ABSENT) {
    try {
      return this.#socket.request(message, what)[0] ?? null;
    } catch (error) {
      if (error instanceof NetlinkError && absent.has(error.code)) return null;
      throw error;
    }
  }

  #delete(message: MessageBuilder, what: string): boolean {
    try {
      this.#socket.request(message, what);
      return true;
    } catch (error) {
      if (error instanceof NetlinkError && ABSENT.has(error.code)) return false;
      throw error;
    }
  }
}

/** How the kernel says that there is no such link, route, rule, address or neighbour. */
const ABSENT: ReadonlySet<string> = new Set([
  'ENODEV',
  'ENOENT',
  'ESRCH',
  'EADDRNOTAVAIL',
  'ENETUNREACH',
  'EHOSTUNREACH',
]);
/** How it refuses to route: a prohibit route; a blackhole route, or a source that the interface does not have. */
const UNROUTABLE: ReadonlySet<string> = new Set([...ABSENT, 'EACCES', 'EINVAL']);

/** "10.0.0.0/8", "fd00::1/64". Throws RangeError on anything else. */
export function parsePrefix(value: string): Prefix {
  const slash = value.indexOf('/');
  const address = parseIp(slash < 0 ? value : value.slice(0, slash));
  const longest = address.bytes.length * 8;
  const prefixLength = slash < 0 ? longest : Number(value.slice(slash + 1));
  if (!Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > longest) {
    throw new RangeError(`not a prefix: ${value}`);
  }
  return { address, prefixLength };
}

function wholeRoute(route: NewRoute): Route {
  const type = route.type ?? 'unicast';
  return {
    gateway: null,
    interfaceIndex: 0,
    table: RT_TABLE_MAIN,
    protocol: ROUTE_PROTOCOL,
    metric: 0,
    type,
    source: null,
    scope: type === 'unicast' && (route.gateway ?? null) === null ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
    ...route,
  };
}

function wholeRule(rule: NewRule): Rule {
  return { table: 0, action: 'lookup', protocol: ROUTE_PROTOCOL, ...rule };
}

function text(prefix: Prefix): string {
  return `${prefix.address.text}/${prefix.prefixLength}`;
}

function routeText(route: Route): string {
  const destination = route.destination === null ? `default (IPv${route.family})` : text(route.destination);
  return `${destination} table ${route.table}`;
}

function present<T>(values: (T | null)[]): T[] {
  return values.filter((value): value is T => value !== null);
}

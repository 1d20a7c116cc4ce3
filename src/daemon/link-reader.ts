/** What rtnetlink and sysfs say of every interface now, as LinkFacts; what radio and NetworkManager say comes on top. */
import type { IpAddress } from '../core/base/ip.js';
import { type InterfaceAddress, type Link, ROUTE_PROTOCOL, type Route } from '../native/index.js';
import type { DefaultRoute, LinkFacts } from './link-facts.js';
import { type DeviceFacts, linkType, whyVirtual } from './link-type.js';

const RT_SCOPE_UNIVERSE = 0;
const RT_TABLE_LOCAL = 255;

/** The tables as the kernel has them. `routes`: [] where they are not followed. */
export interface HostTables {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  readonly routes: readonly Route[];
}

/** Every interface but loopback and `ownTun`. */
export function readFacts(tables: HostTables, ownTun: string, deviceOf: (name: string) => DeviceFacts): LinkFacts[] {
  const others = tables.links.filter((l) => !l.isLoopback && l.name !== ownTun);
  return others.map((link): LinkFacts => {
    const type = linkType(link, deviceOf(link.name));
    const all = tables.addresses.filter((a) => a.interfaceIndex === link.index);
    const addresses = usable(all);
    const master = tables.links.find((l) => l.index === link.masterIndex && l.kind !== 'vrf');
    const whyDown = reasonDown(link, all, addresses);
    return {
      id: link.index,
      name: link.name,
      type,
      mac: macText(link.mac),
      permanentMac: macText(link.permanentMac),
      mtuBytes: link.mtuBytes,
      isEnabled: link.isUp,
      hasCarrier: link.isRunning,
      addresses,
      defaultRoutes: defaultRoutes(tables.routes, link.index),
      isUp: whyDown === null,
      whyDown,
      ssid: null,
      signalDbm: null,
      isMetered: null,
      connectivity: null,
      whyVirtual: whyVirtual(link, type, master?.name ?? ''),
    };
  });
}

/** A route that a packet of ours could take, as opposed to the kernel's list of local addresses and to what we install. */
export function isForwarding(route: Route): boolean {
  return route.type === 'unicast' && route.table !== RT_TABLE_LOCAL && route.protocol !== ROUTE_PROTOCOL;
}

/** What makes it the same route over the same link. */
export function routeKey(route: Route): string {
  const destination =
    route.destination === null ? '' : `${route.destination.address.text}/${route.destination.prefixLength}`;
  const { interfaceIndex, family, gateway, metric, table } = route;
  return `${interfaceIndex} ${family} ${destination} ${gateway?.text ?? ''} ${metric} ${table}`;
}

function defaultRoutes(routes: readonly Route[], index: number): DefaultRoute[] {
  return routes
    .filter((r) => r.interfaceIndex === index && r.destination === null && isForwarding(r))
    .sort((a, b) => a.metric - b.metric)
    .map(({ family, gateway, metric }) => ({ family, gateway, metric }));
}

/** Temporary ones first (RFC 8981: preferred for what is opened from here). */
function usable(addresses: readonly InterfaceAddress[]): IpAddress[] {
  return addresses
    .filter((a) => a.scope === RT_SCOPE_UNIVERSE && !isLinkLocal(a.address) && !a.isTentative && !a.isDeprecated)
    .sort((a, b) => Number(b.isTemporary) - Number(a.isTemporary))
    .map((a) => a.address);
}

function reasonDown(link: Link, all: readonly InterfaceAddress[], addresses: readonly IpAddress[]): string | null {
  if (!link.isUp) return 'link is switched off';
  if (!link.isRunning) return 'link is down';
  if (addresses.length > 0) return null;
  if (all.some((a) => a.isTentative && !isLinkLocal(a.address))) return 'its address is still being checked';
  return all.length > 0 ? 'it has a link-local address only' : 'it has no address';
}

/** RFC 3927 and RFC 4291 2.5.6. An IPv4 one often has global scope. */
function isLinkLocal({ family, bytes }: IpAddress): boolean {
  return family === 4 ? bytes[0] === 169 && bytes[1] === 254 : bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80;
}

function macText(mac: Uint8Array): string | null {
  return mac.length === 0 ? null : [...mac].map((b) => b.toString(16).padStart(2, '0')).join(':');
}

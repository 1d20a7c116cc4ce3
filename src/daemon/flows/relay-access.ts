/**
 * Who may reach what through the relay. Two stages: what the request says (a name, a port) before it is resolved, and each
 * address that the name resolves to afterwards, so that a name which points to a private address (DNS rebinding) reaches it
 * no sooner than the address itself would.
 *
 * Two kinds of lists. A client's own, `allow` before `deny` as in the egress's. And the egress lists, which hold for every
 * client and whose defaults deny private, loopback, link-local and multicast destinations; an address in there can be
 * reached if either kind of list allows the address.
 */
import type { AccessLists, AccessRule } from '../../config/access.js';
import type { Prefix } from '../../config/types.js';
import { type IpAddress, ipFromBytes } from '../../core/base/ip.js';
import { prefixContains } from '../../core/base/prefix.js';

export const NO_LISTS: AccessLists = { allow: [], deny: [] };

/** One client's access. */
export class RelayAccess {
  constructor(
    private readonly own: AccessLists,
    private readonly egress: { readonly allow: readonly Prefix[]; readonly deny: readonly Prefix[] },
  ) {}

  /** Before a name is resolved: false if no address of it may be reached, whatever it turns out to be. */
  mayResolve(name: string, port: number): boolean {
    if (this.own.allow.some((rule) => (rule.name === null ? isPort(rule, port) : matchesName(rule, name, port))))
      return true;
    const isEverything = (rule: AccessRule) => rule.name === null && rule.prefix === null && isPort(rule, port);
    return !this.own.deny.some((rule) => isEverything(rule) || matchesName(rule, name, port));
  }

  /** `name`: what the client asked for; null: the address itself. */
  mayReach(address: IpAddress, name: string | null, port: number): boolean {
    const plain = embedded(address);
    const isIt = (rule: AccessRule) =>
      rule.name === null ? matches(rule, plain, port) : name !== null && matchesName(rule, name, port);
    const verdict = this.verdict(isIt);
    if (verdict === false) return false;
    // Ranges that are denied to everybody open for an address that is written down, never for a name or for `*`.
    if (this.own.allow.some((rule) => rule.prefix !== null && matches(rule, plain, port))) return true;
    const { allow, deny } = this.egress;
    const isIn = (list: readonly Prefix[]) => list.some((p) => prefixContains(p, address) || prefixContains(p, plain));
    return isIn(allow) || !isIn(deny);
  }

  /** Null: neither list has an entry for it. */
  private verdict(isIt: (rule: AccessRule) => boolean): boolean | null {
    if (this.own.allow.some(isIt)) return true;
    return this.own.deny.some(isIt) ? false : null;
  }
}

function matches(rule: AccessRule, address: IpAddress, port: number): boolean {
  return isPort(rule, port) && (rule.prefix === null || prefixContains(rule.prefix, address));
}

function matchesName(rule: AccessRule, name: string, port: number): boolean {
  if (rule.name === null || !isPort(rule, port)) return false;
  const host = name.toLowerCase().replace(/\.$/, '');
  return rule.name.startsWith('*.') ? host.endsWith(rule.name.slice(1)) : host === rule.name;
}

function isPort(rule: AccessRule, port: number): boolean {
  return rule.port === null || rule.port === port;
}

/**
 * The IPv4 address that an IPv6 one leads to, through a kernel (RFC 4291 §2.5.5.2, ::ffff:0:0/96), a NAT64 (RFC 6052 §2.1,
 * 64:ff9b::/96) or a 6to4 router (RFC 3056 §2, 2002::/16): 64:ff9b::10.0.0.1 is as private as 10.0.0.1. Others as they are.
 */
function embedded(address: IpAddress): IpAddress {
  const b = address.bytes;
  if (b.length === 4) return address;
  const isZero = (from: number, to: number) => b.subarray(from, to).every((byte) => byte === 0);
  const isMapped = isZero(0, 10) && b[10] === 0xff && b[11] === 0xff;
  const isNat64 = b[0] === 0 && b[1] === 0x64 && b[2] === 0xff && b[3] === 0x9b && isZero(4, 12);
  if (isMapped || isNat64) return ipFromBytes(b, 12, 4);
  return b[0] === 0x20 && b[1] === 0x02 ? ipFromBytes(b, 2, 4) : address;
}

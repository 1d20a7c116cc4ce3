/**
 * The host's links as the tunnel sees them: interfaces that a path rule of the configuration matches, with the addresses
 * that may be used as sources, kept up to date by rtnetlink notifications. A link is up when packets can pass (carrier)
 * and it has an address; whether something answers there is the path manager's business.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { LinkType, PathRule } from '../config/types.js';
import type { IpAddress } from '../core/base/ip.js';
import { type InterfaceAddress, type Link, NetlinkMonitor, type Rtnetlink } from '../native/index.js';

const ARPHRD_ETHER = 1;
const ARPHRD_PPP = 512;
const ARPHRD_RAWIP = 519;
const RT_SCOPE_UNIVERSE = 0;

export interface HostLink {
  /** Interface index. */
  readonly id: number;
  readonly name: string;
  readonly type: LinkType;
  readonly mtuBytes: number;
  readonly isUp: boolean;
  /** Global-scope addresses, neither tentative nor deprecated; preferred ones first. */
  readonly addresses: readonly IpAddress[];
  readonly rule: PathRule;
}

export type LinkChange = { readonly before: HostLink | null; readonly after: HostLink | null };

export class LinkMonitor {
  private readonly monitor: NetlinkMonitor;
  private current = new Map<number, HostLink>();
  private isScheduled = false;
  private isClosed = false;

  /** `onChange` is not called for what is there at first: read `links`. */
  constructor(
    private readonly rt: Rtnetlink,
    private rules: readonly PathRule[],
    private readonly ownTun: string,
    private readonly onChange: (change: LinkChange) => void,
  ) {
    this.monitor = new NetlinkMonitor(['link', 'address', 'route'], () => this.schedule());
    this.current = this.read();
  }

  get links(): readonly HostLink[] {
    return [...this.current.values()];
  }

  link(id: number): HostLink | null {
    return this.current.get(id) ?? null;
  }

  /** Other path rules (reload). */
  setRules(rules: readonly PathRule[]): void {
    this.rules = rules;
    this.update();
  }

  close(): void {
    this.isClosed = true;
    this.monitor.close();
  }

  /** Notifications come in bursts (an interface that goes up has ten): one look at the end of each. */
  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(() => {
      this.isScheduled = false;
      if (!this.isClosed) this.update();
    });
  }

  private update(): void {
    const before = this.current;
    this.current = this.read();
    for (const [id, link] of before) if (!this.current.has(id)) this.onChange({ before: link, after: null });
    for (const [id, link] of this.current) {
      const old = before.get(id) ?? null;
      if (old === null || !isSame(old, link)) this.onChange({ before: old, after: link });
    }
  }

  private read(): Map<number, HostLink> {
    const found = new Map<number, HostLink>();
    const addresses = this.rt.addresses();
    for (const link of this.rt.links()) {
      if (link.isLoopback || link.name === this.ownTun) continue;
      const type = linkType(link);
      const rule = matchRule(this.rules, link, type);
      if (rule === null || rule.role === 'never') continue;
      const own = usableAddresses(addresses, link.index);
      found.set(link.index, {
        id: link.index,
        name: link.name,
        type,
        mtuBytes: link.mtuBytes,
        isUp: link.isRunning && own.length > 0,
        addresses: own,
        rule,
      });
    }
    return found;
  }
}

/** The first rule that matches, or null. */
export function matchRule(
  rules: readonly PathRule[],
  link: Pick<Link, 'name' | 'mac'>,
  type: LinkType,
): PathRule | null {
  const mac = [...link.mac].map((b) => b.toString(16).padStart(2, '0')).join(':');
  return (
    rules.find(
      ({ match }) =>
        (match.name === null || matchesPattern(match.name, link.name)) &&
        (match.type === null || match.type === type) &&
        (match.mac === null || match.mac === mac),
    ) ?? null
  );
}

/** `*` and `?` as in file names. */
export function matchesPattern(pattern: string, name: string): boolean {
  const source = [...pattern].map((c) => (c === '*' ? '.*' : c === '?' ? '.' : c.replace(/[^\w]/g, '\\$&'))).join('');
  return new RegExp(`^${source}$`).test(name);
}

function linkType(link: Link): LinkType {
  const sys = `/sys/class/net/${link.name}`;
  if (existsSync(`${sys}/wireless`) || existsSync(`${sys}/phy80211`)) return 'wifi';
  if (link.hardwareType === ARPHRD_RAWIP || link.hardwareType === ARPHRD_PPP || isModem(sys)) return 'cellular';
  return link.hardwareType === ARPHRD_ETHER && link.kind === '' ? 'ethernet' : 'other';
}

function isModem(sys: string): boolean {
  try {
    return /^DEVTYPE=wwan$/m.test(readFileSync(`${sys}/uevent`, 'utf8'));
  } catch {
    return false;
  }
}

function usableAddresses(all: readonly InterfaceAddress[], index: number): IpAddress[] {
  return all
    .filter((a) => a.interfaceIndex === index && a.scope === RT_SCOPE_UNIVERSE && !a.isTentative && !a.isDeprecated)
    .sort((a, b) => Number(b.isTemporary) - Number(a.isTemporary))
    .map((a) => a.address);
}

function isSame(a: HostLink, b: HostLink): boolean {
  return (
    a.name === b.name &&
    a.isUp === b.isUp &&
    a.mtuBytes === b.mtuBytes &&
    a.rule === b.rule &&
    a.addresses.length === b.addresses.length &&
    a.addresses.every((address, i) => address.text === b.addresses[i]!.text)
  );
}

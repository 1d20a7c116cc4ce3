/**
 * The host's links as the tunnel sees them: interfaces that a path rule of the configuration matches, with the addresses
 * that may be used as sources, kept up to date by rtnetlink notifications. A link is up when packets can pass (carrier)
 * and it has an address; whether something answers there is the path manager's business.
 */
import type { PathRule } from '../config/types.js';
import type { IpAddress } from '../core/base/ip.js';
import { type InterfaceAddress, NetlinkMonitor, type Rtnetlink } from '../native/index.js';
import type { LinkFacts } from './link-facts.js';
import { matchRule } from './link-match.js';
import { linkType, readDevice, whyVirtual } from './link-type.js';

const RT_SCOPE_UNIVERSE = 0;

/** A link that is used, and the rule that it falls under. */
export interface HostLink extends LinkFacts {
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
    /** A server answers wherever it is asked, on a bridge as well. */
    private readonly takesVirtual: boolean = false,
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
    const links = this.rt.links();
    for (const link of links) {
      if (link.isLoopback || link.name === this.ownTun) continue;
      const type = linkType(link, readDevice(link.name));
      const own = usableAddresses(addresses, link.index);
      const master = links.find((l) => l.index === link.masterIndex && l.kind !== 'vrf');
      const facts: LinkFacts = {
        id: link.index,
        name: link.name,
        type,
        mac: macText(link.mac),
        permanentMac: macText(link.permanentMac),
        mtuBytes: link.mtuBytes,
        isEnabled: link.isUp,
        hasCarrier: link.isRunning,
        addresses: own,
        defaultRoutes: [],
        isUp: link.isRunning && own.length > 0,
        whyDown: link.isRunning && own.length > 0 ? null : 'link is down',
        ssid: null,
        signalDbm: null,
        isMetered: null,
        connectivity: null,
        whyVirtual: whyVirtual(link, type, master?.name ?? ''),
      };
      const rule = matchRule(this.rules, this.takesVirtual ? { ...facts, whyVirtual: null } : facts);
      if (rule !== null) found.set(link.index, { ...facts, rule });
    }
    return found;
  }
}

function macText(mac: Uint8Array): string | null {
  return mac.length === 0 ? null : [...mac].map((b) => b.toString(16).padStart(2, '0')).join(':');
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

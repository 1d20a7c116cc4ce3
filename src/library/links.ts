/**
 * The interfaces that a host uses, opened when first needed and followed from then on: which exist, with which addresses,
 * and from which of them a destination is reached, as the kernel's own routes have it.
 */
import type { IpAddress } from '../core/base/ip.js';
import type { LinkInfo } from '../core/engine/api.js';
import type { Driver } from '../daemon/driver.js';
import { type Link, NetlinkMonitor, Rtnetlink } from '../native/index.js';
import { MptcpError } from './errors.js';

/** A link, and an address of it to send from. */
export interface Source {
  readonly link: LinkInfo;
  readonly local: IpAddress;
}

export class HostLinks {
  private readonly rt = new Rtnetlink();
  private readonly monitor: NetlinkMonitor;
  private readonly opened = new Map<string, LinkInfo>();

  constructor(private readonly driver: Driver) {
    this.monitor = new NetlinkMonitor(['link', 'address'], () => this.refresh());
  }

  all(): LinkInfo[] {
    return [...this.opened.values()];
  }

  nameOf(linkId: number): string {
    return this.all().find(({ id }) => id === linkId)?.name ?? '';
  }

  /** The link called `name`, opened if it is not yet. Throws ENODEV; EPERM where the process may not have packet sockets. */
  open(name: string): LinkInfo {
    const known = this.opened.get(name);
    if (known !== undefined) return known;
    const link = this.read(name);
    this.driver.openLink(link);
    this.opened.set(name, link);
    return link;
  }

  /** Opens every interface that is up, loopback aside, and of those only the ones with one of `addresses`, if any. */
  openUsable(addresses: readonly IpAddress[] | null): void {
    const texts = addresses?.map((a) => a.text);
    for (const { name } of this.rt.links().filter(isUsable)) {
      if (texts === undefined || this.read(name).addresses.some((a) => texts.includes(a.text))) this.open(name);
    }
  }

  /** The link with this address, opened if it is not yet. Throws EADDRNOTAVAIL. */
  withAddress(address: IpAddress): LinkInfo {
    this.openUsable([address]);
    const link = this.all().find(({ addresses }) => addresses.some((a) => a.text === address.text));
    if (link === undefined) throw new MptcpError('EADDRNOTAVAIL', 'address', `no interface has ${address.text}`);
    return link;
  }

  /** The interface by which the kernel itself would send to `remote`, or null. */
  routed(remote: IpAddress): string | null {
    const index = this.rt.routeTo(remote)?.interfaceIndex;
    return this.rt.links().find((link) => link.index === index)?.name ?? null;
  }

  /** An address of the link that has a route to `remote`; the kernel's own choice first. */
  sourceFor(link: LinkInfo, remote: IpAddress): IpAddress | null {
    const preferred = this.rt.nextHop(link.id, remote, null)?.source?.text;
    const own = link.addresses.filter((a) => a.family === remote.family);
    own.sort((a, b) => Number(b.text === preferred) - Number(a.text === preferred));
    return own.find((a) => this.isRouted(link, a, remote)) ?? null;
  }

  isRouted(link: LinkInfo, local: IpAddress, remote: IpAddress): boolean {
    return local.family === remote.family && this.rt.nextHop(link.id, remote, local) !== null;
  }

  close(): void {
    this.monitor.close();
    this.rt.close();
  }

  private read(name: string): LinkInfo {
    const link = this.rt.link(name);
    if (link === null) throw new MptcpError('ENODEV', 'interface', name);
    const addresses = this.rt
      .addresses()
      .filter((a) => a.interfaceIndex === link.index && a.scope === 0 && !a.isTentative && !a.isDeprecated)
      .map((a) => a.address);
    return { id: link.index, name, mtuBytes: link.mtuBytes, addresses, isUp: link.isRunning && addresses.length > 0 };
  }

  private refresh(): void {
    for (const [name, before] of this.opened) {
      const isThere = this.rt.link(name) !== null;
      const now: LinkInfo = isThere ? this.read(name) : { ...before, isUp: false, addresses: [] };
      if (JSON.stringify(now) === JSON.stringify(before)) continue;
      this.opened.set(name, now);
      this.driver.updateLink(now);
      this.driver.flushSoon();
    }
  }
}

function isUsable(link: Link): boolean {
  return link.isRunning && !link.isLoopback;
}

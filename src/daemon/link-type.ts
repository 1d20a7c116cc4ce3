/**
 * What kind of link an interface is, from what rtnetlink and sysfs say of it. A physical device has no IFLA_INFO_KIND;
 * a few virtual ones (bonds, VLANs) are real ways to the Internet all the same, the others (bridges, tunnels, container
 * ends) are not and say why.
 */
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import type { LinkType } from '../config/types.js';
import type { Link } from '../native/index.js';

const ARPHRD_ETHER = 1;
const ARPHRD_PPP = 512;
const ARPHRD_RAWIP = 519;
const ARPHRD_NONE = 0xfffe;

/** What sysfs says of an interface. */
export interface DeviceFacts {
  readonly isWireless: boolean;
  /** DEVTYPE of its uevent: wlan, wwan, bluetooth, …; '' where it has none (plain Ethernet). */
  readonly devType: string;
  /** Name of its driver, '' for virtual devices. */
  readonly driver: string;
}

/** Drivers of modems whose interfaces do not say DEVTYPE=wwan. */
const MODEM_DRIVERS: ReadonlySet<string> = new Set([
  'cdc_mbim',
  'huawei_cdc_ncm',
  'hso',
  'iosm',
  'ipa',
  'mhi_net',
  'mhi_wwan_mbim',
  'mtk_t7xx',
  'qmi_wwan',
  'qmi_wwan_q',
  'sierra_net',
]);
/** Phones and sticks that appear as an Ethernet device on USB (or, with DEVTYPE=bluetooth, over Bluetooth). */
const TETHER_DRIVERS: ReadonlySet<string> = new Set(['cdc_eem', 'cdc_ether', 'cdc_ncm', 'ipheth', 'rndis_host']);

const MODEM_KINDS: ReadonlySet<string> = new Set(['ppp', 'rmnet', 'wwan']);
/** Made of other interfaces, which have a master or no addresses of their own then. */
const UPLINK_KINDS: ReadonlySet<string> = new Set(['bond', 'team', 'vlan']);
const TUNNEL_KINDS: ReadonlySet<string> = new Set([
  ...['amneziawg', 'erspan', 'geneve', 'gre', 'gretap', 'ip6erspan', 'ip6gre', 'ip6gretap', 'ip6tnl', 'ipip'],
  ...['ovpn', 'ovpn-dco', 'sit', 'tun', 'vti', 'vti6', 'vxlan', 'wireguard', 'xfrm'],
]);
/** What a container calls its own end of a veth pair: for what runs in there, this is the link to the world. */
const OWN_END = /^eth\d+$/;
const CONTAINER_KINDS: ReadonlySet<string> = new Set(['ipvlan', 'ipvtap', 'macvlan', 'macvtap', 'netkit', 'veth']);

export function linkType(link: Pick<Link, 'name' | 'hardwareType' | 'kind'>, device: DeviceFacts): LinkType {
  if (device.isWireless || device.devType === 'wlan') return 'wifi';
  if (
    MODEM_KINDS.has(link.kind) ||
    device.devType === 'wwan' ||
    MODEM_DRIVERS.has(device.driver) ||
    link.hardwareType === ARPHRD_RAWIP ||
    link.hardwareType === ARPHRD_PPP
  ) {
    return 'cellular';
  }
  if (link.hardwareType !== ARPHRD_ETHER) return 'other';
  if (link.kind !== '') return UPLINK_KINDS.has(link.kind) || isOwnEnd(link) ? 'ethernet' : 'other';
  return TETHER_DRIVERS.has(device.driver) || device.devType === 'bluetooth' ? 'usb' : 'ethernet';
}

/** Why it is not one of the host's own links, or null if it is. `masterName`: the bridge or bond it is a port of, or ''. */
export function whyVirtual(
  link: Pick<Link, 'name' | 'hardwareType' | 'kind' | 'isLoopback'>,
  type: LinkType,
  masterName: string,
): string | null {
  if (link.isLoopback) return 'the loopback interface';
  if (masterName !== '') return `a port of ${masterName}`;
  if (link.kind === 'bridge') return /^(docker|br-)/.test(link.name) ? "a bridge of Docker's" : 'a bridge';
  if (TUNNEL_KINDS.has(link.kind)) return `another tunnel (${link.kind})`;
  if (CONTAINER_KINDS.has(link.kind) && !isOwnEnd(link))
    return `the end of a container or virtual machine (${link.kind})`;
  if (type !== 'other') return null;
  if (link.kind !== '') return `a virtual device (${link.kind})`;
  return link.hardwareType === ARPHRD_NONE ? 'another tunnel' : `a device of unknown kind (type ${link.hardwareType})`;
}

function isOwnEnd({ name, kind }: Pick<Link, 'name' | 'kind'>): boolean {
  return CONTAINER_KINDS.has(kind) && OWN_END.test(name);
}

/** Reads sysfs; an interface that is not there (any more) is a plain one. */
export function readDevice(name: string, sysRoot: string = '/sys/class/net'): DeviceFacts {
  const sys = `${sysRoot}/${name}`;
  return {
    isWireless: existsSync(`${sys}/wireless`) || existsSync(`${sys}/phy80211`),
    devType: /^DEVTYPE=(.*)$/m.exec(textOf(() => readFileSync(`${sys}/uevent`, 'utf8')))?.[1] ?? '',
    driver: basename(textOf(() => readlinkSync(`${sys}/device/driver`))),
  };
}

function textOf(read: () => string): string {
  try {
    return read();
  } catch {
    return '';
  }
}

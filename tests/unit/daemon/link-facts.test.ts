/** Which kind of link an interface is, why it is left out, and which rule it falls under: all pure. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { isMetered, matchesPattern, PLAIN_RULE } from '../../../src/config/match.js';
import type { LinkType, PathRule } from '../../../src/config/types.js';
import { type MatchedFacts, matchRule } from '../../../src/daemon/link-match.js';
import { type DeviceFacts, linkType, readDevice, whyVirtual } from '../../../src/daemon/link-type.js';

const PLAIN: DeviceFacts = { isWireless: false, devType: '', driver: '' };
const ETHER = { name: 'x0', hardwareType: 1, kind: '' };

test('type: by driver, DEVTYPE, hardware type and kind', (t) => {
  const type = (link: Partial<typeof ETHER>, device: Partial<DeviceFacts> = {}) =>
    linkType({ ...ETHER, ...link }, { ...PLAIN, ...device });
  t.is(type({}, { driver: 'e1000e' }), 'ethernet');
  t.is(type({}, { driver: 'r8152' }), 'ethernet', 'a dongle is Ethernet, not a phone');
  t.is(type({}, { isWireless: true }), 'wifi');
  t.is(type({}, { devType: 'wlan' }), 'wifi');
  t.is(type({}, { devType: 'wwan', driver: 'cdc_ether' }), 'cellular');
  t.is(type({}, { driver: 'cdc_mbim' }), 'cellular');
  t.is(type({ hardwareType: 519 }, { driver: 'qmi_wwan' }), 'cellular');
  t.is(type({ hardwareType: 519, kind: 'rmnet' }), 'cellular');
  t.is(type({ hardwareType: 512, kind: 'ppp' }), 'cellular');
  t.is(type({ hardwareType: 0xfffe, kind: 'wwan' }), 'cellular');
  t.is(type({}, { driver: 'rndis_host' }), 'usb');
  t.is(type({}, { driver: 'ipheth' }), 'usb');
  t.is(type({}, { devType: 'bluetooth' }), 'usb');
  t.is(type({ kind: 'bond' }), 'ethernet');
  t.is(type({ kind: 'vlan' }), 'ethernet');
  for (const kind of ['bridge', 'veth', 'tun', 'vxlan', 'dummy', 'ifb']) t.is(type({ kind }), 'other', kind);
  t.is(type({ hardwareType: 0xfffe, kind: 'wireguard' }), 'other');
});

test('what is not one of the host’s own links says what it is', (t) => {
  const why = (
    name: string,
    kind: string,
    extra: { hardwareType?: number; isLoopback?: boolean; master?: string } = {},
  ) => {
    const link = { name, kind, hardwareType: extra.hardwareType ?? 1, isLoopback: extra.isLoopback ?? false };
    return whyVirtual(link, linkType(link, PLAIN), extra.master ?? '');
  };
  t.is(why('eth0', ''), null);
  t.is(why('bond0', 'bond'), null);
  t.is(why('eth0', '', { master: 'bond0' }), 'a port of bond0');
  t.is(why('lo', '', { hardwareType: 772, isLoopback: true }), 'the loopback interface');
  t.is(why('docker0', 'bridge'), "a bridge of Docker's");
  t.is(why('br-5f1c2d', 'bridge'), "a bridge of Docker's");
  t.is(why('virbr0', 'bridge'), 'a bridge');
  t.is(why('wg0', 'wireguard', { hardwareType: 0xfffe }), 'another tunnel (wireguard)');
  t.is(why('tailscale0', 'tun', { hardwareType: 0xfffe }), 'another tunnel (tun)');
  t.is(why('tap0', 'tun'), 'another tunnel (tun)');
  t.is(why('veth12ab', 'veth'), 'the end of a container or virtual machine (veth)');
  t.is(why('eth0', 'veth'), null, 'a container’s own end is its link to the world');
  t.is(why('dummy0', 'dummy'), 'a virtual device (dummy)');
  t.is(why('can0', '', { hardwareType: 280 }), 'a device of unknown kind (type 280)');
});

test('sysfs: wireless, DEVTYPE and driver; nothing there is a plain device', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'mptun-test-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'wlan0/phy80211'), { recursive: true });
  writeFileSync(join(root, 'wlan0/uevent'), 'DEVTYPE=wlan\nINTERFACE=wlan0\nIFINDEX=3\n');
  mkdirSync(join(root, 'wwan0/device'), { recursive: true });
  writeFileSync(join(root, 'wwan0/uevent'), 'INTERFACE=wwan0\n');
  symlinkSync('../../../bus/usb/drivers/qmi_wwan', join(root, 'wwan0/device/driver'));
  t.deepEqual(readDevice('wlan0', root), { isWireless: true, devType: 'wlan', driver: '' });
  t.deepEqual(readDevice('wwan0', root), { isWireless: false, devType: '', driver: 'qmi_wwan' });
  t.deepEqual(readDevice('gone0', root), PLAIN);
});

test('path rules: first match wins, every criterion must hold', (t) => {
  const rule = (match: Partial<PathRule['match']>, role: PathRule['role']): PathRule => ({
    ...PLAIN_RULE,
    match: { ...PLAIN_RULE.match, ...match },
    role,
  });
  const rules = [
    rule({ name: 'wl*', mac: '02:00:00:00:00:01' }, 'backup'),
    rule({ type: 'wifi' }, 'always'),
    rule({ name: 'eth?' }, 'never'),
  ];
  const mac = '02:00:00:00:00:01';
  const link: MatchedFacts = { name: 'wlan0', type: 'wifi', mac, permanentMac: null, ssid: null, whyVirtual: null };
  t.is(matchRule(rules, link)?.role, 'backup');
  t.is(matchRule(rules, { ...link, mac: null })?.role, 'always');
  t.is(matchRule(rules, { ...link, mac: '02:aa:aa:aa:aa:aa', permanentMac: mac })?.role, 'backup', 'made-up MAC');
  t.is(matchRule(rules, { ...link, name: 'eth0', type: 'ethernet' })?.role, 'never');
  t.is(matchRule(rules, { ...link, name: 'eth10', type: 'ethernet' }), null);
  const networks = [rule({ ssid: 'Guests*' }, 'backup'), rule({ type: 'wifi' }, 'always')];
  t.is(matchRule(networks, { ...link, ssid: 'Guests 2' })?.role, 'backup');
  t.is(matchRule(networks, { ...link, ssid: 'Home' })?.role, 'always');
  t.is(matchRule(networks, link)?.role, 'always', 'not known to be that network');
  t.true(matchesPattern('a.b*', 'a.bc'));
  t.false(matchesPattern('a.b*', 'axbc'));

  const veth: MatchedFacts = { ...link, name: 'veth0', type: 'other', whyVirtual: 'the end of a container' };
  t.is(matchRule([rule({ name: '*' }, 'always')], veth), null, 'a pattern takes no container');
  t.is(matchRule([rule({ type: 'other' }, 'always')], veth), null);
  t.is(matchRule([rule({ name: 'veth0' }, 'always')], veth)?.role, 'always', 'its very name does');
  t.is(matchRule([rule({ mac }, 'always')], veth)?.role, 'always');
});

test('metered: the rule says, else the system, else the type of the link', (t) => {
  const on = (type: LinkType, system: boolean | null, rule: boolean | null) =>
    isMetered({ ...PLAIN_RULE, metered: rule }, { type, isMetered: system });
  t.true(on('cellular', null, null));
  t.true(on('usb', null, null));
  t.false(on('wifi', null, null));
  t.true(on('wifi', true, null));
  t.false(on('cellular', false, null));
  t.false(on('cellular', true, false));
  t.true(on('ethernet', false, true));
});

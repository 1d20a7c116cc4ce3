/** The link monitor against the kernel: real interfaces that come, go and change, in a namespace of its own. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { PLAIN_RULE } from '../../src/config/match.js';
import type { PathMatch, PathRule } from '../../src/config/types.js';
import { HostFeed } from '../../src/daemon/host-feed.js';
import { type LinkChange, LinkMonitor, type LinkMonitorOptions } from '../../src/daemon/link-monitor.js';
import { inNamespace, Rtnetlink } from '../../src/native/index.js';
import { TestNamespace } from '../support/netns.js';
import { until } from '../support/until.js';

const near = new TestNamespace('lk-a');
const far = new TestNamespace('lk-b');
const scratch = mkdtempSync(join(tmpdir(), 'mptun-test-'));
test.after.always(() => {
  near.close();
  far.close();
  rmSync(scratch, { recursive: true });
});

function rule(match: Partial<PathMatch>, role: PathRule['role'] = 'always'): PathRule {
  return { ...PLAIN_RULE, match: { ...PLAIN_RULE.match, ...match }, role };
}

/** A monitor and everything that it tells, one line each. */
class Watched {
  readonly log: string[] = [];
  readonly monitor: LinkMonitor;
  readonly rt: Rtnetlink;

  constructor(rules: readonly PathRule[], options: Partial<LinkMonitorOptions> = {}) {
    this.rt = inNamespace(near.name, () => new Rtnetlink());
    const whole: LinkMonitorOptions = {
      rt: this.rt,
      rules,
      ownTun: 'mt-test',
      side: 'client',
      deviceOf: () => ({ isWireless: false, devType: '', driver: '' }),
      ...options,
    };
    this.monitor = inNamespace(
      near.name,
      () =>
        new LinkMonitor(whole, {
          onChange: (change) => this.log.push(changeText(change)),
          onNews: (link, news) => this.log.push(`${link.name}: news ${news}`),
          onSignal: (link, dbm) => {
            if (dbm !== null) this.log.push(`${link.name}: ${dbm} dBm`);
          },
        }),
    );
  }

  link(name: string) {
    return this.monitor.links.find((l) => l.name === name) ?? null;
  }

  /** Waits for a line; what was told before it is forgotten. */
  async told(line: string): Promise<void> {
    await until(() => this.log.includes(line), `${line}\nbut: ${this.log.join(' / ')}`);
    this.log.splice(0, this.log.indexOf(line) + 1);
  }

  /** Makes a change that must be told, after which everything before it has been heard: then nothing else was told. */
  async toldNothing(name: string): Promise<readonly string[]> {
    this.log.length = 0;
    near.ip('link', 'set', name, 'mtu', '1281');
    await until(() => this.log.some((l) => l.endsWith('mtu 1281')), 'the marker');
    near.ip('link', 'set', name, 'mtu', '1500');
    await until(() => this.log.some((l) => l.endsWith('mtu 1500')), 'its end');
    const others = this.log.filter((l) => !/mtu (1281|1500)$/.test(l));
    this.log.length = 0;
    return others;
  }

  close(): void {
    this.monitor.close();
    this.rt.close();
  }
}

function changeText({ before, after }: LinkChange): string {
  if (after === null) return `${before!.name} is gone`;
  if (before === null) return `${after.name} is new, ${after.isUp ? 'up' : after.whyDown}`;
  const what: string[] = [];
  if (before.name !== after.name) what.push(`was ${before.name}`);
  if (before.whyDown !== after.whyDown) what.push(after.whyDown ?? 'up');
  if (before.mtuBytes !== after.mtuBytes) what.push(`mtu ${after.mtuBytes}`);
  const addresses = (link: typeof after) => link.addresses.map((a) => a.text).join(' ');
  if (addresses(before) !== addresses(after)) what.push(`has ${addresses(after)}`);
  const gateways = (link: typeof after) => link.defaultRoutes.map((r) => r.gateway?.text ?? 'direct').join(' ');
  if (gateways(before) !== gateways(after)) what.push(`gateway ${gateways(after)}`);
  if (before.ssid !== after.ssid) what.push(`ssid ${after.ssid}`);
  if (before.isMetered !== after.isMetered) what.push(`metered ${after.isMetered}`);
  if (before.rule !== after.rule) what.push(`role ${after.rule.role}`);
  return `${after.name}: ${what.join(', ')}`;
}

test.serial(
  'an interface appears, gets carrier, address and gateway, changes them, is renamed, and vanishes',
  async (t) => {
    const w = new Watched([rule({ name: 'wlan0' }), rule({ name: 'wlp2s0' }, 'backup')]);
    t.teardown(() => w.close());
    near.ip('link', 'add', 'wlan0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', far.name);
    await w.told('wlan0 is new, link is switched off');
    near.ip('link', 'set', 'wlan0', 'up');
    await w.told('wlan0: link is down');
    far.ip('link', 'set', 'eth0', 'up');
    await w.told('wlan0: it has a link-local address only'); // the kernel's own fe80:: comes with the carrier
    near.ip('addr', 'add', '169.254.7.7/16', 'dev', 'wlan0');
    t.deepEqual(await w.toldNothing('wlan0'), [], 'an IPv4 link-local address is none, whatever its scope');
    near.ip('addr', 'add', '10.9.0.2/24', 'dev', 'wlan0');
    await w.told('wlan0: up, has 10.9.0.2');
    near.ip('route', 'add', 'default', 'via', '10.9.0.1', 'dev', 'wlan0', 'metric', '600');
    await w.told('wlan0: gateway 10.9.0.1');
    t.like(w.link('wlan0'), { isUp: true, hasCarrier: true, mtuBytes: 1500, type: 'other', whyDown: null });
    t.regex(w.link('wlan0')!.mac!, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);

    near.ip('addr', 'add', 'fd09::2/64', 'dev', 'wlan0');
    await w.told('wlan0: has 10.9.0.2 fd09::2');
    near.ip('link', 'set', 'wlan0', 'mtu', '1400');
    await w.told('wlan0: mtu 1400');
    near.ip('link', 'set', 'wlan0', 'mtu', '1500');
    await w.told('wlan0: mtu 1500');

    const { id } = w.link('wlan0')!;
    near.ip('link', 'set', 'wlan0', 'name', 'wlp2s0');
    await w.told('wlp2s0: was wlan0, role backup');
    t.is(w.link('wlp2s0')!.id, id, 'the same link');
    far.ip('link', 'set', 'eth0', 'down');
    await w.told('wlp2s0: link is down');
    far.ip('link', 'set', 'eth0', 'up');
    await w.told('wlp2s0: up');
    near.ip('link', 'del', 'wlp2s0');
    await w.told('wlp2s0 is gone');
    t.deepEqual(w.monitor.links, []);
  },
);

test.serial('a DHCP renewal is nothing; a new address in place of the old one is a change', async (t) => {
  near.veth('wlan0', far, 'eth0');
  near.ip('addr', 'add', '10.9.0.2/24', 'dev', 'wlan0', 'valid_lft', '600', 'preferred_lft', '600');
  near.ip('route', 'add', 'default', 'via', '10.9.0.1', 'dev', 'wlan0', 'metric', '600');
  const w = new Watched([rule({ name: 'wlan0' })]);
  t.teardown(() => {
    w.close();
    near.ip('link', 'del', 'wlan0');
  });
  // As dhclient, NetworkManager and systemd-networkd renew: the same address with new lifetimes, the same route again.
  near.ip('addr', 'replace', '10.9.0.2/24', 'dev', 'wlan0', 'valid_lft', '1200', 'preferred_lft', '1200');
  near.ip('route', 'replace', 'default', 'via', '10.9.0.1', 'dev', 'wlan0', 'metric', '600');
  t.deepEqual(await w.toldNothing('wlan0'), []);
  near.ip('addr', 'add', '10.9.0.77/24', 'dev', 'wlan0');
  await w.told('wlan0: has 10.9.0.2 10.9.0.77');
  near.ip('addr', 'del', '10.9.0.2/24', 'dev', 'wlan0'); // with `promote_secondaries` off the other one goes, too
  await until(() => !w.link('wlan0')!.addresses.some((a) => a.text === '10.9.0.2'), 'the old one to go');
  near.ip('addr', 'replace', '10.9.0.77/24', 'dev', 'wlan0');
  await until(() => w.link('wlan0')!.isUp, 'the new one');
  t.deepEqual(
    w.link('wlan0')!.addresses.map((a) => a.text),
    ['10.9.0.77'],
  );
});

test.serial('what is over before anybody looked, and what no fact shows, is told as news', async (t) => {
  near.veth('wlan0', far, 'eth0');
  near.ip('addr', 'add', '10.9.0.2/24', 'dev', 'wlan0');
  near.ip('route', 'add', 'default', 'via', '10.9.0.1', 'dev', 'wlan0');
  const w = new Watched([rule({ name: 'wlan0' })]);
  t.teardown(() => {
    w.close();
    near.ip('link', 'del', 'wlan0');
  });
  // All of these run synchronously: the loop sees their notifications together, at their end.
  near.ip('link', 'set', 'wlan0', 'state', 'dormant'); // not IFF_RUNNING, as WiFi while it authenticates
  near.ip('link', 'set', 'wlan0', 'state', 'up');
  await w.told('wlan0: news carrier');
  near.ip('addr', 'del', '10.9.0.2/24', 'dev', 'wlan0');
  near.ip('addr', 'add', '10.9.0.2/24', 'dev', 'wlan0');
  near.ip('route', 'add', 'default', 'via', '10.9.0.1', 'dev', 'wlan0');
  await w.told('wlan0: news route');
  near.ip('route', 'add', '198.51.100.7', 'via', '10.9.0.1', 'dev', 'wlan0');
  await w.told('wlan0: news route');
  near.ip('route', 'del', '198.51.100.7');
  await w.told('wlan0: news route');

  const neighbour = (...args: string[]) => near.ip('neigh', 'replace', '10.9.0.1', 'dev', 'wlan0', ...args);
  neighbour('lladdr', '02:00:00:00:00:01', 'nud', 'reachable');
  t.deepEqual(await w.toldNothing('wlan0'), [], 'its gateway is resolved for the first time');
  neighbour('lladdr', '02:00:00:00:00:01', 'nud', 'stale');
  t.deepEqual(await w.toldNothing('wlan0'), []);
  neighbour('lladdr', '02:00:00:00:00:02', 'nud', 'reachable');
  await w.told('wlan0: news neighbour');
  neighbour('nud', 'failed');
  neighbour('lladdr', '02:00:00:00:00:02', 'nud', 'reachable');
  await w.told('wlan0: news neighbour');
});

test.serial('without a route to the server a link is not up, and says so', async (t) => {
  near.veth('wlan0', far, 'eth0');
  near.ip('addr', 'add', '10.9.0.2/24', 'dev', 'wlan0');
  const w = new Watched([rule({ name: 'wlan0' })], { hasRoute: (link) => link.defaultRoutes.length > 0 });
  t.teardown(() => {
    w.close();
    near.ip('link', 'del', 'wlan0');
  });
  t.like(w.link('wlan0'), { isUp: false, hasCarrier: true, whyDown: 'it has no route to the server' });
  near.ip('route', 'add', 'default', 'via', '10.9.0.1', 'dev', 'wlan0');
  await w.told('wlan0: up, gateway 10.9.0.1');
  near.ip('route', 'del', 'default');
  await w.told('wlan0: it has no route to the server, gateway ');
});

test.serial('more notifications than the socket holds: everything is read afresh, and told once', async (t) => {
  near.veth('wlan0', far, 'eth0');
  near.ip('addr', 'add', '10.9.0.2/24', 'dev', 'wlan0');
  const w = new Watched([rule({ name: 'wlan0' }), rule({ name: 'wlan1' })]);
  t.teardown(() => {
    w.close();
    near.ip('link', 'del', 'wlan0');
    near.ip('link', 'del', 'wlan1');
  });
  // The loop does not run meanwhile.
  const flood = Array.from({ length: 3000 }, (_, i) => `link set wlan0 mtu ${1400 + (i % 2)}`);
  writeFileSync(join(scratch, 'flood'), `${flood.join('\n')}\nlink add wlan1 type dummy2\n`);
  t.throws(() => near.ip('-batch', join(scratch, 'flood')), undefined, 'its last line is wrong, its others are done');
  near.ip('link', 'add', 'wlan1', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', far.name);
  near.ip('link', 'set', 'wlan0', 'mtu', '1500');
  await w.told('wlan0: news events-lost');
  t.truthy(w.link('wlan1'), 'what was told in a lost notification is known');
  t.true(w.log.length <= 2, w.log.join(' / '));
});

test.serial(
  'bridges, their ports, tunnels, container ends and dummies are left out, each with its reason',
  async (t) => {
    near.ip('link', 'add', 'docker0', 'type', 'bridge');
    near.ip('link', 'add', 'vc0', 'type', 'veth', 'peer', 'name', 'vc1');
    near.ip('link', 'set', 'vc1', 'master', 'docker0');
    near.ip('tuntap', 'add', 'vpn0', 'mode', 'tun');
    near.ip('tuntap', 'add', 'mt-test', 'mode', 'tun');
    near.veth('wlan0', far, 'eth0');
    const w = new Watched([rule({ name: 'wlan0' }), rule({ name: '*' }), rule({ type: 'other' })]);
    t.teardown(() => {
      w.close();
      for (const name of ['docker0', 'vc1', 'vpn0', 'mt-test', 'wlan0']) near.ip('link', 'del', name);
    });
    t.deepEqual(
      w.monitor.links.map((l) => l.name),
      ['wlan0'],
      'a veth that a rule names is a link',
    );
    const reasons = () => Object.fromEntries(w.monitor.leftOut.map((l) => [l.name, l.why]));
    t.deepEqual(reasons(), {
      docker0: "a bridge of Docker's",
      vc0: 'the end of a container or virtual machine (veth)',
      vc1: 'a port of docker0',
      vpn0: 'another tunnel (tun)',
    });
    w.monitor.setRules([rule({ name: 'wlan0' }, 'never'), rule({ name: 'vc0' })]);
    await w.told('vc0 is new, link is switched off');
    t.is(w.link('wlan0')!.rule.role, 'never', 'known, to be shown as what it is');
    t.false('wlan0' in reasons());
    near.ip('link', 'set', 'vc0', 'name', 'vc9');
    await w.told('vc0 is gone');
    t.is(reasons().vc9, 'the end of a container or virtual machine (veth)');
  },
);

test.serial('a lab can feed what it has no hardware for: type, network, signal, money', async (t) => {
  near.veth('wlan0', far, 'eth0');
  near.ip('addr', 'add', '10.9.0.2/24', 'dev', 'wlan0');
  const file = join(scratch, 'feed.json');
  const write = (links: object) => {
    writeFileSync(`${file}.new`, JSON.stringify({ links }));
    renameSync(`${file}.new`, file);
  };
  write({ wlan0: { type: 'wifi', ssid: 'home', signal_dbm: -50 } });
  const problems: string[] = [];
  const feed = new HostFeed(file, (message) => problems.push(message));
  const w = new Watched([rule({ ssid: 'café' }, 'backup'), rule({ type: 'wifi' })], { feed });
  t.teardown(() => {
    w.close();
    near.ip('link', 'del', 'wlan0');
  });
  t.like(w.link('wlan0'), { type: 'wifi', ssid: 'home', signalDbm: -50, whyVirtual: null, isUp: true });
  write({ wlan0: { type: 'wifi', ssid: 'home', signal_dbm: -63 } });
  w.monitor.sample();
  await w.told('wlan0: -63 dBm');
  write({ wlan0: { type: 'wifi', ssid: 'café', signal_dbm: -64, metered: true } });
  w.monitor.sample();
  await w.told('wlan0: ssid café, metered true, role backup');
  t.is(w.link('wlan0')!.signalDbm, -64);
  writeFileSync(file, '{"links": {"wlan0": {"colour": 1}}}');
  w.monitor.sample();
  t.is(problems.length, 1);
  t.is(w.link('wlan0')!.ssid, 'café', 'what was said before stands');
});

import test from 'ava';
import { parseIp } from '../../src/core/base/ip.js';
import {
  inNamespace,
  NetlinkError,
  type NetlinkEvent,
  NetlinkMonitor,
  NUD_FAILED,
  NUD_INCOMPLETE,
  NUD_VALID,
  parsePrefix,
  ROUTE_PROTOCOL,
  Rtnetlink,
} from '../../src/native/index.js';
import { TestNamespace } from '../support/netns.js';
import { until } from '../support/until.js';

const near = new TestNamespace('nl-a');
const far = new TestNamespace('nl-b');
near.veth('wlan0', far, 'eth0');
const netlink = inNamespace(near.name, () => new Rtnetlink());
const index = netlink.link('wlan0')!.index;
test.after.always(() => {
  netlink.close();
  near.close();
  far.close();
});

test.serial('links: names, flags, mac and kind; absent ones are null', (t) => {
  const names = netlink.links().map((link) => link.name);
  t.deepEqual(names.sort(), ['lo', 'wlan0']);
  const link = netlink.link('wlan0')!;
  t.like(link, { mtuBytes: 1500, isUp: true, isRunning: true, isLoopback: false, hardwareType: 1, kind: 'veth' });
  t.true(
    near.ip('link', 'show', 'wlan0').includes(
      Buffer.from(link.mac)
        .toString('hex')
        .replace(/(..)(?=.)/g, '$1:'),
    ),
  );
  t.is(netlink.link('wlan9'), null);
  netlink.setLink(index, { mtuBytes: 1400 });
  t.is(netlink.link('wlan0')!.mtuBytes, 1400);
  netlink.setLink(index, { up: false });
  t.like(netlink.link('wlan0'), { isUp: false, isRunning: false });
  netlink.setLink(index, { up: true, mtuBytes: 1500 });
  t.true(netlink.link('wlan0')!.isUp);
});

test.serial('addresses: added, listed, removed, both families', (t) => {
  const four = parsePrefix('10.1.0.2/24');
  const six = parsePrefix('fd01::2/64');
  netlink.addAddress(index, four);
  netlink.addAddress(index, six);
  netlink.addAddress(index, four);
  const mine = () => netlink.addresses().filter((a) => a.interfaceIndex === index && a.scope === 0);
  t.deepEqual(
    mine()
      .map((a) => `${a.address.text}/${a.prefixLength}`)
      .sort(),
    ['10.1.0.2/24', 'fd01::2/64'],
  );
  t.true(mine().every((a) => !a.isTentative && !a.isDeprecated));
  t.true(netlink.deleteAddress(index, four));
  t.false(netlink.deleteAddress(index, four));
  netlink.addAddress(index, four);
});

test.serial('routes and rules in a table of ours', (t) => {
  const route = {
    family: 4,
    destination: parsePrefix('203.0.113.0/24'),
    gateway: parseIp('10.1.0.1'),
    interfaceIndex: index,
    table: 7700,
  } as const;
  netlink.addRoute(route);
  netlink.addRoute({ family: 6, destination: null, type: 'unreachable', table: 7700 });
  t.regex(near.ip('route', 'show', 'table', '7700'), /203\.0\.113\.0\/24 via 10\.1\.0\.1 dev wlan0 proto 77/);
  t.regex(near.ip('-6', 'route', 'show', 'table', '7700'), /unreachable default .*proto 77/);
  const ours = netlink.routes().filter((r) => r.protocol === ROUTE_PROTOCOL);
  t.deepEqual(ours.map((r) => [r.family, r.type, r.table]).sort(), [
    [4, 'unicast', 7700],
    [6, 'unreachable', 7700],
  ]);
  for (const r of ours) t.true(netlink.deleteRoute(r), 'what is listed can be deleted as it is');
  t.false(netlink.deleteRoute(route));

  const rule = {
    family: 4,
    priority: 7700,
    table: 7700,
    from: parsePrefix('10.0.0.0/8'),
    outputInterface: 'wlan0',
    mark: { value: 0x77, mask: 0xff },
    invert: true,
  } as const;
  netlink.addRule(rule);
  netlink.addRule(rule);
  netlink.addRule({ family: 6, priority: 7701, table: 254, suppressPrefixLength: 0 });
  t.regex(near.ip('rule', 'show'), /7700:\s+not from 10\.0\.0\.0\/8 fwmark 0x77\/0xff oif wlan0 lookup 7700 proto 77/);
  t.regex(near.ip('-6', 'rule', 'show'), /7701:\s+from all lookup main suppress_prefixlength 0 proto 77/);
  const flow = {
    family: 6,
    priority: 7702,
    table: 7700,
    to: parsePrefix('2001:db8::/32'),
    ipProtocol: 6,
    destinationPorts: { from: 80, to: 90 },
    uids: { from: 1000, to: 1000 },
  } as const;
  netlink.addRule(flow);
  const shown = near.ip('-6', 'rule', 'show');
  for (const part of ['7702:', 'to 2001:db8::/32', 'dport 80-90', 'uidrange 1000-1000']) {
    t.true(shown.includes(part), `${part} in ${shown}`);
  }
  t.regex(shown, /ipproto (tcp|ipproto-6) /, 'a small system has no list of names');
  const byCodePoint = { family: 4, priority: 7703, table: 7700, dscp: 46 } as const;
  netlink.addRule(byCodePoint);
  t.like(
    netlink.rules().find((r) => r.priority === 7703),
    byCodePoint,
  );
  t.like(
    netlink.rules().find((r) => r.priority === 7702),
    flow,
  );
  const rules = netlink.rules().filter((r) => r.protocol === ROUTE_PROTOCOL);
  t.like(
    rules.find((r) => r.priority === 7700),
    rule,
  );
  for (const r of rules) t.true(netlink.deleteRule(r));
  t.false(netlink.deleteRule(rule));
});

test.serial('the next hop is what the kernel would choose on that interface, or null', (t) => {
  const source = parseIp('10.1.0.2');
  t.is(netlink.nextHop(index, parseIp('10.1.0.9'), source)!.address.text, '10.1.0.9');
  t.is(netlink.nextHop(index, parseIp('8.8.8.8'), source), null, 'no route: not assumed to be on the link');
  near.ip('route', 'add', 'default', 'via', '10.1.0.1', 'dev', 'wlan0', 'metric', '600');
  near.ip('-6', 'route', 'add', 'default', 'via', 'fd01::1', 'dev', 'wlan0');
  t.is(netlink.nextHop(index, parseIp('8.8.8.8'), source)!.address.text, '10.1.0.1');
  t.is(netlink.nextHop(index, parseIp('2001:db8::8'), parseIp('fd01::2'))!.address.text, 'fd01::1');
  t.is(netlink.nextHop(index, parseIp('8.8.8.8'), null)!.source!.text, '10.1.0.2');
  t.like(netlink.routeTo(parseIp('8.8.8.8')), { interfaceIndex: index, source: source });
  near.ip('route', 'add', 'blackhole', '9.9.9.9');
  t.is(netlink.routeTo(parseIp('9.9.9.9')), null);
  t.is(netlink.nextHop(1, parseIp('8.8.8.8'), null), null, 'not through another interface');
});

test.serial('IPv6: each of two links has its own next hop, although one default route is better', (t) => {
  near.veth('wwan0', far, 'eth1');
  near.ip('addr', 'add', 'fd02::2/64', 'dev', 'wwan0');
  near.ip('-6', 'route', 'add', 'default', 'via', 'fd02::1', 'dev', 'wwan0', 'metric', '2000');
  const second = netlink.link('wwan0')!.index;
  const there = parseIp('2001:db8::8');
  t.is(netlink.nextHop(second, there, parseIp('fd02::2'))!.address.text, 'fd02::1');
  t.is(netlink.nextHop(index, there, parseIp('fd01::2'))!.address.text, 'fd01::1');
  near.ip('-6', 'rule', 'add', 'from', 'fd02::2', 'unreachable');
  t.is(netlink.nextHop(second, there, parseIp('fd02::2')), null, 'a rule for the source is obeyed');
  near.ip('link', 'del', 'wwan0');
  near.ip('-6', 'rule', 'del', 'from', 'fd02::2');
});

test.serial('a used neighbour is resolved by the kernel, and its failure is told', async (t) => {
  const events: NetlinkEvent[] = [];
  const monitor = inNamespace(near.name, () => new NetlinkMonitor(['neighbour'], (event) => events.push(event)));
  far.ip('addr', 'add', '10.1.0.1/24', 'dev', 'eth0');
  far.ip('addr', 'add', 'fd01::1/64', 'dev', 'eth0');
  for (const address of ['10.1.0.1', 'fd01::1']) {
    t.is(netlink.neighbour(index, parseIp(address)), null);
    netlink.useNeighbour(index, parseIp(address));
    await until(
      () =>
        events.some(
          (e) =>
            e.type === 'neighbour' && e.neighbour.address.text === address && (e.neighbour.state & NUD_VALID) !== 0,
        ),
      address,
    );
    const found = netlink.neighbour(index, parseIp(address))!;
    t.is(found.mac.length, 6);
    t.is(found.interfaceIndex, index);
  }
  netlink.useNeighbour(index, parseIp('10.1.0.77'));
  t.is(netlink.neighbour(index, parseIp('10.1.0.77'))!.state, NUD_INCOMPLETE);
  await until(
    () =>
      events.some(
        (e) => e.type === 'neighbour' && e.neighbour.address.text === '10.1.0.77' && e.neighbour.state === NUD_FAILED,
      ),
    'the failure',
  );
  monitor.close();
});

test.serial('the monitor tells of links, addresses, routes and rules', async (t) => {
  const events: NetlinkEvent[] = [];
  const monitor = inNamespace(
    near.name,
    () => new NetlinkMonitor(['link', 'address', 'route', 'rule'], (event) => events.push(event)),
  );
  const saw = (type: NetlinkEvent['type'], match: (e: never) => boolean) =>
    until(() => events.some((e) => e.type === type && match(e as never)), type);
  far.ip('link', 'set', 'eth0', 'down');
  await saw(
    'link',
    (e: { link: { name: string; isUp: boolean; isRunning: boolean } }) =>
      e.link.name === 'wlan0' && e.link.isUp && !e.link.isRunning,
  );
  far.ip('link', 'set', 'eth0', 'up');
  await saw('link', (e: { link: { isRunning: boolean } }) => e.link.isRunning);
  near.ip('addr', 'add', '10.2.0.1/24', 'dev', 'wlan0');
  await saw('address', (e: { address: { address: { text: string } } }) => e.address.address.text === '10.2.0.1');
  near.ip('addr', 'del', '10.2.0.1/24', 'dev', 'wlan0');
  await saw(
    'address-removed',
    (e: { address: { address: { text: string } } }) => e.address.address.text === '10.2.0.1',
  );
  near.ip('route', 'add', '198.51.100.0/24', 'dev', 'wlan0');
  await saw(
    'route',
    (e: { route: { destination: { address: { text: string } } | null } }) =>
      e.route.destination?.address.text === '198.51.100.0',
  );
  near.ip('rule', 'add', 'pref', '4242', 'table', '99');
  await saw('rule', (e: { rule: { priority: number } }) => e.rule.priority === 4242);
  near.ip('rule', 'del', 'pref', '4242');
  await saw('rule-removed', (e: { rule: { priority: number } }) => e.rule.priority === 4242);
  t.false(events.some((event) => event.type === 'overflow'));
  monitor.close();
});

test.serial('refusals carry the errno and the words of the kernel', (t) => {
  const error = t.throws(
    () => netlink.addRoute({ family: 4, destination: parsePrefix('1.2.3.0/24'), gateway: parseIp('99.9.9.9') }),
    { instanceOf: NetlinkError },
  );
  t.is((error as NetlinkError).code, 'ENETUNREACH');
  t.regex(error.message, /add route 1\.2\.3\.0\/24 table 254: ENETUNREACH \(.+\)/);
  t.throws(() => parsePrefix('10.0.0.0/33'), { instanceOf: RangeError });
});

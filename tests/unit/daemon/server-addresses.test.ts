/** Where the server can be reached, from wherever that is known. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { RemoteEndpoint } from '../../../src/core/pathman/types.js';
import type { HostLink } from '../../../src/daemon/link-monitor.js';
import { ServerAddresses } from '../../../src/daemon/server-addresses.js';

const link = (name: string, ...addresses: string[]) =>
  ({ id: 1, name, addresses: addresses.map(parseIp) }) as unknown as HostLink;
const settled = () => new Promise((resolve) => setImmediate(resolve));

function rig(links: HostLink[], answers: Record<string, string[]>) {
  const asked: string[] = [];
  const told: string[][] = [];
  const timers: { ms: number; fn: () => void }[] = [];
  const resolver = {
    addresses: [parseIp('192.0.2.1')],
    refresh: (name: string) => {
      asked.push(name);
      const found = answers[name];
      if (found !== undefined) resolver.addresses = found.map(parseIp);
      return Promise.resolve(found !== undefined);
    },
  };
  const text = (r: RemoteEndpoint) =>
    `${r.address.text} ${r.port}${r.addressId === undefined ? '' : ` #${r.addressId}`}`;
  const servers = new ServerAddresses({
    resolver,
    rt: { nextHop: (_link, to) => (to.text === '192.0.2.9' ? ({} as never) : null) },
    port: () => 443,
    links: () => links,
    mayAsk: ({ name }) => name !== 'unused',
    after: (ms, fn) => {
      const timer = { ms, fn };
      timers.push(timer);
      return () => void (timers.includes(timer) && timers.splice(timers.indexOf(timer), 1));
    },
    onChange: (remotes) => told.push(remotes.map(text)),
  });
  return { servers, asked, told, timers };
}

const announced = (addressId: number, address: string, port = 0) =>
  ({ type: 'address-announced', connectionId: 1, addressId, endpoint: { address: parseIp(address), port } }) as const;

test('the links are asked in turn, those that may not be used left out, until one answers', async (t) => {
  const links = ['unused', 'deaf', 'wlan0', 'wwan0'].map((name) => link(name));
  const { servers, asked, told } = rig(links, { wlan0: ['192.0.2.7', '2001:db8::7'], wwan0: ['192.0.2.8'] });
  servers.resolve();
  servers.resolve();
  await settled();
  t.deepEqual(asked, ['deaf', 'wlan0'], 'once at a time');
  t.deepEqual(told, [['192.0.2.7 443', '2001:db8::7 443']]);
  t.is(servers.first?.text, '192.0.2.7');
});

test('where nobody answers, what was known is told', async (t) => {
  const { servers, told } = rig([link('deaf')], {});
  servers.resolve();
  await settled();
  t.deepEqual(told, [['192.0.2.1 443']]);
});

test('after the end nothing is told', async (t) => {
  const { servers, told } = rig([link('wlan0')], { wlan0: ['192.0.2.7'] });
  servers.resolve();
  servers.close();
  await settled();
  t.deepEqual(told, []);
});

test("announced addresses come behind, under their ids, each once; a port of none is the tunnel's (RFC 8684 3.4.1)", (t) => {
  const { servers, told } = rig([], {});
  servers.onEngineEvent(announced(4, '192.0.2.9'));
  servers.onEngineEvent(announced(5, '192.0.2.1'));
  servers.onEngineEvent(announced(6, '192.0.2.1', 8443));
  t.deepEqual(told.at(-1), ['192.0.2.1 443', '192.0.2.9 443 #4', '192.0.2.1 8443 #6']);
  servers.onEngineEvent({ type: 'address-removed', connectionId: 1, addressId: 4 });
  t.deepEqual(told.at(-1), ['192.0.2.1 443', '192.0.2.1 8443 #6']);
});

test('a link has a route if any address of the server has, from an address of its family', (t) => {
  const { servers } = rig([], {});
  const wifi = link('wlan0', '10.0.0.2');
  t.false(servers.hasRoute(wifi));
  servers.onEngineEvent(announced(4, '192.0.2.9'));
  t.true(servers.hasRoute(wifi));
  t.false(servers.hasRoute(link('v6', '2001:db8::2')));
});

test('a server that is heard over no path may have moved: its name is asked for after five seconds, then every thirty', async (t) => {
  const { servers, asked, told, timers } = rig([link('wlan0')], { wlan0: ['192.0.2.7'] });
  const fire = async () => {
    timers.shift()!.fn();
    await settled();
  };
  servers.setHeard(false);
  servers.setHeard(false);
  t.deepEqual(
    timers.map(({ ms }) => ms),
    [5_000],
  );
  await fire();
  t.deepEqual(asked, ['wlan0']);
  t.deepEqual(told, [['192.0.2.7 443']], 'and where it is now is told');
  t.deepEqual(
    timers.map(({ ms }) => ms),
    [30_000],
  );
  await fire();
  t.is(asked.length, 2);
  servers.setHeard(true);
  t.is(timers.length, 0, 'heard again: nobody is asked');
  servers.setHeard(false);
  servers.close();
  servers.setHeard(false);
  t.is(timers.length, 0, 'nor after the end');
});

/** A server's addresses come and go; its clients are told. */
import test from 'ava';
import { type IpAddress, parseIp } from '../../../src/core/base/ip.js';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import { Announcements } from '../../../src/daemon/announcements.js';

const FIRST = parseIp('198.51.100.2');
const SECOND = parseIp('198.51.100.3');
const ELASTIC = parseIp('203.0.113.9');

function connection(localAddresses: readonly { address: IpAddress; id: number }[]) {
  const calls: string[] = [];
  let nextId = 5;
  const fake: Partial<ConnectionApi> = {
    announce: (_nowUs, { address }) => {
      calls.push(`announce ${address.text}`);
      return nextId++;
    },
    withdraw: (_nowUs, ...ids) => void calls.push(`withdraw ${ids.join()}`),
    closeSubflow: (_nowUs, id, how) => void calls.push(`close ${id} ${how}`),
    info: () =>
      ({
        subflows: localAddresses.map(({ address, id }, i) => ({
          id: i,
          local: { address, port: 443 },
          localAddressId: id,
        })),
      }) as unknown as ReturnType<ConnectionApi['info']>,
  };
  return { calls, api: fake as ConnectionApi };
}

test('what is configured is announced, on an interface or not', (t) => {
  const { calls, api } = connection([]);
  new Announcements(() => [SECOND, ELASTIC]).onConnectionUp(0, api);
  t.deepEqual(calls, ['announce 198.51.100.3', 'announce 203.0.113.9']);
});

test('an address that vanishes is withdrawn by all its ids, and its subflows end; when it returns it is announced', (t) => {
  const { calls, api } = connection([
    { address: FIRST, id: 0 },
    { address: SECOND, id: 5 },
  ]);
  const announcements = new Announcements(() => [SECOND]);
  announcements.onConnectionUp(0, api);
  announcements.onAddresses(1, [FIRST, SECOND], [FIRST], [api]);
  const late = connection([]);
  announcements.onConnectionUp(2, late.api);
  announcements.onAddresses(3, [FIRST], [FIRST, SECOND], [api, late.api]);
  t.deepEqual(calls, ['announce 198.51.100.3', 'withdraw 5', 'close 1 reset', 'announce 198.51.100.3']);
  t.deepEqual(late.calls, ['announce 198.51.100.3'], 'not while it was gone');
});

test('the first address goes: its id is 0, although it was never announced; one that nobody asked for comes quietly', (t) => {
  const { calls, api } = connection([{ address: FIRST, id: 0 }]);
  const announcements = new Announcements(() => []);
  announcements.onAddresses(0, [FIRST], [SECOND], [api]);
  t.deepEqual(calls, ['withdraw 0', 'close 0 reset']);
});

test('a reload announces what is new, withdraws what is no more, and leaves the rest', (t) => {
  const { calls, api } = connection([]);
  let wanted = [FIRST, SECOND];
  const announcements = new Announcements(() => wanted);
  announcements.onConnectionUp(0, api);
  wanted = [FIRST, ELASTIC];
  announcements.onReload(1, [FIRST, SECOND], [api]);
  t.deepEqual(calls.slice(2), ['announce 203.0.113.9', 'withdraw 6']);
});

/** Which paths carry, and why that changed, from snapshots of either end. */
import test from 'ava';
import type { SubflowInfo } from '../../../src/core/engine/api.js';
import type { PathStatus } from '../../../src/core/pathman/types.js';
import { clientCarriers, explainChange, serverCarriers } from '../../../src/daemon/carriers.js';

function path(linkName: string, fields: Partial<PathStatus>): PathStatus {
  return { linkName, state: 'active', role: 'always', isStalled: false, why: null, ...fields } as PathStatus;
}

test('client: each way to lose a path has its cause', (t) => {
  const cases: [Partial<PathStatus>, string][] = [
    [{ state: 'down', why: 'link is down' }, 'link-down'],
    [{ state: 'down', why: 'its address is gone' }, 'address-gone'],
    [{ state: 'down', why: 'its role is never' }, 'policy'],
    [{ isStalled: true, why: 'nothing gets through' }, 'silent'],
    [{ why: 'the peer says that its link is gone' }, 'peer'],
    [{ state: 'warm', why: 'link is fading, others carry the data' }, 'fading'],
    [{ state: 'draining', why: 'being given up' }, 'policy'],
    [{ state: 'probing', why: 'last attempt failed: reset' }, 'closed'],
    [{ state: 'warm', why: 'overflow: the others have room' }, 'preferred'],
  ];
  for (const [fields, cause] of cases) {
    const change = explainChange(['wlan0', 'wwan0'], clientCarriers([path('wlan0', fields), path('wwan0', {})]), false);
    t.deepEqual(change.carriers, ['wwan0']);
    t.is(change.cause, cause as typeof change.cause, JSON.stringify(fields));
    t.is(change.detail, `wlan0: ${fields.why}`);
  }
});

test('a link that is no more, one that is back, one that is taken in because the others are full, and an order', (t) => {
  const wlan = path('wlan0', {});
  t.deepEqual(explainChange(['wlan0', 'usb0'], clientCarriers([wlan]), false), {
    carriers: ['wlan0'],
    cause: 'closed',
    detail: 'usb0: it is no longer there',
  });
  t.is(explainChange(['wwan0'], clientCarriers([wlan, path('wwan0', {})]), false).cause, 'returned');
  t.is(explainChange(['wlan0'], clientCarriers([wlan, path('wwan0', { role: 'overflow' })]), false).cause, 'overflow');
  const resting = path('wwan0', { state: 'warm', why: 'another path carries the data' });
  t.deepEqual(explainChange(['wwan0'], clientCarriers([wlan, resting]), false), {
    carriers: ['wlan0'],
    cause: 'returned',
    detail: 'wlan0 carries again; wwan0: another path carries the data',
  });
  t.is(explainChange(['wwan0'], clientCarriers([wlan, resting]), true).cause, 'operator');
});

test('a link with two paths carries as long as one of them does', (t) => {
  const views = clientCarriers([path('wlan0', { state: 'warm', why: 'another path' }), path('wlan0', {})]);
  t.deepEqual(explainChange(['wlan0'], views, false).carriers, ['wlan0']);
});

test('server: what the client said is its word, what was found out is silence; backups carry when nothing else does', (t) => {
  const on = (name: string, idleReason: string | null, isStalled = false) => ({
    name,
    subflow: { state: 'established', idleReason, isStalled } as SubflowInfo,
  });
  const causeOf = (idleReason: string, isStalled: boolean) =>
    explainChange(['a', 'b'], serverCarriers([on('a', idleReason, isStalled), on('b', null)]), false).cause;
  t.is(causeOf('the peer says that a is gone', true), 'peer');
  t.is(causeOf('backup', false), 'peer');
  t.is(causeOf('no DATA_ACK progress', true), 'silent');
  t.is(causeOf('link down', false), 'link-down');
  // One of its two connections is enough.
  const views = serverCarriers([on('a', 'nothing acknowledged', true), on('a', null), on('b', 'backup')]);
  t.deepEqual(explainChange([], views, false).carriers, ['a']);
  const backups = serverCarriers([on('a', 'nothing acknowledged', true), on('b', 'backup')]);
  t.deepEqual(explainChange(['a'], backups, false).carriers, ['b']);
});

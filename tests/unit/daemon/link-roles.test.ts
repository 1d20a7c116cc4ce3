/** Rule, cap and order of a link: which of them says what it is for. */
import { join } from 'node:path';
import test from 'ava';
import { PLAIN_RULE } from '../../../src/config/match.js';
import type { Journal } from '../../../src/daemon/journal.js';
import type { HostLink } from '../../../src/daemon/link-monitor.js';
import { LinkRoles } from '../../../src/daemon/link-roles.js';
import { temporaryDirectory } from '../../support/files.js';

const CAP = { dailyBytes: 1000, monthlyBytes: null, resetDay: 1, atLimit: 'backup' } as const;
const link = (id: number, name: string, rule: Partial<HostLink['rule']>): HostLink =>
  ({ id, name, mac: null, permanentMac: null, rule: { ...PLAIN_RULE, ...rule } }) as HostLink;
const LTE = link(2, 'wwan0', { role: 'always', cap: CAP });
const WIFI = link(1, 'wlan0', { role: 'overflow', limitBitPerS: 8_000 });

function rig(file: string) {
  const events: string[] = [];
  const counters = new Map([[LTE.id, 0]]);
  const journal = {
    record: (level: string, type: string, message: string) => events.push(`${level} ${type} ${message}`),
  } as unknown as Journal;
  const roles = new LinkRoles({
    usageFile: file,
    journal,
    trafficBytes: () => counters,
  });
  const changed: string[] = [];
  const count = () => roles.count([WIFI, LTE], ({ name }) => changed.push(name));
  return { roles, counters, events, changed, count };
}

test('a cap that is used up leaves what it says of the role; that is told once', (t) => {
  const { roles, counters, events, changed, count } = rig(join(temporaryDirectory(t), 'usage.json'));
  count();
  t.is(roles.roleOf(LTE), 'always');
  t.is(roles.capText(LTE), null);
  counters.set(LTE.id, 1000);
  count();
  count();
  t.is(roles.roleOf(LTE), 'backup');
  t.is(roles.usageOf(LTE)?.dayBytes, 1000);
  t.regex(roles.capText(LTE)!, /^daily cap reached: 1 kB of 1 kB; role backup until /);
  t.deepEqual(changed, ['wwan0']);
  t.is(events.length, 1);
  t.regex(events[0]!, /^warn cap wwan0: daily cap reached/);
  t.is(roles.roleOf(WIFI), 'overflow');
  t.is(roles.usageOf(WIFI), null);
});

test('an order comes before rule and cap, and ends with them in force again', (t) => {
  const { roles, counters, count } = rig(join(temporaryDirectory(t), 'usage.json'));
  count();
  counters.set(LTE.id, 5000);
  count();
  roles.orders.change('wwan0', { role: 'always' }, roles.roleWithoutOrders(LTE));
  roles.orders.change('wlan0', { limit_bps: 16_000 }, roles.roleWithoutOrders(WIFI));
  t.is(roles.roleOf(LTE), 'always');
  t.is(roles.roleWithoutOrders(LTE), 'backup');
  t.is(roles.limitOf(WIFI), 16_000);
  roles.orders.clear();
  t.is(roles.roleOf(LTE), 'backup');
  t.is(roles.limitOf(WIFI), 8_000);
});

test('a cap that a reload takes away gives the role back', (t) => {
  const { roles, counters, events, changed, count } = rig(join(temporaryDirectory(t), 'usage.json'));
  count();
  counters.set(LTE.id, 2000);
  count();
  t.is(roles.roleOf(LTE), 'backup');
  const uncapped = link(LTE.id, LTE.name, { role: 'always', cap: null });
  roles.count([uncapped], ({ name }) => changed.push(`${name} again`));
  t.is(roles.roleOf(uncapped), 'always');
  t.deepEqual(changed, ['wwan0', 'wwan0 again']);
  t.regex(events.at(-1)!, /^info cap wwan0: /);
});

test('what was used is known to the next run', (t) => {
  const file = join(temporaryDirectory(t), 'usage.json');
  const first = rig(file);
  first.count();
  first.counters.set(LTE.id, 400);
  first.count();
  first.roles.close();
  const second = rig(file);
  t.is(second.roles.usageOf(LTE)?.dayBytes, 400);
});

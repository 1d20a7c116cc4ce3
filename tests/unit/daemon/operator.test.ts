/** An operator's orders, and what `mptun why` says of them. */
import test from 'ava';
import { PLAIN_RULE } from '../../../src/config/match.js';
import { OperatorOrders } from '../../../src/daemon/operator.js';
import { ruleText, whyDocument } from '../../../src/daemon/why.js';
import { samplePath, sampleStatus } from '../../support/fake-daemon.js';

const NOW = '2026-01-02T03:04:05.000Z';
const orders = () => new OperatorOrders(() => NOW);

test('an order replaces the configuration until it is reset; role and limit are separate', (t) => {
  const o = orders();
  t.is(o.roleOf('wlan0', 'overflow'), 'overflow');
  o.change('wlan0', { role: 'backup' }, 'overflow');
  o.change('wlan0', { limit_bps: 5_000_000 }, 'overflow');
  t.deepEqual(o.of('wlan0'), { role: 'backup', limit_bps: 5_000_000, since: NOW });
  t.is(o.roleOf('wlan0', 'overflow'), 'backup');
  t.is(o.limitOf('wlan0', 1_000), 5_000_000);
  t.is(o.limitOf('wwan0', 1_000), 1_000);
  o.change('wlan0', { role: null }, 'overflow');
  t.is(o.of('wlan0')?.limit_bps, 5_000_000);
  o.change('wlan0', { limit_bps: null }, 'overflow');
  t.is(o.of('wlan0'), null);
});

test('up takes down back, whoever said it, and leaves another order alone', (t) => {
  const o = orders();
  o.change('wlan0', { use: 'down' }, 'always');
  t.is(o.roleOf('wlan0', 'always'), 'never');
  o.change('wlan0', { use: 'up' }, 'always');
  t.is(o.of('wlan0'), null);
  o.change('wlan0', { use: 'up' }, 'never');
  t.is(o.roleOf('wlan0', 'never'), 'always');
  o.change('wwan0', { role: 'backup' }, 'always');
  o.change('wwan0', { use: 'up' }, 'always');
  t.is(o.roleOf('wwan0', 'always'), 'backup');
});

test('a reload forgets orders and mode', (t) => {
  const o = orders();
  o.mode = 'handover';
  o.change('wlan0', { use: 'down' }, 'always');
  o.clear();
  t.is(o.mode as string | null, null);
  t.is(o.of('wlan0'), null);
});

test('why: the rule that matched, where the role comes from, why chosen or not', (t) => {
  const order = { role: 'always', limit_bps: null, since: NOW } as const;
  const document = whyDocument({
    status: sampleStatus({
      paths: [
        samplePath(),
        samplePath({ name: 'wwan0', order }),
        samplePath({ name: 'usb0', state: 'warm', reason: 'link is fading, others carry the data' }),
      ],
    }),
    flows: [],
    ruleOf: ({ name }) => ({ ...PLAIN_RULE, match: { ...PLAIN_RULE.match, name } }),
    managedRole: ({ name }) => (name === 'usb0' ? 'backup' : null),
  });
  t.deepEqual(
    document.paths.map((p) => [p.name, p.rule, p.role, p.role_from, p.is_chosen, p.why]),
    [
      [
        'wlan0',
        'name wlan0',
        'always',
        'configuration',
        true,
        'role always: every such path carries data in mode auto',
      ],
      ['wwan0', 'name wwan0', 'always', 'operator', true, 'role always: every such path carries data in mode auto'],
      ['usb0', 'name usb0', 'backup', 'signal', false, 'link is fading, others carry the data'],
    ],
  );
  t.is(ruleText(PLAIN_RULE), 'any link');
});

import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { AddressChoice, LinkPolicy } from '../../../src/core/pathman/types.js';
import { Rig, SERVER, SERVER6 } from './rig.js';

const S = 1_000_000;

/** wifi (1) and lte (2), with an address of each family each, after five seconds. */
function rigWith(lte: Partial<LinkPolicy>, wifi: Partial<LinkPolicy> = {}): Rig {
  const rig = new Rig({ families: [4, 6] })
    .addLink(1, 'wifi', ['192.0.2.1', '2001:db8:1::1'])
    .addLink(2, 'lte', ['192.0.2.129', '2001:db8:2::1']);
  rig.event({ type: 'link-policy', linkId: 1, policy: wifi }).event({ type: 'link-policy', linkId: 2, policy: lte });
  return rig.remotes(SERVER, SERVER6).run(5 * S);
}

/** Local addresses that carry or could carry data. */
function inUse(rig: Rig): string[] {
  return rig.manager
    .paths(rig.nowUs)
    .filter((p) => p.state === 'active' || p.state === 'warm')
    .map((p) => p.localAddress.text)
    .sort();
}

function choice(include: string[], exclude: string[] = []): AddressChoice {
  const prefix = (text: string) => {
    const [address, bits] = text.split('/');
    return { address: parseIp(address!), bits: Number(bits) };
  };
  return { include: include.map(prefix), exclude: exclude.map(prefix) };
}

test('keep_warm false: a backup has no subflow until the others fail, and gives it up when they are back', (t) => {
  const rig = rigWith({ role: 'backup', keepWarm: false });
  t.deepEqual(inUse(rig), ['192.0.2.1']);
  const cold = rig.manager.paths(rig.nowUs).filter((p) => p.linkName === 'lte');
  t.true(cold.every((p) => p.state === 'probing' && p.why === 'opened when it is needed (keep_warm: false)'));
  rig.setUp(1, false).run(0.2 * S);
  t.deepEqual(inUse(rig), ['192.0.2.129']);
  rig.setUp(1, true).run(2 * S);
  t.deepEqual(inUse(rig), ['192.0.2.1', '192.0.2.129'], 'rests for a while');
  rig.run(8 * S);
  t.deepEqual(inUse(rig), ['192.0.2.1']);
});

test('keep_warm false: a fading link has its cold backup opened before it breaks', (t) => {
  const rig = rigWith({ role: 'backup', keepWarm: false });
  rig.event({ type: 'link-fading', linkId: 1, isFading: true }).run(0.2 * S);
  t.deepEqual(inUse(rig), ['192.0.2.1', '192.0.2.129']);
});

test('an overflow link with its own threshold opens when that is passed, not when another one is', (t) => {
  const rig = rigWith({ role: 'overflow' });
  rig.addLink(3, 'usb', ['192.0.2.200'], { role: 'overflow' }).run(1 * S);
  const active = () =>
    rig.manager
      .paths(rig.nowUs)
      .filter((p) => p.state === 'active')
      .map((p) => p.linkName)
      .sort();
  t.deepEqual(active(), ['wifi']);
  rig.event({ type: 'saturation', isSaturated: true, linkId: 2 });
  t.deepEqual(active(), ['lte', 'wifi']);
  rig.event({ type: 'saturation', isSaturated: true });
  t.deepEqual(active(), ['lte', 'usb', 'wifi']);
  rig.event({ type: 'saturation', isSaturated: false }).run(6 * S);
  t.deepEqual(active(), ['lte', 'wifi'], 'its own threshold is still passed');
  rig.event({ type: 'saturation', isSaturated: false, linkId: 2 }).run(4 * S);
  t.deepEqual(active(), ['lte', 'wifi']);
  rig.run(2 * S);
  t.deepEqual(active(), ['wifi']);
});

test('the preferred family is that of the link', (t) => {
  const rig = rigWith({ families: [6, 4] });
  t.deepEqual(inUse(rig), ['192.0.2.1', '2001:db8:2::1']);
});

test('subflows over a link as many as it allows', (t) => {
  const rig = rigWith({ maxPaths: 2 });
  t.deepEqual(inUse(rig), ['192.0.2.1', '192.0.2.129', '2001:db8:2::1']);
  rig.event({ type: 'link-policy', linkId: 2, policy: { maxPaths: 1 } }).run(5 * S);
  t.deepEqual(inUse(rig), ['192.0.2.1', '192.0.2.129']);
});

test('own addresses are chosen by prefix, and a change drains what is no longer allowed after the other is there', (t) => {
  const rig = rigWith({ local: choice(['2001:db8::/32']) }, { local: choice([], ['2001:db8::/32']) });
  t.deepEqual(inUse(rig), ['192.0.2.1', '2001:db8:2::1']);
  rig.takeLog();
  rig.event({ type: 'link-policy', linkId: 2, policy: { local: choice(['192.0.2.0/24']) } });
  t.true(rig.takeLog().includes('tell-peer lte going'));
  rig.run(5 * S);
  t.deepEqual(inUse(rig), ['192.0.2.1', '192.0.2.129']);
  const excluded = rig.manager.paths(rig.nowUs).find((p) => p.localAddress.text === '2001:db8:2::1');
  t.is(excluded?.why, 'its addresses are excluded');
});

test("the peer's addresses are chosen by prefix, link by link", (t) => {
  const rig = rigWith({ remote: choice([], ['198.51.100.0/24']) });
  t.deepEqual(inUse(rig), ['192.0.2.1', '2001:db8:2::1']);
});

test('mode and number of subflows can change while everything runs', (t) => {
  const rig = rigWith({});
  const states = () =>
    Object.fromEntries(rig.manager.paths(rig.nowUs).map((p) => [p.localAddress.text, p.state] as const));
  t.is(states()['192.0.2.129'], 'active');
  rig.event({ type: 'session-policy', mode: 'handover', maxSubflows: 8 });
  t.is(states()['192.0.2.129'], 'warm');
  rig.event({ type: 'session-policy', mode: 'aggregate', maxSubflows: 1 }).run(5 * S);
  t.deepEqual(inUse(rig), ['192.0.2.1']);
  rig.event({ type: 'session-policy', mode: 'aggregate', maxSubflows: 8 }).run(1 * S);
  t.deepEqual(inUse(rig), ['192.0.2.1', '192.0.2.129']);
});

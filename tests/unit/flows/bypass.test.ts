import test from 'ava';
import { parsePrefix } from '../../../src/config/prefix.js';
import type { FlowRule, FlowsConfig } from '../../../src/config/types.js';
import { parseIp } from '../../../src/core/base/ip.js';
import { Bypass, MAX_LEARNT, type RoutingRule } from '../../../src/daemon/flows/bypass.js';

type Match = Partial<Omit<FlowRule['match'], 'to'>> & { to?: string[] };

function rule(use: FlowRule['use'], match: Match): FlowRule {
  const everything = {
    protocol: null,
    port: [],
    domain: [],
    app: { cgroup: null, uid: null },
    dscp: [],
    bytesOver: null,
  };
  const to = (match.to ?? []).map((p) => parsePrefix(p)!);
  return { match: { ...everything, ...match, to }, use, mode: null, copiesBytes: null };
}

const config = (rules: FlowRule[], fallback: FlowsConfig['default'] = 'packet') =>
  ({ rules, default: fallback }) as unknown as FlowsConfig;

/** As `ip rule` says it, more or less. */
function text({ order, isOutside, to, ipProtocol, destinationPorts: p, uids, dscp }: RoutingRule): string {
  const said = [
    to === undefined ? '' : `to ${to.address.text}/${to.prefixLength}`,
    dscp === undefined ? '' : `dscp ${dscp}`,
    ipProtocol === undefined ? '' : { 6: 'tcp', 17: 'udp' }[ipProtocol],
    p === undefined ? '' : `dport ${p.from}-${p.to}`,
    uids === undefined ? '' : `uid ${uids.from}`,
  ].filter((s) => s !== '');
  return `${order} ${said.join(' ')} ${isOutside ? 'main' : 'tunnel'}`;
}

test('rules that bypass, and those before them, in their order; those behind are no business of routing', (t) => {
  const bypass = new Bypass(
    config([
      rule('relay', { to: ['192.0.2.0/24', '2001:db8::/32'] }),
      rule(null, { bytesOver: 5 }),
      rule('bypass', { port: [{ from: 22, to: 23 }], app: { cgroup: null, uid: 1000 } }),
      rule('bypass', { protocol: 'udp', dscp: [46, 10] }),
      rule('direct', { port: [{ from: 443, to: 443 }] }),
    ]),
  );
  t.deepEqual(bypass.rules(4).map(text), [
    '0 to 192.0.2.0/24 tunnel',
    '2 tcp dport 22-23 uid 1000 main',
    '2 udp dport 22-23 uid 1000 main',
    '3 dscp 46 udp main',
    '3 dscp 10 udp main',
  ]);
  t.is(bypass.rules(6).map(text)[0], '0 to 2001:db8::/32 tunnel');
  t.false(bypass.needsNames);
});

test('a prefix of one family says nothing of the other; without bypass there are no rules', (t) => {
  const bypass = new Bypass(config([rule('bypass', { to: ['192.0.2.0/24'] })]));
  t.is(bypass.rules(4).length, 1);
  t.deepEqual(bypass.rules(6), []);
  t.deepEqual(new Bypass(config([rule('relay', { port: [{ from: 1, to: 2 }] })])).rules(4), []);
});

test('default bypass: TCP that no rule takes, behind all rules', (t) => {
  const bypass = new Bypass(config([rule('relay', { port: [{ from: 443, to: 443 }], protocol: 'tcp' })], 'bypass'));
  t.deepEqual(bypass.rules(6).map(text), ['0 tcp dport 443-443 tunnel', '1 tcp main']);
});

test('a domain is the addresses that are known of it, for as long as they are', (t) => {
  const bypass = new Bypass(
    config([rule('relay', { domain: ['vpn.a.com'] }), rule('bypass', { domain: ['*.a.com'] })]),
  );
  t.true(bypass.needsNames);
  t.deepEqual(bypass.rules(4), []);
  t.true(bypass.learn(parseIp('192.0.2.1'), ['www.a.com'], 100));
  t.false(bypass.learn(parseIp('192.0.2.1'), ['www.a.com'], 200), 'known already');
  t.false(bypass.learn(parseIp('192.0.2.9'), ['a.com'], 200), 'another name');
  t.true(bypass.learn(parseIp('192.0.2.2'), ['vpn.a.com'], 300));
  t.true(bypass.learn(parseIp('2001:db8::2'), ['cname.net', 'b.a.com'], 300));
  t.deepEqual(bypass.rules(4).map(text), [
    '0 to 192.0.2.2/32 tunnel',
    '1 to 192.0.2.1/32 main',
    '1 to 192.0.2.2/32 main',
  ]);
  t.deepEqual(bypass.rules(6).map(text), ['1 to 2001:db8::2/128 main']);
  t.false(bypass.expire(199));
  t.true(bypass.expire(200));
  t.deepEqual(bypass.rules(4).map(text), ['0 to 192.0.2.2/32 tunnel', '1 to 192.0.2.2/32 main']);
});

test('learnt addresses are bounded, and survive a reload that leaves their rule', (t) => {
  const bypass = new Bypass(config([rule('bypass', { domain: ['*.a.com'] })]));
  for (let i = 0; i <= MAX_LEARNT; i++) bypass.learn(parseIp(`10.0.${i >> 8}.${i & 255}`), ['x.a.com'], 100);
  t.is(bypass.rules(4).length, MAX_LEARNT);
  t.false(bypass.rules(4).some((r) => r.to?.address.text === '10.0.0.0'));
  bypass.setConfig(config([rule('relay', { to: ['192.0.2.0/24'] }), rule('bypass', { domain: ['*.a.com'] })]));
  t.is(bypass.rules(4).length, MAX_LEARNT + 1);
});

import test from 'ava';
import { parsePrefix } from '../../../src/config/prefix.js';
import type { FlowRule, FlowsConfig } from '../../../src/config/types.js';
import { parseIp } from '../../../src/core/base/ip.js';
import type { FlowWay } from '../../../src/daemon/flows/contract.js';
import { type FlowFacts, RuleSet } from '../../../src/daemon/flows/rules.js';

type Match = Partial<Omit<FlowRule['match'], 'to'>> & { to?: string[] };

function rule(match: Match, rest: Partial<Omit<FlowRule, 'match'>>): FlowRule {
  return {
    match: {
      protocol: null,
      port: [],
      domain: [],
      app: { cgroup: null, uid: null },
      dscp: [],
      bytesOver: null,
      ...match,
      to: (match.to ?? []).map((p) => parsePrefix(p)!),
    },
    use: null,
    mode: null,
    copiesBytes: null,
    ...rest,
  };
}

function ruleSet(rules: FlowRule[], fallback: FlowsConfig['default'] = 'packet'): RuleSet {
  return new RuleSet({
    default: fallback,
    rules,
    relay: { poolMin: 0, poolMax: 0, secondSubflowAfter: { bytes: 1, timeUs: 1 } },
    convert: { server: null, port: 1, cookie: null, synData: true },
    proxy: { listen: null },
  });
}

const facts = (change: Partial<FlowFacts> = {}): FlowFacts => ({
  protocol: 'tcp',
  address: parseIp('192.0.2.7'),
  port: 443,
  dscp: 0,
  bytes: 0,
  names: () => [],
  app: () => null,
  ...change,
});
const context = (ways: FlowWay[] = ['relay', 'direct', 'convert']) => ({
  mode: 'auto' as const,
  hasWay: (way: FlowWay) => ways.includes(way),
});
const port = (from: number, to = from) => [{ from, to }];

test('the first rule that matches counts, and says so', (t) => {
  const rules = ruleSet([
    rule({ port: port(22) }, { use: 'direct', mode: 'interactive' }),
    rule({ to: ['192.0.2.0/24'] }, { use: 'relay' }),
    rule({ port: port(443) }, { use: 'convert' }),
  ]);
  const ssh = rules.decide(facts({ port: 22 }), context());
  t.like(ssh, { way: 'direct', use: 'direct', mode: 'interactive', rule: 0, reason: 'flows.rules[0]: port 22' });
  const web = rules.decide(facts(), context());
  t.like(web, { way: 'relay', mode: 'auto', rule: 1, reason: 'flows.rules[1]: to 192.0.2.0/24' });
  t.like(rules.decide(facts({ address: parseIp('198.51.100.1') }), context()), { way: 'convert', rule: 2 });
  t.like(rules.decide(facts({ address: null, port: 80 }), context()), {
    way: 'packet',
    rule: -1,
    reason: 'flows.default',
  });
});

test('prefixes of either family, port ranges, code points and protocols', (t) => {
  const matches = (match: Match, change: Partial<FlowFacts>) =>
    ruleSet([rule(match, { use: 'relay' })]).decide(facts(change), context()).rule === 0;
  t.true(matches({ to: ['10.0.0.0/8', '2001:db8::/32'] }, { address: parseIp('2001:db8::1') }));
  t.false(matches({ to: ['2001:db8::/32'] }, {}));
  t.false(matches({ to: ['0.0.0.0/0'] }, { address: null }));
  t.true(matches({ port: [...port(80), ...port(8000, 8999)] }, { port: 8999 }));
  t.false(matches({ port: port(8000, 8999) }, { port: 9000 }));
  t.true(matches({ dscp: [46, 10] }, { dscp: 10 }));
  t.false(matches({ dscp: [0] }, { dscp: null }));
  t.true(matches({ protocol: 'udp' }, { protocol: 'udp' }));
  t.false(matches({ protocol: 'udp' }, {}));
});

test('domains: the name itself, names below it, and wildcards anywhere; dots are dots', (t) => {
  const matches = (domain: string[], ...names: string[]) =>
    ruleSet([rule({ domain }, { use: 'relay' })]).decide(facts({ names: () => names }), context()).rule === 0;
  t.true(matches(['example.com'], 'example.com'));
  t.false(matches(['example.com'], 'www.example.com'));
  t.true(matches(['*.example.com'], 'a.b.example.com'));
  t.false(matches(['*.example.com'], 'example.com', 'badexample.com'));
  t.false(matches(['a.example'], 'axexample'));
  t.true(matches(['cdn*.net'], 'other.org', 'cdn7.edge.net'));
  t.false(matches(['*.example.com']));
});

test('applications: by user, and by control group with those below it; unknown ones match nothing', (t) => {
  const matches = (app: { uid?: number; cgroup?: string }, who: { uid: number; cgroup: string | null } | null) =>
    ruleSet([rule({ app: { uid: null, cgroup: null, ...app } }, { use: 'relay' })]).decide(
      facts({ app: () => who }),
      context(),
    ).rule === 0;
  const firefox = { uid: 1000, cgroup: '/user.slice/user-1000.slice/app-firefox-12.scope/tab' };
  t.true(matches({ uid: 1000 }, firefox));
  t.false(matches({ uid: 1001 }, firefox));
  t.true(matches({ cgroup: '/user.slice/*/app-firefox*' }, firefox));
  t.true(matches({ cgroup: '/user.slice' }, firefox));
  t.false(matches({ cgroup: '/user' }, firefox));
  t.false(matches({ cgroup: '/user.slice', uid: 0 }, firefox));
  t.false(matches({ uid: 0 }, null));
  t.false(matches({ cgroup: '/*' }, { uid: 0, cgroup: null }));
});

test('what costs something is asked for only when a rule before needs it', (t) => {
  let asked = 0;
  const costly = facts({
    names: () => {
      asked++;
      return [];
    },
    app: () => {
      asked++;
      return null;
    },
  });
  const dear = { domain: ['a.com'], app: { uid: 0, cgroup: null } };
  ruleSet([rule({ port: port(443) }, { use: 'relay' }), rule(dear, { use: 'direct' })]).decide(costly, context());
  ruleSet([rule({ ...dear, port: port(22) }, { use: 'direct' })]).decide(costly, context());
  t.is(asked, 0);
  const set = ruleSet([rule({ domain: ['a.com'] }, { use: 'relay' })]);
  t.true(set.needsNames);
  t.false(set.needsApp);
});

test('auto is the relay where there is one; a way that there is not leaves the flow to the packet lane, with the reason', (t) => {
  const auto = ruleSet([], 'auto');
  t.is(auto.decide(facts(), context()).way, 'relay');
  t.like(auto.decide(facts(), context([])), { way: 'packet', reason: 'flows.default; there is no way relay now' });
  const convert = ruleSet([rule({ port: port(443) }, { use: 'convert' })]);
  t.is(convert.decide(facts(), context(['relay'])).reason, 'flows.rules[0]: port 443; there is no way convert now');
  t.is(ruleSet([], 'bypass').decide(facts(), context()).way, 'packet');
  t.is(ruleSet([], 'relay').decide(facts({ protocol: 'udp' }), context()).way, 'packet');
});

test('bytes so far change the mode of a flow, not its way, and only by rules before its own', (t) => {
  const rules = ruleSet([
    rule({ bytesOver: 10_000_000, port: port(443) }, { mode: 'handover' }),
    rule({ bytesOver: 1_000_000 }, { mode: 'aggregate' }),
    rule({ port: port(443) }, { use: 'direct', mode: 'interactive', copiesBytes: 5_000 }),
    rule({ bytesOver: 2_000_000 }, { mode: 'redundant' }),
  ]);
  const first = rules.decide(facts(), context());
  t.like(first, { rule: 2, mode: 'interactive', copiesBytes: 5_000 });
  const at = (bytes: number, before = first) => rules.judgeAgain(facts({ bytes }), before, context());
  t.is(at(1_000_000), first);
  const second = at(1_000_001);
  t.like(second, { rule: 1, way: 'direct', mode: 'aggregate', copiesBytes: 0 });
  t.is(at(3_000_000, second), second, 'nothing has changed: the same verdict');
  t.like(at(10_000_001, second), { rule: 0, mode: 'handover' });
  // A flow of the default is taken by whatever rule says so.
  const other = rules.decide(facts({ port: 80 }), context(['direct']));
  t.is(other.rule, -1);
  t.like(at(2_000_001, other), { rule: 1 });
});

test('each rule is explained up to the one that matches', (t) => {
  const rules = ruleSet([
    rule({ port: port(22), protocol: 'tcp' }, { use: 'direct' }),
    rule({ domain: ['a.com'] }, { use: 'direct' }),
    rule({ bytesOver: 5 }, { mode: 'aggregate' }),
    rule({ to: ['192.0.2.0/24'] }, { use: 'relay' }),
    rule({ port: port(443) }, { use: 'convert' }),
  ]);
  t.deepEqual(rules.explain(facts()), [
    { rule: 0, text: 'flows.rules[0]: tcp, port 22', failed: 'port' },
    { rule: 1, text: 'flows.rules[1]: domain a.com', failed: 'domain' },
    { rule: 2, text: 'flows.rules[2]: over 5 bytes', failed: 'counts later, by the bytes carried' },
    { rule: 3, text: 'flows.rules[3]: to 192.0.2.0/24', failed: null },
  ]);
});

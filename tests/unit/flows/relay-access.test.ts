/** Who may reach what through the relay. */
import test from 'ava';
import { parseAccessRule } from '../../../src/config/access.js';
import { parsePrefix } from '../../../src/config/prefix.js';
import { parseIp } from '../../../src/core/base/ip.js';
import { RelayAccess } from '../../../src/daemon/flows/relay-access.js';
import { dialTarget, interleaved } from '../../../src/daemon/flows/relay-dial.js';

const PRIVATE = ['10.0.0.0/8', '127.0.0.0/8', '::1', 'fe80::/10', 'fc00::/7', '::ffff:0:0/96'];

function access(allow: string[], deny: string[] = [], egressAllow: string[] = []): RelayAccess {
  const rules = (texts: string[]) => texts.map((text) => parseAccessRule(text)!);
  const prefixes = (texts: string[]) => texts.map((text) => parsePrefix(text)!);
  return new RelayAccess(
    { allow: rules(allow), deny: rules(deny) },
    { allow: prefixes(egressAllow), deny: prefixes(PRIVATE) },
  );
}

test('entries of the lists: prefixes and names, with and without a port', (t) => {
  const show = (text: string) => {
    const rule = parseAccessRule(text);
    return rule === null ? null : [rule.prefix?.text ?? null, rule.name, rule.port];
  };
  t.deepEqual(show('192.0.2.0/24'), ['192.0.2.0/24', null, null]);
  t.deepEqual(show('192.0.2.1:22'), ['192.0.2.1/32', null, 22]);
  t.deepEqual(show('2001:db8::/32'), ['2001:db8::/32', null, null]);
  t.deepEqual(show('[2001:db8::/32]:443'), ['2001:db8::/32', null, 443]);
  t.deepEqual(show('*.Example.com:443'), [null, '*.example.com', 443]);
  t.deepEqual(show('*:25'), [null, null, 25]);
  for (const bad of ['', '192.0.2.1/24', 'a b', 'example.com:0', 'example.com:70000', '1.2.3', 'a.*.b', '[x]:1']) {
    t.is(show(bad), null, bad);
  }
});

test('private, loopback and link-local addresses are denied, also in the clothes of IPv6', (t) => {
  const open = access([]);
  for (const address of ['192.0.2.1', '2001:db8::1']) t.true(open.mayReach(parseIp(address), null, 80), address);
  for (const address of [
    '10.1.2.3',
    '127.0.0.1',
    '::1',
    'fe80::1',
    'fd00::1',
    '::ffff:10.1.2.3',
    '64:ff9b::10.1.2.3', // NAT64
    '2002:a01:203::1', // 6to4 of 10.1.2.3
  ]) {
    t.false(open.mayReach(parseIp(address), null, 80), address);
  }
});

test('a prefix opens what is denied to everybody; a name or * does not, so that a name that turns private stays out', (t) => {
  const inside = parseIp('10.1.2.3');
  t.true(access(['10.1.0.0/16']).mayReach(inside, null, 80));
  t.true(access(['10.1.2.3:22']).mayReach(inside, null, 22));
  t.false(access(['10.1.2.3:22']).mayReach(inside, null, 80));
  t.true(access([], [], ['10.0.0.0/8']).mayReach(inside, null, 80));
  t.false(access(['inside.example']).mayReach(inside, 'inside.example', 80));
  t.false(access(['*:80']).mayReach(inside, null, 80));
});

test("a client's lists: allow before deny, by name, by port, by address after resolution", (t) => {
  const outside = parseIp('192.0.2.9');
  const onlyWeb = access(['*:443', '*:80'], ['*']);
  t.true(onlyWeb.mayReach(outside, 'example.com', 443));
  t.false(onlyWeb.mayReach(outside, 'example.com', 22));
  t.false(onlyWeb.mayResolve('example.com', 22));
  const notThere = access([], ['*.bad.example', '192.0.2.0/28', '*:25']);
  t.false(notThere.mayResolve('Www.Bad.Example.', 80));
  t.true(notThere.mayResolve('bad.example', 80));
  t.false(notThere.mayReach(outside, 'good.example', 80), 'a good name for a bad address');
  t.true(notThere.mayReach(parseIp('192.0.2.99'), 'good.example', 80));
  t.false(notThere.mayReach(parseIp('192.0.2.99'), 'good.example', 25));
  const oneName = access(['ok.example:443'], ['*']);
  t.true(oneName.mayResolve('ok.example', 443));
  t.true(oneName.mayReach(outside, 'ok.example', 443));
  t.false(oneName.mayReach(outside, null, 443), 'its address alone says nothing');
});

test('a name that resolves to a denied address is denied after resolution', async (t) => {
  const error = await t.throwsAsync(
    dialTarget({ host: 'localhost', port: 9 }, access([]), new AbortController().signal),
  );
  t.like(error, { refusal: 'denied' });
});

test('families take turns, beginning with what the resolver prefers', (t) => {
  const texts = (list: string[]) => interleaved(list.map(parseIp)).map((a) => a.text);
  t.deepEqual(texts(['2001:db8::1', '2001:db8::2', '192.0.2.1', '192.0.2.2', '192.0.2.3']), [
    '2001:db8::1',
    '192.0.2.1',
    '2001:db8::2',
    '192.0.2.2',
    '192.0.2.3',
  ]);
  t.deepEqual(texts(['192.0.2.1']), ['192.0.2.1']);
});

/** The parts of the daemon that deal with the host, as far as they are pure: DNS messages, nft rules. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { parsePrefix } from '../../../src/config/prefix.js';
import { parseIp } from '../../../src/core/base/ip.js';
import { encodeQuery, parseAnswer } from '../../../src/daemon/dns-message.js';
import { type EgressOptions, egressRuleset } from '../../../src/daemon/egress.js';
import { nameServers, Resolver } from '../../../src/daemon/resolver.js';
import { RateMeter } from '../../../src/daemon/status.js';

/** An answer with a CNAME before the address, names compressed: as a recursive server gives it. */
const ANSWER = Buffer.from(
  '12348180000100020000000003777777076578616d706c6503636f6d0000010001' + // question: www.example.com A
    'c00c000500010000003c000603777732c010' + // www.example.com CNAME ww2.example.com
    'c02d000100010000003c0004c0000207', // ww2.example.com A 192.0.2.7
  'hex',
);

test('DNS: a query has the name, and its answer gives the addresses', (t) => {
  const query = encodeQuery(0x1234, 'www.example.com', 4)!;
  t.deepEqual(query.subarray(12), ANSWER.subarray(12, 33));
  t.deepEqual(
    parseAnswer(ANSWER, 0x1234, 4)!.map((a) => a.text),
    ['192.0.2.7'],
  );
  t.is(parseAnswer(ANSWER, 0x1235, 4), null, "somebody else's answer");
  t.deepEqual(parseAnswer(ANSWER, 0x1234, 6), [], 'no AAAA in it');
  t.is(parseAnswer(query, 0x1234, 4), null, 'a query is no answer');
  const noName = Buffer.from(ANSWER);
  noName[3] = 0x83;
  t.deepEqual(parseAnswer(noName, 0x1234, 4), []);
  const failed = Buffer.from(ANSWER);
  failed[3] = 0x82;
  t.is(parseAnswer(failed, 0x1234, 4), null);
  t.is(encodeQuery(1, 'a..b', 4), null);
  t.is(encodeQuery(1, `${'x'.repeat(64)}.example`, 4), null);
});

test('DNS: cut and random answers are null or addresses, never a throw or a loop', (t) => {
  for (let n = 0; n < ANSWER.length; n++) t.is(parseAnswer(ANSWER.subarray(0, n), 0x1234, 4), null);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (tail) => {
      const b = Buffer.concat([Buffer.from('12348180000100ff', 'hex'), tail]);
      const addresses = parseAnswer(b, 0x1234, 6);
      return addresses === null || addresses.length <= 16;
    }),
  );
});

test('name servers: loopback stubs are passed over, the next file is read', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'mptun-test-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const stub = join(dir, 'stub');
  const real = join(dir, 'real');
  writeFileSync(stub, 'nameserver 127.0.0.53\nnameserver ::1\n');
  writeFileSync(real, '# nameserver 9.9.9.9\nnameserver 192.0.2.53\n nameserver 2001:db8::53\nsearch example\n');
  t.deepEqual(
    nameServers([join(dir, 'missing'), stub, real]).map((a) => a.text),
    ['192.0.2.53', '2001:db8::53'],
  );
  t.deepEqual(nameServers([stub]), []);
});

test('the last good addresses are remembered for this host name only', async (t) => {
  const stateDir = mkdtempSync(join(tmpdir(), 'mptun-test-'));
  t.teardown(() => rmSync(stateDir, { recursive: true }));
  const saved = JSON.stringify({ host: 'vpn.example', addresses: ['192.0.2.7'] });
  writeFileSync(join(stateDir, 'server-addresses.json'), saved);
  const known = (host: string, addresses = ['']) =>
    new Resolver({ host, addresses: addresses.filter((a) => a !== '').map(parseIp), stateDir }).addresses.map(
      (a) => a.text,
    );
  t.deepEqual(known('vpn.example'), ['192.0.2.7']);
  t.deepEqual(known('other.example'), []);
  t.deepEqual(known('198.51.100.1'), ['198.51.100.1']);
  t.deepEqual(known('vpn.example', ['198.51.100.9']), ['198.51.100.9'], 'the configuration wins');
  t.true(await new Resolver({ host: '198.51.100.1', addresses: [], stateDir }).refresh('lo'), 'nobody is asked');
});

function egress(changes: Partial<EgressOptions['egress']> = {}): string {
  const prefixes = (...texts: string[]) => texts.map((text) => parsePrefix(text)!);
  return egressRuleset({
    name: 'my-tunnel',
    tunName: 'mt-my',
    egress: {
      masquerade: true,
      interface: null,
      deny: prefixes('10.0.0.0/8', 'fc00::/7'),
      allow: prefixes('10.5.0.0/16'),
      ...changes,
    },
    pool: { ipv4: parsePrefix('10.77.0.0/24'), ipv6: null },
    ownAddresses: [parseIp('10.77.0.1')],
  });
}

test('egress rules: allowed before denied, masqueraded only out of the tunnel', (t) => {
  const rules = egress().split('\n');
  const at = (pattern: RegExp) => rules.findIndex((line) => pattern.test(line));
  t.true(
    at(/iifname "mt-my" ip daddr \{ 10\.5\.0\.0\/16 \} accept/) <
      at(/iifname "mt-my" ip daddr \{ 10\.0\.0\.0\/8 \} reject/),
  );
  t.true(at(/iifname "mt-my" ip6 daddr \{ fc00::\/7 \} reject/) > 0);
  t.true(at(/ip saddr 10\.77\.0\.0\/24 oifname != "mt-my" masquerade/) > 0);
  t.is(at(/ip6 saddr/), -1);
  t.true(rules[0]!.startsWith('table inet mptun_my_tunnel'));
  t.notRegex(egress({ masquerade: false }), /nat|masquerade/);
  t.regex(egress({ interface: 'eth1' }), /oifname != "eth1" drop/);
});

test('rates: averaged over a window, never negative', (t) => {
  const meter = new RateMeter();
  t.is(meter.rate('x', 1000, 0), 0);
  t.is(meter.rate('x', 1000 + 125_000, 1000), 1_000_000);
  t.is(meter.rate('x', 1000 + 126_000, 1100), 1_000_000, 'too soon for news');
  t.is(meter.rate('x', 0, 3000), 0, 'the counter started anew');
});

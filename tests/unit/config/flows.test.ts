import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { changesBetween, valuesOf } from '../../../src/config/diff.js';
import { ConfigErrors } from '../../../src/config/errors.js';
import { coversMatch, MAX_FLOW_RULES } from '../../../src/config/flow-lint.js';
import { parseDscp, parsePortRange } from '../../../src/config/flow-schema.js';
import { type LoadedConfig, loadConfigInDetail } from '../../../src/config/load.js';
import { showEffective } from '../../../src/config/show.js';
import type { ClientConfig, FlowMatch } from '../../../src/config/types.js';
import { configDirectory } from '../../support/config-files.js';
import { REPOSITORY } from '../../support/files.js';

/** A client with this text from line 4 on. */
function load(t: ExecutionContext, text: string): LoadedConfig {
  const dir = configDirectory(t);
  const head = `mode: client\nkey_file: client.key\nserver: {host: h, public_key: ${dir.pins.server}}\n`;
  return loadConfigInDetail(dir.write('c.yaml', head + text));
}

function flowsOf(t: ExecutionContext, text: string): ClientConfig['flows'] {
  return (load(t, text).config as ClientConfig).flows;
}

/** What is wrong, as `line:column path: message; hint`. */
function wrong(t: ExecutionContext, text: string): string[] {
  try {
    load(t, text);
    return [];
  } catch (err) {
    if (!(err instanceof ConfigErrors)) throw err;
    return err.errors.map((e) => `${e.line}:${e.column} ${e.path}: ${e.message}; ${e.hint}`);
  }
}

/** A rule in one line, at line 6. */
const rule = (text: string) => `flows:\n  rules:\n    - ${text}\n`;

test('without the section, TCP stays in the packet lane and nothing listens', (t) => {
  const flows = flowsOf(t, '');
  t.is(flows.default, 'auto');
  t.deepEqual(flows.rules, []);
  t.is(flows.proxy.listen, null);
  t.deepEqual(flows.relay, { poolMin: 2, poolMax: 32, secondSubflowAfter: { bytes: 64_000, timeUs: 300_000 } });
  t.deepEqual(flows.convert, { server: null, port: 5124, cookie: null, synData: true });
});

test('the rule that the sample explains is one, in base units', (t) => {
  const sample = readFileSync(join(REPOSITORY, 'configs', 'client.yaml'), 'utf8').split('\n');
  const from = sample.findIndex((line) => line.startsWith('  # - match:'));
  const to = sample.findIndex((line) => line.startsWith('  #   copies:'));
  const text = sample.slice(from, to + 1).map((line) => line.replace(/^ {2}# /, '    '));
  const { rules } = flowsOf(t, `flows:\n  rules:\n${text.join('\n')}\n`);
  t.is(rules.length, 1);
  const { match, use, mode, copiesBytes } = rules[0]!;
  t.deepEqual(
    { ...match, to: match.to.map((p) => p.text) },
    {
      protocol: 'tcp',
      to: ['203.0.113.0/24', '2001:db8::/32'],
      port: [
        { from: 443, to: 443 },
        { from: 8000, to: 8999 },
      ],
      domain: ['example.com', '*.example.com'],
      app: { cgroup: '/user.slice/*/app-firefox*', uid: 1000 },
      dscp: [46, 46],
      bytesOver: null,
    },
  );
  t.deepEqual({ use, mode, copiesBytes }, { use: 'relay', mode: 'interactive', copiesBytes: 64_000 });
});

test('ports, ranges and code points', (t) => {
  t.deepEqual(parsePortRange(443), { from: 443, to: 443 });
  t.deepEqual(parsePortRange('8000-8999'), { from: 8000, to: 8999 });
  for (const bad of [0, 65_536, '9-8', '1-', '-1', 'http', 1.5, null]) t.is(parsePortRange(bad), null, String(bad));
  t.deepEqual(['cs0', 'CS1', 'af11', 'af43', 'ef', 'va', 'le', 0, 63].map(parseDscp), [0, 8, 10, 38, 46, 44, 1, 0, 63]);
  for (const bad of [64, -1, 1.5, 'af44', '46', null]) t.is(parseDscp(bad), null, String(bad));
});

test('what a key may not be is said at its place', (t) => {
  t.deepEqual(wrong(t, rule('{match: {port: [80-70], domain: ["a..b"]}, use: tunnel}')), [
    '6:23 flows.rules[0].match.port[0]: "80-70" is not valid here; give a port such as 443, or a range such as 8000-8999',
    '6:40 flows.rules[0].match.domain[0]: "a..b" is not valid here; give a domain such as example.com, or *.example.com for those below it',
    '6:55 flows.rules[0].use: "tunnel" is not valid here; give one of auto, relay, direct, convert, packet, bypass',
  ]);
  t.deepEqual(wrong(t, rule('{match: {dscp: [af44], prot: tcp}, use: relay}')), [
    '6:23 flows.rules[0].match.dscp[0]: "af44" is not valid here; give a code point from 0 to 63, or a name such as ef, af41 or cs1',
    '6:30 flows.rules[0].match.prot: unknown key; did you mean port?',
  ]);
  t.deepEqual(wrong(t, 'flows: {proxy: {listen: "0.0.0.0:1080"}, relay: {pool_min: 9, pool_max: 8}}\n'), [
    '4:25 flows.proxy.listen: is not a loopback address; give 127.0.0.1:PORT or [::1]:PORT: it asks nobody who they are',
    '4:60 flows.relay.pool_min: is more than pool_max, 8; give at most that',
  ]);
});

test('rules that change nothing, or that nothing reaches', (t) => {
  t.deepEqual(wrong(t, rule('{match: {}, use: relay}')), [
    '6:8 flows.rules[0].match: matches everything; give a criterion, or say it with flows.default',
  ]);
  t.deepEqual(wrong(t, rule('{match: {port: [22]}}')), [
    '6:7 flows.rules[0].use: is missing; give one of auto, relay, direct, convert, packet, bypass',
  ]);
  const hidden = `flows:
  rules:
    - {match: {port: [1-1023], domain: ["*.example.com"]}, use: relay}
    - {match: {port: [22, 80-90], domain: [a.example.com], protocol: tcp}, use: direct}
`;
  t.deepEqual(wrong(t, hidden), [
    '7:8 flows.rules[1].match: never counts: whatever it matches, flows.rules[0] matches before it; put the narrower rule first',
  ]);
  t.is(MAX_FLOW_RULES, 256);
});

test('one match covers another only if it surely takes all of its flows', (t) => {
  const match = (m: object): FlowMatch => ({
    protocol: null,
    to: [],
    port: [],
    domain: [],
    app: { cgroup: null, uid: null },
    dscp: [],
    bytesOver: null,
    ...m,
  });
  const covers = (a: object, b: object) => coversMatch(match(a), match(b));
  t.true(covers({}, { domain: ['a.com'] }));
  t.true(covers({ domain: ['*.com'] }, { domain: ['*.a.com', 'b.com'] }));
  t.true(covers({ bytesOver: 10 }, { bytesOver: 20 }));
  t.true(covers({ dscp: [46, 10] }, { dscp: [10] }));
  t.false(covers({ domain: ['*.com'] }, { port: [{ from: 1, to: 2 }] }));
  t.false(covers({ domain: ['*.a.com'] }, { domain: ['*.com'] }));
  t.false(covers({ bytesOver: 10 }, {}));
  t.false(covers({ port: [{ from: 1, to: 9 }] }, { port: [{ from: 9, to: 10 }] }));
  t.false(covers({ app: { cgroup: null, uid: 0 } }, { app: { cgroup: null, uid: 1 } }));
});

test('wishes that a way cannot grant', (t) => {
  const one = (text: string) => wrong(t, rule(text)).map((line) => line.replace(/^[\d:]+ flows\.rules\[0\]\./, ''));
  t.deepEqual(one('{match: {protocol: udp}, use: relay}'), [
    'use: relay carries TCP only; give packet or bypass, or protocol: tcp',
  ]);
  t.deepEqual(one('{match: {port: [22]}, use: packet, mode: redundant}'), [
    'mode: redundant needs a connection of its own; give interactive or aggregate: they choose the lane',
  ]);
  t.deepEqual(one('{match: {port: [22]}, use: bypass, mode: auto}'), [
    'mode: has no meaning outside the tunnel; leave it out',
  ]);
  t.deepEqual(one('{match: {port: [22]}, use: packet, copies: 1MB}'), [
    'copies: needs a connection of its own; give use: relay, direct or convert',
  ]);
  t.deepEqual(one('{match: {port: [22]}, use: relay, mode: aggregate, copies: 1MB}'), [
    'copies: has no meaning in mode aggregate; give mode: interactive or auto',
  ]);
  t.deepEqual(one('{match: {bytes_over: 1MB}, use: direct, mode: aggregate}'), [
    'use: a flow that has begun keeps its way; leave it out with bytes_over, and give a mode',
  ]);
  t.deepEqual(one('{match: {bytes_over: 1MB}}'), [
    'mode: is missing: the rule changes nothing; give a mode, such as aggregate',
  ]);
  t.deepEqual(one('{match: {bytes_over: 1MB, protocol: udp}, mode: aggregate}'), [
    'match.bytes_over: counts the bytes of TCP flows only; leave it out, or protocol: udp',
  ]);
});

test('bypass needs rules that routing can say, its own and those before it', (t) => {
  t.deepEqual(wrong(t, rule('{match: {app: {cgroup: /a.slice}}, use: bypass}')), [
    '6:30 flows.rules[0].match.app.cgroup: cannot be told apart by routing, which bypass needs; match the user (app.uid) instead',
  ]);
  const before = `flows:
  rules:
    - {match: {app: {cgroup: /a.slice}}, use: relay}
    - {match: {bytes_over: 1MB}, mode: aggregate}
    - {match: {port: [22], app: {uid: 1000}}, use: bypass}
    - {match: {app: {cgroup: /b.slice}}, use: relay}
`;
  t.deepEqual(wrong(t, before), [
    '6:30 flows.rules[0].match.app.cgroup: cannot be told apart by routing, which a rule before one that bypasses needs; put the rules that bypass first, or match app.uid',
  ]);
  t.is(wrong(t, before.replace('rules:', 'default: bypass\n  rules:')).length, 2);
  t.deepEqual(wrong(t, rule('{match: {to: [192.0.2.0/24], domain: [a.com]}, use: bypass}')), [
    '6:36 flows.rules[0].match.domain: cannot be combined with to where bypass needs routing rules; give one of the two',
  ]);
  const ports = Array.from({ length: 9 }, (_, i) => 100 + 2 * i).join(', ');
  const wide = rule(`{match: {port: [${ports}], dscp: [1, 2, 3, 4, 5, 6, 7, 8]}, use: bypass}`);
  t.deepEqual(wrong(t, wide), [
    '6:8 flows.rules[0].match: comes to 72 routing rules, which bypass needs; give at most 64 combinations of to, port and dscp',
  ]);
  t.deepEqual(wrong(t, rule('{match: {to: [192.0.2.0/24]}, use: bypass}')), []);
});

test('changed rules are told key by key and hold for new flows; the proxy needs a restart', (t) => {
  const before = valuesOf(load(t, rule('{match: {port: [22]}, use: relay}')));
  const after = valuesOf(
    load(t, `${rule('{match: {port: [22]}, use: direct}')}  default: packet\n  proxy: {listen: "127.0.0.1:1080"}\n`),
  );
  t.deepEqual(
    changesBetween(before, after)
      .filter((c) => c.key.startsWith('flows'))
      .map((c) => `${c.key}: ${c.before} -> ${c.after}, ${c.effect}`),
    [
      'flows.default: auto -> packet, new-connections',
      'flows.rules[0].use: relay -> direct, new-connections',
      'flows.proxy.listen: null -> 127.0.0.1:1080, restart',
    ],
  );
});

test('the effective configuration shows where each value of a rule comes from', (t) => {
  const text = showEffective(load(t, rule('{match: {port: [22, 8000-8999]}, use: relay}')));
  const lines = text.split('\n').map((line) => line.trim());
  for (const line of ['port: [22, 8000-8999] # line 6', 'use: relay # line 6', 'mode: null # default']) {
    t.true(lines.includes(line), `${line}\n${text}`);
  }
});

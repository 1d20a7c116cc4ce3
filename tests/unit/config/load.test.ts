import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { type ConfigError, ConfigErrors } from '../../../src/config/errors.js';
import { loadConfig, parseConfig } from '../../../src/config/load.js';
import { PLAIN_RULE } from '../../../src/config/match.js';
import { type ClientConfig, CONGESTION_NAMES, SCHEDULER_NAMES, type ServerConfig } from '../../../src/config/types.js';
import { configDirectory } from '../../support/config-files.js';

function errorsOf(t: ExecutionContext, load: () => unknown): readonly ConfigError[] {
  const err = t.throws(load, { instanceOf: ConfigErrors });
  return err!.errors;
}

/** `line:column path: message; hint` */
function brief(errors: readonly ConfigError[]): string[] {
  return errors.map((e) => `${e.line}:${e.column} ${e.path}: ${e.message}${e.hint === '' ? '' : `; ${e.hint}`}`);
}

test('a client needs a key, a server and its pin; everything else has a default', (t) => {
  const dir = configDirectory(t);
  const file = dir.write(
    'Home office.yaml',
    `mode: client\nkey_file: client.key\nserver: {host: vpn.example.net, public_key: ${dir.pins.server}}\n`,
  );
  const config = loadConfig(file) as ClientConfig;
  t.is(config.mode, 'client');
  t.is(config.name, 'home-office');
  t.is(config.keyFile, join(dir.path, 'client.key'));
  t.is(config.control.socketPath, '/run/mptun/home-office.sock');
  t.is(config.stateDir, '/var/lib/mptun/home-office');
  t.is(config.tun.name, 'mt-home-office');
  t.is(`sha256/${config.server.pin}`, dir.pins.server);
  t.is(config.server.reconnectMaxUs, 5_000_000);
  t.is(config.traffic.receiveBufferBytes, 16 * 1024 * 1024);
  t.true(config.capture.defaultRoute);
  t.deepEqual(
    config.paths.map((p) => [p.match.type, p.role]),
    [
      ['ethernet', 'always'],
      ['wifi', 'always'],
      ['usb', 'always'],
      ['cellular', 'always'],
    ],
  );
});

test('values come out typed, in base units, and frozen all the way down', (t) => {
  const dir = configDirectory(t);
  const file = dir.write(
    'c.yaml',
    `mode: client
key_file: client.key
server: {host: 192.0.2.1, port: 443, public_key: file:server.pub, addresses: ["2001:DB8::1"], reconnect_max: 500ms}
tun: {name: tun7, mtu: 1400, ipv6: off}
capture: {exclude: [192.168.0.0/16]}
paths:
  - match: {name: "wl*", mac: "02:00:5E:10:00:01"}
    limit: 20Mbit
    congestion: bbr
metrics: {listen: "[::1]:9464"}
`,
  );
  const config = loadConfig(file) as ClientConfig;
  t.is(config.server.addresses[0]?.text, '2001:db8::1');
  t.is(config.server.reconnectMaxUs, 500_000);
  t.is(`sha256/${config.server.pin}`, dir.pins.server);
  t.deepEqual(config.tun, { name: 'tun7', mtuBytes: 1400, ipv4: true, ipv6: false });
  t.is(config.capture.exclude[0]?.text, '192.168.0.0/16');
  t.deepEqual(config.paths, [
    {
      ...PLAIN_RULE,
      match: { name: 'wl*', type: null, mac: '02:00:5e:10:00:01', ssid: null },
      limitBitPerS: 20_000_000,
      congestion: 'bbr',
    },
  ]);
  t.deepEqual(config.metrics.listen, { host: '::1', port: 9464 });
  t.throws(() => {
    (config.paths[0] as { role: string }).role = 'never';
  });
  t.true(Object.isFrozen(config.capture.exclude));
});

test('congestion control and scheduler by name; mode redundant sends copies', (t) => {
  const dir = configDirectory(t);
  const load = (traffic: string) =>
    loadConfig(
      dir.write(
        'c.yaml',
        `mode: client\nkey_file: client.key\nserver: {host: h, public_key: ${dir.pins.server}}\ntraffic: {${traffic}}\n`,
      ),
    ).traffic;
  for (const congestion of CONGESTION_NAMES) t.is(load(`congestion: ${congestion}`).congestion, congestion);
  for (const scheduler of SCHEDULER_NAMES) t.is(load(`scheduler: ${scheduler}`).scheduler, scheduler);
  t.is(load('mode: redundant').scheduler, 'redundant');
  t.is(load('mode: aggregate').scheduler, 'adaptive');
});

test('clients without addresses get the next free ones of the pools', (t) => {
  const dir = configDirectory(t);
  const file = dir.write(
    's.yaml',
    `mode: server
key_file: server.key
pool: {ipv4: 10.9.0.0/29, ipv6: fd09::/64}
clients:
  - {name: a, public_key: "${dir.pins.client}"}
  - {name: b, public_key: "${dir.pins.server}", ipv4: 10.9.0.2}
`,
  );
  const config = loadConfig(file) as ServerConfig;
  t.deepEqual(
    config.clients.map((c) => [c.name, c.ipv4?.text, c.ipv6?.text]),
    [
      ['a', '10.9.0.3', 'fd09::2'],
      ['b', '10.9.0.2', 'fd09::3'],
    ],
  );
});

test('every mistake is reported at once, with its place and what would be right', (t) => {
  const dir = configDirectory(t);
  const text = `mode: client
name: Foo Bar
key_fil: client.key
server:
  port: 99999
  public_key: abc
tun: 5
traffic: {mode: agregate, checksum: "yes"}
paths:
  - role: alway
    match: {typ: wifi}
    limit: 20
  - foo
capture:
  exclude: [10.0.0.1/8, 3]
  include: 1.1.1.1
`;
  const errors = errorsOf(t, () => parseConfig(join(dir.path, 'c.yaml'), text));
  t.deepEqual(brief(errors), [
    '1:1 key_file: is missing; give the path of a file',
    '2:7 name: "Foo Bar" is not valid here; give a name of lower-case letters, digits, - and _ (at most 32)',
    '3:1 key_fil: unknown key; did you mean key_file?',
    '4:1 server.host: is missing; give a host name or an IP address',
    '5:9 server.port: 99999 is not valid here; give a port from 1 to 65535',
    '6:15 server.public_key: "abc" is not valid here; give a pin as printed by mptun pubkey (sha256/… or file:PATH)',
    '7:6 tun: has the wrong shape; give a map of keys',
    '8:17 traffic.mode: "agregate" is not valid here; did you mean aggregate?',
    '8:37 traffic.checksum: "yes" is not valid here; give true or false',
    '10:11 paths[0].role: "alway" is not valid here; did you mean always?',
    '11:13 paths[0].match.typ: unknown key; did you mean type?',
    '12:12 paths[0].limit: 20 is not valid here; give a rate such as 20Mbit or 1.5Gbit',
    '13:5 paths[1]: has the wrong shape; give a map of keys',
    '15:13 capture.exclude[0]: "10.0.0.1/8" is not valid here; give a prefix such as 10.0.0.0/8 or fd00::/8, host bits zero',
    '15:25 capture.exclude[1]: 3 is not valid here; give a prefix such as 10.0.0.0/8 or fd00::/8, host bits zero',
    '16:12 capture.include: has the wrong shape; give a list',
  ]);
});

test('mistakes in the files that it names are reported together with the others', (t) => {
  const dir = configDirectory(t);
  chmodSync(join(dir.path, 'client.key'), 0o640);
  const text = `mode: client\nkey_file: client.key\nserver: {host: h, public_key: "file:none.pub"}\nlog: {level: loud}\n`;
  const errors = errorsOf(t, () => parseConfig(join(dir.path, 'c.yaml'), text));
  t.deepEqual(
    errors.map((e) => [e.line, e.column, e.path]),
    [
      [2, 11, 'key_file'],
      [3, 31, 'server.public_key'],
      [4, 14, 'log.level'],
    ],
  );
  t.regex(errors[0]!.message, /accessible to other users \(mode 0640\)/);
  t.regex(errors[0]!.hint, /^run: chmod 600 /);
  t.regex(errors[1]!.message, /ENOENT/);
});

test('servers: what two keys say together is checked too', (t) => {
  const dir = configDirectory(t);
  const text = `mode: server
key_file: server.key
pool: {ipv4: 10.9.0.0/30, ipv6: null}
clients:
  - {name: a, public_key: "${dir.pins.client}", ipv4: 10.9.0.1}
  - {name: a, public_key: "${dir.pins.client}", ipv4: 10.8.0.2}
  - {name: c, public_key: "${dir.pins.server}", ipv6: fd00::2}
  - {name: d, public_key: "${dir.pins.server}"}
`;
  const errors = errorsOf(t, () => parseConfig(join(dir.path, 's.yaml'), text));
  const said = errors.map((e) => `${e.line} ${e.path}: ${e.message}`);
  t.deepEqual(said, [
    '5 clients[0].ipv4: 10.9.0.1 is taken',
    '6 clients[1].name: is the same as clients[0].name',
    '6 clients[1].public_key: is the same as clients[0].public_key',
    '6 clients[1].ipv4: 10.8.0.2 is not in 10.9.0.0/30',
    '7 clients[2].ipv6: there is no ipv6 pool',
    '8 clients[3]: pool.ipv4 10.9.0.0/30 has no address left',
    '8 clients[3].public_key: is the same as clients[2].public_key',
  ]);
});

test('broken YAML and duplicate keys are errors with a place', (t) => {
  const [syntax] = errorsOf(t, () => parseConfig('c.yaml', 'mode: client\nserver: {host: h\n'));
  t.is(syntax?.line, 3);
  const [duplicate] = errorsOf(t, () => parseConfig('c.yaml', 'mode: client\nmode: server\n'));
  t.is(duplicate?.line, 2);
  t.regex(duplicate!.message, /unique/i);
  const [alias] = errorsOf(t, () => parseConfig('c.yaml', 'mode: client\nname: *x\n'));
  t.deepEqual([alias?.line, alias?.column], [2, 7]);
});

test('mode decides everything, so it is asked for first', (t) => {
  t.deepEqual(brief(errorsOf(t, () => parseConfig('c.yaml', ''))), [
    '1:1 mode: is missing; give mode: client or mode: server',
  ]);
  t.deepEqual(brief(errorsOf(t, () => parseConfig('c.yaml', 'mode: cleint'))), [
    '1:7 mode: "cleint" is not valid here; did you mean client?',
  ]);
});

test('a file that is not there is an error like any other', (t) => {
  const [error] = errorsOf(t, () => loadConfig('/nonexistent/x.yaml'));
  t.is(error?.message, 'no such file');
});

test('whatever the text, the result is a configuration or ConfigErrors with places in the file', (t) => {
  const scalar = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null), fc.constant([]), fc.constant({}));
  const keys = ['mode', 'name', 'server', 'key_file', 'tun', 'paths', 'clients', 'pool', 'egress', 'traffic', 'x'];
  const inner = fc.dictionary(fc.constantFrom('host', 'mode', 'match', 'ipv4', 'name', 'y'), scalar, { maxKeys: 4 });
  const document = fc.dictionary(fc.constantFrom(...keys), fc.oneof(scalar, inner, fc.array(inner, { maxLength: 2 })));
  const check = (text: string): void => {
    try {
      parseConfig('/nonexistent/fuzz.yaml', text);
    } catch (err) {
      if (!(err instanceof ConfigErrors)) throw err;
      const lines = text.split('\n').length;
      for (const e of err.errors) t.true(e.line >= 1 && e.line <= lines && e.column >= 1, `${e.line}:${e.column}`);
      t.true(err.errors.length > 0);
    }
  };
  fc.assert(
    fc.property(fc.constantFrom('client', 'server'), document, (mode, value) =>
      check(JSON.stringify({ ...value, mode })),
    ),
    { numRuns: 200 },
  );
  fc.assert(
    fc.property(fc.string(), (text) => check(text)),
    { numRuns: 200 },
  );
});

import test, { type ExecutionContext } from 'ava';
import { ConfigErrors } from '../../../src/config/errors.js';
import { loadConfig } from '../../../src/config/load.js';
import { shadows } from '../../../src/config/match.js';
import { configDirectory } from '../../support/config-files.js';

/** What is wrong with a client of these lines (the first of them is line 4), as `line:column path: message; hint`. */
function wrong(t: ExecutionContext, text: string, mode: 'client' | 'server' = 'client'): string[] {
  const dir = configDirectory(t);
  const head = {
    client: `mode: client\nkey_file: client.key\nserver: {host: h, public_key: ${dir.pins.server}}\n`,
    server: `mode: server\nkey_file: server.key\nclients: []\n`,
  }[mode];
  const file = dir.write('c.yaml', head + text);
  try {
    loadConfig(file);
    return [];
  } catch (err) {
    if (!(err instanceof ConfigErrors)) throw err;
    return err.errors.map((e) => `${e.line}:${e.column} ${e.path}: ${e.message}; ${e.hint}`);
  }
}

test('roles that leave nothing to send on', (t) => {
  t.deepEqual(wrong(t, 'paths:\n  - {match: {type: wifi}, role: never}\n  - {match: {name: eth0}, role: never}\n'), [
    '5:33 paths[0].role: every path has the role never, so nothing can be sent; give one of them another role',
  ]);
});

test('a match that nothing can match, and one that an earlier one hides', (t) => {
  const paths = `paths:
  - match: {name: "wl*"}
  - match: {name: wlan0}
    role: backup
  - match: {type: ethernet, ssid: Home}
  - match: {name: lo}
  - match: {name: mt-c}
  - match: {type: cellular}
  - match: {type: cellular, mac: "02:00:00:00:00:01"}
`;
  t.deepEqual(wrong(t, paths), [
    '6:5 paths[1].match: never counts: whatever it matches, paths[0] matches before it; put the narrower rule first',
    '8:35 paths[2].match.ssid: nothing matches: links of type ethernet have no SSID; give type wifi, or no type',
    '9:19 paths[3].match.name: nothing matches: loopback is never a path; name a link',
    "10:19 paths[4].match.name: nothing matches: it is the tunnel's own device; name a link",
    '12:5 paths[6].match: never counts: whatever it matches, paths[5] matches before it; put the narrower rule first',
  ]);
});

test('one rule hides another only if it surely matches all of its links', (t) => {
  const match = (m: object) => ({ name: null, type: null, mac: null, ssid: null, ...m });
  const hides = (a: object, b: object) => shadows(match(a), match(b));
  t.true(hides({ name: '*' }, { type: 'wifi', name: 'wlan?' }));
  t.true(hides({ name: 'wl*' }, { name: 'wlan*' }));
  t.true(hides({ name: 'wlan?' }, { name: 'wlan7' }));
  t.true(hides({ type: 'wifi' }, { ssid: 'Home' }));
  t.true(hides({ ssid: 'Home*' }, { ssid: 'Home 5G' }));
  t.false(hides({ name: 'wlan?' }, { name: 'wlan*' }));
  t.false(hides({ name: 'w*0' }, { name: 'wl*' }));
  t.false(hides({ name: 'wlan0' }, { type: 'wifi' }));
  t.false(hides({ type: 'wifi' }, { name: 'wlan0' }));
  t.false(hides({ type: 'wifi', ssid: 'Home' }, { type: 'wifi' }));
  t.false(hides({ mac: '02:00:00:00:00:01' }, { mac: '02:00:00:00:00:02' }));
});

test('keys that do nothing under the role they stand beside', (t) => {
  const paths = `paths:
  - match: {type: wifi}
    overflow_above: 5Mbit
    max_subflows: 3
  - match: {type: cellular}
    role: backup
    cap: {daily: 1GB, at_limit: overflow}
  - match: {type: usb}
    role: overflow
    overflow_above: 5Mbit
    cap: {daily: 1GB, at_limit: backup}
traffic: {max_subflows: 2}
`;
  t.deepEqual(wrong(t, paths), [
    '6:21 paths[0].overflow_above: has no meaning with the role always; give role: overflow, or leave it out',
    '7:19 paths[0].max_subflows: is more than traffic.max_subflows, 2; give at most that',
    '10:33 paths[1].cap.at_limit: overflow is no less than the role backup, so the cap changes nothing; give a lesser role, such as never',
  ]);
});

test('prefixes that overlap, and such as leave nothing', (t) => {
  const text = `paths:
  - match: {type: wifi}
    local: {include: [10.0.0.0/8, 10.1.0.0/16, 192.0.2.0/24], exclude: [192.0.0.0/16, 10.2.0.0/16]}
  - match: {type: cellular}
    local: {include: [10.0.0.0/8]}
    remote: {include: ["2001:db8::/32"]}
capture: {include: [192.168.1.0/24, 192.168.1.0/24], exclude: [192.168.1.128/25]}
`;
  t.deepEqual(wrong(t, text), [
    '6:35 paths[0].local.include[1]: 10.1.0.0/16 overlaps with 10.0.0.0/8, which covers it; leave one of them out',
    '6:48 paths[0].local.include[2]: 192.0.2.0/24 is excluded again by 192.0.0.0/16; exclude less, or leave it out',
    '9:14 paths[1].remote.include: has no address family in common with local.include; give both of one family',
    '10:37 capture.include[1]: 192.168.1.0/24 overlaps with 192.168.1.0/24, which covers it; leave one of them out',
  ]);
  const server = `pool: {ipv4: 10.77.0.0/24}
listen: {addresses: [10.77.0.9]}
egress: {deny: [10.0.0.0/8, 10.5.0.0/16], allow: [10.6.0.0/16, 203.0.113.0/24]}
`;
  t.deepEqual(wrong(t, server, 'server'), [
    '4:14 pool.ipv4: 10.77.0.0/24 overlaps with 10.77.0.9 of listen.addresses; give a pool of its own',
    '6:29 egress.deny[1]: 10.5.0.0/16 overlaps with 10.0.0.0/8, which covers it; leave one of them out',
    '6:64 egress.allow[1]: 203.0.113.0/24 is not denied by anything; leave it out, or deny a prefix around it',
  ]);
});

test("a rule that leaves none of the server's addresses", (t) => {
  const dir = configDirectory(t);
  const file = dir.write(
    'c.yaml',
    `mode: client
key_file: client.key
server: {host: h, public_key: ${dir.pins.server}, addresses: [192.0.2.1, "2001:db8::1"]}
paths:
  - {match: {type: wifi}, remote: {exclude: [192.0.2.0/24]}}
  - {match: {type: cellular}, remote: {include: [198.51.100.0/24]}}
`,
  );
  const err = t.throws(() => loadConfig(file), { instanceOf: ConfigErrors });
  t.deepEqual(
    err!.errors.map((e) => `${e.line} ${e.path}: ${e.message}`),
    ['6 paths[1].remote: leaves none of server.addresses'],
  );
});

test('a converter that nobody may use, whose port is taken, or that asks for cookies that nobody has', (t) => {
  const text = 'convert:\n  listen: {port: 8443}\n  cookie: configured\n  cookies: []\n';
  t.deepEqual(
    wrong(t, text, 'server').map((error) => error.replace(/^\d+:\d+ /, '')),
    [
      'convert.clients: is empty: nobody may use the converter; give the prefixes of its clients',
      'convert.listen.port: is listen.port; give another one',
      'convert.cookies: is empty, and a cookie is asked for; give one, or cookie: computed',
    ],
  );
  t.deepEqual(wrong(t, 'convert: {listen: {port: 5124}, clients: [10.0.0.0/8]}\n', 'server'), []);
});

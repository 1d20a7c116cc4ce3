import test, { type ExecutionContext } from 'ava';
import { valuesOf } from '../../../src/config/diff.js';
import { loadConfigInDetail } from '../../../src/config/load.js';
import type { ClientConfig, Config, ServerConfig } from '../../../src/config/types.js';
import { planReload } from '../../../src/daemon/reload.js';
import { configDirectory } from '../../support/config-files.js';

/** A daemon that was started with the first text and reloads the others, one after the other. */
function reloads(t: ExecutionContext, mode: 'client' | 'server', first: string, ...others: string[]) {
  const dir = configDirectory(t);
  const head = {
    client: `mode: client\nkey_file: client.key\nserver: {host: h, public_key: ${dir.pins.server}}\n`,
    server: `mode: server\nkey_file: server.key\n`,
  }[mode];
  const load = (text: string) =>
    loadConfigInDetail(dir.write('c.yaml', head + text.replaceAll('PIN', dir.pins.client)));
  const loaded = load(first);
  let config: Config = loaded.config;
  let values = valuesOf(loaded);
  const told: string[][] = [];
  for (const text of others) {
    const plan = planReload(config, values, load(text));
    ({ config, values } = plan);
    told.push([plan.result.message, ...(plan.result.details ?? [])]);
  }
  return { config, told };
}

test('nothing has changed', (t) => {
  const { told } = reloads(t, 'client', 'tun: {mtu: 1400}\n', 'tun:\n  mtu: 1400 # the same\n');
  t.deepEqual(told, [['configuration reloaded: nothing has changed']]);
});

test('what has changed, key by key, and what each change takes', (t) => {
  const before = `paths:
  - {match: {type: wifi}, role: always}
  - {match: {type: cellular}, role: always, cap: {daily: 1GB}}
`;
  const after = `paths:
  - {match: {type: wifi}, role: always}
  - {match: {type: cellular}, role: backup, cap: {daily: 2GB}}
  - {match: {type: usb}}
tun: {mtu: 1400}
traffic: {mode: handover, checksum: true}
capture: {exclude: [10.0.0.0/8], table: 99}
log: {level: debug}
`;
  const { told, config } = reloads(t, 'client', before, after, after);
  const [message, ...details] = told[0]!;
  const added = details.filter((d) => d.startsWith('paths[2]'));
  t.true(added.includes('paths[2].match.type: (none) -> usb'));
  t.deepEqual(
    details.filter((d) => !d.startsWith('paths[2]')),
    [
      'traffic.mode: auto -> handover',
      'traffic.checksum: false -> true (for new connections)',
      'log.level: info -> debug',
      'tun.mtu: 1500 -> 1400 (needs a restart)',
      'capture.exclude: [] -> [10.0.0.0/8]',
      'capture.table: 7184 -> 99 (needs a restart)',
      'paths[1].role: always -> backup',
      'paths[1].cap.daily: 1GB -> 2GB',
    ],
  );
  t.is(message, `configuration reloaded: ${details.length - 2} changes, and 2 that need a restart`);
  t.deepEqual(told[1]!.slice(1), [
    'tun.mtu: 1500 -> 1400 (needs a restart)',
    'capture.table: 7184 -> 99 (needs a restart)',
  ]);

  const client = config as ClientConfig;
  t.is(client.paths.length, 3);
  t.is(client.traffic.mode, 'handover');
  t.is(client.log.level, 'debug');
  t.is(client.capture.exclude.length, 1);
  t.is(client.tun.mtuBytes, 1500, 'stays until a restart');
  t.is(client.capture.table, 7184);
});

test('a server: clients come and go; a new pool waits for a restart, and with it the addresses out of it', (t) => {
  const one = 'clients: [{name: a, public_key: PIN}]\n';
  const gone = reloads(t, 'server', one, 'clients: []\n');
  t.deepEqual((gone.config as ServerConfig).clients, []);
  t.true(gone.told[0]!.includes('clients[0].name: a -> (none)'));

  const pool = reloads(t, 'server', one, `${one}pool: {ipv4: 10.9.0.0/24}\n`);
  t.true(pool.told[0]!.includes('pool.ipv4: 10.77.0.0/24 -> 10.9.0.0/24 (needs a restart)'));
  t.true(pool.told[0]!.includes('clients[0].ipv4: 10.77.0.2 -> 10.9.0.2 (needs a restart)'));
  t.is((pool.config as ServerConfig).clients[0]?.ipv4?.text, '10.77.0.2');
  t.is((pool.config as ServerConfig).pool.ipv4?.text, '10.77.0.0/24');
});

import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { formatKeyPath } from '../../../src/config/document.js';
import { loadConfigInDetail, parseConfig } from '../../../src/config/load.js';
import { showEffective } from '../../../src/config/show.js';
import { configDirectory } from '../../support/config-files.js';
import { REPOSITORY } from '../../support/files.js';

for (const name of ['client', 'server'] as const) {
  test(`configs/${name}.yaml works as it stands, shows every key, and shows the defaults`, (t) => {
    const dir = configDirectory(t);
    const file = join(dir.path, `${name}.yaml`);
    copyFileSync(join(REPOSITORY, 'configs', `${name}.yaml`), file);
    const sample = loadConfigInDetail(file);
    t.is(sample.config.name, name);

    // Of a list the first entry shows every key.
    const missing = leaves(sample.raw).filter(
      (path) => !path.some((step) => typeof step === 'number' && step > 0) && !sample.document.has(path),
    );
    t.deepEqual(missing.map(formatKeyPath), []);

    // Values that a sample must choose; everything else is the default that it claims to be.
    const chosen = /^(mode|key_file|name|clients|server\.(host|public_key|addresses)(\[|$))/;
    const minimal = parseConfig(file, MINIMAL[name]);
    const values = (raw: unknown) =>
      new Map(leaves(raw).map((path) => [formatKeyPath(path), JSON.stringify(at(raw, path))] as const));
    const defaults = values(minimal.raw);
    for (const [path, value] of values(sample.raw)) if (!chosen.test(path)) t.is(defaults.get(path), value, path);
  });

  test(`config show --effective of configs/${name}.yaml loads again to the same configuration`, (t) => {
    const dir = configDirectory(t);
    const file = join(dir.path, `${name}.yaml`);
    copyFileSync(join(REPOSITORY, 'configs', `${name}.yaml`), file);
    const first = loadConfigInDetail(file);
    const text = showEffective(first);
    t.deepEqual(parseConfig(file, text).config, first.config);
    const unexplained = text.split('\n').filter((line) => /: \S/.test(line) && !/ # (line \d+|default)/.test(line));
    t.deepEqual(unexplained, []);
  });
}

test('each value is shown with its origin', (t) => {
  const dir = configDirectory(t);
  const file = dir.write('home.yaml', MINIMAL.client);
  const text = showEffective(loadConfigInDetail(file));
  for (const line of [
    'key_file: client.key # line 2',
    'name: home # default, from the name of the file',
    '  socket: /run/mptun/home.sock # default, from name',
    '  mode: auto # default',
  ]) {
    t.true(text.split('\n').includes(line), line);
  }
});

const MINIMAL = {
  client: 'mode: client\nkey_file: client.key\nserver: {host: vpn.example.net, public_key: file:server.pub}\n',
  server: 'mode: server\nkey_file: server.key\nclients: []\n',
};

/** Key paths of everything that is not a map or a non-empty list. */
function leaves(value: unknown, path: readonly (string | number)[] = []): (string | number)[][] {
  if (value === null || typeof value !== 'object' || (Array.isArray(value) && value.length === 0)) return [[...path]];
  return Object.entries(value).flatMap(([key, inner]) =>
    leaves(inner, [...path, Array.isArray(value) ? Number(key) : key]),
  );
}

function at(value: unknown, path: readonly (string | number)[]): unknown {
  return path.reduce((v, key) => (v as Record<string | number, unknown>)[key], value);
}

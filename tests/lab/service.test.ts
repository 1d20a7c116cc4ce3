import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { REPOSITORY, temporaryDirectory } from '../support/files.js';

const SOURCE = readFileSync(join(REPOSITORY, 'systemd', 'mptun@.service'), 'utf8');
const run = promisify(execFile);

/** What systemd-analyze calls exposure, 0 (none) to 10; the unit is at 2.4 with systemd 252. */
const MAX_EXPOSURE = 2.6;

function installedUnit(t: ExecutionContext): string {
  const file = join(temporaryDirectory(t), 'mptun@home.service');
  writeFileSync(file, SOURCE.replaceAll('/usr/bin/mptun', join(REPOSITORY, 'bin', 'mptun')));
  return file;
}

test('systemd-analyze verify has nothing to say', async (t) => {
  const { stdout, stderr } = await run('systemd-analyze', ['verify', installedUnit(t)]);
  t.is(stdout + stderr, '');
});

test('systemd-analyze security finds little exposed', async (t) => {
  const { stdout } = await run('systemd-analyze', ['security', '--offline=yes', installedUnit(t)]);
  const level = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
  t.true(level > 0 && level <= MAX_EXPOSURE, `exposure ${level}`);
});

test('the unit: two capabilities, a user of its own, notify with watchdog and reload, no MemoryDenyWriteExecute', (t) => {
  const setting = (key: string) => [...SOURCE.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map((m) => m[1]);
  t.deepEqual(setting('AmbientCapabilities'), ['CAP_NET_ADMIN CAP_NET_RAW']);
  t.deepEqual(setting('CapabilityBoundingSet'), ['CAP_NET_ADMIN CAP_NET_RAW']);
  t.deepEqual(setting('User'), ['mptun']);
  t.deepEqual(setting('Type'), ['notify']);
  t.deepEqual(setting('NoNewPrivileges'), ['yes']);
  t.deepEqual(setting('RuntimeDirectory'), ['mptun']);
  t.deepEqual(setting('StateDirectory'), ['mptun/%i']);
  t.is(setting('WatchdogSec').length, 1);
  t.is(setting('ExecReload').length, 1);
  t.true(Number(setting('LimitNOFILE')[0]) >= 65536);
  t.deepEqual(setting('MemoryDenyWriteExecute'), []);
});

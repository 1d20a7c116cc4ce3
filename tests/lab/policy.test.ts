/**
 * Policy on a running tunnel: another role, another cap, another mode and an overflow link by reloads of the file, while one
 * download goes on; no connection of the session is lost and every byte is right.
 */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { parse, stringify } from 'yaml';
import { ControlClient } from '../../src/control/client.js';
import type { FlowsDocument, PathStatus } from '../../src/control/protocol.js';
import { createLab, DEFAULT_LINKS, download, type Lab, SITE, startTunnel, type Tunnel } from '../../src/lab/index.js';

/** So much that it outlives all that happens. */
const BYTES = 80_000_000;
const MPTUN = new URL('../../src/cli/main.js', import.meta.url).pathname;

let lab: Lab;
let tunnel: Tunnel;

test.before(async () => {
  lab = await createLab({ links: DEFAULT_LINKS, prefix: 'py-policy-' });
  tunnel = await startTunnel(lab, { startTimeoutMs: 30_000 });
});

test.after.always(async () => {
  await tunnel?.dispose();
  await lab?.dispose();
});

type Yaml = { paths: Record<string, unknown>[]; [key: string]: unknown };

function control(): ControlClient {
  const { control: section } = parse(readFileSync(tunnel.client.configFile, 'utf8')) as { control: { socket: string } };
  return new ControlClient(section.socket);
}

/** Changes the file, reloads, and gives what the daemon says of it. */
async function reload(change: (config: Yaml) => void): Promise<string[]> {
  const file = tunnel.client.configFile;
  const config = parse(readFileSync(file, 'utf8')) as Yaml;
  change(config);
  writeFileSync(file, stringify(config));
  const { message, details } = await control().post('/v1/reload');
  return [message, ...details];
}

function ruleOf(config: Yaml, name: string): Record<string, unknown> {
  return config.paths.find((rule) => (rule.match as { name: string }).name === name)!;
}

async function path(name: string): Promise<PathStatus> {
  return (await tunnel.client.status()).paths.find((p) => p.name === name)!;
}

async function waitFor(what: string, condition: () => Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline)
      throw new Error(`timed out: ${what}: ${JSON.stringify((await tunnel.client.status()).paths)}`);
    await delay(50);
  }
}

async function connectionIds(): Promise<number[]> {
  return (await control().get<FlowsDocument>('/v1/flows')).flows.map((f) => f.id).sort();
}

test.serial('roles, caps and modes change under a download by reload; no connection is lost', async (t) => {
  const before = await connectionIds();
  t.is(before.length, 2);
  let isOver = false;
  const transfer = download(lab, { address: SITE.v4, bytes: BYTES, timeoutSeconds: 90 }).finally(() => {
    isOver = true;
  });
  await delay(500);

  t.deepEqual(
    await reload((c) => {
      ruleOf(c, 'wwan0').role = 'backup';
    }),
    ['configuration reloaded: 1 change', 'paths[1].role: always -> backup'],
  );
  await waitFor('wwan0 rests', async () => (await path('wwan0')).state === 'warm');
  t.is((await path('wwan0')).reason, 'backup: another path works');

  await reload((c) => {
    ruleOf(c, 'wwan0').role = 'never';
  });
  await waitFor('wwan0 is given up', async () => (await path('wwan0')).state === 'down');
  t.is((await path('wwan0')).reason, 'its role is never');

  await reload((c) => Object.assign(ruleOf(c, 'wwan0'), { role: 'backup', keep_warm: false }));
  await delay(300);
  t.is((await path('wwan0')).reason, 'opened when it is needed (keep_warm: false)');

  await reload((c) =>
    Object.assign(ruleOf(c, 'wwan0'), { role: 'overflow', overflow_above: '5Mbit', keep_warm: true }),
  );
  await waitFor('more than 5 Mbit/s: wwan0 helps', async () => (await path('wwan0')).state === 'active');

  await reload((c) => Object.assign(ruleOf(c, 'wwan0'), { cap: { daily: '200kB', at_limit: 'never' } }));
  await waitFor('the cap is reached', async () => (await path('wwan0')).state === 'down');
  t.regex((await path('wwan0')).reason!, /^daily cap reached: .* of 200 kB; role never until \d{4}-\d\d-\d\d$/);
  t.is((await path('wwan0')).role, 'never');

  const told = await reload((c) => {
    delete ruleOf(c, 'wwan0').cap;
    delete ruleOf(c, 'wwan0').overflow_above;
    ruleOf(c, 'wwan0').role = 'always';
    c.traffic = { mode: 'handover', congestion: 'cubic' };
    c.tun = { mtu: 1400 };
  });
  t.true(told.includes('traffic.mode: auto -> handover'));
  t.true(told.includes('tun.mtu: 1500 -> 1400 (needs a restart)'));
  await waitFor('one path at a time', async () => {
    const states = (await tunnel.client.status()).paths.map((p) => p.state).sort();
    return states.join() === 'active,warm';
  });
  const { flows } = await control().get<FlowsDocument>('/v1/flows');
  t.true(flows.every((f) => f.subflows.every((s) => s.congestion === 'cubic')));

  t.false(isOver, 'the download has seen it all');
  const { isIntact, bytes } = await transfer;
  t.true(isIntact);
  t.is(bytes, BYTES);
  t.deepEqual(await connectionIds(), before, 'the same connections');
  t.regex(readFileSync(tunnel.client.logFile, 'utf8'), /wwan0: daily cap reached/);
});

test.serial('a file with an error changes nothing, and says what is wrong where', async (t) => {
  const error = await t.throwsAsync(
    reload((c) => {
      for (const rule of c.paths) rule.role = 'never';
    }),
  );
  t.regex(error!.message, /mptun\.yaml:\d+:\d+: paths\[0\]\.role: every path has the role never/);
  t.true((await tunnel.client.status()).paths.every((p) => p.role === 'always'));
});

test.serial('what a link has used counts on after a kill', async (t) => {
  await reload((c) => {
    for (const rule of c.paths) rule.role = 'always';
    Object.assign(ruleOf(c, 'wwan0'), { cap: { daily: '1GB' } });
    Object.assign(ruleOf(c, 'wlan0'), { role: 'backup' });
    delete c.tun;
    delete c.traffic;
  });
  await waitFor('wwan0 carries all', async () => {
    return (await path('wwan0')).state === 'active' && (await path('wlan0')).state === 'warm';
  });
  t.true((await download(lab, { address: SITE.v4, bytes: 3_000_000 })).isIntact);
  await waitFor('it is counted', async () => (await path('wwan0')).cap!.day_bytes > 3_000_000);
  const before = (await path('wwan0')).cap!;
  t.is(before.daily_limit_bytes, 1_000_000_000);
  t.is(before.reached, null);

  tunnel.client.process.kill('SIGKILL');
  await once(tunnel.client.process, 'exit');
  const again = lab.spawn('client', [process.execPath, MPTUN, 'run', tunnel.client.configFile], { stdio: 'ignore' });
  try {
    await waitFor('it runs again', async () => {
      const status = await tunnel.client.status().catch(() => null);
      return status?.paths.some((p) => p.cap !== null) ?? false;
    });
    t.true((await path('wwan0')).cap!.day_bytes >= before.day_bytes);
  } finally {
    again.kill('SIGTERM');
    await once(again, 'exit');
  }
});

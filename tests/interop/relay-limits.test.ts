/** What the relay does where its limits are: real curl with a client certificate, and our own client. */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { finished, type KeyFiles, RELAY_PORT, RelayLab, RelayUser } from '../support/relay-lab.js';

const MAX_FLOWS = 3;
const MAX_FLOW_BYTES = 1_000_000;
/** Takes packets and does not answer. */
const SILENT = '10.9.0.99';
/** Says nothing before it has read to the end. */
const QUIET = '10.9.0.2:8082';

let lab: RelayLab;
let serverKey: KeyFiles;
let clientKey: KeyFiles;

test.before(async () => {
  lab = new RelayLab('rll');
  lab.server.ip('neigh', 'add', SILENT, 'lladdr', '02:00:00:00:00:99', 'dev', 'c1', 'nud', 'permanent');
  // A kernel that gives up within seconds, so that its word is waited for here.
  lab.server.run('sysctl', '-qw', 'net.ipv4.tcp_syn_retries=1');
  [serverKey, clientKey] = await Promise.all([lab.newKey('server'), lab.newKey('client')]);
  const relay = { max_flows: MAX_FLOWS, max_pending_dials: 1, max_flow_bytes: `${MAX_FLOW_BYTES / 1_000_000}MB` };
  await Promise.all([lab.startServer(serverKey, clientKey, {}, { relay }), lab.startTarget()]);
});

test.after.always(() => lab?.close());

function curl(...args: string[]): ChildProcess {
  return lab.client.spawn(
    ...['curl', '--silent', '--show-error', '--verbose', '--max-time', '20', '--proxytunnel'],
    ...['--proxy', `https://10.1.0.2:${RELAY_PORT}`, '--proxy-insecure', '--proxy-pinnedpubkey'],
    ...[`sha256//${serverKey.pin}`, '--proxy-cert', clientKey.certificateFile, '--proxy-key', clientKey.keyFile],
    ...args,
  );
}

async function answerTo(url: string): Promise<string> {
  const { stderr } = await finished(curl(url));
  const status = /< HTTP\/1\.1 (\d{3})/.exec(stderr)?.[1];
  return `${status} ${/< Proxy-Status: mptun; error=(\w+)/.exec(stderr)?.[1] ?? ''}`;
}

async function count(name: string): Promise<number> {
  const counters = await lab.metrics();
  return counters.get(`mptun_stack_events_total{tunnel="relay",counter="relay_${name}"}`) ?? 0;
}

async function untilCounted(name: string, wanted: number): Promise<void> {
  for (let tries = 0; (await count(name)) < wanted; tries++) {
    if (tries === 200) throw new Error(`relay_${name} is ${await count(name)}, not ${wanted}`);
    await delay(50);
  }
}

/** Flows that were carried and are over. */
async function ended(): Promise<number> {
  const reasons = ['done', 'reset_by_client', 'reset_by_target', 'byte_limit', 'closed'];
  const counts = await Promise.all(reasons.map((reason) => count(`ended_${reason}`)));
  return counts.reduce((sum, n) => sum + n, 0);
}

/** Kills what holds flows open; resolves when the relay has let them go. */
async function letGo(held: readonly ChildProcess[]): Promise<void> {
  const before = await ended();
  for (const child of held) child.kill('SIGKILL');
  for (let tries = 0; (await ended()) < before + held.length; tries++) {
    if (tries === 200) throw new Error(`${(await ended()) - before} of ${held.length} flows have ended`);
    await delay(50);
  }
}

/** As many flows as there may be, opened one by one. */
async function holdAll(): Promise<ChildProcess[]> {
  const open: ChildProcess[] = [];
  const connected = await count('connected');
  for (let i = 1; i <= MAX_FLOWS; i++) {
    open.push(curl(`http://${QUIET}/`));
    await untilCounted('connected', connected + i);
  }
  return open;
}

test.serial('so many dials at once, the next is told 503; a destination that does not answer is a 504', async (t) => {
  const waiting = finished(curl(`http://${SILENT}/`));
  await untilCounted('requests', 1);
  t.is(await answerTo('http://10.9.0.2:8080/1'), '503 connection_limit_reached');
  const { stderr } = await waiting;
  t.regex(
    stderr,
    /< HTTP\/1\.1 504 Gateway Timeout[\s\S]*< Proxy-Status: mptun; error=connection_timeout; details="ETIMEDOUT"/,
  );
  t.deepEqual([await count('refused_too_many_dials'), await count('refused_timeout')], [1, 1]);
});

test.serial('so many flows of a client, the next is told 503 until one of them has ended', async (t) => {
  const open = await holdAll();
  t.is(await answerTo('http://10.9.0.2:8080/1'), '503 connection_limit_reached');
  t.is(await count('refused_too_many_flows'), 1);
  await letGo([open.pop()!]);
  t.is(await answerTo('http://10.9.0.2:8080/1'), '200 ');
  await letGo(open);
});

test.serial('a flow that carries more bytes than it may, either way, is reset, and no other one', async (t) => {
  const down = await finished(curl('http://10.9.0.2:8080/3000000', '-o', '/dev/null', '-w', '%{size_download}'));
  t.not(down.code, 0);
  t.true(Number(down.stdout) <= MAX_FLOW_BYTES, down.stdout);
  t.is(await count('ended_byte_limit'), 1);
  const up = await finished(curl('http://10.9.0.2:8080/', '-T', process.execPath));
  t.not(up.code, 0);
  t.is(await count('ended_byte_limit'), 2);
  const less = await finished(curl('http://10.9.0.2:8080/900000', '-o', '/dev/null', '-w', '%{size_download}'));
  t.deepEqual([less.code, less.stdout], [0, '900000']);
});

test.serial('our own client: 503 is a way that cannot be had now, 504 silence', async (t) => {
  const user = new RelayUser(lab, { pin: serverKey.pin, keyFile: clientKey.keyFile });
  await user.do();
  t.is((await user.do('get', SILENT, 80, '/')).failed, 'timeout');
  const held = await holdAll();
  const refused = await count('refused_too_many_flows');
  t.is((await user.do('get', '10.9.0.2', 8080, '/1')).failed, 'unavailable');
  t.is(await count('refused_too_many_flows'), refused + 1);
  await letGo(held);
  user.close();
});

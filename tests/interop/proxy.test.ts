/**
 * `mptun proxy` without a daemon, as nobody: real curl, by SOCKS5 and by HTTP, to a real server's relay, whose connections the
 * kernel's Multipath TCP carries; and straight to the destination.
 */

import { once } from 'node:events';
import { chmodSync, chownSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { stringify } from 'yaml';
import { PIN_PREFIX } from '../../src/config/keys.js';
import { ControlClient } from '../../src/control/client.js';
import type { FlowsDocument } from '../../src/control/protocol.js';
import { readableCheckout } from '../support/checkout.js';
import { finished, RELAY_PORT, RelayLab } from '../support/relay-lab.js';

const NOBODY = 65_534;

let lab: RelayLab;
let checkout: string;
let binds: string;

test.before(async () => {
  lab = new RelayLab('mtU');
  const [serverKey, clientKey] = await Promise.all([lab.newKey('server'), lab.newKey('client')]);
  await Promise.all([lab.startServer(serverKey, clientKey), lab.startTarget()]);
  const own = join(lab.dir, 'nobody');
  chmodSync(lab.dir, 0o755);
  mkdirSync(own);
  ({ checkout, binds } = readableCheckout(lab.dir));
  copyFileSync(clientKey.keyFile, join(own, 'client.key'));
  const config = {
    mode: 'client',
    key_file: 'client.key',
    server: { host: '10.1.0.2', port: RELAY_PORT, public_key: PIN_PREFIX + serverKey.pin },
  };
  writeFileSync(join(own, 'client.yaml'), stringify(config));
  for (const file of ['', 'client.key', 'client.yaml']) chownSync(join(own, file), NOBODY, NOBODY);
  // For --direct: the destinations by ordinary routes.
  lab.client.ip('route', 'add', '10.9.0.0/24', 'via', '10.1.0.2');
  lab.target.ip('route', 'add', 'default', 'via', '10.9.0.1');
  lab.server.run('sysctl', '-qw', 'net.ipv4.ip_forward=1');
});

test.after.always(() => lab?.close());

/** The proxy's address, from the line that says that it listens. */
async function startProxy(...args: string[]): Promise<string> {
  const script = `${binds} && exec setpriv --reuid ${NOBODY} --regid ${NOBODY} --clear-groups "$@"`;
  const proxy = [process.execPath, join(checkout, 'dist/src/cli/main.js'), 'proxy', '--listen', '127.0.0.1:0', ...args];
  const child = lab.client.spawn('unshare', '--mount', 'sh', '-c', script, 'sh', ...proxy);
  let errors = '';
  child.stderr!.on('data', (d) => (errors += d));
  const [line] = (await Promise.race([
    once(child.stdout!, 'data'),
    once(child, 'exit').then(() => [`it ended: ${errors}`]),
  ])) as [Buffer | string];
  const address = /proxy on (\S+),/.exec(String(line))?.[1];
  if (address === undefined) throw new Error(String(line));
  return address;
}

function curl(...args: string[]) {
  const quiet = ['--silent', '--show-error', '--max-time', '20', '-o', '/dev/null', '-w', '%{size_download}'];
  return finished(lab.client.spawn('curl', ...quiet, ...args));
}

function counter(name: string): number {
  const all = lab.client.run('nstat', '-asz', name);
  return Number(new RegExp(`^${name}\\s+(\\d+)`, 'm').exec(all)?.[1] ?? 0);
}

test.serial("through the server's relay, by SOCKS5 and HTTP, over kernel MPTCP and without root", async (t) => {
  const proxy = await startProxy('--config', join(lab.dir, 'nobody', 'client.yaml'));
  const before = counter('MPTcpExtMPCapableSYNACKRX');
  const page = 'http://10.9.0.2:8080/1000000';
  for (const args of [
    ['--proxy', `socks5h://${proxy}`, page],
    ['--proxy', `http://${proxy}`, '--proxytunnel', page],
    ['--proxy', `http://${proxy}`, page],
    ['--proxy', `socks5h://${proxy}`, 'http://[fd09::2]:8080/1000000'],
  ]) {
    const { code, stdout, stderr } = await curl(...args);
    t.deepEqual([code, stdout, stderr], [0, '1000000', ''], args.join(' '));
  }
  t.is(counter('MPTcpExtMPCapableSYNACKRX') - before, 4, 'each was a Multipath TCP connection');
  const refused = await curl('--proxy', `socks5h://${proxy}`, 'http://10.9.0.2:9/');
  t.regex(refused.stderr, /\(5\)/, 'connection refused, in the words of SOCKS5');
  const denied = await curl('--proxy', `socks5h://${proxy}`, 'http://127.0.0.1:22/');
  t.regex(denied.stderr, /\(2\)/, 'not allowed by ruleset');
});

test.serial('a flow under way is shown by the server', async (t) => {
  const proxy = await startProxy('--config', join(lab.dir, 'nobody', 'client.yaml'));
  // Accepts and never reads.
  const slow = lab.client.spawn(
    'curl',
    '-sS',
    '--max-time',
    '20',
    '--proxy',
    `socks5h://${proxy}`,
    'telnet://10.9.0.2:8083',
  );
  const control = new ControlClient(join(lab.dir, 'control.sock'));
  let flow: FlowsDocument['tcp_flows'][number] | undefined;
  for (let tries = 0; flow === undefined && tries < 200; tries++) {
    flow = (await control.get<FlowsDocument>('/v1/flows')).tcp_flows.find((f) => f.state === 'open');
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  t.like(flow, { origin: 'relay', session: 'laptop', destination: '10.9.0.2:8083', way: 'relay', is_mptcp: true });
  t.true(flow!.paths.length >= 1);
  slow.kill('SIGKILL');
});

test.serial('straight to the destination', async (t) => {
  const proxy = await startProxy('--direct');
  const { code, stdout } = await curl('--proxy', `http://${proxy}`, '--proxytunnel', 'http://10.9.0.2:8080/1000000');
  t.deepEqual([code, stdout], [0, '1000000']);
});

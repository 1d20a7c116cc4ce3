/** The stack as a library (docs/library.md), used as an application would, against the kernel's Multipath TCP. */
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { CatLab } from '../support/cat-lab.js';
import { REPOSITORY } from '../support/files.js';

const EXAMPLE = `${REPOSITORY}/docs/examples/hello.js`;
const PEER = fileURLToPath(new URL('../support/line-peer.js', import.meta.url));
const USER = fileURLToPath(new URL('../support/library-user.js', import.meta.url));
const LIMIT_MS = 30_000;

const lab = new CatLab('lib');
for (const [ns, side, other] of [
  [lab.ours, 'a', 2],
  [lab.kernel, 'b', 1],
] as const) {
  const script = ['sysctl -qw net.ipv4.conf.all.rp_filter=0', 'ip route add unreachable 192.0.2.0/24'];
  for (const i of [1, 2]) {
    script.push(
      `sysctl -qw net.ipv4.conf.${side}${i}.rp_filter=0`,
      // Each link reaches the other side's further addresses.
      `ip route add default via 10.${i}.0.${other} dev ${side}${i} metric ${2000 + i}`,
    );
  }
  ns.run('sh', '-ec', script.join('\n'));
}
test.after.always(() => lab.close());

/** A process whose output can be waited for. */
class Running {
  stdout = '';
  stderr = '';
  exitCode: number | null | undefined;
  private readonly changed = new Set<() => void>();

  constructor(readonly child: ChildProcess) {
    child.stdout!.on('data', (data) => this.on(() => (this.stdout += data)));
    child.stderr!.on('data', (data) => this.on(() => (this.stderr += data)));
    child.once('close', (code) => this.on(() => (this.exitCode = code)));
    child.stdin!.on('error', () => undefined);
    const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
    child.once('close', () => clearTimeout(timer));
  }

  async until(isSo: () => boolean, what: string): Promise<void> {
    while (!isSo()) {
      if (this.exitCode !== undefined)
        throw new Error(`ended (${this.exitCode}) before ${what}: ${this.stdout}${this.stderr}`);
      await new Promise<void>((resolve) => this.changed.add(resolve));
    }
  }

  async ended(): Promise<number | null> {
    while (this.exitCode === undefined) await new Promise<void>((resolve) => this.changed.add(resolve));
    return this.exitCode;
  }

  private on(change: () => void): void {
    change();
    for (const resolve of this.changed) resolve();
    this.changed.clear();
  }
}

const ours = (...args: string[]) => new Running(lab.ours.spawn('node', ...args));
const kernel = (...args: string[]) => new Running(lab.kernel.spawn('mptcpize', 'run', 'node', PEER, ...args));
const times = (text: string, what: string) => text.split(what).length - 1;

test('the example is at most 30 lines long', (t) => {
  const lines = readFileSync(EXAMPLE, 'utf8').trimEnd().split('\n');
  t.true(lines.length <= 30, `${lines.length} lines`);
});

for (const verb of ['connect', 'listen'] as const) {
  test.serial(`the example and the kernel: ${verb}`, async (t) => {
    let example: Running;
    let peer: Running;
    if (verb === 'connect') {
      peer = kernel('listen', '5000');
      await peer.until(() => peer.stderr.includes('ready'), 'ready');
      example = ours(EXAMPLE, 'connect', '10.1.0.2', '5000', 'a1', 'a2');
    } else {
      lab.kernel.ip('mptcp', 'endpoint', 'add', '10.2.0.2', 'dev', 'b2', 'subflow');
      example = ours(EXAMPLE, 'listen', '5001', 'a1', 'a2');
      await example.until(() => example.stdout.includes('listening'), 'listening');
      peer = kernel('connect', '10.1.0.1', '5001');
    }
    await peer.until(() => peer.stdout.includes('hello\n'), 'hello');
    peer.child.stdin!.write('guten Tag\n');
    await example.until(() => example.stdout.includes('guten Tag'), 'the greeting');
    // Accepting, the first subflow was there before anybody listened for events.
    await example.until(() => times(example.stdout, 'subflow-established') >= 1, 'the second subflow');
    peer.child.stdin!.end('bye\n');
    const [exitCode] = await Promise.all([example.ended(), peer.ended()]);
    t.is(exitCode, 0, example.stderr);
    t.true(peer.stdout.endsWith('2 subflows, 14 bytes\n'), peer.stdout);
    t.regex(example.stdout, /^a2 10\.\d\.0\.2 \d+(\.\d+)? us$/m);
    t.true(example.stdout.endsWith('connection-closed\n'), example.stdout);
  });
}

async function findings(t: { log(...values: unknown[]): void }, what: string): Promise<Record<string, unknown>> {
  const peer = kernel('echo', '5002');
  await peer.until(() => peer.stderr.includes('ready'), 'ready');
  const user = ours(USER, what, '10.1.0.2', '5002');
  const exitCode = await user.ended();
  peer.child.stdin!.end();
  await peer.ended();
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}: ${user.stdout}${user.stderr}`);
  if (user.stderr !== '') t.log(user.stderr);
  const lines = user.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { what: string; value: unknown });
  return Object.fromEntries(lines.map((line) => [line.what, line.value]));
}

test.serial('failures have the error codes that Node uses', async (t) => {
  t.deepEqual(await findings(t, 'failures'), {
    refused: 'ECONNREFUSED',
    silent: 'ETIMEDOUT',
    cancelled: 'TimeoutError',
    'no route': 'ENETUNREACH',
    'bad port': 'EINVAL',
    'bad scheduler': 'EINVAL',
    'port taken': 'EADDRINUSE',
    'not ours': 'EADDRNOTAVAIL',
    'listener closed': 'ECONNABORTED',
    'no interface': 'ENODEV',
    plain: false,
    'not on plain TCP': 'EOPNOTSUPP',
    aborted: 'ECONNABORTED',
    'host closed': 'ENOTCONN',
  });
});

test.serial('addresses, subflows, priority, keepalives, names and info', async (t) => {
  t.deepEqual(await findings(t, 'settings'), {
    id: true,
    congestion: 'cubic',
    'one subflow': ['a1'],
    added: true,
    'two subflows': ['a1 10.1.0.1', 'a2 10.2.0.1'],
    backup: true,
    'kept alive': true,
    'unknown subflow': 'ENOENT',
    'unknown address': 'ENOENT',
    removed: true,
    'added again': true,
    opened: true,
    disabled: true,
    info: { subflows: 0, total: 1, sent: 5, acked: 5, sequence: 0, signalled: 1 },
    enabled: true,
    events: [true, true, true, true],
  });
});

test.serial('ten megabytes there and back through small buffers; close() leaves nothing', async (t) => {
  t.deepEqual(await findings(t, 'streams'), {
    bytes: 10_000_000,
    equal: true,
    bounded: true,
    'in use': 0,
    'packet sockets': 0,
  });
});

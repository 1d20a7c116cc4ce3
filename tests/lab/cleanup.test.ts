/** Nothing is left behind, whatever way a lab ends: see the head of src/lab/namespaces.ts and src/lab/sandbox.ts. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { listNamespaces, NamespaceSet, removeLeftovers } from '../../src/lab/namespaces.js';
import { remedy } from '../../src/lab/sandbox.js';
import { readableCheckout } from '../support/checkout.js';
import { until } from '../support/until.js';

const NAMESPACES = new URL('../../src/lab/namespaces.js', import.meta.url).href;
const PREFIX = 'mtl-clean-';

/** Another program that makes two namespaces and a process in one of them, then waits. */
async function startOwner(
  prefix: string,
  then = '',
): Promise<{ owner: ChildProcess; names: string[]; sleeper: number }> {
  const script = `
    import { NamespaceSet } from '${NAMESPACES}';
    const set = new NamespaceSet('${prefix}');
    set.add('a');
    set.add('b');
    const child = set.spawn('a', ['sleep', '1000']);
    process.on('SIGINT', () => set.dispose().then(() => process.exit(130)));
    setTimeout(() => console.log(JSON.stringify([set.fullName('a'), set.fullName('b'), child.pid])), 300);
    setTimeout(() => { ${then} }, 600);
    setInterval(() => {}, 1000);`;
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  const [text] = (await once(owner.stdout!, 'data')) as [Buffer];
  const [a, b, sleeper] = JSON.parse(text.toString()) as [string, string, number];
  return { owner, names: [a, b], sleeper };
}

function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
}

const present = (names: readonly string[]) => names.filter((name) => listNamespaces().includes(name));

test.serial('dispose ends processes and removes namespaces', async (t) => {
  const set = new NamespaceSet(PREFIX);
  set.add('a');
  const child = set.spawn('a', ['sleep', '1000']);
  await once(child, 'spawn');
  t.is(present([set.fullName('a')]).length, 1);
  await set.dispose();
  t.is(present([set.fullName('a')]).length, 0);
  t.false(isRunning(child.pid!));
});

test.serial('Ctrl-C: the owner cleans up', async (t) => {
  const { owner, names, sleeper } = await startOwner(PREFIX);
  t.is(present(names).length, 2);
  owner.kill('SIGINT');
  t.deepEqual(await once(owner, 'exit'), [130, null]);
  t.is(present(names).length, 0);
  t.false(isRunning(sleeper));
});

test.serial('an uncaught error: the exit hook cleans up', async (t) => {
  const { owner, names, sleeper } = await startOwner(PREFIX, 'throw new Error("crash")');
  t.is(((await once(owner, 'exit')) as [number])[0], 1);
  t.is(present(names).length, 0);
  await until(() => !isRunning(sleeper), 'the process in the namespace to end');
});

test.serial('kill -9: its processes die with it, the next start removes its namespaces, and only those', async (t) => {
  const dead = await startOwner(PREFIX);
  const alive = await startOwner(PREFIX);
  dead.owner.kill('SIGKILL');
  await once(dead.owner, 'exit');
  await until(() => !isRunning(dead.sleeper), 'the orphan to die');
  t.is(present(dead.names).length, 2);
  t.deepEqual(removeLeftovers(PREFIX).sort(), dead.names);
  t.is(present(dead.names).length, 0);
  t.is(present(alive.names).length, 2);
  t.true(isRunning(alive.sleeper));
  alive.owner.kill('SIGINT');
  await once(alive.owner, 'exit');
});

test.serial('the demo, ended at any moment by Ctrl-C or kill -9, leaves no process and no namespace', async (t) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    for (const stage of ['starting', 'measuring'] as const) {
      const mark = `mtl-mark-${process.pid}-${signal}-${stage}`;
      const demo = spawn(process.execPath, ['bin/mptun', 'demo', '--links-only'], {
        stdio: 'ignore',
        detached: true, // a process group of its own, as on a terminal
        env: { ...process.env, MTL_MARK: mark },
      });
      const wanted = stage === 'starting' ? ['unshare'] : ['emulator.js', 'site.js', 'probe.js'];
      await until(
        () => wanted.every((word) => marked(mark).some((cmd) => cmd.includes(word))),
        `the demo: ${stage}`,
        30_000,
      );
      // Ctrl-C goes to the foreground group; the others to the program that was started.
      process.kill(signal === 'SIGINT' ? -demo.pid! : demo.pid!, signal);
      await until(() => marked(mark).length === 0, `${signal} while ${stage}: no process is left`, 10_000);
      t.deepEqual(
        listNamespaces().filter((name) => name.startsWith('mptun-')),
        [],
      );
    }
  }
});

test.serial(
  'what runs in a sandbox ends with the program outside, should that die before the kernel knows of it',
  async (t) => {
    const module = new URL('../../src/lab/sandbox.js', import.meta.url).href;
    const script = `import { endWithOutside } from '${module}'; endWithOutside(); setInterval(() => {}, 1000); console.log('up');`;
    const argv = ['--input-type=module', '-e', script];
    const inner = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit', 'pipe'] });
    await once(inner.stdout!, 'data');
    (inner.stdio[3] as Socket).destroy();
    t.deepEqual(await once(inner, 'exit'), [137, null]);
  },
);

test.serial('an ordinary user gets the demo in a user namespace', async (t) => {
  // Here /dev/net/tun may be root's only, unlike on most distributions: this run gets one that everybody may open.
  const dir = mkdtempSync(join(tmpdir(), 'mtl-'));
  chmodSync(dir, 0o755);
  const { checkout, binds } = readableCheckout(dir);
  const script = `${binds} && cd ${checkout} && mknod -m 666 ${dir}/tun c 10 200 && mount --bind ${dir}/tun /dev/net/tun && exec setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/nonexistent "$@"`;
  const argv = ['--mount', 'sh', '-c', script, 'sh', process.execPath, 'bin/mptun', 'demo', '--links-only', '--json'];
  const demo = spawn('unshare', argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  demo.stdout!.on('data', (d) => out.push(d));
  demo.stderr!.on('data', (d) => err.push(d));
  const [code] = (await once(demo, 'close')) as [number];
  rmSync(dir, { recursive: true });
  t.is(code, 0, Buffer.concat(err).toString());
  const document = JSON.parse(Buffer.concat(out).toString());
  t.is(document.schema, 'mptun.demo/1');
  t.deepEqual(
    document.links.map((link: { name: string }) => link.name),
    ['wlan0', 'wwan0'],
  );
});

test('without access to the TUN driver the demo says what to do', (t) => {
  const argv = [
    '--mount',
    'sh',
    '-c',
    'mount -t tmpfs none /dev/net && exec "$@"',
    'sh',
    process.execPath,
    'bin/mptun',
    'demo',
  ];
  const done = spawnSync('unshare', argv, { encoding: 'utf8' });
  t.is(done.status, 9);
  t.regex(done.stderr, /sudo modprobe tun/);
});

test('where user namespaces are forbidden the remedy is exact', (t) => {
  const settings = (set: Record<string, string>) => (key: string) => set[key];
  t.regex(
    remedy('no', settings({ 'kernel.apparmor_restrict_unprivileged_userns': '1' })),
    /sudo sysctl -w kernel\.apparmor_restrict_unprivileged_userns=0/,
  );
  t.regex(
    remedy('no', settings({ 'kernel.unprivileged_userns_clone': '0' })),
    /sudo sysctl -w kernel\.unprivileged_userns_clone=1/,
  );
  t.regex(
    remedy('no', settings({ 'user.max_user_namespaces': '0' })),
    /sudo sysctl -w user\.max_user_namespaces=15000/,
  );
  t.regex(remedy('EPERM', settings({})), /EPERM/);
});

/** Command lines of the running processes whose environment has this mark. */
function marked(mark: string): string[] {
  const found: string[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (!readFileSync(`/proc/${name}/environ`, 'latin1').includes(mark) || !isRunning(Number(name))) continue;
      found.push(readFileSync(`/proc/${name}/cmdline`, 'latin1').replaceAll('\0', ' '));
    } catch {
      // it ended meanwhile
    }
  }
  return found;
}

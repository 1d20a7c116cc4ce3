/**
 * Runs this program again in namespaces of its own, so that whatever happens inside, up to `kill -9`, the kernel removes
 * everything: processes (PID namespace), network namespaces, devices and routes (network), and their names in /run
 * (mount namespace with a private /run). An ordinary user gets a user namespace around it, where the system allows that.
 */
import { type StdioOptions, spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, readFileSync } from 'node:fs';
import { Socket } from 'node:net';

/** Set inside the sandbox; the value is our own, and only says "do not do it again". */
const INSIDE = 'MPTUN_LAB_SANDBOX';

const INTERRUPT_PATIENCE_MS = 4000;
const EXIT_SIGINT = 130;
const EXIT_SIGKILL = 137;
/** Inside: a pipe from the program outside. */
const LIFELINE_FD = 3;

/** The sandbox cannot be had; `message` says why and, line by line, what to do about it. */
export class SandboxError extends Error {}

export function isInSandbox(): boolean {
  return process.env[INSIDE] === '1';
}

/**
 * Runs `argv` in a sandbox with this terminal; resolves to its exit status. Throws SandboxError. `keepPids`: without a PID
 * namespace, where the kernel's threads and their CPU time are to be seen; PDEATHSIG alone then ends what is inside.
 */
export function runInSandbox(argv: readonly string[], options: { keepPids?: boolean } = {}): Promise<number> {
  const flags = findFlags(options.keepPids === true);
  // PDEATHSIG: when we are killed, `unshare` is, and with it (--kill-child) everything inside.
  const command = ['--pdeathsig', 'KILL', '--', 'unshare', ...flags, '--', ...argv];
  // Between its fork and its own PDEATHSIG `unshare` can be killed alone; what it has started then hears of it by the pipe.
  const stdio: StdioOptions = ['inherit', 'inherit', 'inherit', 'pipe'];
  const child = spawn('setpriv', command, { stdio, env: { ...process.env, [INSIDE]: '1' } });
  // Ctrl-C reaches the program inside by itself (same foreground group): it cleans up and we wait, though not for ever,
  // and not when asked twice: the first process of a PID namespace is deaf to it until it has installed its handler. A
  // signal that is meant for us alone ends the sandbox.
  const end = () => child.kill('SIGKILL');
  let patience: NodeJS.Timeout | undefined;
  const interrupt = () => {
    if (patience !== undefined) end();
    patience ??= setTimeout(end, INTERRUPT_PATIENCE_MS);
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', end);
  process.on('SIGHUP', end);
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new SandboxError(`cannot start setpriv (util-linux): ${error.message}`)));
    child.once('exit', (code) => {
      clearTimeout(patience);
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', end);
      process.off('SIGHUP', end);
      resolve(patience !== undefined ? EXIT_SIGINT : (code ?? EXIT_SIGKILL));
    });
  });
}

/**
 * First thing inside: a private /run, and an end as soon as the program outside has ended. Throws SandboxError when the TUN
 * driver is out of reach.
 */
export function enterSandbox(): void {
  endWithOutside();
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'mptun-lab', '/run'], { encoding: 'utf8' });
  if (mounted.status !== 0) throw new SandboxError(`cannot mount a private /run: ${mounted.stderr.trim()}`);
  mkdirSync('/run/netns');
  requireTunDevice();
}

/** This process ends when the other end of its lifeline does. */
export function endWithOutside(): void {
  const lifeline = new Socket({ fd: LIFELINE_FD, readable: true, writable: false });
  lifeline.once('close', () => process.exit(EXIT_SIGKILL));
  lifeline.resume().unref();
}

function requireTunDevice(): void {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new SandboxError(
      isMissing
        ? 'there is no /dev/net/tun. To load the driver:\n  sudo modprobe tun'
        : 'this user may not open /dev/net/tun. To allow it (most distributions do):\n  sudo chmod 0666 /dev/net/tun',
    );
  }
}

/** Flags of `unshare` that work here, tried out. */
function findFlags(keepPids: boolean): readonly string[] {
  const user = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  const base = [...user, '--mount', '--net', '--fork', '--kill-child'];
  const withPids = [...base, '--pid', '--mount-proc'];
  // Some containers mask parts of /proc, and the kernel then refuses a new one; PDEATHSIG alone has to do there.
  let failure = '';
  for (const flags of keepPids ? [base] : [withPids, base]) {
    const trial = spawnSync('unshare', [...flags, '--', 'ip', 'link', 'set', 'lo', 'up'], { encoding: 'utf8' });
    if (trial.status === 0) return flags;
    if (trial.error !== undefined) throw new SandboxError(`cannot start unshare (util-linux): ${trial.error.message}`);
    failure = trial.stderr.trim();
  }
  throw new SandboxError(remedy(failure, readSetting));
}

/** What forbids it, and the exact remedy. `setting` reads a sysctl (dots), undefined where it does not exist. */
export function remedy(failure: string, setting: (key: string) => string | undefined): string {
  const head = `this user may not create user and network namespaces (${failure}).`;
  const root = 'Or run it as root:\n  sudo npm run demo';
  const one = (why: string, key: string, value: string) =>
    `${head}\n${why}\nTo allow it until the next boot:\n  sudo sysctl -w ${key}=${value}\n${root}`;
  if (setting('kernel.apparmor_restrict_unprivileged_userns') === '1') {
    return one(
      'Ubuntu forbids it by kernel.apparmor_restrict_unprivileged_userns.',
      'kernel.apparmor_restrict_unprivileged_userns',
      '0',
    );
  }
  if (setting('kernel.unprivileged_userns_clone') === '0') {
    return one('It is forbidden by kernel.unprivileged_userns_clone.', 'kernel.unprivileged_userns_clone', '1');
  }
  if (setting('user.max_user_namespaces') === '0') {
    return one('It is forbidden by user.max_user_namespaces.', 'user.max_user_namespaces', '15000');
  }
  if (process.getuid?.() === 0) {
    return `even root may not create network namespaces here (${failure}).\nIn a container, it needs CAP_SYS_ADMIN and CAP_NET_ADMIN:\n  docker run --privileged …`;
  }
  return `${head}\nRun it as root:\n  sudo npm run demo`;
}

function readSetting(key: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${key.replaceAll('.', '/')}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

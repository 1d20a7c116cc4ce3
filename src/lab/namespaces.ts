/**
 * Network namespaces by name, the processes inside them, and the promise that neither outlives us.
 *
 * Three nets, because a process can end in three ways. Normal end and Ctrl-C: `dispose`. An uncaught error: the same from
 * the `exit` hook, synchronously. `kill -9`: children have asked the kernel for SIGKILL when their parent dies
 * (PR_SET_PDEATHSIG), and the next start removes namespaces whose owner is gone: names carry pid and start time.
 */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

const NETNS_DIR = '/run/netns';
const TERM_GRACE_MS = 2000;

/** A set of namespaces that live and die together. */
export class NamespaceSet {
  readonly prefix: string;
  readonly #names = new Set<string>();
  readonly #children = new Set<ChildProcess>();
  readonly #onExit = () => this.#destroy();
  #disposed = false;

  /** `prefix` begins every name, for instance `mptun-demo-`. Removes what crashed owners with that prefix left. */
  constructor(prefix: string) {
    removeLeftovers(prefix);
    this.prefix = `${prefix}${process.pid}.${startTicks(process.pid)}.${nextSet++}-`;
    process.on('exit', this.#onExit);
  }

  /** Full name of namespace `ns`, as `ip netns` knows it. */
  fullName(ns: string): string {
    return this.prefix + ns;
  }

  add(ns: string): void {
    const name = this.fullName(ns);
    execFileSync('ip', ['netns', 'add', name], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#names.add(name);
    this.ip(ns, ['link set lo up']);
  }

  /** Runs `ip` commands (without the word `ip`) inside `ns`, stopping at the first that fails. `@name` is a sibling's full name. */
  ip(ns: string, commands: readonly string[]): void {
    const input = commands.map((line) => line.replace(/@(\w+)/g, (_, sibling) => this.fullName(sibling))).join('\n');
    const done = spawnSync('ip', ['-n', this.fullName(ns), '-batch', '-'], { input: `${input}\n`, encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`ip in ${ns}: ${done.stderr.trim() || done.error?.message}\n${input}`);
  }

  /** Writes `net.*` sysctls of `ns`; keys with dots. */
  sysctl(ns: string, values: Readonly<Record<string, string | number>>): void {
    const script = Object.entries(values).map(([key, v]) => `echo '${v}' > /proc/sys/${key.replaceAll('.', '/')}`);
    this.execSync(ns, ['sh', '-ec', script.join('\n')]);
  }

  /** Starts `argv` inside `ns`. It gets SIGKILL when this process dies, and is ended by `dispose`. */
  spawn(ns: string, argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    if (this.#disposed) throw new Error('namespaces are gone');
    const child = spawn(
      'ip',
      ['netns', 'exec', this.fullName(ns), 'setpriv', '--pdeathsig', 'KILL', '--', ...argv],
      options,
    );
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    child.once('error', () => this.#children.delete(child));
    return child;
  }

  /** Runs `argv` inside `ns` to its end; its stdout. Throws with its stderr when it fails. */
  execSync(ns: string, argv: readonly string[]): string {
    const done = spawnSync('ip', ['netns', 'exec', this.fullName(ns), ...argv], { encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`${argv.join(' ')} in ${ns}: ${done.stderr?.trim() || done.error?.message}`);
    return done.stdout;
  }

  /** Like `execSync`, without blocking: traffic and timers of this process go on meanwhile. */
  async exec(
    ns: string,
    argv: readonly string[],
    options: { input?: string; timeoutMs?: number } = {},
  ): Promise<ExecResult> {
    const child = this.spawn(ns, argv, { stdio: 'pipe' });
    const timer =
      options.timeoutMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), options.timeoutMs);
    const out: string[] = [];
    const err: string[] = [];
    child.stdout!.setEncoding('utf8').on('data', (text: string) => out.push(text));
    child.stderr!.setEncoding('utf8').on('data', (text: string) => err.push(text));
    child.stdin!.on('error', () => {}); // it may end without reading
    child.stdin!.end(options.input ?? '');
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status, signal) => resolve(status ?? (signal === null ? 1 : 128)));
    });
    clearTimeout(timer);
    return { code, stdout: out.join(''), stderr: err.join('') };
  }

  /** Ends every process started here (SIGTERM, then SIGKILL), then removes the namespaces. Idempotent. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    await Promise.all([...this.#children].map((child) => endChild(child, TERM_GRACE_MS)));
    this.#destroy();
  }

  #destroy(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    process.off('exit', this.#onExit);
    for (const child of this.#children) child.kill('SIGKILL');
    for (const name of this.#names) removeNamespace(name);
  }
}

export interface ExecResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** SIGTERM, `graceMs` to end, SIGKILL; resolves when the process is gone. */
export function endChild(child: ChildProcess, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resolve();
    const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
    child.once('exit', () => {
      clearTimeout(timer);
      resolve();
    });
    child.kill('SIGTERM');
  });
}

/** Namespaces called `prefix`PID.STARTTIME.… whose owner no longer runs are emptied and removed; their names. */
export function removeLeftovers(prefix: string): string[] {
  const removed: string[] = [];
  for (const name of listNamespaces()) {
    const owner = name.startsWith(prefix) ? /^(\d+)\.(\d+)\.\d+-/.exec(name.slice(prefix.length)) : null;
    if (owner === null || startTicks(Number(owner[1])) === owner[2]) continue;
    removeNamespace(name);
    removed.push(name);
  }
  return removed;
}

export function listNamespaces(): string[] {
  try {
    return readdirSync(NETNS_DIR);
  } catch {
    return []; // nothing has made a namespace since boot
  }
}

function removeNamespace(name: string): void {
  const pids = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' });
  for (const pid of (pids.stdout ?? '').split('\n').filter((line) => line !== '')) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // it ended meanwhile
    }
  }
  spawnSync('ip', ['netns', 'delete', name], { stdio: 'ignore' });
}

/** Start time of process `pid` in clock ticks since boot (proc(5), stat field 22): tells a recycled pid; null: no such process. */
function startTicks(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid === process.pid ? 'self' : pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!;
  } catch {
    return null;
  }
}

let nextSet = 0;

/** Network namespaces for tests: made by `ip netns`, removed on every way out of the test file. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { threadId } from 'node:worker_threads';
import { SYSTEM_PATH } from '../../src/native/tool.js';

let serial = 0;

/** Under npm, PATH begins with node_modules/.bin, and a package there has a command called nft. */
const env = { ...process.env, PATH: `${SYSTEM_PATH}:${dirname(process.execPath)}` };

/** Runs a command, returns its output; throws with stderr in the message. */
export function run(command: string, ...args: string[]): string {
  try {
    return execFileSync(command, args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new Error(`${command} ${args.join(' ')}: ${stderr?.trim() || (error as Error).message}`);
  }
}

/** One namespace. `ip`/`run` work inside it; `close` removes it and ends what was spawned in it. */
export class TestNamespace {
  readonly name: string;
  readonly #children = new Set<ChildProcess>();
  #isClosed = false;

  constructor(label: string) {
    // Test files are threads of one process, each with its own `serial`.
    this.name = `mtn-${process.pid}-${threadId}-${serial++}-${label}`;
    run('ip', 'netns', 'add', this.name);
    this.ip('link', 'set', 'lo', 'up');
    // No duplicate address detection: addresses work at once.
    this.run('sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.all.accept_dad=0');
    process.once('exit', () => this.close());
  }

  ip(...args: string[]): string {
    return run('ip', '-n', this.name, ...args);
  }

  run(...args: string[]): string {
    return run('ip', 'netns', 'exec', this.name, ...args);
  }

  /** A process inside; killed by `close`. stdin, stdout and stderr are pipes. */
  spawn(...args: string[]): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.name, ...args], {
      env,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /** A veth pair to `peer`. */
  veth(name: string, peer: TestNamespace, peerName: string): void {
    this.ip('link', 'add', name, 'type', 'veth', 'peer', 'name', peerName, 'netns', peer.name);
    this.ip('link', 'set', name, 'up');
    peer.ip('link', 'set', peerName, 'up');
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const child of this.#children) child.kill('SIGKILL');
    try {
      // What those have started themselves lives on, and with it the pipes that we wait for.
      for (const pid of run('ip', 'netns', 'pids', this.name).split('\n').filter(Boolean)) end(Number(pid));
      run('ip', 'netns', 'del', this.name);
    } catch {
      // Removed by the test itself.
    }
  }
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

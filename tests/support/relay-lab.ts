/**
 * Three hosts for the relay: clients on two links, `mptun run` as server, and the destinations behind it.
 *
 *   client  a1 10.1.0.1 ── b1 10.1.0.2  server  c1 10.9.0.1 ── d1 10.9.0.2  target
 *           a2 10.2.0.1 ── b2 10.2.0.2          fd09::1        fd09::2
 */
import type { ChildProcess } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { certificateFor, generateKey, PIN_PREFIX, parseKey, pinOf } from '../../src/config/keys.js';
import { ControlClient } from '../../src/control/client.js';
import type { StatusDocument } from '../../src/control/protocol.js';
import { TestNamespace } from './netns.js';
import type { Settings } from './relay-user.js';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const USER = fileURLToPath(new URL('./relay-user.js', import.meta.url));
const TARGET = fileURLToPath(new URL('./relay-target.js', import.meta.url));
export const RELAY_PORT = 8443;

export interface KeyFiles {
  readonly keyFile: string;
  /** A certificate around it, as curl wants it. */
  readonly certificateFile: string;
  readonly pin: string;
}

export class RelayLab {
  readonly client: TestNamespace;
  readonly server: TestNamespace;
  readonly target: TestNamespace;
  /** What relay-target.ts has said so far. */
  targetSays = '';
  readonly dir = mkdtempSync(join(tmpdir(), 'mptun-relay-'));

  constructor(label: string) {
    this.client = new TestNamespace(`${label}-c`);
    this.server = new TestNamespace(`${label}-s`);
    this.target = new TestNamespace(`${label}-t`);
    for (const i of [1, 2]) {
      this.client.veth(`a${i}`, this.server, `b${i}`);
      this.client.ip('addr', 'add', `10.${i}.0.1/24`, 'dev', `a${i}`);
      this.server.ip('addr', 'add', `10.${i}.0.2/24`, 'dev', `b${i}`);
    }
    this.server.veth('c1', this.target, 'd1');
    for (const [ns, dev, last] of [
      [this.server, 'c1', 1],
      [this.target, 'd1', 2],
    ] as const) {
      ns.ip('addr', 'add', `10.9.0.${last}/24`, 'dev', dev);
      ns.ip('addr', 'add', `fd09::${last}/64`, 'dev', dev);
    }
    this.client.ip('mptcp', 'limits', 'set', 'subflows', '4', 'add_addr_accepted', '4');
    this.client.ip('mptcp', 'endpoint', 'add', '10.2.0.1', 'dev', 'a2', 'subflow', 'fullmesh');
  }

  close(): void {
    for (const ns of [this.client, this.server, this.target]) ns.close();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async newKey(who: string): Promise<KeyFiles> {
    const keyFile = join(this.dir, `${who}.key`);
    const certificateFile = join(this.dir, `${who}.crt`);
    const text = generateKey();
    const key = parseKey(text, keyFile);
    writeFileSync(keyFile, text);
    chmodSync(keyFile, 0o600);
    writeFileSync(certificateFile, await certificateFor(key));
    return { keyFile, certificateFile, pin: pinOf(createPublicKey(key)) };
  }

  /** Starts `mptun run` in the server's namespace; resolves when it listens. */
  async startServer(
    key: KeyFiles,
    client: KeyFiles,
    ofClient: object = {},
    ofServer: object = {},
  ): Promise<ChildProcess> {
    const file = join(this.dir, 'server.yaml');
    const config = {
      mode: 'server',
      name: 'relay',
      key_file: key.keyFile,
      state_dir: join(this.dir, 'state'),
      control: { socket: join(this.dir, 'control.sock') },
      listen: { port: RELAY_PORT },
      clients: [{ name: 'laptop', public_key: PIN_PREFIX + client.pin, ...ofClient }],
      egress: { masquerade: false, allow: ['10.9.0.0/24', 'fd09::/64'] },
      log: { format: 'json' },
      ...ofServer,
    };
    writeFileSync(file, stringify(config));
    const daemon = this.server.spawn('node', CLI, 'run', file);
    let log = '';
    daemon.stdout!.on('data', (d) => (log += d));
    daemon.stderr!.on('data', (d) => (log += d));
    const control = new ControlClient(join(this.dir, 'control.sock'));
    for (let i = 0; i < 400 && daemon.exitCode === null; i++) {
      const status = await control.get<StatusDocument>('/v1/status').catch(() => null); // not there yet
      if (status?.state === 'up') return daemon;
      await delay(50);
    }
    throw new Error(`the server did not start:\n${log}`);
  }

  /** The server's metrics by name and labels. */
  async metrics(): Promise<Map<string, number>> {
    const text = await new Promise<string>((resolve, reject) => {
      get({ socketPath: join(this.dir, 'control.sock'), path: '/metrics' }, (response) => {
        let all = '';
        response.on('data', (d) => (all += d)).on('end', () => resolve(all));
      }).on('error', reject);
    });
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]));
  }

  /** The destinations (relay-target.ts); resolves when they listen. */
  async startTarget(): Promise<void> {
    const child = this.target.spawn('node', TARGET);
    child.stdout!.on('data', (d) => (this.targetSays += d));
    await new Promise((resolve) => child.stdout!.once('data', resolve));
  }
}

/** relay-user.ts in the client's namespace. */
export class RelayUser {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;
  private stderr = '';

  constructor(lab: RelayLab, settings: Omit<Settings, 'relay' | 'port' | 'links'> & Partial<Settings>) {
    const links = [1, 2].map((i) => ({ name: `a${i}`, address: `10.${i}.0.1`, remote: `10.${i}.0.2` }));
    const all = { relay: '10.1.0.2', port: RELAY_PORT, links, ...settings };
    this.child = lab.client.spawn('node', USER, JSON.stringify(all));
    this.child.stderr!.on('data', (d) => (this.stderr += d));
    this.lines = createInterface(this.child.stdout!)[Symbol.asyncIterator]();
  }

  /** One order, its answer. */
  async do(...order: (string | number)[]): Promise<Record<string, unknown>> {
    if (order.length > 0) this.child.stdin!.write(`${order.join(' ')}\n`);
    const { value, done } = await this.lines.next();
    if (done) throw new Error(`the user has ended: ${this.stderr}`);
    return JSON.parse(value) as Record<string, unknown>;
  }

  close(): void {
    this.child.stdin!.end();
  }
}

/** Runs to the end; its output and exit code. */
export function finished(child: ChildProcess): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    let stdout = '';
    let stderr = '';
    child.stdout!.on('data', (d) => (stdout += d));
    child.stderr!.on('data', (d) => (stderr += d));
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

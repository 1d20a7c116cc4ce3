/** A real tunnel in the lab: `mptun run` at the client and at the server, as separate processes on YAML configs. */
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { chmodSync, createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { generateKey, PIN_PREFIX, parseKey, pinOf } from '../config/keys.js';
import type { StatusDocument } from '../control/protocol.js';
import { NODE_OPTIONS } from '../daemon/v8.js';
import { monotonicMs } from './arrivals.js';
import { endChild } from './namespaces.js';
import { isInSandbox } from './sandbox.js';
import { INNER_PREFIXES, labScript, SERVER } from './topology.js';

export interface TunnelOptions {
  /** Confine the tunnel to this link: the others get the role `never`. */
  readonly only?: string;
  /** Roles by link name; default `always`. */
  readonly roles?: Readonly<Record<string, 'always' | 'overflow' | 'backup' | 'never'>>;
  /** The `traffic:` section of both configs. */
  readonly traffic?: Readonly<Record<string, unknown>>;
  /** Merged into the client's and the server's config, key by key. */
  readonly client?: Readonly<Record<string, unknown>>;
  readonly server?: Readonly<Record<string, unknown>>;
  /** Further environment variables of the client. */
  readonly clientEnv?: Readonly<Record<string, string>>;
  /** Default 15 s. */
  readonly startTimeoutMs?: number;
}

/** Where a tunnel is started: the lab, or any two hosts with the server at `SERVER.v4`. */
export interface TunnelSite {
  readonly links: readonly { readonly name: string }[];
  spawn(node: 'client' | 'server', argv: readonly string[], options?: SpawnOptions): ChildProcess;
}

export interface Tunnel {
  readonly client: TunnelEnd;
  readonly server: TunnelEnd;
  dispose(): Promise<void>;
}

export interface TunnelEnd {
  readonly process: ChildProcess;
  readonly configFile: string;
  readonly logFile: string;
  /** Path of its control socket. */
  readonly socket: string;
  status(): Promise<StatusDocument>;
}

/** The tunnel did not come up; the message has the end of both logs. */
export class TunnelError extends Error {}

/** Starts both ends and waits until every path that may be used is. Throws TunnelError. */
export async function startTunnel(lab: TunnelSite, options: TunnelOptions = {}): Promise<Tunnel> {
  // In a sandbox /run is private, so that not even `kill -9` leaves the keys behind.
  const dir = mkdtempSync(join(isInSandbox() ? '/run' : tmpdir(), 'mptun-lab-'));
  const removeDir = () => rmSync(dir, { recursive: true, force: true });
  process.on('exit', removeDir);
  const keys = { client: newKey(dir, 'client'), server: newKey(dir, 'server') };
  const roleOf = (name: string) =>
    options.roles?.[name] ?? (options.only !== undefined && options.only !== name ? 'never' : 'always');
  const [v4, v6] = INNER_PREFIXES;
  const server = startEnd(lab, 'server', dir, {
    mode: 'server',
    name: 'lab-server',
    key_file: keys.server.file,
    listen: { port: SERVER_PORT },
    clients: [{ name: 'laptop', public_key: keys.client.pin }],
    pool: { ipv4: v4, ipv6: v6 },
    // The lab's internet routes the inner prefixes to the server, so nothing has to be translated.
    egress: { masquerade: false },
    ...(options.traffic !== undefined && { traffic: options.traffic }),
    ...options.server,
  });
  const timeoutMs = options.startTimeoutMs ?? 15_000;
  const ends: TunnelEnd[] = [server];
  const dispose = async () => {
    await Promise.all(ends.map((end) => endChild(end.process, 3000)));
    process.off('exit', removeDir);
    removeDir();
  };
  try {
    await waitUntil(server, 'mptun run (server)', timeoutMs, (status) =>
      status.state === 'up' ? null : stateText(status),
    );
    const clientConfig = {
      mode: 'client',
      name: 'lab-client',
      key_file: keys.client.file,
      server: { host: SERVER.v4, port: SERVER_PORT, public_key: keys.server.pin },
      paths: lab.links.map((link) => ({ match: { name: link.name }, role: roleOf(link.name) })),
      ...(options.traffic !== undefined && { traffic: options.traffic }),
      ...options.client,
    };
    const client = startEnd(lab, 'client', dir, clientConfig, options.clientEnv);
    ends.push(client);
    const wanted = lab.links.map((link) => link.name).filter((name) => roleOf(name) !== 'never');
    await waitUntil(client, 'mptun run (client)', timeoutMs, (status) => whyNotReady(status, wanted));
    return { client, server, dispose };
  } catch (error) {
    const logs = ends.map((end) => `--- ${end.logFile}\n${tail(end.logFile)}`);
    await dispose();
    throw new TunnelError(`${(error as Error).message}\n${logs.join('\n')}`);
  }
}

const SERVER_PORT = 443;
const POLL_MS = 50;

/** Node's own options (--cpu-prof) go to the daemons as well. */
function startEnd(
  lab: TunnelSite,
  node: 'client' | 'server',
  dir: string,
  config: object,
  env: Readonly<Record<string, string>> = {},
): TunnelEnd {
  const home = join(dir, node);
  mkdirSync(home);
  const configFile = join(home, 'mptun.yaml');
  const socket = join(home, 'control.sock');
  const logFile = join(home, 'log');
  writeFileSync(configFile, stringify({ state_dir: join(home, 'state'), control: { socket }, ...config }));
  const process_ = lab.spawn(
    node,
    [process.execPath, ...NODE_OPTIONS, ...process.execArgv, labScript('../cli/main.js'), 'run', configFile],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } },
  );
  const log = createWriteStream(logFile);
  process_.stdout!.pipe(log, { end: false });
  process_.stderr!.pipe(log, { end: false });
  const status = () => getJson<StatusDocument>(socket, '/v1/status');
  return { process: process_, configFile, logFile, socket, status };
}

/** Polls the status of `end` until `problem` finds none. Throws what it found last, or that the process ended. */
async function waitUntil(
  end: TunnelEnd,
  who: string,
  timeoutMs: number,
  problem: (status: StatusDocument) => string | null,
): Promise<void> {
  const deadlineMs = monotonicMs() + timeoutMs;
  let last: string | null = 'it does not answer on its control socket';
  while (monotonicMs() < deadlineMs) {
    const { exitCode, signalCode } = end.process;
    if (exitCode !== null || signalCode !== null) throw new Error(`${who} ended with ${exitCode ?? signalCode}`);
    const status = await end.status().catch(() => null); // not listening yet
    if (status !== null) last = problem(status);
    if (last === null) return;
    await sleep(POLL_MS);
  }
  throw new Error(`${who} is not ready after ${timeoutMs / 1000} s: ${last}`);
}

function whyNotReady(status: StatusDocument, links: readonly string[]): string | null {
  if (status.state !== 'up') return stateText(status);
  const isReady = (name: string) =>
    status.paths.some((p) => p.name === name && (p.state === 'active' || p.state === 'warm'));
  const missing = links.filter((name) => !isReady(name));
  return missing.length === 0 ? null : `not in use: ${missing.join(', ')}`;
}

function stateText({ state, reason }: StatusDocument): string {
  return reason === null ? `state ${state}` : `state ${state} (${reason})`;
}

function getJson<T>(socketPath: string, path: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, timeout: 2000 }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode !== 200) reject(new Error(`${path}: HTTP status ${response.statusCode}`));
        else resolve(JSON.parse(Buffer.concat(parts).toString()) as T);
      });
    });
    call.on('timeout', () => call.destroy(new Error(`${path}: no answer`)));
    call.on('error', reject);
    call.end();
  });
}

function newKey(dir: string, who: string): { file: string; pin: string } {
  const file = join(dir, `${who}.key`);
  const text = generateKey();
  writeFileSync(file, text);
  chmodSync(file, 0o600);
  return { file, pin: PIN_PREFIX + pinOf(parseKey(text, file)) };
}

function tail(file: string): string {
  try {
    return readFileSync(file, 'utf8').split('\n').slice(-15).join('\n');
  } catch {
    return '(no log)';
  }
}

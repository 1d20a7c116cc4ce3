/**
 * The two ends of an interop scenario, behind one interface: the kernel's sockets (KernelParty, kernel-peer.c) and our
 * stack (OurParty, `mptun cat` with its control socket). A scenario is written once and played kernel to kernel and kernel
 * to us. Side a has 10.I.0.1 and fd0I::1 on its link aI, side b 10.I.0.2 and fd0I::2 on bI.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { CatReport } from './cat-lab.js';
import type { TestNamespace } from './netns.js';
import { pattern } from './pattern.js';
import { until } from './until.js';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
export const LINKS = [1, 2, 3] as const;
/** A wait for something that takes milliseconds on an idle machine; a busy one starts a process in ten seconds. */
const STEP_MS = 40_000;

export type Side = 'a' | 'b';

export interface PartyOptions {
  /** DSS checksums wanted. */
  readonly checksum?: boolean;
  /** C flag: no joins to the initial address. */
  readonly denyJoinInitial?: boolean;
  readonly receiveBufferBytes?: number;
  /** Further subflows allowed; the limit of joins that are taken. */
  readonly maxExtraSubflows?: number;
  /** Bytes in the SYN (TCP Fast Open without a cookie); the kernel's only. */
  readonly fastOpenBytes?: number;
}

export interface Stat {
  readonly open: boolean;
  readonly subflows: number;
  readonly received: number;
  /** Offset of the first wrong byte, -1: none. */
  readonly mismatch: number;
  /** The peer's end was read. */
  readonly eof: boolean;
}

export interface Party {
  readonly side: Side;
  listen(port: number): Promise<void>;
  connect(address: string, remote: string, port: number): Promise<void>;
  send(bytes: number): void;
  end(): void;
  /** MP_FASTCLOSE. */
  abort(): void;
  pause(): void;
  resume(): void;
  stat(): Promise<Stat>;
  /** MPTcpExt counter of this side since the connection was opened. */
  counter(name: string): Promise<number>;
  /** Joins from our `address` to the peer's address of the first subflow, or to `remote`. */
  join(address: string, remote: string, isBackup?: boolean): Promise<void>;
  announce(address: string, port?: number): Promise<void>;
  /** Joins the address that the peer announces. (The kernel does so by itself.) */
  joinAnnounced(address: string, port?: number): Promise<void>;
  withdraw(...addresses: string[]): Promise<void>;
  setBackup(address: string, isBackup: boolean): Promise<void>;
  /** Resolves when nothing of the connection is left. */
  ended(): Promise<void>;
  close(): void;
}

/** The link number of an address of the lab. */
export function linkOf(address: string): number {
  return Number(/^(?:10\.|fd0)(\d)/.exec(address)![1]);
}

/** The kernel's Multipath TCP in a namespace: a socket, and path manager endpoints. */
export class KernelParty implements Party {
  private readonly peer: KernelPeer;
  private started: KernelPeer | null = null;
  private nextId = 1;
  private before: Record<string, number> = {};
  private readonly ids = new Map<string, number>();

  constructor(
    readonly side: Side,
    private readonly ns: TestNamespace,
    private readonly program: string,
    private readonly options: PartyOptions = {},
  ) {
    const extra = String(options.maxExtraSubflows ?? 8);
    ns.run(
      'sh',
      '-c',
      `ip mptcp endpoint flush; ip mptcp limits set subflows ${extra} add_addr_accepted ${extra};
       sysctl -qw net.mptcp.checksum_enabled=${Number(options.checksum ?? false)} \
         net.mptcp.allow_join_initial_addr_port=${Number(!(options.denyJoinInitial ?? false))} \
         net.ipv4.tcp_fastopen=${options.fastOpenBytes === undefined ? 1 : 5}`,
    );
    this.peer = new KernelPeer(ns, program, ['observe']);
  }

  async listen(port: number): Promise<void> {
    this.before = await this.counters();
    this.started = new KernelPeer(this.ns, this.program, ['listen', String(port), ...this.args()]);
    await this.started.answer('ready');
  }

  async connect(address: string, remote: string, port: number): Promise<void> {
    this.before = await this.counters();
    this.started = new KernelPeer(this.ns, this.program, ['connect', address, remote, String(port), ...this.args()]);
  }

  private args(): string[] {
    const { receiveBufferBytes, fastOpenBytes } = this.options;
    return [
      `seed=${this.side === 'a' ? 1 : 2}`,
      ...(receiveBufferBytes === undefined ? [] : [`rcvbuf=${receiveBufferBytes}`]),
      ...(fastOpenBytes === undefined ? [] : [`fastopen=${fastOpenBytes}`]),
    ];
  }

  send(bytes: number): void {
    this.started!.say(`send ${bytes}`);
  }

  end(): void {
    this.started!.say('end');
  }

  abort(): void {
    this.started!.say('abort');
  }

  pause(): void {
    this.started!.say('pause');
  }

  resume(): void {
    this.started!.say('resume');
  }

  async stat(): Promise<Stat> {
    this.started!.say('stat');
    return (await this.started!.answer('stat')) as Stat;
  }

  async counter(name: string): Promise<number> {
    return ((await this.counters())[name] ?? 0) - (this.before[name] ?? 0);
  }

  /** Of the namespace since it was made. */
  async counters(): Promise<Record<string, number>> {
    this.peer.say('counters');
    return (await this.peer.answer('counters')) as Record<string, number>;
  }

  async join(address: string, _remote: string, isBackup = false): Promise<void> {
    this.endpoint(address, 'subflow', ...(isBackup ? ['backup'] : []));
  }

  async announce(address: string, port?: number): Promise<void> {
    this.endpoint(address, 'signal', ...(port === undefined ? [] : ['port', String(port)]));
  }

  async joinAnnounced(): Promise<void> {}

  private endpoint(address: string, ...flags: string[]): void {
    const id = this.nextId++;
    this.ids.set(address, id);
    const dev = `${this.side}${linkOf(address)}`;
    this.ns.ip('mptcp', 'endpoint', 'add', address, 'dev', dev, 'id', String(id), ...flags);
  }

  async withdraw(...addresses: string[]): Promise<void> {
    if (addresses.length > 1) {
      this.ns.ip('mptcp', 'endpoint', 'flush');
      return;
    }
    const id = this.ids.get(addresses[0]!);
    if (id === undefined) this.ns.ip('mptcp', 'endpoint', 'del', 'id', '0', addresses[0]!);
    else this.ns.ip('mptcp', 'endpoint', 'del', 'id', String(id));
  }

  async setBackup(address: string, isBackup: boolean): Promise<void> {
    const id = String(this.ids.get(address)!);
    this.ns.ip('mptcp', 'endpoint', 'change', 'id', id, isBackup ? 'backup' : 'nobackup');
  }

  async ended(): Promise<void> {
    await eventually(async () => !(await this.stat()).open, `${this.side}: the socket is closed`);
  }

  close(): void {
    this.started?.close();
    this.peer.close();
  }
}

/** One process of kernel-peer.c. */
class KernelPeer {
  private readonly child: ChildProcess;
  private readonly answers: Record<string, unknown>[] = [];
  private stderr = '';

  constructor(ns: TestNamespace, program: string, args: readonly string[]) {
    this.child = ns.spawn(program, ...args);
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      this.answers.push(JSON.parse(line) as Record<string, unknown>);
    });
    this.child.stderr!.on('data', (data) => (this.stderr += data));
    this.child.stdin!.on('error', () => undefined);
  }

  say(line: string): void {
    this.child.stdin!.write(`${line}\n`);
  }

  async answer(key: string): Promise<unknown> {
    await until(
      () => this.answers.length > 0 || this.child.exitCode !== null,
      `kernel-peer: ${key} ${this.stderr}`,
      STEP_MS,
    );
    const answer = this.answers.shift();
    if (answer === undefined || !(key in answer)) throw new Error(`kernel-peer: no ${key}: ${this.stderr}`);
    return answer[key];
  }

  close(): void {
    this.child.kill('SIGKILL');
  }
}

interface OurSubflow {
  readonly id: number;
  readonly local: { readonly address: string };
  readonly remote: { readonly address: string; readonly port: number };
  readonly localAddressId: number;
  readonly state: string;
  readonly isBackupLocal: boolean;
  readonly isBackupRemote: boolean;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

interface OurInfo {
  readonly connection: {
    readonly state: string;
    readonly isMptcp: boolean;
    readonly checksums: boolean;
    readonly fallbackReason: string | null;
    readonly subflows: readonly OurSubflow[];
  } | null;
  readonly peer_ended: boolean;
  readonly counters: Readonly<Record<string, number>>;
}

/** An engine event on the control socket. */
export type OurEvent = Readonly<Record<string, unknown>> & { readonly event: string };

/** Our stack in a namespace. */
export class OurParty implements Party {
  readonly side: Side = 'a';
  readonly events: OurEvent[] = [];
  /** What `--json` said at the end. */
  report: CatReport | null = null;
  stderr = '';
  private child: ChildProcess | null = null;
  private control: Socket | null = null;
  private readonly answers: Record<string, unknown>[] = [];
  private readonly announced = new Map<string, number>();
  private sent = 0;
  private received = 0;
  private mismatch = -1;

  constructor(
    private readonly ns: TestNamespace,
    private readonly socketPath: string,
    private readonly options: PartyOptions = {},
  ) {}

  async listen(port: number): Promise<void> {
    await this.start('--listen', String(port));
    await until(() => this.stderr.includes('listening'), `cat listens: ${this.stderr}`, STEP_MS);
  }

  async connect(_address: string, remote: string, port: number): Promise<void> {
    await this.start(`${remote.includes(':') ? `[${remote}]` : remote}:${port}`);
  }

  private async start(...args: string[]): Promise<void> {
    const { checksum, denyJoinInitial, receiveBufferBytes, maxExtraSubflows } = this.options;
    const child = this.ns.spawn(
      'node',
      CLI,
      'cat',
      '--json',
      '--no-join',
      '--control',
      this.socketPath,
      ...args,
      ...LINKS.flatMap((i) => ['--interface', `a${i}`]),
      ...(checksum === true ? ['--checksum'] : []),
      ...(denyJoinInitial === true ? ['--no-join-initial'] : []),
      ...(receiveBufferBytes === undefined ? [] : ['--receive-buffer', String(receiveBufferBytes)]),
      ...(maxExtraSubflows === undefined ? [] : ['--max-subflows', String(maxExtraSubflows + 1)]),
    );
    this.child = child;
    child.stderr!.on('data', (data) => (this.stderr += data));
    child.stdin!.on('error', () => undefined);
    child.stdout!.on('data', (chunk: Buffer) => this.onBytes(chunk));
    child.once('exit', () => this.control?.destroy());
    this.control = await this.openControl();
    createInterface({ input: this.control }).on('line', (line) => {
      const answer = JSON.parse(line) as Record<string, unknown>;
      if ('event' in answer) this.events.push(answer as OurEvent);
      else this.answers.push(answer);
    });
    await this.ask('events');
  }

  private async openControl(): Promise<Socket> {
    const deadline = performance.now() + STEP_MS;
    for (;;) {
      const socket = connect(this.socketPath);
      try {
        await once(socket, 'connect');
        socket.on('error', () => undefined);
        return socket;
      } catch (error) {
        if (this.child!.exitCode !== null || performance.now() > deadline) {
          throw new Error(`cat's control socket: ${(error as Error).message} ${this.stderr}`);
        }
        await delay(10);
      }
    }
  }

  private onBytes(chunk: Buffer): void {
    const expected = pattern(2, this.received, this.received + chunk.length);
    if (this.mismatch < 0 && !chunk.equals(expected)) {
      this.mismatch = this.received + chunk.findIndex((byte, i) => byte !== expected[i]);
    }
    this.received += chunk.length;
  }

  /** A command of cat's control socket; its answer. */
  async ask(command: string): Promise<Record<string, unknown>> {
    this.control!.write(`${command}\n`);
    await until(() => this.answers.length > 0 || this.control!.destroyed, `cat: ${command}`, STEP_MS);
    const answer = this.answers.shift();
    if (answer?.ok !== true) throw new Error(`cat: ${command}: ${answer?.error ?? `gone ${this.stderr}`}`);
    return answer;
  }

  async info(): Promise<OurInfo> {
    return (await this.ask('info')) as unknown as OurInfo;
  }

  send(bytes: number): void {
    this.child!.stdin!.write(pattern(1, this.sent, this.sent + bytes));
    this.sent += bytes;
  }

  end(): void {
    this.child!.stdin!.end();
  }

  abort(): void {
    void this.ask('abort').catch(() => undefined);
  }

  pause(): void {
    this.child!.stdout!.pause();
  }

  resume(): void {
    this.child!.stdout!.resume();
  }

  async stat(): Promise<Stat> {
    const { received, mismatch } = this;
    if (this.control!.destroyed) return { open: false, subflows: 0, received, mismatch, eof: true };
    const { connection, peer_ended } = await this.info();
    return {
      open: connection !== null && connection.state !== 'connecting' && connection.state !== 'closed',
      subflows: connection?.subflows.filter((s) => s.state === 'established').length ?? 0,
      received,
      mismatch,
      eof: peer_ended,
    };
  }

  async counter(name: string): Promise<number> {
    return (await this.info()).counters[`MPTcpExt${name}`] ?? 0;
  }

  async subflow(address: string): Promise<OurSubflow> {
    const found = (await this.info()).connection?.subflows.find((s) => s.local.address === address);
    if (found === undefined) throw new Error(`no subflow of ours on ${address}`);
    return found;
  }

  async join(address: string, remote: string, isBackup = false): Promise<void> {
    await eventually(async () => {
      try {
        await this.ask(`join a${linkOf(address)} ${remote}${isBackup ? ' backup' : ''}`);
        return true;
      } catch (error) {
        // Not before the peer has shown that it has our key (RFC 8684 3.2).
        if (!(error as Error).message.includes('refused')) throw error;
        return false;
      }
    }, 'cat may join');
  }

  async announce(address: string, port?: number): Promise<void> {
    this.announced.set(address, (await this.ask(`announce ${bracketed(address, port)}`)).address_id as number);
  }

  async joinAnnounced(address: string, port?: number): Promise<void> {
    await until(
      () => this.events.some((e) => e.event === 'address-announced' && endpointOf(e).address === address),
      `cat hears of ${address}`,
      STEP_MS,
    );
    await this.join(address, bracketed(address, port));
  }

  async withdraw(...addresses: string[]): Promise<void> {
    const ids = [];
    for (const address of addresses) {
      ids.push(this.announced.get(address) ?? (await this.subflow(address)).localAddressId);
    }
    await this.ask(`withdraw ${ids.join(' ')}`);
  }

  async setBackup(address: string, isBackup: boolean): Promise<void> {
    await this.ask(`priority ${(await this.subflow(address)).id} ${isBackup ? 'backup' : 'normal'}`);
  }

  /** Waits for an event, and gives it. */
  async event(type: string): Promise<OurEvent> {
    await until(() => this.events.some((e) => e.event === type), `cat's event ${type}`, STEP_MS);
    return this.events.find((e) => e.event === type)!;
  }

  async ended(): Promise<void> {
    await until(() => this.child!.exitCode !== null, `cat ends: ${this.stderr}`, STEP_MS);
    const json = /^\{.*\}$/m.exec(this.stderr)?.[0];
    this.report = json === undefined ? null : (JSON.parse(json) as CatReport);
  }

  close(): void {
    this.control?.destroy();
    this.child?.kill('SIGKILL');
  }
}

function bracketed(address: string, port?: number): string {
  if (port === undefined) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function endpointOf(event: OurEvent): { address: string; port: number } {
  return event.endpoint as { address: string; port: number };
}

/** As `until`, for conditions that must be asked for. */
export async function eventually(condition: () => Promise<boolean>, what: string, timeoutMs = STEP_MS): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`timed out: ${what}`);
    await delay(5);
  }
}

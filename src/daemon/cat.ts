/**
 * What `mptun cat` does: one connection of the library (library/host.ts), stdin into it and it to stdout, subflows on every
 * interface that was named.
 */
import type { IpAddress } from '../core/base/ip.js';
import type { ChecksumPolicy, EngineEvent, SubflowInfo } from '../core/engine/api.js';
import type { MptcpConnection } from '../library/connection.js';
import { MptcpError } from '../library/errors.js';
import { type ConnectionOptions, MptcpHost } from '../library/host.js';
import { CatControl, type CatSession, plain } from './cat-control.js';

const OBSERVE_MS = 100;

export interface CatOptions {
  readonly target: { readonly host: string; readonly port: number } | null;
  readonly listen: { readonly address: string | null; readonly port: number } | null;
  /** Empty: the one that the kernel's routes choose; listening: all that are up. */
  readonly interfaces: readonly string[];
  readonly backupInterfaces: readonly string[];
  readonly announce: readonly string[];
  readonly checksum: ChecksumPolicy;
  /** False: no joins of the peer to the address and port of the first subflow (RFC 8684 3.1, flag C). */
  readonly joinInitial: boolean;
  readonly mptcp: boolean;
  readonly congestion?: string;
  readonly scheduler?: string;
  /** Subflows that we have at most, the first included; further joins of either side are refused. */
  readonly maxSubflows?: number;
  readonly receiveBufferBytes?: number;
  /** False: no subflow but the first, unless the peer or the control socket asks for it. */
  readonly join: boolean;
  /** Path of the control socket (cat-control.ts). */
  readonly control?: string;
  /** Every SYN is answered with a cookie, as in a flood. */
  readonly synCookies?: boolean;
  readonly json: boolean;
}

/** Runs until the connection has ended; the exit code. Throws what makes a start impossible. */
export async function runCat(options: CatOptions): Promise<number> {
  const cat = new Cat(options);
  try {
    return await cat.run();
  } finally {
    await cat.close();
  }
}

class Cat implements CatSession {
  private readonly host: MptcpHost;
  private connection: MptcpConnection | null = null;
  /** Ends a wait for the connection to open. */
  private readonly interrupted = new AbortController();
  private hasRemoteEnd = false;
  /** Subflows as last seen: they are gone from the connection when the report is written. */
  private readonly seen = new Map<number, SubflowInfo>();
  private readonly observer = setInterval(() => this.observe(), OBSERVE_MS);
  private readonly control: CatControl | null;

  constructor(private readonly options: CatOptions) {
    const { interfaces, backupInterfaces, synCookies, control } = options;
    this.control = control === undefined ? null : new CatControl(control, this);
    this.host = new MptcpHost({ interfaces, backupInterfaces, ...(synCookies === true && { maxHalfOpen: 0 }) });
    this.host.on('problem', say);
    this.host.on('event', (event) => this.onEvent(event));
  }

  async run(): Promise<number> {
    const interrupt = () => {
      this.observe();
      this.interrupted.abort();
      this.connection?.abort();
    };
    process.once('SIGINT', interrupt);
    process.once('SIGTERM', interrupt);
    await this.control?.listen();
    const why = await this.exchange();
    const links = this.host.links().map(({ id, name }) => ({ id, name, host_drops: this.host.hostDrops(id) }));
    await this.host.close();
    if (this.options.json) this.report(why, links);
    if (why === 'done') return 0;
    say(why === 'refused' ? 'connection refused' : `connection closed: ${why}`);
    return why === 'refused' || why === 'timeout' || why === 'unreachable' ? 6 : 1;
  }

  async close(): Promise<void> {
    clearInterval(this.observer);
    this.control?.close();
    process.stdin.destroy();
    await this.host.close(0);
  }

  /** From the first SYN to the end; why it ended. */
  private async exchange(): Promise<string> {
    try {
      const connection = this.options.listen === null ? await this.connect() : await this.listen(this.options.listen);
      await new Promise((resolve) => connection.once('close', resolve));
      return this.interrupted.signal.aborted ? 'interrupted' : connection.closedBecause!;
    } catch (error) {
      if (this.interrupted.signal.aborted) return 'interrupted';
      const why = error instanceof MptcpError ? WHY_NOT_OPENED[error.code] : undefined;
      if (why === undefined) throw error;
      return why;
    }
  }

  private async connect(): Promise<MptcpConnection> {
    const { signal } = this.interrupted;
    const connection = await this.host.connect({ ...this.options.target!, ...this.settings(), signal });
    return this.adopt(connection);
  }

  private async listen({ address, port }: { address: string | null; port: number }): Promise<MptcpConnection> {
    const listener = await this.host.listen({ port, ...(address !== null && { host: address }), ...this.settings() });
    say(`listening on port ${port}`);
    return new Promise((resolve, reject) => {
      listener.once('connection', (connection) => {
        // One connection, as netcat; its further subflows are found by token.
        listener.close();
        resolve(this.adopt(connection));
      });
      this.interrupted.signal.addEventListener('abort', reject);
    });
  }

  private settings(): ConnectionOptions {
    const { checksum, joinInitial, join, announce, mptcp } = this.options;
    const { congestion, scheduler, maxSubflows, receiveBufferBytes } = this.options;
    return {
      multipath: mptcp,
      checksum,
      joinInitial,
      join,
      announce,
      ...(congestion !== undefined && { congestion }),
      ...(scheduler !== undefined && { scheduler }),
      ...(maxSubflows !== undefined && { maxSubflows }),
      ...(receiveBufferBytes !== undefined && { receiveBufferBytes }),
    };
  }

  private adopt(connection: MptcpConnection): MptcpConnection {
    this.connection = connection;
    connection.on('error', () => undefined); // told by `closedBecause`
    connection.once('end', () => {
      this.hasRemoteEnd = true;
      this.observe();
    });
    connection.pipe(process.stdout, { end: false });
    process.stdin.on('error', (error) => {
      say(`stdin: ${error.message}`);
      connection.abort();
    });
    process.stdin.pipe(connection);
    return connection;
  }

  private onEvent(event: EngineEvent): void {
    if (!('connectionId' in event)) return;
    this.control?.onEvent(event);
    if (event.type === 'subflow-established') {
      this.observe();
      this.markBackup(event.subflowId, event.linkId);
    } else if (event.type === 'fallback') say(`plain TCP: ${event.why}`);
  }

  // ---- Commands (cat-control.ts) -----------------------------------------------------------------------------------

  info() {
    return {
      connection: this.connection?.engineInfo() ?? null,
      peer_ended: this.hasRemoteEnd,
      counters: this.host.counters(),
    };
  }

  join(interfaceName: string, address: IpAddress, port: number | null, backup: boolean): number {
    const remotePort = port === null ? {} : { remotePort: port };
    return this.connected().openSubflow({
      interface: interfaceName,
      remoteAddress: address.text,
      ...remotePort,
      backup,
    });
  }

  closeSubflow(subflowId: number, how: 'fin' | 'reset'): void {
    this.connected().closeSubflow(subflowId, how);
  }

  setBackup(subflowId: number, backup: boolean): void {
    this.connected().setBackup(subflowId, backup);
  }

  announce(address: IpAddress, port: number | null): Promise<number> {
    return this.connected().announce(address, port ?? undefined);
  }

  withdraw(addressIds: readonly number[]): void {
    this.connected().withdraw(addressIds);
  }

  end(): void {
    process.stdin.unpipe();
    this.connected().end();
  }

  abort(how: 'rst' | 'ack'): void {
    this.connected().abort(how);
  }

  private connected(): MptcpConnection {
    if (this.connection === null) throw new Error('no connection yet');
    return this.connection;
  }

  // ---- The report --------------------------------------------------------------------------------------------------

  /** A backup link stays one for whatever the peer opens on it. */
  private markBackup(subflowId: number, linkId: number): void {
    const name = this.host.links().find((link) => link.id === linkId)?.name;
    if (name === undefined || !this.options.backupInterfaces.includes(name)) return;
    const subflow = this.connection?.subflows().find((s) => s.id === subflowId);
    if (subflow !== undefined && !subflow.isBackupLocal) this.connection!.setBackup(subflowId, true);
  }

  private observe(): void {
    for (const subflow of this.connection?.engineInfo().subflows ?? []) this.seen.set(subflow.id, subflow);
  }

  private report(why: string, links: readonly object[]): void {
    this.observe();
    const info =
      this.connection === null ? null : { ...this.connection.engineInfo(), subflows: [...this.seen.values()] };
    const counters = this.host.counters();
    process.stderr.write(
      `${JSON.stringify({ schema: 'mptun.cat/1', end: why, links, counters, connection: info }, plain)}\n`,
    );
  }
}

/** The engine's words for what ended a connection that was never open. */
const WHY_NOT_OPENED: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
  EHOSTUNREACH: 'unreachable',
  ECONNRESET: 'reset',
};

function say(message: string): void {
  process.stderr.write(`mptun cat: ${message}\n`);
}

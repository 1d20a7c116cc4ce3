/**
 * What `mptun cat` does: one connection over the driver, stdin into it and it to stdout, subflows on every interface that
 * was named. It joins as a client does: each interface with each address of the peer (the one dialled, and those that
 * it announces) to which it has a route.
 */
import { lookup } from 'node:dns/promises';
import { type IpAddress, parseIp } from '../core/base/ip.js';
import type {
  ChecksumPolicy,
  ConnectionApi,
  Endpoint,
  EngineEvent,
  LinkInfo,
  SubflowInfo,
} from '../core/engine/api.js';
import type { PortGuard } from '../core/engine/ports.js';
import { type Link, NetlinkMonitor, Rtnetlink } from '../native/index.js';
import { CatControl, type CatSession, plain } from './cat-control.js';
import { Driver } from './driver.js';

/** Stdin is read no further while this much waits to be sent, and again below half of it. */
const UNSENT_LIMIT_BYTES = 1 << 20;
/** Pairs of addresses that are joined by ourselves at most. */
const MAX_JOINS = 8;
const JOIN_RETRY_MS = 20;
const OBSERVE_MS = 100;
/** After the end of both streams, the FINs of the subflows may take this long. */
const LINGER_MS = 2_000;
const LINGER_STEP_MS = 10;

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
    cat.close();
  }
}

class Cat implements CatSession {
  private readonly rt = new Rtnetlink();
  private readonly driver: Driver;
  private readonly monitor: NetlinkMonitor;
  private readonly links = new Map<string, LinkInfo>();
  private readonly guards: PortGuard[] = [];
  private readonly remotes: Endpoint[] = [];
  /** Pairs that a subflow was opened on: "link local remote". */
  private readonly joined = new Set<string>();
  private connection: ConnectionApi | null = null;
  private isStdoutFull = false;
  private hasRemoteEnd = false;
  private closedBecause: string | null = null;
  /** Subflows as last seen: they are gone from the connection when the report is written. */
  private readonly seen = new Map<number, SubflowInfo>();
  private readonly observer = setInterval(() => this.observe(), OBSERVE_MS);
  private retry: NodeJS.Timeout | null = null;
  private finish: (why: string) => void = () => undefined;
  private readonly control: CatControl | null;

  constructor(private readonly options: CatOptions) {
    this.control = options.control === undefined ? null : new CatControl(options.control, this);
    this.driver = new Driver(`cat_${process.pid}`, options.synCookies === true ? { maxHalfOpen: 0 } : {}, {
      onEvent: (event) => this.onEvent(event),
      onFlushed: () => undefined,
      onReceived: () => {},
      onProblem: (message) => say(message),
    });
    this.monitor = new NetlinkMonitor(['link', 'address'], () => this.refreshLinks());
  }

  async run(): Promise<number> {
    const ended = new Promise<string>((resolve) => {
      this.finish = resolve;
    });
    const interrupt = () => {
      this.observe();
      this.connection?.abort(this.driver.nowUs());
      this.driver.flushSoon();
      this.finish('interrupted');
    };
    process.once('SIGINT', interrupt);
    process.once('SIGTERM', interrupt);
    await this.control?.listen();
    if (this.options.listen !== null) await this.listen(this.options.listen);
    else await this.connect(this.options.target!);
    const why = await ended;
    await this.linger();
    if (this.options.json) this.report(why);
    if (why === 'done') return 0;
    say(why === 'refused' ? 'connection refused' : `connection closed: ${why}`);
    return why === 'refused' || why === 'timeout' || why === 'unreachable' ? 6 : 1;
  }

  close(): void {
    clearInterval(this.observer);
    if (this.retry !== null) clearTimeout(this.retry);
    this.control?.close();
    this.monitor.close();
    for (const guard of this.guards) guard.release();
    this.driver.close();
    this.rt.close();
    process.stdin.destroy();
  }

  // ---- Opening -----------------------------------------------------------------------------------------------------

  private async connect(target: { host: string; port: number }): Promise<void> {
    const { options, driver } = this;
    const found = await lookup(target.host, { all: true, verbatim: true });
    const ways = found.flatMap(({ address }) => this.ways(parseIp(address)));
    const way = ways[0];
    if (way === undefined)
      throw new Error(`no route to ${target.host} on ${options.interfaces.join(', ') || 'any link'}`);
    const guard = driver.acquirePort(0);
    this.guards.push(guard);
    await driver.guarded();
    const remote = { address: way.remote, port: target.port };
    this.remotes.push(remote);
    this.joined.add(pairKey(way.link.id, way.local, remote));
    const connection = driver.engine.connect(driver.nowUs(), {
      linkId: way.link.id,
      localAddress: way.local,
      localPort: guard.port,
      remote,
      ...this.settings(),
    });
    this.adopt(connection);
  }

  /** Interfaces in the order given, backups last, each with an address that has a route to `remote`. */
  private ways(remote: IpAddress): { link: LinkInfo; local: IpAddress; remote: IpAddress }[] {
    let names = [...this.options.interfaces, ...this.options.backupInterfaces];
    if (this.options.interfaces.length === 0) {
      const index = this.rt.routeTo(remote)?.interfaceIndex;
      const chosen = this.rt.links().find((link) => link.index === index);
      names = [...(chosen === undefined ? [] : [chosen.name]), ...this.options.backupInterfaces];
    }
    return names.flatMap((name) => {
      const link = this.openLink(name);
      const local = this.sourceFor(link, remote);
      return local === null ? [] : [{ link, local, remote }];
    });
  }

  private async listen({ address, port }: { address: string | null; port: number }): Promise<void> {
    // Where it is to be reached: a join to an announced address that no interface listens on would go unanswered.
    const wanted = address === null ? null : [address, ...this.options.announce].map((text) => parseIp(text).text);
    const named = [...this.options.interfaces, ...this.options.backupInterfaces];
    for (const name of named) this.openLink(name);
    if (named.length === 0) {
      for (const { name } of this.rt.links().filter(isUsable)) {
        if (wanted === null || this.readLink(name).addresses.some((a) => wanted.includes(a.text))) this.openLink(name);
      }
    }
    if (this.links.size === 0) throw new Error(`no interface with the address ${address}`);
    this.guards.push(this.driver.acquirePort(port));
    await this.driver.guarded();
    const listener = this.driver.engine.listen({
      port,
      ...this.settings(),
      onAccept: (connection) => {
        // One connection, as netcat; its further subflows are found by token.
        listener.close();
        this.adopt(connection);
      },
    });
    say(`listening on port ${port}`);
  }

  private settings() {
    const { checksum, joinInitial, mptcp, congestion, scheduler, maxSubflows, receiveBufferBytes } = this.options;
    return {
      checksum,
      joinInitial,
      mptcp,
      ...(congestion === undefined ? {} : { congestion }),
      ...(scheduler === undefined ? {} : { scheduler }),
      ...(maxSubflows === undefined ? {} : { maxSubflows }),
      ...(receiveBufferBytes === undefined ? {} : { receiveBufferBytes }),
    };
  }

  private adopt(connection: ConnectionApi): void {
    const { driver } = this;
    this.connection = connection;
    connection.setReader({
      onBytes: (buf, offset, lengthBytes) => {
        if (this.isStdoutFull) return 0;
        const copy = Buffer.allocUnsafeSlow(lengthBytes);
        copy.set(buf.subarray(offset, offset + lengthBytes));
        this.isStdoutFull = !process.stdout.write(copy);
        return lengthBytes;
      },
      onEnd: () => {
        this.hasRemoteEnd = true;
        this.observe();
        this.finishIfRead();
      },
    });
    process.stdout.on('drain', () => {
      this.isStdoutFull = false;
      connection.resume(driver.nowUs());
      driver.flushSoon();
    });
    connection.setSendSpace(UNSENT_LIMIT_BYTES / 2, () => {
      if (process.stdin.isPaused()) process.stdin.resume();
    });
    process.stdin.on('data', (chunk: Buffer) => {
      connection.write(driver.nowUs(), chunk);
      if (connection.unsentBytes > UNSENT_LIMIT_BYTES) process.stdin.pause();
      driver.flushSoon();
    });
    process.stdin.on('end', () => this.end());
    process.stdin.on('error', (error) => {
      say(`stdin: ${error.message}`);
      connection.abort(driver.nowUs());
      driver.flushSoon();
    });
    driver.flushSoon();
  }

  // ---- Commands (cat-control.ts) -----------------------------------------------------------------------------------

  info() {
    return {
      connection: this.connection?.info() ?? null,
      peer_ended: this.hasRemoteEnd,
      counters: this.driver.engine.counters(),
    };
  }

  join(interfaceName: string, address: IpAddress, port: number | null, backup: boolean): number {
    const connection = this.connected();
    const link = this.openLink(interfaceName);
    const localAddress = this.sourceFor(link, address);
    if (localAddress === null) throw new Error(`no way to ${address.text} on ${interfaceName}`);
    const remote = { address, port: port ?? connection.remote.port };
    const subflowId = connection.join(this.driver.nowUs(), { linkId: link.id, localAddress, remote, backup });
    this.driver.flushSoon();
    if (subflowId < 0) throw new Error('refused: see the event subflow-closed');
    return subflowId;
  }

  closeSubflow(subflowId: number, how: 'fin' | 'reset'): void {
    this.subflow(subflowId);
    this.connected().closeSubflow(this.driver.nowUs(), subflowId, how);
    this.driver.flushSoon();
  }

  setBackup(subflowId: number, backup: boolean): void {
    this.subflow(subflowId);
    this.connected().setBackup(this.driver.nowUs(), subflowId, backup);
    this.connected().setLocalBackup(this.driver.nowUs(), subflowId, backup);
    this.driver.flushSoon();
  }

  async announce(address: IpAddress, port: number | null): Promise<number> {
    const connection = this.connected();
    if (port !== null) {
      this.guards.push(this.driver.acquirePort(port));
      await this.driver.guarded();
    }
    const addressId = connection.announce(this.driver.nowUs(), { address, ...(port === null ? {} : { port }) });
    this.driver.flushSoon();
    if (addressId < 0) throw new Error('no Multipath TCP here, or no address id left');
    return addressId;
  }

  withdraw(addressIds: readonly number[]): void {
    const connection = this.connected();
    connection.withdraw(this.driver.nowUs(), ...addressIds);
    for (const { id, localAddressId } of connection.info().subflows) {
      if (addressIds.includes(localAddressId)) connection.closeSubflow(this.driver.nowUs(), id, 'fin');
    }
    this.driver.flushSoon();
  }

  end(): void {
    process.stdin.pause();
    this.connected().end(this.driver.nowUs());
    this.driver.flushSoon();
  }

  abort(how: 'rst' | 'ack'): void {
    this.connected().abort(this.driver.nowUs(), how);
    this.driver.flushSoon();
  }

  private connected(): ConnectionApi {
    if (this.connection === null) throw new Error('no connection yet');
    return this.connection;
  }

  private subflow(subflowId: number): void {
    if (
      !this.connected()
        .info()
        .subflows.some((s) => s.id === subflowId)
    )
      throw new Error(`no subflow ${subflowId}`);
  }

  // ---- Running -----------------------------------------------------------------------------------------------------

  private onEvent(event: EngineEvent): void {
    const { connection, driver } = this;
    if (connection === null || !('connectionId' in event) || event.connectionId !== connection.id) return;
    this.control?.onEvent(event);
    switch (event.type) {
      case 'connection-established':
        if (event.isMptcp) {
          for (const text of this.options.announce) connection.announce(driver.nowUs(), { address: parseIp(text) });
        }
        this.joinAll();
        break;
      case 'subflow-established':
        this.observe();
        this.markBackup(event.subflowId, event.linkId);
        this.joinAll();
        break;
      case 'address-announced': {
        const { address, port } = event.endpoint;
        // Without a port it is the connection's own (RFC 8684 3.4.1).
        this.remotes.push({ address, port: port > 0 ? port : connection.remote.port });
        this.joinAll();
        break;
      }
      case 'fallback':
        say(`plain TCP: ${event.why}`);
        break;
      case 'connection-closed':
        this.closedBecause = event.why;
        this.finishIfRead();
        break;
      default:
    }
    driver.flushSoon();
  }

  /** After an orderly close the last bytes may still wait for stdout. */
  private finishIfRead(): void {
    if (this.closedBecause === null || (this.closedBecause === 'done' && !this.hasRemoteEnd)) return;
    this.finish(this.closedBecause);
  }

  /** Opens what is missing of the mesh of our links and the peer's addresses. Only the side that connected joins. */
  private joinAll(): void {
    const { connection } = this;
    if (connection === null || this.options.target === null || !this.options.join || !connection.isMptcp) return;
    for (const remote of this.remotes) {
      for (const { link, local } of this.ways(remote.address)) {
        const key = pairKey(link.id, local, remote);
        if (this.joined.has(key) || this.joined.size >= MAX_JOINS || !link.isUp) continue;
        const backup = this.options.backupInterfaces.includes(link.name);
        const id = connection.join(this.driver.nowUs(), { linkId: link.id, localAddress: local, remote, backup });
        if (id >= 0) this.joined.add(key);
        // Refused until the peer has shown that it has our key (RFC 8684 3.2), which is no event.
        else this.retry ??= setTimeout(() => this.retryJoins(), JOIN_RETRY_MS);
      }
    }
  }

  private retryJoins(): void {
    this.retry = null;
    if (this.connection?.state !== 'established') return;
    this.joinAll();
    this.driver.flushSoon();
  }

  private markBackup(subflowId: number, linkId: number): void {
    const name = [...this.links.values()].find((link) => link.id === linkId)?.name;
    if (name === undefined || !this.options.backupInterfaces.includes(name)) return;
    const subflow = this.connection?.info().subflows.find((s) => s.id === subflowId);
    if (subflow === undefined || subflow.isBackupLocal) return;
    this.connection!.setBackup(this.driver.nowUs(), subflowId, true);
    this.connection!.setLocalBackup(this.driver.nowUs(), subflowId, true);
  }

  /** Lets the subflows exchange their FINs, so that the peer sees an orderly end. */
  private async linger(): Promise<void> {
    const { connection } = this;
    for (let waited = 0; connection !== null && waited < LINGER_MS; waited += LINGER_STEP_MS) {
      if (connection.info().subflows.every((s) => s.state === 'closed' || s.state === 'time-wait')) return;
      await new Promise((resolve) => setTimeout(resolve, LINGER_STEP_MS));
    }
  }

  private observe(): void {
    for (const subflow of this.connection?.info().subflows ?? []) this.seen.set(subflow.id, subflow);
  }

  private report(why: string): void {
    const links = [...this.links.values()].map(({ id, name }) => ({ id, name, host_drops: this.driver.hostDrops(id) }));
    this.observe();
    const info = this.connection === null ? null : { ...this.connection.info(), subflows: [...this.seen.values()] };
    const counters = this.driver.engine.counters();
    process.stderr.write(
      `${JSON.stringify({ schema: 'mptun.cat/1', end: why, links, counters, connection: info }, plain)}\n`,
    );
  }

  // ---- Links -------------------------------------------------------------------------------------------------------

  /** The link called `name`, opened if it is not yet. */
  private openLink(name: string): LinkInfo {
    const known = this.links.get(name);
    if (known !== undefined) return known;
    const link = this.readLink(name);
    this.links.set(name, link);
    this.driver.addLink(link);
    return link;
  }

  private readLink(name: string): LinkInfo {
    const link = this.rt.link(name);
    if (link === null) throw new Error(`no such interface: ${name}`);
    const addresses = this.rt
      .addresses()
      .filter((a) => a.interfaceIndex === link.index && a.scope === 0 && !a.isTentative && !a.isDeprecated)
      .map((a) => a.address);
    return { id: link.index, name, mtuBytes: link.mtuBytes, addresses, isUp: link.isRunning && addresses.length > 0 };
  }

  private refreshLinks(): void {
    for (const [name, before] of this.links) {
      const isThere = this.rt.link(name) !== null;
      const now: LinkInfo = isThere ? this.readLink(name) : { ...before, isUp: false, addresses: [] };
      if (JSON.stringify(now) === JSON.stringify(before)) continue;
      this.links.set(name, now);
      this.driver.updateLink(now);
      this.driver.flushSoon();
    }
  }

  /** An address of the link that has a route to `remote`; the kernel's own choice first. */
  private sourceFor(link: LinkInfo, remote: IpAddress): IpAddress | null {
    const preferred = this.rt.nextHop(link.id, remote, null)?.source?.text;
    const own = link.addresses.filter((a) => a.family === remote.family);
    own.sort((a, b) => Number(b.text === preferred) - Number(a.text === preferred));
    return own.find((a) => this.rt.nextHop(link.id, remote, a) !== null) ?? null;
  }
}

function isUsable(link: Link): boolean {
  return link.isRunning && !link.isLoopback;
}

function pairKey(linkId: number, local: IpAddress, remote: Endpoint): string {
  return `${linkId} ${local.text} ${remote.address.text} ${remote.port}`;
}

function say(message: string): void {
  process.stderr.write(`mptun cat: ${message}\n`);
}

/**
 * A Multipath TCP connection as a Node stream, with the operations of RFC 6897 (its section 5.3: enable, add, remove,
 * subflows, connection identifier) and those that the kernel offers besides. Bytes are copied in and out, so buffers may be
 * used again at once. It is made by MptcpHost.connect, or comes from an MptcpListener.
 */
import { type IpAddress, ipEquals, parseIp } from '../core/base/ip.js';
import type { ConnectionApi, ConnectionInfo, Endpoint, EngineEvent, SubflowInfo } from '../core/engine/api.js';
import type { PortGuard } from '../core/engine/ports.js';
import type { Driver } from '../daemon/driver.js';
import { ConnectionDuplex } from '../daemon/duplex.js';
import { codeOfEnd, MptcpError } from './errors.js';
import { type MptcpInfo, mptcpInfo } from './info.js';
import type { HostLinks } from './links.js';
import type { Mesh } from './mesh.js';
import { checkedName, SCHEDULER_NAMES } from './names.js';

/** As of Node's net.Socket.setKeepAlive when no delay is said: RFC 9293 3.8.4, MUST-28. */
const KEEPALIVE_IDLE_MS = 7_200_000;

export interface Subflow extends SubflowInfo {
  /** Name of the local interface. */
  readonly interface: string;
}

export interface AddAddressOptions {
  /** Open subflows from it. Default: on the side that connected. */
  readonly join?: boolean;
  /** Tell the peer (ADD_ADDR), so that it opens some. Default: on the side that accepted. */
  readonly announce?: boolean;
  /** Its subflows carry data only while no other works. */
  readonly backup?: boolean;
  /** To announce with; default: that of the connection. */
  readonly port?: number;
}

export interface OpenSubflowOptions {
  readonly interface: string;
  /** Address of the peer; default: the one of the connection. */
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  readonly backup?: boolean;
}

/** What MptcpHost gives its connections; not for applications. */
export interface ConnectionParts {
  readonly driver: Driver;
  readonly links: HostLinks;
  readonly sendBufferBytes: number;
}

/**
 * Events besides a Duplex's: 'mptcp' (EngineEvent). 'end': the peer's end of stream. 'close': the connection is over, and
 * what was written has been acknowledged unless 'error' came before it, with an MptcpError.
 */
export class MptcpConnection extends ConnectionDuplex {
  /** Set by the host where this end connected. */
  mesh: Mesh | null = null;
  /** Why it is over, in the engine's words ('done': orderly); null while it is not. */
  closedBecause: string | null = null;
  /** The host's: the engine is done with it; the handshake is complete. */
  onOver: () => void = () => undefined;
  onEstablished: () => void = () => undefined;
  private hasEnded = false;
  private readonly guards: PortGuard[] = [];
  /** Ids of announced addresses, by their text. */
  private readonly announced = new Map<string, number>();
  private readonly links: HostLinks;
  private readonly driver: Driver;

  constructor(connection: ConnectionApi, parts: ConnectionParts) {
    super(connection, parts.driver, parts.sendBufferBytes);
    this.links = parts.links;
    this.driver = parts.driver;
    this.once('end', () => {
      this.hasEnded = true;
      this.closeIfOver();
    });
  }

  /** 'mptcp': whatever the engine says of this connection, by its `type`. All others: as Duplex. */
  override on(event: 'mptcp', listener: (event: EngineEvent) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node's own declaration
  override on(event: string | symbol, listener: (...args: any[]) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node's own declaration
  override on(event: string | symbol, listener: (...args: any[]) => void): this {
    return super.on(event, listener);
  }

  // ---- What it is ----------------------------------------------------------------------------------------------------

  /** Of this connection among all of its host: the local token (RFC 6897, TCP_MULTIPATH_CONNID), an unsigned 32-bit number. */
  get connectionId(): number {
    return this.engineInfo().localToken;
  }

  /** The number by which the engine's events name it. */
  get id(): number {
    return this.connection.id;
  }

  /** True once Multipath TCP was agreed; false again after a fallback to TCP (RFC 6897, TCP_MULTIPATH_ENABLE read back). */
  get isMultipath(): boolean {
    return this.connection.isMptcp;
  }

  /** The peer's address and port of the first subflow. */
  get remote(): Endpoint {
    return this.connection.remote;
  }

  /** Bytes written that no subflow has taken yet, and those that the peer has not acknowledged. */
  get unsentBytes(): number {
    return this.connection.unsentBytes;
  }

  get unacknowledgedBytes(): number {
    return this.connection.unackedBytes;
  }

  /** A snapshot by the names of the kernel's MPTCP_INFO. */
  info(): MptcpInfo {
    return mptcpInfo(this.engineInfo(), this.host.nowUs());
  }

  /** The same moment in the engine's own terms: states, rates, round trips, windows. */
  engineInfo(): ConnectionInfo {
    return this.connection.info();
  }

  /** The subflows (RFC 6897, TCP_MULTIPATH_SUBFLOWS): both ends, state, priority, round trip (µs), rates (bytes/s). */
  subflows(): Subflow[] {
    return this.engineInfo().subflows.map((s) => ({ ...s, interface: this.links.nameOf(s.linkId) }));
  }

  // ---- Addresses and subflows ----------------------------------------------------------------------------------------

  /**
   * Uses a further local address (RFC 6897, TCP_MULTIPATH_ADD): joins from it, announces it, or both. Resolves with its
   * address id, once the port of `port`, if any, is ours; -1 where it was not announced.
   * EADDRNOTAVAIL: no interface has it. EADDRINUSE: the port is taken. EOPNOTSUPP: plain TCP.
   */
  async addAddress(address: string, options: AddAddressOptions = {}): Promise<number> {
    this.needMptcp('addAddress');
    const local = parsed(address);
    const link = this.links.withAddress(local);
    const { mesh } = this;
    const { join = mesh !== null, announce = mesh === null, backup = false, port } = options;
    if (join && mesh !== null) {
      mesh.isEnabled = true;
      mesh.add({ interfaceName: link.name, local, isBackup: backup });
    } else if (join) this.joinTo(link.name, this.remote, backup);
    return announce ? await this.announce(local, port) : -1;
  }

  /**
   * Stops using a local address (RFC 6897, TCP_MULTIPATH_REMOVE): REMOVE_ADDR, a FIN on its subflows, and no more joins from
   * it. ENOENT: this connection does not use it.
   */
  removeAddress(address: string): void {
    this.needMptcp('removeAddress');
    const local = parsed(address);
    const addressId = this.addressId(local);
    if (addressId < 0) throw new MptcpError('ENOENT', 'removeAddress', `${address} is not in use`);
    this.mesh?.remove(local);
    this.withdraw([addressId]);
  }

  /** ADD_ADDR; the address id. As addAddress, but for an address that need not be one of this host's. */
  async announce(address: IpAddress, port?: number): Promise<number> {
    if (port !== undefined) {
      this.guards.push(this.driver.acquirePort(port));
      await this.driver.guarded();
    }
    this.needMptcp('announce');
    const where = port === undefined ? { address } : { address, port };
    const addressId = this.connection.announce(this.host.nowUs(), where);
    this.host.flushSoon();
    if (addressId < 0) throw new MptcpError('EAGAIN', 'announce', 'no address id is left');
    this.announced.set(address.text, addressId);
    return addressId;
  }

  /** REMOVE_ADDR of these ids, and the end of our subflows there. */
  withdraw(addressIds: readonly number[]): void {
    this.needMptcp('withdraw');
    this.connection.withdraw(this.host.nowUs(), ...addressIds);
    for (const [text, id] of this.announced) if (addressIds.includes(id)) this.announced.delete(text);
    for (const { id, localAddressId } of this.engineInfo().subflows) {
      if (addressIds.includes(localAddressId)) this.connection.closeSubflow(this.host.nowUs(), id, 'fin');
    }
    this.host.flushSoon();
  }

  /**
   * Joins on an interface; the subflow's id. It is in use from its 'subflow-established' event on.
   * ENETUNREACH: no route there. EAGAIN: refused for now (too many, or nothing has come from the peer yet).
   */
  openSubflow(options: OpenSubflowOptions): number {
    this.needMptcp('openSubflow');
    const { remoteAddress, remotePort, backup = false } = options;
    const address = remoteAddress === undefined ? this.remote.address : parsed(remoteAddress);
    return this.joinTo(options.interface, { address, port: remotePort ?? this.remote.port }, backup);
  }

  /** Ends a subflow: a FIN, or a RST. Its unacknowledged data goes by the others. ENOENT. */
  closeSubflow(subflowId: number, how: 'fin' | 'reset' = 'fin'): void {
    this.needSubflow('closeSubflow', subflowId);
    this.mesh?.leave(subflowId);
    this.connection.closeSubflow(this.host.nowUs(), subflowId, how);
    this.host.flushSoon();
  }

  /** Priority: a backup carries data only while no other subflow works. Ours at once, the peer's by MP_PRIO. ENOENT. */
  setBackup(subflowId: number, isBackup: boolean): void {
    this.needSubflow('setBackup', subflowId);
    this.connection.setBackup(this.host.nowUs(), subflowId, isBackup);
    this.connection.setLocalBackup(this.host.nowUs(), subflowId, isBackup);
    this.host.flushSoon();
  }

  /**
   * False: open no further subflow, refuse those of the peer, and end all but one (the fastest that works). True: open and
   * take them again. Whether a connection speaks Multipath TCP at all is decided when it is opened (`multipath` of connect
   * and listen).
   */
  setMultipath(isEnabled: boolean): void {
    this.needMptcp('setMultipath');
    this.connection.setTakesJoins(isEnabled);
    if (isEnabled) {
      this.mesh?.enable();
      return;
    }
    if (this.mesh !== null) this.mesh.isEnabled = false;
    const kept = this.engineInfo()
      .subflows.filter((s) => s.state === 'established' && !s.isStalled)
      .sort((a, b) => Number(a.isBackupLocal) - Number(b.isBackupLocal) || a.srttUs - b.srttUs)[0];
    for (const { id } of this.engineInfo().subflows) {
      if (kept !== undefined && id !== kept.id) this.closeSubflow(id);
    }
    this.host.flushSoon();
  }

  // ---- Settings ------------------------------------------------------------------------------------------------------

  /** Keepalives on every subflow that was idle for so long (RFC 9293 3.8.4); off to begin with. */
  setKeepAlive(isOn: boolean, idleMs: number = KEEPALIVE_IDLE_MS): void {
    if (isOn && !(idleMs > 0)) throw new MptcpError('EINVAL', 'setKeepAlive', `not an idle time: ${idleMs} ms`);
    this.connection.setKeepAlive(this.host.nowUs(), isOn ? Math.round(idleMs * 1000) : 0);
    this.host.flushSoon();
  }

  /** Which subflow takes what, from now on. EINVAL: not one of SCHEDULER_NAMES. */
  setScheduler(name: string): void {
    this.connection.setScheduler(checkedName('scheduler', name, SCHEDULER_NAMES));
    this.host.flushSoon();
  }

  // ---- The end -------------------------------------------------------------------------------------------------------

  /** MP_FASTCLOSE (after a fallback a RST); 'ack': the form that waits for the peer's RST (RFC 8684 3.5). */
  abort(how: 'rst' | 'ack' = 'rst'): void {
    this.connection.abort(this.host.nowUs(), how);
    this.host.flushSoon();
  }

  /** The engine's event, for listeners and for the mesh. Called by the host. */
  onEngineEvent(event: EngineEvent): void {
    if (event.type === 'connection-established') {
      this.onEstablished();
      this.emit('established');
    }
    this.mesh?.onEvent(event);
    this.emit('mptcp', event);
    if (event.type !== 'connection-closed') return;
    for (const guard of this.guards) guard.release();
    this.onOver();
  }

  override onConnectionClosed(why: string): void {
    this.closedBecause = why;
    this.closeIfOver();
  }

  /** After an orderly close the last bytes may still wait for their reader. */
  private closeIfOver(): void {
    const why = this.closedBecause;
    if (this.destroyed || why === null) return;
    if (why !== 'done') this.destroy(new MptcpError(codeOfEnd(why), 'connection', why, this.remote));
    else if (this.hasEnded) this.destroy();
  }

  // ---- Checks --------------------------------------------------------------------------------------------------------

  private joinTo(interfaceName: string, remote: Endpoint, backup: boolean): number {
    const link = this.links.open(interfaceName);
    const localAddress = this.links.sourceFor(link, remote.address);
    if (localAddress === null) throw new MptcpError('ENETUNREACH', 'openSubflow', `on ${interfaceName}`, remote);
    const subflowId = this.connection.join(this.host.nowUs(), { linkId: link.id, localAddress, remote, backup });
    this.host.flushSoon();
    if (subflowId < 0) throw new MptcpError('EAGAIN', 'openSubflow', 'refused: see the event subflow-closed', remote);
    return subflowId;
  }

  private addressId(local: IpAddress): number {
    const subflow = this.engineInfo().subflows.find((s) => ipEquals(s.local.address, local));
    return subflow?.localAddressId ?? this.announced.get(local.text) ?? -1;
  }

  private needMptcp(operation: string): void {
    if (this.connection.state === 'closed') throw new MptcpError('ENOTCONN', operation, 'the connection is over');
    if (!this.isMultipath) throw new MptcpError('EOPNOTSUPP', operation, 'the connection is plain TCP');
  }

  private needSubflow(operation: string, subflowId: number): void {
    if (!this.engineInfo().subflows.some((s) => s.id === subflowId))
      throw new MptcpError('ENOENT', operation, `no subflow ${subflowId}`);
  }
}

function parsed(address: string): IpAddress {
  try {
    return parseIp(address);
  } catch {
    throw new MptcpError('EINVAL', 'address', `not an IP address: ${address}`);
  }
}

/**
 * What both ends of a session have in common: its packet lane with one pump per connection, and the policy channel,
 * whose messages go over every connection and apply to all of them.
 */
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi, SubflowInfo } from '../core/engine/api.js';
import {
  CAPSULE_DATAGRAM,
  CAPSULE_FLOW_MODES,
  CAPSULE_POLICY,
  type CapsuleValue,
  encodeCapsule,
} from '../core/lanes/capsule.js';
import { encodeFlowModes, type FlowMode, MAX_FLOW_MODES } from '../core/lanes/flow-modes.js';
import type { AddressRule } from '../core/lanes/inner-check.js';
import { BULK, LANE_NAMES, type LaneIndex, type PacketLane, SPARSE } from '../core/lanes/packet-lane.js';
import { ALL_LANES, encodePolicy, type PolicyMessage, type PolicyPath, parsePolicy } from '../core/lanes/policy.js';
import { type ConnectionStream, LanePump } from './lane-pump.js';
import { LinkLimits } from './link-limits.js';
import type { TunWriter } from './tun-writer.js';

/** How the reason of a suspicion begins that is the peer's and not our own observation: it is not told back. */
export const PEER_SAYS = 'the peer says that';

export const LANES: readonly LaneIndex[] = [SPARSE, BULK];

/** One connection of the session, from the end of its handshakes on. */
export interface SessionConnection {
  readonly index: LaneIndex;
  readonly connection: ConnectionApi;
  readonly stream: ConnectionStream;
  readonly pump: LanePump;
}

export interface SessionParts {
  readonly side: 'client' | 'server';
  readonly lane: PacketLane;
  readonly writer: TunWriter;
  readonly now: () => Micros;
  /** Server: congestion control of ours where the client has no wish. */
  congestion?(): string;
  /** Address rule for what comes out of this session. */
  rule(): AddressRule;
  /** A control capsule other than policy. False: malformed, the connection is closed. */
  onControl(connection: SessionConnection, type: number, value: Uint8Array): boolean;
  /** A connection that was up is gone. */
  onDown(connection: SessionConnection, why: string): void;
  onPolicy(message: PolicyMessage): void;
  /** So many bytes of inner packets came out of the tunnel, and have been handed to the TUN. Once for all that came together. */
  onDelivered(bytes: number): void;
  /** Further connections between the same two, each for one flow of the relay. */
  companions(): Iterable<ConnectionApi>;
}

/** Addresses of paths that have no subflow just now: a client that roams has had many. */
const MAX_REMEMBERED = 32;

export class Session {
  readonly connections: (SessionConnection | null)[] = LANES.map(() => null);
  /** Newest policy of the peer that was applied; -1: none yet. */
  peerPolicy: PolicyMessage | null = null;
  private serial = 0;
  private ownPolicy: Uint8Array | null = null;
  private deliveredBytes = 0;
  /** What the client allows us on its links, by their names there. */
  private readonly limits = new LinkLimits<string>();
  /**
   * Paths by the client's address on them, as the lanes' subflows show it; null: several have it. The companions' subflows
   * are told apart by it, since their address ids are their own.
   */
  private pathByAddress = new Map<string, string | null>();

  constructor(private readonly parts: SessionParts) {}

  get isUp(): boolean {
    return this.connections.some((c) => c !== null);
  }

  /** Takes a connection whose handshakes are done; `rest` came behind the HTTP head. Replaces one of the same lane. */
  attach(index: LaneIndex, connection: ConnectionApi, stream: ConnectionStream, rest: Uint8Array): SessionConnection {
    this.detach(index, 'replaced by a new connection');
    let attached: SessionConnection;
    const pump = new LanePump({
      lane: this.parts.lane,
      index,
      connection,
      stream,
      now: this.parts.now,
      sink: { onCapsule: (type, value) => this.onCapsule(attached, type, value) },
      onBroken: (why) => this.detach(index, why),
    });
    attached = { index, connection, stream, pump };
    this.connections[index] = attached;
    // After the pump's own listener: what this chunk held has been written.
    stream.on('data', () => {
      if (this.deliveredBytes === 0) return;
      this.parts.onDelivered(this.deliveredBytes);
      this.deliveredBytes = 0;
    });
    stream.on('error', () => {
      // 'close' follows and says the same; without a listener the process would end.
    });
    stream.on('close', () => {
      if (this.connections[index] === attached) this.detach(index, 'the connection was closed');
    });
    if (this.ownPolicy !== null) pump.sendControl(this.ownPolicy);
    if (this.peerPolicy !== null) this.applyPolicy(this.peerPolicy, null, attached, true);
    pump.start(rest);
    return attached;
  }

  /** Closes the connection of a lane, if there is one. */
  detach(index: LaneIndex, why: string): void {
    const gone = this.connections[index];
    if (gone === null || gone === undefined) return;
    this.connections[index] = null;
    gone.pump.close();
    gone.stream.destroy();
    if (gone.connection.state !== 'closed') gone.connection.abort(this.parts.now());
    this.parts.onDown(gone, why);
  }

  close(why: string): void {
    for (const index of LANES) this.detach(index, why);
  }

  /** Lets every pump send what may go now. */
  kick(): void {
    for (const c of this.connections) c?.pump.kick();
  }

  /** Tells the peer, on every connection, the one with the quickest path first; new connections are told as well. */
  sendPolicy(wishes: Pick<PolicyMessage, 'paths' | 'modes'> & Partial<Pick<PolicyMessage, 'isFull'>>): void {
    const message: PolicyMessage = { isFull: false, ...wishes, serial: ++this.serial };
    this.ownPolicy = encodeCapsule(CAPSULE_POLICY, encodePolicy(message));
    const open = this.connections.filter((c) => c !== null);
    open.sort((a, b) => bestRttUs(a.connection) - bestRttUs(b.connection));
    for (const c of open) c.pump.sendControl(this.ownPolicy);
  }

  /** Client: wishes for the server's sending on other connections of ours, over the connection with the quickest path. */
  sendFlowModes(modes: readonly FlowMode[]): void {
    const open = this.connections.filter((c) => c !== null);
    open.sort((a, b) => bestRttUs(a.connection) - bestRttUs(b.connection));
    for (let at = 0; at < modes.length; at += MAX_FLOW_MODES) {
      const message = encodeFlowModes(modes.slice(at, at + MAX_FLOW_MODES));
      open[0]?.pump.sendControl(encodeCapsule(CAPSULE_FLOW_MODES, message));
    }
  }

  private onCapsule(from: SessionConnection, type: number, value: CapsuleValue): void {
    if (type === CAPSULE_DATAGRAM) {
      if (this.parts.writer.write(value, this.parts.rule())) this.deliveredBytes += value.lengthBytes;
      return;
    }
    if (type === CAPSULE_POLICY) {
      const message = parsePolicy(value.bytes());
      if (message === null) this.detach(from.index, 'malformed policy capsule');
      else this.onPolicy(message);
      return;
    }
    if (!this.parts.onControl(from, type, value.bytes())) this.detach(from.index, `malformed capsule type ${type}`);
  }

  private onPolicy(message: PolicyMessage): void {
    // The same picture comes over every connection, in any order: only news counts.
    if (this.peerPolicy !== null && message.serial <= this.peerPolicy.serial) return;
    const before = this.peerPolicy;
    this.peerPolicy = message;
    this.limits.keepOnly(message.paths.map((p) => p.name));
    for (const c of this.connections) if (c !== null) this.applyPolicy(message, before, c, false);
    this.nameAddresses(message);
    for (const c of this.parts.companions()) this.applyToCompanion(message, before, c, false);
    this.parts.onPolicy(message);
  }

  /** A companion, or a further subflow of one: what lasts of the peer's wishes applies to it. */
  welcome(companion: ConnectionApi): void {
    if (this.peerPolicy !== null) this.applyToCompanion(this.peerPolicy, null, companion, true);
  }

  /** What the peer calls the path of a companion's subflow, or null. */
  private pathNameOf(subflow: SubflowInfo): string | null {
    return this.pathByAddress.get(this.clientsAddress(subflow)) ?? null;
  }

  /** Our own settings have changed: what the peer has no wish about follows them. */
  reapply(): void {
    if (this.peerPolicy === null) return;
    for (const c of this.connections) if (c !== null) this.applyPolicy(this.peerPolicy, this.peerPolicy, c, false);
    for (const c of this.parts.companions()) this.applyToCompanion(this.peerPolicy, this.peerPolicy, c, false);
  }

  private clientsAddress(subflow: SubflowInfo): string {
    return (this.parts.side === 'client' ? subflow.local : subflow.remote).address.text;
  }

  private nameAddresses(message: PolicyMessage): void {
    const named = new Map<string, string | null>();
    for (const c of this.connections) {
      for (const subflow of c?.connection.info().subflows ?? []) {
        const path = message.paths.find((p) => this.isOn(p, c!.index, subflow));
        if (path === undefined) continue;
        const text = this.clientsAddress(subflow);
        const other = named.get(text);
        named.set(text, other === undefined || other === path.name ? path.name : null);
      }
    }
    for (const [text, name] of this.pathByAddress) {
      if (named.size >= MAX_REMEMBERED) break;
      if (!named.has(text) && message.paths.some((p) => p.name === name)) named.set(text, name);
    }
    this.pathByAddress = named;
  }

  /** Paths are named by the address ids of client and server, whoever speaks. */
  private isOn(path: PolicyPath, lane: LaneIndex, subflow: SubflowInfo): boolean {
    const { localAddressId: ours, remoteAddressId: theirs } = subflow;
    const [client, server] = this.parts.side === 'client' ? [ours, theirs] : [theirs, ours];
    return path.addressIds.some((id) => id.lane === lane && id.addressId === client && id.serverAddressId === server);
  }

  /**
   * The peer's wishes, applied to our sending on `c`. Only news: what was said `before` has been done, and a path that was
   * silent once may have recovered since. To a new connection only what lasts applies.
   */
  private applyPolicy(
    message: PolicyMessage,
    before: PolicyMessage | null,
    c: SessionConnection,
    isNew: boolean,
  ): void {
    const schedulerOf = (m: PolicyMessage | null) =>
      m?.modes.find((mode) => mode.lane === c.index || mode.lane === ALL_LANES)?.scheduler ?? '';
    const scheduler = schedulerOf(message);
    if (scheduler !== '' && scheduler !== schedulerOf(before)) c.connection.setScheduler(scheduler);
    const pathOf = (m: PolicyMessage, subflow: SubflowInfo) => m.paths.find((p) => this.isOn(p, c.index, subflow));
    this.applyPaths(message, before, c.connection, pathOf, isNew);
  }

  private applyToCompanion(
    message: PolicyMessage,
    before: PolicyMessage | null,
    companion: ConnectionApi,
    isNew: boolean,
  ): void {
    const pathOf = (m: PolicyMessage, subflow: SubflowInfo) => {
      const name = this.pathNameOf(subflow);
      return name === null ? undefined : m.paths.find((p) => p.name === name);
    };
    this.applyPaths(message, before, companion, pathOf, isNew);
  }

  private applyPaths(
    message: PolicyMessage,
    before: PolicyMessage | null,
    connection: ConnectionApi,
    pathOf: (message: PolicyMessage, subflow: SubflowInfo) => PolicyPath | undefined,
    isNew: boolean,
  ): void {
    for (const subflow of connection.info().subflows) {
      const path = pathOf(message, subflow);
      if (path === undefined) continue;
      if (this.parts.side === 'server') this.applyRule(connection, subflow, path);
      if (isNew || (before !== null && pathOf(before, subflow)?.state === path.state)) continue;
      // Where nothing of ours is on its way nothing can be missed, whatever the peer makes of the silence.
      if (path.state === 'gone' || (path.state === 'silent' && subflow.inFlightBytes > 0)) {
        connection.suspectSubflow(this.parts.now(), subflow.id, `${PEER_SAYS} ${path.name} is ${path.state}`);
      }
    }
  }

  /** The client decides what its links are for; in the other direction only what was observed counts. */
  private applyRule(connection: ConnectionApi, subflow: SubflowInfo, path: PolicyPath): void {
    const nowUs = this.parts.now();
    connection.limitSubflow(nowUs, subflow.id, this.limits.of(nowUs, path.name, path.rateLimitBytesPerS));
    const congestion = path.congestion === '' ? this.parts.congestion?.() : path.congestion;
    if (congestion !== undefined && congestion !== subflow.congestion)
      connection.setCongestion(nowUs, subflow.id, congestion);
    const isBackup = path.role === 'backup' || path.role === 'never' || path.state === 'going';
    if (isBackup !== subflow.isBackupLocal) connection.setLocalBackup(nowUs, subflow.id, isBackup);
  }
}

function bestRttUs(connection: ConnectionApi): number {
  let best = Number.POSITIVE_INFINITY;
  for (const s of connection.info().subflows) {
    if (!s.isStalled && s.srttUs > 0 && s.srttUs < best) best = s.srttUs;
  }
  return best;
}

export function laneName(index: LaneIndex): string {
  return LANE_NAMES[index];
}

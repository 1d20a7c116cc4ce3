/**
 * The server's side: gathers the connections of known clients (server-handshakes.ts) into sessions, assigns the client's
 * inner addresses and sends each packet from the TUN to the session whose address it is for.
 */
import type { IpAddress } from '../core/base/ip.js';
import { ipEqualsAt, ipFromBytes } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import { getU32 } from '../core/base/wire-int.js';
import type { ConnectionApi } from '../core/engine/api.js';
import { CSUM_PARTIAL, type ReceiveBatch } from '../core/engine/ports.js';
import {
  CAPSULE_ADDRESS_ASSIGN,
  CAPSULE_ADDRESS_REQUEST,
  CAPSULE_FLOW_MODES,
  CAPSULE_ROUTE_ADVERTISEMENT,
  encodeCapsule,
} from '../core/lanes/capsule.js';
import {
  type AddressEntry,
  encodeAddresses,
  encodeRoutes,
  everything,
  parseAddresses,
} from '../core/lanes/connect-ip.js';
import { parseFlowModes } from '../core/lanes/flow-modes.js';
import type { AddressRule } from '../core/lanes/inner-check.js';
import { type LaneIndex, PacketLane } from '../core/lanes/packet-lane.js';
import type { PolicyMessage } from '../core/lanes/policy.js';
import type { ConnectionDuplex } from './duplex.js';
import type { RelayServer } from './flows/relay-server.js';
import { type ClientRequest, type KnownClient, ServerHandshakes } from './server-handshakes.js';
import { Session, type SessionConnection } from './session.js';
import { exportJoinKeys, type TlsIdentity } from './tls.js';
import type { TunWriter } from './tun-writer.js';
import { answerHead } from './upgrade.js';

/** Memory for the packets of one client. */
const SESSION_MEMORY_BYTES = 8 * 1024 * 1024;
export interface ServerSessionsOptions {
  readonly identity: TlsIdentity;
  readonly clients: readonly KnownClient[];
  readonly writer: TunWriter;
  readonly mtuBytes: number;
  /** Families that clients may send to the Internet. */
  readonly families: readonly (4 | 6)[];
  readonly now: () => Micros;
  /** Congestion control of what we send, where the client has no wish. */
  congestion(): string;
  readonly hashSeed: number;
  /** Carries out CONNECT requests. */
  readonly relay: Pick<
    RelayServer,
    'carry' | 'connectionsOf' | 'countMalformed' | 'ownerOf' | 'keepOnly' | 'setModes' | 'close'
  >;
  openStream(connection: ConnectionApi): ConnectionDuplex;
  readonly events: ServerSessionEvents;
}

export interface ServerSessionEvents {
  onSessionUp(session: ClientOfServer): void;
  onSessionDown(session: ClientOfServer, why: string): void;
  onConnectionUp(session: ClientOfServer, lane: LaneIndex, connection: ConnectionApi): void;
  onConnectionDown(session: ClientOfServer, lane: LaneIndex, connection: ConnectionApi, why: string): void;
  onRefused(connection: ConnectionApi, why: string): void;
  onPeerPolicy(session: ClientOfServer, message: PolicyMessage): void;
  /** See SessionParts. */
  onDelivered(session: ClientOfServer, bytes: number): void;
}

/** One client that is, or was, connected. */
export interface ClientOfServer {
  readonly client: KnownClient;
  readonly sessionId: string;
  readonly lane: PacketLane;
  readonly session: Session;
  readonly sinceUs: Micros;
}

export class ServerSessions {
  /** Packets from the TUN for addresses that no connected client has. */
  packetsWithoutSession = 0;
  private readonly byPin = new Map<string, KnownClient>();
  private readonly byName = new Map<string, ClientOfServer>();
  /** By the last 32 bits of the inner address, then compared whole. */
  private readonly byAddress = new Map<number, ClientOfServer[]>();
  private readonly handshakes: ServerHandshakes;
  private readonly touched = new Set<ClientOfServer>();

  constructor(private readonly options: ServerSessionsOptions) {
    this.handshakes = new ServerHandshakes({
      identity: options.identity,
      relay: options.relay,
      now: options.now,
      clientOf: (pin) => this.byPin.get(pin),
      openStream: (connection) => options.openStream(connection),
      onRequest: (request) => this.join(request),
      onRefused: (connection, why) => options.events.onRefused(connection, why),
    });
    this.setClients(options.clients);
  }

  /** A connection that the engine accepted. */
  accept(connection: ConnectionApi): void {
    this.handshakes.accept(connection);
  }

  /** Replaces the client list (reload): sessions of clients that are gone, or whose key changed, end. */
  setClients(clients: readonly KnownClient[]): void {
    this.byPin.clear();
    for (const client of clients) this.byPin.set(client.pin, client);
    for (const s of [...this.byName.values()]) {
      if (this.byPin.get(s.client.pin)?.name !== s.client.name) this.end(s, 'no longer in the configuration');
    }
    this.options.relay.keepOnly(new Set(clients.map((c) => c.pin)));
  }

  get sessions(): readonly ClientOfServer[] {
    return [...this.byName.values()];
  }

  /** By the client's name. */
  sessionOf(client: string): ClientOfServer | undefined {
    return this.byName.get(client);
  }

  /** The session that a connection belongs to. */
  ofConnection(connectionId: number): ClientOfServer | null {
    for (const s of this.byName.values()) {
      if (s.session.connections.some((c) => c?.connection.id === connectionId)) return s;
    }
    return null;
  }

  /** The session whose client this connection of the relay belongs to. */
  ofCompanion(connectionId: number): { readonly session: ClientOfServer; readonly connection: ConnectionApi } | null {
    const owner = this.options.relay.ownerOf(connectionId);
    const name = owner === null ? undefined : this.byPin.get(owner.pin)?.name;
    const session = name === undefined ? undefined : this.byName.get(name);
    return session === undefined ? null : { session, connection: owner!.connection };
  }

  /** Its client's connections of the relay. */
  companionsOf(s: ClientOfServer): Iterable<ConnectionApi> {
    return this.options.relay.connectionsOf(s.client.pin);
  }

  /** Queues what the TUN delivered, each packet for the client that has its destination address. */
  onTun(nowUs: Micros, batch: ReceiveBatch): void {
    for (let i = 0; i < batch.count; i++) {
      if (batch.truncated[i] === 1) continue;
      const session = this.find(batch.slab, batch.offset[i]!, batch.length[i]!);
      if (session === null) {
        this.packetsWithoutSession++;
        continue;
      }
      session.lane.enqueue(
        nowUs,
        batch.slab,
        batch.offset[i]!,
        batch.length[i]!,
        batch.gsoSize[i]!,
        batch.checksum[i] === CSUM_PARTIAL,
      );
      this.touched.add(session);
    }
    for (const s of this.touched) s.session.kick();
    this.touched.clear();
  }

  kick(): void {
    for (const s of this.byName.values()) s.session.kick();
  }

  close(why: string): void {
    for (const s of [...this.byName.values()]) this.end(s, why);
    this.handshakes.close();
    this.options.relay.close();
  }

  private join({ client, request, connection, stream, rest }: ClientRequest): void {
    let s = this.byName.get(client.name);
    if (s !== undefined && s.sessionId !== request.sessionId) {
      // The client was started anew (or its key is used twice): the newest wins.
      this.end(s, 'replaced by a new session of the same client');
      s = undefined;
    }
    const isNew = s === undefined;
    s ??= this.open(client, request.sessionId);
    const mtuBytes = this.options.mtuBytes;
    s.lane.peerTakesSuper = request.takesSuper;
    const { takesSuper, exportsKeys } = request;
    // Agreed before the client hears of it, because it joins as soon as it does.
    if (exportsKeys) connection.useExportedKeys(this.options.now(), exportJoinKeys(stream, 'server'));
    stream.write(answerHead({ takesSuper, exportsKeys, mtuBytes }));
    const attached = s.session.attach(request.lane, connection, stream, rest);
    const routes = client.addresses
      .filter((a) => this.options.families.includes(a.family))
      .map((a) => everything(a.family))
      .sort((a, b) => a.start.family - b.start.family);
    attached.pump.sendControl(encodeCapsule(CAPSULE_ROUTE_ADVERTISEMENT, encodeRoutes(routes)));
    if (isNew) this.options.events.onSessionUp(s);
    this.options.events.onConnectionUp(s, request.lane, connection);
  }

  private open(client: KnownClient, sessionId: string): ClientOfServer {
    const { options } = this;
    const lane = new PacketLane({
      mtuBytes: options.mtuBytes,
      hashSeed: options.hashSeed,
      memoryBytes: SESSION_MEMORY_BYTES,
    });
    const rule: AddressRule = { field: 'source', addresses: client.addresses };
    const session = new Session({
      side: 'server',
      lane,
      writer: options.writer,
      now: options.now,
      congestion: () => options.congestion(),
      rule: () => rule,
      onControl: (from, type, value) => this.onControl(opened, from, type, value),
      onDown: (gone, why) => {
        options.events.onConnectionDown(opened, gone.index, gone.connection, why);
        if (!session.isUp) this.end(opened, why);
      },
      onPolicy: (message) => options.events.onPeerPolicy(opened, message),
      companions: () => options.relay.connectionsOf(client.pin),
      onDelivered: (bytes) => options.events.onDelivered(opened, bytes),
    });
    const opened: ClientOfServer = { client, sessionId, lane, session, sinceUs: options.now() };
    this.byName.set(client.name, opened);
    for (const a of client.addresses) {
      const key = addressKey(a.bytes, 0, a.bytes.length);
      this.byAddress.set(key, [...(this.byAddress.get(key) ?? []), opened]);
    }
    return opened;
  }

  private end(s: ClientOfServer, why: string): void {
    if (this.byName.get(s.client.name) !== s) return;
    this.byName.delete(s.client.name);
    for (const a of s.client.addresses) {
      const key = addressKey(a.bytes, 0, a.bytes.length);
      const left = (this.byAddress.get(key) ?? []).filter((other) => other !== s);
      if (left.length === 0) this.byAddress.delete(key);
      else this.byAddress.set(key, left);
    }
    s.session.close(why);
    this.options.events.onSessionDown(s, why);
  }

  private onControl(s: ClientOfServer, from: SessionConnection, type: number, value: Uint8Array): boolean {
    if (type === CAPSULE_ADDRESS_REQUEST) {
      const wishes = parseAddresses(value);
      // RFC 9484 §4.7.2: an empty request aborts the stream.
      if (wishes === null || wishes.length === 0) return false;
      from.pump.sendControl(encodeCapsule(CAPSULE_ADDRESS_ASSIGN, encodeAddresses(assign(s.client, wishes))));
      return true;
    }
    if (type === CAPSULE_FLOW_MODES) {
      const modes = parseFlowModes(value);
      if (modes !== null) this.options.relay.setModes(s.client.pin, modes);
      return modes !== null;
    }
    // A client may offer us addresses and routes (network-to-network); we use neither.
    return type === CAPSULE_ADDRESS_ASSIGN || type === CAPSULE_ROUTE_ADVERTISEMENT;
  }

  private find(b: Uint8Array, o: number, lengthBytes: number): ClientOfServer | null {
    const isV4 = b[o]! >>> 4 === 4;
    const at = isV4 ? o + 16 : o + 24;
    const bytes = isV4 ? 4 : 16;
    if (at + bytes > o + lengthBytes) return null;
    const candidates = this.byAddress.get(addressKey(b, at, bytes));
    if (candidates === undefined) return null;
    for (const s of candidates) {
      for (const a of s.client.addresses) if (a.bytes.length === bytes && ipEqualsAt(a, b, at)) return s;
    }
    return null;
  }
}

/** RFC 9484 §4.7.2: one answer per request; all zero where there is no (further) address of that family. */
function assign(client: KnownClient, wishes: readonly AddressEntry[]): AddressEntry[] {
  const left = [...client.addresses];
  return wishes.map(({ requestId, address: { family } }) => {
    const at = left.findIndex((a) => a.family === family);
    const address = at < 0 ? ipFromBytes(new Uint8Array(16), 0, family) : left.splice(at, 1)[0]!;
    return { requestId, address, prefixLength: family === 4 ? 32 : 128 };
  });
}

function addressKey(b: Uint8Array, o: number, bytes: number): number {
  return getU32(b, o + bytes - 4);
}

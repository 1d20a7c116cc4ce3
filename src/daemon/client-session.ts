/**
 * The client's side of a session: keeps one connection per lane to the server, each through TCP (MPTCP), TLS and the
 * upgrade, and makes new ones when they are lost. Nothing is terminal: every failure has a next attempt, with a jittered
 * back-off that a link event resets.
 */
import type { IpAddress } from '../core/base/ip.js';
import { parseIp } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi } from '../core/engine/api.js';
import {
  CAPSULE_ADDRESS_ASSIGN,
  CAPSULE_ADDRESS_REQUEST,
  CAPSULE_ROUTE_ADVERTISEMENT,
  encodeCapsule,
} from '../core/lanes/capsule.js';
import { encodeAddresses, parseAddresses, parseRoutes, type RouteEntry } from '../core/lanes/connect-ip.js';
import type { AddressRule } from '../core/lanes/inner-check.js';
import type { LaneIndex, PacketLane } from '../core/lanes/packet-lane.js';
import type { PolicyMessage } from '../core/lanes/policy.js';
import type { ConnectionDuplex } from './duplex.js';
import { HeadReader } from './http-head.js';
import { LANES, laneName, Session, type SessionConnection } from './session.js';
import {
  AuthenticationError,
  checkServerPin,
  exportJoinKeys,
  type SecureStream,
  startTlsClient,
  type TlsIdentity,
} from './tls.js';
import type { TunWriter } from './tun-writer.js';
import { clientRefusalHead, parseAnswer, requestHead, UpgradeError } from './upgrade.js';

/** From dial to the server's answer. */
const HANDSHAKE_TIMEOUT_MS = 8_000;
const RETRY_MIN_MS = 100;
/** How long telling the server why we leave may take. */
const REFUSAL_MS = 3_000;
/** A wrong key does not become right by asking often. */
const RETRY_AUTH_MS = 10_000;

export interface ClientSessionOptions {
  readonly lane: PacketLane;
  readonly writer: TunWriter;
  readonly identity: TlsIdentity;
  readonly serverHost: string;
  readonly serverPin: string;
  readonly sessionId: string;
  readonly mtuBytes: number;
  readonly retryMaxMs: number;
  readonly now: () => Micros;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Starts a connection where the path manager says; null: nowhere now, wait for `dialNow`. */
  dial(lane: LaneIndex, attempt: number): Promise<ConnectionApi | null>;
  openStream(connection: ConnectionApi): ConnectionDuplex;
  /** See SessionParts. */
  companions(): Iterable<ConnectionApi>;
  readonly events: ClientSessionEvents;
}

export interface ClientSessionEvents {
  onConnectionUp(lane: LaneIndex, connection: ConnectionApi): void;
  onConnectionDown(lane: LaneIndex, connection: ConnectionApi, why: string): void;
  /** An attempt failed; `isAuthentication`: a person has to do something. */
  onAttemptFailed(lane: LaneIndex, why: string, isAuthentication: boolean): void;
  /** Addresses assigned to us, whole list. */
  onAddresses(addresses: readonly IpAddress[], peerMtuBytes: number): void;
  onRoutes(routes: readonly RouteEntry[]): void;
  onPeerPolicy(message: PolicyMessage): void;
  /** See SessionParts. */
  onDelivered(bytes: number): void;
}

export class ClientSession {
  readonly session: Session;
  private readonly dialers: readonly LaneDialer[];
  private addresses: readonly IpAddress[] = [];
  private rule: AddressRule = { field: 'destination', addresses: [] };
  peerMtuBytes: number;

  constructor(private readonly options: ClientSessionOptions) {
    this.peerMtuBytes = options.mtuBytes;
    this.session = new Session({
      side: 'client',
      lane: options.lane,
      writer: options.writer,
      now: options.now,
      rule: () => this.rule,
      companions: () => options.companions(),
      onControl: (from, type, value) => this.onControl(from, type, value),
      onDown: (gone, why) => {
        options.events.onConnectionDown(gone.index, gone.connection, why);
        this.dialers[gone.index]!.lost();
      },
      onPolicy: (message) => options.events.onPeerPolicy(message),
      onDelivered: (bytes) => options.events.onDelivered(bytes),
    });
    this.dialers = LANES.map((lane) => new LaneDialer(lane, options, (up) => this.onUpgraded(up)));
  }

  start(): void {
    for (const dialer of this.dialers) dialer.start();
  }

  /** There is (again) a way to the server: dial at once whatever is waiting. */
  dialNow(): void {
    for (const dialer of this.dialers) dialer.retryNow();
  }

  /** Gives up the dials that are under way; `dialNow` starts new ones. */
  cancelDials(): void {
    for (const dialer of this.dialers) dialer.cancelDial();
  }

  get isDialing(): boolean {
    return this.dialers.some((d) => d.isDialing);
  }

  /** Gives up a connection that the server does not know any more; a new one is dialed. */
  forget(connection: ConnectionApi): void {
    const lane = LANES.find((index) => this.session.connections[index]?.connection === connection);
    if (lane !== undefined) this.session.detach(lane, 'the server does not know it any more');
  }

  kick(): void {
    this.session.kick();
  }

  close(why: string): void {
    for (const dialer of this.dialers) dialer.stop();
    this.session.close(why);
  }

  private onUpgraded(up: Upgraded): void {
    this.options.lane.peerTakesSuper = up.takesSuper;
    // Before anything is joined: the path manager learns of the connection only after this.
    if (up.exportsKeys) up.connection.useExportedKeys(this.options.now(), exportJoinKeys(up.stream, 'client'));
    this.peerMtuBytes = up.mtuBytes;
    this.options.writer.mtuBytes = Math.max(this.options.mtuBytes, up.mtuBytes);
    const attached = this.session.attach(up.lane, up.connection, up.stream, up.rest);
    // RFC 9484 §4.7.2: we expect addresses, so we ask; no preference (all zero), single addresses.
    const wishes = [
      { requestId: 1, address: parseIp('0.0.0.0'), prefixLength: 32 },
      { requestId: 2, address: parseIp('::'), prefixLength: 128 },
    ];
    attached.pump.sendControl(encodeCapsule(CAPSULE_ADDRESS_REQUEST, encodeAddresses(wishes)));
    this.options.events.onConnectionUp(up.lane, up.connection);
  }

  private onControl(_from: SessionConnection, type: number, value: Uint8Array): boolean {
    if (type === CAPSULE_ADDRESS_ASSIGN) {
      const entries = parseAddresses(value);
      if (entries === null) return false;
      // §4.7.2: all zero refuses a request.
      const addresses = entries.map((e) => e.address).filter((a) => a.bytes.some((byte) => byte !== 0));
      if (addresses.map((a) => a.text).join() === this.addresses.map((a) => a.text).join()) return true;
      this.addresses = addresses;
      this.rule = { field: 'destination', addresses };
      this.options.events.onAddresses(addresses, this.peerMtuBytes);
      return true;
    }
    if (type === CAPSULE_ROUTE_ADVERTISEMENT) {
      const routes = parseRoutes(value);
      if (routes === null) return false;
      this.options.events.onRoutes(routes);
      return true;
    }
    // A server that asks us for addresses gets none; there is nothing wrong with asking.
    return type === CAPSULE_ADDRESS_REQUEST;
  }
}

interface Upgraded {
  readonly lane: LaneIndex;
  readonly connection: ConnectionApi;
  readonly stream: SecureStream;
  readonly rest: Uint8Array;
  readonly takesSuper: boolean;
  readonly exportsKeys: boolean;
  readonly mtuBytes: number;
}

/** Brings one lane's connection up, again and again. */
class LaneDialer {
  private attempts = 0;
  /** Number of the newest attempt: an answer to an earlier one comes too late. */
  private newest = 0;
  /** `retryNow` was called since the attempt began. */
  private isNews = false;
  private state: 'idle' | 'dialing' | 'up' | 'pausing' | 'waiting-for-link' | 'stopped' = 'idle';
  private timer: NodeJS.Timeout | null = null;
  /** Of the attempt that is under way. */
  private cancel: (() => void) | null = null;

  constructor(
    private readonly lane: LaneIndex,
    private readonly options: ClientSessionOptions,
    private readonly onUpgraded: (up: Upgraded) => void,
  ) {}

  start(): void {
    this.attempt();
  }

  /** The connection that was up is gone. */
  lost(): void {
    if (this.state !== 'up') return;
    this.attempts = 0;
    this.pause(RETRY_MIN_MS * this.options.random());
  }

  retryNow(): void {
    // While `dial` is still looking for a way, what it finds may be out of date.
    this.isNews = true;
    if (this.state === 'idle' || this.state === 'waiting-for-link' || this.state === 'pausing') {
      this.attempts = 0;
      this.attempt();
    }
  }

  get isDialing(): boolean {
    return this.state === 'dialing';
  }

  cancelDial(): void {
    if (this.state !== 'dialing') return;
    this.cancel?.();
    this.state = 'waiting-for-link';
  }

  stop(): void {
    this.state = 'stopped';
    this.clearTimer();
    this.cancel?.();
    this.cancel = null;
  }

  private attempt(): void {
    this.clearTimer();
    this.state = 'dialing';
    this.isNews = false;
    const attempt = ++this.newest;
    this.options.dial(this.lane, this.attempts++).then(
      (connection) => {
        if (this.state !== 'dialing' || attempt !== this.newest) connection?.abort(this.options.now());
        else if (connection !== null) this.handshake(connection);
        else if (this.isNews) this.attempt();
        else this.state = 'waiting-for-link';
      },
      (error: Error) => this.failed(error),
    );
  }

  private handshake(connection: ConnectionApi): void {
    const { options, lane } = this;
    const stream = options.openStream(connection);
    startTlsClient(stream, options.identity);
    const reader = new HeadReader();
    const end = () => {
      stream.off('error', fail).off('close', onClose).off('secure', onSecure).off('data', onData);
      stream.on('error', ignore);
      this.clearTimer();
      this.cancel = null;
    };
    const abandon = () => {
      end();
      stream.destroy();
      if (connection.state !== 'closed') connection.abort(options.now());
    };
    const fail = (error: Error) => {
      abandon();
      this.failed(error);
    };
    const onClose = () => fail(new Error('the connection was closed during the handshake'));
    const onSecure = () => {
      try {
        checkServerPin(stream, options.serverPin);
      } catch (error) {
        refuse(error as AuthenticationError);
        return;
      }
      const { sessionId, mtuBytes } = options;
      stream.write(requestHead(options.serverHost, { sessionId, lane, takesSuper: true, exportsKeys: true, mtuBytes }));
    };
    // The server's log should say why nobody comes in, so it is told before the connection is given up.
    const refuse = (error: AuthenticationError) => {
      end();
      stream.on('data', ignore);
      stream.end(clientRefusalHead(`${error.code}; this client pins another server key`));
      setTimeout(() => {
        stream.destroy();
        if (connection.state !== 'closed') connection.abort(options.now());
      }, REFUSAL_MS).unref();
      this.failed(error);
    };
    const onData = (chunk: Buffer) => {
      try {
        if (!reader.push(chunk)) return;
        const answer = parseAnswer(reader.head!);
        end();
        this.state = 'up';
        this.onUpgraded({ lane, connection, stream, rest: reader.rest, ...answer });
      } catch (error) {
        fail(error as Error);
      }
    };
    this.cancel = abandon;
    this.timer = setTimeout(() => fail(new Error('no answer from the server in time')), HANDSHAKE_TIMEOUT_MS);
    stream.on('error', fail).on('close', onClose).on('secure', onSecure).on('data', onData);
  }

  private failed(error: Error): void {
    if (this.state === 'stopped') return;
    const isAuthentication = error instanceof AuthenticationError;
    const prefix = error instanceof UpgradeError || isAuthentication ? '' : `${laneName(this.lane)} connection: `;
    const ceiling = Math.min(this.options.retryMaxMs, RETRY_MIN_MS * 2 ** Math.min(this.attempts, 16));
    // Full jitter over the upper half: attempts of many clients spread, none is immediate.
    const pauseMs = isAuthentication ? RETRY_AUTH_MS : ceiling * (0.5 + 0.5 * this.options.random());
    this.pause(pauseMs);
    this.options.events.onAttemptFailed(this.lane, prefix + error.message, isAuthentication);
  }

  private pause(ms: number): void {
    this.clearTimer();
    this.state = 'pausing';
    this.timer = setTimeout(() => this.attempt(), ms);
  }

  private clearTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}

function ignore(): void {}

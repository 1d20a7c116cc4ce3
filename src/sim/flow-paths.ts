/**
 * The client's path manager in a simulation: the real one (core/pathman), for one connection. Carries out its orders on
 * the connection, tells it what the engine says, and owns its one deadline. What the daemon's policy channel would carry
 * between the ends goes through `tell`.
 */
import type { IpAddress } from '../core/base/ip.js';
import { type Micros, NEVER, US_PER_MS } from '../core/base/time.js';
import type { ConnectionApi, Endpoint, EngineEvent, LinkInfo } from '../core/engine/api.js';
import { PathManager } from '../core/pathman/manager.js';
import {
  DEFAULT_PATH_CONFIG,
  type LinkRole,
  type PathCommand,
  type PathEvent,
  type PathManagerConfig,
  type PathTransition,
  type PeerWish,
} from '../core/pathman/types.js';
import type { Host } from './host.js';
import type { Network } from './network.js';

/** Joining is too early until the server has confirmed MPTCP (RFC 8684 3.1, "fully established"): asked again, at longer and longer intervals. */
const JOIN_AGAIN_US = 10 * US_PER_MS;
/** A stall shorter than this is the connection's own business (as in the daemon). */
const STALL_GRACE_US = 300 * US_PER_MS;
/** How the reason of a suspicion begins that is the peer's word: it is not told back. */
export const PEER_SAYS = 'the peer says that';

export interface Way {
  readonly linkId: number;
  readonly localAddress: IpAddress;
  readonly remote: Endpoint;
}

export interface FlowPathsOptions {
  readonly config: Partial<PathManagerConfig>;
  /** Links that it may use, best first. */
  readonly links: readonly { readonly link: LinkInfo; readonly role: LinkRole }[];
  readonly remotes: readonly Endpoint[];
  random(): number;
  /** Opens the connection, with its first subflow on `way`. */
  connect(way: Way): ConnectionApi;
  /** To the server, about the subflow between these addresses. */
  tell(way: Way, wish: PeerWish): void;
  onTransition(transition: PathTransition): void;
}

interface PathSubflow {
  readonly pathId: number;
  readonly way: Way;
  /** -1 until the join was accepted by our own engine. */
  subflowId: number;
  isEstablished: boolean;
  isStalled: boolean;
  isPeersWord: boolean;
}

export class FlowPaths {
  private readonly manager: PathManager;
  private readonly subflows = new Map<number, PathSubflow>();
  private readonly remotes = new Map<number, Endpoint>();
  private readonly actor: number;
  private connection: ConnectionApi | null = null;
  /** Established once: then its end is the end. */
  private isUp = false;
  private isDraining = false;
  private isOver = false;

  constructor(
    private readonly network: Network,
    private readonly host: Host,
    private readonly options: FlowPathsOptions,
  ) {
    this.manager = new PathManager({ ...DEFAULT_PATH_CONFIG, ...options.config }, options.random);
    this.actor = network.register(this);
  }

  start(): void {
    for (const [priority, { link, role }] of this.options.links.entries())
      this.handle({ type: 'link-added', link: { ...link, role, priority } });
    this.tellRemotes();
  }

  handle(event: PathEvent): void {
    if (this.isOver) return;
    this.manager.handle(this.host.nowUs, event);
    this.drain();
  }

  /** The system of the client saw its link change. */
  onLink({ id: linkId, isUp, addresses }: LinkInfo): void {
    this.handle({ type: 'link-changed', linkId, isUp, addresses });
  }

  wake(): void {
    if (this.isOver || this.host.isSuspended) {
      this.network.deadlines.set(this.actor, NEVER);
      return;
    }
    this.manager.onTimer(this.host.nowUs);
    this.drain();
  }

  onEngineEvent(event: EngineEvent): void {
    const { connection } = this;
    if (connection === null || !('connectionId' in event) || event.connectionId !== connection.id) return;
    switch (event.type) {
      case 'connection-established': {
        const [first] = this.subflows.values();
        if (!event.isMptcp) this.end();
        if (first === undefined) return;
        this.isUp = first.isEstablished = true;
        this.handle({ type: 'join-established', pathId: first.pathId });
        this.handle({ type: 'session-ready' });
        break;
      }
      case 'connection-closed': {
        if (this.isUp) this.end();
        const [first] = this.subflows.values();
        this.subflows.clear();
        if (first !== undefined)
          this.handle({ type: 'join-failed', pathId: first.pathId, reason: event.why, isTransient: true });
        break;
      }
      case 'fallback':
        this.end();
        break;
      case 'address-announced':
        this.remotes.set(event.addressId, {
          address: event.endpoint.address,
          port: event.endpoint.port > 0 ? event.endpoint.port : connection.remote.port,
        });
        this.tellRemotes();
        break;
      case 'address-removed':
        this.remotes.delete(event.addressId);
        this.tellRemotes();
        break;
      default:
        this.onSubflowEvent(event);
    }
  }

  private onSubflowEvent(event: EngineEvent): void {
    if (!('subflowId' in event) || event.subflowId < 0) return; // < 0: our own engine refused a join
    const own = [...this.subflows.values()].find(({ subflowId }) => subflowId === event.subflowId);
    if (own === undefined) return;
    const { pathId } = own;
    switch (event.type) {
      case 'subflow-established':
        if (own.isEstablished || this.connection!.state === 'connecting') return;
        own.isEstablished = true;
        this.handle({ type: 'join-established', pathId });
        break;
      case 'subflow-closed':
        this.subflows.delete(pathId);
        if (own.isEstablished) this.handle({ type: 'subflow-closed', pathId, why: event.why });
        else this.handle({ type: 'join-failed', pathId, reason: event.why, isTransient: !event.isPermanent });
        break;
      case 'subflow-stalled':
        own.isStalled = true;
        own.isPeersWord = event.why.startsWith(PEER_SAYS);
        this.network.at(this.network.nowUs + STALL_GRACE_US, () => {
          if (own.isStalled && this.subflows.get(pathId) === own) this.handle({ type: 'subflow-stalled', pathId });
        });
        break;
      case 'subflow-recovered':
        own.isStalled = false;
        this.handle({ type: 'subflow-recovered', pathId });
        break;
      case 'subflow-silent':
        // The server misses nothing that it could find out about; and asked, a path that works answers at once.
        this.options.tell(own.way, { what: 'silent' });
        this.connection!.suspectSubflow(this.host.nowUs, own.subflowId, 'nothing is heard on it');
        break;
      case 'priority':
        this.handle({
          type: 'peer-wish',
          pathId,
          wish: { what: 'role', role: event.backup ? 'backup' : 'always' },
        });
        break;
    }
  }

  private end(): void {
    this.isOver = true;
    this.network.deadlines.set(this.actor, NEVER);
  }

  private tellRemotes(): void {
    const known = this.options.remotes;
    const announced = [...this.remotes].map(([addressId, endpoint]) => ({ ...endpoint, addressId }));
    const isNew = (e: Endpoint) => !known.some((k) => k.address.text === e.address.text);
    this.handle({ type: 'remote-addresses', remotes: [...known, ...announced.filter(isNew)] });
  }

  /** Carries out what the manager orders; orders that come from within are queued behind. */
  private drain(): void {
    if (this.isDraining) return;
    this.isDraining = true;
    for (let c = this.manager.pollCommand(); c !== undefined && !this.isOver; c = this.manager.pollCommand())
      this.carryOut(c);
    for (let t = this.manager.pollTransition(); t !== undefined; t = this.manager.pollTransition())
      this.options.onTransition(t);
    this.isDraining = false;
    this.network.deadlines.set(this.actor, this.host.toNetworkUs(this.manager.nextDeadline()));
    this.host.poke();
  }

  private carryOut(command: PathCommand): void {
    const nowUs = this.host.nowUs;
    const own = 'pathId' in command ? this.subflows.get(command.pathId) : undefined;
    switch (command.type) {
      case 'connect':
        this.connection = this.options.connect(command);
        this.add(command.pathId, command, this.connection.info().subflows[0]!.id);
        break;
      case 'join':
        this.join(this.add(command.pathId, command, -1), command.backup);
        break;
      case 'close':
        if (own === undefined) break;
        if (this.connection!.state === 'connecting') this.connection!.abort(nowUs);
        else if (own.subflowId >= 0) this.connection!.closeSubflow(nowUs, own.subflowId, command.how);
        if (command.how === 'reset') this.subflows.delete(command.pathId);
        break;
      case 'set-backup':
        if (own === undefined || own.subflowId < 0) break;
        this.connection!.setBackup(nowUs, own.subflowId, command.backup);
        this.connection!.setLocalBackup(nowUs, own.subflowId, command.backup);
        break;
      case 'link-state':
        this.connection?.onLinkState(nowUs, command.linkId, command.isUp);
        break;
      case 'suspect':
        if (own !== undefined && own.subflowId >= 0) this.connection!.suspectSubflow(nowUs, own.subflowId, command.why);
        break;
      case 'tell-peer':
        if (own === undefined || (command.wish.what === 'silent' && own.isPeersWord)) break;
        this.options.tell(own.way, command.wish);
        break;
    }
  }

  private add(pathId: number, way: Way, subflowId: number): PathSubflow {
    const own = { pathId, way, subflowId, isEstablished: false, isStalled: false, isPeersWord: false };
    this.subflows.set(pathId, own);
    return own;
  }

  private join(own: PathSubflow, backup: boolean, againUs: Micros = JOIN_AGAIN_US): void {
    const connection = this.connection!;
    if (this.isOver || this.subflows.get(own.pathId) !== own || connection.state === 'closed') return;
    const { linkId, localAddress, remote } = own.way;
    own.subflowId = connection.join(this.host.nowUs, { linkId, localAddress, remote, backup });
    if (own.subflowId < 0) this.network.at(this.network.nowUs + againUs, () => this.join(own, backup, 2 * againUs));
    this.host.poke();
  }
}

/**
 * The engine: demultiplexes packets to subflows, owns connections and links, and drains everything that wants
 * to go in `flush`. It implements EngineApi for drivers and ConnectionHost for connections; protocol rules live in
 * core/mptcp and core/tcp. Sans-I/O: see api.ts for the driver's loop.
 */
import type { CoreEnv } from '../base/env.js';
import { ipEquals, ipEqualsAt } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import { TimerQueue } from '../base/timer-queue.js';
import type { ControllerFactory } from '../congestion/controller.js';
import type { Coupling } from '../congestion/coupling.js';
import { controllers, DEFAULT_CONTROLLER } from '../congestion/index.js';
import { Connection, type ConnectionSettings } from '../mptcp/connection.js';
import type { ConnectionHost } from '../mptcp/host.js';
import { MAX_SUBFLOWS } from '../mptcp/joining.js';
import { deriveFromKey, randomKey } from '../mptcp/keys.js';
import { PlainDestinations } from '../mptcp/plain-destinations.js';
import type { MptcpSubflow } from '../mptcp/subflow.js';
import { DEFAULT_SCHEDULER, schedulers } from '../scheduler/index.js';
import type { Scheduler } from '../scheduler/scheduler.js';
import type { FlowTuple } from '../tcp/flow.js';
import { IsnGenerator } from '../tcp/isn.js';
import type { SegmentSink } from '../tcp/owner.js';
import { PathMemory } from '../tcp/path-memory.js';
import { DEFAULT_SUBFLOW_CONFIG, type SubflowConfig } from '../tcp/subflow.js';
import { IcmpErrorView, parseIcmpError } from '../wire/icmp.js';
import { PROTO_TCP } from '../wire/ip.js';
import { parseSegment, SegmentView, TCP_SYN, verifyTcpChecksum } from '../wire/segment.js';
import type { ConnectOptions, Edge, EngineApi, EngineEvent, LinkInfo, ListenOptions } from './api.js';
import { DEFAULT_ENGINE_CONFIG, type EngineConfig } from './config.js';
import { Demux } from './demux.js';
import { Link } from './link.js';
import { CSUM_UNKNOWN, HEADER_SLOT_BYTES, type ReceiveBatch } from './ports.js';
import { Strays } from './strays.js';

/** Events nobody has polled; the oldest go first. */
const MAX_EVENTS = 4096;
/** Rounds of one flush in which connections that became dirty on the way are polled again. */
const MAX_FLUSH_ROUNDS = 4;
/** While an edge refuses packets or its queue is long, try again after this. */
const RETRY_US: Micros = 500;
/** How far above the last connection's numbers the next one of the same four-tuple begins, at least. */
const ISN_STEP = 0x1_0000;

export class Engine implements EngineApi, ConnectionHost {
  readonly config: EngineConfig;
  readonly plainDestinations = new PlainDestinations();
  readonly links = new Map<number, Link>();
  private readonly demux = new Demux<MptcpSubflow>();
  readonly live = new Map<number, Connection>();
  readonly byToken = new Map<number, Connection>();
  private readonly timers = new TimerQueue<Connection>();
  /** Connections that are over, the longest first. */
  private readonly lingering = new Set<Connection>();
  private dirty = new Set<Connection>();
  private isFlushing = false;
  private readonly events: EngineEvent[] = [];
  private readonly counts = new Map<string, number>();
  private readonly isns: IsnGenerator;
  private readonly paths: PathMemory;
  /** The ISN to come must lie above this number; -1: any. */
  private isnAbove = -1;
  private readonly seg = new SegmentView();
  private readonly strays: Strays;
  private readonly icmp = new IcmpErrorView();
  /** Suspected subflows that are probed seldom: a packet from where they lead is news for them. */
  private readonly slowProbed = new Set<MptcpSubflow>();
  private nextConnectionId = 1;
  private retryAtUs: Micros = NEVER;

  /** `onWork`: a flush is due, whoever caused it; told once until it has come. */
  constructor(
    readonly env: CoreEnv,
    config: Partial<EngineConfig> = {},
    private readonly onWork: () => void = () => {},
  ) {
    this.config = { ...DEFAULT_ENGINE_CONFIG, ...config };
    this.isns = new IsnGenerator(env);
    this.paths = new PathMemory(this.config.tcp.initialRtoUs ?? DEFAULT_SUBFLOW_CONFIG.initialRtoUs);
    this.strays = new Strays(this, this.seg);
  }

  // ---- Links ---------------------------------------------------------------------------------------------------

  addLink(nowUs: Micros, link: LinkInfo): void {
    if (this.links.has(link.id)) this.updateLink(nowUs, link);
    else this.links.set(link.id, new Link(link));
  }

  updateLink(nowUs: Micros, info: LinkInfo): void {
    const link = this.links.get(info.id);
    if (link === undefined) return;
    const mtuChanged = link.info.mtuBytes !== info.mtuBytes;
    if (!sameAddresses(link.info, info)) {
      this.plainDestinations.forgetLink(info.id);
      this.paths.forgetLink(info.id);
    }
    link.info = info;
    if (!info.isUp) link.discard();
    for (const c of this.live.values()) {
      c.onLinkState(nowUs, info.id, info.isUp);
      if (mtuChanged) c.onLinkChanged(info);
    }
  }

  removeLink(nowUs: Micros, linkId: number): void {
    this.links.delete(linkId);
    this.plainDestinations.forgetLink(linkId);
    this.paths.forgetLink(linkId);
    for (const c of this.live.values()) c.onLinkState(nowUs, linkId, false);
  }

  link(linkId: number): LinkInfo | undefined {
    return this.links.get(linkId)?.info;
  }

  // ---- Opening -------------------------------------------------------------------------------------------------

  listen(options: ListenOptions): { readonly port: number; close(): void } {
    return this.strays.listen(options);
  }

  connect(nowUs: Micros, options: ConnectOptions): Connection {
    const isPlain = this.plainDestinations.has(nowUs, options.linkId, options.remote.address);
    const flow: FlowTuple = {
      linkId: options.linkId,
      family: options.remote.address.family,
      localAddress: options.localAddress,
      localPort: options.localPort,
      remoteAddress: options.remote.address,
      remotePort: options.remote.port,
    };
    const checksum = options.checksum ?? this.config.checksum;
    const c = this.newConnection({
      side: 'active',
      mptcp: (options.mptcp ?? true) && !isPlain,
      checksum: checksum === true,
      refusesChecksums: checksum === 'refuse',
      joinInitial: options.joinInitial ?? this.config.joinInitial,
      congestion: options.congestion,
      scheduler: options.scheduler,
      receiveBufferBytes: options.receiveBufferBytes ?? this.config.receiveBufferBytes,
      maxSubflows: options.maxSubflows ?? MAX_SUBFLOWS,
      flow,
      ...(options.synData !== undefined && { synData: options.synData }),
      ...(options.synOptions !== undefined && { synOptions: options.synOptions }),
    });
    if (isPlain) c.fallback.reason = 'SYNs with MPTCP to this destination went unanswered before';
    if (!c.open(nowUs, null)) {
      this.forget(c);
      throw new RangeError('the address pair is in use');
    }
    return c;
  }

  newConnection(settings: ConnectionSettings): Connection {
    const c = new Connection(this.nextConnectionId++, this, settings);
    this.live.set(c.id, c);
    return c;
  }

  connections(): readonly Connection[] {
    return [...this.live.values()];
  }

  // ---- Packets in ----------------------------------------------------------------------------------------------

  onPackets(nowUs: Micros, linkId: number, batch: ReceiveBatch): void {
    const { seg } = this;
    for (let i = 0; i < batch.count; i++) {
      if (batch.truncated[i] !== 0) {
        this.drop('truncated');
        continue;
      }
      const result = parseSegment(batch.slab, batch.offset[i]!, batch.length[i]!, batch.gsoSize[i]!, seg);
      if (this.slowProbed.size > 0) this.hear(nowUs, linkId, result === 'ok');
      if (result === 'not-tcp') {
        this.onOtherProtocol(nowUs);
        continue;
      }
      if (result !== 'ok') {
        this.drop(result);
        continue;
      }
      if (batch.checksum[i] === CSUM_UNKNOWN && !verifyTcpChecksum(batch.slab, seg)) {
        this.drop('bad-tcp-checksum');
        continue;
      }
      const sf = this.demux.find(seg);
      if (sf === undefined) this.strays.onSegment(nowUs, linkId);
      else if ((seg.flags & TCP_SYN) !== 0 && sf.tcp.acceptsNewSyn(seg)) this.reopen(nowUs, linkId, sf);
      else {
        sf.tcp.onSegment(nowUs, seg);
        this.markDirty(sf.connection);
      }
    }
  }

  /** A packet came: from the link of a silent subflow that we opened, or from the peer address of one that was opened to us. */
  private hear(nowUs: Micros, linkId: number, isSegment: boolean): void {
    const { seg } = this;
    for (const sf of this.slowProbed) {
      const { flow, side, connection } = sf;
      if (flow.linkId !== linkId) continue;
      if (side === 'active' || (isSegment && ipEqualsAt(flow.remoteAddress, seg.buf, seg.srcOff))) {
        connection.health.onNews(nowUs, sf);
      }
    }
  }

  /** A SYN ends a TIME-WAIT (RFC 9293 3.6.1, RFC 6191); our numbers of the new connection lie above those of the old. */
  private reopen(nowUs: Micros, linkId: number, old: MptcpSubflow): void {
    old.tcp.abort(nowUs, false);
    this.demux.remove(old);
    this.markDirty(old.connection);
    this.isnAbove = (old.tcp.iss + old.tcp.sndNxt) >>> 0;
    this.strays.onSegment(nowUs, linkId);
    this.isnAbove = -1;
  }

  /**
   * A path that was given up in good order is opened again, and the four-tuple is the same (one port for all subflows of a
   * connection). Where both ends have timestamps, PAWS keeps old segments out, so TIME-WAIT need not be waited for (RFC 6191 2).
   * Returns the number above which the new ones must lie; -1: nothing was in the way.
   */
  private endTimeWait(nowUs: Micros, flow: FlowTuple): number {
    const old = this.demux.ofFlow(flow);
    if (old === undefined || !old.tcp.mayBeReplaced) return -1;
    old.tcp.abort(nowUs, false);
    this.demux.remove(old);
    this.markDirty(old.connection);
    return (old.tcp.iss + old.tcp.sndNxt) >>> 0;
  }

  /** Those that have yet to hear that their FIN arrived are left alone. */
  private endOldTimeWaits(nowUs: Micros): void {
    let surplus = this.lingering.size - this.config.maxTimeWait;
    for (const c of this.lingering) {
      if (surplus-- <= 0) break;
      if (!c.subflows.every((sf) => sf.tcp.state === 'time-wait')) continue;
      this.count('TcpExtTCPTimeWaitOverflow');
      for (const sf of c.subflows) sf.tcp.abort(nowUs, false);
      this.markDirty(c);
    }
  }

  private onOtherProtocol(nowUs: Micros): void {
    const { seg, icmp } = this;
    const result = parseIcmpError(seg, icmp);
    if (result !== 'ok') {
      this.drop(result);
      return;
    }
    if (icmp.quotedProtocol !== PROTO_TCP) return;
    const { quotedSrcOff, quotedDstOff, quotedSrcPort, quotedDstPort } = icmp;
    const sf = this.demux.lookup(icmp.buf, icmp.family, quotedSrcOff, quotedDstOff, quotedSrcPort, quotedDstPort);
    if (sf === undefined) {
      this.drop('icmp-no-subflow');
      return;
    }
    sf.tcp.onIcmp(nowUs, icmp.errorClass, icmp.mtuBytes, icmp.quotedSeq, icmp.code);
    if (icmp.errorClass === 'soft' && sf.tcp.state === 'syn-sent' && icmp.quotedSeq === sf.tcp.iss) {
      const { connection, id, flow } = sf;
      this.emit({ type: 'subflow-unreachable', connectionId: connection.id, subflowId: id, linkId: flow.linkId });
    }
    this.markDirty(sf.connection);
  }

  // ---- Time and packets out ------------------------------------------------------------------------------------

  onTimer(nowUs: Micros): void {
    for (let c = this.timers.takeDue(nowUs); c !== undefined; c = this.timers.takeDue(nowUs)) c.onTimer(nowUs);
    if (this.retryAtUs <= nowUs) {
      this.retryAtUs = NEVER;
      for (const c of this.live.values()) this.dirty.add(c);
    }
  }

  nextDeadline(): Micros {
    return Math.min(this.timers.nextUs(), this.retryAtUs);
  }

  flush(nowUs: Micros, edge: Edge): void {
    this.isFlushing = true;
    if (this.lingering.size > this.config.maxTimeWait) this.endOldTimeWaits(nowUs);
    for (const link of this.links.values()) link.begin(edge, this.sendingRate);
    for (let round = 0; round < MAX_FLUSH_ROUNDS && this.dirty.size > 0; round++) {
      const polled = this.dirty;
      this.dirty = new Set();
      for (const c of polled) {
        c.poll(nowUs);
        // A deadline that does not lie ahead would spin the driver: counted, because it is a bug of ours.
        const at = Math.ceil(c.nextDeadline()); // estimators are fractional, time is not
        if (at <= nowUs && !this.dirty.has(c)) this.count('deadline_in_the_past');
        this.timers.set(c, Math.max(at, nowUs + 50));
      }
    }
    this.isFlushing = false;
    this.retryAtUs = this.dirty.size > 0 ? nowUs : NEVER;
    for (const link of this.links.values()) {
      link.finish();
      if (link.info.isUp && (link.isBlocked || link.wasBusy))
        this.retryAtUs = Math.min(this.retryAtUs, nowUs + RETRY_US);
    }
  }

  /** What all subflows on a link may send together, bytes/s. */
  private readonly sendingRate = (linkId: number): number => {
    let sum = 0;
    for (const c of this.live.values()) {
      for (const sf of c.subflows) if (sf.flow.linkId === linkId) sum += Math.min(1e10, sf.tcp.cc.pacingRateBytesPerS);
    }
    return sum;
  };

  // ---- Observation ---------------------------------------------------------------------------------------------

  pollEvent(): EngineEvent | undefined {
    return this.events.shift();
  }

  counters(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.counts);
  }

  emit(event: EngineEvent): void {
    if (this.events.length >= MAX_EVENTS) this.events.shift();
    this.events.push(event);
  }

  count(name: string, n = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + n);
  }

  drop(reason: string): void {
    this.count(`drop_${reason.replaceAll('-', '_')}`);
  }

  // ---- ConnectionHost ------------------------------------------------------------------------------------------

  markDirty(connection: Connection): void {
    if (this.dirty.size === 0 && !this.isFlushing) this.onWork();
    this.dirty.add(connection);
  }

  register(subflow: MptcpSubflow): boolean {
    if (!this.demux.add(subflow)) return false;
    this.paths.add(subflow.flow, subflow.tcp);
    return true;
  }

  noteSlowProbes(subflow: MptcpSubflow, areSlow: boolean): void {
    if (areSlow) this.slowProbed.add(subflow);
    else this.slowProbed.delete(subflow);
  }

  unregister(subflow: MptcpSubflow): void {
    this.slowProbed.delete(subflow);
    this.demux.remove(subflow);
    this.paths.remove(subflow.flow, subflow.tcp);
  }

  over(connection: Connection): void {
    this.lingering.add(connection);
  }

  forget(connection: Connection): void {
    this.live.delete(connection.id);
    this.lingering.delete(connection);
    this.strays.forget(connection);
    this.timers.delete(connection);
    this.dirty.delete(connection);
    const { localToken } = connection.keys;
    if (this.byToken.get(localToken) === connection) this.byToken.delete(localToken);
  }

  /** A subflow of ours that waits in TIME-WAIT on this four-tuple makes way, and the number lies above its own. */
  isn(nowUs: Micros, flow: FlowTuple): number {
    const isn = this.isns.next(nowUs, flow);
    const above = this.isnAbove < 0 ? this.endTimeWait(nowUs, flow) : this.isnAbove;
    const isAbove = above < 0 || ((isn - above) | 0) > 0;
    return isAbove ? isn : (above + ISN_STEP) >>> 0;
  }

  tsOffset(flow: FlowTuple): number {
    return this.isns.tsOffset(flow);
  }

  subflowConfig(nowUs: Micros, flow: FlowTuple, congestion: string | undefined, coupling: Coupling): SubflowConfig {
    const settings = this.tcpSettings(this.link(flow.linkId));
    const {
      initialRtoUs = settings.initialRtoUs,
      initialSsthreshBytes,
      extraSynRetries,
    } = this.paths.seed(nowUs, flow);
    return {
      ...settings,
      initialRtoUs,
      synRetries: settings.synRetries + extraSynRetries,
      congestion: this.controller(congestion),
      coupling,
      recall: (askedUs, asker) => this.paths.recall(askedUs, flow, asker),
      ...(initialSsthreshBytes !== undefined && { initialSsthreshBytes }),
    };
  }

  tcpSettings(link: LinkInfo | undefined) {
    return {
      ...DEFAULT_SUBFLOW_CONFIG,
      ...this.config.tcp,
      windowScale: this.config.windowScale,
      mtuBytes: link?.mtuBytes ?? DEFAULT_SUBFLOW_CONFIG.mtuBytes,
    };
  }

  scheduler(name: string | undefined): Scheduler {
    return (schedulers[name ?? this.config.scheduler] ?? schedulers[DEFAULT_SCHEDULER]!)();
  }

  controller(name: string | undefined): ControllerFactory {
    return controllers[name ?? this.config.congestion] ?? controllers[DEFAULT_CONTROLLER]!;
  }

  sink(linkId: number): SegmentSink {
    return this.links.get(linkId) ?? NO_LINK;
  }

  isLinkBusy(linkId: number): boolean {
    const link = this.links.get(linkId);
    return link === undefined || !link.info.isUp || link.isBusy();
  }

  newKey(connection: Connection): Uint8Array {
    for (;;) {
      const key = connection.settings.localKey ?? randomKey(this.env);
      const { token } = deriveFromKey(this.env, key);
      if (this.byToken.has(token)) continue; // unique among live connections (RFC 8684 3.1)
      this.byToken.set(token, connection);
      return key;
    }
  }
}

function sameAddresses(a: LinkInfo, b: LinkInfo): boolean {
  return a.addresses.length === b.addresses.length && a.addresses.every((each, i) => ipEquals(each, b.addresses[i]!));
}

/** Sink of a link that is gone: takes nothing. */
const NO_LINK: SegmentSink = {
  headers: new Uint8Array(HEADER_SLOT_BYTES),
  hasRoom: () => false,
  reserve: () => 0,
  commit: () => undefined,
};

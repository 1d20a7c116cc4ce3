/**
 * The engine: demultiplexes packets to subflows, owns connections, listeners and links, and drains everything that wants
 * to go in `flush`. It implements EngineApi for drivers and ConnectionHost for connections; protocol rules live in
 * core/mptcp and core/tcp. Sans-I/O: see api.ts for the driver's loop.
 */
import type { CoreEnv } from '../base/env.js';
import { ipEquals, ipEqualsAt, ipFromBytes } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import { TimerQueue } from '../base/timer-queue.js';
import { TokenBucket } from '../base/token-bucket.js';
import type { ControllerFactory } from '../congestion/controller.js';
import type { Coupling } from '../congestion/coupling.js';
import { controllers, DEFAULT_CONTROLLER } from '../congestion/index.js';
import { Connection } from '../mptcp/connection.js';
import { capableFlags, isAcceptableSyn } from '../mptcp/handshake.js';
import type { ConnectionHost } from '../mptcp/host.js';
import { answerHmac, JoinRequests } from '../mptcp/join-requests.js';
import { MAX_SUBFLOWS, mayBeJoined } from '../mptcp/joining.js';
import { deriveFromKey, keyU64, randomKey } from '../mptcp/keys.js';
import { PlainDestinations } from '../mptcp/plain-destinations.js';
import type { MptcpSubflow } from '../mptcp/subflow.js';
import { DEFAULT_SCHEDULER, schedulers } from '../scheduler/index.js';
import type { Scheduler } from '../scheduler/scheduler.js';
import { answerTo, writeSynAck } from '../tcp/answered-syn.js';
import type { FlowTuple } from '../tcp/flow.js';
import { IsnGenerator } from '../tcp/isn.js';
import type { SegmentSink } from '../tcp/owner.js';
import { resetFor } from '../tcp/reset.js';
import { DEFAULT_SUBFLOW_CONFIG, type SubflowConfig } from '../tcp/subflow.js';
import { timestampAt } from '../tcp/timestamps.js';
import { IcmpErrorView, parseIcmpError } from '../wire/icmp.js';
import { ipHeaderBytes, PROTO_TCP } from '../wire/ip.js';
import {
  CAPABLE_A_CHECKSUM,
  CAPABLE_C_NO_JOIN,
  JOIN_SYN_BYTES,
  MPO,
  RST_REASON,
  writeCapableSynAck,
  writeJoinSynAck,
  writeTcprst,
} from '../wire/mptcp-options.js';
import { parseSegment, SegmentView, TCP_ACK, TCP_RST, TCP_SYN, verifyTcpChecksum } from '../wire/segment.js';
import { finishTcpHeader, TCP_HEADER_BYTES, writeTcpHeader } from '../wire/tcp.js';
import type { ChecksumPolicy, ConnectOptions, Edge, EngineApi, EngineEvent, LinkInfo, ListenOptions } from './api.js';
import { DEFAULT_ENGINE_CONFIG, type EngineConfig } from './config.js';
import { Demux } from './demux.js';
import { Link } from './link.js';
import { CSUM_UNKNOWN, HEADER_SLOT_BYTES, LINK_HEADROOM_BYTES, type ReceiveBatch } from './ports.js';
import { cookieTsVal, SynCookies, withinCookie } from './syn-cookies.js';

/** Events nobody has polled; the oldest go first. */
const MAX_EVENTS = 4096;
/** Rounds of one flush in which connections that became dirty on the way are polled again. */
const MAX_FLUSH_ROUNDS = 4;
/** While an edge refuses packets or its queue is long, try again after this. */
const RETRY_US: Micros = 500;
/** RSTs for unknown segments per second (RFC 5961 7 in spirit). */
const MAX_RESETS_PER_S = 200;
/** How far above the last connection's numbers the next one of the same four-tuple begins, at least. */
const ISN_STEP = 0x1_0000;

interface Listener extends ListenOptions {
  close(): void;
}

export class Engine implements EngineApi, ConnectionHost {
  readonly config: EngineConfig;
  readonly plainDestinations = new PlainDestinations();
  private readonly links = new Map<number, Link>();
  private readonly demux = new Demux();
  private readonly listeners = new Map<number, Listener>();
  private readonly live = new Map<number, Connection>();
  private readonly byToken = new Map<number, Connection>();
  private readonly halfOpen = new Set<Connection>();
  private readonly timers = new TimerQueue<Connection>();
  private dirty = new Set<Connection>();
  private readonly events: EngineEvent[] = [];
  private readonly counts = new Map<string, number>();
  private readonly joins = new JoinRequests();
  private readonly isns: IsnGenerator;
  /** The ISN to come must lie above this number; -1: any. */
  private isnAbove = -1;
  private readonly cookies: SynCookies;
  private readonly seg = new SegmentView();
  private readonly icmp = new IcmpErrorView();
  /** Suspected subflows that are probed seldom: a packet from where they lead is news for them. */
  private readonly slowProbed = new Set<MptcpSubflow>();
  private nextConnectionId = 1;
  private retryAtUs: Micros = NEVER;
  private readonly resets = new TokenBucket(MAX_RESETS_PER_S);

  constructor(
    readonly env: CoreEnv,
    config: Partial<EngineConfig> = {},
  ) {
    this.config = { ...DEFAULT_ENGINE_CONFIG, ...config };
    this.isns = new IsnGenerator(env);
    this.cookies = new SynCookies(env);
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
    if (!sameAddresses(link.info, info)) this.plainDestinations.forgetLink(info.id);
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
    for (const c of this.live.values()) c.onLinkState(nowUs, linkId, false);
  }

  link(linkId: number): LinkInfo | undefined {
    return this.links.get(linkId)?.info;
  }

  // ---- Opening -------------------------------------------------------------------------------------------------

  listen(options: ListenOptions): { readonly port: number; close(): void } {
    if (this.listeners.has(options.port)) throw new RangeError(`port ${options.port} is listened on already`);
    const listener = { ...options, close: () => this.listeners.delete(options.port) };
    this.listeners.set(options.port, listener);
    return listener;
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
    const c = new Connection(this.nextConnectionId++, this, {
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
    });
    if (isPlain) c.fallback.reason = 'SYNs with MPTCP to this destination went unanswered before';
    if (!c.open(nowUs, null)) throw new RangeError('the address pair is in use');
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
        this.drop('truncated', linkId);
        continue;
      }
      const result = parseSegment(batch.slab, batch.offset[i]!, batch.length[i]!, batch.gsoSize[i]!, seg);
      if (this.slowProbed.size > 0) this.hear(nowUs, linkId, result === 'ok');
      if (result === 'not-tcp') {
        this.onOtherProtocol(nowUs, linkId);
        continue;
      }
      if (result !== 'ok') {
        this.drop(result, linkId);
        continue;
      }
      if (batch.checksum[i] === CSUM_UNKNOWN && !verifyTcpChecksum(batch.slab, seg)) {
        this.drop('bad-tcp-checksum', linkId);
        continue;
      }
      const sf = this.demux.find(seg);
      if (sf === undefined) this.onStray(nowUs, linkId);
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
    this.onStray(nowUs, linkId);
    this.isnAbove = -1;
  }

  /** A segment of no subflow: a SYN to a listener, a join by token, or something to reset. */
  private onStray(nowUs: Micros, linkId: number): void {
    const { seg } = this;
    if (!this.isForUs()) {
      // A host that forwards sees other hosts' segments on its links, to ports of ours by chance.
      this.drop('not-for-us', linkId);
      return;
    }
    const kind = seg.flags & (TCP_SYN | TCP_ACK | TCP_RST);
    if (kind === TCP_SYN) this.onSyn(nowUs, linkId);
    else if (kind !== TCP_ACK || !this.completeHandshake(nowUs, linkId)) this.reset(nowUs, linkId, -1);
  }

  private onSyn(nowUs: Micros, linkId: number): void {
    const { seg } = this;
    const o = seg.mptcp;
    if ((o.present & MPO.join) !== 0 && o.joinLength === JOIN_SYN_BYTES) {
      // Joins are found by token, whatever port they come to (RFC 8684 3.2).
      this.count('MPTcpExtMPJoinSynRx');
      const c = this.byToken.get(o.joinToken);
      if (c === undefined) {
        this.count('MPTcpExtMPJoinNoTokenFound');
        this.reset(nowUs, linkId, RST_REASON.mptcpSpecific);
        return;
      }
      const flow = this.flowOf(linkId);
      if (mayBeJoined(c, flow)) {
        this.answerJoin(nowUs, linkId, c, flow);
      } else {
        this.count('MPTcpExtMPJoinRejected');
        this.reset(nowUs, linkId, RST_REASON.prohibited);
      }
      return;
    }
    if ((o.present & MPO.capable) !== 0) this.count('MPTcpExtMPCapableSYNRX');
    const listener = this.listeners.get(seg.dstPort);
    if (listener === undefined) this.reset(nowUs, linkId, -1);
    else if (this.live.size >= this.config.maxConnections) this.drop('listen-overflow', linkId);
    else if (this.halfOpen.size >= this.config.maxHalfOpen) this.answerWithCookie(nowUs, linkId, listener);
    else this.accept(nowUs, linkId, listener);
  }

  /** SYN/ACK of a join, with a note of it and no subflow (join-requests.ts). */
  private answerJoin(nowUs: Micros, linkId: number, c: Connection, flow: FlowTuple): void {
    const { seg } = this;
    const link = this.links.get(linkId);
    if (link === undefined || !link.hasRoom()) {
      this.drop('no-room-for-answer', linkId);
      return;
    }
    const config = this.tcpSettings(link.info);
    const would = answerTo(seg, config, this.isn(nowUs, flow), nowUs);
    const request = this.joins.note(nowUs, c, flow, seg, would);
    const start = this.answerOffset(link);
    const { answered, localAddressId, localNonce } = request;
    const tsVal = timestampAt(nowUs, this.tsOffset(flow));
    const end = writeSynAck(link.headers, start, seg, answered, config, tsVal, c.receiver.windowBytes());
    const hmac = answerHmac(request);
    this.sendAnswer(link, start, writeJoinSynAck(link.headers, end, false, localAddressId, hmac, localNonce));
  }

  /** SYN/ACK that keeps nothing here (syn-cookies.ts). */
  private answerWithCookie(nowUs: Micros, linkId: number, listener: Listener): void {
    const { seg, cookies } = this;
    const link = this.links.get(linkId);
    if (link === undefined || !link.hasRoom()) {
      this.drop('no-room-for-answer', linkId);
      return;
    }
    const flow = this.flowOf(linkId);
    const config = this.tcpSettings(link.info);
    let asks = this.asksForMptcp(listener);
    let cookie = cookies.give(nowUs, seg, asks);
    if (asks && this.isTokenTaken(cookie.key)) {
      // 1 in 2^32 per live connection: this one gets plain TCP.
      asks = false;
      cookie = cookies.give(nowUs, seg, false);
    }
    const answered = withinCookie(answerTo(seg, config, cookie.iss, NEVER));
    const tsVal = cookieTsVal(nowUs, this.tsOffset(flow), answered);
    const windowBytes = listener.receiveBufferBytes ?? this.config.receiveBufferBytes;
    const start = this.answerOffset(link);
    let end = writeSynAck(link.headers, start, seg, answered, config, tsVal, windowBytes);
    if (asks) {
      const flags = capableFlags(this.usesChecksum(listener), this.joinInitial(listener));
      const { hi, lo } = keyU64(cookie.key);
      end = writeCapableSynAck(link.headers, end, flags, hi, lo);
    }
    this.sendAnswer(link, start, end);
    this.count('TcpExtSyncookiesSent');
  }

  /** True if the segment in hand ends a handshake of which there is no subflow yet: a join's, or a cookie's. */
  private completeHandshake(nowUs: Micros, linkId: number): boolean {
    const { seg } = this;
    const request = this.joins.take(nowUs, seg);
    if (request !== undefined) {
      const sf = request.connection.acceptJoin(nowUs, request);
      if (sf === null) {
        this.count('MPTcpExtMPJoinRejected');
        this.reset(nowUs, linkId, RST_REASON.prohibited);
      } else this.hand(nowUs, sf);
      return true;
    }
    const listener = this.listeners.get(seg.dstPort);
    if (listener === undefined || !this.cookies.areAbout(nowUs)) return false;
    const contents = this.cookies.check(nowUs, seg);
    if (contents === null) {
      this.count('TcpExtSyncookiesFailed');
      return false;
    }
    this.count('TcpExtSyncookiesRecv');
    if (this.live.size >= this.config.maxConnections) {
      this.drop('listen-overflow', linkId);
      return true;
    }
    const { answered, key, hadMptcp } = contents;
    const asks = hadMptcp && !this.isTokenTaken(key);
    const c = this.newPassive(linkId, listener, asks, asks ? key : undefined);
    const sf = c.openAnswered(nowUs, answered);
    if (sf === null) this.forget(c);
    else this.hand(nowUs, sf);
    return true;
  }

  private hand(nowUs: Micros, sf: MptcpSubflow): void {
    sf.tcp.onSegment(nowUs, this.seg);
    this.markDirty(sf.connection);
  }

  /** The segment's destination is an address of any of our links (weak host model, RFC 1122 3.3.4.2). */
  private isForUs(): boolean {
    const { seg } = this;
    for (const { info } of this.links.values()) {
      for (const address of info.addresses) {
        if (address.family === seg.family && ipEqualsAt(address, seg.buf, seg.dstOff)) return true;
      }
    }
    return false;
  }

  private accept(nowUs: Micros, linkId: number, listener: Listener): void {
    const c = this.newPassive(linkId, listener, this.asksForMptcp(listener), undefined);
    if (!c.open(nowUs, this.seg)) this.forget(c);
  }

  /** A connection that the segment in hand opens; `localKey` where it was given out already. */
  private newPassive(linkId: number, listener: Listener, asks: boolean, localKey: Uint8Array | undefined): Connection {
    const c = new Connection(this.nextConnectionId++, this, {
      side: 'passive',
      mptcp: asks,
      checksum: asks && this.usesChecksum(listener),
      refusesChecksums: this.checksumPolicy(listener) === 'refuse',
      joinInitial: this.joinInitial(listener),
      congestion: listener.congestion,
      scheduler: listener.scheduler,
      receiveBufferBytes: listener.receiveBufferBytes ?? this.config.receiveBufferBytes,
      maxSubflows: listener.maxSubflows ?? MAX_SUBFLOWS,
      flow: this.flowOf(linkId),
      ...(localKey === undefined ? {} : { localKey }),
    });
    c.isInitialAddressClosed = asks && (this.seg.mptcp.capableFlags & CAPABLE_C_NO_JOIN) !== 0;
    c.onEstablished = () => {
      this.halfOpen.delete(c);
      listener.onAccept(c);
    };
    this.live.set(c.id, c);
    this.halfOpen.add(c);
    return c;
  }

  private asksForMptcp(listener: Listener): boolean {
    return isAcceptableSyn(this.seg.mptcp, this.checksumPolicy(listener) === 'refuse') && listener.mptcp !== false;
  }

  private checksumPolicy(listener: Listener): ChecksumPolicy {
    return listener.checksum ?? this.config.checksum;
  }

  private joinInitial(listener: Listener): boolean {
    return listener.joinInitial ?? this.config.joinInitial;
  }

  /** DSS checksums if either side asks (RFC 8684 3.1); the third packet repeats what was agreed. */
  private usesChecksum(listener: Listener): boolean {
    const isAsked = (this.seg.mptcp.capableFlags & CAPABLE_A_CHECKSUM) !== 0;
    return isAsked || this.checksumPolicy(listener) === true;
  }

  private flowOf(linkId: number): FlowTuple {
    const { seg } = this;
    return {
      linkId,
      family: seg.family,
      localAddress: ipFromBytes(seg.buf, seg.dstOff, seg.family),
      localPort: seg.dstPort,
      remoteAddress: ipFromBytes(seg.buf, seg.srcOff, seg.family),
      remotePort: seg.srcPort,
    };
  }

  private onOtherProtocol(nowUs: Micros, linkId: number): void {
    const { seg, icmp } = this;
    const result = parseIcmpError(seg, icmp);
    if (result !== 'ok') {
      this.drop(result, linkId);
      return;
    }
    if (icmp.quotedProtocol !== PROTO_TCP) return;
    const { quotedSrcOff, quotedDstOff, quotedSrcPort, quotedDstPort } = icmp;
    const sf = this.demux.lookup(icmp.buf, icmp.family, quotedSrcOff, quotedDstOff, quotedSrcPort, quotedDstPort);
    if (sf === undefined) {
      this.drop('icmp-no-subflow', linkId);
      return;
    }
    sf.tcp.onIcmp(nowUs, icmp.errorClass, icmp.mtuBytes, icmp.quotedSeq);
    this.markDirty(sf.connection);
  }

  /** Answers the segment in hand with a RST (RFC 9293 3.5.2), with MP_TCPRST if `reason` >= 0. */
  private reset(nowUs: Micros, linkId: number, reason: number): void {
    const { seg } = this;
    const numbers = resetFor(seg);
    const link = this.links.get(linkId);
    this.drop('no-connection', linkId);
    if (numbers === null || link === undefined || !link.hasRoom() || !this.resets.take(nowUs)) return;
    const start = this.answerOffset(link);
    const { headers } = link;
    writeTcpHeader(headers, start, seg.dstPort, seg.srcPort, numbers.seq, numbers.ack, numbers.flags, 0);
    const end = start + TCP_HEADER_BYTES;
    this.sendAnswer(link, start, reason >= 0 ? writeTcprst(headers, end, 0, reason) : end);
    if (reason >= 0) this.count('MPTcpExtMPRstTx');
  }

  /** Where the TCP header of an answer to the segment in hand begins in `link.headers`. */
  private answerOffset(link: Link): number {
    return link.batch.count * HEADER_SLOT_BYTES + LINK_HEADROOM_BYTES + ipHeaderBytes(this.seg.family);
  }

  /** Sends the header in [start, end) to where the segment in hand came from. */
  private sendAnswer(link: Link, start: number, end: number): void {
    const { seg } = this;
    const tcpBytes = finishTcpHeader(link.headers, start, end);
    const source = ipFromBytes(seg.buf, seg.dstOff, seg.family);
    const destination = ipFromBytes(seg.buf, seg.srcOff, seg.family);
    link.add(source, destination, start, tcpBytes, NO_PARTS, 0, 0, 0, false);
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
    for (const link of this.links.values()) link.begin(edge, this.sendingRate);
    for (let round = 0; round < MAX_FLUSH_ROUNDS && this.dirty.size > 0; round++) {
      const polled = this.dirty;
      this.dirty = new Set();
      for (const c of polled) {
        c.poll(nowUs);
        // A deadline that does not lie ahead would spin the driver: counted, because it is a bug of ours.
        const at = Math.ceil(c.nextDeadline()); // estimators are fractional, time is not
        if (at <= nowUs) this.count('deadline_in_the_past');
        this.timers.set(c, Math.max(at, nowUs + 50));
      }
    }
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

  private drop(reason: string, _linkId: number): void {
    this.count(`drop_${reason.replaceAll('-', '_')}`);
  }

  // ---- ConnectionHost ------------------------------------------------------------------------------------------

  markDirty(connection: Connection): void {
    this.dirty.add(connection);
  }

  register(subflow: MptcpSubflow): boolean {
    return this.demux.add(subflow);
  }

  noteSlowProbes(subflow: MptcpSubflow, areSlow: boolean): void {
    if (areSlow) this.slowProbed.add(subflow);
    else this.slowProbed.delete(subflow);
  }

  unregister(subflow: MptcpSubflow): void {
    this.slowProbed.delete(subflow);
    this.demux.remove(subflow);
  }

  forget(connection: Connection): void {
    this.live.delete(connection.id);
    this.halfOpen.delete(connection);
    this.joins.forget(connection);
    this.timers.delete(connection);
    this.dirty.delete(connection);
    const { localToken } = connection.keys;
    if (this.byToken.get(localToken) === connection) this.byToken.delete(localToken);
  }

  isn(nowUs: Micros, flow: FlowTuple): number {
    const isn = this.isns.next(nowUs, flow);
    const isAbove = this.isnAbove < 0 || ((isn - this.isnAbove) | 0) > 0;
    return isAbove ? isn : (this.isnAbove + ISN_STEP) >>> 0;
  }

  tsOffset(flow: FlowTuple): number {
    return this.isns.tsOffset(flow);
  }

  subflowConfig(link: LinkInfo | undefined, congestion: string | undefined, coupling: Coupling): SubflowConfig {
    return { ...this.tcpSettings(link), congestion: this.controller(congestion), coupling };
  }

  private tcpSettings(link: LinkInfo | undefined) {
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

  private isTokenTaken(key: Uint8Array): boolean {
    return this.byToken.has(deriveFromKey(this.env, key).token);
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

const NO_PARTS: readonly Uint8Array[] = [];

/** Sink of a link that is gone: takes nothing. */
const NO_LINK: SegmentSink = {
  headers: new Uint8Array(HEADER_SLOT_BYTES),
  hasRoom: () => false,
  reserve: () => 0,
  commit: () => undefined,
};

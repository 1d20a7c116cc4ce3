/**
 * What becomes of a segment that belongs to no subflow: a SYN to a listener or of a join, the third packet of a handshake
 * of which only a note was kept (joins: join-requests.ts) or nothing at all (floods: syn-cookies.ts), or something to
 * reset. Works on the segment in hand, which the engine parses into `seg`.
 */
import type { CoreEnv } from '../base/env.js';
import { ipEqualsAt, ipFromBytes } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import { TokenBucket } from '../base/token-bucket.js';
import type { Connection, ConnectionSettings } from '../mptcp/connection.js';
import { capableFlags, isAcceptableSyn } from '../mptcp/handshake.js';
import { answerHmac, JoinRequests } from '../mptcp/join-requests.js';
import { MAX_SUBFLOWS, mayBeJoined } from '../mptcp/joining.js';
import { deriveFromKey, keyU64 } from '../mptcp/keys.js';
import type { MptcpSubflow } from '../mptcp/subflow.js';
import { answerTo, writeSynAck } from '../tcp/answered-syn.js';
import type { FlowTuple } from '../tcp/flow.js';
import { resetFor } from '../tcp/reset.js';
import type { SubflowConfig } from '../tcp/subflow.js';
import { timestampAt } from '../tcp/timestamps.js';
import { ipHeaderBytes } from '../wire/ip.js';
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
import { type SegmentView, TCP_ACK, TCP_RST, TCP_SYN } from '../wire/segment.js';
import { finishTcpHeader, TCP_HEADER_BYTES, writeTcpHeader } from '../wire/tcp.js';
import type { ChecksumPolicy, LinkInfo, ListenOptions, SynVerdict } from './api.js';
import type { EngineConfig } from './config.js';
import type { Link } from './link.js';
import { HEADER_SLOT_BYTES, LINK_HEADROOM_BYTES } from './ports.js';
import { cookieTsVal, SynCookies, withinCookie } from './syn-cookies.js';

/** RSTs for unknown segments per second (RFC 5961 7 in spirit). */
const MAX_RESETS_PER_S = 200;

/** What is needed of the engine. */
export interface StrayHost {
  readonly env: CoreEnv;
  readonly config: EngineConfig;
  readonly links: ReadonlyMap<number, Link>;
  readonly byToken: ReadonlyMap<number, Connection>;
  readonly live: ReadonlyMap<number, Connection>;
  newConnection(settings: ConnectionSettings): Connection;
  forget(connection: Connection): void;
  markDirty(connection: Connection): void;
  isn(nowUs: Micros, flow: FlowTuple): number;
  tsOffset(flow: FlowTuple): number;
  tcpSettings(link: LinkInfo | undefined): Omit<SubflowConfig, 'congestion' | 'coupling'>;
  count(name: string): void;
  drop(reason: string): void;
}

interface Listener extends ListenOptions {
  close(): void;
}

export class Strays {
  private readonly listeners = new Map<number, Listener>();
  private readonly halfOpen = new Set<Connection>();
  private readonly joins = new JoinRequests();
  private readonly cookies: SynCookies;
  private readonly resets = new TokenBucket(MAX_RESETS_PER_S);

  constructor(
    private readonly host: StrayHost,
    private readonly seg: SegmentView,
  ) {
    this.cookies = new SynCookies(host.env);
  }

  listen(options: ListenOptions): { readonly port: number; close(): void } {
    if (this.listeners.has(options.port)) throw new RangeError(`port ${options.port} is listened on already`);
    const listener = { ...options, close: () => this.listeners.delete(options.port) };
    this.listeners.set(options.port, listener);
    return listener;
  }

  /** The connection is over. */
  forget(connection: Connection): void {
    this.halfOpen.delete(connection);
    this.joins.forget(connection);
  }

  /** A segment of no subflow: a SYN to a listener, a join by token, or something to reset. */
  onSegment(nowUs: Micros, linkId: number): void {
    const { seg } = this;
    if (!this.isForUs()) {
      // A host that forwards sees other hosts' segments on its links, to ports of ours by chance.
      this.host.drop('not-for-us');
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
      this.host.count('MPTcpExtMPJoinSynRx');
      const c = this.host.byToken.get(o.joinToken);
      if (c === undefined) {
        this.host.count('MPTcpExtMPJoinNoTokenFound');
        this.reset(nowUs, linkId, RST_REASON.mptcpSpecific);
        return;
      }
      const flow = this.flowOf(linkId);
      if (mayBeJoined(c, flow)) {
        this.answerJoin(nowUs, linkId, c, flow);
      } else {
        this.host.count('MPTcpExtMPJoinRejected');
        this.reset(nowUs, linkId, RST_REASON.prohibited);
      }
      return;
    }
    if ((o.present & MPO.capable) !== 0) this.host.count('MPTcpExtMPCapableSYNRX');
    const listener = this.listener();
    if (listener === undefined) this.reset(nowUs, linkId, -1);
    else if (this.host.live.size >= this.host.config.maxConnections) this.host.drop('listen-overflow');
    else if (listener.onSyn !== undefined) this.acceptAsAsked(nowUs, linkId, listener, this.ask(nowUs, listener));
    else if (this.halfOpen.size >= this.host.config.maxHalfOpen) this.answerWithCookie(nowUs, linkId, listener);
    else this.accept(nowUs, linkId, listener, 'answer');
  }

  private ask(nowUs: Micros, listener: Listener): SynVerdict {
    const { buf, payloadOff, payloadLen, srcOff, srcPort, family } = this.seg;
    const remote = { address: ipFromBytes(buf, srcOff, family), port: srcPort };
    return listener.onSyn!(nowUs, { remote, buf, offset: payloadOff, lengthBytes: payloadLen });
  }

  /**
   * Data that was taken cannot be kept in a cookie, and a listener that takes it may owe an answer to nobody else: past the
   * number of half-open connections such SYNs come again, except where the listener knows who sends them.
   */
  private acceptAsAsked(nowUs: Micros, linkId: number, listener: Listener, verdict: SynVerdict): void {
    const isFull = this.halfOpen.size >= this.host.config.maxHalfOpen;
    if (verdict === 'ignore') this.host.drop('syn-ignored');
    else if (verdict === 'answer' && isFull) this.answerWithCookie(nowUs, linkId, listener);
    else if (verdict === 'take' && isFull) this.host.drop('syn-data-overflow');
    else this.accept(nowUs, linkId, listener, verdict);
  }

  /** SYN/ACK of a join, with a note of it and no subflow (join-requests.ts). */
  private answerJoin(nowUs: Micros, linkId: number, c: Connection, flow: FlowTuple): void {
    const { seg } = this;
    const link = this.host.links.get(linkId);
    if (link === undefined || !link.hasRoom()) {
      this.host.drop('no-room-for-answer');
      return;
    }
    const config = this.host.tcpSettings(link.info);
    const would = answerTo(seg, config, this.host.isn(nowUs, flow), nowUs);
    const request = this.joins.note(nowUs, c, flow, seg, would);
    const start = this.answerOffset(link);
    const { answered, localAddressId, localNonce } = request;
    const tsVal = timestampAt(nowUs, this.host.tsOffset(flow));
    const end = writeSynAck(link.headers, start, seg, answered, config, tsVal, c.receiver.windowBytes());
    const hmac = answerHmac(request);
    this.sendAnswer(link, start, writeJoinSynAck(link.headers, end, false, localAddressId, hmac, localNonce));
  }

  /** SYN/ACK that keeps nothing here (syn-cookies.ts). */
  private answerWithCookie(nowUs: Micros, linkId: number, listener: Listener): void {
    const { seg, cookies } = this;
    const link = this.host.links.get(linkId);
    if (link === undefined || !link.hasRoom()) {
      this.host.drop('no-room-for-answer');
      return;
    }
    const flow = this.flowOf(linkId);
    const config = this.host.tcpSettings(link.info);
    let asks = this.asksForMptcp(listener);
    let cookie = cookies.give(nowUs, seg, asks);
    if (asks && this.isTokenTaken(cookie.key)) {
      // 1 in 2^32 per live connection: this one gets plain TCP.
      asks = false;
      cookie = cookies.give(nowUs, seg, false);
    }
    const answered = withinCookie(answerTo(seg, config, cookie.iss, NEVER));
    const tsVal = cookieTsVal(nowUs, this.host.tsOffset(flow), answered);
    const windowBytes = listener.receiveBufferBytes ?? this.host.config.receiveBufferBytes;
    const start = this.answerOffset(link);
    let end = writeSynAck(link.headers, start, seg, answered, config, tsVal, windowBytes);
    if (asks) {
      const flags = capableFlags(this.usesChecksum(listener), this.joinInitial(listener));
      const { hi, lo } = keyU64(cookie.key);
      end = writeCapableSynAck(link.headers, end, flags, hi, lo);
    }
    this.sendAnswer(link, start, end);
    this.host.count('TcpExtSyncookiesSent');
  }

  /** True if the segment in hand ends a handshake of which there is no subflow yet: a join's, or a cookie's. */
  private completeHandshake(nowUs: Micros, linkId: number): boolean {
    const { seg } = this;
    const request = this.joins.take(nowUs, seg);
    if (request !== undefined) {
      const sf = request.connection.acceptJoin(nowUs, request);
      if (sf === null) {
        this.host.count('MPTcpExtMPJoinRejected');
        this.reset(nowUs, linkId, RST_REASON.prohibited);
      } else this.hand(nowUs, sf);
      return true;
    }
    const listener = this.listener();
    if (listener === undefined || !this.cookies.areAbout(nowUs)) return false;
    const contents = this.cookies.check(nowUs, seg);
    if (contents === null) {
      this.host.count('TcpExtSyncookiesFailed');
      return false;
    }
    this.host.count('TcpExtSyncookiesRecv');
    if (this.host.live.size >= this.host.config.maxConnections) {
      this.host.drop('listen-overflow');
      return true;
    }
    const { answered, key, hadMptcp } = contents;
    const asks = hadMptcp && !this.isTokenTaken(key);
    const c = this.newPassive(linkId, listener, asks, asks ? key : undefined);
    const sf = c.openAnswered(nowUs, answered);
    if (sf === null) this.host.forget(c);
    else this.hand(nowUs, sf);
    return true;
  }

  private hand(nowUs: Micros, sf: MptcpSubflow): void {
    sf.tcp.onSegment(nowUs, this.seg);
    this.host.markDirty(sf.connection);
  }

  /** The segment's destination is an address of any of our links (weak host model, RFC 1122 3.3.4.2). */
  private isForUs(): boolean {
    const { seg } = this;
    for (const { info } of this.host.links.values()) {
      for (const address of info.addresses) {
        if (address.family === seg.family && ipEqualsAt(address, seg.buf, seg.dstOff)) return true;
      }
    }
    return false;
  }

  private accept(nowUs: Micros, linkId: number, listener: Listener, verdict: SynVerdict): void {
    const c = this.newPassive(linkId, listener, this.asksForMptcp(listener), undefined);
    if (!c.open(nowUs, this.seg, verdict)) {
      this.host.forget(c);
      return;
    }
    if (verdict !== 'hold') return;
    c.onEstablished = () => this.halfOpen.delete(c);
    listener.onAccept(c);
  }

  /** A connection that the segment in hand opens; `localKey` where it was given out already. */
  private newPassive(linkId: number, listener: Listener, asks: boolean, localKey: Uint8Array | undefined): Connection {
    const c = this.host.newConnection({
      side: 'passive',
      mptcp: asks,
      checksum: asks && this.usesChecksum(listener),
      refusesChecksums: this.checksumPolicy(listener) === 'refuse',
      joinInitial: this.joinInitial(listener),
      congestion: listener.congestion,
      scheduler: listener.scheduler,
      receiveBufferBytes: listener.receiveBufferBytes ?? this.host.config.receiveBufferBytes,
      maxSubflows: listener.maxSubflows ?? MAX_SUBFLOWS,
      flow: this.flowOf(linkId),
      ...(localKey === undefined ? {} : { localKey }),
    });
    c.isInitialAddressClosed = asks && (this.seg.mptcp.capableFlags & CAPABLE_C_NO_JOIN) !== 0;
    c.onEstablished = () => {
      this.halfOpen.delete(c);
      listener.onAccept(c);
    };
    this.halfOpen.add(c);
    return c;
  }

  /** Who listens where the segment goes to. */
  private listener(): Listener | undefined {
    const { seg } = this;
    const listener = this.listeners.get(seg.dstPort);
    const address = listener?.address ?? null;
    if (address === null) return listener;
    return address.family === seg.family && ipEqualsAt(address, seg.buf, seg.dstOff) ? listener : undefined;
  }

  private asksForMptcp(listener: Listener): boolean {
    return isAcceptableSyn(this.seg.mptcp, this.checksumPolicy(listener) === 'refuse') && listener.mptcp !== false;
  }

  private checksumPolicy(listener: Listener): ChecksumPolicy {
    return listener.checksum ?? this.host.config.checksum;
  }

  private joinInitial(listener: Listener): boolean {
    return listener.joinInitial ?? this.host.config.joinInitial;
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

  /** Answers the segment in hand with a RST (RFC 9293 3.5.2), with MP_TCPRST if `reason` >= 0. */
  private reset(nowUs: Micros, linkId: number, reason: number): void {
    const { seg } = this;
    const numbers = resetFor(seg);
    const link = this.host.links.get(linkId);
    this.host.drop('no-connection');
    if (numbers === null || link === undefined || !link.hasRoom() || !this.resets.take(nowUs)) return;
    const start = this.answerOffset(link);
    const { headers } = link;
    writeTcpHeader(headers, start, seg.dstPort, seg.srcPort, numbers.seq, numbers.ack, numbers.flags, 0);
    const end = start + TCP_HEADER_BYTES;
    this.sendAnswer(link, start, reason >= 0 ? writeTcprst(headers, end, 0, reason) : end);
    if (reason >= 0) this.host.count('MPTcpExtMPRstTx');
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

  private isTokenTaken(key: Uint8Array): boolean {
    return this.host.byToken.has(deriveFromKey(this.host.env, key).token);
  }
}

const NO_PARTS: readonly Uint8Array[] = [];

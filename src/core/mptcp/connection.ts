/**
 * One MPTCP connection (RFC 8684), which after a fallback is one TCP connection. It composes the sender, the receiver and
 * the subflows, owns what concerns several of them (priorities, addresses, reinjection, closing, fallback) and is what
 * applications hold (ConnectionApi). Read first: RFC 8684 3.1 to 3.8; then subflow.ts and handshake.ts beside this file.
 *
 * Per poll (engine flush): each subflow sends its own affairs (handshake, retransmissions, ACKs, signals), then the
 * dispatcher spreads new and reinjected data, then the DATA_FIN, then whatever is over is dropped.
 */

import { type IpAddress, ipEquals } from '../base/ip.js';
import { dsnHi, dsnLo, relativeDsn } from '../base/seq.js';
import { type Micros, NEVER, US_PER_S } from '../base/time.js';
import type {
  ByteReader,
  ConnectionApi,
  ConnectionInfo,
  ConnectionState,
  Endpoint,
  ExportedKeys,
  JoinOptions,
  LinkInfo,
} from '../engine/api.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { CloseReason, OptionVerdict, SendUnit } from '../tcp/owner.js';
import { MPO, type MptcpOptions } from '../wire/mptcp-options.js';
import { ADD_ADDR_RETRY_US, ADD_ADDR_TRIES, AddressBook } from './addresses.js';
import { Dispatcher } from './dispatch.js';
import * as handshake from './handshake.js';
import type { ConnectionHost } from './host.js';
import { connectionInfo } from './info.js';
import { KeyPair } from './key-pair.js';
import { addAddrHmac, dssChecksumRange, equalConstantTime } from './keys.js';
import type { InboundMapping } from './receive-mapping.js';
import { DataReceiver } from './receiver.js';
import type { OutboundMapping } from './send-buffer.js';
import { DataSender } from './sender.js';
import { announcementOf, echoOf } from './signals.js';
import { hasRecovered, isHopeless, probeIntervalUs, slowDownAtUs, suspicionAtUs } from './stall.js';
import { MptcpSubflow, RST_REASON, type SubflowSide } from './subflow.js';

/** Subflows of one connection, closing ones included; further joins are refused (RFC 8684 3.2: local policy). */
export const MAX_SUBFLOWS = 16;
/** A connection without any subflow lives on this long for a break-before-make join (RFC 8684 3.3.3). */
const ORPHAN_TIMEOUT_US: Micros = 300 * US_PER_S;
/** Data acknowledged by subflows but not by DATA_ACK is sent again after this long (RFC 8684 3.3.6). */
const DATA_RTO_US: Micros = US_PER_S;
/** First step of the retransmissions that follow, and the largest. */
const DATA_RTO_BYTES = 65_536;
const MAX_DATA_RECOVER_BYTES = 1 << 20;
/** Bytes that block the window go again in steps of this. */
const UNBLOCK_BYTES = 65_536;

export interface ConnectionSettings {
  readonly side: SubflowSide;
  readonly mptcp: boolean;
  readonly checksum: boolean;
  readonly congestion: string | undefined;
  readonly scheduler: string | undefined;
  readonly receiveBufferBytes: number;
  readonly flow: FlowTuple;
}

export class Connection implements ConnectionApi {
  /** 'pending' until the handshake decides; 'tcp' is final (RFC 8684 3.7: a fallback is never undone). */
  mode: 'pending' | 'mptcp' | 'tcp';
  state: ConnectionState = 'connecting';
  readonly remote: Endpoint;
  readonly keys: KeyPair;
  readonly sender = new DataSender();
  readonly receiver: DataReceiver;
  readonly subflows: MptcpSubflow[] = [];
  readonly addresses = new AddressBook();
  readonly dispatcher: Dispatcher;
  /** Subflows that ever existed: a fallback needs that there was only one. */
  subflowsEver = 0;
  /** The peer has shown that it has our key (a DSS or another option arrived): MP_CAPABLE need not be repeated. */
  isProven = false;
  /** SYNs of the initial subflow so far (they lose MP_CAPABLE after some, RFC 8684 3.9.3). */
  synsSent = 0;
  /** C flag received: no joins to the initial address and port (3.1). / C flag to send. */
  isInitialAddressClosed = false;
  denyJoins = false;
  refusesChecksum = false;
  isAborting = false;
  fallbackReason: string | null = null;
  lastWriteUs: Micros = 0;
  private nextSubflowId = 0;
  private orphanAtUs: Micros = NEVER;
  private windowEdgeSent = 0;
  private lowWaterBytes = 0;
  private onSpace: (() => void) | null = null;
  private didClose = false;
  private infiniteMapping: 'none' | 'due' | 'sent' = 'none';
  private dataRtoAtUs: Micros = NEVER;
  /** Data-level recovery: up to which DSN, what has gone again so far, and the step. */
  private dataRecoverTo = 0;
  private dataReinjectedTo = 0;
  private dataRecoverBytes = 0;
  /** Everything below went again already because it blocked the window. */
  private unblockedTo = 0;
  private isEndRequestedOnTcp = false;
  private polledAtUs: Micros = 0;
  closeReason = '';

  constructor(
    readonly id: number,
    readonly host: ConnectionHost,
    readonly settings: ConnectionSettings,
  ) {
    this.mode = settings.mptcp ? 'pending' : 'tcp';
    this.remote = { address: settings.flow.remoteAddress, port: settings.flow.remotePort };
    this.keys = new KeyPair(host.env, host.newKey(this));
    this.keys.checksums = settings.checksum;
    this.receiver = new DataReceiver(settings.receiveBufferBytes);
    this.dispatcher = new Dispatcher(this, host.scheduler(settings.scheduler));
    this.addresses.setInitial(settings.flow.localAddress, this.remote);
    if (this.mode === 'tcp') this.becomeTcp('MPTCP not asked for');
  }

  // ---- ConnectionApi: bytes ------------------------------------------------------------------------------------

  get isMptcp(): boolean {
    return this.mode === 'mptcp';
  }

  get unsentBytes(): number {
    return Math.max(0, this.sender.unsentBytes);
  }

  get unackedBytes(): number {
    return this.sender.unackedBytes;
  }

  get hasPendingData(): boolean {
    return !this.sender.reinjections.isEmpty || this.sender.sendableBytes > 0;
  }

  get deliveryRateBytesPerS(): number {
    let sum = 0;
    for (const sf of this.subflows) if (sf.isUsable && !sf.isStalled) sum += sf.tcp.deliveryRateBytesPerS;
    return sum;
  }

  write(nowUs: Micros, bytes: Uint8Array): void {
    if (this.sender.finDsn >= 0 || this.state === 'closed') return;
    this.sender.buffer.append(bytes);
    this.lastWriteUs = nowUs;
    this.host.markDirty(this);
  }

  setSendSpace(lowWaterBytes: number, onSpace: () => void): void {
    this.lowWaterBytes = lowWaterBytes;
    this.onSpace = onSpace;
  }

  /** How long a tail shorter than a segment may wait for more bytes while others are in flight. */
  setCork(corkUs: Micros): void {
    this.dispatcher.corkUs = corkUs;
  }

  setReader(reader: ByteReader): void {
    this.receiver.setReader(reader);
  }

  resume(nowUs: Micros): void {
    this.receiver.resume();
    this.updateWindow(nowUs);
  }

  end(_nowUs: Micros): void {
    this.sender.end();
    if (this.state === 'established') this.state = 'closing';
    this.host.markDirty(this);
  }

  abort(nowUs: Micros): void {
    if (this.state === 'closed') return;
    this.isAborting = true;
    for (const sf of this.subflows) sf.tcp.abort(nowUs, true);
    this.finish('aborted');
  }

  setScheduler(name: string): void {
    this.dispatcher.scheduler = this.host.scheduler(name);
    this.host.markDirty(this);
  }

  info(): ConnectionInfo {
    return connectionInfo(this);
  }

  useExportedKeys(nowUs: Micros, keys: ExportedKeys): void {
    this.keys.useExported(keys);
    for (const sf of this.subflows) if (sf.role === 'join') this.resetSubflow(nowUs, sf, RST_REASON.prohibited);
  }

  // ---- Opening -------------------------------------------------------------------------------------------------

  /** The initial subflow: `syn` given answers it, else we connect. */
  open(nowUs: Micros, syn: Parameters<MptcpSubflow['tcp']['accept']>[1] | null): boolean {
    const sf = this.addSubflow(nowUs, 'initial', this.settings.side, this.settings.flow, this.settings.congestion);
    if (sf === null) return false;
    if (syn === null) sf.tcp.connect(nowUs);
    else sf.tcp.accept(nowUs, syn);
    this.host.markDirty(this);
    return true;
  }

  join(nowUs: Micros, options: JoinOptions): number {
    const refuse = (why: string) => {
      this.host.emit({ type: 'subflow-closed', connectionId: this.id, subflowId: -1, linkId: options.linkId, why });
      return -1;
    };
    const { remote } = options;
    if (this.mode !== 'mptcp' || !this.isProven || this.state === 'closed')
      return refuse('not an established MPTCP connection');
    if (this.subflows.length >= MAX_SUBFLOWS) return refuse('too many subflows');
    const isInitial = ipEquals(remote.address, this.remote.address) && remote.port === this.remote.port;
    if (isInitial && this.isInitialAddressClosed) return refuse('the peer wants no joins to this address');
    const localAddressId = this.addresses.localId(options.localAddress);
    if (localAddressId < 0) return refuse('no address id left');
    const flow: FlowTuple = {
      linkId: options.linkId,
      family: remote.address.family,
      localAddress: options.localAddress,
      localPort: this.settings.flow.localPort,
      remoteAddress: remote.address,
      remotePort: remote.port,
    };
    const sf = this.addSubflow(nowUs, 'join', 'active', flow, options.congestion ?? this.settings.congestion);
    if (sf === null) return refuse('address pair in use');
    sf.localAddressId = localAddressId;
    sf.remoteAddressId = options.remoteAddressId ?? Math.max(0, this.addresses.remoteIdOf(remote));
    sf.isBackupWanted = options.backup ?? false;
    sf.isLocalBackup = sf.isBackupWanted;
    handshake.startJoin(sf);
    sf.tcp.connect(nowUs);
    this.host.markDirty(this);
    return sf.id;
  }

  /** A SYN with MP_JOIN and our token arrived (the engine matched it). False: refuse it. */
  acceptJoin(nowUs: Micros, flow: FlowTuple, seg: Parameters<MptcpSubflow['tcp']['accept']>[1]): boolean {
    if (this.mode !== 'mptcp' || this.state === 'closed' || this.subflows.length >= MAX_SUBFLOWS) return false;
    const sf = this.addSubflow(nowUs, 'join', 'passive', flow, this.settings.congestion);
    if (sf === null) return false;
    const o = seg.mptcp;
    sf.localAddressId = Math.max(0, this.addresses.localId(flow.localAddress));
    sf.remoteAddressId = o.joinAddressId;
    sf.isRemoteBackup = o.joinBackup;
    handshake.answerJoin(sf, o.joinNonce);
    sf.tcp.accept(nowUs, seg);
    this.host.markDirty(this);
    return true;
  }

  private addSubflow(
    nowUs: Micros,
    role: 'initial' | 'join',
    side: SubflowSide,
    flow: FlowTuple,
    congestion: string | undefined,
  ): MptcpSubflow | null {
    const config = this.host.subflowConfig(this.host.link(flow.linkId), congestion);
    const sf = new MptcpSubflow(this, this.nextSubflowId, role, side, flow, config, this.host.isn(nowUs, flow));
    if (!this.host.register(sf)) return null;
    if (this.mode === 'tcp') sf.mappings.setInfinite(0, 0);
    this.nextSubflowId++;
    this.subflowsEver++;
    this.subflows.push(sf);
    this.orphanAtUs = NEVER;
    const initiatedBy = side === 'active' ? 'local' : 'peer';
    this.host.emit({
      type: 'subflow-added',
      connectionId: this.id,
      subflowId: sf.id,
      linkId: flow.linkId,
      initiatedBy,
    });
    return sf;
  }

  onInitialEstablished(nowUs: Micros): void {
    if (this.state !== 'connecting') return;
    this.state = this.sender.finDsn >= 0 ? 'closing' : 'established';
    const sf = this.subflows[0]!;
    this.sender.windowEdge = this.mode === 'tcp' ? NEVER : this.sender.sndUna + sf.tcp.sndWndBytes;
    this.host.emit({ type: 'connection-established', connectionId: this.id, isMptcp: this.isMptcp });
    this.emitSubflow(sf, 'subflow-established');
    this.onEstablished?.(this);
    void nowUs;
  }

  /** Set by the engine for accepted connections. */
  onEstablished: ((connection: Connection) => void) | null = null;

  onJoinConfirmed(nowUs: Micros, sf: MptcpSubflow): void {
    if (sf.isConfirmed) return;
    sf.isConfirmed = true;
    sf.join.ackAtUs = NEVER;
    this.emitSubflow(sf, 'subflow-established');
    this.host.markDirty(this);
    void nowUs;
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  poll(nowUs: Micros): void {
    this.runTimers(nowUs);
    this.checkPaths(nowUs);
    for (const sf of this.subflows) {
      if (sf.isLinkDown) continue;
      if (sf.signalAtUs <= nowUs) sf.pumpSignals(nowUs);
      if (sf.join.ackAtUs <= nowUs) handshake.pumpJoin(nowUs, sf);
    }
    this.pumpDataFin(nowUs);
    for (const sf of this.subflows) {
      if (sf.isLinkDown) continue;
      const isDue = sf.tcp.hasWork(nowUs) || sf.tcp.nextDeadline() <= nowUs;
      if (isDue) sf.tcp.pollTransmit(nowUs, this.host.sink(sf.flow.linkId));
    }
    if (this.state !== 'closed') {
      if (this.mode === 'mptcp' && this.sender.isWindowLimited) this.unblockWindow();
      this.dispatcher.run(nowUs);
      if (this.infiniteMapping === 'sent') this.becomeTcp(this.fallbackReason ?? 'infinite mapping sent');
      if (this.onSpace !== null && this.unsentBytes <= this.lowWaterBytes && this.canWrite) this.onSpace();
      this.pumpDataFin(nowUs);
    }
    this.sweep(nowUs);
  }

  onTimer(_nowUs: Micros): void {
    this.host.markDirty(this);
  }

  private runTimers(nowUs: Micros): void {
    for (const sf of this.subflows) if (!sf.isLinkDown && sf.tcp.nextDeadline() <= nowUs) sf.tcp.onTimer(nowUs);
    for (const a of this.addresses.announcements) if (a.atUs <= nowUs) this.sendAnnouncement(nowUs, a.addressId);
    if (this.dataRtoAtUs <= nowUs) this.onDataRto(nowUs);
    if (this.orphanAtUs <= nowUs) this.finish('no path for too long');
  }

  nextDeadline(): Micros {
    let at = Math.min(this.dispatcher.nextDeadline(), this.addresses.nextDeadline(), this.orphanAtUs, this.dataRtoAtUs);
    if (this.sender.isFinReady) at = Math.min(at, this.sender.finAtUs);
    for (const sf of this.subflows) {
      // Without its link a subflow stands still, clocks included; `kick` wakes it.
      if (sf.isLinkDown) continue;
      at = Math.min(at, sf.tcp.nextDeadline(), sf.signalAtUs, sf.join.ackAtUs);
      if (this.mode === 'mptcp' && this.state !== 'closed') at = Math.min(at, suspicionAtUs(sf), this.slowAt(sf));
    }
    return at;
  }

  pullFor(sf: MptcpSubflow, maxBytes: number): SendUnit | null {
    return this.dispatcher.pull(sf, maxBytes);
  }

  private get canWrite(): boolean {
    return this.sender.finDsn < 0 && (this.state === 'established' || this.state === 'connecting');
  }

  onDataAck(nowUs: Micros, dataAck: number, windowBytes: number): void {
    if (this.mode !== 'mptcp' || this.infiniteMapping !== 'none') return;
    const { sndUna } = this.sender;
    if (!(dataAck >= 0) || !this.sender.onDataAck(nowUs, dataAck)) {
      this.host.count('drop_data_ack_implausible');
      return;
    }
    if (dataAck > sndUna && sndUna < this.dataRecoverTo) {
      this.dataRecoverBytes = Math.min(2 * this.dataRecoverBytes, MAX_DATA_RECOVER_BYTES);
      this.goOnWithDataRecovery();
    }
    // Only a growing right edge counts: ACKs of several subflows overtake one another (3.3.5).
    this.sender.windowEdge = Math.max(this.sender.windowEdge, dataAck + windowBytes);
    if (this.sender.unackedBytes === 0) this.dataRtoAtUs = NEVER;
    else if (this.dataRtoAtUs === NEVER || dataAck > sndUna) this.dataRtoAtUs = nowUs + this.dataRtoUs();
    if (this.sender.finAcked) this.closeIfDone(nowUs);
  }

  /** After a fallback: bytes below `dsn` are acknowledged at subflow level. */
  onDataAcked(nowUs: Micros, dsn: number): void {
    this.sender.onDataAck(nowUs, dsn);
  }

  private dataRtoUs(): Micros {
    let rto = DATA_RTO_US;
    for (const sf of this.subflows) if (sf.isUsable && !sf.isStalled) rto = Math.max(rto, 2 * sf.tcp.rtt.rtoUs);
    return rto;
  }

  /** DATA_ACK stands still: if no subflow is still working on the first bytes, they go again anywhere (3.3.6). */
  private onDataRto(nowUs: Micros): void {
    this.dataRtoAtUs = NEVER;
    if (this.mode !== 'mptcp' || this.sender.unackedBytes === 0) return;
    this.dataRtoAtUs = nowUs + this.dataRtoUs();
    const una = this.sender.sndUna;
    const isWorkedOn = (sf: MptcpSubflow) => !sf.isStalled && sf.tcp.canSendData && this.hasOutstanding(sf, una);
    if (this.subflows.some(isWorkedOn)) return;
    this.host.count('data_rto');
    this.dataRecoverTo = Math.min(this.sender.sndNxt, this.sender.buffer.endDsn);
    this.dataReinjectedTo = una;
    this.dataRecoverBytes = DATA_RTO_BYTES;
    this.goOnWithDataRecovery();
  }

  /**
   * After a data-level timeout, what subflows have delivered is not what the peer has: it is sent again from sndUna on,
   * clocked by DATA_ACKs (which jump over what the peer does have), in steps that double as long as it helps.
   */
  private goOnWithDataRecovery(): void {
    const s = this.sender;
    if (s.sndUna >= this.dataRecoverTo) return;
    const from = Math.max(s.sndUna, this.dataReinjectedTo);
    const to = Math.min(this.dataRecoverTo, s.sndUna + this.dataRecoverBytes);
    if (from >= to) return;
    s.reinject(from, to, -1);
    this.dataReinjectedTo = to;
    this.host.markDirty(this);
  }

  private pumpDataFin(nowUs: Micros): void {
    const s = this.sender;
    if (!s.isFinReady) return;
    if (this.mode === 'tcp') {
      if (this.isEndRequestedOnTcp) return;
      this.isEndRequestedOnTcp = true;
      for (const sf of this.subflows) sf.tcp.sendFin(nowUs);
      return;
    }
    if (this.mode !== 'mptcp' || (s.finTries > 0 && s.finAtUs > nowUs)) return;
    let sent = false;
    for (const sf of this.subflows) {
      if (!sf.isConfirmed || !sf.tcp.isEstablished) continue;
      sf.isFinDue = true;
      sf.tcp.requestAck(nowUs);
      sent = true;
    }
    if (sent) s.onFinSent(nowUs);
    else s.finAtUs = nowUs + DATA_RTO_US;
  }

  /** DSS checksum of our DATA_FIN alone: pseudo-header only (3.3.3). */
  finChecksum(): number {
    const { idsnLocal } = this.keys;
    const fin = this.sender.finDsn;
    return dssChecksumRange(dsnHi(fin, idsnLocal), dsnLo(fin, idsnLocal), 0, 1, NO_BYTES, 0, 0);
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  afterSegment(nowUs: Micros, sf: MptcpSubflow, _delivered: boolean): void {
    if (hasRecovered(sf)) this.recover(nowUs, sf);
    this.host.markDirty(this);
  }

  onWindowSent(): void {
    this.windowEdgeSent = this.receiver.windowEdge();
  }

  /** Announces a window that has opened by a good part, if the peer may be waiting for it (RFC 9293 3.8.6.2.2). */
  private updateWindow(nowUs: Micros): void {
    const opened = this.receiver.peekEdge() - this.windowEdgeSent;
    if (opened < Math.min(this.receiver.capacityBytes / 4, 128 * 1024)) return;
    for (const sf of this.subflows) if (sf.isConfirmed && sf.tcp.isEstablished) sf.tcp.requestAck(nowUs);
    this.host.markDirty(this);
  }

  onPeerDataFin(nowUs: Micros, finDsn: number, sf: MptcpSubflow): void {
    this.receiver.setFin(finDsn);
    // DATA_ACKed at once, and again for every repetition (3.3.3).
    sf.tcp.requestAck(nowUs);
    this.closeIfDone(nowUs);
  }

  onSignals(nowUs: Micros, sf: MptcpSubflow, o: MptcpOptions): OptionVerdict {
    if ((o.present & MPO.addAddr) !== 0) this.onAddAddr(nowUs, sf, o);
    if ((o.present & MPO.removeAddr) !== 0) this.onRemoveAddr(nowUs, o.removeIds);
    if ((o.present & MPO.prio) !== 0) {
      this.host.count('MPTcpExtMPPrioRx');
      sf.isRemoteBackup = o.prioBackup;
      this.host.emit({ type: 'priority', connectionId: this.id, subflowId: sf.id, backup: o.prioBackup });
    }
    if ((o.present & MPO.fail) !== 0) this.onFail(nowUs, sf, o);
    if ((o.present & MPO.fastclose) !== 0) this.onFastclose(nowUs, o.fastcloseKeyHi, o.fastcloseKeyLo);
    return this.isAborting ? 'drop' : 'continue';
  }

  // ---- Addresses (3.4) -----------------------------------------------------------------------------------------

  announce(nowUs: Micros, endpoint: { address: IpAddress; port?: number }): number {
    const addressId = this.addresses.localId(endpoint.address);
    if (addressId < 0 || this.mode !== 'mptcp') return -1;
    this.addresses.announcements.push({
      addressId,
      address: endpoint.address,
      port: endpoint.port ?? -1,
      tries: 0,
      atUs: nowUs,
    });
    this.host.markDirty(this);
    return addressId;
  }

  private sendAnnouncement(nowUs: Micros, addressId: number): void {
    const a = this.addresses.announcements.find((x) => x.addressId === addressId);
    if (a === undefined || this.keys.remote === null) return;
    if (a.tries >= ADD_ADDR_TRIES) {
      a.atUs = NEVER;
      return;
    }
    const sf = this.signalPath();
    a.atUs = nowUs + ADD_ADDR_RETRY_US * (sf === null ? 1 : 2 ** a.tries);
    if (sf === null) return;
    a.tries++;
    const hmac = addAddrHmac(this.host.env, this.keys.authLocal, this.keys.authRemote, a.addressId, a.address, a.port);
    sf.signal(nowUs, { kind: 'add-addr', option: announcementOf(a.addressId, a.address, a.port, hmac) });
  }

  withdraw(nowUs: Micros, addressId: number): void {
    this.addresses.releaseLocal(addressId);
    const gone = this.subflows.filter((sf) => sf.localAddressId === addressId);
    // Preferably told on another subflow than the one that goes (3.4.2).
    const via = this.subflows.find((sf) => sf.isUsable && !sf.isStalled && !gone.includes(sf)) ?? this.signalPath();
    via?.signal(nowUs, { kind: 'remove-addr', ids: [addressId] });
  }

  private onAddAddr(nowUs: Micros, sf: MptcpSubflow, o: MptcpOptions): void {
    for (const option of o.addAddrs) {
      if (option.echo) {
        this.host.count('MPTcpExtEchoAdd');
        this.addresses.onEcho(option.addressId);
        continue;
      }
      const { env } = this.host;
      const expected = addAddrHmac(
        env,
        this.keys.authRemote,
        this.keys.authLocal,
        option.addressId,
        option.address,
        option.port,
      );
      if (!equalConstantTime(expected, option.hmac, expected.length)) {
        this.host.count('MPTcpExtAddAddrHMacFailure');
        continue;
      }
      this.host.count(option.port >= 0 ? 'MPTcpExtPortAdd' : 'MPTcpExtAddAddr');
      // Without a port: the one that this subflow talks to (3.4.1).
      const endpoint = { address: option.address, port: option.port >= 0 ? option.port : sf.flow.remotePort };
      const learnt = this.addresses.learn(option.addressId, endpoint);
      if (learnt === 'conflict' || learnt === 'full') {
        this.host.count('MPTcpExtAddAddrDrop');
        continue;
      }
      sf.signal(nowUs, { kind: 'add-addr', option: echoOf(option) });
      if (learnt === 'new') {
        this.host.emit({ type: 'address-announced', connectionId: this.id, addressId: option.addressId, endpoint });
      }
    }
  }

  private onRemoveAddr(nowUs: Micros, ids: readonly number[]): void {
    for (const addressId of ids) {
      this.host.count('MPTcpExtRmAddr');
      const isKnown = this.addresses.forgetRemote(addressId);
      for (const sf of this.subflows) {
        if (sf.remoteAddressId !== addressId || sf.isClosing) continue;
        this.host.count('MPTcpExtRmSubflow');
        this.reinjectFrom(sf);
        sf.isClosing = true;
        sf.tcp.sendFin(nowUs);
      }
      if (isKnown) this.host.emit({ type: 'address-removed', connectionId: this.id, addressId });
    }
    this.host.markDirty(this);
  }

  // ---- Paths ---------------------------------------------------------------------------------------------------

  setBackup(nowUs: Micros, subflowId: number, backup: boolean): void {
    const sf = this.subflow(subflowId);
    if (sf === undefined || sf.isBackupWanted === backup) return;
    sf.isBackupWanted = backup;
    if (this.mode === 'mptcp') sf.signal(nowUs, { kind: 'prio', backup });
  }

  limitSubflow(_nowUs: Micros, subflowId: number, bytesPerS: number): void {
    this.subflow(subflowId)?.tcp.setRateLimit(bytesPerS);
    this.host.markDirty(this);
  }

  setLocalBackup(_nowUs: Micros, subflowId: number, backup: boolean): void {
    const sf = this.subflow(subflowId);
    if (sf !== undefined) sf.isLocalBackup = backup;
    this.host.markDirty(this);
  }

  closeSubflow(nowUs: Micros, subflowId: number, how: 'fin' | 'reset'): void {
    const sf = this.subflow(subflowId);
    if (sf === undefined || sf.isClosing) return;
    if (how === 'reset') {
      this.resetSubflow(nowUs, sf, RST_REASON.prohibited);
      return;
    }
    // Bytes that are on their way may be stuck there: they go again elsewhere before the subflow ends (3.3.3).
    this.reinjectFrom(sf);
    sf.isClosing = true;
    sf.tcp.sendFin(nowUs);
    this.host.markDirty(this);
  }

  onLinkState(nowUs: Micros, linkId: number, isUp: boolean): void {
    const addresses = isUp ? this.host.link(linkId)?.addresses : undefined;
    for (const sf of this.subflows) {
      if (sf.flow.linkId !== linkId) continue;
      const isThere = addresses?.some((a) => ipEquals(a, sf.flow.localAddress)) ?? isUp;
      if (sf.isLinkDown !== isThere) continue;
      sf.isLinkDown = !isThere;
      if (!isThere) this.stall(nowUs, sf, isUp ? 'address gone' : 'link down');
      else sf.tcp.kick(nowUs);
    }
    this.host.markDirty(this);
  }

  onLinkChanged(link: LinkInfo): void {
    for (const sf of this.subflows) if (sf.flow.linkId === link.id) sf.tcp.onMtuChange(link.mtuBytes);
  }

  suspectSubflow(nowUs: Micros, subflowId: number, why: string): void {
    const sf = this.subflow(subflowId);
    if (sf !== undefined && !sf.isStalled) this.stall(nowUs, sf, why);
  }

  onSubflowRto(nowUs: Micros, sf: MptcpSubflow, count: number): void {
    if (this.mode === 'mptcp' && !sf.isStalled && (this.hasAlternative(sf) || isHopeless(count))) {
      this.stall(nowUs, sf, 'retransmission timeout');
    }
  }

  /**
   * Bytes lost on a slow path hold back everything that a quicker one delivers: they go again on the quicker one at once
   * (opportunistic reinjection), besides TCP's own retransmission (3.3.6).
   */
  onSubflowLoss(sf: MptcpSubflow, seq: number, lengthBytes: number, m: OutboundMapping | null): void {
    if (this.mode !== 'mptcp' || m === null || m.dll === 0) return;
    const isQuicker = (other: MptcpSubflow) =>
      other !== sf && other.isUsable && !other.isStalled && other.tcp.rtt.srttUs < sf.tcp.rtt.srttUs;
    if (!this.subflows.some(isQuicker)) return;
    const dsn = m.dsn + seq - m.ssn;
    this.sender.reinject(dsn, dsn + lengthBytes, sf.id);
  }

  private checkPaths(nowUs: Micros): void {
    if (this.mode !== 'mptcp' || this.state === 'closed') return;
    for (const sf of this.subflows) {
      if (suspicionAtUs(sf) <= nowUs && this.hasAlternative(sf)) this.stall(nowUs, sf, 'no acknowledgment');
      else if (slowDownAtUs(sf) <= nowUs) sf.tcp.setProbeInterval(probeIntervalUs(nowUs, sf.stalledAtUs));
    }
  }

  /** Deadline at which a suspected path is probed less often; NEVER once that is so. */
  private slowAt(sf: MptcpSubflow): Micros {
    const at = slowDownAtUs(sf);
    return at > this.polledAtUs ? at : NEVER;
  }

  private hasAlternative(sf: MptcpSubflow): boolean {
    return this.subflows.some((other) => other !== sf && other.isUsable && !other.isStalled);
  }

  private stall(nowUs: Micros, sf: MptcpSubflow, why: string): void {
    if (!sf.isStalled) {
      sf.isStalled = true;
      sf.stalledAtUs = nowUs;
      sf.stallReason = why;
      this.host.count('MPTcpExtSubflowStale');
      this.host.emit({ type: 'subflow-stalled', connectionId: this.id, subflowId: sf.id, linkId: sf.flow.linkId, why });
    }
    this.reinjectFrom(sf);
    sf.tcp.setProbeInterval(probeIntervalUs(nowUs, sf.stalledAtUs));
    this.host.markDirty(this);
  }

  private recover(nowUs: Micros, sf: MptcpSubflow): void {
    sf.isStalled = false;
    sf.tcp.setProbeInterval(0);
    this.sender.reinjections.forget(sf.id);
    this.host.count('MPTcpExtSubflowRecover');
    const stalledUs = nowUs - sf.stalledAtUs;
    this.host.emit({
      type: 'subflow-recovered',
      connectionId: this.id,
      subflowId: sf.id,
      linkId: sf.flow.linkId,
      stalledUs,
    });
  }

  /** What `sf` has outstanding goes again on other subflows (3.3.6); TCP goes on retransmitting it there as well. */
  private reinjectFrom(sf: MptcpSubflow): void {
    if (this.mode !== 'mptcp') return;
    sf.tcp.forEachUnacked((seq, lengthBytes, tag, isSacked) => {
      const m = tag as OutboundMapping | null;
      if (isSacked || m === null || m.dll === 0) return;
      const dsn = m.dsn + seq - m.ssn;
      this.sender.reinject(dsn, dsn + lengthBytes, sf.id);
    });
  }

  /**
   * The peer's window is full behind bytes that a slow path still carries: they go again on a quicker one ("opportunistic
   * reinjection", DESIGN 3.5), a step at a time and each byte once.
   */
  private unblockWindow(): void {
    const s = this.sender;
    if (s.sndUna < this.unblockedTo || this.subflows.length < 2) return;
    this.unblockedTo = s.sndUna + 1;
    const blocker = this.subflows.find((sf) => sf.isUsable && this.hasOutstanding(sf, s.sndUna));
    if (blocker === undefined) return;
    const { srttUs } = blocker.tcp.rtt;
    const isQuicker = (sf: MptcpSubflow) => sf.isUsable && !sf.isStalled && 2 * sf.tcp.rtt.srttUs < srttUs;
    if (!this.subflows.some((sf) => sf !== blocker && isQuicker(sf))) return;
    const limit = s.sndUna + UNBLOCK_BYTES;
    blocker.tcp.forEachUnacked((seq, lengthBytes, tag, isSacked) => {
      const m = tag as OutboundMapping | null;
      if (isSacked || m === null || m.dll === 0) return;
      const dsn = m.dsn + seq - m.ssn;
      if (dsn >= limit) return;
      s.reinject(dsn, dsn + lengthBytes, blocker.id);
      this.unblockedTo = Math.max(this.unblockedTo, dsn + lengthBytes);
    });
    this.host.count('window_unblocked');
  }

  private hasOutstanding(sf: MptcpSubflow, dsn: number): boolean {
    let found = false;
    sf.tcp.forEachUnacked((seq, lengthBytes, tag, isSacked) => {
      const m = tag as OutboundMapping | null;
      if (isSacked || m === null || m.dll === 0) return;
      const from = m.dsn + seq - m.ssn;
      if (from <= dsn && dsn < from + lengthBytes) found = true;
    });
    return found;
  }

  resetSubflow(nowUs: Micros, sf: MptcpSubflow, reason: number): void {
    sf.resetReason = reason;
    this.reinjectFrom(sf);
    sf.tcp.abort(nowUs, true);
    this.host.markDirty(this);
  }

  // ---- Fallback and failure (3.7) ------------------------------------------------------------------------------

  /** Before any data: the connection is plain TCP. */
  becomeTcp(why: string): void {
    this.mode = 'tcp';
    this.infiniteMapping = 'none';
    const sf = this.subflows[0];
    // With one subflow ever, subflow and data sequence space are the same: SYN 0, first byte 1.
    if (sf !== undefined && !sf.mappings.isInfinite) sf.mappings.setInfinite(0, 0);
    this.sender.windowEdge = NEVER;
    this.fallbackReason ??= why;
    this.keys.checksums = false;
  }

  /** Plain TCP from here on, for good. The caller knows that there is one subflow and that its data is contiguous. */
  fallBack(_nowUs: Micros, why: string): void {
    if (this.mode === 'tcp') return;
    this.host.count('MPTcpExtMPFallback');
    this.becomeTcp(why);
    this.host.emit({ type: 'fallback', connectionId: this.id, why });
    this.host.markDirty(this);
  }

  /**
   * Our data is acknowledged but never DATA_ACKed: plain TCP, and the peer, who may still see our options, learns it by
   * an infinite mapping on the next data (3.7).
   */
  fallBackTelling(nowUs: Micros, why: string): void {
    if (this.mode !== 'mptcp' || this.infiniteMapping !== 'none') return;
    if (this.sender.unsentBytes <= 0) {
      this.fallBack(nowUs, why);
      return;
    }
    this.fallbackReason = why;
    this.infiniteMapping = 'due';
    this.sender.windowEdge = NEVER;
    this.host.count('MPTcpExtMPFallback');
    this.host.emit({ type: 'fallback', connectionId: this.id, why });
    this.host.markDirty(this);
  }

  /** A mapping's checksum is wrong: reset the subflow, or with a single one go on without MPTCP (3.7). */
  onChecksumFailure(nowUs: Micros, sf: MptcpSubflow, m: InboundMapping, bytes: Uint8Array): void {
    const isContiguous = this.subflowsEver === 1 && m.dsn <= this.receiver.rcvNxt;
    if (this.subflows.length > 1 || !isContiguous) {
      sf.failDsn = m.dsn;
      this.resetSubflow(nowUs, sf, RST_REASON.middlebox);
      return;
    }
    sf.signal(nowUs, {
      kind: 'fail',
      dsnHi: dsnHi(m.dsn, this.keys.idsnRemote),
      dsnLo: dsnLo(m.dsn, this.keys.idsnRemote),
    });
    sf.mappings.setInfinite(m.ssn, m.dsn);
    this.receiver.accept(m.dsn, bytes, 0, m.lengthBytes);
    this.infiniteMapping = 'due';
  }

  private onFail(nowUs: Micros, sf: MptcpSubflow, o: MptcpOptions): void {
    this.host.count('MPTcpExtMPFailRx');
    const dsn = relativeDsn(o.failDsnHi, o.failDsnLo, this.keys.idsnLocal);
    if (this.subflows.length > 1 || this.subflowsEver > 1 || !(dsn <= this.sender.sndNxt)) return;
    if (this.infiniteMapping !== 'none') return;
    this.infiniteMapping = 'due';
    // The other direction reverts too (3.7).
    const next = this.receiver.rcvNxt;
    sf.signal(nowUs, {
      kind: 'fail',
      dsnHi: dsnHi(next, this.keys.idsnRemote),
      dsnLo: dsnLo(next, this.keys.idsnRemote),
    });
  }

  /** The next new data after MP_FAIL carries an infinite mapping (DLL 0, checksum 0), the last option we ever send. */
  takeInfiniteMapping(mapping: OutboundMapping): OutboundMapping {
    if (this.infiniteMapping !== 'due' || mapping.isReinjection) return mapping;
    this.infiniteMapping = 'sent';
    this.fallbackReason ??= 'checksum failure';
    this.host.count('MPTcpExtInfiniteMapTx');
    return { ...mapping, dll: 0, checksum: this.keys.checksums ? 0 : -1 };
  }

  // ---- Closing -------------------------------------------------------------------------------------------------

  onFastclose(nowUs: Micros, keyHi: number, keyLo: number): void {
    this.host.count('MPTcpExtMPFastcloseRx');
    if (!this.keys.isFastcloseKey(keyHi, keyLo) || this.didClose) return;
    for (const sf of this.subflows) sf.tcp.abort(nowUs, true);
    this.finish('fastclose received');
  }

  onSubflowFin(nowUs: Micros, sf: MptcpSubflow): void {
    if (this.mode === 'tcp') {
      this.receiver.setFin(this.receiver.rcvNxt);
      this.closeIfDone(nowUs);
      return;
    }
    // A FIN ends this subflow only (3.3.3).
    if (!sf.isClosing) this.reinjectFrom(sf);
    sf.isClosing = true;
    sf.tcp.sendFin(nowUs);
    this.host.markDirty(this);
  }

  onSubflowClosed(nowUs: Micros, sf: MptcpSubflow, why: CloseReason): void {
    if (why !== 'done') this.reinjectFrom(sf);
    const text = sf.resetReason > 0 && why === 'reset' ? `reset (reason ${sf.resetReason})` : why;
    this.host.emit({
      type: 'subflow-closed',
      connectionId: this.id,
      subflowId: sf.id,
      linkId: sf.flow.linkId,
      why: text,
    });
    const isAlive = this.subflows.some((other) => other.closeReason === null);
    if (!isAlive && !this.didClose) {
      if (this.mode !== 'mptcp') this.finish(why === 'done' && this.isComplete ? 'done' : text);
      else this.orphanAtUs = nowUs + ORPHAN_TIMEOUT_US;
    }
    this.host.markDirty(this);
  }

  private get isComplete(): boolean {
    return this.receiver.isFinished && (this.sender.finAcked || this.mode === 'tcp');
  }

  /** Both DATA_FINs are acknowledged: the subflows close with FINs (3.3.3). */
  private closeIfDone(nowUs: Micros): void {
    if (this.didClose || !this.receiver.isFinished || !this.sender.finAcked || this.mode !== 'mptcp') return;
    for (const sf of this.subflows) {
      sf.isClosing = true;
      sf.tcp.sendFin(nowUs);
    }
    this.finish('done');
  }

  private finish(why: string): void {
    if (this.didClose) return;
    this.didClose = true;
    this.state = 'closed';
    this.closeReason = why;
    this.orphanAtUs = NEVER;
    this.dataRtoAtUs = NEVER;
    this.sender.reinjections.clear();
    this.host.emit({ type: 'connection-closed', connectionId: this.id, why });
    this.host.markDirty(this);
  }

  /** Drops subflows that have nothing left to say, and the connection with the last of them. */
  private sweep(nowUs: Micros): void {
    this.polledAtUs = nowUs;
    for (let i = this.subflows.length - 1; i >= 0; i--) {
      const sf = this.subflows[i]!;
      if (sf.tcp.state !== 'closed' || (sf.tcp.hasWork(nowUs) && !sf.isLinkDown)) continue;
      this.subflows.splice(i, 1);
      this.host.unregister(sf);
    }
    if (this.didClose && this.subflows.length === 0) this.host.forget(this);
  }

  private signalPath(): MptcpSubflow | null {
    let best: MptcpSubflow | null = null;
    for (const sf of this.subflows) {
      if (!sf.isConfirmed || !sf.tcp.isEstablished || sf.isLinkDown) continue;
      if (best === null || (best.isStalled && !sf.isStalled)) best = sf;
    }
    return best;
  }

  subflow(subflowId: number): MptcpSubflow | undefined {
    return this.subflows.find((sf) => sf.id === subflowId);
  }

  private emitSubflow(sf: MptcpSubflow, type: 'subflow-established'): void {
    this.host.emit({ type, connectionId: this.id, subflowId: sf.id, linkId: sf.flow.linkId });
  }
}

const NO_BYTES = new Uint8Array(0);

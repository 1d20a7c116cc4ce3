/**
 * One MPTCP connection (RFC 8684), which after a fallback is one TCP connection: what applications hold (ConnectionApi), the
 * engine drives, and subflows report to. It puts the parts together and owns their order. Read first: RFC 8684 3.1 to 3.8;
 * then, beside this file, by concern: handshake.ts, joining.ts, subflow.ts; sender.ts, dispatch.ts, reinjector.ts,
 * data-rto.ts; receiver.ts; path-health.ts, leaving.ts, doubts.ts, harm-watch.ts; address-signals.ts; fallback.ts; closing.ts.
 *
 * Per poll (engine flush): each subflow sends its own affairs (handshake, retransmissions, ACKs, signals), then the
 * dispatcher spreads new and reinjected data, then the DATA_FIN, then whatever is over is dropped.
 */

import type { IpAddress } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import { Coupling } from '../congestion/coupling.js';
import type {
  ByteReader,
  ConnectionApi,
  ConnectionInfo,
  ConnectionState,
  Endpoint,
  ExportedKeys,
  JoinOptions,
  LinkInfo,
  SynVerdict,
} from '../engine/api.js';
import type { AnsweredSyn } from '../tcp/answered-syn.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { OptionVerdict, SendUnit } from '../tcp/owner.js';
import type { RateLimit } from '../tcp/rate-limit.js';
import { MPO, type MptcpOptions, RST_REASON } from '../wire/mptcp-options.js';
import { optionLength, type SegmentView } from '../wire/segment.js';
import { OPT_FAST_OPEN } from '../wire/tcp.js';
import { AddressSignals } from './address-signals.js';
import { AddressBook } from './addresses.js';
import { Closing } from './closing.js';
import { Copies } from './copies.js';
import { DataRto } from './data-rto.js';
import { Dispatcher } from './dispatch.js';
import { Doubts } from './doubts.js';
import { Fallback } from './fallback.js';
import { FastClose } from './fast-close.js';
import * as handshake from './handshake.js';
import { HarmWatch } from './harm-watch.js';
import type { ConnectionHost } from './host.js';
import { connectionInfo } from './info.js';
import type { JoinRequest } from './join-requests.js';
import * as joining from './joining.js';
import { KeyPair } from './key-pair.js';
import { Leaving } from './leaving.js';
import { NumberSizes } from './number-sizes.js';
import { updateDataAcks } from './options-out.js';
import { PathHealth } from './path-health.js';
import { FIRST_RECEIVE_BUFFER_BYTES, ReceiveWindow } from './receive-window.js';
import { DataReceiver } from './receiver.js';
import { Reinjector } from './reinjector.js';
import { DataSender } from './sender.js';
import { Silence } from './silence.js';
import { MptcpSubflow, type SubflowSide } from './subflow.js';

/**
 * Data behind a SYN/ACK has a mapping and no DATA_ACK, since the peer's key is not known yet (RFC 8684 B.3 has one). Linux 6.18
 * takes that for a stripped handshake and falls back. So an MPTCP peer gets it only if its SYN had, beside data, an empty
 * Fast Open option, as those of ours have.
 */
const EARLY_OPTION_BYTES = 2;
/** The option, for ConnectOptions.synOptions. */
export const TAKES_EARLY_DATA = Uint8Array.of(OPT_FAST_OPEN, EARLY_OPTION_BYTES);

export interface ConnectionSettings {
  readonly side: SubflowSide;
  readonly mptcp: boolean;
  /** We ask for DSS checksums (or the SYN that we answer does) / we want no MPTCP with them (RFC 8684 3.1, flag A). */
  readonly checksum: boolean;
  readonly refusesChecksums: boolean;
  /** The peer may join to the address and port of the initial subflow (3.1, flag C not set). */
  readonly joinInitial: boolean;
  readonly congestion: string | undefined;
  readonly scheduler: string | undefined;
  readonly receiveBufferBytes: number;
  readonly maxSubflows: number;
  readonly flow: FlowTuple;
  /** Our key where a SYN cookie has told it already; else a fresh one is drawn. */
  readonly localKey?: Uint8Array;
  /** As in ConnectOptions. */
  readonly synData?: Uint8Array;
  readonly synOptions?: Uint8Array;
}

export class Connection implements ConnectionApi {
  /** 'pending' until the handshake decides; 'tcp' is final (RFC 8684 3.7: a fallback is never undone). */
  mode: 'pending' | 'mptcp' | 'tcp';
  state: ConnectionState = 'connecting';
  readonly remote: Endpoint;
  readonly keys: KeyPair;
  readonly sender = new DataSender();
  readonly receiver: DataReceiver;
  readonly receiveWindow: ReceiveWindow;
  readonly numbers = new NumberSizes();
  readonly subflows: MptcpSubflow[] = [];
  readonly addresses = new AddressBook();
  readonly dispatcher: Dispatcher;
  readonly reinjector = new Reinjector(this);
  readonly copies = new Copies(this);
  readonly dataRto = new DataRto(this);
  readonly health = new PathHealth(this);
  readonly doubts = new Doubts(this);
  private readonly leaving = new Leaving(this);
  readonly silence = new Silence(this);
  readonly harm = new HarmWatch(this);
  readonly addressSignals = new AddressSignals(this);
  readonly fallback = new Fallback(this);
  readonly closing = new Closing(this);
  readonly fastClose = new FastClose(this);
  /** Where the subflows' coupled congestion controllers see each other (RFC 6356). */
  readonly coupling = new Coupling();
  /** Another subflow than the first has been in use: data may have gone two ways, and a fallback is impossible (3.7). */
  hasJoined = false;
  /** The peer has shown that it has our key (a DSS or another option arrived): MP_CAPABLE need not be repeated. */
  isProven = false;
  /** The keys went out on an ACK, and no DATA_FIN since. */
  areKeysSent = false;
  /** A mapping or DATA_ACK has come through: further subflows may be opened (3.1). */
  hasReceivedDss = false;
  /** SYNs of the initial subflow so far (they lose MP_CAPABLE after some, RFC 8684 3.9.3). */
  synsSent = 0;
  /** C flag received: no joins to the initial address and port (3.1). */
  isInitialAddressClosed = false;
  /** The peer may open further subflows. */
  takesJoins = true;
  isAborting = false;
  synBytesAcked = -1;
  synAckOptions: Uint8Array | null = null;
  icmpCode = -1;
  /** Data of ours may go before the handshake is complete, if the SYN's was taken. */
  private mayAnswerEarly = false;
  private nextSubflowId = 0;
  /** 0: no keepalives. */
  private keepAliveIdleUs: Micros = 0;
  private lowWaterBytes = 0;
  private onSpace: (() => void) | null = null;

  constructor(
    readonly id: number,
    readonly host: ConnectionHost,
    readonly settings: ConnectionSettings,
  ) {
    this.mode = settings.mptcp ? 'pending' : 'tcp';
    this.remote = { address: settings.flow.remoteAddress, port: settings.flow.remotePort };
    this.keys = new KeyPair(host.env, host.newKey(this));
    this.keys.checksums = settings.checksum;
    this.receiver = new DataReceiver(Math.min(FIRST_RECEIVE_BUFFER_BYTES, settings.receiveBufferBytes));
    this.receiveWindow = new ReceiveWindow(this, settings.receiveBufferBytes);
    this.dispatcher = new Dispatcher(this, host.scheduler(settings.scheduler));
    this.addresses.setInitial(settings.flow.localAddress, this.remote);
    if (this.mode === 'tcp') this.fallback.becomeTcp(0, 'MPTCP not asked for');
  }

  // ---- ConnectionApi: bytes ------------------------------------------------------------------------------------

  get isMptcp(): boolean {
    return this.mode === 'mptcp' && !this.fallback.isUnderWay;
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

  hasPendingFor(sf: MptcpSubflow): boolean {
    return this.hasPendingData || (this.copies.areWanted && this.copies.pendingBytes(sf) > 0);
  }

  get deliveryRateBytesPerS(): number {
    let regular = 0;
    let backup = 0;
    for (const sf of this.subflows) {
      if (!sf.isUsable || sf.isStalled || this.harm.isSetAside(sf)) continue;
      if (sf.isBackup) backup += sf.tcp.deliveryRateBytesPerS;
      else regular += sf.tcp.deliveryRateBytesPerS;
    }
    return regular > 0 ? regular : backup;
  }

  write(_nowUs: Micros, bytes: Uint8Array): void {
    if (this.sender.finDsn >= 0 || this.state === 'closed') return;
    this.sender.buffer.append(bytes);
    this.host.markDirty(this);
  }

  setSendSpace(lowWaterBytes: number, onSpace: () => void): void {
    this.lowWaterBytes = lowWaterBytes;
    this.onSpace = onSpace;
  }

  setReader(reader: ByteReader): void {
    this.receiver.setReader(reader);
  }

  resume(nowUs: Micros): void {
    this.receiver.resume();
    this.receiveWindow.announce(nowUs);
  }

  end(_nowUs: Micros): void {
    this.sender.end();
    if (this.state === 'established') this.state = 'closing';
    this.host.markDirty(this);
  }

  abort(nowUs: Micros, how: 'rst' | 'ack' = 'rst'): void {
    if (this.state === 'closed') return;
    if (how === 'ack' && this.mode === 'mptcp' && this.fastClose.start(nowUs)) return;
    this.isAborting = true;
    for (const sf of this.subflows) {
      // Linux says so too: the RST is the end host's and not a middlebox's (3.6).
      if (this.mode === 'mptcp') sf.resetReason = RST_REASON.unspecified;
      sf.tcp.abort(nowUs, true);
    }
    this.closing.finish('aborted');
  }

  setKeepAlive(_nowUs: Micros, idleUs: Micros): void {
    this.keepAliveIdleUs = idleUs;
    for (const sf of this.subflows) sf.tcp.setKeepAlive(idleUs > 0, idleUs > 0 ? idleUs : undefined);
    this.host.markDirty(this);
  }

  setScheduler(name: string): void {
    // What a scheduler has learned of the paths is not thrown away for nothing.
    if (this.dispatcher.scheduler.name === name) return;
    const hadCopies = this.copies.areWanted;
    this.dispatcher.scheduler = this.host.scheduler(name);
    if (hadCopies && !this.copies.areWanted) this.copies.finish();
    this.host.markDirty(this);
  }

  info(): ConnectionInfo {
    return connectionInfo(this);
  }

  useExportedKeys(nowUs: Micros, keys: ExportedKeys): void {
    this.keys.useExported(keys);
    this.addressSignals.onKeysReplaced(nowUs);
    for (const sf of this.subflows) if (sf.role === 'join') this.resetSubflow(nowUs, sf, RST_REASON.prohibited);
  }

  // ---- Opening -------------------------------------------------------------------------------------------------

  /** The initial subflow by a SYN that was answered with a cookie; null: the four-tuple is taken. */
  openAnswered(nowUs: Micros, answered: AnsweredSyn): MptcpSubflow | null {
    const { side, flow, congestion } = this.settings;
    const sf = this.addSubflow(nowUs, 'initial', side, flow, congestion, answered);
    sf?.tcp.acceptAnswered(nowUs, answered);
    return sf;
  }

  /** The initial subflow: `syn` given answers it (as the listener wants it), else we connect. */
  open(nowUs: Micros, syn: SegmentView | null, verdict: SynVerdict = 'answer'): boolean {
    const sf = this.addSubflow(nowUs, 'initial', this.settings.side, this.settings.flow, this.settings.congestion);
    if (sf === null) return false;
    const { synData } = this.settings;
    if (syn === null) sf.tcp.connect(nowUs, synData);
    else {
      const isTaken = verdict === 'take' || verdict === 'hold';
      this.mayAnswerEarly = this.mode === 'tcp' || optionLength(syn, OPT_FAST_OPEN) === EARLY_OPTION_BYTES;
      if (isTaken) this.receiver.takeSynData(syn.buf, syn.payloadOff, syn.payloadLen);
      sf.tcp.accept(nowUs, syn, isTaken, verdict === 'hold');
    }
    this.host.markDirty(this);
    return true;
  }

  answerSyn(_nowUs: Micros): void {
    this.subflows[0]?.tcp.answerSyn();
    this.host.markDirty(this);
  }

  /** Where the SYN's data was taken, ours follows the SYN/ACK at once (RFC 7413 3, RFC 8684 B.3). */
  onSynAnswered(sf: MptcpSubflow): void {
    if (!this.mayAnswerEarly) return;
    sf.isEarly = true;
    if (this.mode === 'pending') this.sender.windowEdge = this.sender.sndUna + sf.tcp.sndWndBytes;
  }

  join(nowUs: Micros, options: JoinOptions): number {
    return joining.join(nowUs, this, options);
  }

  /** The third packet of a join that the engine answered (join-requests.ts). Null: refuse it. */
  acceptJoin(nowUs: Micros, request: JoinRequest): MptcpSubflow | null {
    return joining.acceptJoin(nowUs, this, request);
  }

  /** Null: the four-tuple is taken. */
  addSubflow(
    nowUs: Micros,
    role: 'initial' | 'join',
    side: SubflowSide,
    flow: FlowTuple,
    congestion: string | undefined,
    answered?: AnsweredSyn,
  ): MptcpSubflow | null {
    const config = this.host.subflowConfig(nowUs, flow, congestion, this.coupling);
    const isn = answered?.iss ?? this.host.isn(nowUs, flow);
    const sf = new MptcpSubflow(this, this.nextSubflowId, role, side, flow, config, isn);
    if (!this.host.register(sf)) {
      this.coupling.leave(sf.tcp.cc);
      return null;
    }
    if (this.mode === 'tcp') sf.mappings.setInfinite(0, 0);
    if (this.keepAliveIdleUs > 0) sf.tcp.setKeepAlive(true, this.keepAliveIdleUs);
    this.nextSubflowId++;
    this.subflows.push(sf);
    this.closing.onSubflowAdded();
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

  onInitialEstablished(): void {
    if (this.state !== 'connecting') return;
    this.state = this.sender.finDsn >= 0 ? 'closing' : 'established';
    const sf = this.subflows[0]!;
    const { synData } = this.settings;
    if (synData !== undefined) {
      // What the peer left is sent as if there had been no Fast Open (RFC 8684 B.3).
      this.synBytesAcked = sf.tcp.synBytesAcked;
      this.sender.prepend(synData.subarray(this.synBytesAcked));
    }
    this.sender.windowEdge = this.mode === 'tcp' ? NEVER : this.sender.sndUna + sf.tcp.sndWndBytes;
    this.host.emit({ type: 'connection-established', connectionId: this.id, isMptcp: this.isMptcp });
    this.emitSubflow(sf, 'subflow-established');
    this.onEstablished?.(this);
  }

  /** Set by the engine for accepted connections. */
  onEstablished: ((connection: Connection) => void) | null = null;

  /** The peer has our keys: data needs no room for them. */
  onProven(): void {
    this.isProven = true;
    this.refreshMss();
  }

  /** The options of data segments have another length now. */
  refreshMss(): void {
    for (const sf of this.subflows) sf.tcp.refreshMss();
  }

  onJoinConfirmed(sf: MptcpSubflow): void {
    if (sf.isConfirmed) return;
    sf.isConfirmed = true;
    this.hasJoined = true;
    sf.join.ackAtUs = NEVER;
    this.emitSubflow(sf, 'subflow-established');
    this.host.markDirty(this);
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  poll(nowUs: Micros): void {
    this.runTimers(nowUs);
    this.health.check(nowUs);
    this.doubts.check(nowUs);
    if (this.mode === 'mptcp') this.silence.check(nowUs);
    this.harm.check(nowUs);
    updateDataAcks(this);
    for (const sf of this.subflows) {
      if (sf.isLinkDown) continue;
      if (sf.priority.checkAtUs <= nowUs) sf.priority.check(nowUs);
      if (sf.signalAtUs <= nowUs) sf.pumpSignals(nowUs);
      if (sf.join.ackAtUs <= nowUs) handshake.pumpJoin(nowUs, sf);
    }
    this.closing.pumpDataFin(nowUs);
    this.closing.pumpSubflowFins(nowUs);
    for (const sf of this.subflows) {
      if (sf.isLinkDown) continue;
      const isDue = sf.tcp.hasWork(nowUs) || sf.tcp.nextDeadline() <= nowUs;
      if (isDue) sf.tcp.pollTransmit(nowUs, this.host.sink(sf.flow.linkId));
    }
    if (this.state !== 'closed') {
      this.reinjector.unblock(nowUs);
      this.leaving.check(nowUs);
      this.dispatcher.run(nowUs);
      if (this.numbers.onSent(nowUs, this.sender.sndNxt)) this.refreshMss();
      this.fallback.finish(nowUs);
      if (this.onSpace !== null && this.unsentBytes <= this.lowWaterBytes && this.canWrite) this.onSpace();
      this.closing.pumpDataFin(nowUs);
    }
    this.sweep(nowUs);
  }

  onTimer(_nowUs: Micros): void {
    this.host.markDirty(this);
  }

  private runTimers(nowUs: Micros): void {
    for (const sf of this.subflows) if (!sf.isLinkDown && sf.tcp.nextDeadline() <= nowUs) sf.tcp.onTimer(nowUs);
    this.addressSignals.onTimer(nowUs);
    if (this.dataRto.deadlineUs <= nowUs) this.dataRto.onTimer(nowUs);
    this.closing.onTimer(nowUs);
    this.fastClose.onTimer(nowUs);
  }

  nextDeadline(): Micros {
    const { dispatcher, addressSignals, closing, fastClose, dataRto } = this;
    let at = Math.min(
      dispatcher.nextDeadline(),
      addressSignals.nextDeadline(),
      closing.nextDeadline(),
      fastClose.nextDeadline(),
      dataRto.deadlineUs,
      this.mode === 'mptcp' ? this.silence.nextDeadline() : NEVER,
      this.state !== 'closed' ? this.leaving.deadlineUs : NEVER,
    );
    for (const sf of this.subflows) {
      // Without its link a subflow stands still, clocks included; `kick` wakes it.
      if (sf.isLinkDown) continue;
      at = Math.min(at, sf.tcp.nextDeadline(), sf.signalAtUs, sf.priority.checkAtUs, sf.join.ackAtUs);
      if (this.mode === 'mptcp' && this.state !== 'closed')
        at = Math.min(at, this.health.nextDeadline(sf), this.doubts.nextDeadline(sf));
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
    if (this.mode !== 'mptcp') return;
    const { sndUna } = this.sender;
    // Once falling back only subflow ACKs free the buffer (3.7); a DATA_FIN that ends it all has no other answer.
    if (this.fallback.isUnderWay && dataAck !== this.sender.finDsn + 1) return;
    if (!(dataAck >= 0) || !this.sender.onDataAck(nowUs, dataAck)) {
      this.host.count('drop_data_ack_implausible');
      return;
    }
    this.dataRto.onDataAck(nowUs, sndUna);
    // Only a growing right edge counts: ACKs of several subflows overtake one another (3.3.5).
    this.sender.windowEdge = Math.max(this.sender.windowEdge, dataAck + windowBytes);
    this.dataRto.restart(nowUs, dataAck > sndUna);
    if (this.sender.finAcked) this.closing.closeIfDone(nowUs);
  }

  /** After a fallback: bytes below `dsn` are acknowledged at subflow level. */
  onDataAcked(nowUs: Micros, dsn: number): void {
    this.sender.onDataAck(nowUs, dsn);
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  afterSegment(nowUs: Micros, sf: MptcpSubflow): void {
    this.health.onSegment(nowUs, sf);
    if (sf.lateAtUs !== NEVER) this.reinjector.onProgress(sf);
    this.receiveWindow.grow(nowUs);
    this.host.markDirty(this);
  }

  onDsnReceived(dsnBytes: number, dsn: number, endDsn: number): void {
    if (this.numbers.onReceived(dsnBytes, dsn, endDsn, this.receiver.capacityBytes)) this.refreshMss();
  }

  onSignals(nowUs: Micros, sf: MptcpSubflow, o: MptcpOptions): OptionVerdict {
    if ((o.present & MPO.addAddr) !== 0) this.addressSignals.onAddAddr(nowUs, sf, o);
    if ((o.present & MPO.removeAddr) !== 0) this.addressSignals.onRemoveAddr(nowUs, o.removeIds);
    if ((o.present & MPO.prio) !== 0) {
      this.host.count('MPTcpExtMPPrioRx');
      sf.isRemoteBackup = o.prioBackup;
      this.host.emit({ type: 'priority', connectionId: this.id, subflowId: sf.id, backup: o.prioBackup });
    }
    if ((o.present & MPO.fail) !== 0 && !this.fallback.onFail(nowUs, sf, o)) {
      sf.resetReason = RST_REASON.middleboxInterference;
      return 'reset';
    }
    if ((o.present & MPO.fastclose) !== 0) this.closing.onFastclose(nowUs, o.fastcloseKeyHi, o.fastcloseKeyLo, null);
    return this.isAborting ? 'drop' : 'continue';
  }

  // ---- Paths ---------------------------------------------------------------------------------------------------

  announce(nowUs: Micros, endpoint: { address: IpAddress; port?: number }): number {
    return this.addressSignals.announce(nowUs, endpoint.address, endpoint.port ?? -1);
  }

  withdraw(nowUs: Micros, ...addressIds: readonly number[]): void {
    this.addressSignals.withdraw(nowUs, addressIds);
  }

  setBackup(nowUs: Micros, subflowId: number, backup: boolean): void {
    const sf = this.subflow(subflowId);
    if (sf === undefined || sf.isBackupWanted === backup) return;
    sf.isBackupWanted = backup;
    if (this.mode === 'mptcp') sf.priority.say(nowUs);
  }

  limitSubflow(_nowUs: Micros, subflowId: number, limit: RateLimit | null): void {
    this.subflow(subflowId)?.tcp.setRateLimit(limit);
    this.host.markDirty(this);
  }

  setCongestion(_nowUs: Micros, subflowId: number, name: string): void {
    const tcp = this.subflow(subflowId)?.tcp;
    if (tcp === undefined || tcp.cc.name === name) return;
    this.coupling.leave(tcp.cc);
    tcp.setController(this.host.controller(name));
    this.host.markDirty(this);
  }

  setLocalBackup(_nowUs: Micros, subflowId: number, backup: boolean): void {
    const sf = this.subflow(subflowId);
    if (sf !== undefined) sf.isLocalBackup = backup;
    this.host.markDirty(this);
  }

  setTakesJoins(takesJoins: boolean): void {
    this.takesJoins = takesJoins;
  }

  closeSubflow(nowUs: Micros, subflowId: number, how: 'fin' | 'reset'): void {
    const sf = this.subflow(subflowId);
    if (sf === undefined || sf.isClosing) return;
    if (how === 'reset') {
      this.resetSubflow(nowUs, sf, sf.isStalled ? RST_REASON.unacceptablePerformance : RST_REASON.prohibited);
      return;
    }
    this.closing.endSubflow(nowUs, sf);
    this.host.markDirty(this);
  }

  onLinkState(nowUs: Micros, linkId: number, isUp: boolean): void {
    this.health.onLinkState(nowUs, linkId, isUp);
  }

  onLinkChanged(link: LinkInfo): void {
    for (const sf of this.subflows) if (sf.flow.linkId === link.id) sf.tcp.onMtuChange(link.mtuBytes);
  }

  suspectSubflow(nowUs: Micros, subflowId: number, why: string): void {
    const sf = this.subflow(subflowId);
    if (sf !== undefined) this.health.suspect(nowUs, sf, why);
  }

  resetSubflow(nowUs: Micros, sf: MptcpSubflow, reason: number): void {
    sf.resetReason = reason;
    this.reinjector.takeFrom(sf);
    if (sf.isLinkDown) this.addressSignals.abandon(nowUs, sf);
    sf.tcp.abort(nowUs, true);
    this.host.markDirty(this);
  }

  /** Drops subflows that have nothing left to say, and the connection with the last of them. */
  private sweep(nowUs: Micros): void {
    this.health.onPolled(nowUs);
    for (let i = this.subflows.length - 1; i >= 0; i--) {
      const sf = this.subflows[i]!;
      if (sf.tcp.state !== 'closed' || (sf.tcp.hasWork(nowUs) && !sf.isLinkDown)) continue;
      this.subflows.splice(i, 1);
      this.host.unregister(sf);
    }
    if (this.closing.isDone && this.subflows.length === 0) this.host.forget(this);
  }

  subflow(subflowId: number): MptcpSubflow | undefined {
    return this.subflows.find((sf) => sf.id === subflowId);
  }

  private emitSubflow(sf: MptcpSubflow, type: 'subflow-established'): void {
    this.host.emit({ type, connectionId: this.id, subflowId: sf.id, linkId: sf.flow.linkId });
  }
}

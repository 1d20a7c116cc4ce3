/**
 * One subflow of a connection: the owner of a TcpSubflow (see tcp/owner.ts). Here live the MPTCP options of its segments
 * in both directions, and the way from subflow bytes to data bytes. Whatever concerns several subflows is in
 * connection.ts; the handshakes are in handshake.ts.
 */
import { dsnHi, dsnLo, relativeDsn, unwrap32 } from '../base/seq.js';
import { type Micros, NEVER } from '../base/time.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { CloseReason, OptionVerdict, SegmentKind, SendUnit, SubflowOwner } from '../tcp/owner.js';
import { type SubflowConfig, TcpSubflow } from '../tcp/subflow.js';
import {
  dssBytes,
  FAIL_BYTES,
  FASTCLOSE_BYTES,
  MPO,
  TCPRST_BYTES,
  writeDss,
  writeFail,
  writeFastclose,
  writeTcprst,
} from '../wire/mptcp-options.js';
import { type SegmentView, TCP_ACK, TCP_RST, TCP_SYN } from '../wire/segment.js';
import { ChecksumAssembly } from './checksum-assembly.js';
import type { Connection } from './connection.js';
import * as handshake from './handshake.js';
import { dssChecksumRange } from './keys.js';
import { type InboundMapping, ReceiveMappings } from './receive-mapping.js';
import type { OutboundMapping } from './send-buffer.js';
import { SignalQueue, signalCounter } from './signals.js';

/** Reasons of MP_TCPRST (RFC 8684 3.6). */
export const RST_REASON = {
  unspecified: 0,
  mptcp: 1,
  resources: 2,
  prohibited: 3,
  outstanding: 4,
  performance: 5,
  middlebox: 6,
} as const;

/** Option bytes on a data segment: DSS with 64-bit DATA_ACK and DSN (26, padded), or with checksum (28). */
const DATA_OPTION_BYTES = 28;
/** Widest gap between two signals on one subflow: at most two duplicate ACKs in a row (RFC 8684 4). */
const SIGNAL_GAP_US: Micros = 5_000;
/** Each ACK of so many first bytes of a subflow carries a DATA_ACK. */
const ALWAYS_DATA_ACK_BYTES = 65_536;
/**
 * Bytes that may wait for their mapping while there are other subflows to turn to: a mapping covers less than 64 KB, so
 * this is several mappings lost at once. (With one subflow the whole window may wait, RFC 8684 3.3.1.)
 */
const MAX_UNMAPPED_BYTES = 262_144;

export type SubflowRole = 'initial' | 'join';
export type SubflowSide = 'active' | 'passive';

export class MptcpSubflow implements SubflowOwner {
  readonly tcp: TcpSubflow;
  localAddressId = 0;
  remoteAddressId = 0;
  /** Data may flow: the initial subflow from the handshake on, a join after its fourth packet (RFC 8684 3.2). */
  isConfirmed = false;
  /** We keep our own data off it / we asked the peer to / the peer asked us to (RFC 8684 3.3.8). */
  isLocalBackup = false;
  isBackupWanted = false;
  isRemoteBackup = false;
  /** No progress while bytes are outstanding, or the driver says that the link is gone. */
  isStalled = false;
  stalledAtUs: Micros = 0;
  stallReason = '';
  isLinkDown = false;
  /** We or the peer are ending this subflow: no new data. */
  isClosing = false;
  bytesReinjected = 0;
  /** MP_JOIN material (handshake.ts). */
  readonly join = new handshake.JoinState();
  /** What a RST that we send now says (RFC 8684 3.6), -1: no MP_TCPRST. */
  resetReason = -1;
  /** MP_FAIL to send with the RST: relative DSN, -1 none. */
  failDsn = -1;
  readonly signals = new SignalQueue();
  signalAtUs: Micros = NEVER;
  /** A DSS that carries our DATA_FIN is due on this subflow's next ACK. */
  isFinDue = false;
  closeReason: CloseReason | null = null;

  readonly mappings = new ReceiveMappings();
  /** A DSS mapping, a DATA_ACK has been seen here: later bare segments are not a stripped handshake. */
  private sawMapping = false;
  private sawDataAck = false;
  /** Mapping of the segment in hand (relative), and the last one stored: the same one repeats on every segment. */
  private currentSsn = 0;
  private currentDsn = 0;
  private currentLength = 0;
  private lastStoredSsn = -1;
  private readonly assemblies = new Map<number, ChecksumAssembly>();
  private lastDataAckSent = 0;
  private didDeliver = false;

  constructor(
    readonly connection: Connection,
    readonly id: number,
    readonly role: SubflowRole,
    readonly side: SubflowSide,
    readonly flow: FlowTuple,
    config: SubflowConfig,
    isn: number,
  ) {
    this.tcp = new TcpSubflow(connection.host.env, this, flow, config, isn);
  }

  /** New data may be scheduled here (window, cwnd and pacing aside). */
  get isUsable(): boolean {
    return this.isConfirmed && !this.isClosing && !this.isLinkDown && this.tcp.canSendData;
  }

  get isBackup(): boolean {
    return this.isRemoteBackup || this.isLocalBackup;
  }

  // ---- Options out ---------------------------------------------------------------------------------------------

  dataOptionBytes(): number {
    return this.connection.mode === 'tcp' ? 0 : DATA_OPTION_BYTES;
  }

  writeOptions(
    _sf: TcpSubflow,
    kind: SegmentKind,
    _seq: number,
    _lengthBytes: number,
    tag: unknown,
    out: Uint8Array,
    o: number,
    roomBytes: number,
  ): number {
    const c = this.connection;
    if (kind === 'rst') return this.writeResetOptions(out, o, roomBytes);
    if (kind === 'syn' || kind === 'synack') return handshake.writeSynOptions(this, kind, out, o, roomBytes);
    if (c.mode !== 'mptcp') return o;
    const mapping = tag as OutboundMapping | null;
    if (handshake.isProving(this, mapping)) return handshake.writeProof(this, mapping, out, o, roomBytes);
    if (mapping !== null) return this.writeMapping(mapping, out, o, roomBytes);
    return this.writeAckOptions(out, o, roomBytes);
  }

  private writeMapping(m: OutboundMapping, out: Uint8Array, o: number, roomBytes: number): number {
    const c = this.connection;
    const hasChecksum = m.checksum >= 0;
    const ackBytes = dssBytes(8, 8, hasChecksum) <= roomBytes ? 8 : 0;
    if (ackBytes === 0 && dssBytes(0, 8, hasChecksum) > roomBytes) return o;
    const ack = c.receiver.rcvNxt;
    if (ackBytes > 0) this.noteDataAckSent(ack);
    // An infinite mapping says DLL 0 and checksum 0 (RFC 8684 3.3.1).
    const { idsnLocal, idsnRemote } = c.keys;
    return writeDss(
      out,
      o,
      ackBytes,
      dsnHi(ack, idsnRemote),
      dsnLo(ack, idsnRemote),
      8,
      dsnHi(m.dsn, idsnLocal),
      dsnLo(m.dsn, idsnLocal),
      m.ssn,
      m.dll,
      m.checksum,
      false,
    );
  }

  private writeAckOptions(out: Uint8Array, start: number, roomBytes: number): number {
    const c = this.connection;
    let o = start;
    const signal = this.signals.first;
    if (signal !== undefined && signal.kind === 'add-addr' && !signal.option.echo) {
      c.host.count('MPTcpExtAddAddrAttempt');
    }
    const end = this.signals.writeFirst(out, o, roomBytes);
    if (end > o && signal !== undefined) c.host.count(signalCounter(signal));
    o = end;
    const room = roomBytes - (o - start);
    const ack = c.receiver.rcvNxt;
    const { idsnLocal, idsnRemote } = c.keys;
    const checksum = c.keys.checksums ? c.closing.finChecksum() : -1;
    if (this.isFinDue && dssBytes(8, 8, checksum >= 0) <= room) {
      // DATA_FIN alone: SSN 0, DLL 1, its own DSN (RFC 8684 3.3.3).
      this.isFinDue = false;
      this.noteDataAckSent(ack);
      const fin = c.sender.finDsn;
      return writeDss(
        out,
        o,
        8,
        dsnHi(ack, idsnRemote),
        dsnLo(ack, idsnRemote),
        8,
        dsnHi(fin, idsnLocal),
        dsnLo(fin, idsnLocal),
        0,
        1,
        checksum,
        true,
      );
    }
    if (dssBytes(8, 0, false) > room) return o;
    // While this subflow has holes of its own its SACK blocks are worth more than a DATA_ACK that says nothing new (the
    // option is needed only when DATA_ACK advances, RFC 8684 3.3.2). Not among the first, which may be lost: a peer that
    // sees data acknowledged without a DATA_ACK before it ever saw one falls back (3.7).
    const isSilent = ack === this.lastDataAckSent && this.tcp.rcvNxt > ALWAYS_DATA_ACK_BYTES;
    if (isSilent && this.tcp.maxRcvNxt > this.tcp.rcvNxt && c.receiver.windowBytes() > 0) return o;
    this.noteDataAckSent(ack);
    return writeDss(out, o, 8, dsnHi(ack, idsnRemote), dsnLo(ack, idsnRemote), 0, 0, 0, 0, 0, -1, false);
  }

  private noteDataAckSent(ack: number): void {
    this.lastDataAckSent = ack;
    this.connection.onWindowSent();
  }

  /** MP_FASTCLOSE (3.5), MP_FAIL (3.7), MP_TCPRST (3.6) on a RST. */
  private writeResetOptions(out: Uint8Array, start: number, roomBytes: number): number {
    const c = this.connection;
    if (c.mode === 'tcp' && this.role === 'initial') return start;
    let o = start;
    const room = () => roomBytes - (o - start);
    if (c.isAborting && c.keys.remote !== null && room() >= FASTCLOSE_BYTES) {
      const { hi, lo } = c.keys.fastcloseKey;
      o = writeFastclose(out, o, hi, lo);
      c.host.count('MPTcpExtMPFastcloseTx');
    }
    if (this.failDsn >= 0 && room() >= FAIL_BYTES) {
      o = writeFail(out, o, dsnHi(this.failDsn, c.keys.idsnRemote), dsnLo(this.failDsn, c.keys.idsnRemote));
      c.host.count('MPTcpExtMPFailTx');
    }
    if (this.resetReason >= 0 && room() >= TCPRST_BYTES) {
      o = writeTcprst(out, o, 0, this.resetReason);
      c.host.count('MPTcpExtMPRstTx');
    }
    return o;
  }

  /** Queues an option for the next pure ACKs. */
  signal(nowUs: Micros, signal: Parameters<SignalQueue['push']>[0]): void {
    this.signals.push(signal);
    if (this.signalAtUs === NEVER) this.signalAtUs = nowUs;
    this.connection.host.markDirty(this.connection);
  }

  /** Called by the connection's poll: asks TCP for an ACK that carries the next signal or the DATA_FIN. */
  pumpSignals(nowUs: Micros): void {
    if (this.signalAtUs > nowUs) return;
    this.signalAtUs = NEVER;
    if (this.signals.isEmpty || !this.tcp.isEstablished) return;
    this.tcp.requestAck(nowUs);
    this.signalAtUs = nowUs + SIGNAL_GAP_US;
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  windowBytes(): number {
    return this.connection.receiver.windowBytes();
  }

  pull(_nowUs: Micros, _sf: TcpSubflow, maxBytes: number): SendUnit | null {
    return this.connection.pullFor(this, maxBytes);
  }

  hasPending(): boolean {
    return this.isUsable && this.connection.hasPendingData;
  }

  /** Only the peer's window holds bytes back: TCP must ask whether it opened (RFC 9293 3.8.6.1). */
  isWindowBlocked(): boolean {
    return this.isUsable && this.connection.sender.isWindowLimited;
  }

  onAcked(nowUs: Micros, _sf: TcpSubflow, seq: number, lengthBytes: number, tag: unknown): void {
    const c = this.connection;
    const m = tag as OutboundMapping | null;
    // After a fallback only subflow acknowledgments free the send buffer (RFC 8684 3.7).
    if (c.mode === 'tcp' && m !== null) c.onDataAcked(nowUs, m.dsn + (seq - m.ssn) + lengthBytes);
  }

  onLost(_nowUs: Micros, _sf: TcpSubflow, seq: number, lengthBytes: number, tag: unknown): void {
    this.connection.reinjector.onLost(this, seq, lengthBytes, tag as OutboundMapping | null);
  }

  onRto(nowUs: Micros, _sf: TcpSubflow, count: number): void {
    this.connection.health.onRto(nowUs, this, count);
  }

  // ---- Options in ----------------------------------------------------------------------------------------------

  onOptions(nowUs: Micros, _sf: TcpSubflow, seg: SegmentView): OptionVerdict {
    const c = this.connection;
    this.currentLength = 0;
    if ((seg.flags & TCP_RST) !== 0) return this.onResetOptions(nowUs, seg);
    if ((seg.flags & TCP_SYN) !== 0) return handshake.onSynOptions(nowUs, this, seg);
    if (c.mode === 'pending' || (this.role === 'join' && !this.isConfirmed)) {
      const verdict = handshake.onProof(nowUs, this, seg);
      if (verdict !== 'continue') return verdict;
    }
    if (c.mode === 'tcp') return 'continue';
    const o = seg.mptcp;
    if (o.present === 0) return this.onBareSegment(seg);
    if ((o.present & MPO.capable) !== 0 && o.capableLength >= 22) {
      const verdict = this.onMapping(nowUs, 1, 1, o.capableDll, o.capableChecksum, false, seg);
      if (verdict !== 'continue') return verdict;
    }
    if ((o.present & ~(MPO.capable | MPO.join)) !== 0) c.isProven = true;
    if ((o.present & MPO.dss) !== 0) {
      const verdict = this.onDss(nowUs, seg);
      if (verdict !== 'continue') return verdict;
    }
    if ((o.present & ~(MPO.dss | MPO.capable | MPO.join)) !== 0) return c.onSignals(nowUs, this, o);
    return 'continue';
  }

  private onDss(nowUs: Micros, seg: SegmentView): OptionVerdict {
    const c = this.connection;
    const o = seg.mptcp;
    if (o.dataAckBytes > 0) {
      const { idsnLocal } = c.keys;
      const dataAck =
        o.dataAckBytes === 8
          ? relativeDsn(o.dataAckHi, o.dataAckLo, idsnLocal)
          : unwrap32(o.dataAckLo, idsnLocal.lo, c.sender.sndUna);
      this.sawDataAck = true;
      const windowBytes = (seg.flags & TCP_SYN) !== 0 ? seg.window : seg.window * 2 ** this.tcp.sndWndShift;
      c.onDataAck(nowUs, dataAck, windowBytes);
    }
    if (o.dsnBytes === 0) return 'continue';
    const { idsnRemote } = c.keys;
    const dsn =
      o.dsnBytes === 8
        ? relativeDsn(o.dsnHi, o.dsnLo, idsnRemote)
        : unwrap32(o.dsnLo, idsnRemote.lo, c.receiver.rcvNxt);
    return this.onMapping(nowUs, dsn, o.ssn, o.dll, o.dssChecksum, o.dataFin, seg);
  }

  private onMapping(
    nowUs: Micros,
    dsn: number,
    wireSsn: number,
    dll: number,
    checksum: number,
    dataFin: boolean,
    seg: SegmentView,
  ): OptionVerdict {
    const c = this.connection;
    this.sawMapping = true;
    if (!(dsn >= 0)) {
      c.host.count('drop_dsn_out_of_window');
      return 'drop';
    }
    // The SSN is 32 bits on the wire and relative to the subflow's ISN (3.3.1); 0 for a DATA_FIN alone.
    const ssn = unwrap32(wireSsn, 0, this.tcp.rcvNxt);
    if (dll === 0) {
      c.host.count('MPTcpExtInfiniteMapRx');
      this.mappings.setInfinite(ssn, dsn);
      c.fallback.fallBack('infinite mapping received');
      return 'continue';
    }
    if (checksum >= 0 !== c.keys.checksums) {
      // Present though not negotiated, or missing though negotiated: close the subflow (3.3).
      this.resetReason = RST_REASON.mptcp;
      c.host.count(checksum >= 0 ? 'drop_checksum_not_negotiated' : 'drop_checksum_missing');
      return 'reset';
    }
    const lengthBytes = dll - (dataFin ? 1 : 0);
    if (dataFin && !this.onDataFin(nowUs, dsn + lengthBytes, dll, checksum)) return 'continue';
    if (lengthBytes === 0) return 'continue';
    this.currentSsn = ssn;
    this.currentDsn = dsn;
    this.currentLength = lengthBytes;
    const isWhole = !c.keys.checksums && seg.payloadLen >= lengthBytes && unwrap32(seg.seq, this.tcp.irs, ssn) === ssn;
    if (isWhole || ssn === this.lastStoredSsn || ssn + lengthBytes <= this.tcp.rcvNxt) return 'continue';
    const added = this.mappings.add(ssn, dsn, lengthBytes, dll, checksum);
    if (added === 'full' || added === 'conflict') {
      c.host.count(added === 'full' ? 'drop_mappings_full' : 'MPTcpExtDSSNoMatchTCP');
      this.currentLength = 0;
      return added === 'full' ? 'drop' : 'continue';
    }
    this.lastStoredSsn = ssn;
    return 'continue';
  }

  private onDataFin(nowUs: Micros, finDsn: number, dll: number, checksum: number): boolean {
    const c = this.connection;
    if (dll === 1 && c.keys.checksums) {
      const { idsnRemote } = c.keys;
      const expected = dssChecksumRange(dsnHi(finDsn, idsnRemote), dsnLo(finDsn, idsnRemote), 0, 1, NO_BYTES, 0, 0);
      if (expected !== checksum) {
        c.host.count('MPTcpExtDataCsumErr');
        return false;
      }
    }
    c.closing.onPeerDataFin(nowUs, finDsn, this);
    return true;
  }

  /** A segment without any MPTCP option although the connection speaks MPTCP (RFC 8684 3.7). */
  private onBareSegment(seg: SegmentView): OptionVerdict {
    const c = this.connection;
    const dataStripped = seg.payloadLen > 0 && !this.sawMapping;
    const acksData = (seg.flags & TCP_ACK) !== 0 && unwrap32(seg.ack, this.tcp.iss, this.tcp.sndUna) > 1;
    // An ACK full of SACK blocks may have left its DATA_ACK out (writeAckOptions does): it proves nothing.
    const ackStripped = acksData && seg.sackCount === 0 && !this.sawDataAck && this.tcp.sndNxt > 1;
    if (!dataStripped && !ackStripped) return 'continue';
    if (c.subflowsEver === 1) {
      if (dataStripped) c.fallback.fallBack('data without MPTCP options');
      else c.fallback.fallBackTelling('data acknowledged without DATA_ACK');
      return 'continue';
    }
    if (this.role === 'join') {
      this.resetReason = RST_REASON.middlebox;
      return 'reset';
    }
    return 'continue';
  }

  private onResetOptions(nowUs: Micros, seg: SegmentView): OptionVerdict {
    const c = this.connection;
    const o = seg.mptcp;
    if ((o.present & MPO.tcprst) !== 0) {
      c.host.count('MPTcpExtMPRstRx');
      this.resetReason = o.tcprstReason;
    }
    if ((o.present & MPO.fail) !== 0) c.host.count('MPTcpExtMPFailRx');
    if ((o.present & MPO.fastclose) !== 0) c.closing.onFastclose(nowUs, o.fastcloseKeyHi, o.fastcloseKeyLo);
    return 'continue';
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  onPayload(
    nowUs: Micros,
    _sf: TcpSubflow,
    seg: SegmentView,
    firstSeq: number,
    firstOffset: number,
    lengthBytes: number,
  ): void {
    this.deliver(nowUs, seg.buf, firstSeq, firstOffset, lengthBytes);
  }

  private deliver(nowUs: Micros, buf: Uint8Array, firstSeq: number, firstOffset: number, lengthBytes: number): void {
    const c = this.connection;
    let seq = firstSeq;
    let offset = firstOffset;
    const end = firstSeq + lengthBytes;
    while (seq < end) {
      let n = end - seq;
      const isCurrent = this.currentLength > 0 && seq >= this.currentSsn && seq < this.currentSsn + this.currentLength;
      if (isCurrent && !c.keys.checksums) {
        n = Math.min(n, this.currentSsn + this.currentLength - seq);
        if (c.receiver.accept(this.currentDsn + seq - this.currentSsn, buf, offset, n)) this.didDeliver = true;
      } else {
        const m = this.mappings.find(seq);
        const infinite = m === null ? this.mappings.infiniteDsn(seq) : Number.NaN;
        if (m !== null) {
          n = Math.min(n, m.ssn + m.lengthBytes - seq);
          this.deliverMapped(nowUs, m, buf, seq, offset, n);
        } else if (!Number.isNaN(infinite)) {
          if (c.receiver.accept(infinite, buf, offset, n)) this.didDeliver = true;
        } else {
          n = Math.min(n, this.mappings.nextStart(seq) - seq);
          this.hold(nowUs, buf, seq, offset, n);
        }
      }
      seq += n;
      offset += n;
    }
  }

  private deliverMapped(
    nowUs: Micros,
    m: InboundMapping,
    buf: Uint8Array,
    seq: number,
    offset: number,
    lengthBytes: number,
  ): void {
    const c = this.connection;
    if (m.checksum < 0) {
      if (c.receiver.accept(m.dsn + seq - m.ssn, buf, offset, lengthBytes)) this.didDeliver = true;
      return;
    }
    let assembly = this.assemblies.get(m.ssn);
    if (assembly === undefined) {
      assembly = new ChecksumAssembly(m);
      this.assemblies.set(m.ssn, assembly);
    }
    if (!assembly.put(seq - m.ssn, buf, offset, lengthBytes)) return;
    this.assemblies.delete(m.ssn);
    const { idsnRemote } = c.keys;
    const sum = dssChecksumRange(
      dsnHi(m.dsn, idsnRemote),
      dsnLo(m.dsn, idsnRemote),
      m.ssn,
      m.dll,
      assembly.bytes,
      0,
      m.lengthBytes,
    );
    if (sum !== m.checksum) {
      c.host.count('MPTcpExtDataCsumErr');
      c.fallback.onChecksumFailure(nowUs, this, m, assembly.bytes);
      return;
    }
    if (c.receiver.accept(m.dsn, assembly.bytes, 0, m.lengthBytes)) this.didDeliver = true;
  }

  /** Bytes ahead of their mapping wait; too many of them are a middlebox at work (RFC 8684 3.3.1, 3.7). */
  private hold(nowUs: Micros, buf: Uint8Array, seq: number, offset: number, lengthBytes: number): void {
    const c = this.connection;
    const capacityBytes = c.receiver.capacityBytes;
    const limitBytes = c.subflows.length > 1 ? Math.min(MAX_UNMAPPED_BYTES, capacityBytes) : capacityBytes;
    if (this.mappings.hold(seq, buf, offset, lengthBytes, limitBytes)) return;
    c.host.count('drop_unmapped_window');
    c.resetSubflow(nowUs, this, RST_REASON.middlebox);
  }

  onSegmentDone(nowUs: Micros, _sf: TcpSubflow, seg: SegmentView): void {
    const c = this.connection;
    if (this.mappings.heldBytes > 0 && (this.currentLength > 0 || this.mappings.isInfinite)) {
      for (const held of this.mappings.takeHeld()) this.deliver(nowUs, held.bytes, held.seq, 0, held.bytes.length);
    }
    if (seg.payloadLen > 0) {
      this.mappings.prune(this.tcp.rcvNxt);
      for (const [ssn, a] of this.assemblies) {
        if (ssn + a.mapping.lengthBytes <= this.tcp.rcvNxt) this.assemblies.delete(ssn);
      }
    }
    this.currentLength = 0;
    c.afterSegment(nowUs, this, this.didDeliver);
    this.didDeliver = false;
  }

  // ---- Life ----------------------------------------------------------------------------------------------------

  onEstablished(nowUs: Micros): void {
    handshake.onTcpEstablished(nowUs, this);
  }

  onPeerFin(nowUs: Micros): void {
    this.connection.closing.onSubflowFin(nowUs, this);
  }

  onClosed(nowUs: Micros, _sf: TcpSubflow, why: CloseReason): void {
    this.closeReason = why;
    this.connection.closing.onSubflowClosed(nowUs, this, why);
  }
}

const NO_BYTES = new Uint8Array(0);

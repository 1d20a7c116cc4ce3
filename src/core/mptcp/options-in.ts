/**
 * Options of the segments that arrive on a subflow (RFC 8684 3.3 to 3.7): DATA_ACK, mapping and DATA_FIN of a DSS, what a
 * missing option means (3.7), what a RST says (3.6). Handshake segments are read in handshake.ts, signals by the connection.
 */
import { dsnHi, dsnLo, relativeDsn, unwrap32 } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import type { OptionVerdict } from '../tcp/owner.js';
import { timestampAt } from '../tcp/timestamps.js';
import { MPO, type MptcpOptions, RST_REASON, TCPRST_T_TRANSIENT } from '../wire/mptcp-options.js';
import { type SegmentView, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../wire/segment.js';
import * as handshake from './handshake.js';
import type { InboundData } from './inbound-data.js';
import { dssChecksumRange } from './keys.js';
import type { MptcpSubflow } from './subflow.js';

/** Of the peer's RSTs by their reason (3.6); the kernel counts them all as one. */
const REASON_COUNTERS: readonly string[] = Object.values(RST_REASON).map((reason) => `rst_rx_reason_${reason}`);

export class OptionsIn {
  private sawMapping = false;
  /** Our timestamp when the peer's first mapping came. */
  private firstMappedTs = 0;
  /** The peer has our data, or has had an answer to its own, and says so in MPTCP. */
  private isPeerTold = false;
  /** Data of ours was acknowledged together with a DATA_ACK: options pass both ways (3.7). */
  private isOurDataConfirmed = false;
  /** ACKs of data without a DATA_ACK, and data without options or a mapping, since the last DATA_ACK. */
  bareSegments = 0;
  /** The last mapping stored: the same one repeats on every segment that it covers. */
  private lastStoredSsn = -1;

  constructor(
    private readonly sf: MptcpSubflow,
    private readonly inbound: InboundData,
  ) {}

  onSegment(nowUs: Micros, seg: SegmentView): OptionVerdict {
    const { sf } = this;
    const c = sf.connection;
    this.inbound.clearCurrent();
    if ((seg.flags & TCP_RST) !== 0) return this.onResetOptions(nowUs, seg);
    if (c.fastClose.isWaiting) return c.fastClose.onSegment(nowUs, seg.mptcp);
    if ((seg.flags & TCP_SYN) !== 0) return handshake.onSynOptions(nowUs, sf, seg);
    if (c.mode === 'pending' || (sf.role === 'join' && !sf.isConfirmed)) {
      const verdict = handshake.onProof(nowUs, sf, seg);
      if (verdict !== 'continue') return verdict;
    } else if ((seg.mptcp.present & MPO.join) !== 0 && sf.role === 'join' && sf.side === 'passive') {
      // The third packet of a join again: our answer was lost (3.2).
      sf.tcp.requestAck(nowUs);
    }
    const o = seg.mptcp;
    if (c.mode === 'tcp') {
      // The answer to our MP_FAIL may come when the infinite mapping has gone out already.
      if ((o.present & MPO.fail) !== 0) c.host.count('MPTcpExtMPFailRx');
      return (o.present & MPO.dss) === 0 ? 'continue' : this.onDssAfterFallback(seg);
    }
    if (o.present === 0) return this.onBareSegment(nowUs, seg);
    if ((o.present & MPO.capable) !== 0 && o.capableLength >= 22) {
      const verdict = this.onMapping(nowUs, 0, 1, 1, o.capableDll, o.capableChecksum, false, seg);
      if (verdict !== 'continue') return verdict;
      c.hasReceivedDss = true;
    }
    // A peer that took our SYN's data may send mappings before it has our keys; a DATA_ACK it cannot (B.3).
    const isEarly = c.settings.synData !== undefined && (o.present & ~MPO.dss) === 0 && o.dataAckBytes === 0;
    if (!c.isProven && (o.present & ~(MPO.capable | MPO.join)) !== 0 && !isEarly) c.onProven();
    if ((o.present & MPO.dss) !== 0) {
      const verdict = this.onDss(nowUs, seg);
      if (verdict !== 'continue') return verdict;
      c.hasReceivedDss = true;
    }
    if ((o.present & ~(MPO.dss | MPO.capable | MPO.join)) !== 0) return c.onSignals(nowUs, sf, o);
    return 'continue';
  }

  private onDss(nowUs: Micros, seg: SegmentView): OptionVerdict {
    const { sf } = this;
    const c = sf.connection;
    const o = seg.mptcp;
    if (o.dataAckBytes > 0) {
      const { idsnLocal } = c.keys;
      const dataAck =
        o.dataAckBytes === 8
          ? relativeDsn(o.dataAckHi, o.dataAckLo, idsnLocal)
          : unwrap32(o.dataAckLo, idsnLocal.lo, c.sender.sndUna);
      if (dataAck > 1 && this.acksData(seg)) this.isOurDataConfirmed = true;
      if (!this.isPeerTold)
        this.isPeerTold = dataAck > 1 || (this.sawMapping && this.isSentAfter(this.firstMappedTs, seg));
      this.bareSegments = 0;
      const windowBytes = (seg.flags & TCP_SYN) !== 0 ? seg.window : seg.window * 2 ** sf.tcp.sndWndShift;
      c.onDataAck(nowUs, dataAck, windowBytes);
    }
    if (o.dsnBytes === 0) return 'continue';
    return this.onMapping(nowUs, o.dsnBytes, this.dsnOf(o), o.ssn, o.dll, o.dssChecksum, o.dataFin, seg);
  }

  /** Relative, of a DSS that has one (3.3.1). */
  private dsnOf(o: MptcpOptions): number {
    const { keys, receiver } = this.sf.connection;
    const { idsnRemote } = keys;
    return o.dsnBytes === 8
      ? relativeDsn(o.dsnHi, o.dsnLo, idsnRemote)
      : unwrap32(o.dsnLo, idsnRemote.lo, receiver.rcvNxt);
  }

  private onMapping(
    nowUs: Micros,
    wireDsnBytes: number,
    dsn: number,
    wireSsn: number,
    dll: number,
    checksum: number,
    dataFin: boolean,
    seg: SegmentView,
  ): OptionVerdict {
    const { sf } = this;
    const c = sf.connection;
    if (!this.sawMapping) {
      this.sawMapping = true;
      this.firstMappedTs = timestampAt(nowUs, sf.tcp.tsOffset);
    }
    if (!(dsn >= 0)) {
      c.host.count('drop_dsn_out_of_window');
      return 'drop';
    }
    // (MP_CAPABLE has none: its first byte is the first.)
    if (wireDsnBytes > 0) c.onDsnReceived(wireDsnBytes, dsn, dsn + dll);
    // The SSN is 32 bits on the wire and relative to the subflow's ISN (3.3.1); 0 for a DATA_FIN alone.
    const ssn = unwrap32(wireSsn, 0, sf.tcp.rcvNxt);
    if (dll === 0) {
      if (c.fallback.onInfiniteMapping(nowUs, sf, ssn, dsn)) return 'continue';
      sf.resetReason = RST_REASON.mptcpSpecific;
      return 'reset';
    }
    if (checksum >= 0 !== c.keys.checksums) {
      // Present though not negotiated, or missing though negotiated: close the subflow (3.3).
      sf.resetReason = RST_REASON.mptcpSpecific;
      c.host.count(checksum >= 0 ? 'drop_checksum_not_negotiated' : 'drop_checksum_missing');
      return 'reset';
    }
    const lengthBytes = dll - (dataFin ? 1 : 0);
    // With payload under a checksum it counts once that is verified (InboundData).
    const isVerifiedLater = c.keys.checksums && lengthBytes > 0 && !sf.mappings.isInfinite;
    if (dataFin && !isVerifiedLater && !this.onDataFin(nowUs, dsn + lengthBytes, dll, checksum, seg)) return 'continue';
    if (lengthBytes === 0) return 'continue';
    if (sf.mappings.isInfinite) {
      // We said MP_FAIL and take bytes as they come. One that is sent again from elsewhere is not contiguous (3.7).
      if (dsn === ssn) return 'continue';
      sf.failDsn = dsn;
      sf.resetReason = RST_REASON.middleboxInterference;
      return 'reset';
    }
    this.inbound.setCurrent(ssn, dsn, lengthBytes);
    const isWhole = !c.keys.checksums && seg.payloadLen >= lengthBytes && unwrap32(seg.seq, sf.tcp.irs, ssn) === ssn;
    if (isWhole || ssn === this.lastStoredSsn || ssn + lengthBytes <= sf.tcp.rcvNxt) return 'continue';
    const added = sf.mappings.add(ssn, dsn, lengthBytes, dll, checksum);
    if (added === 'full' || added === 'conflict') {
      c.host.count(added === 'full' ? 'drop_mappings_full' : 'MPTcpExtDSSNoMatchTCP');
      this.inbound.clearCurrent();
      return added === 'full' ? 'drop' : 'continue';
    }
    this.lastStoredSsn = ssn;
    return 'continue';
  }

  private onDataFin(nowUs: Micros, finDsn: number, dll: number, checksum: number, seg: SegmentView): boolean {
    const { sf } = this;
    const c = sf.connection;
    if (dll === 1 && c.keys.checksums) {
      const { idsnRemote } = c.keys;
      const expected = dssChecksumRange(dsnHi(finDsn, idsnRemote), dsnLo(finDsn, idsnRemote), 0, 1, NO_BYTES, 0, 0);
      if (expected !== checksum) {
        c.host.count('MPTcpExtDataCsumErr');
        return false;
      }
    }
    if (sf.mappings.isInfinite) {
      // After MP_FAIL the stream may be longer than its sender knows: it ends with the subflow's bytes, once all are here.
      const isAllHere = unwrap32(seg.seq, sf.tcp.irs, sf.tcp.rcvNxt) + seg.payloadLen === sf.tcp.rcvNxt;
      if (!isAllHere || finDsn > c.receiver.rcvNxt) return true;
      c.receiver.endHere(finDsn);
    }
    c.closing.onPeerDataFin(nowUs, finDsn, sf);
    return true;
  }

  /** A segment without any MPTCP option although the connection speaks MPTCP (RFC 8684 3.7). */
  private onBareSegment(nowUs: Micros, seg: SegmentView): OptionVerdict {
    const { sf } = this;
    const c = sf.connection;
    // An ACK full of SACK blocks may have left its DATA_ACK out (OptionsOut.writeAck does so): it proves nothing.
    // Nor does data: split on its way, its later pieces may come without options, and before the first.
    const lacksDataAck = seg.payloadLen === 0 && seg.sackCount === 0 && this.acksData(seg);
    const isDataStripped = this.isDataStripped(seg);
    if (lacksDataAck || this.isUnmapped(seg)) this.bareSegments++;
    const isAckStripped = lacksDataAck && !this.isOurDataConfirmed;
    const { fallback } = c;
    if (!c.hasJoined) {
      if ((seg.flags & TCP_FIN) !== 0) {
        // MPTCP ends with a DATA_FIN, and its FINs carry a DATA_ACK: this peer speaks TCP by now. If it DATA_ACKed at
        // first, and then took bytes of ours without, they may be lost: better no end than a false one.
        const isDoubtful = this.isOurDataConfirmed && !fallback.isUnderWay;
        if (isDoubtful && unwrap32(seg.ack, sf.tcp.iss, sf.tcp.sndUna) > c.sender.sndUna) {
          sf.resetReason = RST_REASON.middleboxInterference;
          return 'reset';
        }
        fallback.fallBack(nowUs, 'FIN without MPTCP options');
      } else if (isDataStripped) fallback.onStrippedData(nowUs, sf, this.sawMapping);
      else if (isAckStripped && !this.isPeerSure) fallback.fallBackTelling(nowUs, 'data acknowledged without DATA_ACK');
      return 'continue';
    }
    if (sf.role === 'join' && (isDataStripped || isAckStripped)) {
      sf.resetReason = RST_REASON.middleboxInterference;
      return 'reset';
    }
    return 'continue';
  }

  /**
   * A mapping although we have fallen back: harmless as long as it is the stream's order. One that moves bytes is data sent
   * again by a peer that has not heard of it, and would be taken twice.
   */
  private onDssAfterFallback(seg: SegmentView): OptionVerdict {
    const { sf } = this;
    const { keys } = sf.connection;
    const o = seg.mptcp;
    if (keys.remote === null || o.dsnBytes === 0 || o.dll === 0 || seg.payloadLen === 0) return 'continue';
    if (sf.mappings.infiniteDsn(unwrap32(o.ssn, 0, sf.tcp.rcvNxt)) === this.dsnOf(o)) return 'continue';
    sf.resetReason = RST_REASON.middleboxInterference;
    return 'reset';
  }

  /**
   * The peer knows that options pass both ways, and falls back no more. Bare segments that come then are the path's doing
   * (3.7), and what they are about may be sent again at data level.
   */
  private get isPeerSure(): boolean {
    return this.sawMapping && this.isPeerTold;
  }

  /** In answer to something that we sent after `ts` of our clock. */
  private isSentAfter(ts: number, seg: SegmentView): boolean {
    return seg.hasTs && ((seg.tsEcr - ts) | 0) > 0;
  }

  private acksData(seg: SegmentView): boolean {
    const { tcp } = this.sf;
    return (seg.flags & TCP_ACK) !== 0 && tcp.sndNxt > 1 && unwrap32(seg.ack, tcp.iss, tcp.sndUna) > 1;
  }

  /**
   * In-order data without a mapping, from a peer that has not yet shown that it knows that options pass: until then it would
   * have sent one with every segment. (Linux falls back without an infinite mapping.)
   */
  private isDataStripped(seg: SegmentView): boolean {
    const { sf } = this;
    const { rcvNxt } = sf.tcp;
    return !this.isPeerSure && this.isUnmapped(seg) && unwrap32(seg.seq, sf.tcp.irs, rcvNxt) === rcvNxt;
  }

  /** Payload that no mapping is known for yet. */
  private isUnmapped(seg: SegmentView): boolean {
    const { mappings, tcp } = this.sf;
    return seg.payloadLen > 0 && mappings.find(unwrap32(seg.seq, tcp.irs, tcp.rcvNxt)) === null;
  }

  private onResetOptions(nowUs: Micros, seg: SegmentView): OptionVerdict {
    const { sf } = this;
    const c = sf.connection;
    const o = seg.mptcp;
    if ((o.present & MPO.tcprst) !== 0) {
      c.host.count('MPTcpExtMPRstRx');
      c.host.count(REASON_COUNTERS[o.tcprstReason] ?? 'rst_rx_reason_unknown');
      sf.resetReason = o.tcprstReason;
      sf.isResetTransient = (o.tcprstFlags & TCPRST_T_TRANSIENT) !== 0;
    }
    if ((o.present & MPO.fail) !== 0) c.fallback.onFailedReset(nowUs, o);
    if ((o.present & MPO.fastclose) !== 0) c.closing.onFastclose(nowUs, o.fastcloseKeyHi, o.fastcloseKeyLo, sf);
    return 'continue';
  }
}

const NO_BYTES = new Uint8Array(0);

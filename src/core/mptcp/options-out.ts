/**
 * Options on the segments of an established subflow (RFC 8684 3.3 to 3.7): DSS with mapping and DATA_ACK on data; signals,
 * DATA_FIN and DATA_ACK on pure ACKs; MP_FASTCLOSE, MP_FAIL and MP_TCPRST on a RST. What SYNs and proofs say is in handshake.ts.
 */
import { dsnHi, dsnLo } from '../base/seq.js';
import {
  dssBytes,
  FAIL_BYTES,
  FASTCLOSE_BYTES,
  RST_REASON,
  TCPRST_BYTES,
  TCPRST_T_TRANSIENT,
  writeDss,
  writeFail,
  writeFastclose,
  writeTcprst,
} from '../wire/mptcp-options.js';
import type { Connection } from './connection.js';
import type { OutboundMapping } from './send-buffer.js';
import { signalCounter } from './signals.js';
import type { MptcpSubflow } from './subflow.js';

/** Each ACK of so many first bytes of a subflow carries a DATA_ACK, and so does each of its first data, so many bytes. */
const ALWAYS_DATA_ACK_BYTES = 65_536;

export class OptionsOut {
  private lastDataAckSent = 0;

  constructor(private readonly sf: MptcpSubflow) {}

  /**
   * Data: DSS with the mapping, and DATA_ACK where there is room (3.3.1, 3.3.2). A DSN that takes more than usual has the
   * DATA_ACK's room: the segment is as long as any, and other segments bring the DATA_ACK.
   */
  writeMapping(m: OutboundMapping, out: Uint8Array, o: number, roomBytes: number): number {
    const { sf } = this;
    const c = sf.connection;
    const hasChecksum = m.checksum >= 0;
    const { numbers } = c;
    const dsnBytes = numbers.bytesOf(m.dsn, c.sender.sndNxt);
    const mayAck = c.mode === 'mptcp' && dsnBytes === numbers.dsnBytes && !sf.omitsDataAck;
    const ackBytes = mayAck && dssBytes(numbers.ackBytes, dsnBytes, hasChecksum) <= roomBytes ? numbers.ackBytes : 0;
    if (ackBytes === 0 && dssBytes(0, dsnBytes, hasChecksum) > roomBytes) return o;
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
      dsnBytes,
      dsnHi(m.dsn, idsnLocal),
      dsnLo(m.dsn, idsnLocal),
      m.ssn,
      m.dll,
      m.checksum,
      false,
    );
  }

  /** A pure ACK: one signal, then DATA_FIN or DATA_ACK (3.3.2, 3.3.3). */
  writeAck(out: Uint8Array, start: number, roomBytes: number): number {
    const { sf } = this;
    const c = sf.connection;
    let o = start;
    const signal = sf.signals.first;
    if (signal !== undefined && signal.kind === 'add-addr' && !signal.option.echo) {
      c.host.count('MPTcpExtAddAddrAttempt');
    }
    const end = sf.signals.writeFirst(out, o, roomBytes);
    if (end > o && signal !== undefined) c.host.count(signalCounter(signal));
    o = end;
    const room = roomBytes - (o - start);
    const { ackBytes, dsnBytes } = c.numbers;
    const ack = c.receiver.rcvNxt;
    const { idsnLocal, idsnRemote } = c.keys;
    const checksum = c.keys.checksums ? c.closing.finChecksum() : -1;
    if (sf.isFinDue && dssBytes(ackBytes, dsnBytes, checksum >= 0) <= room) {
      // DATA_FIN alone: SSN 0, DLL 1, its own DSN (RFC 8684 3.3.3).
      sf.isFinDue = false;
      c.areKeysSent = false;
      this.noteDataAckSent(ack);
      const fin = c.sender.finDsn;
      return writeDss(
        out,
        o,
        ackBytes,
        dsnHi(ack, idsnRemote),
        dsnLo(ack, idsnRemote),
        dsnBytes,
        dsnHi(fin, idsnLocal),
        dsnLo(fin, idsnLocal),
        0,
        1,
        checksum,
        true,
      );
    }
    if (dssBytes(ackBytes, 0, false) > room) return o;
    // While this subflow has holes of its own its SACK blocks are worth more than a DATA_ACK that says nothing new (the
    // option is needed only when DATA_ACK advances, RFC 8684 3.3.2). Not among the first, which may be lost: a peer that
    // sees data acknowledged without a DATA_ACK before it ever saw one falls back (3.7), as does one that sees a bare FIN.
    const isSilent = ack === this.lastDataAckSent && sf.tcp.rcvNxt > ALWAYS_DATA_ACK_BYTES;
    if (isSilent && !sf.isClosing && sf.tcp.maxRcvNxt > sf.tcp.rcvNxt && c.receiver.windowBytes() > 0) return o;
    this.noteDataAckSent(ack);
    return writeDss(out, o, ackBytes, dsnHi(ack, idsnRemote), dsnLo(ack, idsnRemote), 0, 0, 0, 0, 0, -1, false);
  }

  /** After a fallback nothing is said any more, but for an MP_FAIL that was due with it (3.7). */
  writeFail(out: Uint8Array, o: number, roomBytes: number): number {
    const { signals, connection } = this.sf;
    if (signals.first?.kind !== 'fail') return o;
    const end = signals.writeFirst(out, o, roomBytes);
    if (end > o) connection.host.count('MPTcpExtMPFailTx');
    return end;
  }

  private noteDataAckSent(ack: number): void {
    this.lastDataAckSent = ack;
    this.sf.connection.receiveWindow.onSent();
  }

  /** MP_FASTCLOSE (3.5), MP_FAIL (3.7), MP_TCPRST (3.6) on a RST. */
  writeReset(out: Uint8Array, start: number, roomBytes: number): number {
    const { sf } = this;
    const c = sf.connection;
    if (c.mode === 'tcp' && sf.role === 'initial') return start;
    let o = start;
    const room = () => roomBytes - (o - start);
    if (c.isAborting && c.keys.remote !== null && room() >= FASTCLOSE_BYTES) {
      const { hi, lo } = c.keys.fastcloseKey;
      o = writeFastclose(out, o, hi, lo);
      c.host.count('MPTcpExtMPFastcloseTx');
    }
    if (sf.failDsn >= 0 && room() >= FAIL_BYTES) {
      o = writeFail(out, o, dsnHi(sf.failDsn, c.keys.idsnRemote), dsnLo(sf.failDsn, c.keys.idsnRemote));
      c.host.count('MPTcpExtMPFailTx');
    }
    if (sf.resetReason >= 0 && room() >= TCPRST_BYTES) {
      o = writeTcprst(out, o, tcprstFlags(sf.resetReason), sf.resetReason);
      c.host.count('MPTcpExtMPRstTx');
    }
    return o;
  }
}

/** T (3.6): a lack of resources, of room or of speed passes; a breach of protocol or policy does not, nor does a middlebox. */
export function tcprstFlags(reason: number): number {
  const { lackOfResources, tooMuchOutstanding, unacceptablePerformance } = RST_REASON;
  const isTransient = [lackOfResources, tooMuchOutstanding, unacceptablePerformance].some((r) => r === reason);
  return isTransient ? TCPRST_T_TRANSIENT : 0;
}

/**
 * Data goes without a DATA_ACK that says nothing new (3.3.2). Not the first of a subflow, whose peer may wait for one (to
 * Linux it completes the handshake), nor what a path that was gone sends again (writeMapping needs the room).
 */
export function updateDataAcks({ receiver, sender, numbers, subflows }: Connection): void {
  const isOld = numbers.isAckOld(receiver.rcvNxt, receiver.peekEdge(), sender.sndNxt);
  for (const sf of subflows) {
    const omits = isOld && !sf.isStalled && !sf.isLinkDown && sf.tcp.sndUna > ALWAYS_DATA_ACK_BYTES;
    if (omits === sf.omitsDataAck) continue;
    sf.omitsDataAck = omits;
    sf.tcp.refreshMss();
  }
}

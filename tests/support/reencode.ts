/**
 * Writes a parsed segment's headers anew with the core's writers: same options in the same order, values only from the
 * parsed view. What comes out must be the bytes that went in.
 */
import { ipFromBytes } from '../../src/core/base/ip.js';
import { finishChecksum, sumRange } from '../../src/core/wire/checksum.js';
import { ipHeaderBytes, PROTO_TCP, pseudoHeaderSum, writeIpHeader } from '../../src/core/wire/ip.js';
import * as mp from '../../src/core/wire/mptcp-options.js';
import type { SegmentView } from '../../src/core/wire/segment.js';
import * as tcp from '../../src/core/wire/tcp.js';

/** A whole packet. Options of kinds that the core does not write are copied as they stand, and listed in `foreign`. */
export function reencode(seg: SegmentView, foreign: number[] = []): Uint8Array {
  const buf = seg.buf;
  const src = ipFromBytes(buf, seg.srcOff, seg.family);
  const dst = ipFromBytes(buf, seg.dstOff, seg.family);
  const out = new Uint8Array(seg.ipEnd - seg.ipStart);
  const start = ipHeaderBytes(seg.family);
  let o = tcp.writeTcpHeader(out, start, seg.srcPort, seg.dstPort, seg.seq, seg.ack, seg.flags, seg.window);
  o = writeOptions(seg, out, o, foreign);
  const headerBytes = tcp.finishTcpHeader(out, start, o);
  out.set(buf.subarray(seg.payloadOff, seg.payloadOff + seg.payloadLen), start + headerBytes);
  const l4Length = headerBytes + seg.payloadLen;
  const sum = sumRange(out, start, l4Length, pseudoHeaderSum(src, dst, PROTO_TCP, l4Length));
  tcp.putTcpChecksum(out, start, finishChecksum(sum));
  const ident = seg.family === 4 ? (buf[seg.ipStart + 4]! << 8) | buf[seg.ipStart + 5]! : 0;
  const label = ((buf[seg.ipStart + 1]! & 0x0f) << 16) | (buf[seg.ipStart + 2]! << 8) | buf[seg.ipStart + 3]!;
  writeIpHeader(out, 0, seg.family, src, dst, l4Length, PROTO_TCP, seg.ecn, ident, label);
  return out;
}

function writeOptions(seg: SegmentView, out: Uint8Array, at: number, foreign: number[]): number {
  const buf = seg.buf;
  const start = seg.l4Off + tcp.TCP_HEADER_BYTES;
  let end = start;
  for (let i = start; i < seg.payloadOff; i += buf[i] === tcp.OPT_NOP ? 1 : buf[i + 1]!) {
    if (buf[i] !== tcp.OPT_NOP) end = i + buf[i + 1]!;
  }
  // Fewer than four NOPs at the end are padding, which is finishTcpHeader's.
  if (seg.payloadOff - end >= 4) end = seg.payloadOff;

  let o = at;
  let addAddrs = 0;
  let i = start;
  while (i < end) {
    const kind = buf[i]!;
    const behindNops = kind === tcp.OPT_NOP && buf[i + 1] === tcp.OPT_NOP ? buf[i + 2] : -1;
    if (behindNops === tcp.OPT_TIMESTAMPS && i + 12 <= end) {
      o = tcp.putTimestamps(out, o, seg.tsVal, seg.tsEcr);
      i += 12;
    } else if (behindNops === tcp.OPT_SACK && i + 2 < end) {
      o = tcp.putSackBlocks(out, o, seg.sackLeft, seg.sackRight, seg.sackCount);
      i += 2 + buf[i + 3]!;
    } else if (kind === tcp.OPT_NOP) {
      o = tcp.putNop(out, o);
      i++;
    } else {
      if (kind === tcp.OPT_MSS) o = tcp.putMss(out, o, seg.mss);
      else if (kind === tcp.OPT_WSCALE) o = tcp.putWscale(out, o, seg.wscale);
      else if (kind === tcp.OPT_SACK_PERMITTED) o = tcp.putSackPermitted(out, o);
      else if (kind === tcp.OPT_TIMESTAMPS) o = tcp.putTimestampsBare(out, o, seg.tsVal, seg.tsEcr);
      else if (kind === mp.MPTCP_KIND) o = writeMptcp(seg.mptcp, buf[i + 2]! >>> 4, out, o, addAddrs);
      else {
        foreign.push(kind);
        out.set(buf.subarray(i, i + buf[i + 1]!), o);
        o += buf[i + 1]!;
      }
      if (kind === mp.MPTCP_KIND && buf[i + 2]! >>> 4 === 3) addAddrs++;
      i += buf[i + 1]!;
    }
  }
  return o;
}

/** Writes the option of `subtype` from what was parsed; `addAddrIndex` says which of several ADD_ADDRs. */
export function writeMptcp(m: mp.MptcpOptions, subtype: number, out: Uint8Array, o: number, addAddrIndex = 0): number {
  switch (subtype) {
    case 0:
      if (m.capableLength === 4) return mp.writeCapableSyn(out, o, m.capableFlags);
      if (m.capableLength === 12) return mp.writeCapableSynAck(out, o, m.capableFlags, m.senderKeyHi, m.senderKeyLo);
      return m.capableLength === 20
        ? mp.writeCapableAck(out, o, m.capableFlags, m.senderKeyHi, m.senderKeyLo, m.receiverKeyHi, m.receiverKeyLo)
        : mp.writeCapableData(
            out,
            o,
            m.capableFlags,
            m.senderKeyHi,
            m.senderKeyLo,
            m.receiverKeyHi,
            m.receiverKeyLo,
            m.capableDll,
            m.capableChecksum,
          );
    case 1:
      if (m.joinLength === 12) return mp.writeJoinSyn(out, o, m.joinBackup, m.joinAddressId, m.joinToken, m.joinNonce);
      return m.joinLength === 16
        ? mp.writeJoinSynAck(out, o, m.joinBackup, m.joinAddressId, m.joinHmac, m.joinNonce)
        : mp.writeJoinAck(out, o, m.joinHmac);
    case 2:
      return mp.writeDss(
        out,
        o,
        m.dataAckBytes,
        m.dataAckHi,
        m.dataAckLo,
        m.dsnBytes,
        m.dsnHi,
        m.dsnLo,
        m.ssn,
        m.dll,
        m.dssChecksum,
        m.dataFin,
      );
    case 3:
      return mp.writeAddAddr(out, o, m.addAddrs[addAddrIndex]!);
    case 4:
      return mp.writeRemoveAddr(out, o, m.removeIds);
    case 5:
      return mp.writePrio(out, o, m.prioBackup);
    case 6:
      return mp.writeFail(out, o, m.failDsnHi, m.failDsnLo);
    case 7:
      return mp.writeFastclose(out, o, m.fastcloseKeyHi, m.fastcloseKeyLo);
    case 8:
      return mp.writeTcprst(out, o, m.tcprstFlags, m.tcprstReason);
    default:
      throw new Error(`no writer for subtype ${subtype}`);
  }
}

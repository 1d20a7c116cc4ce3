/**
 * The two handshakes of RFC 8684: MP_CAPABLE (3.1) on the initial subflow and MP_JOIN (3.2) on every further one. Four
 * questions per segment kind: what does our SYN or SYN/ACK say, what did the peer's say, what proves us in the third
 * packet, and is the peer's proof good. Any doubt in the first handshake means plain TCP; in a join it means RST.
 */
import { randomU32 } from '../base/env.js';
import { type Micros, NEVER } from '../base/time.js';
import type { OptionVerdict } from '../tcp/owner.js';
import {
  CAPABLE_A_CHECKSUM,
  CAPABLE_ACK_BYTES,
  CAPABLE_ALGORITHMS,
  CAPABLE_B_EXTENSIBILITY,
  CAPABLE_C_NO_JOIN,
  CAPABLE_DATA_BYTES,
  CAPABLE_DATA_CHECKSUM_BYTES,
  CAPABLE_H_SHA256,
  CAPABLE_SYN_BYTES,
  CAPABLE_SYNACK_BYTES,
  JOIN_ACK_BYTES,
  JOIN_ACK_HMAC_BYTES,
  JOIN_SYN_BYTES,
  JOIN_SYNACK_BYTES,
  JOIN_SYNACK_HMAC_BYTES,
  MPO,
  MPTCP_VERSION,
  type MptcpOptions,
  RST_REASON,
  writeCapableAck,
  writeCapableData,
  writeCapableSyn,
  writeCapableSynAck,
  writeJoinAck,
  writeJoinSyn,
} from '../wire/mptcp-options.js';
import { type SegmentView, TCP_ACK } from '../wire/segment.js';
import { TCP_HEADER_BYTES } from '../wire/tcp.js';
import { equalConstantTime, joinHmac } from './keys.js';
import type { OutboundMapping } from './send-buffer.js';
import type { MptcpSubflow } from './subflow.js';

/** SYNs sent with MP_CAPABLE, the next leave it out (3.9.3 leaves it to us): after 3 s, as Linux, whose SYNs are closer. */
const SYNS_WITH_MPTCP = 2;
/** The third packet of a join is repeated until acknowledged (3.2), this often at most. */
const JOIN_ACK_TRIES = 8;

/** MP_JOIN material of one subflow. */
export class JoinState {
  localNonce = 0;
  remoteNonce = 0;
  /** Initiator: HMAC-A for the third ACK. */
  hmac: Uint8Array | null = null;
  ackTries = 0;
  ackAtUs: Micros = NEVER;
}

/**
 * True if a SYN asks for MPTCP in a way that we speak (3.1): our version or a higher one, which is answered with ours; no B;
 * HMAC-SHA256 among the algorithms on offer; no checksums if `refusesChecksums`. Everything else is as if it were absent.
 */
export function isAcceptableSyn(o: MptcpOptions, refusesChecksums: boolean): boolean {
  return (
    (o.present & MPO.capable) !== 0 &&
    o.capableLength === CAPABLE_SYN_BYTES &&
    o.capableVersion >= MPTCP_VERSION &&
    (o.capableFlags & CAPABLE_B_EXTENSIBILITY) === 0 &&
    (o.capableFlags & CAPABLE_H_SHA256) !== 0 &&
    (!refusesChecksums || (o.capableFlags & CAPABLE_A_CHECKSUM) === 0)
  );
}

/** True if SYN/ACK or third packet settle what was offered (3.1): our version, no B, exactly the one algorithm. */
function isSettled(o: MptcpOptions): boolean {
  return (
    (o.present & MPO.capable) !== 0 &&
    o.capableVersion === MPTCP_VERSION &&
    (o.capableFlags & CAPABLE_B_EXTENSIBILITY) === 0 &&
    (o.capableFlags & CAPABLE_ALGORITHMS) === CAPABLE_H_SHA256
  );
}

export function startJoin(sf: MptcpSubflow): void {
  sf.join.localNonce = randomU32(sf.connection.host.env);
}

// ---- Out -----------------------------------------------------------------------------------------------------------

export function writeSynOptions(
  sf: MptcpSubflow,
  kind: 'syn' | 'synack',
  out: Uint8Array,
  start: number,
  room: number,
): number {
  const c = sf.connection;
  const j = sf.join;
  let o = start;
  let roomBytes = room;
  if (sf.role === 'join') {
    // The SYN/ACK of a join is written before there is a subflow (join-requests.ts).
    if (kind === 'synack' || roomBytes < JOIN_SYN_BYTES) return o;
    c.host.count('MPTcpExtMPJoinSynTx');
    return writeJoinSyn(out, o, sf.isBackupWanted, sf.localAddressId, c.keys.remoteToken, j.localNonce);
  }
  if (kind === 'syn')
    o = writeFurther(c.settings.synOptions, c.mode === 'tcp' ? 0 : CAPABLE_SYN_BYTES, out, o, roomBytes);
  roomBytes -= o - start;
  if (c.mode === 'tcp') return o;
  const flags = capableFlags(c.keys.checksums, c.settings.joinInitial);
  if (kind === 'synack') {
    return roomBytes < CAPABLE_SYNACK_BYTES ? o : writeCapableSynAck(out, o, flags, c.keys.localHi, c.keys.localLo);
  }
  c.synsSent++;
  if (c.synsSent > SYNS_WITH_MPTCP || roomBytes < CAPABLE_SYN_BYTES) {
    if (c.synsSent === SYNS_WITH_MPTCP + 1) c.host.count('MPTcpExtMPCapableSYNTXDrop');
    return o;
  }
  if (c.synsSent === 1) c.host.count('MPTcpExtMPCapableSYNTX');
  return writeCapableSyn(out, o, flags);
}

/** Options that the user wants in the SYN, if they leave room for ours. */
function writeFurther(
  options: Uint8Array | undefined,
  reservedBytes: number,
  out: Uint8Array,
  o: number,
  roomBytes: number,
): number {
  if (options === undefined || options.length + reservedBytes > roomBytes) return o;
  out.set(options, o);
  return o + options.length;
}

/** A: checksums asked for, or by now agreed; C: no joins to this address and port; H: the one algorithm that we have (3.1). */
export function capableFlags(checksums: boolean, joinInitial: boolean): number {
  return CAPABLE_H_SHA256 | (checksums ? CAPABLE_A_CHECKSUM : 0) | (joinInitial ? 0 : CAPABLE_C_NO_JOIN);
}

/** True while this segment must carry our proof: keys (until the peer shows it has them) or HMAC (until it answers). */
export function isProving(sf: MptcpSubflow, mapping: OutboundMapping | null): boolean {
  if (sf.side === 'passive') return false;
  if (sf.role === 'join') return !sf.isConfirmed;
  const c = sf.connection;
  if (c.isProven) return false;
  if (mapping !== null) return mapping.isFirst;
  // A DATA_FIN has no room beside the keys: they take turns until the peer has shown that it knows us.
  return !(sf.isFinDue && c.areKeysSent);
}

/** Of the MP_CAPABLE on data (3.1). */
export function capableDataBytes(hasChecksum: boolean): number {
  return hasChecksum ? CAPABLE_DATA_CHECKSUM_BYTES : CAPABLE_DATA_BYTES;
}

export function writeProof(
  sf: MptcpSubflow,
  mapping: OutboundMapping | null,
  out: Uint8Array,
  o: number,
  roomBytes: number,
): number {
  const { keys } = sf.connection;
  if (sf.role === 'join') {
    return sf.join.hmac === null || roomBytes < JOIN_ACK_BYTES ? o : writeJoinAck(out, o, sf.join.hmac);
  }
  // The third packet repeats the agreed A flag (3.1).
  const flags = capableFlags(keys.checksums, sf.connection.settings.joinInitial);
  if (mapping === null) {
    if (roomBytes < CAPABLE_ACK_BYTES) return o;
    sf.connection.areKeysSent = true;
    return writeCapableAck(out, o, flags, keys.localHi, keys.localLo, keys.remoteHi, keys.remoteLo);
  }
  if (roomBytes < capableDataBytes(mapping.checksum >= 0)) return o;
  return writeCapableData(
    out,
    o,
    flags,
    keys.localHi,
    keys.localLo,
    keys.remoteHi,
    keys.remoteLo,
    mapping.dll,
    mapping.checksum,
  );
}

// ---- In ------------------------------------------------------------------------------------------------------------

/** Options of the SYN/ACK that answers us (a SYN that we answer was read by the engine). */
export function onSynOptions(nowUs: Micros, sf: MptcpSubflow, seg: SegmentView): OptionVerdict {
  if (sf.side === 'passive') return 'continue';
  if (sf.role === 'join') return onJoinSynAck(sf, seg);
  if ((seg.flags & TCP_ACK) !== 0)
    sf.connection.synAckOptions = seg.buf.slice(seg.l4Off + TCP_HEADER_BYTES, seg.payloadOff);
  return onCapableSynAck(nowUs, sf, seg);
}

function onCapableSynAck(nowUs: Micros, sf: MptcpSubflow, seg: SegmentView): OptionVerdict {
  const c = sf.connection;
  if (c.mode !== 'pending') return 'continue';
  const o = seg.mptcp;
  const asksChecksums = (o.capableFlags & CAPABLE_A_CHECKSUM) !== 0;
  const isOurs = isSettled(o) && o.capableLength === CAPABLE_SYNACK_BYTES && (seg.flags & TCP_ACK) !== 0;
  const { plainDestinations } = c.host;
  const { linkId, remoteAddress } = sf.flow;
  if (isOurs) plainDestinations.forget(linkId, remoteAddress);
  if (!isOurs || (asksChecksums && c.settings.refusesChecksums) || c.synsSent > SYNS_WITH_MPTCP) {
    if (o.present === 0 && c.synsSent > SYNS_WITH_MPTCP) {
      c.host.count('MPTcpExtBlackhole');
      plainDestinations.note(nowUs, linkId, remoteAddress);
    }
    c.host.count('MPTcpExtMPCapableFallbackSYNACK');
    c.fallback.becomeTcp(nowUs, 'no acceptable MP_CAPABLE in the SYN/ACK');
    return 'continue';
  }
  c.host.count('MPTcpExtMPCapableSYNACKRX');
  c.keys.setRemote(o.senderKeyHi, o.senderKeyLo);
  if (asksChecksums) c.keys.checksums = true;
  c.isInitialAddressClosed = (o.capableFlags & CAPABLE_C_NO_JOIN) !== 0;
  c.mode = 'mptcp';
  return 'continue';
}

function onJoinSynAck(sf: MptcpSubflow, seg: SegmentView): OptionVerdict {
  const c = sf.connection;
  const o = seg.mptcp;
  const j = sf.join;
  if (sf.tcp.state !== 'syn-sent') return 'continue';
  if ((o.present & MPO.join) === 0 || o.joinLength !== JOIN_SYNACK_BYTES)
    return refuse(sf, 'MPTcpExtMPJoinSynAckRxMissing');
  const { env } = c.host;
  const expected = joinHmac(env, c.keys.authRemote, c.keys.authLocal, o.joinNonce, j.localNonce);
  if (!equalConstantTime(expected, o.joinHmac, JOIN_SYNACK_HMAC_BYTES)) {
    return refuse(sf, 'MPTcpExtMPJoinSynAckHMacFailure');
  }
  c.host.count('MPTcpExtMPJoinSynAckRx');
  j.remoteNonce = o.joinNonce;
  j.hmac = joinHmac(env, c.keys.authLocal, c.keys.authRemote, j.localNonce, o.joinNonce);
  sf.remoteAddressId = o.joinAddressId;
  sf.isRemoteBackup = o.joinBackup;
  return 'continue';
}

/** The third packet at the responder, or the fourth at the initiator of a join. */
export function onProof(nowUs: Micros, sf: MptcpSubflow, seg: SegmentView): OptionVerdict {
  if (sf.role === 'initial') return sf.side === 'passive' ? onCapableAck(nowUs, sf, seg) : 'continue';
  if (sf.side === 'passive') return onJoinAck(sf, seg);
  if (sf.tcp.isEstablished) sf.connection.onJoinConfirmed(sf);
  return 'continue';
}

function onCapableAck(nowUs: Micros, sf: MptcpSubflow, seg: SegmentView): OptionVerdict {
  const c = sf.connection;
  const o = seg.mptcp;
  // A DSS before the keys: the packet with the keys was lost or overtaken, and will come again (3.1). But not where the first
  // byte has none: it carries the keys, or nobody will (a Linux client whose Fast Open data was not taken).
  const isDssOnly = (o.present & (MPO.capable | MPO.dss)) === MPO.dss;
  if (isDssOnly && (seg.payloadLen === 0 || seg.seq !== (sf.tcp.irs + 1) >>> 0)) return 'drop';
  const isKeyed = isSettled(o) && o.capableLength >= CAPABLE_ACK_BYTES;
  const isOurKey = o.receiverKeyHi === c.keys.localHi && o.receiverKeyLo === c.keys.localLo;
  const isAgreed = ((o.capableFlags & CAPABLE_A_CHECKSUM) !== 0) === c.keys.checksums;
  // Whatever is odd about it, somebody has meddled with the handshake (3.1).
  if (!isKeyed || !isOurKey || !isAgreed) {
    c.host.count('MPTcpExtMPCapableFallbackACK');
    c.fallback.becomeTcp(nowUs, 'no valid MP_CAPABLE in the third packet');
    return 'continue';
  }
  c.host.count('MPTcpExtMPCapableACKRX');
  c.keys.setRemote(o.senderKeyHi, o.senderKeyLo);
  c.mode = 'mptcp';
  c.onProven();
  return 'continue';
}

function onJoinAck(sf: MptcpSubflow, seg: SegmentView): OptionVerdict {
  const c = sf.connection;
  const o = seg.mptcp;
  const j = sf.join;
  if ((o.present & MPO.join) === 0 || o.joinLength !== JOIN_ACK_BYTES) return refuse(sf, 'MPTcpExtMPJoinAckMissing');
  const expected = joinHmac(c.host.env, c.keys.authRemote, c.keys.authLocal, j.remoteNonce, j.localNonce);
  if (!equalConstantTime(expected, o.joinHmac, JOIN_ACK_HMAC_BYTES)) return refuse(sf, 'MPTcpExtMPJoinAckHMacFailure');
  c.host.count('MPTcpExtMPJoinAckRx');
  c.onJoinConfirmed(sf);
  return 'continue';
}

function refuse(sf: MptcpSubflow, counter: string): OptionVerdict {
  sf.resetReason = RST_REASON.mptcpSpecific;
  sf.connection.host.count(counter);
  return 'reset';
}

// ---- Progress ------------------------------------------------------------------------------------------------------

export function onTcpEstablished(nowUs: Micros, sf: MptcpSubflow): void {
  const c = sf.connection;
  if (sf.role === 'initial') {
    if (c.mode === 'pending') c.fallback.becomeTcp(nowUs, 'handshake completed without MP_CAPABLE');
    sf.isConfirmed = true;
    c.onInitialEstablished();
  } else if (sf.side === 'active') {
    sf.join.ackAtUs = nowUs + sf.tcp.rtt.rtoUs;
  } else if (sf.isConfirmed) {
    // The responder must answer the third packet at once: it is what the initiator waits for (3.2).
    sf.tcp.requestAck(nowUs);
  }
}

/** Repeats the third packet of a join until the peer answers; gives up with a RST. */
export function pumpJoin(nowUs: Micros, sf: MptcpSubflow): void {
  const j = sf.join;
  if (j.ackAtUs > nowUs) return;
  if (sf.isConfirmed) {
    j.ackAtUs = NEVER;
    return;
  }
  if (++j.ackTries > JOIN_ACK_TRIES) {
    j.ackAtUs = NEVER;
    sf.connection.resetSubflow(nowUs, sf, RST_REASON.mptcpSpecific);
    return;
  }
  sf.tcp.requestAck(nowUs);
  j.ackAtUs = nowUs + sf.tcp.rtt.rtoUs * 2 ** Math.min(j.ackTries, 4);
}

/**
 * One line per segment, for traces and failing tests, e.g.
 * `10.0.1.1:35218 > 10.0.1.2:5000 [S] seq 7 ack 0 len 0 win 64240 <mss 1460 sackOK ts 1:0 wscale 10> | MP_CAPABLE v1 flags=01`.
 * Numbers are as on the wire unless bases are given. It allocates: not for the packet path.
 */
import { ipFromBytes } from '../base/ip.js';
import { type AddAddrOption, MPO, type MptcpOptions } from './mptcp-options.js';
import { type SegmentView, TCP_ACK, TCP_CWR, TCP_ECE, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG } from './segment.js';

const FLAG_LETTERS: readonly (readonly [number, string])[] = [
  [TCP_SYN, 'S'],
  [TCP_FIN, 'F'],
  [TCP_RST, 'R'],
  [TCP_PSH, 'P'],
  [TCP_URG, 'U'],
  [TCP_ECE, 'E'],
  [TCP_CWR, 'W'],
  [TCP_ACK, '.'],
];

/** `seqBase` and `ackBase` (the sender's and the receiver's initial sequence numbers) make numbers relative. */
export function formatSegment(seg: SegmentView, seqBase = 0, ackBase = 0): string {
  const seq = (seg.seq - seqBase) >>> 0;
  const ack = (seg.flags & TCP_ACK) === 0 ? 0 : (seg.ack - ackBase) >>> 0;
  const gso = seg.gsoSize > 0 ? ` gso ${seg.gsoSize}` : '';
  const ce = seg.ecn === 3 ? ' CE' : '';
  const options = formatTcpOptions(seg, ackBase);
  const mptcp = formatMptcp(seg.mptcp);
  return (
    `${endpoint(seg, seg.srcOff, seg.srcPort)} > ${endpoint(seg, seg.dstOff, seg.dstPort)} [${formatFlags(seg.flags)}]` +
    ` seq ${seq} ack ${ack} len ${seg.payloadLen} win ${seg.window}${gso}${ce}` +
    (options === '' ? '' : ` <${options}>`) +
    (mptcp === '' ? '' : ` | ${mptcp}`)
  );
}

export function formatFlags(flags: number): string {
  return FLAG_LETTERS.map(([bit, letter]) => ((flags & bit) !== 0 ? letter : '')).join('');
}

function endpoint(seg: SegmentView, offset: number, port: number): string {
  const address = ipFromBytes(seg.buf, offset, seg.family).text;
  return seg.family === 4 ? `${address}:${port}` : `[${address}]:${port}`;
}

function formatTcpOptions(seg: SegmentView, ackBase: number): string {
  const words: string[] = [];
  if (seg.mss >= 0) words.push(`mss ${seg.mss}`);
  if (seg.sackPermitted) words.push('sackOK');
  if (seg.hasTs) words.push(`ts ${seg.tsVal}:${seg.tsEcr}`);
  if (seg.wscale >= 0) words.push(`wscale ${seg.wscale}`);
  for (let i = 0; i < seg.sackCount; i++) {
    words.push(`sack ${(seg.sackLeft[i]! - ackBase) >>> 0}-${(seg.sackRight[i]! - ackBase) >>> 0}`);
  }
  if (seg.hasBadOptions) words.push('bad-options');
  return words.join(' ');
}

/** The MPTCP options alone, separated by `; `. HMACs and 64-bit numbers in hex, as on the wire; keys never (RFC 8684 5). */
export function formatMptcp(m: MptcpOptions): string {
  const words: string[] = [];
  const has = (bit: number) => (m.present & bit) !== 0;
  if (has(MPO.capable)) words.push(formatCapable(m));
  if (has(MPO.join)) words.push(formatJoin(m));
  if (has(MPO.dss)) words.push(formatDss(m));
  if (has(MPO.addAddr)) words.push(...m.addAddrs.map(formatAddAddr));
  if (has(MPO.removeAddr)) words.push(`REMOVE_ADDR ids=${m.removeIds.join(',')}`);
  if (has(MPO.prio)) words.push(`MP_PRIO backup=${Number(m.prioBackup)}`);
  if (has(MPO.fail)) words.push(`MP_FAIL dsn=${hex64(m.failDsnHi, m.failDsnLo)}`);
  if (has(MPO.fastclose)) words.push('MP_FASTCLOSE key=*');
  if (has(MPO.tcprst)) words.push(`MP_TCPRST flags=${hex(m.tcprstFlags, 1)} reason=${m.tcprstReason}`);
  if (m.skipped > 0) words.push(`skipped=${m.skipped}`);
  return words.join('; ');
}

function formatCapable(m: MptcpOptions): string {
  let text = `MP_CAPABLE v${m.capableVersion} flags=${hex(m.capableFlags, 2)}`;
  if (m.capableLength >= 12) text += ' k1=*';
  if (m.capableLength >= 20) text += ' k2=*';
  if (m.capableLength >= 22) text += ` dll=${m.capableDll}`;
  if (m.capableChecksum >= 0) text += ` csum=${hex(m.capableChecksum, 4)}`;
  return text;
}

function formatJoin(m: MptcpOptions): string {
  const who = `id=${m.joinAddressId} backup=${Number(m.joinBackup)}`;
  if (m.joinLength === 12) return `MP_JOIN syn ${who} token=${hex(m.joinToken, 8)} nonce=${hex(m.joinNonce, 8)}`;
  if (m.joinLength === 16) {
    return `MP_JOIN synack ${who} hmac=${hexBytes(m.joinHmac.subarray(0, 8))} nonce=${hex(m.joinNonce, 8)}`;
  }
  return `MP_JOIN ack hmac=${hexBytes(m.joinHmac)}`;
}

function formatDss(m: MptcpOptions): string {
  let text = 'DSS';
  if (m.dataAckBytes > 0) text += ` dack=${dataNumber(m.dataAckBytes, m.dataAckHi, m.dataAckLo)}`;
  if (m.dsnBytes > 0) text += ` dsn=${dataNumber(m.dsnBytes, m.dsnHi, m.dsnLo)} ssn=${m.ssn} dll=${m.dll}`;
  if (m.dssChecksum >= 0) text += ` csum=${hex(m.dssChecksum, 4)}`;
  return m.dataFin ? `${text} DATA_FIN` : text;
}

function formatAddAddr(a: AddAddrOption): string {
  const port = a.port >= 0 ? ` port=${a.port}` : '';
  const tail = a.echo ? ' echo' : ` hmac=${hexBytes(a.hmac)}`;
  return `ADD_ADDR id=${a.addressId} addr=${a.address.text}${port}${tail}`;
}

function dataNumber(bytes: number, hi: number, lo: number): string {
  return bytes === 8 ? hex64(hi, lo) : hex(lo, 8);
}

function hex64(hi: number, lo: number): string {
  return hex(hi, 8) + hex(lo, 8);
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}

function hexBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => hex(b, 2)).join('');
}

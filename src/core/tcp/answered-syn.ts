/**
 * A SYN that is answered before there is a subflow (RFC 4987 3.5 and 3.6): what the SYN/ACK says, and as much of the SYN as
 * the subflow needs that is made once the peer has proved that it receives at its address. The engine keeps it in a small
 * record (joins) or gets it back from the third segment itself (SYN cookies).
 */
import type { Micros } from '../base/time.js';
import { SegmentView, TCP_ACK, TCP_CWR, TCP_ECE, TCP_SYN } from '../wire/segment.js';
import { putSynOptions, writeTcpHeader } from '../wire/tcp.js';
import type { SubflowConfig } from './config.js';

/** What of the TCP settings shows in a SYN/ACK. */
export type SynSettings = Pick<SubflowConfig, 'mtuBytes' | 'windowScale' | 'useTimestamps' | 'useSack' | 'useEcn'>;

export interface AnsweredSyn {
  readonly family: 4 | 6;
  /** Initial sequence numbers on the wire: ours and the peer's. */
  readonly iss: number;
  readonly irs: number;
  /** Window field of the SYN. */
  readonly window: number;
  /** MSS and window scale of the SYN, -1: none. */
  readonly mss: number;
  readonly wscale: number;
  readonly sack: boolean;
  /** TSval of the SYN; what it counts for only if `timestamps`. */
  readonly timestamps: boolean;
  readonly tsVal: number;
  readonly ecn: boolean;
  /** When the SYN/ACK left; NEVER: unknown, or it left more than once. */
  readonly sentUs: Micros;
}

/** What we take up of the options of `syn`, under `iss`. */
export function answerTo(syn: SegmentView, settings: SynSettings, iss: number, sentUs: Micros): AnsweredSyn {
  const marks = TCP_ECE | TCP_CWR;
  return {
    family: syn.family,
    iss,
    irs: syn.seq,
    window: syn.window,
    mss: syn.mss,
    wscale: syn.wscale,
    sack: syn.sackPermitted && settings.useSack,
    timestamps: syn.hasTs && settings.useTimestamps,
    tsVal: syn.tsVal,
    ecn: settings.useEcn && (syn.flags & marks) === marks,
    sentUs,
  };
}

/**
 * The SYN/ACK up to and including TCP's own options; `syn` gives the ports, `tsVal` is ours. It says nothing that the SYN did
 * not say, an MSS not either: until the address is proven the answer must not be much longer than what asked for it.
 */
export function writeSynAck(
  out: Uint8Array,
  start: number,
  syn: SegmentView,
  a: AnsweredSyn,
  settings: SynSettings,
  tsVal: number,
  windowBytes: number,
): number {
  const flags = TCP_SYN | TCP_ACK | (a.ecn ? TCP_ECE : 0);
  // RFC 7323 2.2: the window of a SYN is never scaled.
  const window = Math.min(windowBytes, 0xffff);
  const o = writeTcpHeader(out, start, syn.dstPort, syn.srcPort, a.iss, (a.irs + 1) >>> 0, flags, window);
  const mssBytes = a.mss >= 0 ? settings.mtuBytes - (a.family === 6 ? 60 : 40) : -1;
  const wscale = a.wscale >= 0 ? settings.windowScale : -1;
  return putSynOptions(out, o, mssBytes, a.sack, a.timestamps, tsVal, a.tsVal, wscale);
}

/** The SYN again, as far as a subflow reads it. */
export function synOf(a: AnsweredSyn): SegmentView {
  const syn = new SegmentView();
  syn.family = a.family;
  syn.seq = a.irs;
  syn.flags = TCP_SYN | (a.ecn ? TCP_ECE | TCP_CWR : 0);
  syn.window = a.window;
  syn.mss = a.mss;
  syn.wscale = a.wscale;
  syn.sackPermitted = a.sack;
  syn.hasTs = a.timestamps;
  syn.tsVal = a.tsVal;
  return syn;
}

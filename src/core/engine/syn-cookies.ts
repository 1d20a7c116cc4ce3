/**
 * SYN cookies (RFC 4987 3.6, appendix A): while too many handshakes are half open a SYN is answered without keeping anything;
 * the segment that completes the handshake brings everything back.
 *
 *   ISN     [ minute 2 | MSS index 3 | MPTCP 1 | MAC 26 ]   the MAC is over four-tuple, peer's ISN, minute, the other bits
 *   TSval   the low 6 bits say what else the SYN offered: [ window scale 4 | SACK 1 | ECN 1 ]; the peer echoes them
 *   key     our MPTCP key comes from the same HMAC, and the third packet carries both keys (RFC 8684 3.1): an echo of ours
 *           that fits proves that it was us who gave it out
 *
 * Without timestamps there is no window scale and no SACK. A guess at random opens a connection once in 2^26 times.
 */
import type { CoreEnv } from '../base/env.js';
import { type Micros, NEVER, US_PER_S } from '../base/time.js';
import { getU32, putU16, putU32 } from '../base/wire-int.js';
import { KEY_BYTES } from '../mptcp/keys.js';
import type { AnsweredSyn } from '../tcp/answered-syn.js';
import { timestampAt } from '../tcp/timestamps.js';
import type { SegmentView } from '../wire/segment.js';

/** A cookie counts for this "minute" and the next. */
const MINUTE_US: Micros = 64 * US_PER_S;
const MAC_BITS = 26;
const MAC_MASK = 2 ** MAC_BITS - 1;
/** MSS values that a cookie can say; the greatest not above the peer's is taken. */
const MSS_TABLE = [88, 536, 1220, 1300, 1380, 1420, 1440, 1460] as const;
const OPTION_BITS = 6;
const OPTION_MASK = 2 ** OPTION_BITS - 1;
const NO_WSCALE = 15;

/** What one SYN is answered with. */
export interface Cookie {
  readonly iss: number;
  /** Our key, should the answer carry MP_CAPABLE. */
  readonly key: Uint8Array;
}

/** What a good third packet tells. */
export interface CookieContents {
  readonly answered: AnsweredSyn;
  readonly key: Uint8Array;
  /** Our SYN/ACK carried MP_CAPABLE. */
  readonly hadMptcp: boolean;
}

export class SynCookies {
  private readonly secret = new Uint8Array(32);
  private lastGivenUs: Micros = Number.NEGATIVE_INFINITY;

  constructor(private readonly env: CoreEnv) {
    env.randomBytes(this.secret);
  }

  give(nowUs: Micros, syn: SegmentView, withMptcp: boolean): Cookie {
    this.lastGivenUs = nowUs;
    const minute = Math.floor(nowUs / MINUTE_US);
    let index = MSS_TABLE.length - 1;
    const mss = syn.mss < 0 ? defaultMss(syn.family) : syn.mss;
    while (index > 0 && MSS_TABLE[index]! > mss) index--;
    const said = (((minute % 4) << 4) | (index << 1) | (withMptcp ? 1 : 0)) >>> 0;
    const digest = this.digest(syn, syn.seq, minute, said);
    return { iss: said * 2 ** MAC_BITS + (getU32(digest, 0) & MAC_MASK), key: keyOf(digest) };
  }

  /** Some cookie may be valid now: else nobody may guess, and no HMAC is spent. */
  areAbout(nowUs: Micros): boolean {
    return nowUs - this.lastGivenUs < 2 * MINUTE_US;
  }

  /** Null: the segment acknowledges no cookie of ours. */
  check(nowUs: Micros, seg: SegmentView): CookieContents | null {
    const iss = (seg.ack - 1) >>> 0;
    const irs = (seg.seq - 1) >>> 0;
    const said = Math.floor(iss / 2 ** MAC_BITS);
    const now = Math.floor(nowUs / MINUTE_US);
    const age = (now - (said >>> 4)) & 3;
    if (age > 1) return null;
    const digest = this.digest(seg, irs, now - age, said);
    if ((getU32(digest, 0) & MAC_MASK) !== (iss & MAC_MASK)) return null;
    return {
      answered: {
        ...this.optionsOf(seg),
        family: seg.family,
        iss,
        irs,
        mss: MSS_TABLE[(said >>> 1) & 7]!,
        sentUs: NEVER,
      },
      key: keyOf(digest),
      hadMptcp: (said & 1) !== 0,
    };
  }

  private optionsOf(seg: SegmentView) {
    const bits = seg.hasTs ? seg.tsEcr & OPTION_MASK : NO_WSCALE << 2;
    const wscale = bits >>> 2;
    return {
      window: seg.window,
      wscale: wscale === NO_WSCALE ? -1 : wscale,
      sack: (bits & 2) !== 0,
      ecn: (bits & 1) !== 0,
      timestamps: seg.hasTs,
      tsVal: seg.tsVal,
    };
  }

  private digest(seg: SegmentView, irs: number, minute: number, said: number): Uint8Array {
    const addressBytes = seg.family === 6 ? 16 : 4;
    const message = new Uint8Array(2 * addressBytes + 14);
    message.set(seg.buf.subarray(seg.srcOff, seg.srcOff + addressBytes), 0);
    message.set(seg.buf.subarray(seg.dstOff, seg.dstOff + addressBytes), addressBytes);
    const o = 2 * addressBytes;
    putU16(message, o, seg.srcPort);
    putU16(message, o + 2, seg.dstPort);
    putU32(message, o + 4, irs);
    putU32(message, o + 8, minute >>> 0);
    putU16(message, o + 12, said);
    return this.env.hmacSha256(this.secret, message);
  }
}

/** What a cookie can carry of what we would answer: without timestamps neither scale nor SACK nor ECN. */
export function withinCookie(a: AnsweredSyn): AnsweredSyn {
  if (!a.timestamps) return { ...a, wscale: -1, sack: false, ecn: false };
  return { ...a, wscale: Math.min(a.wscale, 14) };
}

/** TSval of the SYN/ACK: the clock, its low bits replaced, and never ahead of it (later ones must not be smaller). */
export function cookieTsVal(nowUs: Micros, tsOffset: number, a: AnsweredSyn): number {
  const clock = timestampAt(nowUs, tsOffset);
  const wscale = a.wscale < 0 ? NO_WSCALE : a.wscale;
  const bits = (wscale << 2) | (a.sack ? 2 : 0) | (a.ecn ? 1 : 0);
  const step = bits > (clock & OPTION_MASK) ? 2 ** OPTION_BITS : 0;
  return ((clock & ~OPTION_MASK) - step + bits) >>> 0;
}

function keyOf(digest: Uint8Array): Uint8Array {
  return digest.slice(8, 8 + KEY_BYTES);
}

/** RFC 9293 3.7.1: of a SYN without the option. */
function defaultMss(family: 4 | 6): number {
  return family === 6 ? 1220 : 536;
}

/**
 * Path MTU of one subflow. Three sources: ICMP reports (RFC 1191, RFC 8201), believed as RFC 5927 7.2 says; black-hole
 * detection (RFC 4821 7.7, RFC 2923 2.1) for paths that drop large packets without a word; and the search upwards with
 * probes that carry data (RFC 4821 7.2 to 7.6). One probe is out at a time; who sends it: transmitter.ts.
 *
 *      proven          in force = mtuBytes          search high            link MTU
 *   ─────┼───────────────────┼───── probes ─────────────┼── after 10 minutes ──┤
 *
 * A dead path looks like a black hole. So after two timeouts of full segments smaller ones are tried, and the first probe
 * after they got through is of the size that was given up: a path that was only away has it back within a round trip.
 */
import type { Micros } from '../base/time.js';
import { NEVER, US_PER_S } from '../base/time.js';

/** Reports below these are not believed (RFC 1191 3 with the 68-byte attack in mind; RFC 8201 4). */
const MIN_MTU_V4 = 552;
const MIN_MTU_V6 = 1280;
/** Larger sizes are tried again this long after a decrease (RFC 1191 6.3, RFC 8201 4: not before 5 min; 10 recommended). */
const RAISE_AFTER_US = 600 * US_PER_S;
/** Sizes that black-hole detection tries, and that stand in for the MTU which an old router's report lacks (RFC 1191 5). */
const PLATEAUS = [1400, 1280, 1024, MIN_MTU_V4];
const SUSPECT_AFTER_RTOS = 2;
/** The search is over when less than this could be gained (RFC 4821 7.3). */
const CONVERGED_BYTES = 16;
/** After a probe that ended in a timeout the next one waits longer (RFC 4821 7.6.3). */
const TIMEOUT_PATIENCE = 5;

/** How a probe was lost: nothing else was; other segments were too, so that it says nothing; by an RTO. */
export type ProbeLoss = 'alone' | 'amid' | 'timeout';

export class PathMtu {
  /** In force (eff_pmtu of RFC 4821). */
  mtuBytes: number;
  #linkMtuBytes: number;
  /** Largest size that may still pass. */
  #highBytes: number;
  /** Largest packet known to have arrived, since sizes last had to come down (maxsizeacked of RFC 5927). */
  #provenBytes = 0;
  /** When sizes above #highBytes become worth a try. */
  #raiseAtUs: Micros = NEVER;
  /** The first probe of a search is of the largest size; failures then halve the range. */
  #triesHigh = true;
  #probeNotBeforeUs: Micros = 0;
  /** Sequence range and packet size of the probe that is out; -1: none. */
  #probeSeq = -1;
  #probeEnd = -1;
  #probeBytes = 0;
  /** A report that contradicts what has arrived, and the sequence number it quotes; 0: none. */
  #pendingBytes = 0;
  #pendingSeq = 0;
  #fullSizeRtos = 0;

  constructor(
    linkMtuBytes: number,
    private readonly isV6: boolean,
  ) {
    this.#linkMtuBytes = linkMtuBytes;
    this.#highBytes = linkMtuBytes;
    this.mtuBytes = linkMtuBytes;
  }

  get minMtuBytes(): number {
    return this.isV6 ? MIN_MTU_V6 : MIN_MTU_V4;
  }

  // ---- reports

  /** A report (0: it names no MTU) that quotes `seq`, which is in flight. True: the path MTU became smaller. */
  onPacketTooBig(nowUs: Micros, reportedBytes: number, seq: number): boolean {
    const isOfProbe = this.isProbe(seq);
    const sentBytes = isOfProbe ? this.#probeBytes : this.mtuBytes;
    const mtu = Math.max(reportedBytes > 0 ? reportedBytes : this.#plateauBelow(sentBytes), this.#leastBytes());
    if (mtu >= this.mtuBytes) {
      if (isOfProbe && mtu < this.#probeBytes) this.#highBytes = Math.min(this.#highBytes, mtu);
      return false;
    }
    if (mtu < this.#provenBytes) {
      // RFC 5927 7.2: packets of this size do arrive. It is remembered, and counts if the segment times out.
      this.#pendingBytes = mtu;
      this.#pendingSeq = seq;
      return false;
    }
    this.#lower(nowUs, mtu);
    return true;
  }

  /** A packet of this size arrived. */
  onDelivered(packetBytes: number): void {
    if (packetBytes > this.#provenBytes) this.#provenBytes = packetBytes;
  }

  /** SND.UNA advanced. */
  onProgress(sndUna: number): void {
    this.#fullSizeRtos = 0;
    if (sndUna > this.#pendingSeq) this.#pendingBytes = 0;
    if (sndUna >= this.#probeEnd) this.#probeSeq = this.#probeEnd = -1;
  }

  // ---- the local link, and time

  onLinkMtu(mtuBytes: number): void {
    const wasLowered = this.mtuBytes < this.#linkMtuBytes;
    this.#linkMtuBytes = mtuBytes;
    this.mtuBytes = wasLowered ? Math.min(this.mtuBytes, mtuBytes) : mtuBytes;
    this.#highBytes = wasLowered ? Math.min(this.#highBytes, mtuBytes) : mtuBytes;
  }

  /** Sizes up to the link's are worth a try again. True: without `canProbe` the MTU itself is now that (RFC 1191 6.3). */
  maybeRaise(nowUs: Micros, canProbe: boolean): boolean {
    if (nowUs < this.#raiseAtUs) return false;
    this.#raiseAtUs = NEVER;
    this.#highBytes = this.#linkMtuBytes;
    this.#triesHigh = true;
    if (canProbe) return false;
    this.mtuBytes = this.#linkMtuBytes;
    return true;
  }

  // ---- black holes

  /** A retransmission timeout; `isFullSize`: the earliest outstanding data fills a segment. True: MTU lowered. */
  onRto(nowUs: Micros, isFullSize: boolean): boolean {
    if (this.#pendingBytes > 0) {
      this.#lower(nowUs, this.#pendingBytes);
      return true;
    }
    if (!isFullSize || ++this.#fullSizeRtos < SUSPECT_AFTER_RTOS) return false;
    const next = this.#plateauBelow(this.mtuBytes);
    if (next >= this.mtuBytes) return false;
    const highBytes = this.#highBytes;
    this.#lower(nowUs, next);
    this.#provenBytes = 0;
    this.#highBytes = highBytes;
    this.#triesHigh = true;
    this.#probeNotBeforeUs = nowUs;
    return true;
  }

  // ---- probes upwards

  /** A search is under way; cheap, for the packet path. */
  get isSearching(): boolean {
    return this.#highBytes > this.mtuBytes && this.#probeSeq < 0;
  }

  /** Packet size to probe with now, or 0. */
  probeSizeBytes(nowUs: Micros): number {
    if (!this.isSearching || nowUs < this.#probeNotBeforeUs) return 0;
    return this.#triesHigh ? this.#highBytes : Math.ceil((this.mtuBytes + this.#highBytes) / 2);
  }

  /** Nothing larger than what is in force can be sent (the peer's MSS option): the search is over. */
  stopSearch(nowUs: Micros): void {
    this.#highBytes = this.mtuBytes;
    if (this.mtuBytes < this.#linkMtuBytes) this.#raiseAtUs = nowUs + RAISE_AFTER_US;
  }

  onProbeSent(seq: number, endSeq: number, packetBytes: number): void {
    this.#probeSeq = seq;
    this.#probeEnd = endSeq;
    this.#probeBytes = packetBytes;
  }

  isProbe(seq: number): boolean {
    return seq >= this.#probeSeq && seq < this.#probeEnd;
  }

  /** [seq, endSeq), sent once, arrived. True: it was the whole probe, and its size is now in force (RFC 4821 7.6.1). */
  onProbeDelivered(nowUs: Micros, seq: number, endSeq: number): boolean {
    if (seq !== this.#probeSeq || endSeq !== this.#probeEnd) return false;
    this.#probeSeq = this.#probeEnd = -1;
    this.mtuBytes = this.#probeBytes;
    this.onDelivered(this.#probeBytes);
    this.#checkConverged(nowUs);
    return true;
  }

  /** RFC 4821 7.6.2 to 7.6.4; `waitUs` is about the time between congestion events, until which nothing is probed. */
  onProbeLost(nowUs: Micros, how: ProbeLoss, waitUs: Micros): void {
    this.#probeSeq = this.#probeEnd = -1;
    if (how === 'amid') return;
    this.#highBytes = Math.max(this.mtuBytes, Math.min(this.#highBytes, this.#probeBytes - 1));
    this.#triesHigh = false;
    this.#probeNotBeforeUs = nowUs + (how === 'timeout' ? TIMEOUT_PATIENCE * waitUs : waitUs);
    this.#checkConverged(nowUs);
  }

  #checkConverged(nowUs: Micros): void {
    if (this.#highBytes - this.mtuBytes < CONVERGED_BYTES) this.stopSearch(nowUs);
  }

  #lower(nowUs: Micros, mtuBytes: number): void {
    this.mtuBytes = mtuBytes;
    this.#highBytes = mtuBytes;
    this.#provenBytes = Math.min(this.#provenBytes, mtuBytes);
    this.#raiseAtUs = nowUs + RAISE_AFTER_US;
    this.#pendingBytes = 0;
    this.#fullSizeRtos = 0;
    this.#probeSeq = this.#probeEnd = -1;
  }

  /** The next smaller plateau that this family may use, else `bytes`. */
  #plateauBelow(bytes: number): number {
    for (const mtu of PLATEAUS) if (mtu < bytes && mtu >= this.minMtuBytes) return mtu;
    return bytes;
  }

  #leastBytes(): number {
    return Math.min(this.minMtuBytes, this.#linkMtuBytes);
  }
}

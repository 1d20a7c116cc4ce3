/**
 * Dead-path suspicion without timeouts of seconds (DESIGN 3.4): bytes are outstanding and nothing was acknowledged for
 * longer than the path has ever needed. The path's bytes go again elsewhere at once, new bytes avoid it, and TCP probes
 * it at a steady interval until something comes back. Terminal only after minutes beside a path that works.
 */
import { type Micros, NEVER, US_PER_MS, US_PER_S } from '../base/time.js';
import type { MptcpSubflow } from './subflow.js';

/** Silence that no working path shows, whatever its RTT. */
const SILENCE_FLOOR_US: Micros = 60 * US_PER_MS;
/** A lone segment may wait for its acknowledgment (RFC 9293 3.8.6.3; RFC 8985 7.2 allows for it in the same way). */
export const DELAYED_ACK_US: Micros = 40 * US_PER_MS;
const VARIANCE_CAP_US: Micros = 100 * US_PER_MS;
/** Probes of a suspected path: quick while someone may be waiting for it, slower when it stays dead. */
export const PROBE_INTERVAL_US: Micros = 250 * US_PER_MS;
export const SLOW_PROBE_INTERVAL_US: Micros = 15 * US_PER_S;
const SLOW_AFTER_US: Micros = 30 * US_PER_S;
/** Longer than radios pause (100 to 250 ms): afterwards the path may be another one. */
const OUTAGE_US: Micros = 300 * US_PER_MS;
/** … and longer than estimates are kept while nothing confirms them (bbr.ts): to find out again takes about as long. */
const OUTAGE_RTTS = 10;
/** A path that stays dead this long beside one that works is declared failed (RFC 8684 3.3.6): more than twice TCP's R2. */
export const GIVE_UP_AFTER_US: Micros = 300 * US_PER_S;
/** So many keepalives in a row without an answer are no accident (a radio may take a second to wake up). */
const LOST_KEEPALIVES = 2;
/** With nothing else to turn to, a path is treated as dead after this many RTOs. */
const RTOS_WITHOUT_ALTERNATIVE = 2;

/**
 * When `sf` will have been silent for too long: max(2 SRTT, 60 ms), more where its RTT varies by more than that. NEVER if
 * nothing is outstanding or it is suspected already.
 */
export function suspicionAtUs(sf: MptcpSubflow): Micros {
  const { tcp } = sf;
  if (sf.isStalled || !sf.isConfirmed || tcp.oldestUnackedSentUs === NEVER) return NEVER;
  const { srttUs, rttVarUs } = tcp.rtt;
  const sinceUs = Math.max(tcp.lastProgressUs, tcp.oldestUnackedSentUs);
  const isLone = tcp.sndNxt - tcp.sndUna <= tcp.mssBytes;
  const usualUs = Math.max(2 * srttUs, srttUs + Math.min(4 * rttVarUs, VARIANCE_CAP_US), SILENCE_FLOOR_US);
  return sinceUs + usualUs + (isLone ? DELAYED_ACK_US : 0);
}

/** Bytes came through since it was suspected; where none are outstanding, any answer to a probe will do. */
export function hasRecovered(sf: MptcpSubflow): boolean {
  if (!sf.isStalled || sf.isLinkDown) return false;
  const { tcp } = sf;
  return (
    tcp.lastProgressUs > sf.stalledAtUs || (tcp.oldestUnackedSentUs === NEVER && tcp.lastReceivedUs > sf.stalledAtUs)
  );
}

/** That was no pause: whatever was known of the path is not known to hold (RFC 5681 4.1). */
export function wasOutage(nowUs: Micros, sf: MptcpSubflow): boolean {
  return nowUs - sf.stalledAtUs > Math.max(OUTAGE_US, OUTAGE_RTTS * sf.tcp.rtt.minRttUs);
}

/** An idle path does not answer its keepalives: better known before it is needed. */
export function hasLostKeepalives(sf: MptcpSubflow): boolean {
  return !sf.isStalled && sf.tcp.keepalivesUnanswered > LOST_KEEPALIVES;
}

export function isHopeless(rtoCount: number): boolean {
  return rtoCount >= RTOS_WITHOUT_ALTERNATIVE;
}

/** Probe interval for a path that was suspected, or last gave reason for hope, at `quickSinceUs`. */
export function probeIntervalUs(nowUs: Micros, quickSinceUs: Micros): Micros {
  return nowUs - quickSinceUs < SLOW_AFTER_US ? PROBE_INTERVAL_US : SLOW_PROBE_INTERVAL_US;
}

/** When `sf` has been dead for too long; a subflow without its link stands still instead. */
export function giveUpAtUs(sf: MptcpSubflow): Micros {
  return sf.isStalled && !sf.isLinkDown ? sf.askedSinceUs + GIVE_UP_AFTER_US : NEVER;
}

export function slowDownAtUs(sf: MptcpSubflow): Micros {
  return sf.isStalled ? sf.quickSinceUs + SLOW_AFTER_US : NEVER;
}

/**
 * Dead-path suspicion without timeouts of seconds (DESIGN 3.4): bytes are outstanding and nothing was acknowledged for
 * longer than the path has ever needed. The path's bytes go again elsewhere at once, new bytes avoid it, and TCP probes
 * it at a steady interval until something comes back. Terminal only after minutes beside a path that works.
 */
import { type Micros, NEVER, US_PER_MS, US_PER_S } from '../base/time.js';
import type { MptcpSubflow } from './subflow.js';

/** Silence above the smoothed RTT that no working path shows: a delayed ACK (40 ms) and some. */
const SILENCE_FLOOR_US: Micros = 60 * US_PER_MS;
const VARIANCE_CAP_US: Micros = 100 * US_PER_MS;
/** Probes of a suspected path: quick while someone may be waiting for it, slower when it stays dead. */
export const PROBE_INTERVAL_US: Micros = 250 * US_PER_MS;
export const SLOW_PROBE_INTERVAL_US: Micros = 15 * US_PER_S;
const SLOW_AFTER_US: Micros = 30 * US_PER_S;
/** A path that stays dead this long beside one that works is declared failed (RFC 8684 3.3.6): more than twice TCP's R2. */
export const GIVE_UP_AFTER_US: Micros = 300 * US_PER_S;
/** With nothing else to turn to, a path is treated as dead after this many RTOs. */
const RTOS_WITHOUT_ALTERNATIVE = 2;

/** When `sf` will have been silent for too long, NEVER if nothing is outstanding or it is suspected already. */
export function suspicionAtUs(sf: MptcpSubflow): Micros {
  const { tcp } = sf;
  if (sf.isStalled || !sf.isConfirmed || tcp.oldestUnackedSentUs === NEVER) return NEVER;
  const { srttUs, rttVarUs } = tcp.rtt;
  const sinceUs = Math.max(tcp.lastProgressUs, tcp.oldestUnackedSentUs);
  return sinceUs + Math.max(2 * srttUs, srttUs + SILENCE_FLOOR_US) + Math.min(4 * rttVarUs, VARIANCE_CAP_US);
}

/** Bytes came through since it was suspected; where none are outstanding, any answer to a probe will do. */
export function hasRecovered(sf: MptcpSubflow): boolean {
  if (!sf.isStalled || sf.isLinkDown) return false;
  const { tcp } = sf;
  return (
    tcp.lastProgressUs > sf.stalledAtUs || (tcp.oldestUnackedSentUs === NEVER && tcp.lastReceivedUs > sf.stalledAtUs)
  );
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

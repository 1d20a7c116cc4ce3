/** Limits of the termination at the TUN, and how its TCP differs from that of a subflow on a link. */
import { US_PER_MS, US_PER_S } from '../base/time.js';
import type { SubflowConfig } from '../tcp/subflow.js';

/** Flows at once, those whose SYN waits for an answer included. A SYN beyond is not taken: the packet lane carries that flow. */
export const MAX_FLOWS = 4_096;

/** Window that a flow begins with, and what it grows to while its reader keeps up (it doubles each time it has been read). */
export const FIRST_WINDOW_BYTES = 128 * 1024;
export const MAX_WINDOW_BYTES = 4 * 1024 * 1024;
/** Windows of all flows together: beyond it none grows. */
export const MAX_WINDOWS_BYTES = 256 * 1024 * 1024;
/**
 * On their way to an application at once: a TUN loses nothing, so congestion control would let a whole receive buffer wait
 * there. 2 Gbit/s with 8 ms until the application's host has run again.
 */
export const MAX_FLIGHT_BYTES = 2 * 1024 * 1024;

/** Shift of our windows (RFC 7323): MAX_WINDOW_BYTES fits. */
export const WINDOW_SHIFT = 7;

/** Answers that belong to no flow (RST and ICMP) per second. */
export const MAX_ANSWERS_PER_S = 500;

/**
 * The applications are on this host, or behind it: a TUN neither delays nor keeps packets, so 2 MSL is short (a SYN with a
 * later timestamp ends it earlier still, RFC 6191), and acknowledgments cost a memory copy. An application may stay half-closed for
 * as long as it likes; keepalives find out who is gone (RFC 9293 3.8.4).
 */
export const FLOW_TCP: Partial<SubflowConfig> = {
  windowScale: WINDOW_SHIFT,
  delayedAckUs: 2 * US_PER_MS,
  timeWaitUs: 2 * US_PER_S,
  keepalive: true,
  keepaliveProbes: 9,
};

/** A TUN has no bottleneck whose rate could be measured (a controller that models one finds nothing, or the wrong thing). */
export const FLOW_CONGESTION = 'cubic';

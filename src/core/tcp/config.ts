/** Settings and counters of one subflow. */
import type { Micros } from '../base/time.js';
import { US_PER_MS, US_PER_S } from '../base/time.js';
import type { CongestionConfig, ControllerFactory } from '../congestion/controller.js';
import type { Coupling } from '../congestion/coupling.js';

export interface SubflowConfig {
  /** MTU of the local link: the upper bound of the path MTU, and what our MSS option is derived from. */
  readonly mtuBytes: number;
  /** Shift of our receive window, 0..14 (RFC 7323 2.3). */
  readonly windowScale: number;
  readonly congestion: ControllerFactory;
  /** Where coupled controllers of one connection's subflows meet (RFC 6356). */
  readonly coupling?: Coupling | undefined;
  /** Initial window, segments (RFC 6928: 10). */
  readonly initialCwndSegments: number;
  /** Slow start ends here, if it does not end before (RFC 9040 6.1); absent: nothing is known. */
  readonly initialSsthreshBytes?: number;
  /** What other connections know of the path; absent: nobody is asked. */
  readonly recall?: CongestionConfig['recall'];
  /** First RTO, before any sample (RFC 6298 2.1: 1 s). */
  readonly initialRtoUs: Micros;
  /** Floor of the RTO. RFC 6298 2.4 says 1 s; 200 ms as Linux has it (deviation: docs/decisions). */
  readonly minRtoUs: Micros;
  /** Cap of the RTO, back-off included; >= 60 s (RFC 6298 2.5). */
  readonly maxRtoUs: Micros;
  /** Longest delay of an ACK; at most 500 ms (RFC 9293 3.8.6.3). */
  readonly delayedAckUs: Micros;
  /** Full segments acknowledged at once at the start of a connection, for the peer's slow start. */
  readonly quickAckSegments: number;
  /** SYN (or SYN/ACK) retransmissions; 7 with doubling from 1 s to 60 s is more than 3 minutes (RFC 9293 3.8.3). */
  readonly synRetries: number;
  /** Give up after this long without any progress (RFC 9293 3.8.3, R2: at least 100 s). */
  readonly r2Us: Micros;
  /** 2 MSL. */
  readonly timeWaitUs: Micros;
  /** FIN-WAIT-2 without any news from the peer ends after this long, once nobody waits for its data. */
  readonly finWait2Us: Micros;
  readonly useTimestamps: boolean;
  readonly useSack: boolean;
  readonly useEcn: boolean;
  /** Most payload in one super-packet. */
  readonly maxSuperBytes: number;
  /** Out-of-order ranges remembered; a segment that would open a further one is dropped. */
  readonly maxReceiveRanges: number;
  /** Challenge ACKs per second (RFC 5961 7). */
  readonly challengeAcksPerSecond: number;
  /** Off unless asked for (RFC 9293 3.8.4 MUST-25); `TcpSubflow.setKeepAlive` for one connection. */
  readonly keepalive: boolean;
  /** Idle time before keepalives start, at least two hours unless somebody says otherwise (MUST-28). */
  readonly keepaliveIdleUs: Micros;
  readonly keepaliveIntervalUs: Micros;
  /** Unanswered probes after which the connection is given up; one says nothing (MUST-29). */
  readonly keepaliveProbes: number;
  /** No Nagle algorithm (RFC 9293 3.7.4). */
  readonly noDelay: boolean;
}

/** Everything but the congestion controller, which the caller chooses. */
export const DEFAULT_SUBFLOW_CONFIG: Omit<SubflowConfig, 'congestion' | 'coupling'> = {
  mtuBytes: 1500,
  windowScale: 8,
  initialCwndSegments: 10,
  initialRtoUs: US_PER_S,
  minRtoUs: 200 * US_PER_MS,
  maxRtoUs: 60 * US_PER_S,
  delayedAckUs: 40 * US_PER_MS,
  quickAckSegments: 16,
  synRetries: 7,
  r2Us: 120 * US_PER_S,
  timeWaitUs: 60 * US_PER_S,
  finWait2Us: 60 * US_PER_S,
  useTimestamps: true,
  useSack: true,
  useEcn: false,
  maxSuperBytes: 64 * 1024 - 256,
  maxReceiveRanges: 256,
  challengeAcksPerSecond: 10,
  keepalive: false,
  keepaliveIdleUs: 7_200 * US_PER_S,
  keepaliveIntervalUs: 75 * US_PER_S,
  keepaliveProbes: 9,
  noDelay: true,
};

/** Monotonic counters. Bytes are payload. */
export class SubflowStats {
  segmentsSent = 0;
  segmentsReceived = 0;
  bytesSent = 0;
  bytesRetransmitted = 0;
  bytesReceived = 0;
  /** Segments (of the MSS then) declared lost, and RTOs, tail probes, recoveries that proved spurious. */
  segmentsLost = 0;
  rtos = 0;
  tlps = 0;
  fastRecoveries = 0;
  spurious = 0;
  sacksReceived = 0;
  dsacksReceived = 0;
  dsacksSent = 0;
  challengeAcks = 0;
  challengeAcksSuppressed = 0;
  zeroWindowProbes = 0;
  keepalives = 0;
  delayedAcks = 0;
  ecnReductions = 0;
  pmtuReductions = 0;
  pmtuProbes = 0;
  /** Segments ignored, by reason. */
  dropPaws = 0;
  dropOutOfWindow = 0;
  dropBadAck = 0;
  dropNoAck = 0;
  dropRangesFull = 0;
  dropIcmpSequence = 0;
}

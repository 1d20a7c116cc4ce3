/**
 * Congestion control of one subflow. A controller is pure state: it sees samples and answers with a window and a
 * pacing rate. Loss *detection* (RACK-TLP, RTO, undo) is TCP's. Units: bytes, bytes per second, microseconds.
 */
import type { Micros } from '../base/time.js';
import type { Coupling } from './coupling.js';

/** One ACK's worth of news, with a delivery-rate sample (draft-ietf-ccwg-bbr, "delivery rate estimation"). Reused. */
export class AckSample {
  nowUs: Micros = 0;
  /** Bytes newly delivered by this ACK (cumulative + SACKed). */
  deliveredBytes = 0;
  /** Bytes newly cumulatively acknowledged. */
  ackedBytes = 0;
  /** Bytes newly marked lost while processing this ACK. */
  lostBytes = 0;
  /** Bytes in flight before and after this ACK. */
  priorInFlightBytes = 0;
  inFlightBytes = 0;
  /** RTT of the newest segment this ACK covers, -1 if none is valid (Karn). */
  rttUs = -1;
  srttUs = 0;
  minRttUs = 0;
  /** Delivery rate over the sampling interval, bytes/s; 0 = no valid sample. */
  rateBytesPerS = 0;
  /** The sample's interval was limited by the application. */
  isAppLimited = false;
  /** Connection's total delivered bytes now, and when the sampled segment was sent (round counting). */
  totalDeliveredBytes = 0;
  priorDeliveredBytes = 0;
  /** In fast recovery / in RTO recovery. */
  inRecovery = false;
  /** The sender used (almost) all of cwnd since the last ACK: growth is allowed (RFC 7661). */
  isCwndLimited = true;
  /** ACK had ECE. */
  ece = false;
}

/** What a controller has found out about a path, for a later one on it. */
export interface KnownPath {
  readonly rateBytesPerS: number;
  /** False: the path has carried this, and may carry more. */
  readonly isWhole: boolean;
  readonly minRttUs: Micros;
  /** When the rate was last measured. */
  readonly measuredUs: Micros;
}

export interface CongestionConfig {
  mssBytes: number;
  initialCwndSegments: number; // RFC 6928: 10
  /** Where the first slow start ends at the latest, as earlier connections found (RFC 9040); absent: not known. */
  initialSsthreshBytes?: number | undefined;
  /** What is known of the path now, if `asker` is alone on it; null: nothing, or it is not. Absent: nobody knows. */
  recall?: ((nowUs: Micros, asker: CongestionController) => KnownPath | null) | undefined;
  /** The connection's, where coupled controllers meet; absent: there are no siblings. */
  coupling?: Coupling | undefined;
}

export interface CongestionController {
  readonly name: string;
  readonly cwndBytes: number;
  readonly ssthreshBytes: number;
  /** Rate the pacer may send at; Infinity before the first RTT sample. */
  readonly pacingRateBytesPerS: number;
  readonly inSlowStart: boolean;
  /** For a later connection (RFC 9040); null: nothing was measured yet. Absent: this controller does not measure it. */
  readonly knownPath?: KnownPath | null;

  onSent(nowUs: Micros, bytes: number, inFlightBytes: number): void;
  onAck(sample: AckSample): void;
  /** Entering fast recovery (once per round of loss, RFC 6675) or an ECN reduction. */
  onCongestionEvent(nowUs: Micros, inFlightBytes: number, kind: 'loss' | 'ecn'): void;
  onRecoveryExit(nowUs: Micros): void;
  /** First RTO of a series (RFC 5681 (4), RFC 9438 4.8). */
  onRto(nowUs: Micros, inFlightBytes: number): void;
  /** The last reduction was spurious (DSACK, Eifel, F-RTO): restore what was before it. */
  onUndo(nowUs: Micros): void;
  /** Sending resumes after `idleUs` without anything in flight (RFC 5681 4.1). */
  onIdleRestart(nowUs: Micros, idleUs: Micros, rtoUs: Micros): void;
  /**
   * The path is back after an outage: as new. What is known from before is not known to hold (RFC 5681 4.1), and what was
   * sent since, a segment at a time, says nothing. Samples and losses of what left before are not reported any more.
   */
  onPathRestart(nowUs: Micros): void;
  onMssChange(mssBytes: number): void;
  /** The handshake is over and nothing was sent yet: the initial window (RFC 6928), of the MSS that it settled. */
  onInitialWindow(windowBytes: number): void;
}

export type ControllerFactory = (config: CongestionConfig) => CongestionController;

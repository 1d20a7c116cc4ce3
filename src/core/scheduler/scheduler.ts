/**
 * A scheduler decides which path the next bytes take. It is a pure function over snapshots (plain numbers, refreshed by
 * the connection before each call) and keeps only small private state (a cursor). Returning null means "wait": every
 * eligible path is full, or waiting for the quicker one is better than using a slow one now.
 */
import type { Micros } from '../base/time.js';

export interface PathSnapshot {
  /** Index into the connection's subflow list, now. */
  readonly index: number;
  /** The subflow's own number, which it keeps: for what a scheduler remembers of a path. */
  readonly id: number;
  /** Both ends want no data here while a non-backup path is usable (RFC 8684 3.3.8). */
  readonly isBackup: boolean;
  /** Established, confirmed (not PRE_ESTABLISHED), not closing. */
  readonly isUsable: boolean;
  /** No progress although bytes are outstanding (suspected dead): only probes go there. */
  readonly isStalled: boolean;
  /** Late by its own measure, though not yet stalled (mptcp/doubts.ts); false unless the scheduler asks for it. */
  readonly isDoubted: boolean;
  /** It admits nothing now because of the operator's limit: full, however little is in flight. */
  readonly isHeldByLimit: boolean;
  readonly srttUs: Micros;
  readonly rttVarUs: Micros;
  readonly minRttUs: Micros;
  readonly cwndBytes: number;
  readonly inFlightBytes: number;
  /** What window, cwnd and pacing credit admit right now. */
  readonly availableBytes: number;
  /** When pacing would admit more; equals now if it does. */
  readonly readyAtUs: Micros;
  /** Delivery-rate estimate, bytes/s; 0 = unknown. */
  readonly rateBytesPerS: number;
  readonly mssBytes: number;
}

export interface SchedulerInput {
  readonly nowUs: Micros;
  readonly paths: readonly PathSnapshot[];
  /** Bytes waiting for a path. */
  readonly pendingBytes: number;
  /** Room in the connection-level send window. */
  readonly windowBytes: number;
  /** When the peer's window last held bytes back, -1: never. */
  readonly windowFullUs: Micros;
}

export interface Scheduler {
  readonly name: string;
  /** Paths that are late are doubted, and what they have outstanding is copied (mptcp/doubts.ts). */
  readonly copiesOnDoubt?: boolean;
  /** Nobody waits but for the whole of what is sent: what one path has lost is copied to another only where that saves much. */
  readonly isPatient?: boolean;
  /** Why the path with this id was passed over lately although it had room, or null. */
  whyNot?(nowUs: Micros, id: number): string | null;
  /** The path with this id is back after an outage: what was found out about it does not count any more. */
  forget?(id: number): void;
  /** Index of the path for the next bytes, or -1 to wait. */
  select(input: SchedulerInput): number;
  /**
   * Only of a scheduler that sends copies: whether `path` takes bytes now, new ones or those that others carry already.
   * The connection then gives each such path the whole stream, from the first byte that is not DATA_ACKed.
   */
  carries?(input: SchedulerInput, path: PathSnapshot): boolean;
}

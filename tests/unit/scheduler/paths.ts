/** Path snapshots by what they are: rate and one-way delay, and whether they take bytes now. */
import type { PathSnapshot, SchedulerInput } from '../../../src/core/scheduler/scheduler.js';

export interface PathSpec extends Partial<PathSnapshot> {
  readonly mbit?: number;
  readonly delayMs?: number;
  readonly isFull?: boolean;
}

export function path(index: number, spec: PathSpec = {}): PathSnapshot {
  const { mbit = 50, delayMs = 10, isFull = false, ...rest } = spec;
  const srttUs = 2000 * delayMs;
  const rateBytesPerS = (mbit * 1e6) / 8;
  const cwndBytes = Math.max(14_000, (2 * rateBytesPerS * srttUs) / 1e6);
  return {
    index,
    id: index,
    isBackup: false,
    isUsable: true,
    isStalled: false,
    isDoubted: false,
    isHeldByLimit: false,
    srttUs,
    rttVarUs: 0,
    minRttUs: srttUs,
    cwndBytes,
    inFlightBytes: isFull ? cwndBytes : 0,
    availableBytes: isFull ? 0 : 14_000,
    readyAtUs: 0,
    rateBytesPerS,
    mssBytes: 1400,
    ...rest,
  };
}

export function input(paths: readonly PathSnapshot[], rest: Partial<SchedulerInput> = {}): SchedulerInput {
  return { nowUs: 0, paths, pendingBytes: 64_000, windowBytes: 16_000_000, windowFullUs: -1, ...rest };
}

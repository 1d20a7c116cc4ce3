/** CPU time and memory of processes and of the machine, from /proc (proc(5)). */
import { readdirSync, readFileSync } from 'node:fs';

/** CPU seconds used so far. */
export interface CpuTimes {
  /** Of processes that were asked for, in that order. */
  readonly processes: readonly number[];
  /** Of children of this process that have ended. */
  readonly endedChildren: number;
  /** Of ksoftirqd on all CPUs: packets that the kernel carries in nobody's time. */
  readonly softirqThreads: number;
  /** Of everything on this machine. */
  readonly machine: number;
}

export function readCpuTimes(pids: readonly number[]): CpuTimes {
  return {
    processes: pids.map((pid) => ticks(pid, UTIME, STIME) / TICKS_PER_S),
    endedChildren: ticks('self', CUTIME, CSTIME) / TICKS_PER_S,
    softirqThreads: softirqPids().reduce((sum, pid) => sum + ticks(pid, UTIME, STIME), 0) / TICKS_PER_S,
    machine: machineTicks() / TICKS_PER_S,
  };
}

export function subtractCpuTimes(after: CpuTimes, before: CpuTimes): CpuTimes {
  return {
    processes: after.processes.map((value, i) => value - before.processes[i]!),
    endedChildren: after.endedChildren - before.endedChildren,
    softirqThreads: after.softirqThreads - before.softirqThreads,
    machine: after.machine - before.machine,
  };
}

/** Most memory that the process ever had resident (VmHWM), bytes. */
export function peakMemoryBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)![1]) * 1024;
}

/** USER_HZ, a fixed part of the kernel's interface on every architecture that Node runs on. */
const TICKS_PER_S = 100;

// Fields of /proc/PID/stat, counted from 0 behind the command's name.
const UTIME = 11;
const STIME = 12;
const CUTIME = 13;
const CSTIME = 14;

function ticks(pid: number | 'self', ...fields: readonly number[]): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const values = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.reduce((sum, field) => sum + Number(values[field]), 0);
}

/** All but idle, iowait and steal, of the first line of /proc/stat. */
function machineTicks(): number {
  const values = readFileSync('/proc/stat', 'latin1').split('\n', 1)[0]!.trim().split(/\s+/).slice(1).map(Number);
  const [user, nice, system, , , irq, softirq] = values;
  return user! + nice! + system! + irq! + softirq!;
}

function softirqPids(): readonly number[] {
  softirq ??= readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isSoftirqThread(name))
    .map(Number);
  return softirq;
}

let softirq: readonly number[] | undefined;

function isSoftirqThread(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').startsWith('ksoftirqd/');
  } catch {
    return false; // it ended meanwhile
  }
}

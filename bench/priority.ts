/** Real-time priority, so that what else runs on the machine distorts less (sched(7)). */
import { spawnSync } from 'node:child_process';

const PRIORITY = 5;

/**
 * Gives all threads of this process, and so what it starts from now on, real-time priority. False where that is not
 * allowed, or where chrt is missing: then everything competes with whatever else runs.
 */
export function goRealTime(): boolean {
  return chrt('-r', PRIORITY);
}

export function goNormal(): void {
  chrt('-o', 0);
}

function chrt(policy: string, priority: number): boolean {
  const argv = ['-a', policy, '-p', String(priority), String(process.pid)];
  return spawnSync('chrt', argv, { stdio: 'ignore' }).status === 0;
}

/** V8, set for a daemon on the packet path. */
import { setFlagsFromString } from 'node:v8';

/**
 * Node's options for a daemon, which it can't set for itself; bin/mptun has them in its first line. A young generation of
 * 4 MB a half instead of 16: the buffers of packets and records are freed four times as soon.
 */
export const NODE_OPTIONS = ['--max-semi-space-size=4'];

/**
 * After a full collection the next one comes when the old generation has grown by this, in percent. Records lie in buffers
 * outside the heap; those that live through a round trip are promoted and count. With 100 % full collections take nearly
 * half of all CPU time; with more than this the peak grows and the rate does not (docs/decisions/0004-v8-settings-and-cost.md).
 */
const GROWTH_PERCENT = 150;

/**
 * Bytes of bytecode that a function runs before V8 considers compiling it; the default is 132 KB. A packet on an idle
 * tunnel runs much code a few times: by default it stays uncompiled for thousands of packets, and each takes twice as long.
 */
const INTERRUPT_BUDGET_BYTES = 5_000;

/**
 * Call it before anything else runs. A collection frees buffers in this thread: a helper's thread gets its turn late while
 * both cores carry packets, and what it has not freed until then is allocated anew elsewhere.
 */
export function setUpV8(): void {
  setFlagsFromString('--no-concurrent-array-buffer-sweeping');
  setFlagsFromString(`--interrupt-budget=${INTERRUPT_BUDGET_BYTES}`);
}

/** Call it when the rehearsal is over: what that leaves is no measure of what traffic needs. */
export function collectSeldom(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}

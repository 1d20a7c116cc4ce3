/** Fuzzes in a thread and watches it: an input that is not done within seconds is a failure as one that throws is. */
import { Worker } from 'node:worker_threads';
import type { Round } from './fuzzer.js';

/** No input of these sizes takes a thousandth of it; a busy machine may stop a thread for long. */
export const STUCK_MS = 60_000;
/** What the thread is given. */
export interface Work {
  readonly name: string;
  readonly seed: number;
  readonly limitMs: number;
  /** [runs, length of the present input], and the input. */
  readonly progress: SharedArrayBuffer;
}

export const PROGRESS_BYTES = 8;

const LOOK_MS = 250;
const MAX_INPUT_BYTES = 4096;

export function fuzzWatched(name: string, seed: number, limitMs: number): Promise<Round> {
  const progress = new SharedArrayBuffer(PROGRESS_BYTES + MAX_INPUT_BYTES);
  const numbers = new Int32Array(progress, 0, 2);
  const work: Work = { name, seed, limitMs, progress };
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: work });
    let runs = 0;
    let stillMs = 0;
    const watch = setInterval(() => {
      const now = Atomics.load(numbers, 0);
      stillMs = now === runs ? stillMs + LOOK_MS : 0;
      runs = now;
      if (stillMs < STUCK_MS) return;
      const bytes = new Uint8Array(progress, PROGRESS_BYTES, Math.min(MAX_INPUT_BYTES, numbers[1]!)).slice();
      settle(() => resolve({ runs, found: new Map(), failure: { bytes, error: 'it does not come to an end' } }));
    }, LOOK_MS);
    const settle = (then: () => void) => {
      clearInterval(watch);
      void worker.terminate().then(then);
    };
    worker.once('message', (round: Round) => settle(() => resolve(round)));
    worker.once('error', (error) => settle(() => reject(error)));
  });
}

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

/** The thread of the last round: to begin one takes half as long as a round of the test. It does not keep the process alive. */
let idle: Worker | null = null;

/** One round at a time. A thread that failed or got stuck is not used again. */
export function fuzzWatched(name: string, seed: number, limitMs: number): Promise<Round> {
  const progress = new SharedArrayBuffer(PROGRESS_BYTES + MAX_INPUT_BYTES);
  const numbers = new Int32Array(progress, 0, 2);
  const work: Work = { name, seed, limitMs, progress };
  return new Promise((resolve, reject) => {
    const worker = idle ?? new Worker(new URL('./worker.js', import.meta.url));
    idle = null;
    worker.ref();
    let runs = 0;
    let stillMs = 0;
    const watch = setInterval(() => {
      const now = Atomics.load(numbers, 0);
      stillMs = now === runs ? stillMs + LOOK_MS : 0;
      runs = now;
      if (stillMs < STUCK_MS) return;
      const bytes = new Uint8Array(progress, PROGRESS_BYTES, Math.min(MAX_INPUT_BYTES, numbers[1]!)).slice();
      const failure = { bytes, error: 'it does not come to an end' };
      settle(() => void worker.terminate().then(() => resolve({ runs, found: new Map(), failure })));
    }, LOOK_MS);
    const settle = (then: () => void) => {
      clearInterval(watch);
      worker.off('message', onRound).off('error', onError);
      then();
    };
    const onRound = (round: Round) => {
      if (round.failure === null) {
        worker.unref();
        idle = worker;
      } else void worker.terminate();
      settle(() => resolve(round));
    };
    const onError = (error: Error) => settle(() => reject(error));
    worker.on('message', onRound).on('error', onError);
    worker.postMessage(work);
  });
}

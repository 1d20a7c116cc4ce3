/** Thread that fuzzes targets, one after another: its present input lies in shared memory, for the one who watches (watched.ts). */
import { parentPort } from 'node:worker_threads';
import { corpusOf, fuzz } from './fuzzer.js';
import { TARGETS } from './targets.js';
import { PROGRESS_BYTES, type Work } from './watched.js';

parentPort!.on('message', ({ name, seed, limitMs, progress }: Work) => {
  const numbers = new Int32Array(progress, 0, 2);
  const input = new Uint8Array(progress, PROGRESS_BYTES);
  const target = TARGETS[name]!;
  const pool = [...corpusOf(name).map(({ bytes }) => bytes), ...target.seeds()];
  const round = fuzz(target, seed, limitMs, pool, (bytes) => {
    input.set(bytes.subarray(0, input.length));
    numbers[1] = bytes.length;
    Atomics.add(numbers, 0, 1);
  });
  parentPort!.postMessage(round);
});

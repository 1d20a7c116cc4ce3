/**
 * A small mutation fuzzer. Inputs of a target that lead to an outcome not seen before join the pool that further inputs are
 * made from, which takes the place of coverage. Time-boxed, and exact: an input is nothing but its bytes.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Prng } from '../../src/sim/prng.js';
import { REPOSITORY } from '../support/files.js';

export interface Target {
  /** Good inputs to begin with. */
  seeds(): Uint8Array[];
  /** Handles the input; what came of it, in a word or two. Throws where something is wrong. */
  run(bytes: Uint8Array): string;
}

export interface Round {
  runs: number;
  /** Inputs that led to something new, by their outcome. */
  readonly found: Map<string, Uint8Array>;
  failure: { readonly bytes: Uint8Array; readonly error: string } | null;
}

const MAX_INPUT_BYTES = 4096;
const MAX_POOL = 512;
const CORPUS = `${REPOSITORY}/tests/fixtures/corpus`;
/** The clock is read once in so many runs. */
const RUNS_PER_LOOK = 16;
/** However short the time: so many inputs that nobody wrote down. */
const LEAST_MUTATIONS = 64;

/** Mutates for so long; `before` is told of each input, so that one that never comes back is known. */
export function fuzz(
  target: Target,
  seed: number,
  limitMs: number,
  pool: Uint8Array[],
  before: (bytes: Uint8Array) => void = () => undefined,
): Round {
  const luck = new Prng(seed);
  const round: Round = { runs: 0, found: new Map(), failure: null };
  const inputs = [...pool];
  const seen = new Set<string>();
  const endMs = performance.now() + limitMs;
  const least = pool.length + LEAST_MUTATIONS;
  while (round.runs < least || round.runs % RUNS_PER_LOOK !== 0 || performance.now() < endMs) {
    const isSeed = round.runs < pool.length;
    const bytes = isSeed ? inputs[round.runs]! : mutate(luck, inputs);
    round.runs++;
    before(bytes);
    let outcome: string;
    try {
      outcome = target.run(bytes);
    } catch (error) {
      round.failure = { bytes, error: (error as Error).stack ?? String(error) };
      return round;
    }
    if (seen.has(outcome)) continue;
    seen.add(outcome);
    if (isSeed) continue;
    round.found.set(outcome, bytes);
    if (inputs.length < MAX_POOL) inputs.push(bytes);
  }
  return round;
}

/** One to eight changes of an input of the pool. */
function mutate(luck: Prng, pool: readonly Uint8Array[]): Uint8Array {
  let bytes: Uint8Array = new Uint8Array(pool[luck.below(pool.length)]!);
  for (let n = 1 + luck.below(8); n > 0; n--) bytes = mutateOnce(luck, bytes, pool);
  return bytes;
}

const INTERESTING = [0, 1, 2, 4, 5, 8, 10, 12, 20, 30, 40, 0x40, 0x7f, 0x80, 0xc0, 0xfe, 0xff];

function mutateOnce(luck: Prng, bytes: Uint8Array, pool: readonly Uint8Array[]): Uint8Array {
  const at = luck.below(bytes.length + 1);
  switch (luck.below(7)) {
    case 0:
      if (at < bytes.length) bytes[at]! ^= 1 << luck.below(8);
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = INTERESTING[luck.below(INTERESTING.length)]!;
      return bytes;
    case 2:
      if (at < bytes.length) bytes[at] = luck.below(256);
      return bytes;
    case 3: // cut out
      return joined(bytes.subarray(0, at), bytes.subarray(at + luck.below(16)));
    case 4: // put in
      return joined(bytes.subarray(0, at), randomBytes(luck, 1 + luck.below(16)), bytes.subarray(at));
    case 5: {
      // a piece of another
      const other = pool[luck.below(pool.length)]!;
      const from = luck.below(other.length + 1);
      return joined(bytes.subarray(0, at), other.subarray(from, from + luck.below(64)), bytes.subarray(at));
    }
    default: // a piece of itself again
      return joined(bytes.subarray(0, at), bytes.subarray(luck.below(at + 1)));
  }
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Buffer.concat(parts));
  return bytes.length <= MAX_INPUT_BYTES ? bytes : bytes.slice(0, MAX_INPUT_BYTES);
}

function randomBytes(luck: Prng, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  luck.fill(bytes);
  return bytes;
}

// ---- The corpus: tests/fixtures/corpus/TARGET/*.hex, one input a file

export function corpusOf(name: string): { readonly file: string; readonly bytes: Uint8Array }[] {
  const directory = `${CORPUS}/${name}`;
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .sort()
    .map((file) => ({ file, bytes: fromHex(readFileSync(`${directory}/${file}`, 'utf8')) }));
}

/** Keeps an input; where. `kind`: 'failed' or 'seen'. */
export function keep(name: string, kind: string, bytes: Uint8Array): string {
  const directory = `${CORPUS}/${name}`;
  mkdirSync(directory, { recursive: true });
  const digest = createHash('sha256').update(bytes).digest('hex').slice(0, 12);
  const file = `${directory}/${kind}-${digest}.hex`;
  writeFileSync(file, `${Buffer.from(bytes).toString('hex').replace(/.{64}/g, '$&\n')}\n`);
  return file;
}

function fromHex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replace(/\s/g, ''), 'hex'));
}

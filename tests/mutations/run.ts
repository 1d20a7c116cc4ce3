/**
 * `npm run mutate`: shows that the tests which docs/protocol.md names guard their rules. Each chosen mutation is applied to
 * a copy of the compiled program, only the tests of its row run, and one of them must fail. Exit code 1 if a mutation
 * survives. Tests on links of their own (interop, lab) run only if no other test of the row failed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { Prng } from '../../src/sim/prng.js';
import { REPOSITORY } from '../support/files.js';
import { expectedSections, type NamedTest, readProtocol } from '../support/protocol-table.js';
import { MUTATIONS } from './index.js';
import { type Mutation, rowsOf } from './mutation.js';

/** A mutated program may run in circles: that is noticed, and counts as a failure of the test. */
const TIMEOUT_MS = 40_000;
const SLOW_TIMEOUT_MS = 180_000;

/** One mutation and one row that it must hurt. */
interface Case {
  readonly section: string;
  readonly row: string;
  readonly mutation: Mutation;
  readonly tests: readonly NamedTest[];
}

interface Outcome {
  readonly passed: ReadonlySet<string>;
  readonly failed: ReadonlySet<string>;
  readonly isTimeout: boolean;
  /** ava's own result: also set if a file crashed without a failing test. */
  readonly isOk: boolean;
  readonly output: string;
}

const { values: options } = parseArgs({
  options: {
    seed: { type: 'string' },
    count: { type: 'string', default: '20' },
    rows: { type: 'string' },
    all: { type: 'boolean', default: false },
  },
});
const seed = Number(options.seed ?? Date.now() % 1_000_000);

const copy = mkdtempSync(join(tmpdir(), 'mptun-mutate-'));
let running: number | null = null;
process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (running !== null) kill(running);
    process.exit(1);
  });
}
process.exit(await main());

async function main(): Promise<number> {
  const cases = choose();
  if (cases.length === 0) {
    console.error('no such row has a mutation');
    return 1;
  }
  console.log(`${cases.length} mutations, seed ${seed}`);
  makeCopy();
  const broken = await checkUnmutated(cases);
  if (broken.length > 0) {
    console.error(`the unmutated program fails its own tests:\n${broken.join('\n')}`);
    return 1;
  }
  const survivors: string[] = [];
  for (const c of cases) {
    const startedMs = Date.now();
    const verdict = await attempt(c);
    if (!verdict.isKilled) survivors.push(nameOf(c));
    const word = verdict.isKilled ? 'killed  ' : 'SURVIVED';
    const seconds = ((Date.now() - startedMs) / 1000).toFixed(1).padStart(5);
    console.log(`${word} ${seconds} s  ${nameOf(c).padEnd(28)} ${verdict.by}`);
  }
  console.log(
    `${cases.length - survivors.length} of ${cases.length} killed${survivors.length > 0 ? `; survivors: ${survivors.join(', ')}` : ''}`,
  );
  return survivors.length === 0 ? 0 : 1;
}

function nameOf(c: Case): string {
  return `${c.section}:${c.row}`;
}

/** Which mutations: all, those of the rows asked for, or one for each of `count` rows by chance. */
function choose(): readonly Case[] {
  const all = allCases();
  if (options.all) return all;
  if (options.rows !== undefined) {
    const wanted = options.rows.split(',').map((name) => name.trim());
    return all.filter((c) => wanted.includes(c.row) || wanted.includes(nameOf(c)) || wanted.includes(c.section));
  }
  const luck = new Prng(seed);
  const byRow = new Map<string, Case[]>();
  for (const c of all) byRow.set(nameOf(c), [...(byRow.get(nameOf(c)) ?? []), c]);
  const left = [...byRow.values()];
  const chosen: Case[] = [];
  while (chosen.length < Number(options.count) && left.length > 0) {
    const [ofRow] = left.splice(luck.below(left.length), 1);
    chosen.push(ofRow![luck.below(ofRow!.length)]!);
  }
  return chosen;
}

function allCases(): readonly Case[] {
  const table = readProtocol();
  return expectedSections().flatMap(({ section }, i) =>
    MUTATIONS[section]!.flatMap((mutation) =>
      rowsOf(mutation).map((row) => {
        const tests = table[i]?.rows.find(({ id }) => id === row)?.tests ?? [];
        return { section, row, mutation, tests };
      }),
    ),
  );
}

/** The compiled program is copied, because it is edited; everything else is only looked at. */
function makeCopy(): void {
  for (const name of readdirSync(REPOSITORY)) {
    if (name === 'dist') cpSync(join(REPOSITORY, name), join(copy, name), { recursive: true });
    else if (name !== '.git') symlinkSync(join(REPOSITORY, name), join(copy, name));
  }
}

/** The named tests that do not pass without any mutation, once per test file. */
async function checkUnmutated(cases: readonly Case[]): Promise<readonly string[]> {
  const titles = new Map<string, Set<string>>();
  for (const { file, title } of cases.flatMap((c) => c.tests))
    titles.set(file, (titles.get(file) ?? new Set()).add(title));
  const broken: string[] = [];
  for (const [file, wanted] of titles) {
    const outcome = await run([...wanted].map((title) => ({ file, title })));
    for (const title of wanted) {
      const isMine = (full: string) => matches(full, title);
      if ([...outcome.failed].some(isMine) || ![...outcome.passed].some(isMine)) broken.push(`${file}: "${title}"`);
    }
    if (outcome.isTimeout || (!outcome.isOk && outcome.failed.size === 0)) broken.push(`${file}: ${outcome.output}`);
  }
  return broken;
}

async function attempt(c: Case): Promise<{ isKilled: boolean; by: string }> {
  let restore: () => void;
  try {
    restore = apply(c.mutation);
  } catch (error) {
    return { isKilled: false, by: (error as Error).message };
  }
  try {
    for (const tests of [c.tests.filter((t) => !isSlow(t)), c.tests.filter(isSlow)]) {
      if (tests.length === 0) continue;
      const outcome = await run(tests);
      if (outcome.isTimeout) return { isKilled: true, by: 'ran too long' };
      const [title] = outcome.failed;
      if (title !== undefined) return { isKilled: true, by: `"${title}"` };
      if (!outcome.isOk) return { isKilled: true, by: `crashed: ${tests[0]!.file}` };
    }
    return { isKilled: false, by: c.mutation.file };
  } finally {
    restore();
  }
}

function isSlow({ file }: NamedTest): boolean {
  return /^tests\/(interop|lab)\//.test(file);
}

/** Compiles the edited file into the copy; returns what undoes it. */
function apply({ file, find, replace }: Mutation): () => void {
  const compiled = join(copy, 'dist', file.replace(/\.ts$/, '.js'));
  const before = readFileSync(compiled);
  const edited = join(copy, 'mutant', file);
  mkdirSync(dirname(edited), { recursive: true });
  // A function, because a string would give `$` a meaning.
  writeFileSync(
    edited,
    readFileSync(join(REPOSITORY, file), 'utf8').replace(find, () => replace),
  );
  // One file alone, nothing resolved and nothing checked: a fraction of a second.
  const tsc = join(REPOSITORY, 'node_modules/typescript/lib/tsc.js');
  const how = '--ignoreConfig --noResolve --noCheck --isolatedModules --module nodenext --target es2023 --types';
  const where = ['--rootDir', join(copy, 'mutant'), '--outDir', join(copy, 'dist')];
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    [tsc, ...how.split(' '), '', ...where, edited],
    {
      encoding: 'utf8',
    },
  );
  if (status !== 0) throw new Error(`the mutation does not compile: ${stdout}${stderr}${signal ?? ''}`);
  return () => writeFileSync(compiled, before);
}

async function run(tests: readonly NamedTest[]): Promise<Outcome> {
  const files = [...new Set(tests.map(({ file }) => `dist/${file.replace(/\.ts$/, '.js')}`))];
  const timeoutMs = tests.some(isSlow) ? SLOW_TIMEOUT_MS : TIMEOUT_MS;
  const args = ['--tap', '--concurrency', '1', ...tests.flatMap(({ title }) => ['--match', pattern(title)]), ...files];
  const child = spawn(process.execPath, [join(REPOSITORY, 'node_modules/ava/entrypoints/cli.mjs'), ...args], {
    cwd: copy,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own: a worker that runs in circles ends with it.
    detached: true,
  });
  running = child.pid!;
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  let isTimeout = false;
  const timer = setTimeout(() => {
    isTimeout = true;
    kill(child.pid!);
  }, timeoutMs);
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  clearTimeout(timer);
  running = null;
  const lines = output.split('\n');
  const titlesOf = (start: RegExp) =>
    new Set(lines.flatMap((line) => (start.test(line) ? [line.replace(start, '').replace(/^.* › /, '')] : [])));
  return {
    passed: titlesOf(/^ok \d+ - /),
    failed: titlesOf(/^not ok \d+ - /),
    isTimeout,
    isOk: code === 0,
    output,
  };
}

function kill(group: number): void {
  try {
    process.kill(-group, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}

/** ava's pattern for exactly this title; `${…}` of a title that is built in a loop stands for anything. */
function pattern(title: string): string {
  return pieces(title)
    .map((piece) => piece.replace(/[\\*!]/g, '\\$&'))
    .join('*');
}

function matches(full: string, title: string): boolean {
  const literal = pieces(title).map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  // TAP escapes `#`, and ava cuts nothing else.
  return new RegExp(`^${literal.join('.*')}$`, 's').test(full.replaceAll('\\#', '#'));
}

function pieces(title: string): readonly string[] {
  return title.split(/\$\{[^}]*\}/);
}

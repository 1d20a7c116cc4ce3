import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { listNamespaces } from '../../src/lab/namespaces.js';

const BENCH = fileURLToPath(new URL('../../bench/index.js', import.meta.url));
const HANDOVER = fileURLToPath(new URL('../../bench/handover.js', import.meta.url));

interface Document {
  schema: string;
  runs: number;
  command: string;
  sections: {
    name: string;
    results: { name: string; unit: string; runs: number[]; median: number; worst: number; verdict?: string }[];
  }[];
}

function bench(...args: string[]): { document: Document; stdout: string } {
  return run(BENCH, ...args);
}

function run(program: string, ...args: string[]): { document: Document; stdout: string } {
  const dir = mkdtempSync(join(tmpdir(), 'mptun-bench-'));
  try {
    const file = join(dir, 'bench.json');
    const stdout = execFileSync(process.execPath, [program, ...args, '--json', file], {
      encoding: 'utf8',
      timeout: 120_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return { document: JSON.parse(readFileSync(file, 'utf8')) as Document, stdout };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

test.serial('bench: the packet port, as a table and as JSON, and nothing stays behind', (t) => {
  const { document, stdout } = bench('--quick', '--only', 'port');
  t.is(document.schema, 'mptun.bench/1');
  t.is(document.runs, 1);
  t.regex(document.command, /^mptun bench --quick --only port/);
  t.deepEqual(
    document.sections.map((section) => section.name),
    ['port'],
  );
  const { results } = document.sections[0]!;
  t.is(results.length, 6);
  for (const { name, runs, median, worst } of results) {
    t.true(median > 0 && runs.length === 1 && worst === median, name);
    t.true(stdout.includes(name), name);
  }
  t.deepEqual(
    listNamespaces().filter((name) => name.startsWith('mtb-port-')),
    [],
  );
});

test.serial('bench: the tunnel beside kernel MPTCP, each way, with its costs', (t) => {
  const { document } = bench('--quick', '--only', 'tunnel');
  const { name, results } = document.sections[0]!;
  t.is(name, 'tunnel');
  const median = (row: string) => results.find((result) => result.name === row)?.median ?? Number.NaN;
  for (const direction of ['down', 'up']) {
    t.true(median(`${direction}: tunnel`) > 0);
    t.true(median(`${direction}: kernel MPTCP`) > 0);
    t.true(median(`${direction}: kernel MPTCP, cost`) > 0);
    const parts = ['client', 'server', 'iperf3', 'softirq threads'];
    const sum = parts.reduce((total, part) => total + median(`${direction}: tunnel, cost, ${part}`), 0);
    // Figures are rounded to three digits each.
    t.true(Math.abs(sum / median(`${direction}: tunnel, cost`) - 1) < 0.02);
  }
  t.true(median('idle, round-trip time outside') > 0);
  t.true(median('client, peak memory') > 30 && median('server, peak memory') > 30);
  t.deepEqual(
    listNamespaces().filter((ns) => ns.startsWith('mtb-tunnel-')),
    [],
  );
});

test.serial('bench: a section that does not exist is wrong usage', (t) => {
  const error = t.throws(() => bench('--only', 'codec,nothing')) as { status?: number; stderr?: string };
  t.is(error.status, 2);
  t.regex(String(error.stderr), /"nothing" is none of codec, engine, port, tunnel/);
});

test.serial('bench:handover: a row that was asked for has its figure, its target and a verdict', (t) => {
  const { document, stdout } = run(HANDOVER, '--quick', '--no-kernel', '--only', 'duplicates');
  t.is(document.schema, 'mptun.bench/1');
  t.regex(document.command, /^bench:handover --quick --no-kernel --only duplicates/);
  const { name, results } = document.sections[0]!;
  t.is(name, 'handover');
  t.deepEqual(
    results.map((row) => row.name),
    ['bytes that came twice, aggregate, steady'],
  );
  const { median, verdict } = results[0]!;
  t.true(median >= 0 && (verdict === 'reached' || verdict === 'missed'), verdict);
  t.regex(stdout, /came twice.* <= 1 +(reached|missed)/);
});

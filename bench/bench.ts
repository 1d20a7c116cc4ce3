/**
 * Runs the benchmarks: codec, engine, packet port, tunnel, tunnel over emulated links, flow lane. Everything is compared within one run of this program, never
 * with a figure from another machine or day; the document says what is needed to repeat it.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { enterSandbox, isInSandbox, runInSandbox } from '../src/lab/sandbox.js';
import { VERSION } from '../src/version.js';
import { type Row, type Summary, summarise } from './stats.js';
import { formatTable } from './table.js';

export const BENCH_SCHEMA = 'mptun.bench/1';

export interface BenchDocument {
  readonly schema: typeof BENCH_SCHEMA;
  readonly version: string;
  /** With `+` when the working tree differs from it; null outside a clone. */
  readonly commit: string | null;
  readonly command: string;
  readonly startedAt: string;
  readonly host: { readonly node: string; readonly kernel: string; readonly cpu: string; readonly cpus: number };
  readonly runs: number;
  readonly sections: readonly SectionResult[];
}

export interface SectionResult {
  readonly name: SectionName;
  readonly title: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly note?: string;
  readonly results: readonly Summary[];
}

/** What a section's module exports. */
export interface Section {
  readonly title: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** How it was measured, for those who read the table. */
  readonly note?: string;
  /** One run. */
  run(): Promise<Row[]>;
  close(): Promise<void>;
}

export interface SectionOptions {
  /** Short: to see that it works, not to compare. */
  readonly quick: boolean;
  /** What is going on, for people. */
  readonly say: (text: string) => void;
}

export const SECTIONS = ['codec', 'engine', 'port', 'tunnel', 'links', 'flows'] as const;
export type SectionName = (typeof SECTIONS)[number];

export interface BenchOptions {
  readonly sections: readonly SectionName[];
  readonly runs: number;
  readonly quick: boolean;
  readonly jsonFile?: string;
}

/** Runs the sections one after the other; tables on stdout as each is done. Resolves to the exit status. */
export async function runBench(options: BenchOptions): Promise<number> {
  if (options.sections.some((name) => NEEDS_SANDBOX.has(name))) {
    if (!isInSandbox()) {
      return runInSandbox([process.execPath, ...process.execArgv, ...process.argv.slice(1)], { keepPids: true });
    }
    enterSandbox();
  }
  const document = await measure(options);
  if (options.jsonFile !== undefined) writeFileSync(options.jsonFile, `${JSON.stringify(document, null, 2)}\n`);
  return 0;
}

const NEEDS_SANDBOX: ReadonlySet<SectionName> = new Set(['port', 'tunnel', 'links', 'flows']);

async function measure({ sections, runs, quick }: BenchOptions): Promise<BenchDocument> {
  const startedAt = new Date().toISOString();
  const say = (text: string) => void process.stderr.write(`${text}\n`);
  const done: SectionResult[] = [];
  for (const name of sections) {
    const section = await OPEN[name]({ quick, say });
    let stopped = false;
    const stop = () => {
      stopped = true;
      void section.close().finally(() => process.exit(EXIT_SIGNAL));
    };
    process.once('SIGINT', stop).once('SIGTERM', stop);
    try {
      const rows: Row[][] = [];
      for (let i = 0; i < runs && !stopped; i++) {
        if (runs > 1) say(`${name}: run ${i + 1} of ${runs}`);
        rows.push(await section.run());
      }
      const results = summarise(rows);
      const { note } = section;
      process.stdout.write(`\n${formatTable(section.title, results)}\n${note === undefined ? '' : `${note}\n`}`);
      done.push({ name, title: section.title, config: section.config, ...(note !== undefined && { note }), results });
    } catch (error) {
      if (!stopped) throw error;
      await new Promise(() => {}); // `stop` ends the process when all is cleaned up
    } finally {
      process.off('SIGINT', stop).off('SIGTERM', stop);
      await section.close();
    }
  }
  const command = ['mptun', 'bench', ...process.argv.slice(2).filter((word) => word !== 'bench')].join(' ');
  return { ...documentHead(command, startedAt, runs), sections: done };
}

/** What every document of figures begins with: what is needed to repeat it. */
export function documentHead(command: string, startedAt: string, runs: number): Omit<BenchDocument, 'sections'> {
  return {
    schema: BENCH_SCHEMA,
    version: VERSION,
    commit: commitOf(),
    command,
    startedAt,
    host: { node: process.version, kernel: release(), cpu: cpus()[0]?.model ?? 'unknown', cpus: cpus().length },
    runs,
  };
}

const EXIT_SIGNAL = 130;

/** Loaded when wanted: the codec needs neither the native addon nor the daemon. */
const OPEN: Readonly<Record<SectionName, (options: SectionOptions) => Promise<Section>>> = {
  codec: async () => pure('wire codec', await import('./codec.js')),
  engine: async () => pure('core engine, both ends in one thread', await import('./engine.js')),
  port: async (options) => (await import('./port.js')).openPortBench(options),
  tunnel: async (options) => (await import('./tunnel.js')).openTunnelBench(options),
  links: async (options) => (await import('./links.js')).openLinksBench(options),
  flows: async (options) => (await import('./flows.js')).openFlowsBench(options),
};

function pure(title: string, module: { run(): Promise<Row[]> }): Section {
  return { title, config: {}, run: () => module.run(), close: async () => {} };
}

function commitOf(): string | null {
  const cwd = fileURLToPath(new URL('.', import.meta.url));
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return git('rev-parse', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+');
  } catch {
    return null;
  }
}

/** `mptun bench`: how fast this build is on this machine. The benchmarks are in bench/, of a clone only. */
import { Command, InvalidArgumentError } from 'commander';
import { SandboxError } from '../lab/sandbox.js';
import { CliError, EXIT } from './exit.js';

const SECTIONS = ['codec', 'engine', 'port', 'tunnel', 'links', 'flows'];
const DEFAULT_RUNS = 5;
const MAX_RUNS = 1000;

interface BenchFlags {
  readonly quick?: boolean;
  readonly json?: string;
  readonly only: readonly string[];
  readonly runs?: number;
}

/** The part of bench/bench.ts that is used here. */
interface BenchModule {
  runBench(options: { sections: readonly string[]; runs: number; quick: boolean; jsonFile?: string }): Promise<number>;
}

export function benchCommand(): Command {
  return new Command('bench')
    .description(
      'measure the codec, the engine, the packet port and a whole tunnel beside kernel MPTCP and over emulated links',
    )
    .option('--quick', 'short, and one run unless --runs says otherwise: to see that it works')
    .option('--runs <n>', `how often each is measured (default: ${DEFAULT_RUNS})`, runs)
    .option('--only <sections>', `some of ${SECTIONS.join(',')}`, sections, SECTIONS)
    .option('--json <file>', 'write every figure, with commit, command and configuration, to a file')
    .addHelpText('after', '\nExample:\n  mptun bench --only port,tunnel --json bench.json\n')
    .action(async (flags: BenchFlags) => {
      process.exitCode = await bench(flags);
    });
}

async function bench(flags: BenchFlags): Promise<number> {
  // Loaded here, and by a name that the compiler does not follow: bench/ depends on src/, and is not in the package.
  const specifier = '../../bench/bench.js';
  let module: BenchModule;
  try {
    module = (await import(specifier)) as BenchModule;
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new CliError('the benchmarks come with a clone of the repository, not with the package');
  }
  try {
    return await module.runBench({
      sections: flags.only,
      runs: flags.runs ?? (flags.quick === true ? 1 : DEFAULT_RUNS),
      quick: flags.quick === true,
      ...(flags.json !== undefined && { jsonFile: flags.json }),
    });
  } catch (error) {
    if (error instanceof SandboxError) throw new CliError(error.message, EXIT.permission);
    throw error;
  }
}

function sections(text: string): string[] {
  const names = text.split(',');
  const wrong = names.find((name) => !SECTIONS.includes(name));
  if (wrong !== undefined) throw new InvalidArgumentError(`"${wrong}" is none of ${SECTIONS.join(', ')}.`);
  return SECTIONS.filter((name) => names.includes(name));
}

function runs(text: string): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1 || n > MAX_RUNS) {
    throw new InvalidArgumentError(`Give a number from 1 to ${MAX_RUNS}.`);
  }
  return n;
}

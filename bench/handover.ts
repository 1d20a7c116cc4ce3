/**
 * `npm run bench:handover`: the figures of a handover that nobody notices, each with its target, and kernel MPTCP doing the
 * same in the same run. WiFi 50 Mbit/s 10 ms and cellular 30 Mbit/s 30 ms one way, unless a row says otherwise.
 */
import { writeFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { EXIT } from '../src/cli/exit.js';
import { enterSandbox, isInSandbox, runInSandbox, SandboxError } from '../src/lab/sandbox.js';
import { documentHead } from './bench.js';
import { GROUPS, type Group, ROWS } from './handover-rows.js';
import { HandoverBench } from './handover-run.js';
import { type Figures, formatHandover, summariseHandover } from './handover-summary.js';
import { goNormal, goRealTime } from './priority.js';

const DEFAULT_RUNS = 5;
const MAX_RUNS = 1000;
const EXIT_SIGNAL = 130;

interface Flags {
  readonly quick?: boolean;
  readonly runs?: number;
  readonly only: readonly Group[];
  readonly kernel: boolean;
  readonly json?: string;
}

const program = new Command('bench:handover')
  .description('measure gaps, recoveries and goodput over emulated links, beside kernel MPTCP')
  .option('--quick', 'short, and one run unless --runs says otherwise: to see that it works')
  .option('--runs <n>', `how often each is measured (default: ${DEFAULT_RUNS})`, parseRuns)
  .option('--only <rows>', `some of ${GROUPS.join(',')}`, parseGroups, GROUPS as readonly Group[])
  .option('--no-kernel', 'without kernel MPTCP beside it')
  .option('--json <file>', 'write every figure, with commit, command and configuration, to a file')
  .addHelpText('after', '\nExample:\n  npm run bench:handover -- --only silent,carrier --json handover.json\n')
  .action(main);
await program.parseAsync();

async function main(flags: Flags): Promise<void> {
  try {
    if (!isInSandbox()) {
      process.exitCode = await runInSandbox([process.execPath, ...process.execArgv, ...process.argv.slice(1)]);
      return;
    }
    enterSandbox();
  } catch (error) {
    if (!(error instanceof SandboxError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = EXIT.permission;
    return;
  }
  await measure(flags);
}

async function measure(flags: Flags): Promise<void> {
  const startedAt = new Date().toISOString();
  const quick = flags.quick === true;
  const runs = flags.runs ?? (quick ? 1 : DEFAULT_RUNS);
  const say = (text: string) => void process.stderr.write(`${text}\n`);
  const isRealTime = goRealTime();
  const bench = await HandoverBench.open({ groups: flags.only, quick, kernel: flags.kernel, say });
  let isStopped = false;
  const stop = () => {
    isStopped = true;
    void bench.close().finally(() => process.exit(EXIT_SIGNAL));
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    const tunnel: Figures[] = [];
    const kernel: Figures[] = [];
    for (let i = 0; i < runs && !isStopped; i++) {
      if (runs > 1) say(`run ${i + 1} of ${runs}`);
      const figures = await bench.run();
      tunnel.push(figures.tunnel);
      kernel.push(figures.kernel);
    }
    if (isStopped) await new Promise(() => {}); // `stop` ends the process when all is cleaned up
    const results = summariseHandover(ROWS, tunnel, kernel);
    const title = 'handover over emulated links, beside kernel MPTCP';
    const seconds = bench.goodputSeconds;
    const note = [
      `One TCP flow (${bench.congestionControl}) inside the tunnel; goodput over ${seconds} s, slow start included, of the raw rates of the links.`,
      'The kernel moves the same data over the same links without a tunnel; its goodput is measured in the first run only.',
      isRealTime
        ? 'Everything ran at real-time priority.'
        : 'Everything ran at normal priority: what else ran on the machine shows.',
    ].join('\n');
    process.stdout.write(`\n${formatHandover(ROWS, results)}\n\n${note}\n`);
    if (flags.json !== undefined) {
      const config = { goodputSeconds: seconds, kernelCongestionControl: bench.congestionControl, isRealTime, quick };
      const head = documentHead(`bench:handover ${process.argv.slice(2).join(' ')}`.trim(), startedAt, runs);
      const document = { ...head, sections: [{ name: 'handover', title, config, note, results }] };
      writeFileSync(flags.json, `${JSON.stringify(document, null, 2)}\n`);
    }
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
    await bench.close();
    goNormal();
  }
}

function parseGroups(text: string): readonly Group[] {
  const names = text.split(',');
  const wrong = names.find((name) => !GROUPS.some((group) => group === name));
  if (wrong !== undefined) throw new InvalidArgumentError(`"${wrong}" is none of ${GROUPS.join(', ')}.`);
  return GROUPS.filter((group) => names.includes(group));
}

function parseRuns(text: string): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1 || n > MAX_RUNS) {
    throw new InvalidArgumentError(`Give a number from 1 to ${MAX_RUNS}.`);
  }
  return n;
}

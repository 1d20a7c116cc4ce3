/** The command line: one file a verb, each a commander command; errors become one sentence and an exit code here. */
import { Command, CommanderError } from 'commander';

import { VERSION } from '../version.js';
import { benchCommand } from './bench.js';
import { completionCommand } from './completion.js';
import { configCommand } from './config.js';
import { eventsCommand } from './events.js';
import { describeError, EXIT } from './exit.js';
import { genkeyCommand, pubkeyCommand } from './keys.js';
import { pathsCommand } from './paths.js';
import { reloadCommand } from './reload.js';
import { runCommand } from './run.js';
import { statusCommand } from './status.js';

export function buildProgram(): Command {
  const program = new Command('mptun')
    .description('Several links, one connection that never drops: a userspace Multipath TCP tunnel')
    .version(VERSION, '-V, --version', 'print the version')
    .addHelpText(
      'after',
      '\nExample:\n  mptun genkey home.key && mptun config check home.yaml && sudo mptun run home.yaml',
    );
  program.addCommand(runCommand());
  program.addCommand(statusCommand());
  program.addCommand(pathsCommand());
  program.addCommand(eventsCommand());
  program.addCommand(reloadCommand());
  program.addCommand(genkeyCommand());
  program.addCommand(pubkeyCommand());
  program.addCommand(configCommand());
  program.addCommand(benchCommand());
  program.addCommand(completionCommand(() => program));
  program.addCommand(
    new Command('version')
      .description('print the version')
      .addHelpText('after', '\nExample:\n  mptun version')
      .action(() => void process.stdout.write(`mptun ${VERSION}\n`)),
  );
  throwInsteadOfExit(program);
  return program;
}

/** Runs the command line in `argv` (without node and script) and returns the exit code; `--check` may set another. */
export async function runCli(argv: readonly string[]): Promise<number> {
  try {
    await buildProgram().parseAsync(argv, { from: 'user' });
    return Number(process.exitCode ?? EXIT.ok);
  } catch (err) {
    if (err instanceof CommanderError) return WANTED.has(err.code) ? EXIT.ok : EXIT.usage;
    const { text, exitCode } = describeError(err);
    process.stderr.write(`${text.includes('\n') ? '' : 'mptun: '}${text}\n`);
    return exitCode;
  }
}

/** Commander's ways of ending that somebody asked for; the others are wrong usage, already explained on stderr. */
const WANTED: ReadonlySet<string> = new Set(['commander.helpDisplayed', 'commander.version']);

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const sub of command.commands) throwInsteadOfExit(sub);
}

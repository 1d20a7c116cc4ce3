/** The command line: one file a verb, each a commander command; errors become one sentence and an exit code here. */
import { Command, CommanderError } from 'commander';

import { VERSION } from '../version.js';
import { describeError, EXIT } from './exit.js';

/** In the order of the help text. A verb's file, and what it needs, is loaded only when somebody asks for it. */
const VERBS: ReadonlyMap<string, () => Promise<Command>> = new Map([
  ['run', async () => (await import('./run.js')).runCommand()],
  ['status', async () => (await import('./status.js')).statusCommand()],
  ['paths', async () => (await import('./paths.js')).pathsCommand()],
  ['path', async () => (await import('./path.js')).pathCommand()],
  ['mode', async () => (await import('./mode.js')).modeCommand()],
  ['flows', async () => (await import('./flows.js')).flowsCommand()],
  ['why', async () => (await import('./why.js')).whyCommand()],
  ['top', async () => (await import('./top.js')).topCommand()],
  ['history', async () => (await import('./history.js')).historyCommand()],
  ['events', async () => (await import('./events.js')).eventsCommand()],
  ['reload', async () => (await import('./reload.js')).reloadCommand()],
  ['genkey', async () => (await import('./keys.js')).genkeyCommand()],
  ['pubkey', async () => (await import('./keys.js')).pubkeyCommand()],
  ['config', async () => (await import('./config.js')).configCommand()],
  ['demo', async () => (await import('./demo.js')).demoCommand()],
  ['bench', async () => (await import('./bench.js')).benchCommand()],
  ['proxy', async () => (await import('./proxy.js')).proxyCommand()],
  ['cat', async () => (await import('./cat.js')).catCommand()],
  ['completion', async () => (await import('./completion.js')).completionCommand(() => buildProgram())],
  ['version', async () => versionCommand()],
]);

/** The whole program, or only the part of it that `verb` needs. */
export async function buildProgram(verb?: string): Promise<Command> {
  const program = new Command('mptun')
    .description('Several links, one connection that never drops: a userspace Multipath TCP tunnel')
    .version(VERSION, '-V, --version', 'print the version')
    .addHelpText(
      'after',
      '\nExample:\n  mptun genkey home.key && mptun config check home.yaml && sudo mptun run home.yaml',
    );
  const wanted = verb === undefined ? undefined : VERBS.get(verb);
  const factories = wanted === undefined ? [...VERBS.values()] : [wanted];
  for (const factory of factories) program.addCommand(await factory());
  throwInsteadOfExit(program);
  return program;
}

/** Runs the command line in `argv` (without node and script) and returns the exit code; verbs may set process.exitCode. */
export async function runCli(argv: readonly string[]): Promise<number> {
  try {
    const program = await buildProgram(argv[0]);
    await program.parseAsync(argv, { from: 'user' });
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

function versionCommand(): Command {
  return new Command('version')
    .description('print the version')
    .addHelpText('after', '\nExample:\n  mptun version')
    .action(() => {
      process.stdout.write(`mptun ${VERSION}\n`);
    });
}

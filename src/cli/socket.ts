/** Which daemon a verb talks to: `--socket PATH`, a tunnel's name, or the only one that there is. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';

import { ControlClient } from '../control/client.js';
import { CliError, EXIT } from './exit.js';

export const RUN_DIR = '/run/mptun';

export interface TargetOptions {
  readonly socket?: string;
  readonly tunnel?: string;
}

/** Adds `[name]` and `--socket` to a verb. */
export function withTarget(command: Command): Command {
  return command
    .argument('[name]', `tunnel, if more than one runs here (a socket in ${RUN_DIR})`)
    .addOption(socketOption());
}

/** `--tunnel` and `--socket`, for a verb whose arguments say something else. */
export function tunnelOptions(command: Command): Command {
  return command
    .option('--tunnel <name>', `tunnel, if more than one runs here (a socket in ${RUN_DIR})`)
    .addOption(socketOption());
}

function socketOption(): Option {
  return new Option('--socket <path>', 'control socket, where the configuration puts it elsewhere');
}

export function controlClient(name: string | undefined, options: TargetOptions, runDir = RUN_DIR): ControlClient {
  return new ControlClient(options.socket ?? findSocket(name, runDir));
}

/** The socket for `name`; without a name, the only one in `runDir`. */
export function findSocket(name: string | undefined, runDir = RUN_DIR): string {
  if (name !== undefined) return join(runDir, `${name}.sock`);
  let names: string[];
  try {
    names = readdirSync(runDir)
      .filter((file) => file.endsWith('.sock'))
      .map((file) => file.slice(0, -'.sock'.length))
      .sort();
  } catch {
    names = [];
  }
  if (names.length === 1) return join(runDir, `${names[0]}.sock`);
  if (names.length === 0)
    throw new CliError('no mptun daemon runs here; start one with: mptun run CONFIG', EXIT.notRunning);
  throw new CliError(`several tunnels run here: ${names.join(', ')}; say which one`, EXIT.usage);
}

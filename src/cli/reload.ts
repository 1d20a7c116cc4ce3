/** `mptun reload`: the daemon reads its configuration again. */
import { Command } from 'commander';

import { RefusedError } from '../control/client.js';
import { CliError, EXIT } from './exit.js';
import { controlClient, type TargetOptions, withTarget } from './socket.js';

export function reloadCommand(): Command {
  return withTarget(new Command('reload'))
    .description('read the configuration again; with an error in it, the old one stays in use')
    .addHelpText('after', '\nExample:\n  mptun reload home')
    .action(async (name: string | undefined, options: TargetOptions) => {
      try {
        const result = await controlClient(name, options).post('/v1/reload');
        process.stdout.write([result.message, ...result.details.map((line) => `  ${line}`), ''].join('\n'));
      } catch (err) {
        if (err instanceof RefusedError && err.result.details.length > 0)
          throw new CliError(err.message, EXIT.configInvalid);
        throw err;
      }
    });
}

/** `mptun paths`: the paths alone, and changing one at run time. */
import { Command, InvalidArgumentError, Option } from 'commander';

import { parseRate, RATE_EXAMPLE } from '../config/units.js';
import type { PathChange, PathsDocument, StatusDocument } from '../control/protocol.js';
import { CliError, EXIT } from './exit.js';
import { styleFor } from './format.js';
import { controlClient, type TargetOptions, withTarget } from './socket.js';
import { pathLines } from './status.js';

interface SetOptions extends TargetOptions {
  readonly tunnel?: string;
  readonly role?: string;
  readonly limit?: number | 'config';
}

export function pathsCommand(): Command {
  const paths = new Command('paths').description('list the paths, or change one until the next reload');
  paths.addCommand(
    withTarget(new Command('list'))
      .description('list the paths')
      .option('--json', 'as the daemon gives it (schema mptun.paths/1)')
      .addHelpText('after', '\nExample:\n  mptun paths list --json')
      .action(async (name: string | undefined, options: TargetOptions & { json?: boolean }) => {
        const client = controlClient(name, options);
        if (options.json) {
          process.stdout.write(`${JSON.stringify(await client.get<PathsDocument>('/v1/paths'))}\n`);
          return;
        }
        const status = await client.get<StatusDocument>('/v1/status');
        const lines = pathLines(status.paths, status.mode === 'client', styleFor(process.stdout));
        process.stdout.write(`${lines.join('\n')}\n`);
      }),
    { isDefault: true },
  );
  paths.addCommand(
    new Command('set')
      .description('change role or limit of a path until the next reload')
      .argument('<path>', 'its name in `mptun paths`, such as wlan0')
      .option('--tunnel <name>', 'tunnel, if more than one runs here')
      .option('--socket <path>', 'control socket, where the configuration puts it elsewhere')
      .addOption(
        new Option('--role <role>', 'config: what the configuration says').choices([
          'always',
          'overflow',
          'backup',
          'never',
          'config',
        ]),
      )
      .addOption(new Option('--limit <rate>', `${RATE_EXAMPLE}, or config`).argParser(parseLimit))
      .addHelpText('after', '\nExample:\n  mptun paths set wwan0 --role backup --limit 5Mbit')
      .action(async (path: string, options: SetOptions) => {
        const change: PathChange = {};
        if (options.role !== undefined) change.role = options.role === 'config' ? null : (options.role as 'always');
        if (options.limit !== undefined) change.limit_bps = options.limit === 'config' ? null : options.limit;
        if (Object.keys(change).length === 0) throw new CliError('give --role or --limit', EXIT.usage);
        const client = controlClient(options.tunnel, options);
        const result = await client.post(`/v1/paths/${encodeURIComponent(path)}`, change);
        process.stdout.write(`${result.message}\n`);
      }),
  );
  return paths;
}

function parseLimit(value: string): number | 'config' {
  if (value === 'config') return value;
  const rate = parseRate(value);
  if (rate === null || rate === 0) throw new InvalidArgumentError(`give ${RATE_EXAMPLE}`);
  return rate;
}

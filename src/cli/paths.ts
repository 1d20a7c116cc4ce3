/** `mptun paths`: the paths alone. What they are ordered to do: path.ts. */
import { Command } from 'commander';

import type { LeftOut, PathsDocument, StatusDocument } from '../control/protocol.js';
import { styleFor } from './format.js';
import { controlClient, type TargetOptions, withTarget } from './socket.js';
import { pathLines } from './status.js';

export function pathsCommand(): Command {
  return withTarget(new Command('paths'))
    .description('list the paths')
    .option('--all', 'also the interfaces that are no paths, and why')
    .option('--json', 'as the daemon gives it (schema mptun.paths/1)')
    .addHelpText('after', '\nExample:\n  mptun paths --json')
    .action(async (name: string | undefined, options: TargetOptions & { all?: boolean; json?: boolean }) => {
      const client = controlClient(name, options);
      if (options.json) {
        process.stdout.write(`${JSON.stringify(await client.get<PathsDocument>('/v1/paths'))}\n`);
        return;
      }
      const status = await client.get<StatusDocument>('/v1/status');
      const lines = pathLines(status.paths, status.mode === 'client', styleFor(process.stdout));
      if (options.all) lines.push(...leftOutLines((await client.get<PathsDocument>('/v1/paths')).left_out));
      process.stdout.write(`${lines.join('\n')}\n`);
    });
}

export function leftOutLines(links: readonly LeftOut[]): string[] {
  if (links.length === 0) return ['', '  every interface is a path'];
  const width = Math.max(...links.map((l) => l.name.length));
  return ['', '  NOT USED', ...links.map((l) => `  ${l.name.padEnd(width)}  ${l.reason}`)];
}

/** `mptun path`: an operator's orders to one path. */
import { Argument, Command, InvalidArgumentError } from 'commander';

import { parseRate, RATE_EXAMPLE } from '../config/units.js';
import type { PathChange } from '../control/protocol.js';
import { CliError, EXIT } from './exit.js';
import { controlClient, type TargetOptions, tunnelOptions } from './socket.js';

type Action = 'up' | 'down' | 'backup' | 'always' | 'overflow' | 'limit' | 'reset';

/** What each action asks of the daemon; `limit` has its rate besides. */
const CHANGES: Readonly<Record<Exclude<Action, 'limit'>, PathChange>> = {
  up: { use: 'up' },
  down: { use: 'down' },
  backup: { role: 'backup' },
  always: { role: 'always' },
  overflow: { role: 'overflow' },
  reset: { role: null, limit_bps: null },
};

export function pathCommand(): Command {
  return tunnelOptions(new Command('path'))
    .description('order what a path is used for, until `reset` or a reload')
    .argument('<path>', 'its name in `mptun paths`, such as wlan0')
    .addArgument(
      new Argument('<action>', 'what it is to do').choices([...Object.keys(CHANGES), 'limit'].sort() as Action[]),
    )
    .argument('[rate]', `with limit: the most in either direction, ${RATE_EXAMPLE}`, parseLimit)
    .addHelpText(
      'after',
      `
Actions:
  down      move the traffic to other paths, then close it
  up        take that back, and try it at once
  always    carry data whenever it works
  overflow  carry data when the others are full
  backup    carry data when no other path works
  limit     send no more than this over it, at either end
  reset     as configured

Example:
  mptun path wwan0 limit 5Mbit`,
    )
    .action(async (path: string, action: Action, rate: number | undefined, options: TargetOptions) => {
      if ((action === 'limit') !== (rate !== undefined)) {
        throw new CliError(action === 'limit' ? `give a rate, ${RATE_EXAMPLE}` : `${action} takes no rate`, EXIT.usage);
      }
      const change = action === 'limit' ? { limit_bps: rate! } : CHANGES[action];
      const client = controlClient(options.tunnel, options);
      const result = await client.post(`/v1/paths/${encodeURIComponent(path)}`, change);
      process.stdout.write(`${result.message}\n`);
    });
}

function parseLimit(value: string): number {
  const rate = parseRate(value);
  if (rate === null || rate === 0) throw new InvalidArgumentError(`give ${RATE_EXAMPLE}`);
  return rate;
}

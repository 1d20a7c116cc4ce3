/** `mptun mode`: how the traffic uses the paths, ordered at run time. */
import { Argument, Command } from 'commander';

import { TRAFFIC_MODES } from '../control/protocol.js';
import { controlClient, type TargetOptions, tunnelOptions } from './socket.js';

export function modeCommand(): Command {
  return tunnelOptions(new Command('mode'))
    .description('order how traffic uses the paths, until `reset` or a reload')
    .addArgument(new Argument('<mode>', 'as traffic.mode; reset: as configured').choices([...TRAFFIC_MODES, 'reset']))
    .addHelpText('after', '\nExample:\n  mptun mode handover')
    .action(async (mode: string, options: TargetOptions) => {
      const client = controlClient(options.tunnel, options);
      const result = await client.post('/v1/mode', { mode: mode === 'reset' ? null : mode });
      process.stdout.write(`${result.message}\n`);
    });
}

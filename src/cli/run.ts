/** `mptun run`: the daemon, in the foreground, as systemd wants it. */
import { Command } from 'commander';

import { loadConfig } from '../config/load.js';
import type { Config } from '../config/types.js';

export function runCommand(): Command {
  return new Command('run')
    .description('run the tunnel (client or server, as the configuration says) until SIGTERM or Ctrl-C')
    .argument('<config>', 'YAML file; see configs/client.yaml and configs/server.yaml')
    .addHelpText('after', '\nExample:\n  mptun run /etc/mptun/home.yaml')
    .action(async (file: string) => {
      const config = loadConfig(file);
      // Loaded here and not above: the other verbs need neither the native addon nor the stack.
      const specifier = '../daemon/main.js';
      const { runDaemon } = (await import(specifier)) as { runDaemon(config: Config): Promise<void> };
      await runDaemon(config);
    });
}

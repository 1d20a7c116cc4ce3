/** `mptun run`: the daemon, in the foreground, as systemd wants it. */
import { Command } from 'commander';

export function runCommand(): Command {
  return new Command('run')
    .description('run the tunnel (client or server, as the configuration says) until SIGTERM or Ctrl-C')
    .argument('<config>', 'YAML file; see configs/client.yaml and configs/server.yaml')
    .addHelpText('after', '\nExample:\n  mptun run /etc/mptun/home.yaml')
    .action(async (file: string) => {
      // Loaded here and not above: the other verbs need neither the loader, nor the native addon, nor the stack.
      const { loadConfigInDetail } = await import('../config/load.js');
      const loaded = loadConfigInDetail(file);
      const { runDaemon } = await import('../daemon/main.js');
      process.exitCode = await runDaemon(loaded);
    });
}

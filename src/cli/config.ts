/** `mptun config check` and `mptun config show`. The loader comes in when it is wanted: other verbs start without it. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';

export function configCommand(): Command {
  const config = new Command('config').description('check or show a configuration');
  config.addCommand(
    new Command('check')
      .description('report every error in a configuration, each with file:line:column')
      .argument('<config>', 'YAML file')
      .addHelpText('after', '\nExample:\n  mptun config check /etc/mptun/home.yaml')
      .action(async (file: string) => {
        const { loadConfigInDetail } = await import('../config/load.js');
        const { config: loaded } = loadConfigInDetail(file);
        process.stdout.write(`${file}: ok (${loaded.mode} ${loaded.name})\n`);
      }),
  );
  config.addCommand(
    new Command('show')
      .description('print a configuration')
      .argument('<config>', 'YAML file')
      .option('--effective', 'with every default filled in, and where each value comes from')
      .addHelpText('after', '\nExample:\n  mptun config show --effective /etc/mptun/home.yaml')
      .action(async (file: string, options: { effective?: boolean }) => {
        const { loadConfigInDetail } = await import('../config/load.js');
        const { showEffective } = await import('../config/show.js');
        const loaded = loadConfigInDetail(file);
        process.stdout.write(options.effective ? showEffective(loaded) : readFileSync(file, 'utf8'));
      }),
  );
  return config;
}

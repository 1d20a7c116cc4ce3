/** `mptun config check` and `mptun config show`. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';

import { loadConfigInDetail } from '../config/load.js';
import { showEffective } from '../config/show.js';

export function configCommand(): Command {
  const config = new Command('config').description('check or show a configuration');
  config.addCommand(
    new Command('check')
      .description('report every error in a configuration, each with file:line:column')
      .argument('<config>', 'YAML file')
      .addHelpText('after', '\nExample:\n  mptun config check /etc/mptun/home.yaml')
      .action((file: string) => {
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
      .action((file: string, options: { effective?: boolean }) => {
        const loaded = loadConfigInDetail(file);
        process.stdout.write(options.effective ? showEffective(loaded) : readFileSync(file, 'utf8'));
      }),
  );
  return config;
}

/** `mptun genkey` and `mptun pubkey`. */
import { closeSync, fchmodSync, openSync, readFileSync, writeSync } from 'node:fs';
import { Command, Option } from 'commander';

import { generateKey, type KeyType, loadKey, PIN_PREFIX, parseKey, pinOf } from '../config/keys.js';
import { CliError } from './exit.js';

export function genkeyCommand(): Command {
  return new Command('genkey')
    .description('make a private key; prints its public pin, or without FILE the key itself')
    .argument('[file]', 'where to put it (mode 0600); an existing file is never overwritten')
    .addOption(new Option('--type <type>', 'kind of key').choices(['p256', 'ed25519']).default('p256'))
    .addHelpText('after', '\nExample:\n  mptun genkey /etc/mptun/home.key')
    .action((file: string | undefined, options: { type: KeyType }) => {
      const pem = generateKey(options.type);
      if (file === undefined) {
        process.stdout.write(pem);
        return;
      }
      writeKey(file, pem);
      process.stdout.write(`${PIN_PREFIX}${pinOf(parseKey(pem, file))}\n`);
    });
}

export function pubkeyCommand(): Command {
  return new Command('pubkey')
    .description("print the public pin of a private key, for the peer's configuration")
    .argument('[file]', 'private key; without it, read from standard input')
    .addHelpText('after', '\nExample:\n  mptun pubkey /etc/mptun/home.key')
    .action((file: string | undefined) => {
      const key = file === undefined ? parseKey(readFileSync(0, 'utf8'), 'standard input') : loadKey(file);
      process.stdout.write(`${PIN_PREFIX}${pinOf(key)}\n`);
    });
}

function writeKey(file: string, pem: string): void {
  let fd: number;
  try {
    fd = openSync(file, 'wx', 0o600);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'EEXIST') throw new CliError(`${file} exists; it is not overwritten`);
    throw err;
  }
  try {
    // Whatever the umask made of it.
    fchmodSync(fd, 0o600);
    writeSync(fd, pem);
  } finally {
    closeSync(fd);
  }
}

/** Configurations on disk with the keys that they name. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { generateKey, PIN_PREFIX, parseKey, pinOf } from '../../src/config/keys.js';
import { temporaryDirectory } from './files.js';

export interface ConfigDirectory {
  readonly path: string;
  readonly pins: { readonly client: string; readonly server: string };
  /** Writes a file into the directory and returns its path. */
  write(name: string, text: string): string;
}

/** A directory with client.key, client.pub, server.key and server.pub. */
export function configDirectory(t: ExecutionContext): ConfigDirectory {
  const path = temporaryDirectory(t);
  const make = (who: string): string => {
    const pem = generateKey();
    writeFileSync(join(path, `${who}.key`), pem, { mode: 0o600 });
    const pin = `${PIN_PREFIX}${pinOf(parseKey(pem, who))}`;
    writeFileSync(join(path, `${who}.pub`), `${pin}\n`);
    return pin;
  };
  const pins = { client: make('client'), server: make('server') };
  const write = (name: string, text: string): string => {
    writeFileSync(join(path, name), text);
    return join(path, name);
  };
  return { path, pins, write };
}

/** The checkout may lie where only its owner gets: other users see what they need of it through bind mounts. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CHECKOUT_PARTS } from './files.js';

/**
 * A place in `dir` for the checkout's parts that programs are run from, and the shell commands that put them there: to be run
 * as root, in a mount namespace of its own and at the repository's root.
 */
export function readableCheckout(dir: string): { readonly checkout: string; readonly binds: string } {
  const checkout = join(dir, 'checkout');
  for (const part of CHECKOUT_PARTS) mkdirSync(join(checkout, part), { recursive: true });
  writeFileSync(join(checkout, 'package.json'), '{ "type": "module" }');
  const binds = CHECKOUT_PARTS.map((part) => `mount --bind ${part}/. ${join(checkout, part)}`).join(' && ');
  return { checkout, binds };
}

/** Node's options that a daemon needs from whoever starts it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { NODE_OPTIONS } from '../../../src/daemon/v8.js';
import { REPOSITORY } from '../../support/files.js';

test("bin/mptun starts node with the daemon's options", (t) => {
  const [first] = readFileSync(join(REPOSITORY, 'bin', 'mptun'), 'utf8').split('\n');
  t.is(first, `#!/usr/bin/env -S node ${NODE_OPTIONS.join(' ')}`);
});

/** Places: the repository, and directories that go away with their test. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';

/** Root of the repository (this file is dist/tests/support/files.js), without a slash at its end. */
export const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

export function temporaryDirectory(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'mptun-test-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** What `bin/mptun` needs of a checkout, besides its package.json. */
export const CHECKOUT_PARTS = ['bin', 'dist', 'build', 'node_modules'];

/** Both sides of the 48 captures of kernel peers, taken by our stack (docs/captures.md): see tests/support/capture-player.ts. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { capturesPage } from '../../support/capture-page.js';
import { playAll } from '../../support/capture-plays.js';
import { hex } from '../../support/node-env.js';
import { DIFFERENCES, REASONS, type Reason } from './differences.js';

const results = playAll();

test('each of the 48 captures is played from both sides', (t) => {
  t.is(new Set(results.map((r) => r.capture)).size, 48);
  t.is(results.length, 2 * 48 + 2);
});

for (const { id, capture, end, differences, played, written } of results) {
  const second = id.includes('#') ? ', second connection' : '';
  test(`${capture}, we are the ${end === 'A' ? 'client' : 'server'}${second}: we say what the kernel said`, (t) => {
    const expected = DIFFERENCES[id] ?? [];
    const isListed = (what: string, ours: string) => expected.some((e) => e[0] === what && e[1] === ours);
    for (const { what, kernel, ours } of differences) {
      t.true(isListed(what, ours), `not listed: ${what}: the kernel says "${kernel}", we say "${ours}"`);
    }
    for (const [what, ours] of expected) {
      const isSeen = differences.some((d) => d.what === what && d.ours === ours);
      t.true(isSeen, `listed, and not seen any more: ${what}: "${ours}"`);
    }
    t.is(hex(played.received), hex(written), 'what our application reads');
    t.is(played.strays, 0, 'packets to nobody');
  });
}

test('every reason is used, and every play with differences exists', (t) => {
  const used = new Set(Object.values(DIFFERENCES).flatMap((list) => list.map(([, , reason]) => reason)));
  t.deepEqual([...used].sort(), (Object.keys(REASONS) as Reason[]).sort());
  for (const id of Object.keys(DIFFERENCES))
    t.true(
      results.some((r) => r.id === id),
      id,
    );
});

test('docs/captures.md is what the plays give', (t) => {
  const page = readFileSync(new URL('../../../../docs/captures.md', import.meta.url), 'utf8');
  t.is(page, capturesPage(results, DIFFERENCES, REASONS));
});

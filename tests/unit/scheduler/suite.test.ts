/** What every scheduler must do. */
import test from 'ava';
import fc from 'fast-check';
import { SCHEDULER_NAMES } from '../../../src/config/types.js';
import { DEFAULT_SCHEDULER, schedulers } from '../../../src/core/scheduler/index.js';
import { input, path } from './paths.js';

test('the default exists, and configuration knows the same names', (t) => {
  t.truthy(schedulers[DEFAULT_SCHEDULER]);
  t.deepEqual(Object.keys(schedulers), [...SCHEDULER_NAMES]);
});

for (const [name, create] of Object.entries(schedulers)) {
  const select = (...args: Parameters<typeof input>) => create().select(input(...args));

  test(`${name}: is called so, and waits when there is nothing to choose from`, (t) => {
    t.is(create().name, name);
    t.is(select([]), -1);
    t.is(select([path(0, { isUsable: false }), path(1, { isStalled: true })]), -1);
    t.is(select([path(0, { isFull: true })]), -1);
  });

  test(`${name}: takes the only path there is`, (t) => {
    t.is(select([path(0)]), 0);
    t.is(select([path(0, { isUsable: false }), path(1, { mbit: 1, delayMs: 500 })]), 1);
    t.is(select([path(0, { isStalled: true, isFull: true }), path(1, { mbit: 1, delayMs: 500 })]), 1);
  });

  test(`${name}: backups carry data only when no regular path is usable (RFC 8684 3.3.8)`, (t) => {
    t.is(select([path(0, { delayMs: 100 }), path(1, { delayMs: 1, isBackup: true })]), 0);
    t.is(select([path(0, { isFull: true }), path(1, { isBackup: true })]), -1, 'full is still usable');
    t.is(select([path(0, { isStalled: true }), path(1, { isBackup: true })]), 1);
    t.is(select([path(0, { isUsable: false }), path(1, { isBackup: true })]), 1);
  });

  test(`${name}: answers with the path's own index, wherever it stands in the list`, (t) => {
    t.is(select([path(7, { isUsable: false }), path(3)]), 3);
  });

  test(`${name}: a path without any measurement is usable`, (t) => {
    const fresh = { srttUs: 0, rttVarUs: 0, minRttUs: 0, rateBytesPerS: 0 };
    t.is(select([path(0, fresh)]), 0);
    t.not(select([path(0, fresh), path(1, fresh)]), -1);
  });

  test(`${name}: any snapshots: a choice may carry data, and waiting is always for a path that will`, (t) => {
    const anyPath = fc.record({
      isBackup: fc.boolean(),
      isUsable: fc.boolean(),
      isStalled: fc.boolean(),
      isDoubted: fc.boolean(),
      isHeldByLimit: fc.boolean(),
      srttUs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 3_000_000 })),
      rttVarUs: fc.nat(1_000_000),
      minRttUs: fc.nat(1_000_000),
      cwndBytes: fc.nat(10_000_000),
      inFlightBytes: fc.nat(10_000_000),
      availableBytes: fc.oneof(fc.constant(0), fc.nat(100_000)),
      readyAtUs: fc.nat(10_000_000),
      rateBytesPerS: fc.oneof(fc.constant(0), fc.nat(200_000_000)),
      mssBytes: fc.integer({ min: 500, max: 9000 }),
    });
    const anyInput = fc.record({
      nowUs: fc.nat(10_000_000),
      paths: fc.array(anyPath, { maxLength: 6 }),
      pendingBytes: fc.nat(10_000_000),
      windowBytes: fc.nat(20_000_000),
      windowFullUs: fc.integer({ min: -1, max: 10_000_000 }),
    });
    fc.assert(
      fc.property(fc.array(anyInput, { maxLength: 20 }), (inputs) => {
        const scheduler = create();
        for (const i of inputs) {
          const paths = i.paths.map((p, index) => ({ ...p, index, id: index }));
          const chosen = scheduler.select({ ...i, paths });
          const regular = paths.some((p) => !p.isBackup && p.isUsable && !p.isStalled);
          const tier = paths.filter((p) => p.isBackup !== regular && p.isUsable && !p.isStalled);
          if (chosen >= 0) {
            const p = paths[chosen]!;
            if (!tier.includes(p) || p.availableBytes <= 0) return false;
          } else if (tier.length > 0 && tier.every((p) => p.availableBytes > 0)) return false;
        }
        return true;
      }),
      { numRuns: 300, seed: 7 },
    );
    t.pass();
  });
}

import test from 'ava';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import { areHeldByLinks, type OverflowChange, OverflowWatch } from '../../../src/daemon/overflow.js';

/** Looks every 200 ms at a tunnel that carries these rates (Mbit/s) since the last look; the changes, with their time. */
function watch(looks: { tx?: number; rx?: number; full?: boolean; n: number }[], thresholds: [number, number][]) {
  const overflow = new OverflowWatch();
  const out: [number, OverflowChange][] = [];
  let atMs = 0;
  let txBytes = 0;
  let rxBytes = 0;
  for (const { tx = 0, rx = 0, full = false, n } of looks) {
    for (let i = 0; i < n; i++) {
      atMs += 200;
      txBytes += (tx * 1e6 * 0.2) / 8;
      rxBytes += (rx * 1e6 * 0.2) / 8;
      const load = { atMs, txBytes, rxBytes, isQueueFull: full };
      for (const change of overflow.look(load, new Map(thresholds))) out.push([atMs, change]);
    }
  }
  return out;
}

test('a queue that is not empty for a second: the others are full; one empty look: they are not', (t) => {
  t.deepEqual(watch([{ n: 5 }, { full: true, n: 4 }, { n: 1 }, { full: true, n: 7 }, { n: 3 }], []), [
    [3000, { isSaturated: true }],
    [3600, { isSaturated: false }],
  ]);
});

test('a threshold is passed by the average of a second, in either direction, and holds down to four fifths', (t) => {
  const changes = watch(
    [
      { rx: 10, n: 10 },
      { rx: 200, n: 1 },
      { rx: 10, n: 10 },
    ],
    [[7, 60e6]],
  );
  t.deepEqual(changes, [], 'a burst is no load');
  const long = watch(
    [
      { rx: 10, n: 10 },
      { rx: 30, n: 10 },
      { rx: 18, n: 10 },
      { rx: 10, n: 10 },
    ],
    [
      [7, 20e6],
      [8, 100e6],
    ],
  );
  t.deepEqual(
    long.map(([, change]) => change),
    [
      { isSaturated: true, linkId: 7 },
      { isSaturated: false, linkId: 7 },
    ],
  );
  t.true(long[0]![0] > 2000 && long[0]![0] <= 3000);
  t.true(long[1]![0] > 6000 && long[1]![0] <= 7000);
  t.is(watch([{ tx: 30, n: 10 }], [[7, 20e6]]).length, 1);
});

test('a threshold that is taken away is not passed any more', (t) => {
  const overflow = new OverflowWatch();
  for (let i = 0; i < 10; i++) {
    overflow.look({ atMs: i * 200, txBytes: i * 1e6, rxBytes: 0, isQueueFull: false }, new Map([[7, 1e6]]));
  }
  const load = { atMs: 2000, txBytes: 1e7, rxBytes: 0, isQueueFull: false };
  t.deepEqual(overflow.look(load, new Map()), [{ isSaturated: false, linkId: 7 }]);
});

test('flows are held by the links while they have bytes to send that their peers would take', (t) => {
  const flow = (unsentBytes: number, sendWindowBytes: number) => ({
    connection: { unsentBytes, info: () => ({ sendWindowBytes }) } as unknown as ConnectionApi,
  });
  t.false(areHeldByLinks([]));
  t.false(areHeldByLinks([flow(0, 1000), flow(1000, 0)]), 'one has sent everything, the other one’s reader is slow');
  t.true(areHeldByLinks([flow(1000, 0), flow(1000, 1)]));
});

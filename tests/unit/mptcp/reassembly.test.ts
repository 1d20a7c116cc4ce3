import test from 'ava';
import fc from 'fast-check';
import { PIECE_OVERHEAD_BYTES, Reassembly } from '../../../src/core/mptcp/reassembly.js';

const bytes = (from: number, n: number) => Uint8Array.from({ length: n }, (_, i) => (from + i) & 0xff);

test('the first copy of a byte wins (RFC 8684 3.3.1)', (t) => {
  const r = new Reassembly(1 << 20);
  r.insert(10, Uint8Array.of(1, 1, 1), 0, 3);
  r.insert(8, Uint8Array.of(2, 2, 2, 2, 2, 2, 2), 0, 7);
  t.deepEqual([...r.takeAt(8)!], [2, 2]);
  t.deepEqual([...r.takeAt(10)!], [1, 1, 1, 2, 2]);
  t.is(r.takeAt(15), null);
  t.is(r.duplicateBytes, 3);
  t.is(r.storedBytes, 0);
});

test('when full, the newest bytes make room (DESIGN 2: never wedge)', (t) => {
  const r = new Reassembly(3 * (100 + PIECE_OVERHEAD_BYTES));
  r.insert(1000, bytes(0, 100), 0, 100);
  r.insert(2000, bytes(0, 100), 0, 100);
  r.insert(3000, bytes(0, 100), 0, 100);
  r.insert(500, bytes(0, 100), 0, 100);
  t.is(r.evictedBytes, 100);
  t.truthy(r.takeAt(500));
  t.truthy(r.takeAt(1000));
  t.truthy(r.takeAt(2000));
  t.is(r.takeAt(3000), null);
});

test('a run of small segments is stored densely: a window of them takes less than two', (t) => {
  const window = 1 << 20;
  const r = new Reassembly(2 * window);
  for (let dsn = 10; dsn < 10 + window; dsn += 64) r.insert(dsn, bytes(dsn, 64), 0, 64);
  t.is(r.storedBytes, window);
  t.is(r.evictedBytes, 0);
  let dsn = 10;
  for (let got = r.takeAt(dsn); got !== null; got = r.takeAt(dsn))
    for (const b of got) if (b !== (dsn++ & 0xff)) t.fail();
  t.is(dsn, 10 + window);
});

test('one-byte pieces are charged their overhead: memory stays within the limit', (t) => {
  const limit = 64 * 1024;
  const r = new Reassembly(limit);
  for (let i = 0; i < 100_000; i++) r.insert(10 + 2 * i, Uint8Array.of(i), 0, 1);
  t.true(r.allocatedBytes <= limit);
  t.true(r.storedBytes <= limit / PIECE_OVERHEAD_BYTES);
});

test('property: inserting pieces in any order and overlap rebuilds the stream', (t) => {
  const piece = fc.tuple(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 1, max: 60 }));
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
        const r = new Reassembly(1 << 20);
        const have = new Set<number>();
        for (const [dsn, n] of pieces) {
          r.insert(dsn, bytes(dsn, n), 0, n);
          for (let i = dsn; i < dsn + n; i++) have.add(i);
        }
        if (r.storedBytes !== have.size) return false;
        for (let dsn = 0; dsn < 300; ) {
          const got = r.takeAt(dsn);
          if (got === null) {
            if (have.has(dsn)) return false;
            dsn++;
            continue;
          }
          for (const b of got) if (b !== (dsn++ & 0xff)) return false;
        }
        return r.isEmpty;
      }),
    ),
  );
});

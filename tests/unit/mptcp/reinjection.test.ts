import test from 'ava';
import fc from 'fast-check';
import { ReinjectionQueue } from '../../../src/core/mptcp/reinjection.js';

test('adjacent ranges of one subflow merge, overlaps are kept once', (t) => {
  const q = new ReinjectionQueue();
  q.add(10, 20, 1);
  q.add(20, 30, 1);
  q.add(15, 40, 2);
  t.deepEqual({ ...q.first }, { dsn: 10, endDsn: 30, notOn: 1 });
  t.is(q.pendingBytes, 30);
});

test('acknowledged bytes are dropped, consumed ones leave, a recovered subflow is forgotten', (t) => {
  const q = new ReinjectionQueue();
  q.add(10, 30, 1);
  q.add(40, 50, 2);
  q.dropBelow(15);
  q.consume(5);
  t.deepEqual({ ...q.first }, { dsn: 20, endDsn: 30, notOn: 1 });
  q.forget(1);
  t.deepEqual({ ...q.first }, { dsn: 40, endDsn: 50, notOn: 2 });
  q.dropBelow(50);
  t.true(q.isEmpty);
});

test('property: the queue holds each asked-for byte exactly once', (t) => {
  const range = fc.tuple(fc.nat(100), fc.integer({ min: 1, max: 30 }), fc.nat(2));
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(range, { maxLength: 40 }), (ranges) => {
        const q = new ReinjectionQueue();
        const want = new Set<number>();
        for (const [dsn, n, on] of ranges) {
          q.add(dsn, dsn + n, on);
          for (let i = dsn; i < dsn + n; i++) want.add(i);
        }
        if (q.pendingBytes !== want.size) return false;
        let last = -1;
        for (let r = q.first; r !== undefined; r = q.first) {
          if (r.dsn <= last || !want.delete(r.dsn)) return false;
          last = r.dsn;
          q.consume(1);
        }
        return want.size === 0;
      }),
    ),
  );
});

/** RangeSet against a naive set of integers. */
import test from 'ava';
import fc from 'fast-check';
import { RangeSet } from '../../../src/core/base/ranges.js';

const operation = fc.oneof(
  fc.record({ type: fc.constant('add' as const), at: fc.nat(60), length: fc.integer({ min: 1, max: 15 }) }),
  fc.record({ type: fc.constant('removeBelow' as const), at: fc.nat(70), length: fc.constant(0) }),
);

test('any sequence of additions and removals gives the same set, sorted, disjoint, merged', (t) => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
      const ranges = new RangeSet();
      const naive = new Set<number>();
      for (const { type, at, length } of operations) {
        if (type === 'add') {
          const touched = [...Array(length + 2).keys()].some((i) => naive.has(at - 1 + i));
          if (ranges.touches(at, at + length) !== touched) return false;
          const covered = [...Array(length).keys()].every((i) => naive.has(at + i));
          if (ranges.covers(at, at + length) !== covered) return false;
          ranges.add(at, at + length);
          for (let i = 0; i < length; i++) naive.add(at + i);
        } else {
          ranges.removeBelow(at);
          for (const x of naive) if (x < at) naive.delete(x);
        }
        for (let x = 0; x < 80; x++) {
          const i = ranges.indexOf(x);
          if (i >= 0 !== naive.has(x)) return false;
          if (i >= 0 && (ranges.startAt(i) > x || ranges.endAt(i) <= x)) return false;
        }
        for (let i = 1; i < ranges.count; i++) if (ranges.startAt(i) <= ranges.endAt(i - 1)) return false;
        if (ranges.maxEnd(-1) !== (naive.size === 0 ? -1 : Math.max(...naive) + 1)) return false;
      }
      return true;
    }),
  );
  t.pass();
});

/** How connections share the limit of a path. */
import test from 'ava';
import fc from 'fast-check';
import { splitLimit } from '../../../src/daemon/limit-share.js';

test('one user has it all; an idle one leaves nearly all to the other, and can begin', (t) => {
  t.deepEqual(splitLimit(1000, [{ rateBytesPerS: 0, shareBytesPerS: 1000 }]), [1000]);
  const [idle, busy] = splitLimit(1000, [
    { rateBytesPerS: 0, shareBytesPerS: 500 },
    { rateBytesPerS: 500, shareBytesPerS: 500 },
  ]);
  t.is(idle, 100);
  t.is(busy, 900);
});

test('two that want all share equally, whatever they had', (t) => {
  t.deepEqual(
    splitLimit(1000, [
      { rateBytesPerS: 100, shareBytesPerS: 100 },
      { rateBytesPerS: 900, shareBytesPerS: 900 },
    ]),
    [500, 500],
  );
});

test('the shares come to the limit, and nobody has none', (t) => {
  const user = fc.record({
    rateBytesPerS: fc.nat(1_000_000_000),
    shareBytesPerS: fc.integer({ min: 1, max: 1_000_000_000 }),
  });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000_000_000 }),
      fc.array(user, { minLength: 1, maxLength: 8 }),
      (limit, users) => {
        const shares = splitLimit(limit, users);
        const sum = shares.reduce((a, b) => a + b, 0);
        t.true(Math.abs(sum - limit) <= limit * 1e-9);
        t.true(shares.every((s) => s >= (0.19 * limit) / users.length));
      },
    ),
  );
});

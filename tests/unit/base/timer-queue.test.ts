import test from 'ava';
import fc from 'fast-check';
import { NEVER } from '../../../src/core/base/time.js';
import { TimerQueue } from '../../../src/core/base/timer-queue.js';

test('owners come up in the order of their deadlines; an earlier one replaces a later one', (t) => {
  const q = new TimerQueue<string>();
  q.set('a', 30);
  q.set('b', 20);
  q.set('a', 10);
  q.set('c', NEVER);
  t.is(q.nextUs(), 10);
  t.is(q.takeDue(9), undefined);
  t.is(q.takeDue(25), 'a');
  t.is(q.takeDue(25), 'b');
  t.is(q.takeDue(1000), undefined);
  t.is(q.nextUs(), NEVER);
});

test('a deleted owner never comes up', (t) => {
  const q = new TimerQueue<string>();
  q.set('a', 10);
  q.set('b', 20);
  q.delete('a');
  t.is(q.nextUs(), 20);
  t.is(q.takeDue(100), 'b');
});

test('property: the queue is never later than the earliest deadline set', (t) => {
  const op = fc.tuple(fc.nat(9), fc.nat(1000));
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(op, { maxLength: 200 }), (ops) => {
        const q = new TimerQueue<number>();
        const earliest = new Map<number, number>();
        for (const [owner, at] of ops) {
          q.set(owner, at);
          earliest.set(owner, Math.min(at, earliest.get(owner) ?? NEVER));
        }
        let last = -1;
        for (let owner = q.takeDue(1000); owner !== undefined; owner = q.takeDue(1000)) {
          const at = earliest.get(owner)!;
          if (at < last || !earliest.delete(owner)) return false;
          last = at;
        }
        return earliest.size === 0;
      }),
    ),
  );
});

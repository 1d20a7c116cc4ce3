import test from 'ava';
import fc from 'fast-check';
import { MAX_UNIT_PARTS, SendBuffer } from '../../../src/core/mptcp/send-buffer.js';

/** The bytes of a unit, gathered. */
function gather(unit: { parts: Uint8Array[]; firstOffset: number; lengthBytes: number }): number[] {
  const all = unit.parts.flatMap((p) => [...p]);
  return all.slice(unit.firstOffset, unit.firstOffset + unit.lengthBytes);
}

test('a unit refers to the written chunks, without copying', (t) => {
  const b = new SendBuffer(1);
  const first = Uint8Array.of(1, 2, 3);
  const second = Uint8Array.of(4, 5);
  b.append(first);
  b.append(second);
  const unit = b.take(2, 10);
  t.is(unit.parts[0], first);
  t.is(unit.parts[1], second);
  t.deepEqual(gather(unit), [2, 3, 4, 5]);
});

test('a unit of many small writes ends at MAX_UNIT_PARTS', (t) => {
  const b = new SendBuffer(1);
  for (let i = 0; i < 100; i++) b.append(Uint8Array.of(i));
  const unit = b.take(1, 100);
  t.is(unit.parts.length, MAX_UNIT_PARTS);
  t.is(unit.lengthBytes, MAX_UNIT_PARTS);
});

test('what is DATA_ACKed is not held any longer, however little came after it', (t) => {
  const b = new SendBuffer(1);
  for (let i = 0; i < 10; i++) b.append(new Uint8Array(1000));
  b.free(9_501);
  const { chunks } = b as unknown as { chunks: { bytes: Uint8Array }[] };
  t.is(
    chunks.reduce((n, c) => n + c.bytes.length, 0),
    1000,
  );
  t.is(b.take(9_501, 1000).lengthBytes, 500);
});

test('freed bytes leave the buffer, and what is not DATA_ACKed can be taken again (reinjection)', (t) => {
  const b = new SendBuffer(1);
  for (let i = 0; i < 300; i++) b.append(Uint8Array.of(i & 0xff, 1));
  b.take(1, 10);
  b.free(401);
  t.is(b.startDsn, 401);
  t.deepEqual(gather(b.take(401, 4)), [200, 1, 201, 1]);
  t.deepEqual(gather(b.take(599, 10)), [299 & 0xff, 1]);
  t.deepEqual(gather(b.take(402, 2)), [1, 201]);
});

test('property: any take returns the bytes written at that DSN', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 9 }), { minLength: 1, maxLength: 40 }),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 50 }), fc.boolean()), { maxLength: 30 }),
        (writes, takes) => {
          const b = new SendBuffer(1);
          for (const w of writes) b.append(w);
          const all = writes.flatMap((w) => [...w]);
          for (const [at, max, isFree] of takes) {
            const held = b.endDsn - b.startDsn;
            if (held <= 0) break;
            const dsn = b.startDsn + (at % held);
            const unit = b.take(dsn, max);
            const expected = all.slice(dsn - 1, dsn - 1 + unit.lengthBytes);
            if (unit.lengthBytes < 1 || gather(unit).join() !== expected.join()) return false;
            if (isFree) b.free(dsn);
          }
          return true;
        },
      ),
    ),
  );
});

import test from 'ava';
import fc from 'fast-check';
import { ChecksumAssembly } from '../../../src/core/mptcp/checksum-assembly.js';
import { MAX_MAPPINGS, ReceiveMappings } from '../../../src/core/mptcp/receive-mapping.js';

test('D13: one mapping covers many segments, and is found for each byte of it', (t) => {
  const m = new ReceiveMappings();
  t.is(m.add(1, 101, 3000, 3000, -1), 'added');
  t.is(m.find(1)!.dsn, 101);
  t.is(m.find(3000)!.dsn, 101);
  t.is(m.find(3001), null);
  t.is(m.add(1, 101, 3000, 3000, -1), 'known');
});

test('D10: a mapping never changes: a contradicting one is refused', (t) => {
  const m = new ReceiveMappings();
  m.add(100, 500, 100, 100, -1);
  t.is(m.add(150, 999, 10, 10, -1), 'conflict');
  t.is(m.add(50, 450, 60, 60, -1), 'conflict');
  t.is(m.find(150)!.dsn, 500);
});

test('mappings are pruned once received in order, and their number is bounded', (t) => {
  const m = new ReceiveMappings();
  for (let i = 0; i < MAX_MAPPINGS; i++) t.is(m.add(1 + 10 * i, 1 + 10 * i, 10, 10, -1), 'added');
  t.is(m.add(1_000_000, 1_000_000, 10, 10, -1), 'full');
  m.prune(11);
  t.is(m.find(1), null);
  t.is(m.add(1_000_000, 1_000_000, 10, 10, -1), 'added');
});

test('D28: an infinite mapping covers everything from its SSN on', (t) => {
  const m = new ReceiveMappings();
  m.setInfinite(100, 1000);
  t.true(Number.isNaN(m.infiniteDsn(99)));
  t.is(m.infiniteDsn(150), 1050);
});

test('bytes ahead of their mapping are held within the limit', (t) => {
  const m = new ReceiveMappings();
  const b = Uint8Array.of(1, 2, 3, 4);
  t.true(m.hold(1, b, 0, 4, 6));
  t.false(m.hold(5, b, 0, 4, 6));
  t.is(m.heldBytes, 4);
  t.deepEqual(
    m.takeHeld().map((h) => [h.seq, ...h.bytes]),
    [[1, 1, 2, 3, 4]],
  );
  t.is(m.heldBytes, 0);
});

test('property: a checksummed mapping is complete exactly when every byte came, whatever the order and overlap', (t) => {
  const piece = fc.tuple(fc.nat(39), fc.integer({ min: 1, max: 15 }));
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        const a = new ChecksumAssembly({ ssn: 1, dsn: 1, lengthBytes: 40, dll: 40, checksum: 0 });
        const have = new Set<number>();
        for (const [at, n] of pieces) {
          const length = Math.min(n, 40 - at);
          const b = Uint8Array.from({ length }, (_, i) => at + i + 1);
          a.put(at, b, 0, length);
          for (let i = at; i < at + length; i++) have.add(i);
          if (a.isComplete !== (have.size === 40)) return false;
        }
        return [...a.bytes].every((b, i) => b === (have.has(i) ? i + 1 : 0));
      }),
    ),
  );
});

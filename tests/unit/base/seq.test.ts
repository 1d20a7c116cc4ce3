import test from 'ava';
import fc from 'fast-check';
import { dsnHi, dsnLo, relativeDsn, unwrap32, wrap32 } from '../../../src/core/base/seq.js';

const u32 = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
);
const relative = fc.oneof(
  fc.integer({ min: 0, max: 2 ** 53 - 2 ** 33 }),
  fc.integer({ min: 2 ** 32 - 5, max: 2 ** 32 + 5 }),
  fc.integer({ min: 0, max: 5 }),
);

test('wrap32 and unwrap32 are inverse within half the number space', (t) => {
  fc.assert(
    fc.property(u32, relative, fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), (base, near, distance) => {
      const rel = near + distance;
      fc.pre(rel >= 0);
      const wire = Number((BigInt(base) + BigInt(rel)) & 0xffff_ffffn);
      return wrap32(rel, base) === wire && unwrap32(wire, base, near) === rel;
    }),
  );
  t.pass();
});

test('a number before the initial one unwraps to a negative', (t) => {
  t.is(unwrap32(99, 100, 0), -1);
  t.is(unwrap32(0xffff_ffff, 0, 0), -1);
  t.is(unwrap32(0xffff_fff0, 5, 3), -21);
});

test('subflow numbers across the 32-bit wrap', (t) => {
  const iss = 0xffff_fffe;
  t.deepEqual(
    [0, 1, 2, 3].map((rel) => wrap32(rel, iss)),
    [0xffff_fffe, 0xffff_ffff, 0, 1],
  );
  t.is(unwrap32(1, iss, 0), 3);
  t.is(unwrap32(0xffff_ffff, iss, 5), 1);
  t.is(unwrap32(wrap32(2 ** 40 + 7, iss), iss, 2 ** 40), 2 ** 40 + 7);
});

test('data numbers against BigInt, 8-byte and 4-byte forms', (t) => {
  fc.assert(
    fc.property(u32, u32, relative, fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), (hi, lo, rel, off) => {
      const wire = ((BigInt(hi) << 32n) + BigInt(lo) + BigInt(rel)) & 0xffff_ffff_ffff_ffffn;
      const idsn = { hi, lo };
      const wireHi = Number(wire >> 32n);
      const wireLo = Number(wire & 0xffff_ffffn);
      const near = Math.max(rel - off, 0);
      return (
        dsnHi(rel, idsn) === wireHi &&
        dsnLo(rel, idsn) === wireLo &&
        relativeDsn(wireHi, wireLo, idsn) === rel &&
        (Math.abs(rel - near) >= 2 ** 31 || unwrap32(wireLo, idsn.lo, near) === rel)
      );
    }),
  );
  t.pass();
});

test('IDSN just below 2^32 and 2^64 (RFC 8684 3.3.1: 64 bits are kept)', (t) => {
  for (const idsn of [
    { hi: 0, lo: 0xffff_ffff },
    { hi: 0xffff_ffff, lo: 0xffff_ffff },
    { hi: 0xffff_ffff, lo: 0xffff_fff0 },
    { hi: 0x7fff_ffff, lo: 0xffff_ffff },
  ]) {
    const all = (BigInt(idsn.hi) << 32n) | BigInt(idsn.lo);
    for (const rel of [0, 1, 2, 15, 16, 17, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 48]) {
      const wire = (all + BigInt(rel)) & 0xffff_ffff_ffff_ffffn;
      t.is((BigInt(dsnHi(rel, idsn)) << 32n) | BigInt(dsnLo(rel, idsn)), wire);
      t.is(relativeDsn(Number(wire >> 32n), Number(wire & 0xffff_ffffn), idsn), rel);
    }
  }
  t.is(relativeDsn(0, 0, { hi: 0xffff_ffff, lo: 0xffff_ffff }), 1);
});

test('a DSN before the IDSN or absurdly far ahead is NaN', (t) => {
  const idsn = { hi: 5, lo: 5 };
  t.is(relativeDsn(5, 4, idsn), Number.NaN);
  t.is(relativeDsn(4, 5, idsn), Number.NaN);
  t.is(relativeDsn(5 + 0x20_0000, 5, idsn), Number.NaN);
  t.is(relativeDsn(5 + 0x1f_ffff, 0xffff_ffff, idsn), 0x1f_ffff * 2 ** 32 + 0xffff_fffa);
});

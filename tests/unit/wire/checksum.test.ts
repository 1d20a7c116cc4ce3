import test from 'ava';
import fc from 'fast-check';
import { dssChecksum, dssChecksumRange } from '../../../src/core/mptcp/keys.js';
import {
  finishChecksum,
  foldSum,
  RunningSum,
  sumParts,
  sumRange,
  updateChecksum,
} from '../../../src/core/wire/checksum.js';
import { naiveChecksum, naiveSum } from '../../support/oracle-codec.js';

const bytes = fc.uint8Array({ maxLength: 300 });

test('RFC 1071 section 3, the example', (t) => {
  const data = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  t.is(sumRange(data, 0, 8), 0xddf2);
  t.is(finishChecksum(0xddf2), 0x220d);
});

test('any range, any length, agrees with the word-by-word sum', (t) => {
  fc.assert(
    fc.property(bytes, fc.nat(40), (data, offset) => {
      const buf = new Uint8Array(data.length + offset + 3).fill(0xa5);
      buf.set(data, offset);
      return sumRange(buf, offset, data.length) === naiveSum(data);
    }),
  );
  t.pass();
});

test('long runs of 0xff do not overflow', (t) => {
  for (const length of [65_535, 65_536, 3 * 1024 * 1024 + 1]) {
    const data = new Uint8Array(length).fill(0xff);
    const expected = length % 2 === 0 ? 0xffff : 0xff00;
    t.is(sumRange(data, 0, length), expected);
    t.is(sumRange(data, 0, length, 0xffff), expected);
  }
});

test('slices of odd lengths sum like the whole', (t) => {
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 6 }), fc.nat(200), fc.nat(900), (parts, skip, length) => {
      const all = Uint8Array.from(parts.flatMap((p) => [...p]));
      const running = new RunningSum().reset(0x1234);
      for (const part of parts) running.add(part, 0, part.length);
      const whole = sumRange(all, 0, all.length, 0x1234);
      const cut = all.subarray(skip, skip + length);
      return (
        equalSums(running.sum, whole) && equalSums(sumParts(parts, skip, length, 7), sumRange(cut, 0, cut.length, 7))
      );
    }),
  );
  t.pass();
});

test('DSS checksum over slices is that of the pseudo-header and the bytes (RFC 8684 3.3.1)', (t) => {
  const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
  fc.assert(
    fc.property(u32, u32, u32, fc.nat(0xffff), fc.array(bytes, { maxLength: 4 }), (hi, lo, ssn, dll, parts) => {
      const payload = Uint8Array.from(parts.flatMap((p) => [...p]));
      const block = new Uint8Array(16 + payload.length);
      const view = new DataView(block.buffer);
      view.setUint32(0, hi);
      view.setUint32(4, lo);
      view.setUint32(8, ssn);
      view.setUint16(12, dll);
      block.set(payload, 16);
      const expected = naiveChecksum(block);
      return (
        dssChecksum(hi, lo, ssn, dll, parts, 0, payload.length) === expected &&
        dssChecksumRange(hi, lo, ssn, dll, payload, 0, payload.length) === expected
      );
    }),
  );
  t.pass();
});

test('RFC 1624: an update equals a new computation', (t) => {
  // The example of section 4, where eqn. 2 of RFC 1141 went wrong.
  t.is(updateChecksum(0xdd2f, 0x5555, 0x3285), 0x0000);
  const u16 = fc.integer({ min: 0, max: 0xffff });
  fc.assert(
    fc.property(fc.array(u16, { minLength: 2, maxLength: 12 }), u16, (words, replacement) => {
      const data = new Uint8Array(words.length * 2);
      const view = new DataView(data.buffer);
      words.forEach((w, i) => {
        view.setUint16(2 * i, w);
      });
      fc.pre(words.slice(1).some((w) => w !== 0)); // a header is never all zero
      const before = naiveChecksum(data);
      view.setUint16(0, replacement);
      return updateChecksum(before, words[0]!, replacement) === naiveChecksum(data);
    }),
  );
  t.pass();
});

test('foldSum reduces anything below 2^32', (t) => {
  t.is(foldSum(0xffff_ffff), 0xffff);
  t.is(foldSum(0x1_0000), 1);
  t.is(foldSum(0), 0);
});

/** 0 and 0xffff are the same number in one's complement. */
function equalSums(a: number, b: number): boolean {
  return a % 0xffff === b % 0xffff;
}

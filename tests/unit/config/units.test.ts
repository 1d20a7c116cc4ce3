import test from 'ava';
import fc from 'fast-check';
import { parseDuration, parseRate, parseSize } from '../../../src/config/units.js';

test('rates in bit/s', (t) => {
  t.is(parseRate('20Mbit'), 20_000_000);
  t.is(parseRate('1.5Gbit/s'), 1_500_000_000);
  t.is(parseRate('64 kbps'), 64_000);
  t.is(parseRate('9600bit'), 9600);
});

test('sizes in bytes: decimal and binary prefixes differ', (t) => {
  t.is(parseSize('10GB'), 10_000_000_000);
  t.is(parseSize('16MiB'), 16_777_216);
  t.is(parseSize('1kB'), 1000);
  t.is(parseSize('1KiB'), 1024);
});

test('durations in microseconds', (t) => {
  t.is(parseDuration('300ms'), 300_000);
  t.is(parseDuration('1.5s'), 1_500_000);
  t.is(parseDuration('2min'), 120_000_000);
  t.is(parseDuration('7us'), 7);
});

test('a number without a unit, a wrong unit, a sign or nonsense is refused', (t) => {
  for (const text of [
    '20',
    '',
    'Mbit',
    '-5Mbit',
    '5Mbyte',
    '1e3kbit',
    '5 ms ms',
    '1,5s',
    '0x10B',
    '99999999999999999GB',
  ]) {
    t.is(parseRate(text), null, text);
    t.is(parseSize(text), null, text);
    t.is(parseDuration(text), null, text);
  }
  t.is(parseRate('300ms'), null);
  t.is(parseSize('20Mbit'), null);
  t.is(parseDuration('10GB'), null);
});

test('any whole number keeps its value in each unit', (t) => {
  fc.assert(
    fc.property(fc.nat({ max: 1_000_000 }), (n) => {
      t.is(parseRate(`${n}Mbit`), n * 1e6);
      t.is(parseSize(`${n}KiB`), n * 1024);
      t.is(parseDuration(`${n}ms`), n * 1000);
    }),
  );
});

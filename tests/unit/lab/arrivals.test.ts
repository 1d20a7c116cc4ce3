import { createHash } from 'node:crypto';
import test from 'ava';
import { Arrivals } from '../../../src/lab/arrivals.js';
import { RandomSource, randomSha256, randomStream } from '../../../src/lab/random-stream.js';
import { sparkline } from '../../../src/lab/report.js';

/** 1250 bytes a millisecond (10 Mbit/s) over [from, to). */
function steady(arrivals: Arrivals, fromMs: number, toMs: number): void {
  for (let ms = fromMs; ms < toMs; ms++) arrivals.record(ms, 1250);
}

test('a steady stream: mean and slope are its rate', (t) => {
  const a = new Arrivals();
  steady(a, 5000, 8000);
  t.is(a.totalBytes, 3000 * 1250);
  t.is(a.rateBps(1000, 3000), 10e6);
  t.is(Math.round(a.slopeBps(1000, 3000)), 10e6);
  t.is(a.gapMs, 1);
});

test('a gap: its length, its begin, and the blank in the rates', (t) => {
  const a = new Arrivals();
  steady(a, 0, 1000);
  steady(a, 1500, 2000);
  t.is(a.gapMs, 501);
  t.is(a.gapStartMs, 999);
  t.deepEqual(a.ratesBps(250).map(Math.round), [10e6, 10e6, 10e6, 10e6, 0, 0, 10e6, 10e6]);
});

test('a hole that is filled at once moves the slope less than the mean of a window that begins in it', (t) => {
  const a = new Arrivals();
  steady(a, 0, 900);
  a.record(1050, 150 * 1250); // what was lost at 900 comes back, with all that waited for it
  steady(a, 1050, 4000);
  const mean = a.rateBps(1000, 4000);
  t.true(mean > 10.3e6);
  t.true(Math.abs(a.slopeBps(1000, 4000) - 10e6) < 0.1e6);
});

test('gaps of a part: only what lies within it, and one that is still open', (t) => {
  const a = new Arrivals();
  steady(a, 1000, 2000);
  steady(a, 2100, 3000);
  t.is(a.gapBetweenMs(1000, 1900), 0);
  t.is(a.gapBetweenMs(1000, 3000), 101);
  t.is(a.gapBetweenMs(2050, 2500), 50);
  t.is(a.gapBetweenMs(2500, 3400), 401);
  t.is(Arrivals.fromJson(JSON.parse(JSON.stringify(a.toJson()))).gapBetweenMs(1000, 3000), 101);
});

test('bytes of a part, by the clock', (t) => {
  const a = new Arrivals();
  steady(a, 1000, 2000);
  t.is(a.bytesBetween(1500, 1600), 100 * 1250);
  t.is(a.bytesBetween(0, 1100), 100 * 1250);
  t.is(a.bytesBetween(1990, 5000), 10 * 1250);
});

test('JSON and back', (t) => {
  const a = new Arrivals();
  steady(a, 0, 300);
  const b = Arrivals.fromJson(JSON.parse(JSON.stringify(a.toJson())));
  t.deepEqual(b.toJson(), a.toJson());
  t.is(b.totalBytes, a.totalBytes);
  t.is(b.rateBps(100), a.rateBps(100));
});

test('test data: the stream, the source and the hash agree, whatever the cuts', async (t) => {
  const bytes = 200_001;
  const hash = createHash('sha256');
  for await (const chunk of randomStream(7, bytes)) hash.update(chunk as Buffer);
  t.is(hash.digest('hex'), randomSha256(7, bytes));
  const source = new RandomSource(7);
  const pieces = [1, 65_536, 100_000, 34_464].map((n) => source.next(n));
  t.is(createHash('sha256').update(Buffer.concat(pieces)).digest('hex'), randomSha256(7, bytes));
  t.not(randomSha256(8, bytes), randomSha256(7, bytes));
});

test('sparkline: blank is nothing, the lowest bar is something', (t) => {
  t.is(sparkline([0, 1, 50, 100, 500], 100), ' ▁▄██');
});

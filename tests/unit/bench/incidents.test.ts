/** What the receiver's arrivals say of an incident, and what of a call was lost. */
import test from 'ava';
import { badPackets } from '../../../bench/call.js';
import { goodputBackMs } from '../../../bench/incidents.js';
import { within } from '../../../bench/within.js';
import { Arrivals } from '../../../src/lab/arrivals.js';

/** `bytes` a millisecond over [from, to). */
function steady(arrivals: Arrivals, fromMs: number, toMs: number, bytes: number): void {
  for (let ms = fromMs; ms < toMs; ms++) arrivals.record(ms, bytes);
}

const RATE_BPS = 30e6;
/** 95 % of it. */
const FULL = 3563;

test('goodput is back where it flows again, not within the gap and not where it trickles', (t) => {
  const a = new Arrivals();
  steady(a, 0, 1000, 9000);
  steady(a, 1250, 1600, FULL / 2);
  steady(a, 1600, 3000, FULL);
  const backMs = goodputBackMs(a, 1000, 3000, RATE_BPS)!;
  t.true(backMs >= 550 && backMs <= 610, `${backMs}`);
});

test('a burst that fills a hole is not goodput', (t) => {
  const a = new Arrivals();
  steady(a, 0, 1000, 9000);
  a.record(1200, 3_000_000);
  steady(a, 2000, 3000, FULL);
  t.is(goodputBackMs(a, 1000, 3000, RATE_BPS), 1000);
});

test('goodput that is not seen to go on is not back', (t) => {
  const a = new Arrivals();
  steady(a, 0, 1000, 9000);
  steady(a, 1700, 2000, FULL);
  t.is(goodputBackMs(a, 1000, 2000, RATE_BPS), null);
});

test('a call: what never came and what came too late, of what was sent since', (t) => {
  const sentMs = Array.from({ length: 10 }, (_, i) => i * 20);
  const received = [
    [0, 10],
    [4, 12],
    [5, 151],
    [6, 150],
    [9, 12],
  ] as const;
  t.is(badPackets({ sentMs, received: [] }, { sentMs: [], received }, 80), 3);
  t.deepEqual(badPackets({ sentMs, received: [] }, { sentMs: [], received }, 1000), { missing: 'no packet was sent' });
});

test('what takes too long is given up with its name', async (t) => {
  await t.throwsAsync(within(new Promise(() => {}), 1, 'asking'), { message: 'asking: not done after 0.001 s' });
  t.is(await within(Promise.resolve(7), 1000, 'asking'), 7);
});

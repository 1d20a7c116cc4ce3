/** When a link that came back counts as carrying data again. Bins of 10 ms, a link of 8 Mbit/s: 10 KB are 10 % of 100 ms. */
import test from 'ava';
import { backInUseMs } from '../../../src/lab/back-in-use.js';
import type { LabLink } from '../../../src/lab/index.js';

const FROM_MS = 5_003;
/** The bin that `FROM_MS` falls into. */
const FIRST_MS = 5_000;

function backAfter(bytes: readonly number[], share?: number): Promise<number | null> {
  const link = { timeline: async () => ({ fromMs: FIRST_MS, binMs: 10, bytes }) } as unknown as LabLink;
  return backInUseMs(link, 8e6, FROM_MS, FIRST_MS + 10 * bytes.length, share);
}

const bins = (count: number, bytes: number): number[] => Array.from({ length: count }, () => bytes);

test('from the first bin with data on, if a tenth of the rate goes on', async (t) => {
  t.is(await backAfter([...bins(20, 0), ...bins(60, 1_000)]), 200 - (FROM_MS - FIRST_MS));
});

test('what comes out at once, and all for a while, does not count', async (t) => {
  t.is(await backAfter([50_000, 50_000, ...bins(28, 0), ...bins(60, 1_000)]), 300 - (FROM_MS - FIRST_MS));
});

test('probes do not count, nor what begins too late to be seen to go on', async (t) => {
  t.is(await backAfter(bins(200, 100)), null);
  t.is(await backAfter([...bins(100, 0), ...bins(40, 10_000)]), null);
});

test('at once is not before it came back', async (t) => {
  t.is(await backAfter(bins(60, 10_000)), 0);
});

test('half of its share comes later than some of it', async (t) => {
  const bytes = [...bins(20, 0), ...bins(30, 1_000), ...bins(60, 5_000)];
  t.is(await backAfter(bytes), 200 - (FROM_MS - FIRST_MS));
  t.is(await backAfter(bytes, 0.5), 500 - (FROM_MS - FIRST_MS));
});

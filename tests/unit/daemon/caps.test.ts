import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PLAIN_RULE } from '../../../src/config/match.js';
import type { UsageCap } from '../../../src/config/types.js';
import { UsageBook, UsageMeter, usageKey } from '../../../src/daemon/caps.js';
import { cappedRole, capText } from '../../../src/daemon/link-policy.js';
import { temporaryDirectory } from '../../support/files.js';

const CAP: UsageCap = { dailyBytes: 1000, monthlyBytes: 5000, resetDay: 15, atLimit: 'never' };
const at = (year: number, month: number, day: number, hour = 12) => new Date(year, month - 1, day, hour);

/** A counter that goes on by what is said. */
function counting(book: UsageBook, link = 'wwan0') {
  let bytes = 0;
  book.count(link, { id: 'a', bytes }, at(2026, 11, 1));
  return (n: number, now: Date) => {
    bytes += n;
    book.count(link, { id: 'a', bytes }, now);
  };
}

test('a day ends at midnight, a month on its day, by the local calendar', (t) => {
  const book = new UsageBook();
  const count = counting(book);
  count(600, at(2026, 11, 14, 23));
  t.is(book.usage('wwan0', CAP, at(2026, 11, 14, 23)).dayBytes, 600);
  t.is(book.usage('wwan0', CAP, at(2026, 11, 15, 0)).dayBytes, 0);
  t.is(book.usage('wwan0', CAP, at(2026, 11, 14, 23)).monthBytes, 600);
  t.is(book.usage('wwan0', CAP, at(2026, 11, 15, 0)).monthBytes, 0);
  t.is(book.usage('wwan0', { ...CAP, resetDay: 1 }, at(2026, 11, 15)).monthBytes, 600, 'by another reset day');
});

test('a limit that is reached says which, and until when', (t) => {
  const book = new UsageBook();
  const count = counting(book);
  count(999, at(2026, 11, 20));
  t.is(book.usage('wwan0', CAP, at(2026, 11, 20)).reached, null);
  count(1, at(2026, 11, 20));
  t.deepEqual(book.usage('wwan0', CAP, at(2026, 11, 20)).reached, {
    period: 'daily',
    usedBytes: 1000,
    limitBytes: 1000,
    until: '2026-11-21',
  });
  t.is(book.usage('wwan0', CAP, at(2026, 11, 21)).reached, null);
  for (let day = 21; day <= 24; day++) count(1000, at(2026, 11, day));
  const { reached } = book.usage('wwan0', CAP, at(2026, 11, 24));
  t.is(reached?.period, 'monthly');
  t.is(reached?.until, '2026-12-15');
  t.is(book.usage('wwan0', CAP, at(2026, 12, 15)).reached, null);
});

test('in a month that is too short for the reset day, its last day is meant', (t) => {
  const book = new UsageBook();
  const count = counting(book);
  const cap = { ...CAP, dailyBytes: null, monthlyBytes: 100, resetDay: 31 };
  count(200, at(2027, 2, 27));
  t.is(book.usage('wwan0', cap, at(2027, 2, 27)).reached?.until, '2027-02-28');
  t.is(book.usage('wwan0', cap, at(2027, 2, 28)).reached, null);
  count(200, at(2027, 2, 28));
  t.is(book.usage('wwan0', cap, at(2027, 3, 30)).reached?.until, '2027-03-31');
  t.is(book.usage('wwan0', { ...cap, monthlyBytes: 1e9 }, at(2026, 1, 5)).reached, null);
});

test('a clock that jumps takes no bytes off a cap', (t) => {
  const book = new UsageBook();
  const count = counting(book);
  count(800, at(2026, 11, 20));
  count(100, at(1970, 1, 1));
  t.is(book.usage('wwan0', CAP, at(1970, 1, 1)).dayBytes, 900, 'not set: the last day that is known goes on');
  t.is(book.usage('wwan0', CAP, at(2026, 11, 20)).dayBytes, 900);
  count(50, at(2030, 5, 5));
  t.is(book.usage('wwan0', CAP, at(2026, 11, 20)).dayBytes, 950, 'what lies in the future counts as today');
  t.is(book.usage('wwan0', CAP, at(2026, 11, 21)).dayBytes, 0, 'and is over tomorrow');

  const fresh = counting(new UsageBook());
  t.notThrows(() => fresh(10, at(1970, 1, 1)));
  const unset = new UsageBook();
  counting(unset)(70, at(1970, 1, 1));
  t.is(unset.usage('wwan0', CAP, at(2026, 11, 20)).dayBytes, 70);
});

test("an interface's counter may begin anew, and another interface's counter is not this one's", (t) => {
  const book = new UsageBook();
  const now = at(2026, 11, 20);
  const used = () => book.usage('wwan0', CAP, now).dayBytes;
  book.count('wwan0', { id: 'boot/3', bytes: 10_000 }, now);
  t.is(used(), 0, 'what was before us is not ours to count');
  book.count('wwan0', { id: 'boot/3', bytes: 10_300 }, now);
  t.is(used(), 300);
  book.count('wwan0', { id: 'boot/3', bytes: 50 }, now);
  t.is(used(), 350);
  book.count('wwan0', { id: 'boot/7', bytes: 99_999 }, now);
  t.is(used(), 350);
  book.count('wwan0', { id: 'boot/7', bytes: 100_000 }, now);
  t.is(used(), 351);
});

test('memory is bounded: days and links', (t) => {
  const book = new UsageBook();
  const count = counting(book);
  for (let day = 1; day <= 400; day++) count(1, at(2026, 1, day));
  for (let i = 0; i < 1000; i++) book.count(`enx${i}`, { id: 'a', bytes: 1 }, at(2027, 2, 5));
  const { links } = JSON.parse(book.encode()) as { links: Record<string, { days: object }> };
  t.is(Object.keys(links).length, 256);
  const only = new UsageBook();
  const countOnly = counting(only);
  for (let day = 1; day <= 400; day++) countOnly(1, at(2026, 1, day));
  const kept = JSON.parse(only.encode()) as { links: Record<string, { days: object }> };
  t.is(Object.keys(kept.links.wwan0!.days).length, 62);
});

test('across restarts: nothing is lost, also after a crash between two writings', async (t) => {
  const file = join(temporaryDirectory(t), 'usage.json');
  const clock = { now: at(2026, 11, 20) };
  const problems: string[] = [];
  const open = () => new UsageMeter({ file, now: () => clock.now, onProblem: (m) => problems.push(m) });
  const later = (ms: number) => {
    clock.now = new Date(clock.now.getTime() + ms);
  };
  const first = open();
  first.sample('wwan0', { id: 'b/1', bytes: 1000 });
  first.save();
  await first.written;
  t.true(existsSync(file), 'from where to count is written at once');
  const written = readFileSync(file, 'utf8');
  first.sample('wwan0', { id: 'b/1', bytes: 1400 });
  first.save();
  await first.written;
  t.is(readFileSync(file, 'utf8'), written, 'the rest seldom');
  later(60_000);
  first.save();
  await first.written;
  t.not(readFileSync(file, 'utf8'), written);
  first.sample('wwan0', { id: 'b/1', bytes: 1500 });
  first.save();
  // A crash: 1500 was never written. The interface has gone on to 1550 meanwhile.
  const second = open();
  second.sample('wwan0', { id: 'b/1', bytes: 1550 });
  t.is(second.usage('wwan0', CAP).dayBytes, 550);
  second.close();
  // The host was started anew: its counters begin at zero.
  const third = open();
  third.sample('wwan0', { id: 'c/1', bytes: 30 });
  third.sample('wwan0', { id: 'c/1', bytes: 40 });
  t.is(third.usage('wwan0', CAP).dayBytes, 560);
  t.deepEqual(problems, []);
});

test('much traffic is written sooner, but not every second', async (t) => {
  const file = join(temporaryDirectory(t), 'usage.json');
  const clock = { now: at(2026, 11, 20) };
  const meter = new UsageMeter({ file, now: () => clock.now, onProblem: (m) => t.fail(m) });
  let bytes = 0;
  let writings = 0;
  let before = '';
  for (let second = 0; second < 60; second++) {
    meter.sample('wwan0', { id: 'a', bytes });
    bytes += 100_000_000;
    clock.now = new Date(clock.now.getTime() + 1000);
    meter.save();
    await meter.written;
    const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
    if (text !== before) writings++;
    before = text;
  }
  t.is(writings, 12);
});

test('a damaged file is put aside and said; one that cannot be written is said once', (t) => {
  const dir = temporaryDirectory(t);
  const file = join(dir, 'usage.json');
  for (const text of [
    '',
    '{',
    '[]',
    '{"version":2,"links":{}}',
    '{"version":1,"links":{"a":{"counter":{},"days":{}}}}',
  ]) {
    writeFileSync(file, text);
    const problems: string[] = [];
    new UsageMeter({ file, now: () => at(2026, 11, 20), onProblem: (m) => problems.push(m) });
    t.is(problems.length, 1, text);
    t.is(readFileSync(`${file}.bad`, 'utf8'), text);
    t.false(existsSync(file));
  }
  const problems: string[] = [];
  const meter = new UsageMeter({
    file: join(dir, 'none', 'usage.json'),
    now: () => at(2026, 11, 20),
    onProblem: (m) => problems.push(m),
  });
  meter.sample('a', { id: 'a', bytes: 1 });
  meter.sample('a', { id: 'a', bytes: 2 });
  meter.close();
  meter.close();
  t.is(problems.length, 1);
});

test('links are known by burnt-in MACs, else by name', (t) => {
  const key = (mac: string | null, permanentMac: string | null = null) =>
    usageKey({ name: 'wlan0', mac, permanentMac });
  t.is(key('00:1b:21:00:00:01'), '00:1b:21:00:00:01');
  t.is(key('02:1b:21:00:00:01'), 'wlan0', 'made up');
  t.is(key('02:1b:21:00:00:01', '00:1b:21:00:00:01'), '00:1b:21:00:00:01');
  t.is(key(null), 'wlan0');
  t.is(key('00:00:00:00:00:00'), 'wlan0');
});

test('the role that a cap leaves is never more than the configured one', (t) => {
  const reached = { period: 'daily', usedBytes: 2_004_000_000, limitBytes: 2e9, until: '2026-11-22' } as const;
  const rule = { ...PLAIN_RULE, cap: { ...CAP, atLimit: 'backup' as const } };
  t.is(cappedRole(rule, null), 'always');
  t.is(cappedRole(rule, reached), 'backup');
  t.is(cappedRole({ ...rule, role: 'never' }, reached), 'never');
  t.is(capText(reached, 'backup'), 'daily cap reached: 2.004 GB of 2 GB; role backup until 2026-11-22');
});

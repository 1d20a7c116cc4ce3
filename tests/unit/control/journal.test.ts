import test from 'ava';
import { JOURNAL_KEPT, Journal } from '../../../src/daemon/journal.js';

test('events are numbered without gaps and the newest are kept', (t) => {
  const journal = new Journal(null, () => 0);
  for (let i = 0; i < JOURNAL_KEPT + 10; i++) journal.record('info', 'test', String(i));
  const seqs: number[] = [];
  journal.subscribe(0, (event) => seqs.push(event.seq))();
  t.is(seqs.length, JOURNAL_KEPT);
  t.is(seqs[0], 11);
  t.is(seqs.at(-1), journal.lastSeq);
});

test('a subscriber sees what it missed, then what comes, and nothing after it left', (t) => {
  const journal = new Journal(null, () => 0);
  journal.record('info', 'a', '1');
  journal.record('info', 'b', '2');
  const seen: string[] = [];
  const stop = journal.subscribe(1, (event) => seen.push(event.type));
  journal.record('warn', 'c', '3');
  stop();
  journal.record('warn', 'd', '4');
  t.deepEqual(seen, ['b', 'c']);
});

test('each event is one line of the log, at its level, with its figures', (t) => {
  const lines: unknown[][] = [];
  const log = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map((level) => [level, (...args: unknown[]) => lines.push([level, ...args])]),
  );
  const journal = new Journal(log as never, () => 0);
  journal.record('warn', 'switch', 'wlan0 to wwan0', { path: 'wwan0', data: { gap_s: 0.12 } });
  t.deepEqual(lines, [['warn', { event: 'switch', gap_s: 0.12, path: 'wwan0' }, 'wlan0 to wwan0']]);
});

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CliError, describeError, EXIT } from '../../../src/cli/exit.js';
import { formatAge, formatBytes, formatPercent, formatRate, formatRtt, formatTable } from '../../../src/cli/format.js';
import { findSocket } from '../../../src/cli/socket.js';
import { ConfigErrors } from '../../../src/config/errors.js';
import { temporaryDirectory } from '../../support/files.js';

test('figures have three digits and a unit', (t) => {
  t.is(formatRate(0), '0 bit/s');
  t.is(formatRate(999), '999 bit/s');
  t.is(formatRate(1_234_567), '1.23 Mbit/s');
  t.is(formatRate(123_456_789), '123 Mbit/s');
  t.is(formatBytes(15_300), '15.3 kB');
  t.is(formatBytes(4.2e12), '4.20 TB');
  t.is(formatRtt(null), '-');
  t.is(formatRtt(0.00123), '1.2 ms');
  t.is(formatRtt(0.1234), '123 ms');
  t.is(formatPercent(0), '0 %');
  t.is(formatPercent(0.0123), '1.2 %');
  t.is(formatPercent(0.5), '50 %');
  t.is(formatAge(59.9), '59 s');
  t.is(formatAge(61), '1 min');
  t.is(formatAge(7980), '2 h 13 min');
  t.is(formatAge(90_000), '1 d 1 h');
});

test('tables: left, right, and nothing trailing', (t) => {
  t.deepEqual(
    formatTable(
      [
        ['A', 'B', ''],
        ['long', '1', 'why'],
        ['x', '100', ''],
      ],
      new Set([1]),
    ),
    ['A       B', 'long    1  why', 'x     100'],
  );
});

test('the daemon is found by name, or by being the only one', (t) => {
  const dir = temporaryDirectory(t);
  t.is(findSocket('home', dir), join(dir, 'home.sock'));
  t.is(t.throws(() => findSocket(undefined, dir), { instanceOf: CliError })!.exitCode, EXIT.notRunning);
  t.is(t.throws(() => findSocket(undefined, join(dir, 'none')), { instanceOf: CliError })!.exitCode, EXIT.notRunning);
  writeFileSync(join(dir, 'home.sock'), '');
  mkdirSync(join(dir, 'other'));
  t.is(findSocket(undefined, dir), join(dir, 'home.sock'));
  writeFileSync(join(dir, 'work.sock'), '');
  const err = t.throws(() => findSocket(undefined, dir), { instanceOf: CliError });
  t.is(err!.exitCode, EXIT.usage);
  t.regex(err!.message, /home, work/);
});

test('errors become one sentence and a code; only the unexpected keeps its stack', (t) => {
  const coded = (code: string) => describeError(Object.assign(new Error('what'), { code }));
  t.is(coded('EPERM').exitCode, EXIT.permission);
  t.regex(coded('EACCES').text, /^what; run it as root/);
  t.deepEqual(coded('MPTUN_AUTH'), { text: 'what', exitCode: EXIT.authentication });
  t.deepEqual(coded('MPTUN_UNREACHABLE'), { text: 'what', exitCode: EXIT.unreachable });
  t.deepEqual(coded('EADDRINUSE'), { text: 'what', exitCode: EXIT.failed });
  t.is(describeError(new ConfigErrors([])).exitCode, EXIT.configInvalid);
  t.regex(describeError(new TypeError('bug')).text, /bug\n {4}at /);
});

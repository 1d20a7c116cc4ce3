/** The retry clock of one path (docs/paths.md). */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { Path } from '../../../src/core/pathman/path.js';
import type { PathLink } from '../../../src/core/pathman/types.js';

const S = 1_000_000;

const makePath = () =>
  new Path(1, { id: 1, name: 'wlan0' } as PathLink, parseIp('10.0.0.2'), { address: parseIp('192.0.2.1'), port: 443 });

/** Waits of so many failures in a row, in seconds. */
function waits(path: Path, failures: number, random: number, isRefused: boolean): number[] {
  return Array.from({ length: failures }, () => {
    path.backOff(100 * S, random, isRefused);
    return (path.retryAtUs - 100 * S) / S;
  });
}

test('back-off: 0.5 s, doubling to 30 s, a quarter either way; news begins anew', (t) => {
  const path = makePath();
  t.deepEqual(waits(path, 9, 0.5, false), [0.5, 1, 2, 4, 8, 16, 30, 30, 30]);
  path.resetBackOff(101 * S);
  t.is(path.retryAtUs, 101 * S);
  t.deepEqual(waits(path, 2, 0, false), [0.375, 0.75]);
  path.resetBackOff(101 * S);
  t.deepEqual(waits(path, 2, 1, false), [0.625, 1.25]);
});

test('back-off of a refusal: a minute, doubling to ten', (t) => {
  t.deepEqual(waits(makePath(), 6, 0.5, true), [60, 120, 240, 480, 600, 600]);
});

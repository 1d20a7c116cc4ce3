import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import {
  MAX_PLAIN_DESTINATIONS,
  PLAIN_FIRST_US,
  PLAIN_LONGEST_US,
  PlainDestinations,
} from '../../../src/core/mptcp/plain-destinations.js';

const A = parseIp('192.0.2.1');
const B = parseIp('2001:db8::1');

test('a destination is plain on the link where it was noted, and for a time', (t) => {
  const memory = new PlainDestinations();
  t.false(memory.has(0, 1, A));
  memory.note(5, 1, A);
  t.true(memory.has(5, 1, A));
  t.true(memory.has(4 + PLAIN_FIRST_US, 1, A));
  t.false(memory.has(5 + PLAIN_FIRST_US, 1, A));
  t.false(memory.has(5, 2, A));
  t.false(memory.has(5, 1, B));
});

test('the time doubles each time that it proves true again, up to a limit, and begins anew once MPTCP worked', (t) => {
  const memory = new PlainDestinations();
  let nowUs = 0;
  for (let forUs = PLAIN_FIRST_US; forUs < 4 * PLAIN_LONGEST_US; forUs *= 2) {
    memory.note(nowUs, 1, A);
    const expected = Math.min(forUs, PLAIN_LONGEST_US);
    t.true(memory.has(nowUs + expected - 1, 1, A));
    nowUs += expected;
    t.false(memory.has(nowUs, 1, A));
  }
  memory.forget(1, A);
  memory.note(nowUs, 1, A);
  t.false(memory.has(nowUs + PLAIN_FIRST_US, 1, A));
});

test('the table is bounded: the oldest note goes; a link that changes takes its own along', (t) => {
  const memory = new PlainDestinations();
  const address = (i: number) => parseIp(`10.${i >> 8}.${i & 255}.1`);
  for (let i = 0; i <= MAX_PLAIN_DESTINATIONS; i++) memory.note(i, i % 2, address(i));
  t.is(memory.size, MAX_PLAIN_DESTINATIONS);
  t.false(memory.has(1000, 0, address(0)));
  t.true(memory.has(1000, 1, address(1)));
  memory.forgetLink(1);
  t.is(memory.size, MAX_PLAIN_DESTINATIONS / 2);
  t.false(memory.has(1000, 1, address(1)));
  t.true(memory.has(1000, 0, address(2)));
});

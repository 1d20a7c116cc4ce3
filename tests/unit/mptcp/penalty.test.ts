/** Penalisation: the window is halved at most once per RTT, and given back bit by bit. */
import test from 'ava';
import { Penalty } from '../../../src/core/mptcp/penalty.js';

const RTT = 100_000;

test('penalty: half of what is in use, once per RTT', (t) => {
  const p = new Penalty();
  t.is(p.windowBytes, Number.POSITIVE_INFINITY);
  t.true(p.impose(0, RTT, 200_000, 80_000, 1400));
  t.is(p.windowBytes, 40_000);
  t.false(p.impose(RTT - 1, RTT, 200_000, 80_000, 1400));
  t.is(p.windowBytes, 40_000);
  t.true(p.impose(RTT, RTT, 200_000, 80_000, 1400));
  t.is(p.windowBytes, 20_000);
});

test('penalty: what came back meanwhile does not put off the next one', (t) => {
  const p = new Penalty();
  p.impose(0, RTT, 100_000, 80_000, 1400);
  p.relax(RTT, RTT, 100_000);
  t.is(p.windowBytes, 50_000);
  t.true(p.impose(RTT + 1, RTT, 100_000, 80_000, 1400));
  t.is(p.windowBytes, 25_000);
});

test('penalty: never below four segments', (t) => {
  const p = new Penalty();
  p.impose(0, RTT, 200_000, 3000, 1400);
  t.is(p.windowBytes, 5600);
});

test('penalty: a quarter comes back each RTT, until the congestion window is the narrower one', (t) => {
  const p = new Penalty();
  p.impose(0, RTT, 100_000, 100_000, 1400);
  p.relax(RTT - 1, RTT, 100_000);
  t.is(p.windowBytes, 50_000);
  p.relax(RTT, RTT, 100_000);
  t.is(p.windowBytes, 62_500);
  for (let i = 2; i <= 4; i++) p.relax(i * RTT, RTT, 100_000);
  t.is(p.windowBytes, Number.POSITIVE_INFINITY);
});

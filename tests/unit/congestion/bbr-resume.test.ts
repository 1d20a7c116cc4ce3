/** BBR's startup where the path is known from an earlier connection (draft-ietf-tsvwg-careful-resume). */
import test from 'ava';
import { Bbr } from '../../../src/core/congestion/bbr.js';
import type { CongestionConfig, KnownPath } from '../../../src/core/congestion/controller.js';
import { type LinkSpec, run } from './link-model.js';
import { Acker, MSS } from './samples.js';

const S = 1e6;
const MS = 1e3;
const PATH: LinkSpec = { rateBitsPerS: 100e6, delayUs: 30 * MS, queueUs: 100 * MS };

/** What a connection before this one found out. */
function learn(spec: LinkSpec): KnownPath {
  const known = run(spec, [{ factory: Bbr.create }], 5 * S, 1).flows[0]!.controller.knownPath;
  if (known == null) throw new Error('nothing was learnt');
  return known;
}

function resuming(known: KnownPath | null) {
  return { factory: (config: CongestionConfig) => new Bbr({ ...config, recall: () => known }) };
}

function started(recall: CongestionConfig['recall'], rttUs = 60 * MS): Acker {
  const a = new Acker(new Bbr({ mssBytes: MSS, initialCwndSegments: 10, recall }), rttUs);
  for (let i = 0; i < 9; i++) a.ack(1, { priorDeliveredBytes: 0, rateBytesPerS: 100_000 });
  return a;
}

const KNOWN: KnownPath = { rateBytesPerS: 10_000_000, isWhole: true, minRttUs: 60 * MS, measuredUs: 0 };

test('what a connection has measured is the path: its rate within 5 %, its round trip within 2 ms', (t) => {
  const known = learn(PATH);
  t.true(Math.abs((known.rateBytesPerS * 8) / PATH.rateBitsPerS - 1) < 0.05, `${known.rateBytesPerS}`);
  t.true(Math.abs(known.minRttUs - 60 * MS) < 2 * MS, `${known.minRttUs}`);
  t.true(known.measuredUs > 4 * S);
  t.true(known.isWhole);
  t.like(started(undefined).controller.knownPath, { rateBytesPerS: 100_000, isWhole: false }, 'at least that');
  t.is(new Bbr({ mssBytes: MSS, initialCwndSegments: 10 }).knownPath, null, 'nothing was measured');
});

test('the first half second carries at least half as much again, with as little loss and no longer queue', (t) => {
  const known = learn(PATH);
  for (const seed of [1, 2, 3]) {
    const [cold, warm] = [null, known].map((k) => run(PATH, [resuming(k)], 3 * S, seed));
    const [before, after] = [cold!.utilisation(0, 500 * MS), warm!.utilisation(0, 500 * MS)];
    t.true(after > 1.5 * before, `${after} after ${before}`);
    t.is(warm!.flows[0]!.lostPackets, cold!.flows[0]!.lostPackets);
    t.true(warm!.queueUs(1, 0, 3 * S) <= cold!.queueUs(1, 0, 3 * S));
  }
});

test('a path that has become ten times slower: no timeout, and after two seconds as if nothing had been known', (t) => {
  const slow = { ...PATH, rateBitsPerS: 10e6 };
  const known = learn(PATH);
  for (const seed of [1, 2, 3]) {
    const [cold, warm] = [null, known].map((k) => run(slow, [resuming(k)], 6 * S, seed));
    t.is(warm!.flows[0]!.rtos, 0);
    const [before, after] = [cold!.utilisation(2 * S, 6 * S), warm!.utilisation(2 * S, 6 * S)];
    t.true(after > before - 0.02, `${after} after ${before}`);
    // Half of what was one round trip's worth, of which the queue takes what it can.
    const [coldLost, warmLost] = [cold!.flows[0]!.lostPackets, warm!.flows[0]!.lostPackets];
    t.true(warmLost - coldLost <= (0.5 * 100e6 * 0.06) / 8 / 1400, `${warmLost} against ${coldLost}`);
  }
});

test('asked once, when the first window has been delivered: half the rate, and the flight for it', (t) => {
  let asked = 0;
  const a = started(() => {
    asked++;
    return KNOWN;
  });
  t.is(asked, 0);
  a.ack(1, { priorDeliveredBytes: 0, rateBytesPerS: 100_000 });
  t.is(asked, 1);
  t.is(a.controller.pacingRateBytesPerS, KNOWN.rateBytesPerS / 2);
  t.is(a.controller.cwndBytes, KNOWN.rateBytesPerS * (0.03 + 0.0015));
  a.round({ rateBytesPerS: 100_000 });
  t.is(asked, 1);
});

test('not where the window was not delivered whole, nor for an application that has nothing more to send', (t) => {
  const lossy = started(() => KNOWN);
  lossy.ack(1, { priorDeliveredBytes: 0, rateBytesPerS: 100_000, lostBytes: MSS });
  t.true(lossy.controller.cwndBytes <= 20 * MSS, `${lossy.controller.cwndBytes}`);
  const recovering = started(() => KNOWN);
  recovering.ack(1, { priorDeliveredBytes: 0, rateBytesPerS: 100_000, inRecovery: true });
  t.true(recovering.controller.cwndBytes <= 20 * MSS, `${recovering.controller.cwndBytes}`);
  const limited = started(() => KNOWN);
  limited.ack(1, { priorDeliveredBytes: 0, rateBytesPerS: 100_000, isAppLimited: true });
  t.true(limited.controller.cwndBytes <= 20 * MSS, 'app-limited');
  limited.ack(1, { rateBytesPerS: 100_000 });
  t.is(limited.controller.cwndBytes, KNOWN.rateBytesPerS * (0.03 + 0.0015), 'it has something now');
});

test('another round-trip time is another path', (t) => {
  for (const rttUs of [29 * MS, 121 * MS]) {
    const a = started(() => KNOWN, rttUs);
    a.ack(1, { priorDeliveredBytes: 0, rateBytesPerS: 100_000 });
    t.true(a.controller.cwndBytes <= 20 * MSS, `${rttUs}: ${a.controller.cwndBytes}`);
  }
});

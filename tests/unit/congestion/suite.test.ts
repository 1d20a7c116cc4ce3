/** What every congestion controller must do, whatever its algorithm. */
import test from 'ava';
import fc from 'fast-check';
import { CONGESTION_NAMES } from '../../../src/config/types.js';
import type { CongestionController } from '../../../src/core/congestion/controller.js';
import { controllers, DEFAULT_CONTROLLER } from '../../../src/core/congestion/index.js';
import { run } from './link-model.js';
import { Acker, MSS } from './samples.js';

const CONFIG = { mssBytes: MSS, initialCwndSegments: 10 };

test('the default exists, and configuration knows the same names', (t) => {
  t.truthy(controllers[DEFAULT_CONTROLLER]);
  t.deepEqual(Object.keys(controllers), [...CONGESTION_NAMES]);
});

for (const [name, factory] of Object.entries(controllers)) {
  test(`${name}: begins with the initial window, unpaced, in slow start`, (t) => {
    const c = factory(CONFIG);
    t.is(c.name, name);
    t.is(c.cwndBytes, 10 * MSS);
    t.is(c.pacingRateBytesPerS, Number.POSITIVE_INFINITY);
    t.true(c.inSlowStart);
  });

  test(`${name}: doubles per round trip while the path keeps up`, (t) => {
    const a = new Acker(factory(CONFIG), 50_000);
    for (let i = 0; i < 3; i++) {
      const rateBytesPerS = (a.controller.cwndBytes * 1e6) / a.rttUs;
      a.round({ rateBytesPerS });
    }
    t.true(a.cwndSegments >= 75 && a.cwndSegments <= 165, `${a.cwndSegments}`);
  });

  test(`${name}: paces once it has a round-trip time`, (t) => {
    const a = new Acker(factory(CONFIG), 50_000);
    a.ack(1);
    const rate = a.controller.pacingRateBytesPerS;
    t.true(rate > (10 * MSS * 1e6) / 50_000 && rate < (4 * 10 * MSS * 1e6) / 50_000, `${rate}`);
  });

  test(`${name}: an RTO leaves at most one segment more than what is in flight, and the window comes back`, (t) => {
    const a = new Acker(factory(CONFIG), 50_000);
    for (let i = 0; i < 3; i++) a.round({ rateBytesPerS: 1_000_000 });
    const before = a.controller.cwndBytes;
    a.controller.onRto(a.nowUs, 0);
    t.is(a.controller.cwndBytes, MSS);
    a.ack(1, { inRecovery: true });
    t.true(a.controller.cwndBytes >= 2 * MSS, 'grows while still in RTO recovery');
    a.controller.onRecoveryExit(a.nowUs);
    for (let i = 0; i < 8; i++) a.round({ rateBytesPerS: 1_000_000 });
    t.true(a.controller.cwndBytes >= before / 2);
  });

  test(`${name}: back after an outage it is as new, whatever the timeouts before made of it`, (t) => {
    const a = new Acker(factory(CONFIG), 50_000);
    for (let i = 0; i < 12; i++) a.round({ rateBytesPerS: 1_000_000 });
    for (let i = 0; i < 12; i++) {
      a.controller.onRto(a.nowUs, MSS);
      a.nowUs += 200_000;
      a.ack(1, { inRecovery: true, rateBytesPerS: 5_000, priorInFlightBytes: MSS });
      a.controller.onRecoveryExit(a.nowUs);
    }
    a.controller.onPathRestart(a.nowUs);
    t.is(a.controller.cwndBytes, 10 * MSS);
    t.true(a.controller.inSlowStart);
    for (let i = 0; i < 3; i++) {
      const rateBytesPerS = (a.controller.cwndBytes * 1e6) / a.rttUs;
      a.round({ rateBytesPerS, inRecovery: true });
    }
    t.true(a.cwndSegments >= 70, `${a.cwndSegments}`);
    t.true(a.controller.pacingRateBytesPerS >= (70 * MSS * 1e6) / 50_000);
  });

  test(`${name}: undo gives the window back`, (t) => {
    const a = new Acker(factory(CONFIG), 50_000);
    for (let i = 0; i < 3; i++) a.round({ rateBytesPerS: 1_000_000 });
    const before = a.controller.cwndBytes;
    a.controller.onRto(a.nowUs, 0);
    a.controller.onUndo(a.nowUs);
    t.is(a.controller.cwndBytes, before);
  });

  test(`${name}: any sequence of events keeps window and rate finite and positive`, (t) => {
    const event = fc.oneof(
      fc.record({
        kind: fc.constant('ack' as const),
        segments: fc.integer({ min: 0, max: 64 }),
        rtt: fc.oneof(fc.constant(-1), fc.integer({ min: 1, max: 5_000_000 })),
        rate: fc.oneof(fc.constant(0), fc.double({ min: 1, max: 1e10, noNaN: true })),
        lost: fc.integer({ min: 0, max: 64 }),
        flags: fc.nat(31),
      }),
      fc.record({ kind: fc.constantFrom('loss', 'ecn', 'exit', 'rto', 'undo', 'idle', 'mss'), value: fc.nat(200_000) }),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(2_000_000), event), { maxLength: 120 }), (events) => {
        const c = factory(CONFIG);
        let nowUs = 1;
        let delivered = 0;
        const a = new Acker(c, 1);
        for (const [dt, e] of events) {
          nowUs += dt;
          if (e.kind === 'ack') {
            delivered += e.segments * MSS;
            a.nowUs = nowUs;
            a.delivered = delivered - e.segments * MSS;
            a.ack(e.segments, {
              rttUs: e.rtt,
              srttUs: Math.max(1, e.rtt),
              rateBytesPerS: e.rate,
              lostBytes: e.lost * MSS,
              isAppLimited: (e.flags & 1) !== 0,
              inRecovery: (e.flags & 2) !== 0,
              isCwndLimited: (e.flags & 4) !== 0,
              ece: (e.flags & 8) !== 0,
              inFlightBytes: (e.flags & 16) === 0 ? 0 : c.cwndBytes,
            });
          } else apply(c, e.kind, nowUs, e.value);
          if (!isSane(c)) return false;
        }
        return true;
      }),
      { numRuns: 150, seed: 20 },
    );
    t.pass();
  });

  for (const flows of [1, 3]) {
    test(`${name}: ${flows} on a clean 20 Mbit/s, 40 ms path fill it and each gets some`, (t) => {
      const link = { rateBitsPerS: 20e6, delayUs: 20_000, queueUs: 100_000 };
      const specs = Array.from({ length: flows }, (_, i) => ({ factory, startUs: i * 100_000 }));
      const r = run(link, specs, 10e6);
      t.true(r.utilisation(2e6, 10e6) > 0.98, `${r.utilisation(2e6, 10e6)}`);
      for (const f of r.flows) t.true(f.deliveredBytes * 8 > (20e6 * 10 * 0.2) / flows, `${f.deliveredBytes}`);
    });
  }

  test(`${name}: after a second of darkness it is back at the full rate within a second`, (t) => {
    const link = { rateBitsPerS: 20e6, delayUs: 10_000, queueUs: 100_000, darkUs: [3e6, 4e6] as const };
    const r = run(link, [{ factory }], 8e6);
    t.true(r.flows[0]!.rtos > 0);
    t.true(r.utilisation(6e6, 8e6) > 0.98);
  });

  test(`${name}: an application slower than the link does not inflate what follows`, (t) => {
    const link = { rateBitsPerS: 50e6, delayUs: 10_000, queueUs: 100_000 };
    const r = run(link, [{ factory, appBitsPerS: 2e6 }], 10e6);
    const f = r.flows[0]!;
    t.true(f.deliveredBytes * 8 > 2e6 * 9.5, 'the application gets all it asks for');
    t.is(f.lostPackets, 0);
    // 2 Mbit/s x 20 ms is 4 packets; twice what was ever in use, and not the link's 90 + queue.
    t.true(f.cwndTrace.at(-1)! <= 140, `${f.cwndTrace.at(-1)}`);
  });
}

function apply(c: CongestionController, kind: string, nowUs: number, value: number): void {
  if (kind === 'loss' || kind === 'ecn') c.onCongestionEvent(nowUs, value, kind);
  else if (kind === 'exit') c.onRecoveryExit(nowUs);
  else if (kind === 'rto') c.onRto(nowUs, value);
  else if (kind === 'undo') c.onUndo(nowUs);
  else if (kind === 'idle') c.onIdleRestart(nowUs, value, 1000);
  else c.onMssChange(500 + (value % 9000));
}

function isSane(c: CongestionController): boolean {
  return (
    Number.isInteger(c.cwndBytes) &&
    c.cwndBytes >= 500 &&
    Number.isSafeInteger(c.cwndBytes) &&
    c.pacingRateBytesPerS > 0 &&
    !Number.isNaN(c.ssthreshBytes) &&
    c.ssthreshBytes > 0
  );
}

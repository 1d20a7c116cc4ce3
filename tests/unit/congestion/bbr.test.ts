/** BBR on the links that the tunnel is for: rate used, queue made, window traces. One-way delays. */
import test from 'ava';
import { Bbr } from '../../../src/core/congestion/bbr.js';
import { Cubic } from '../../../src/core/congestion/cubic.js';
import { MaxFilter } from '../../../src/core/congestion/max-filter.js';
import { type LinkSpec, rng, run } from './link-model.js';
import { Acker, MSS } from './samples.js';

const S = 1e6;

const LINKS: readonly [string, LinkSpec, { min: number; startMin: number; queueP50Ms: number; queueP95Ms: number }][] =
  [
    ['WiFi 50 Mbit/s 10 ms', link(50, 10, 100), { min: 0.99, startMin: 0.95, queueP50Ms: 4, queueP95Ms: 10 }],
    ['LTE 30 Mbit/s 30 ms', link(30, 30, 100), { min: 0.99, startMin: 0.8, queueP50Ms: 6, queueP95Ms: 20 }],
    ['50 Mbit/s 5 ms', link(50, 5, 100), { min: 0.99, startMin: 0.95, queueP50Ms: 4, queueP95Ms: 8 }],
    [
      '100 Mbit/s 5 ms, 0.5 % loss',
      link(100, 5, 100, 0.005),
      { min: 0.985, startMin: 0.95, queueP50Ms: 4, queueP95Ms: 8 },
    ],
    ['100 Mbit/s 5 ms, 1 % loss', link(100, 5, 100, 0.01), { min: 0.98, startMin: 0.95, queueP50Ms: 4, queueP95Ms: 8 }],
    [
      '50 Mbit/s 10 ms, 3 % loss',
      link(50, 10, 100, 0.03),
      { min: 0.94, startMin: 0.85, queueP50Ms: 4, queueP95Ms: 10 },
    ],
    ['20 Mbit/s 40 ms, 500 ms queue', link(20, 40, 500), { min: 0.99, startMin: 0.75, queueP50Ms: 8, queueP95Ms: 30 }],
    ['5 Mbit/s 150 ms', link(5, 150, 100), { min: 0.98, startMin: 0.25, queueP50Ms: 20, queueP95Ms: 90 }],
    [
      'jittery 30 Mbit/s 30 ms',
      { ...link(30, 30, 100), jitterUs: 15_000 },
      { min: 0.98, startMin: 0.75, queueP50Ms: 30, queueP95Ms: 60 },
    ],
    ['50 Mbit/s 20 ms, 5 ms queue', link(50, 20, 5), { min: 0.97, startMin: 0.8, queueP50Ms: 3, queueP95Ms: 6 }],
  ];

function link(mbit: number, delayMs: number, queueMs: number, loss = 0): LinkSpec {
  return { rateBitsPerS: mbit * 1e6, delayUs: delayMs * 1000, queueUs: queueMs * 1000, loss };
}

for (const [name, spec, want] of LINKS) {
  test(`fills ${name} and keeps its queue short`, (t) => {
    for (const seed of [1, 2]) {
      const r = run(spec, [{ factory: Bbr.create }], 15 * S, seed);
      const seen = {
        start: r.utilisation(0, 2 * S),
        steady: r.utilisation(2 * S, 15 * S),
        queueP50Ms: r.queueUs(0.5, 2 * S, 15 * S) / 1000,
        queueP95Ms: r.queueUs(0.95, 2 * S, 15 * S) / 1000,
      };
      const text = JSON.stringify({ seed, ...seen });
      t.true(seen.start >= want.startMin, text);
      t.true(seen.steady >= want.min, text);
      t.true(seen.queueP50Ms <= want.queueP50Ms, text);
      t.true(seen.queueP95Ms <= want.queueP95Ms, text);
      t.is(r.flows[0]!.rtos, 0);
    }
  });
}

test('where plain CUBIC gets a fifth of a link with 0.5 % loss, BBR gets nearly all', (t) => {
  const spec = link(100, 5, 100, 0.005);
  const cubic = run(spec, [{ factory: Cubic.create }], 10 * S).utilisation(2 * S, 10 * S);
  const bbr = run(spec, [{ factory: Bbr.create }], 10 * S).utilisation(2 * S, 10 * S);
  t.true(cubic < 0.3, `${cubic}`);
  t.true(bbr > 0.98, `${bbr}`);
});

test('window and flight of a start, in packets', (t) => {
  const r = run(link(50, 10, 100), [{ factory: Bbr.create }], 1 * S);
  const every = (trace: number[], n: number) => trace.filter((_, i) => i % n === 0);
  t.snapshot(every(r.flows[0]!.cwndTrace, 5), 'cwnd each 25 ms');
  t.snapshot(every(r.flows[0]!.inFlightTrace, 5), 'in flight each 25 ms');
});

test('flight never exceeds two bandwidth-delay products and a few quanta once the pipe is full', (t) => {
  const r = run(link(50, 10, 100), [{ factory: Bbr.create }], 10 * S);
  const bdp = (50e6 * 0.02) / 8 / 1400;
  t.true(Math.max(...r.flows[0]!.inFlightTrace) <= 2 * bdp + 40, `${Math.max(...r.flows[0]!.inFlightTrace)}`);
});

test('startup into a queue that it overflows ends by heavy loss, within a few per cent lost', (t) => {
  const r = run(link(5, 150, 100), [{ factory: Bbr.create }], 10 * S);
  const f = r.flows[0]!;
  t.true(f.lostPackets > 0);
  t.true(f.lostPackets / f.sentPackets < 0.05, `${f.lostPackets} of ${f.sentPackets}`);
});

test('a link that becomes five times slower drains within a second and a half', (t) => {
  const spec = { ...link(50, 10, 1000), changes: [{ atUs: 5 * S, rateBitsPerS: 10e6 }] };
  const r = run(spec, [{ factory: Bbr.create }], 12 * S);
  t.true(r.queueUs(1, 5 * S, 12 * S) < 250_000, 'two products of the old rate at most');
  t.true(r.queueUs(0.5, 6.5 * S, 12 * S) < 20_000, `${r.queueUs(0.5, 6.5 * S, 12 * S)}`);
  t.true(r.utilisation(6 * S, 12 * S) > 0.97);
});

test('... also where that happens around the time of PROBE_RTT: a queue is not taken for the path', (t) => {
  for (let atUs = 4.6 * S; atUs < 5.3 * S; atUs += 10_000) {
    const spec = { ...link(50, 10, 1000), changes: [{ atUs, rateBitsPerS: 10e6 }] };
    const r = run(spec, [{ factory: Bbr.create }], 10 * S);
    const peakUs = r.queueUs(1, atUs, 10 * S);
    t.true(peakUs < 210_000, `${atUs}: ${peakUs}: two products of the old rate at most`);
    t.true(r.queueUs(0.5, atUs + 1.5 * S, 10 * S) < 20_000, `${atUs}: ${r.queueUs(0.5, atUs + 1.5 * S, 10 * S)}`);
    t.true(r.utilisation(atUs + 1 * S, 10 * S) > 0.97, `${atUs}: ${r.utilisation(atUs + 1 * S, 10 * S)}`);
  }
});

test('a link that becomes ten times faster is used within a second', (t) => {
  const spec = { ...link(10, 20, 100), changes: [{ atUs: 5 * S, rateBitsPerS: 100e6 }] };
  const r = run(spec, [{ factory: Bbr.create }], 10 * S);
  t.true(r.utilisation(6 * S, 10 * S) > 0.95, `${r.utilisation(6 * S, 10 * S)}`);
});

test('flows that share a link: none starves, the queue stays below the buffer, little is lost', (t) => {
  const specs = Array.from({ length: 4 }, (_, i) => ({ factory: Bbr.create, startUs: i * 37_000 }));
  const r = run(link(50, 10, 100), specs, 30 * S);
  t.true(r.utilisation(2 * S, 30 * S) > 0.98);
  t.true(r.queueUs(0.5, 10 * S, 30 * S) < 40_000, `${r.queueUs(0.5, 10 * S, 30 * S)}`);
  for (const f of r.flows) {
    t.true(f.deliveredBytes * 8 > (50e6 * 30) / 4 / 4, 'at least a quarter of the fair share');
    t.true(f.lostPackets / f.sentPackets < 0.01);
  }
});

test('flows that take their PROBE_RTTs together find the round trip, and leave the link at work meanwhile', (t) => {
  for (const flows of [2, 4]) {
    const specs = Array.from({ length: flows }, (_, i) => ({ factory: Bbr.create, startUs: i * 1.5 * S }));
    const r = run(link(100, 25, 100), specs, 32 * S);
    for (let fromUs = 9 * S; fromUs < 32 * S; fromUs += 100_000) {
      const used = r.utilisation(fromUs, fromUs + 100_000);
      t.true(used > 0.8, `${flows} flows, ${fromUs}: ${used}`);
    }
    for (const f of r.flows) {
      const { minRttUs } = f.controller.knownPath!;
      t.true(minRttUs < 1.1 * 50_112, `${flows} flows: ${minRttUs}`);
    }
  }
});

test('sixteen flows: the link has no rest', (t) => {
  const specs = Array.from({ length: 16 }, (_, i) => ({ factory: Bbr.create, startUs: i * 37_000 }));
  const r = run(link(100, 25, 100), specs, 42 * S);
  for (let fromUs = 3 * S; fromUs < 42 * S; fromUs += 100_000) {
    const used = r.utilisation(fromUs, fromUs + 100_000);
    t.true(used > 0.9, `${fromUs}: ${used}`);
  }
});

test('beside CUBIC in a 100 ms queue both get on', (t) => {
  const r = run(link(50, 10, 100), [{ factory: Cubic.create }, { factory: Bbr.create, startUs: 1 * S }], 20 * S);
  for (const f of r.flows) t.true(f.deliveredBytes * 8 > 50e6 * 20 * 0.08, `${f.controller.name} ${f.deliveredBytes}`);
});

test('after idleness it goes on at the known rate, without a burst or a PROBE_RTT', (t) => {
  const r = run(link(50, 10, 100), [{ factory: Bbr.create, idleUs: [3 * S, 16 * S] }], 18 * S);
  t.true(r.utilisation(16 * S, 18 * S) > 0.97, `${r.utilisation(16 * S, 18 * S)}`);
  t.true(r.queueUs(1, 16 * S, 18 * S) < 25_000);
  t.is(r.flows[0]!.lostPackets, 0);
});

test('an ECN mark takes the flight down (RFC 3168)', (t) => {
  const factory = (config: { mssBytes: number; initialCwndSegments: number }) => {
    const bbr = new Bbr(config);
    const onAck = bbr.onAck.bind(bbr);
    let lastMarkUs = 0;
    bbr.onAck = (sample) => {
      // A marking queue: above 5 ms of it, once per round trip.
      if (sample.rttUs > 25_000 && sample.nowUs - lastMarkUs > 20_000) {
        lastMarkUs = sample.nowUs;
        bbr.onCongestionEvent(sample.nowUs, sample.inFlightBytes, 'ecn');
      }
      onAck(sample);
    };
    return bbr;
  };
  const queue = (f: typeof factory) => {
    const r = run(link(50, 10, 100), [{ factory: f }, { factory: f }], 10 * S);
    t.true(r.utilisation(2 * S, 10 * S) > 0.95, `${r.utilisation(2 * S, 10 * S)}`);
    return r.queueUs(0.5, 2 * S, 10 * S);
  };
  t.true(queue(factory) < queue((c) => new Bbr(c)), 'marked flows keep a shorter queue');
});

test('the same seed gives the same run', (t) => {
  const once = () => run(link(30, 30, 100, 0.01), [{ factory: Bbr.create }], 3 * S, 9).flows[0]!.cwndTrace;
  t.deepEqual(once(), once());
});

test('MaxFilter: never below what the last quarter of the window had, never older than the window', (t) => {
  const random = rng(5);
  for (let round = 0; round < 50; round++) {
    const filter = new MaxFilter(10);
    const seen: [number, number][] = [];
    let time = 0;
    for (let i = 0; i < 200; i++) {
      time += Math.floor(random() * 4);
      const value = Math.floor(random() * 1000) + 1;
      seen.push([time, value]);
      filter.update(time, value);
      const maxOf = (age: number) => Math.max(...seen.filter(([at]) => time - at <= age).map(([, v]) => v));
      t.true(filter.max <= maxOf(10), `at ${time}: ${filter.max} > ${maxOf(10)}`);
      t.true(filter.max >= maxOf(2), `at ${time}: ${filter.max} < ${maxOf(2)}`);
    }
  }
});

/** Rounds on a path of 2 MB/s whose queue is empty again at the end of each. */
function clean(a: Acker, rounds: number): void {
  for (let i = 0; i < rounds; i++)
    a.round({ rateBytesPerS: Math.min(2_000_000, (a.controller.cwndBytes * 1e6) / a.rttUs), inFlightBytes: 0 });
}

function steady(): Acker {
  const a = new Acker(new Bbr({ mssBytes: MSS, initialCwndSegments: 10 }), 20_000);
  clean(a, 40);
  return a;
}

test('rounds of one retransmission each, after a timeout, do not become the estimate of the rate', (t) => {
  const a = steady();
  const beforeBytesPerS = a.controller.pacingRateBytesPerS;
  a.controller.onRto(a.nowUs, 0);
  for (let i = 0; i < 20; i++) {
    a.nowUs += a.rttUs;
    a.ack(1, { inRecovery: true, rateBytesPerS: 50_000, priorInFlightBytes: MSS });
  }
  a.controller.onRecoveryExit(a.nowUs);
  a.round({ rateBytesPerS: 50_000 });
  t.true(a.controller.pacingRateBytesPerS > beforeBytesPerS / 2, `${a.controller.pacingRateBytesPerS}`);
});

test('small answers before a transfer do not make its first round slower than the initial window allows', (t) => {
  const a = new Acker(new Bbr({ mssBytes: MSS, initialCwndSegments: 10 }), 20_000);
  a.ack(1, { rateBytesPerS: 50_000, isAppLimited: true });
  t.true(a.controller.pacingRateBytesPerS >= (2.77 * 10 * MSS) / 0.02, `${a.controller.pacingRateBytesPerS}`);
});

test('a flight that a mark bounded below what UP asks for grows again, and UP ends', (t) => {
  const a = steady();
  const beforeBytes = a.controller.cwndBytes;
  a.controller.onCongestionEvent(a.nowUs, 0, 'ecn');
  clean(a, 1);
  const boundBytes = a.controller.cwndBytes;
  t.true(boundBytes < beforeBytes / 2, `${boundBytes} of ${beforeBytes}`);
  clean(a, 40);
  t.true(a.controller.cwndBytes > 0.9 * beforeBytes, `${a.controller.cwndBytes} of ${beforeBytes}`);
});

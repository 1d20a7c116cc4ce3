import test from 'ava';
import fc from 'fast-check';
import { NEVER } from '../../src/core/base/time.js';
import { type LinkConfig, type LinkDropReason, LinkModel } from '../../src/sim/link-model.js';
import { parseTrace, TraceCursor, traceRateBps } from '../../src/sim/trace.js';

/** A link of numbered packets that notes what arrives when, and what is dropped why. */
function rig(config: Partial<LinkConfig>, seed = 1) {
  const drops: [number, LinkDropReason][] = [];
  const link = new LinkModel<number>(config, seed, (item, _bytes, reason) => drops.push([item, reason]));
  const arrivals: [number, number][] = [];
  return {
    link,
    drops,
    arrivals,
    /** Runs as a driver would: wakes at each deadline up to `untilUs`. */
    run(untilUs: number) {
      for (let at = link.nextDeadline(); at <= untilUs; at = link.nextDeadline()) {
        for (let item = link.poll(at); item !== undefined; item = link.poll(at)) arrivals.push([item, at]);
      }
    },
  };
}

test('a packet takes transmission plus propagation', (t) => {
  const r = rig({ rateBps: 12_000_000, delayUs: 10_000 });
  r.link.enqueue(0, 1500, 1);
  r.link.enqueue(0, 1500, 2);
  r.run(1_000_000);
  t.deepEqual(r.arrivals, [
    [1, 11_000],
    [2, 12_000],
  ]);
  t.is(r.link.nextDeadline(), NEVER);
});

test('a saturated link keeps its rate to the microsecond, however odd the rate and however late the driver', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.integer({ min: 9_600, max: 10_000_000_000 }),
        fc.integer({ min: 40, max: 1500 }),
        fc.integer({ min: 0, max: 7_000 }),
        (rateBps, size, lateUs) => {
          const link = new LinkModel<number>({ rateBps, queueBytes: 1e9 }, 1);
          const packets = 1000;
          for (let i = 0; i < packets; i++) link.enqueue(0, size, i);
          let lastUs = 0;
          for (let n = 0; n < packets; ) {
            const at = link.nextDeadline();
            lastUs = at;
            while (link.poll(at + lateUs) !== undefined) n++;
          }
          const exactUs = Math.floor((packets * size * 8e6) / rateBps);
          // The last deadline seen is at most `lateUs` before the last departure, and never after it.
          return lastUs <= exactUs && lastUs >= exactUs - lateUs;
        },
      ),
      { seed: 7, numRuns: 50 },
    ),
  );
});

test('drop-tail: the packet in transmission does not count, the rest does', (t) => {
  const r = rig({ rateBps: 12_000_000, queueBytes: 3000 });
  for (let i = 0; i < 5; i++) r.link.enqueue(0, 1500, i);
  t.deepEqual(r.drops, [
    [3, 'queue'],
    [4, 'queue'],
  ]);
  t.is(r.link.queuedBytes, 4500);
  t.is(r.link.counters.maxQueuedBytes, 4500);
  r.run(Number.MAX_SAFE_INTEGER);
  t.is(r.link.enqueue(3000, 1500, 9), null, 'room again');
});

test('packets over the MTU are dropped', (t) => {
  const r = rig({ mtuBytes: 1400 });
  t.is(r.link.enqueue(0, 1401, 1), 'mtu');
  t.is(r.link.enqueue(0, 1400, 2), null);
});

test('a loss mask drops exactly the packets it names, again and again', (t) => {
  const r = rig({ lossMask: '0010' });
  for (let i = 0; i < 8; i++) r.link.enqueue(0, 100, i);
  r.run(0);
  t.deepEqual(
    r.arrivals.map(([item]) => item),
    [0, 1, 3, 4, 5, 7],
  );
});

test('random and burst loss hit their averages, and bursts are bursts', (t) => {
  const lossOf = (config: Partial<LinkConfig>) => {
    const lost: boolean[] = [];
    const link = new LinkModel<number>(config, 3, (item) => (lost[item] = true));
    for (let i = 0; i < 100_000; i++) {
      lost[i] = false;
      link.enqueue(i, 100, i);
      link.poll(i);
    }
    const count = lost.filter(Boolean).length;
    const runs = lost.filter((is, i) => is && !lost[i - 1]).length;
    return { rate: count / lost.length, meanRun: count / runs };
  };
  const random = lossOf({ lossRate: 0.02 });
  t.true(Math.abs(random.rate - 0.02) < 0.002, `${random.rate}`);
  t.true(random.meanRun < 1.1);
  // Share of bursts = enter / (enter + leave) = 1/51; mean length 1/leave = 5.
  const burst = lossOf({ burstLoss: { enter: 0.004, leave: 0.2, lossRate: 1 } });
  t.true(Math.abs(burst.rate - 1 / 51) < 0.004, `${burst.rate}`);
  t.true(Math.abs(burst.meanRun - 5) < 0.6, `${burst.meanRun}`);
});

test('jitter keeps order unless reordering is asked for', (t) => {
  for (const reorder of [false, true]) {
    const r = rig({ delayUs: 5000, jitterUs: 3000, reorder }, 5);
    for (let i = 0; i < 200; i++) r.link.enqueue(i * 100, 100, i);
    r.run(Number.MAX_SAFE_INTEGER);
    const inOrder = r.arrivals.every(([item], i) => item === i);
    t.is(inOrder, !reorder);
    t.is(r.arrivals.length, 200);
    t.true(r.arrivals.every(([item, at]) => at >= item * 100 + 5000));
    if (reorder) t.true(r.arrivals.every(([item, at]) => at <= item * 100 + 8000));
  }
});

test('the same seed is the same luck', (t) => {
  const play = (seed: number) => {
    const r = rig({ lossRate: 0.3, jitterUs: 900, reorder: true }, seed);
    for (let i = 0; i < 300; i++) r.link.enqueue(i * 50, 100, i);
    r.run(Number.MAX_SAFE_INTEGER);
    return JSON.stringify(r.arrivals);
  };
  t.is(play(11), play(11));
  t.not(play(11), play(12));
});

test('down refuses packets and loses what is inside; up begins afresh', (t) => {
  const r = rig({ rateBps: 12_000_000, delayUs: 10_000 });
  for (let i = 0; i < 3; i++) r.link.enqueue(0, 1500, i);
  r.link.setState(1500, 'down');
  t.deepEqual(r.drops, [
    [0, 'down'],
    [1, 'down'],
    [2, 'down'],
  ]);
  t.is(r.link.enqueue(2000, 1500, 3), 'down');
  t.is(r.link.nextDeadline(), NEVER);
  r.link.setState(5000, 'up');
  r.link.enqueue(5000, 1500, 4);
  r.run(Number.MAX_SAFE_INTEGER);
  t.deepEqual(r.arrivals, [[4, 16_000]]);
});

test('a black hole swallows silently: the queue drains, nothing arrives', (t) => {
  const r = rig({ rateBps: 12_000_000, delayUs: 10_000 });
  r.link.enqueue(0, 1500, 0);
  r.link.setState(5000, 'blackhole');
  t.is(r.link.enqueue(6000, 1500, 1), null);
  t.is(r.link.enqueue(6000, 1500, 2), null);
  r.link.setState(7500, 'up'); // 1 left at 7000, 2 leaves at 8000
  r.run(Number.MAX_SAFE_INTEGER);
  t.deepEqual(r.drops, [
    [0, 'blackhole'],
    [1, 'blackhole'],
  ]);
  t.deepEqual(r.arrivals, [[2, 18_000]]);
});

test('a suspended link holds its queue and goes on where it was', (t) => {
  const r = rig({ rateBps: 12_000_000 });
  r.link.enqueue(0, 1500, 0);
  r.link.enqueue(0, 1500, 1);
  r.link.setState(250, 'suspended');
  r.link.enqueue(500, 1500, 2);
  t.is(r.link.nextDeadline(), NEVER);
  r.link.setState(100_250, 'up');
  r.run(Number.MAX_SAFE_INTEGER);
  t.deepEqual(r.arrivals, [
    [0, 101_000],
    [1, 102_000],
    [2, 103_000],
  ]);
});

test('a packet offered to an idle suspended link waits for the resumption', (t) => {
  const r = rig({ rateBps: 12_000_000 });
  r.link.setState(0, 'suspended');
  r.link.enqueue(10, 1500, 7);
  t.is(r.link.nextDeadline(), NEVER);
  r.link.setState(1000, 'up');
  r.run(Number.MAX_SAFE_INTEGER);
  t.deepEqual(r.arrivals, [[7, 2000]]);
});

test('a rate change holds for the rest of the packet in transmission and for the queue', (t) => {
  const r = rig({ rateBps: 12_000_000 });
  r.link.enqueue(0, 1500, 0);
  r.link.enqueue(0, 1500, 1);
  r.link.configure(500, { rateBps: 1_200_000 }); // half of packet 0 is left: 5 ms
  r.run(Number.MAX_SAFE_INTEGER);
  t.deepEqual(r.arrivals, [
    [0, 5500],
    [1, 15_500],
  ]);
});

test('a trace: one line carries 1500 bytes, small packets share it, unused lines are lost, the file repeats', (t) => {
  const trace = parseTrace('5\n5\n20\n');
  t.is(trace.periodUs, 20_000);
  t.is(traceRateBps(trace), 1_800_000);
  const r = rig({ trace });
  r.link.enqueue(0, 1500, 0);
  r.link.enqueue(0, 700, 1);
  r.link.enqueue(0, 700, 2);
  r.link.enqueue(0, 200, 3); // 100 bytes fit behind 1 and 2, the rest needs the line at 20 ms
  r.run(30_000);
  t.deepEqual(r.arrivals, [
    [0, 5000],
    [1, 5000],
    [2, 5000],
    [3, 20_000],
  ]);
  r.link.enqueue(26_000, 1500, 4); // both lines at 25 ms of the second lap went by
  r.run(Number.MAX_SAFE_INTEGER);
  t.deepEqual(r.arrivals.at(-1), [4, 40_000]);
});

test('a trace cursor seeks to where walking would lead', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 30 }),
        fc.array(fc.integer({ min: 0, max: 300_000 }), { minLength: 1, maxLength: 10 }),
        (gaps, jumps) => {
          let ms = 0;
          const trace = parseTrace([...gaps.map((g) => (ms += g)), ms + 1].join('\n'));
          const fast = new TraceCursor(trace, 0);
          const slow = new TraceCursor(trace, 0);
          let at = 0;
          for (const jump of jumps) {
            at += jump;
            fast.seek(at);
            while (slow.nextUs < at) slow.take();
            if (fast.nextUs !== slow.nextUs) return false;
          }
          return true;
        },
      ),
      { seed: 7 },
    ),
  );
});

test('a bad trace names its line; a bad config its key', (t) => {
  t.throws(() => parseTrace('0\nx\n'), { message: /line 2/ });
  t.throws(() => parseTrace('5\n4\n'), { message: /line 2: time goes back/ });
  t.throws(() => parseTrace(''), { message: /empty/ });
  t.throws(() => new LinkModel({ rateBps: 0 }, 1), { message: /rateBps/ });
  t.throws(() => new LinkModel({ lossRate: 1.5 }, 1), { message: /lossRate/ });
  t.throws(() => new LinkModel({ lossMask: '01x' }, 1), { message: /lossMask/ });
});

test('every packet comes back exactly once, whatever happens to the link', (t) => {
  const step = fc.record({
    afterUs: fc.integer({ min: 0, max: 4000 }),
    act: fc.oneof(
      fc.record({ bytes: fc.integer({ min: 40, max: 2000 }) }),
      fc.record({ state: fc.constantFrom('up' as const, 'down' as const, 'blackhole' as const, 'suspended' as const) }),
      fc.record({ change: fc.record({ rateBps: fc.constantFrom(1_000_000, 20_000_000, Number.POSITIVE_INFINITY) }) }),
      fc.record({ change: fc.record({ trace: fc.constantFrom(null, parseTrace('1\n2\n7\n')) }) }),
      fc.record({ change: fc.record({ delayUs: fc.integer({ min: 0, max: 9000 }), reorder: fc.boolean() }) }),
    ),
  });
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const seen = new Map<number, number>();
        const note = (item: number) => seen.set(item, (seen.get(item) ?? 0) + 1);
        const link = new LinkModel<number>(
          { rateBps: 5_000_000, queueBytes: 6000, jitterUs: 500, lossRate: 0.1 },
          2,
          note,
        );
        let nowUs = 0;
        let offered = 0;
        const drain = () => {
          for (let item = link.poll(nowUs); item !== undefined; item = link.poll(nowUs)) note(item);
        };
        for (const { afterUs, act } of steps) {
          nowUs += afterUs;
          drain();
          if ('bytes' in act) link.enqueue(nowUs, act.bytes, offered++);
          else if ('state' in act) link.setState(nowUs, act.state);
          else link.configure(nowUs, act.change);
          if (link.nextDeadline() < nowUs - 4000) return false;
        }
        link.setState(nowUs, 'up');
        while (link.nextDeadline() !== NEVER) {
          nowUs = Math.max(nowUs, link.nextDeadline());
          drain();
        }
        const c = link.counters;
        const dropped = Object.values(c.drops).reduce((a, b) => a + b, 0);
        return (
          seen.size === offered &&
          [...seen.values()].every((n) => n === 1) &&
          link.packets === 0 &&
          c.offeredPackets === c.deliveredPackets + dropped &&
          c.offeredBytes === c.deliveredBytes + c.droppedBytes
        );
      }),
      { seed: 7, numRuns: 300 },
    ),
  );
});

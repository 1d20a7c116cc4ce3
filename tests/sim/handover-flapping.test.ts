/** DESIGN 3.4: a link that flaps ten times a minute for an hour, over the real engine and path manager. */
import test from 'ava';
import { Engine } from '../../src/core/engine/engine.js';
import type { Connection } from '../../src/core/mptcp/connection.js';
import { runScenario } from '../../src/sim/runner.js';
import { path, type Scenario, type Step } from '../../src/sim/scenario.js';

const S = 1_000_000;
const HOUR_S = 3600;

/** Every 6 s: 2.7 s away; every third time with another address when it is back. */
const flapping: Step[] = Array.from({ length: HOUR_S / 6 }, (_, i): Step[] => {
  const atUs = (10 + 6 * i) * S;
  return [
    { atUs, path: 'wifi', what: 'carrier-lost' },
    ...(i % 3 === 0 ? [{ atUs: atUs + 2.6 * S, path: 'wifi', what: 'moves' } as const] : []),
    { atUs: atUs + 2.7 * S, path: 'wifi', what: 'carrier-back' },
  ];
}).flat();

/** What a host keeps: everything that could grow. */
function kept(engine: Engine): Record<string, number> {
  const [c] = engine.connections() as readonly Connection[];
  const seen = { subflows: 0, localIds: 0, remoteIds: 0, highestId: 0 };
  if (c !== undefined) {
    seen.subflows = c.subflows.length;
    seen.localIds = c.addresses.localCount;
    seen.remoteIds = c.addresses.remoteIds().length;
    seen.highestId = Math.max(0, ...c.subflows.map((sf) => sf.localAddressId));
  }
  return {
    ...seen,
    connections: engine.connections().length,
    tuples: engine['demux'].size,
    timers: engine['timers']['heap'].length,
    joins: engine['strays']['joins'].size,
    slowProbed: engine['slowProbed'].size,
    counters: Object.keys(engine.counters()).length,
  };
}

test('flapping ten times a minute for an hour: all paths in use at the end, nothing accumulates', (t) => {
  const engines: Engine[] = [];
  const most: Record<string, number>[] = [{}, {}];
  let lookedUs = 0;
  const scenario: Scenario = {
    name: 'flapping for an hour',
    seed: 1,
    paths: [path('wifi', 5, 10), path('lte', 3, 30)],
    timeline: flapping,
    traffic: [{ kind: 'request-response', requestBytes: 500, responseBytes: 6000, everyUs: S, count: HOUR_S + 20 }],
    durationUs: (HOUR_S + 40) * S,
  };
  const result = runScenario(
    scenario,
    (env) => {
      const engine = new Engine(env, {});
      engines.push(engine);
      return engine;
    },
    (nowUs) => {
      if (nowUs - lookedUs < S) return;
      lookedUs = nowUs;
      for (const [i, engine] of engines.entries())
        for (const [name, n] of Object.entries(kept(engine))) most[i]![name] = Math.max(most[i]![name] ?? 0, n);
    },
  );
  t.log(`client at most ${JSON.stringify(most[0])}`);
  t.log(`server at most ${JSON.stringify(most[1])}`);
  const [traffic] = result.traffic;
  t.is(traffic!.responsesUs.length, HOUR_S + 20, 'every request was answered');
  const slowest = Math.max(...traffic!.responsesUs);
  t.log(`${HOUR_S + 20} requests, the slowest answered after ${(slowest / 1000).toFixed(0)} ms`);
  t.true(slowest <= S, `${slowest} us`);
  // In use at the end: both subflows are there, none suspected, and both links delivered until then.
  const [c] = engines[0]!.connections() as readonly Connection[];
  t.deepEqual(
    c!.subflows.map((sf) => [sf.isUsable, sf.isStalled, sf.isBackup]),
    [
      [true, false, false],
      [true, false, false],
    ],
  );
  for (const m of most) {
    t.true(m.subflows! <= 4, `${m.subflows} subflows`);
    t.true(m.tuples! <= 6, `${m.tuples} four-tuples`);
    t.true(m.localIds! <= 32 && m.remoteIds! <= 32, 'address ids are recycled');
    t.is(m.connections, 1);
    t.true(m.timers! <= 100 && m.joins! <= 4 && m.slowProbed! <= 4);
    t.true(m.counters! <= 120, `${m.counters} counters`);
  }
});

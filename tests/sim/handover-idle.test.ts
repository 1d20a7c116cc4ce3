/** An idle tunnel on a metered link: keepalives below common NAT timeouts, and what they cost in a day. */
import test from 'ava';
import { parseIp } from '../../src/core/base/ip.js';
import { TUNNEL_KEEPALIVE } from '../../src/core/engine/config.js';
import { Engine } from '../../src/core/engine/engine.js';
import { Nat } from '../../src/sim/middleboxes/index.js';
import { runScenario } from '../../src/sim/runner.js';
import { path, type Scenario } from '../../src/sim/scenario.js';

const S = 1_000_000;
const DAY_S = 86_400;

/** As the daemon has it: keepalives are the client's. */
const play = (scenario: Scenario, keepalive = TUNNEL_KEEPALIVE) =>
  runScenario(scenario, (env, host) => new Engine(env, host.name === 'client' ? { tcp: keepalive } : {}));

for (const family of [4, 6] as const)
  test(`an idle day on a metered link costs less than 1 MB, IPv${family}`, (t) => {
    const result = play({
      name: `idle for a day, IPv${family}`,
      seed: 1,
      paths: [path('wifi', 50, 10, { family }), path('lte', 30, 30, { family })],
      // The two connections of a tunnel (sparse and bulk).
      traffic: [{ kind: 'idle' }, { kind: 'idle' }],
      durationUs: DAY_S * S,
    });
    const { up, down } = result.paths[1]!;
    const bytes = up.deliveredBytes + down.deliveredBytes;
    t.log(`LTE: ${up.deliveredPackets + down.deliveredPackets} packets, ${(bytes / 1e6).toFixed(2)} MB a day`);
    t.true(bytes < 1e6, `${bytes} bytes`);
    // One exchange at least every minute and connection: none was given up.
    t.true(up.deliveredPackets >= 2 * (DAY_S / 60), `${up.deliveredPackets} packets`);
    t.deepEqual(
      result.traffic.map((each) => each.closedWhy),
      [null, null],
    );
    t.is(result.clientCounters.MPTcpExtSubflowStale ?? 0, 0, 'no path was suspected');
  });

test('keepalives keep the translations of a NAT that forgets after 60 s: a request after an hour is answered at once', (t) => {
  const scenario: Scenario = {
    name: 'idle behind an impatient NAT',
    seed: 1,
    paths: ['wifi', 'lte'].map((name, i) => ({
      ...path(name, 30, 20),
      middleboxes: () => [new Nat(parseIp(`192.0.2.${i + 1}`).bytes, 'right', 60 * S)],
    })),
    traffic: [
      { kind: 'request-response', requestBytes: 200, responseBytes: 2000, everyUs: 3600 * S, count: 2, startUs: 0 },
    ],
    durationUs: 7300 * S,
  };
  const kept = play(scenario);
  t.deepEqual(kept.drops['nat-unknown'], undefined);
  t.is(kept.traffic[0]!.responsesUs.length, 2);
  t.true(Math.max(...kept.traffic[0]!.responsesUs) < 100_000, `${kept.traffic[0]!.responsesUs} us`);
  // That it is the keepalives that do it.
  const slow = play(scenario, {}).traffic[0]!.responsesUs;
  t.true(slow.length < 2 || Math.max(...slow) > 200_000, `without: ${slow} us`);
});

test('a link that dies while nobody uses it is known to be dead within a minute', (t) => {
  const result = play({
    name: 'dies while idle',
    seed: 1,
    paths: [path('wifi', 50, 10), path('lte', 30, 30)],
    timeline: [{ atUs: 100 * S, path: 'wifi', what: 'dies' }],
    traffic: [
      { kind: 'request-response', requestBytes: 200, responseBytes: 2000, everyUs: 170 * S, count: 1, startUs: 0 },
    ],
    durationUs: 200 * S,
  });
  const suspected = result.events.find((e) => e.includes('client subflow-stalled') && e.includes('keepalives'));
  t.truthy(suspected);
  t.true(Number(suspected!.split(' ')[0]) < 165 * S, suspected!);
  t.log(`the request after it took ${result.traffic[0]!.responsesUs} us`);
  t.true(result.traffic[0]!.responsesUs[0]! < 200_000, 'and the first request after it does not try it');
});

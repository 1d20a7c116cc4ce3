/** Scheduler `interactive`: the quick path alone, and copies on the other one as soon as the quick one is late. */
import test from 'ava';
import { path, percentile, type Scenario } from '../../src/sim/scenario.js';
import { assertScenario, summary } from '../support/sim-run.js';

const S = 1_000_000;

/** Small requests, 50 a second, as a call would make them. */
const base: Omit<Scenario, 'name'> = {
  seed: 1,
  scheduler: 'interactive',
  paths: [path('wifi', 50, 10), path('lte', 30, 30)],
  traffic: [{ kind: 'request-response', requestBytes: 200, responseBytes: 200, everyUs: 20_000, count: 200 }],
  durationUs: 6 * S,
};

test('interactive: the slower path carries nothing while the quick one works', (t) => {
  const result = assertScenario(t, { ...base, name: 'interactive, steady' });
  t.log(summary(result).join('\n'));
  const lte = result.paths.find((p) => p.name === 'lte')!;
  t.true(lte.up.deliveredBytes < 3000, `${lte.up.deliveredBytes} bytes: the join and its keep-alives`);
  t.is(result.traffic[0]!.responsesUs.length, 200);
  t.true(percentile(result.traffic[0]!.responsesUs, 0.95) < 24_000);
  t.is(result.clientCounters.path_doubted ?? 0, 0, 'and nothing is doubted');
});

test('interactive: a quick path that falls silent is doubted, and copied, before it is stalled', (t) => {
  const result = assertScenario(t, {
    ...base,
    name: 'interactive, silent',
    timeline: [
      { atUs: 2 * S, path: 'wifi', what: 'dies' },
      { atUs: 4 * S, path: 'wifi', what: 'returns' },
    ],
  });
  t.log(summary(result).join('\n'));
  const { responsesUs } = result.traffic[0]!;
  t.is(responsesUs.length, 200);
  const late = responsesUs.filter((us) => us > 150_000).length;
  t.true(late <= 3, `${late} responses took more than 150 ms: ${percentile(responsesUs, 1)} us at most`);
  t.true((result.clientCounters.path_doubted ?? 0) + (result.serverCounters.path_doubted ?? 0) > 0);
});

test('interactive: losses are copied over the other path before the quick one repairs them', (t) => {
  const lossy = { lossRate: 0.03 };
  const paths = [path('wifi', 50, 10, lossy), path('lte', 30, 15, lossy)];
  const quick = assertScenario(t, { ...base, name: 'interactive, loss', paths });
  const plain = assertScenario(t, { ...base, name: 'min-rtt, loss', scheduler: 'min-rtt', paths });
  const [ours, theirs] = [quick, plain].map((r) => percentile(r.traffic[0]!.responsesUs, 0.99));
  t.log(`p99 with copies on doubt ${ours} us, without ${theirs} us; ${quick.traffic[0]!.duplicateBytes} bytes twice`);
  t.true(ours! < theirs!);
});

/**
 * The core engine alone: both ends of a connection in one thread over simulated links of infinite rate, and how much
 * network time a CPU second simulates. The simulator's own cost (copying each packet in and out) is included.
 */
import { Engine } from '../src/core/engine/engine.js';
import type { HostOptions } from '../src/sim/host.js';
import { runScenario } from '../src/sim/runner.js';
import { type PathSpec, path, type Scenario } from '../src/sim/scenario.js';
import type { Row } from './stats.js';

const TRANSFER_BYTES = 200_000_000;
const S = 1_000_000;

export async function run(): Promise<Row[]> {
  const unlimited = (name: string): PathSpec => ({
    name,
    up: { delayUs: 500, mtuBytes: 66_000 },
    down: { delayUs: 500, mtuBytes: 66_000 },
  });
  const one = [unlimited('a')];
  const two = [unlimited('a'), unlimited('b')];
  const whole: Partial<HostOptions> = { passWhole: true };
  return [
    bulk('engine: one path, super-packets', one, whole),
    bulk('engine: two paths, super-packets', two, whole),
    bulk('engine: one path, 1500-byte segments, GRO', one, {}),
    bulk('engine: one path, 1500-byte segments, no GRO', one, { gro: false }),
    bulk('engine: one path, super-packets, DSS checksums', one, whole, { checksum: true }),
    pace('simulator: bulk on 50 + 30 Mbit/s', {
      name: 'pace',
      seed: 1,
      paths: [path('wifi', 50, 10), path('lte', 30, 30)],
      traffic: [{ kind: 'bulk', heading: 'down' }],
      durationUs: 20 * S,
    }),
    pace('simulator: idle connection on two paths', {
      name: 'idle',
      seed: 1,
      paths: [path('wifi', 50, 10), path('lte', 30, 30)],
      traffic: [{ kind: 'idle' }],
      durationUs: 20_000 * S,
    }),
  ];
}

/** Bytes delivered per CPU second of both ends together. */
function bulk(name: string, paths: readonly PathSpec[], host: Partial<HostOptions>, more: Partial<Scenario> = {}): Row {
  const scenario: Scenario = {
    name,
    seed: 1,
    paths,
    traffic: [{ kind: 'bulk', heading: 'down', bytes: TRANSFER_BYTES }],
    durationUs: 600 * S,
    interruptUs: 20,
    timerSlackUs: 20,
    host,
    ...more,
  };
  const seconds = cpuSeconds(() => {
    const { finishedUs } = runScenario(scenario, (env) => new Engine(env)).traffic[0]!;
    if (finishedUs < 0) throw new Error(`${name}: the transfer did not finish`);
  });
  return { name, value: Math.round(TRANSFER_BYTES / 1e6 / seconds), unit: 'MB/CPU s' };
}

/** Network seconds simulated per CPU second. */
function pace(name: string, scenario: Scenario): Row {
  const seconds = cpuSeconds(() => runScenario(scenario, (env) => new Engine(env)));
  return { name, value: Math.round(scenario.durationUs / S / seconds), unit: 'network s/CPU s' };
}

function cpuSeconds(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

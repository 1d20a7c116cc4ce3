/** A scenario drawn from a seed: odd paths, odd settings, benign boxes, links that come and go, all back in the end. */
import { parseIp } from '../../src/core/base/ip.js';
import type { LinkConfig } from '../../src/sim/link-model.js';
import type { Middlebox } from '../../src/sim/middlebox.js';
import {
  BitFlipper,
  Coalescer,
  Duplicator,
  IsnRewriter,
  Nat,
  Reorderer,
  Splitter,
} from '../../src/sim/middleboxes/index.js';
import { Prng } from '../../src/sim/prng.js';
import type { PathSpec, Scenario, Step, Traffic } from '../../src/sim/scenario.js';

const MS = 1000;
const S = 1_000_000;
/** Trouble happens before this instant; the rest of the run is calm. */
const TROUBLE_ENDS_US = 12 * S;

export function randomScenario(seed: number): Scenario {
  const luck = new Prng(seed).fork(99);
  const pick = <T>(...choices: readonly T[]): T => choices[luck.below(choices.length)]!;
  const logUniform = (from: number, to: number) => from * (to / from) ** luck.unit();
  const checksum = luck.chance(0.4);
  const paths = Array.from({ length: pick(1, 2, 2, 3) }, (_, i) => randomPath(luck, `p${i}`, checksum));
  const timeline = paths.flatMap(({ name }) => (luck.chance(0.5) ? outages(luck, name) : []));
  const kinds: readonly Traffic[] = [
    { kind: 'bulk', heading: 'down', bytes: Math.round(logUniform(1e4, 3e6)) },
    { kind: 'bulk', heading: 'up', bytes: Math.round(logUniform(1e4, 3e6)) },
    {
      kind: 'request-response',
      requestBytes: 1 + luck.below(3000),
      responseBytes: 1 + luck.below(60_000),
      everyUs: 200 * MS,
      count: 20,
    },
  ];
  return {
    name: `random ${seed}`,
    seed,
    paths,
    timeline,
    traffic: luck.chance(0.3) ? [pick(...kinds), pick(...kinds)] : [pick(...kinds)],
    durationUs: 240 * S,
    congestion: pick('bbr', 'cubic', 'reno', 'lia', 'olia', 'balia'),
    scheduler: pick('adaptive', 'patient', 'min-rtt', 'round-robin', 'blest', 'ecf', 'redundant'),
    checksum,
    receiveBufferBytes: pick(65_536, 262_144, 8 << 20),
    ...(luck.chance(0.2) && { readerPause: { fromUs: luck.below(2 * S), untilUs: 2 * S + luck.below(3 * S) } }),
    interruptUs: pick(0, 100, 1000),
    timerSlackUs: pick(0, 100, 1000),
    host: { gro: luck.chance(0.8) },
    budget: { completeByUs: 240 * S },
  };
}

function randomPath(luck: Prng, name: string, checksum: boolean): PathSpec {
  const logUniform = (from: number, to: number) => from * (to / from) ** luck.unit();
  const rateBps = Math.round(logUniform(5e5, 1e8));
  const common: Partial<LinkConfig> = {
    delayUs: Math.round(logUniform(200, 200 * MS)),
    jitterUs: luck.chance(0.3) ? luck.below(30 * MS) : 0,
    reorder: luck.chance(0.15),
    lossRate: luck.chance(0.5) ? luck.unit() * 0.03 : 0,
    burstLoss: luck.chance(0.2) ? { enter: 0.002, leave: 0.3, lossRate: 0.9 } : null,
    lossMask: luck.chance(0.1) ? '000000000000000000000000000000011' : '',
  };
  const queueBytes = Math.max(8000, Math.round((rateBps / 8) * logUniform(0.02, 0.5)));
  const boxes: ((seed: number) => Middlebox)[] = [];
  if (luck.chance(0.15)) boxes.push((seed) => new IsnRewriter(seed));
  if (luck.chance(0.15)) boxes.push((seed) => new Nat(parseIp(`192.0.2.${1 + (seed % 250)}`).bytes));
  if (luck.chance(0.1)) boxes.push(() => new Splitter(536));
  if (luck.chance(0.1)) boxes.push((seed) => new Duplicator(0.02, seed));
  if (luck.chance(0.1)) boxes.push((seed) => new Reorderer(0.02, 20 * MS, seed));
  if (luck.chance(0.1)) boxes.push((seed) => new BitFlipper(0.002, seed));
  if (checksum && luck.chance(0.1)) boxes.push(() => new Coalescer(2800, 1000));
  return {
    name,
    up: { ...common, rateBps: Math.max(200_000, Math.round(rateBps * logUniform(0.2, 1))), queueBytes },
    down: { ...common, rateBps, queueBytes },
    family: boxes.length === 0 && luck.chance(0.3) ? 6 : 4,
    middleboxes: (seed) => boxes.map((make, i) => make((seed + i) >>> 0)),
    role: luck.chance(0.15) ? 'backup' : 'always',
  };
}

function outages(luck: Prng, name: string): Step[] {
  const steps: Step[] = [];
  const pairs = [
    ['dies', 'returns'],
    ['carrier-lost', 'carrier-back'],
    ['pauses', 'resumes'],
  ] as const;
  for (let atUs = luck.below(2 * S); atUs < TROUBLE_ENDS_US - S; ) {
    const [begin, end] = pairs[luck.below(pairs.length)]!;
    const untilUs = Math.min(TROUBLE_ENDS_US, atUs + 1 + luck.below(4 * S));
    steps.push({ atUs, path: name, what: begin }, { atUs: untilUs, path: name, what: end });
    atUs = untilUs + luck.below(4 * S);
  }
  return steps;
}

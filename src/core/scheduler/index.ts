/** Schedulers by the name that configuration uses. */
import { Adaptive } from './adaptive.js';
import { Blest } from './blest.js';
import { Ecf } from './ecf.js';
import { Interactive } from './interactive.js';
import { MinRtt } from './min-rtt.js';
import { Redundant } from './redundant.js';
import { RoundRobin } from './round-robin.js';
import type { Scheduler } from './scheduler.js';

export const schedulers: Readonly<Record<string, () => Scheduler>> = {
  adaptive: () => new Adaptive(),
  patient: () => new Adaptive('patient'),
  'min-rtt': () => new MinRtt(),
  'round-robin': () => new RoundRobin(),
  blest: () => new Blest(),
  ecf: () => new Ecf(),
  interactive: () => new Interactive(),
  redundant: () => new Redundant(),
};

export const DEFAULT_SCHEDULER = 'adaptive';

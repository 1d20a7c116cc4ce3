/** Congestion controllers by the name that configuration uses. */
import { Balia } from './balia.js';
import { Bbr } from './bbr.js';
import type { ControllerFactory } from './controller.js';
import { Cubic } from './cubic.js';
import { Lia } from './lia.js';
import { Olia } from './olia.js';
import { Reno } from './reno.js';

export const controllers: Readonly<Record<string, ControllerFactory>> = {
  bbr: Bbr.create,
  cubic: Cubic.create,
  reno: Reno.create,
  // Coupled: all subflows of a connection together take one TCP's share.
  lia: Lia.create,
  olia: Olia.create,
  balia: Balia.create,
};

/** CUBIC gets a fifth of a 100 Mbit/s link with 0.5 % loss and fills every queue; BBR neither (tests/unit/congestion). */
export const DEFAULT_CONTROLLER = 'bbr';

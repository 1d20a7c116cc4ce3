/** Congestion controllers by the name that configuration uses. */
import type { ControllerFactory } from './controller.js';
import { Cubic } from './cubic.js';
import { Reno } from './reno.js';

export const controllers: Readonly<Record<string, ControllerFactory>> = {
  cubic: Cubic.create,
  reno: Reno.create,
};

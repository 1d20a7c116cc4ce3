/**
 * States of a path and every transition there is, in one table. Nothing is terminal: each state has a way on, by an
 * event or by a deadline.
 *
 *   down      the link, an address or the permission is missing (a subflow may survive in it, suspended)
 *   probing   possible; waits for its turn, its retry time, or for its suspended subflow to answer
 *   joining   a subflow is being opened
 *   warm      established, kept for later
 *   active    carries data
 *   draining  being given up once what is in flight is safe
 *   blocked   refused by the peer or by something between; tried again, seldom
 */
import type { PathState } from './types.js';

export type PathTrigger =
  | 'possible' // link, addresses and permission are there
  | 'impossible' // one of them is gone
  | 'attempt' // its turn to open a subflow
  | 'joined' // established
  | 'failed' // for now
  | 'refused' // by policy
  | 'retry' // back-off is over or was reset
  | 'recovered' // a suspended subflow answered
  | 'use' // wanted for data
  | 'rest' // not wanted for data
  | 'drop' // to be given up
  | 'keep' // wanted again before it was given up
  | 'lost'; // the subflow is gone

const TRANSITIONS: readonly (readonly [PathState, PathTrigger, PathState])[] = [
  ['down', 'possible', 'probing'],
  ['down', 'joined', 'warm'],
  ['probing', 'attempt', 'joining'],
  ['probing', 'recovered', 'warm'],
  ['probing', 'impossible', 'down'],
  ['joining', 'joined', 'warm'],
  ['joining', 'failed', 'probing'],
  ['joining', 'refused', 'blocked'],
  ['joining', 'impossible', 'down'],
  ['warm', 'use', 'active'],
  ['warm', 'drop', 'draining'],
  ['warm', 'lost', 'probing'],
  ['warm', 'impossible', 'down'],
  ['active', 'rest', 'warm'],
  ['active', 'drop', 'draining'],
  ['active', 'lost', 'probing'],
  ['active', 'impossible', 'down'],
  ['draining', 'keep', 'warm'],
  ['draining', 'lost', 'down'],
  ['draining', 'impossible', 'down'],
  ['blocked', 'retry', 'probing'],
  ['blocked', 'impossible', 'down'],
];

const TABLE = new Map(TRANSITIONS.map(([from, trigger, to]) => [`${from} ${trigger}`, to]));

/** The state that `trigger` leads to, or undefined where it means nothing. */
export function nextState(from: PathState, trigger: PathTrigger): PathState | undefined {
  return TABLE.get(`${from} ${trigger}`);
}

/** The table as text, one transition per line. */
export function printTransitions(): string {
  return TRANSITIONS.map(([from, trigger, to]) => `${from.padEnd(9)} ${trigger.padEnd(11)} ${to}`).join('\n');
}

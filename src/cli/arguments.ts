/** Parsers of option values that several verbs take. */
import { InvalidArgumentError } from 'commander';

export function parseCount(value: string): number {
  const count = Number(value);
  if (!Number.isSafeInteger(count) || count < 1) throw new InvalidArgumentError('a number from 1 is wanted');
  return count;
}

export function parseSeconds(value: string): number {
  const seconds = Number(value);
  if (!(seconds >= 0.1 && seconds <= 3600)) throw new InvalidArgumentError('seconds from 0.1 to 3600 are wanted');
  return seconds;
}

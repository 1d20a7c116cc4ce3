/** Congestion controllers and schedulers by name. */
import { CONGESTION_NAMES, SCHEDULER_NAMES } from '../config/types.js';
import { MptcpError } from './errors.js';

export { CONGESTION_NAMES, SCHEDULER_NAMES };

/** `name`, if it is one of `names`; else throws EINVAL, which lists them. */
export function checkedName(what: string, name: string, names: readonly string[]): string {
  if (!names.includes(name)) throw new MptcpError('EINVAL', what, `${name}: expected one of ${names.join(', ')}`);
  return name;
}

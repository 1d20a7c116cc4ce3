/** Types of `base` that wire's signatures use, in one place. */
export type { Family, IpAddress } from '../base/ip.js';
export type { U64 } from '../base/seq.js';

/** The path manager's patience (DESIGN 3.4). Back-off between attempts is in path.ts. */

/** No answer to an attempt in this time is a failure; shorter while the session has no subflow and another path waits. */
export const JOIN_TIMEOUT_US = 10_000_000;
export const CONNECT_HEDGE_US = 3_000_000;
/** A suspended subflow has this long to answer after its link returned, before it is replaced. */
export const RECOVER_US = 1_000_000;
/** A stalled subflow on a link that is up is replaced after this long, if another path works. */
export const STALL_REPLACE_US = 5_000_000;
/** Draining: time for what is in flight, time to wait for another path, time for the FIN to be answered. */
export const DRAIN_US = 200_000;
export const DRAIN_ALONE_US = 5_000_000;
export const CLOSE_US = 3_000_000;
/** A subflow that lived this long owes nothing to a bad path: it is replaced at once. */
export const STABLE_US = 10_000_000;
/** A path that is not kept warm is given up after resting this long. */
export const COOL_US = 5_000_000;
/** Make before break: the path that is relieved goes on carrying data this long (a few round trips) beside its successor. */
export const OVERLAP_US = 200_000;
/** Overflow links stay in use this long after saturation ended. */
export const OVERFLOW_HOLD_US = 5_000_000;

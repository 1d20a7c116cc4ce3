/**
 * One limit for a path, and several connections that use it (the lanes of a session): who needs less than an equal share gets
 * what it needs and room to grow, the others share the rest equally. The shares never come to more than the limit.
 */

/** Who sent this much of its share wants more. */
const FULL = 0.9;
/** Room above what was sent. */
const HEADROOM = 1.5;
/** Nobody's share is less than this part of an equal one: what was silent must be able to begin. */
const LEAST = 0.2;

export interface LimitUser {
  /** What it sent lately, bytes/s. */
  readonly rateBytesPerS: number;
  /** What it was allowed, bytes/s. */
  readonly shareBytesPerS: number;
}

/** Shares in the order of `users`, bytes/s. */
export function splitLimit(limitBytesPerS: number, users: readonly LimitUser[]): number[] {
  const leastBytesPerS = (LEAST * limitBytesPerS) / users.length;
  const wants = users.map(({ rateBytesPerS, shareBytesPerS }) =>
    rateBytesPerS >= FULL * shareBytesPerS
      ? Number.POSITIVE_INFINITY
      : Math.max(leastBytesPerS, HEADROOM * rateBytesPerS),
  );
  const shares = users.map(() => 0);
  let leftBytesPerS = limitBytesPerS;
  // Least wanting first: whatever one leaves is the others'.
  const order = wants.map((_, i) => i).sort((a, b) => wants[a]! - wants[b]!);
  for (const [served, i] of order.entries()) {
    const equal = leftBytesPerS / (order.length - served);
    shares[i] = Math.min(wants[i]!, equal);
    leftBytesPerS -= shares[i];
  }
  // Nobody wants it all: the most wanting may have it.
  const last = order.at(-1);
  if (last !== undefined) shares[last] = shares[last]! + leftBytesPerS;
  return shares;
}

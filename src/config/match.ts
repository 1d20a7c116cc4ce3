/** What rules of `paths` say about each other, and what they say where they say nothing. Which one counts: daemon/link-match.ts. */
import type { LinkType, PathMatch, PathRule } from './types.js';

/** What a rule is that says nothing but that a link may be used. */
export const PLAIN_RULE: PathRule = {
  match: { name: null, type: null, mac: null, ssid: null },
  role: 'always',
  overflowAboveBitPerS: null,
  metered: null,
  cap: null,
  keepWarm: true,
  preferFamily: null,
  maxSubflows: 1,
  local: { include: [], exclude: [] },
  remote: { include: [], exclude: [] },
  limitBitPerS: null,
  congestion: null,
};

/** The rule's word, else the system's, else what is usual for links of this kind. */
export function isMetered(rule: PathRule, link: { type: LinkType; isMetered: boolean | null }): boolean {
  return rule.metered ?? link.isMetered ?? (link.type === 'cellular' || link.type === 'usb');
}

/** `*` and `?` as in file names. */
export function matchesPattern(pattern: string, text: string): boolean {
  const source = [...pattern].map((c) => (c === '*' ? '.*' : c === '?' ? '.' : c.replace(/[^\w]/g, '\\$&'))).join('');
  return new RegExp(`^${source}$`, 's').test(text);
}

/** Every link that `later` matches, `earlier` matches too: so `later` never counts behind it. Never says so wrongly. */
export function shadows(earlier: PathMatch, later: PathMatch): boolean {
  return (
    (earlier.type === null || earlier.type === later.type || (earlier.type === 'wifi' && later.ssid !== null)) &&
    (earlier.mac === null || earlier.mac === later.mac) &&
    coversPattern(earlier.name, later.name) &&
    coversPattern(earlier.ssid, later.ssid)
  );
}

/** Whether a pattern (null: anything) admits whatever the other one does. */
function coversPattern(wide: string | null, narrow: string | null): boolean {
  if (wide === null || wide === narrow) return true;
  if (narrow === null) return false;
  if (!/[*?]/.test(narrow)) return matchesPattern(wide, narrow);
  // Of two patterns only the plain case is worth knowing: `wl*` before `wlan*`.
  const stem = /^([^*?]*)\*$/.exec(wide)?.[1];
  return stem !== undefined && narrow.startsWith(stem);
}

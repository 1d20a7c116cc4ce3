/** Which path rule a link falls under: the first that matches. */
import { matchesPattern } from '../config/match.js';
import type { PathRule } from '../config/types.js';
import type { LinkFacts } from './link-facts.js';

/** What rules look at. */
export type MatchedFacts = Pick<LinkFacts, 'name' | 'type' | 'mac' | 'permanentMac' | 'ssid' | 'whyVirtual'>;

/** The first rule that matches, or null. A link that is not the host's own needs a rule with its very name or MAC. */
export function matchRule(rules: readonly PathRule[], link: MatchedFacts): PathRule | null {
  return (
    rules.find(
      ({ match }) =>
        (match.name === null || matchesPattern(match.name, link.name)) &&
        (match.type === null || match.type === link.type) &&
        (match.mac === null || match.mac === link.mac || match.mac === link.permanentMac) &&
        (match.ssid === null || (link.ssid !== null && matchesPattern(match.ssid, link.ssid))) &&
        (link.whyVirtual === null || match.name === link.name || match.mac !== null),
    ) ?? null
  );
}

/**
 * The kinds of value that a configuration has: names, addresses, prefixes, ports, sizes. Each says what would be right.
 * Messages are `what is wrong` + newline + `what would be right`; load.ts adds file, line, column and key path.
 */
import { z } from 'zod';

import { parseAccessRule } from './access.js';
import { PIN_PREFIX, parsePin } from './keys.js';
import { parseIpOrNull, parsePrefix } from './prefix.js';
import { DURATION_EXAMPLE, parseDuration, parseRate, parseSize, RATE_EXAMPLE, SIZE_EXAMPLE } from './units.js';

/** A reference to a file that holds a pin, as `mptun pubkey` prints it. */
export const FILE_PREFIX = 'file:';

export const text = (expected: string, isValid: (value: string) => boolean) =>
  z.custom<string>((value) => typeof value === 'string' && isValid(value), {
    error: (issue) =>
      issue.input === undefined
        ? `is missing\ngive ${expected}`
        : `${shown(issue.input)} is not valid here\ngive ${expected}`,
  });

export const integer = (expected: string, min: number, max: number) =>
  z.custom<number>((value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max, {
    error: (issue) =>
      issue.input === undefined
        ? `is missing\ngive ${expected}`
        : `${shown(issue.input)} is not valid here\ngive ${expected} from ${min} to ${max}`,
  });

export const bool = () =>
  z.custom<boolean>((value) => typeof value === 'boolean', {
    error: (issue) => `${shown(issue.input)} is not valid here\ngive true or false`,
  });

export const boolOrAuto = () =>
  z.custom<boolean | 'auto'>((value) => typeof value === 'boolean' || value === 'auto', {
    error: (issue) => `${shown(issue.input)} is not valid here\ngive true, false or auto`,
  });

export const oneOf = <const T extends readonly string[]>(...values: T) =>
  z.custom<T[number]>((value) => values.includes(value as string), {
    error: (issue) =>
      issue.input === undefined
        ? `is missing\ngive one of ${values.join(', ')}`
        : `${shown(issue.input)} is not valid here\n${didYouMean(String(issue.input), values) ?? `give one of ${values.join(', ')}`}`,
  });

export const name = () =>
  text('a name of lower-case letters, digits, - and _ (at most 32)', (v) => /^[a-z0-9][a-z0-9_-]{0,31}$/.test(v));
export const interfaceName = () =>
  text('an interface name (at most 15 characters)', (v) => /^[^\s/:*?]{1,15}$/.test(v));
export const interfacePattern = () =>
  text('an interface name or pattern such as wlan0 or wl*', (v) => /^[^\s/:]{1,15}$/.test(v));
export const ssid = () =>
  text('the name of a wifi network, 1 to 32 characters', (v) => v.length >= 1 && v.length <= 32);
export const mac = () =>
  text('a MAC address such as 02:00:5e:10:00:01', (v) => /^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/.test(v));
export const access = () =>
  text('a prefix or a name, with or without :PORT, such as 10.0.0.0/8, *.example.com:443 or *:25', (v) => {
    return parseAccessRule(v) !== null;
  });
export const ip = () => text('an IP address', (v) => parseIpOrNull(v) !== null);
export const ip4 = () => text('an IPv4 address', (v) => parseIpOrNull(v)?.family === 4);
export const ip6 = () => text('an IPv6 address', (v) => parseIpOrNull(v)?.family === 6);
export const prefix = () =>
  text('a prefix such as 10.0.0.0/8 or fd00::/8, host bits zero', (v) => parsePrefix(v) !== null);
export const prefix4 = () => text('an IPv4 prefix such as 10.77.0.0/24', (v) => parsePrefix(v)?.address.family === 4);
export const prefix6 = () => text('an IPv6 prefix such as fd77::/64', (v) => parsePrefix(v)?.address.family === 6);
export const rate = () => text(RATE_EXAMPLE, (v) => (parseRate(v) ?? 0) > 0);
export const size = () => text(SIZE_EXAMPLE, (v) => (parseSize(v) ?? 0) > 0);
export const duration = () => text(DURATION_EXAMPLE, (v) => (parseDuration(v) ?? 0) > 0);
export const port = () => integer('a port', 1, 65535);
export const path = () => text('the path of a file', (v) => v !== '');
export const pin = () =>
  text(`a pin as printed by mptun pubkey (${PIN_PREFIX}… or ${FILE_PREFIX}PATH)`, (v) =>
    v.startsWith(FILE_PREFIX) ? v.length > FILE_PREFIX.length : parsePin(v) !== null,
  );
export const host = () => text('a host name or an IP address', (v) => isHost(v));
export const listenAddress = () => text('HOST:PORT, such as 127.0.0.1:9464', (v) => parseHostPort(v) !== null);
/** Nothing: the key's absence spelled out, so that a file can show every key. */
export const orNull = <T extends z.ZodType>(schema: T) => schema.nullable();

/** `did you mean X?` when one of `candidates` is near enough, else null. */
export function didYouMean(word: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      bestDistance = distance;
      best = candidate;
    }
  }
  return best === null ? null : `did you mean ${best}?`;
}

export function parseHostPort(value: string): { host: string; port: number } | null {
  const m = /^(?:\[([0-9a-fA-F:.]+)\]|([^:\s]+)):(\d{1,5})$/.exec(value);
  if (m === null) return null;
  const portNumber = Number(m[3]);
  const hostText = m[1] ?? m[2]!;
  return portNumber >= 1 && portNumber <= 65535 && isHost(hostText) ? { host: hostText, port: portNumber } : null;
}

function isHost(value: string): boolean {
  if (parseIpOrNull(value) !== null) return true;
  if (value.length > 253 || /^[\d.]+$/.test(value)) return false;
  return value.split('.').every((label) => /^(?!-)[A-Za-z0-9-]{1,63}(?<!-)$/.test(label));
}

function shown(value: unknown): string {
  if (value !== null && typeof value === 'object') return Array.isArray(value) ? 'a list' : 'a map';
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}

/** Optimal string alignment: insertions, deletions, changes and swapped neighbours each count one. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      let d = Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, rows[i - 1]![j - 1]! + change);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) d = Math.min(d, rows[i - 2]![j - 2]! + 1);
      row[j] = d;
    }
    rows[i] = row;
  }
  return rows[a.length]![b.length]!;
}

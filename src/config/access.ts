/** Entries of a client's lists of destinations (`clients[].relay.allow` and `deny`), as people write them. */
import { parsePrefix } from './prefix.js';
import type { Prefix } from './types.js';

/** One entry of a list: destinations by address or name, and port; null: any. */
export interface AccessRule {
  readonly prefix: Prefix | null;
  /** Lower case; `*.example.com` is every name below example.com. */
  readonly name: string | null;
  readonly port: number | null;
}

export interface AccessLists {
  readonly allow: readonly AccessRule[];
  readonly deny: readonly AccessRule[];
}

/**
 * `192.0.2.0/24`, `[2001:db8::]/32`, `2001:db8::/32`, `example.com`, `*.example.com`, `*`, each with or without `:PORT`
 * (IPv6 then in brackets: `[2001:db8::/32]:22`); null if it is none of these.
 */
export function parseAccessRule(text: string): AccessRule | null {
  const bare = parsePrefix(text);
  if (bare !== null) return { prefix: bare, name: null, port: null };
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return null;
  const port = match[3] === undefined ? null : Number(match[3]);
  if (port !== null && (port < 1 || port > 65_535)) return null;
  const what = match[1] ?? match[2]!;
  if (what === '*') return { prefix: null, name: null, port };
  const prefix = parsePrefix(what);
  if (prefix !== null) return { prefix, name: null, port };
  const name = what.toLowerCase();
  const isName = match[1] === undefined && /^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(name) && !/^[\d.]+$/.test(name);
  return isName ? { prefix: null, name, port } : null;
}

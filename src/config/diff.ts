/**
 * What is different between two configurations, key by key, and what each difference takes to have an effect: nothing (a
 * reload is enough), new connections, or a restart.
 */
import { formatKeyPath, type KeyPath } from './document.js';
import type { LoadedConfig } from './load.js';
import type { Config } from './types.js';

export type Effect = 'now' | 'new-connections' | 'restart';

export interface ConfigChange {
  /** Key path such as `paths[1].role`. */
  readonly key: string;
  /** As YAML has it; `(none)`: the key, or the entry of a list, is not there. */
  readonly before: string;
  readonly after: string;
  readonly effect: Effect;
}

/** Values by key path, as YAML has them, with every default. */
export type Values = ReadonlyMap<string, string>;

/** Keys that take effect while running; everything else needs a restart. The longest prefix counts. */
const EFFECTS: readonly (readonly [string, Effect])[] = [
  ['paths', 'now'],
  ['clients', 'now'],
  ['relay', 'now'],
  ['signal', 'now'],
  ['traffic', 'now'],
  ['traffic.checksum', 'new-connections'],
  ['traffic.receive_buffer', 'new-connections'],
  ['capture.default_route', 'now'],
  ['capture.include', 'now'],
  ['capture.exclude', 'now'],
  ['log.level', 'now'],
  // Of flows: those that begin from then on.
  ['flows', 'new-connections'],
  ['flows.proxy', 'restart'],
  ['convert', 'new-connections'],
  ['convert.listen', 'restart'],
];

export function valuesOf({ raw, derived, config }: LoadedConfig): Values {
  const values = new Map<string, string>();
  flatten(raw, [], values);
  for (const { path, value } of derived) values.set(formatKeyPath(path), text(value));
  // A pin may come from a file, whose name says nothing of what it holds.
  for (const [key, pin] of pinsOf(config)) values.set(key, `sha256/${pin}`);
  return values;
}

export function changesBetween(before: Values, after: Values): ConfigChange[] {
  const keys = new Set([...after.keys(), ...before.keys()]);
  const changes: ConfigChange[] = [];
  for (const key of keys) {
    const old = before.get(key) ?? NONE;
    const now = after.get(key) ?? NONE;
    if (old !== now) changes.push({ key, before: old, after: now, effect: effectOf(key) });
  }
  return changes;
}

/** `paths[1].role: always -> backup`, with what it takes. */
export function changeText({ key, before, after, effect }: ConfigChange): string {
  const takes = { now: '', 'new-connections': ' (for new connections)', restart: ' (needs a restart)' }[effect];
  return `${key}: ${before} -> ${after}${takes}`;
}

/** `after` where a reload takes it over, and `before` where that needs a restart: what is in force after a reload. */
export function inForce(before: Values, after: Values): Values {
  const values = new Map<string, string>();
  for (const key of new Set([...after.keys(), ...before.keys()])) {
    const value = (effectOf(key) === 'restart' ? before : after).get(key);
    if (value !== undefined) values.set(key, value);
  }
  return values;
}

const NONE = '(none)';

function effectOf(key: string): Effect {
  let best: readonly [string, Effect] = ['', 'restart'];
  for (const entry of EFFECTS) {
    const [prefix] = entry;
    const isUnder = key === prefix || key.startsWith(`${prefix}.`) || key.startsWith(`${prefix}[`);
    if (isUnder && prefix.length > best[0].length) best = entry;
  }
  return best[1];
}

/** Maps, and lists of maps, key by key; lists of values are one value. */
function flatten(value: unknown, path: KeyPath, into: Map<string, string>): void {
  const isList = Array.isArray(value) && value.length > 0 && value.every((v) => v !== null && typeof v === 'object');
  const isMap = value !== null && typeof value === 'object' && !Array.isArray(value);
  if (!isList && !isMap) {
    into.set(formatKeyPath(path), text(value));
    return;
  }
  for (const [key, inner] of Object.entries(value)) flatten(inner, [...path, isList ? Number(key) : key], into);
}

function text(value: unknown): string {
  return Array.isArray(value) ? `[${value.map(text).join(', ')}]` : String(value);
}

function pinsOf(config: Config): [string, string][] {
  if (config.mode === 'client') return [['server.public_key', config.server.pin]];
  return config.clients.map((c, i) => [`clients[${i}].public_key`, c.pin]);
}

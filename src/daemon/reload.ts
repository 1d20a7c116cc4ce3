/**
 * A changed configuration in a running daemon: what has changed, which of that takes effect now, and what stays as it was until
 * a restart. No connection is dropped.
 */
import {
  type ConfigChange,
  changesBetween,
  changeText,
  type Effect,
  inForce,
  type Values,
  valuesOf,
} from '../config/diff.js';
import type { LoadedConfig } from '../config/load.js';
import type { ClientConfig, Config, ServerConfig } from '../config/types.js';
import type { CommandResult } from '../control/protocol.js';

export interface Reload {
  /** What is to be in force from now on. */
  readonly config: Config;
  readonly values: Values;
  readonly result: CommandResult;
}

/** `running` and `values`: what is in force now. The mode is the same in both. */
export function planReload(running: Config, values: Values, next: LoadedConfig): Reload {
  const after = valuesOf(next);
  const isPoolNew = running.mode === 'server' && [...after].some(([key, v]) => isPool(key) && values.get(key) !== v);
  // Clients' inner addresses come out of the pool, which stays the old one.
  const effectOf = (change: ConfigChange): Effect =>
    isPoolNew && change.key.startsWith('clients') ? 'restart' : change.effect;
  const changes = changesBetween(values, after).map((change) => ({ ...change, effect: effectOf(change) }));
  const config =
    running.mode === 'client'
      ? mergeClient(running, next.config as ClientConfig)
      : mergeServer(running, next.config as ServerConfig, isPoolNew);
  return { config, values: inForce(values, after), result: summary(changes) };
}

function summary(changes: readonly ConfigChange[]): CommandResult {
  const waiting = changes.filter((c) => c.effect === 'restart').length;
  const done = changes.length - waiting;
  let message = 'configuration reloaded: nothing has changed';
  if (waiting === 0 && done > 0) message = `configuration reloaded: ${count(done, 'change')}`;
  if (waiting > 0) message = `configuration reloaded: ${count(done, 'change')}, and ${waiting} that need a restart`;
  return { ok: true, message, details: changes.map(changeText) };
}

function mergeClient(old: ClientConfig, next: ClientConfig): ClientConfig {
  const { table, rulePriority } = old.capture;
  return {
    ...next,
    ...fixed(old, next),
    mode: 'client',
    server: old.server,
    capture: { ...next.capture, table, rulePriority },
  };
}

function mergeServer(old: ServerConfig, next: ServerConfig, isPoolNew: boolean): ServerConfig {
  const { listen, pool, egress } = old;
  const clients = isPoolNew ? old.clients : next.clients;
  return { ...next, ...fixed(old, next), mode: 'server', listen, pool, egress, clients };
}

function fixed<C extends Config>(
  old: C,
  next: C,
): Pick<C, 'name' | 'keyFile' | 'stateDir' | 'tun' | 'control' | 'metrics'> & { log: C['log'] } {
  const { name, keyFile, stateDir, tun, control, metrics } = old;
  return { name, keyFile, stateDir, tun, control, metrics, log: { level: next.log.level, format: old.log.format } };
}

function isPool(key: string): boolean {
  return key.startsWith('pool.');
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`;
}

/** File to configuration: read, parse, check everything, and either a complete frozen `Config` or all errors at once. */
import { readFileSync } from 'node:fs';
import { resolve as resolvePath } from 'node:path';
import type { z } from 'zod';

import { ConfigDocument, formatKeyPath, type KeyPath } from './document.js';
import { type ConfigError, ConfigErrors } from './errors.js';
import { didYouMean } from './fields.js';
import { lintClient, lintServer } from './lint.js';
import { type Derived, Resolver } from './resolve.js';
import { clientSchema, type RawClient, type RawConfig, type RawServer, serverSchema } from './schema.js';
import type { Config } from './types.js';

export interface LoadedConfig {
  readonly config: Config;
  readonly document: ConfigDocument;
  /** The YAML form with every default filled in. */
  readonly raw: RawConfig;
  /** Key paths whose default depends on other values, with the reason. */
  readonly derived: readonly Derived[];
}

/** The configuration in `file`. Throws ConfigErrors with everything that is wrong. */
export function loadConfig(file: string): Config {
  return loadConfigInDetail(file).config;
}

export function loadConfigInDetail(file: string): LoadedConfig {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (err) {
    const code = (err as NodeJS.ErrnoException).code;
    const message = code === 'ENOENT' ? 'no such file' : `cannot be read (${code})`;
    throw new ConfigErrors([
      { file, line: 0, column: 0, path: '', message, hint: 'see configs/client.yaml for an example' },
    ]);
  }
  return parseConfig(file, text);
}

/** As loadConfig for text already read; `file` names it and is where relative paths start. */
export function parseConfig(file: string, text: string): LoadedConfig {
  const document = new ConfigDocument(file, text);
  const syntax = document.syntaxErrors();
  if (syntax.length > 0) throw new ConfigErrors(syntax);

  const errors: ConfigError[] = [];
  const report = (path: KeyPath, message: string, hint: string, atKey = false) => {
    const { line, column } = atKey ? document.keyPosition(path) : document.position(path);
    errors.push({ file, line, column, path: formatKeyPath(path), message, hint });
  };

  const value = document.value();
  const mode = value !== null && typeof value === 'object' ? (value as Record<string, unknown>).mode : undefined;
  if (mode !== 'client' && mode !== 'server') {
    const hint =
      (typeof mode === 'string' && didYouMean(mode, ['client', 'server'])) || 'give mode: client or mode: server';
    report(['mode'], mode === undefined ? 'is missing' : `${JSON.stringify(mode)} is not valid here`, hint);
    throw new ConfigErrors(errors);
  }

  const schema = mode === 'client' ? clientSchema : serverSchema;
  const parsed = schema.safeParse(value);
  if (!parsed.success) for (const issue of parsed.error.issues) reportIssue(issue, schema, report);

  const resolver = new Resolver(resolvePath(file), report);
  if (!parsed.success) {
    // What involves several keys waits for a whole configuration; the files that it names need not.
    resolver.filesOf(value);
    throw new ConfigErrors(byPosition(errors));
  }
  const raw: RawClient | RawServer = parsed.data;
  const config = raw.mode === 'client' ? resolver.client(raw) : resolver.server(raw);
  if (config.mode === 'client') lintClient(config, report);
  else lintServer(config, report);
  if (errors.length > 0) throw new ConfigErrors(byPosition(errors));
  return { config: deepFreeze(config), document, raw, derived: resolver.derived };
}

/** Notes an error at a key path; `atKey` points at the key instead of its value. */
export type Report = (path: KeyPath, message: string, hint: string, atKey?: boolean) => void;

function reportIssue(issue: z.core.$ZodIssue, schema: z.ZodType, report: Report): void {
  const path = issue.path as (string | number)[];
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = keysAt(schema, path);
      for (const key of issue.keys) {
        report([...path, key], 'unknown key', didYouMean(key, known) ?? `known here: ${known.join(', ')}`, true);
      }
      return;
    }
    case 'invalid_type': {
      const wanted =
        issue.expected === 'array' ? 'a list' : issue.expected === 'object' ? 'a map of keys' : issue.expected;
      report(
        path,
        issue.input === undefined && !/received/.test(issue.message) ? 'is missing' : describeType(issue),
        `give ${wanted}`,
      );
      return;
    }
    default: {
      const [message, hint] = issue.message.split('\n');
      report(path, message!, hint ?? '');
    }
  }
}

function describeType(issue: z.core.$ZodIssueInvalidType): string {
  return /received undefined/.test(issue.message) ? 'is missing' : 'has the wrong shape';
}

/** Keys that the schema knows at `path`. */
function keysAt(schema: z.ZodType, path: KeyPath): string[] {
  let at: unknown = unwrap(schema);
  for (const step of path) {
    const def = (at as { def: { shape?: Record<string, unknown>; element?: unknown } }).def;
    at = unwrap(typeof step === 'number' ? def.element : def.shape?.[step]);
  }
  return Object.keys((at as { def: { shape?: Record<string, unknown> } }).def.shape ?? {});
}

/** The schema inside `.default()`, `.prefault()` and `.nullable()`. */
function unwrap(schema: unknown): unknown {
  let at = schema as { def: { innerType?: unknown } };
  while (at.def.innerType !== undefined) at = at.def.innerType as typeof at;
  return at;
}

function byPosition(errors: readonly ConfigError[]): ConfigError[] {
  return [...errors].sort((a, b) => a.line - b.line || a.column - b.column);
}

function deepFreeze<T>(value: T): T {
  // A typed array (an address's bytes) cannot be frozen.
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return value;
  for (const inner of Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}

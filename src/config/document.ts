/** A YAML file with positions: plain values for the schema, and line:column for any key path. */
import {
  type Document,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
} from 'yaml';

import type { ConfigError } from './errors.js';

export type KeyPath = readonly (string | number)[];

export interface Position {
  readonly line: number;
  readonly column: number;
}

export class ConfigDocument {
  private readonly lines = new LineCounter();
  private readonly document: Document.Parsed;

  constructor(
    readonly file: string,
    text: string,
  ) {
    this.document = parseDocument(text, { lineCounter: this.lines, prettyErrors: false, uniqueKeys: true });
  }

  /** Syntax errors; aliases and keys that are no plain words count as such: a configuration has no use for them. */
  syntaxErrors(): ConfigError[] {
    const found = this.document.errors.map((err) => ({
      offset: err.pos[0],
      message: `not valid YAML: ${err.message}`,
    }));
    visit(this.document, {
      Pair: (_, pair) => {
        if (!isScalar(pair.key)) found.push({ offset: offsetOf(pair.key) ?? 0, message: 'a key must be a plain word' });
      },
      Alias: (_, alias) => {
        found.push({ offset: alias.range?.[0] ?? 0, message: `aliases are not used here: *${alias.source}` });
      },
    });
    return found.map(({ offset, message }) => {
      const { line, col } = this.lines.linePos(offset);
      return { file: this.file, line, column: col, path: '', message, hint: '' };
    });
  }

  /** Plain values; only without syntax errors. */
  value(): unknown {
    return this.document.toJS() as unknown;
  }

  has(path: KeyPath): boolean {
    return path.length === 0 ? this.document.contents !== null : this.document.hasIn(path);
  }

  /** Where the value at `path` begins; where it is absent, the key of the nearest enclosing map or list. */
  position(path: KeyPath): Position {
    let node: unknown = this.document.contents;
    let at = offsetOf(node);
    for (const step of path) {
      let next: unknown;
      if (isMap(node)) {
        const pair = node.items.find((item) => keyText(item.key) === String(step));
        if (pair === undefined) break;
        at = offsetOf(pair.key) ?? at;
        next = pair.value;
      } else if (isSeq(node)) {
        next = node.items[Number(step)];
      }
      if (next === undefined || next === null) break;
      node = next;
      if (!isMap(node) && !isSeq(node)) at = offsetOf(node) ?? at;
      else if (typeof step === 'number') at = offsetOf(node) ?? at;
    }
    const { line, col } = this.lines.linePos(at ?? 0);
    return { line, column: col };
  }

  /** Where the key itself stands (unknown keys are pointed at, not their values). */
  keyPosition(path: KeyPath): Position {
    const parent = path.length === 1 ? this.document.contents : this.document.getIn(path.slice(0, -1), true);
    const key = isMap(parent) ? parent.items.find((item) => keyText(item.key) === String(path.at(-1)))?.key : undefined;
    const at = offsetOf(key);
    if (at === undefined) return this.position(path);
    const { line, col } = this.lines.linePos(at);
    return { line, column: col };
  }
}

/** `paths[1].match.name` */
export function formatKeyPath(path: KeyPath): string {
  let out = '';
  for (const step of path) out += typeof step === 'number' ? `[${step}]` : out === '' ? step : `.${step}`;
  return out;
}

function offsetOf(node: unknown): number | undefined {
  if (isPair(node)) return offsetOf(node.key);
  return isNode(node) ? ((node as Node).range?.[0] ?? undefined) : undefined;
}

function keyText(key: unknown): string {
  return isScalar(key) ? String(key.value) : String(key);
}

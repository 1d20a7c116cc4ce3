/** Reads docs/protocol.md, and the table of docs/paths.md: sections, rows, and what each row names. */
import { readFileSync } from 'node:fs';
import { REPOSITORY } from './files.js';

export interface Place {
  readonly file: string;
  /** Declared in the file; dotted if a class or interface is named with its member. */
  readonly symbol: string;
}

export interface NamedTest {
  readonly file: string;
  /** As it stands in the source, `${…}` included. */
  readonly title: string;
}

export interface Row {
  readonly id: string;
  /** Empty if the rule is deliberately not followed. */
  readonly places: readonly Place[];
  readonly tests: readonly NamedTest[];
  /** Why the rule is not followed, or null. */
  readonly reason: string | null;
}

export interface Section {
  readonly heading: string;
  readonly rows: readonly Row[];
  /** What could not be read, each with its line. */
  readonly mistakes: readonly string[];
}

/** The rows that there must be, per section: names of the mutation files, headings, row ids. */
export interface ExpectedSection {
  readonly section: string;
  readonly heading: string;
  readonly rows: readonly string[];
}

export function expectedSections(): readonly ExpectedSection[] {
  return JSON.parse(readFileSync(`${REPOSITORY}/tests/fixtures/protocol-rows.json`, 'utf8'));
}

export function readProtocol(): readonly Section[] {
  const read = (name: string) => parseProtocol(readFileSync(`${REPOSITORY}/docs/${name}.md`, 'utf8'));
  return [...read('protocol'), ...read('paths').filter(({ rows }) => rows.length > 0)];
}

export function parseProtocol(markdown: string): readonly Section[] {
  return markdown
    .split(/^## /m)
    .slice(1)
    .map((text) => {
      const lines = text.split('\n');
      const mistakes: string[] = [];
      const rows = lines.filter((line) => /^\| *[A-Z]\d/.test(line)).map((line) => parseRow(line, mistakes));
      return { heading: lines[0]!.trim(), rows, mistakes };
    });
}

function parseRow(line: string, mistakes: string[]): Row {
  const cells = line
    .replace(/^\| */, '')
    .replace(/ *\|\s*$/, '')
    .split(/ *(?<!\\)\| */)
    .map((cell) => cell.replaceAll('\\|', '|').trim());
  const [id = '', rfc = '', rule = '', where = '', test = ''] = cells;
  if (cells.length !== 5 || rfc === '' || rule === '' || where === '' || test === '')
    mistakes.push(`${id}: five filled cells`);
  if (where.includes('not followed')) return { id, places: [], tests: [], reason: test };
  return {
    id,
    places: parts(where).flatMap((part) => {
      const match = /^([\w./-]+)#([\w.$]+)$/.exec(part.replaceAll('`', ''));
      if (match === null) mistakes.push(`${id}: not file#symbol: ${part}`);
      return match === null ? [] : [{ file: match[1]!, symbol: match[2]! }];
    }),
    tests: parts(test).flatMap((part) => {
      const match = /^`?([\w./-]+)`?: "(.*)"$/.exec(part);
      if (match === null) mistakes.push(`${id}: not file: "title": ${part}`);
      return match === null ? [] : [{ file: match[1]!, title: match[2]! }];
    }),
    reason: null,
  };
}

const parts = (cell: string): readonly string[] => cell.split(/ *<br> */).filter((part) => part !== '');

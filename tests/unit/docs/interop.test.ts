/** docs/interop.md names only tests that exist, and every scenario of the matrix. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import test from 'ava';
import { REPOSITORY } from '../../support/files.js';
import { Sources } from '../../support/syntax.js';

const sources = new Sources();
test.after.always(() => sources.close());

/** What the last cell of a row names: each part is file: "title". */
interface NamedRow {
  readonly what: string;
  readonly parts: readonly string[];
}

const rows: readonly NamedRow[] = readFileSync(`${REPOSITORY}/docs/interop.md`, 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| what \|/.test(line))
  .map((line) => {
    const cells = line.split('|').map((cell) => cell.trim());
    return { what: cells[1]!, parts: cells.at(-2)!.split('<br>') };
  });
const PART = /^([\w./-]+): "(.+)"$/;
const named = rows.flatMap(({ what, parts }) =>
  parts.map((part) => {
    const [, file = '', title = ''] = PART.exec(part) ?? [];
    return { what, part, file, title };
  }),
);

/** A title as it stands in the source; what is put into it stands for anything. */
function matches(source: string, title: string): boolean {
  const pieces = source.split(/\$\{[^}]*\}/).map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${pieces.join('.*')}$`).test(title);
}

test('every row names at least one test, and every test that it names exists', (t) => {
  t.true(rows.length > 40, `${rows.length} rows`);
  const titles = new Map<string, readonly string[]>();
  for (const { what, part, file, title } of named) {
    if (!t.regex(part, PART, what)) continue;
    if (!t.true(existsSync(`${REPOSITORY}/${file}`), `${what}: no file ${file}`)) continue;
    if (!titles.has(file)) titles.set(file, [...sources.testTitles(file)]);
    // A title that is nothing but what is put into it would match everything.
    const known = titles.get(file)!.filter((source) => /\w{3}/.test(source.replace(/\$\{[^}]*\}/g, '')));
    t.true(
      known.some((source) => matches(source, title)),
      `${what}: ${file} has no test "${title}"`,
    );
  }
});

test('every scenario of the matrix has its row', (t) => {
  const files = readdirSync(`${REPOSITORY}/tests/interop`).filter((name) => /^matrix-.*\.test\.ts$/.test(name));
  t.true(files.length >= 3);
  for (const name of files) {
    const file = `tests/interop/${name}`;
    for (const source of sources.testTitles(file))
      t.true(
        named.some((n) => n.file === file && matches(source, n.title)),
        `${file}: "${source}" has no row`,
      );
  }
});

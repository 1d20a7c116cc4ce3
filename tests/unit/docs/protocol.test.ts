/** docs/protocol.md and tests/mutations name only what exists, and leave no rule out. */
import { existsSync, readFileSync } from 'node:fs';
import test from 'ava';
import { MUTATIONS } from '../../mutations/index.js';
import { rowsOf } from '../../mutations/mutation.js';
import { REPOSITORY } from '../../support/files.js';
import { expectedSections, parseProtocol, type Row, readProtocol } from '../../support/protocol-table.js';
import { Sources } from '../../support/syntax.js';

const sections = readProtocol();
const expected = expectedSections();
const sources = new Sources();
test.after.always(() => sources.close());

const rows = sections.flatMap((section) => section.rows.map((row) => ({ section: section.heading, ...row })));
const nameOf = (row: Row & { section: string }) => `${row.section}, ${row.id}`;

/** One reading per file. */
function memo<T>(read: (file: string) => T): (file: string) => T {
  const known = new Map<string, T>();
  return (file) => {
    if (!known.has(file)) known.set(file, read(file));
    return known.get(file)!;
  };
}
const isFile = (file: string) => existsSync(`${REPOSITORY}/${file}`);
const declared = memo((file) => sources.declared(file));
const testTitles = memo((file) => sources.testTitles(file));
const text = memo((file) => readFileSync(`${REPOSITORY}/${file}`, 'utf8'));

test('the sections are the expected ones, in their order, and every row can be read', (t) => {
  t.deepEqual(
    sections.map((section) => section.heading),
    expected.map((section) => section.heading),
  );
  t.deepEqual(
    sections.flatMap((section) => section.mistakes),
    [],
  );
});

test('every rule has its row, once and in order', (t) => {
  for (const [i, section] of sections.entries()) {
    const ids = section.rows.map((row) => row.id);
    t.deepEqual(ids, expected[i]!.rows, section.heading);
  }
});

test('every place that a row names exists: file and symbol', (t) => {
  const mistakes: string[] = [];
  for (const row of rows) {
    for (const { file, symbol } of row.places) {
      if (!isFile(file)) mistakes.push(`${nameOf(row)}: no file ${file}`);
      else if (!symbol.split('.').every((name) => declared(file).has(name)))
        mistakes.push(`${nameOf(row)}: ${file} declares no ${symbol}`);
    }
    if (row.reason === null && row.places.length === 0) mistakes.push(`${nameOf(row)}: no place`);
  }
  t.deepEqual(mistakes, []);
});

test('every test that a row names exists under that title', (t) => {
  const mistakes: string[] = [];
  for (const row of rows) {
    for (const { file, title } of row.tests) {
      if (!isFile(file)) mistakes.push(`${nameOf(row)}: no file ${file}`);
      else if (!testTitles(file).has(title)) mistakes.push(`${nameOf(row)}: ${file} has no test "${title}"`);
    }
    if (row.reason === null && row.tests.length === 0) mistakes.push(`${nameOf(row)}: no test`);
  }
  t.deepEqual(mistakes, []);
});

test('every mutation edits one place and belongs to a row that is followed', (t) => {
  t.deepEqual(
    Object.keys(MUTATIONS),
    expected.map(({ section }) => section),
  );
  const mistakes: string[] = [];
  for (const [i, { section }] of expected.entries()) {
    for (const mutation of MUTATIONS[section]!) {
      const what = `${section}, ${rowsOf(mutation).join(' ')}: ${mutation.file}: ${mutation.find}`;
      const times = isFile(mutation.file) ? text(mutation.file).split(mutation.find).length - 1 : 0;
      if (times !== 1) mistakes.push(`${what}: occurs ${times} times`);
      if (mutation.find === mutation.replace) mistakes.push(`${what}: changes nothing`);
      for (const id of rowsOf(mutation)) {
        const isFollowed = sections[i]?.rows.some((row) => row.id === id && row.reason === null);
        if (isFollowed !== true) mistakes.push(`${what}: no such row that is followed`);
      }
    }
  }
  t.deepEqual(mistakes, []);
});

test('every rule that src follows can be disabled by a mutation', (t) => {
  const missing: string[] = [];
  for (const [i, { section }] of expected.entries()) {
    const mutated = new Set(MUTATIONS[section]!.flatMap(rowsOf));
    for (const row of sections[i]!.rows) {
      const isInSource = row.places.some(({ file }) => file.startsWith('src/'));
      if (isInSource && !mutated.has(row.id)) missing.push(`${section}, ${row.id}`);
    }
  }
  t.deepEqual(missing, []);
});

test('the table is read as it is written', (t) => {
  const head = '## A. b\n\n| row | RFC | rule | where | test |\n|---|---|---|---|---|\n';
  const [section] = parseProtocol(
    `${head}| A1 | 1 | r \\| s | \`a/b.ts#c\`<br>d.ts#E.f | t.ts: "x "y" \${z}"<br>u.ts: "v" |\n| A2 | 1 | r | *not followed* | because |\n| A3 | 1 | r | a.ts | "x" |\n`,
  );
  t.deepEqual(section, {
    heading: 'A. b',
    rows: [
      {
        id: 'A1',
        places: [
          { file: 'a/b.ts', symbol: 'c' },
          { file: 'd.ts', symbol: 'E.f' },
        ],
        tests: [
          { file: 't.ts', title: `x "y" \${z}` },
          { file: 'u.ts', title: 'v' },
        ],
        reason: null,
      },
      { id: 'A2', places: [], tests: [], reason: 'because' },
      { id: 'A3', places: [], tests: [], reason: null },
    ],
    mistakes: ['A3: not file#symbol: a.ts', 'A3: not file: "title": "x"'],
  });
});

test('titles are found in every form that the tests use', (t) => {
  t.true(testTitles('tests/unit/docs/protocol.test.ts').has('titles are found in every form that the tests use'));
  t.true(
    testTitles('tests/unit/tcp/transfer.test.ts').has(
      `\${name}: 1 % loss, 50 ms: throughput within sight of the formula`,
    ),
  );
  t.false(testTitles('tests/unit/tcp/transfer.test.ts').has('no such title'));
});

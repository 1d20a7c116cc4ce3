/** Receipts outlive a restart, and are bounded. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { KEPT_RECEIPTS, ReceiptFile } from '../../../src/daemon/receipt-file.js';
import { sampleReceipt } from '../../support/fake-daemon.js';
import { temporaryDirectory } from '../../support/files.js';

const { id: _, ...receipt } = sampleReceipt();

test('kept across a restart, numbered on, the oldest goes', (t) => {
  const file = join(temporaryDirectory(t), 'state', 'receipts.json');
  const problems: string[] = [];
  const first = new ReceiptFile(file, (m) => problems.push(m));
  t.deepEqual(first.newest(5), []);
  for (let i = 0; i < KEPT_RECEIPTS; i++) first.add(receipt);
  first.close();
  t.is(statSync(file).mode & 0o777, 0o600);
  const second = new ReceiptFile(file, (m) => problems.push(m));
  t.is(second.add({ ...receipt, detail: 'next' }).id, KEPT_RECEIPTS + 1);
  t.deepEqual(
    second.newest(2).map((r) => [r.id, r.detail]),
    [
      [KEPT_RECEIPTS, receipt.detail],
      [KEPT_RECEIPTS + 1, 'next'],
    ],
  );
  t.is(second.newest(1_000).length, KEPT_RECEIPTS);
  second.close();
  t.is(new ReceiptFile(file, () => {}).newest(1_000).at(-1)!.detail, 'next');
  t.deepEqual(problems, []);
});

test('a file that is no such file is said, and replaced by the next receipt', (t) => {
  const file = join(temporaryDirectory(t), 'receipts.json');
  for (const text of ['{"schema":', '[]', '{"schema":"mptun.history/9","receipts":[]}']) {
    writeFileSync(file, text);
    const problems: string[] = [];
    const receipts = new ReceiptFile(file, (m) => problems.push(m));
    t.deepEqual(receipts.newest(5), []);
    t.is(problems.length, 1, text);
    receipts.add(receipt);
    receipts.close();
    t.is((JSON.parse(readFileSync(file, 'utf8')) as { receipts: unknown[] }).receipts.length, 1);
  }
});

test('a directory that cannot be written is said, and the receipts are still there', (t) => {
  const blocked = join(temporaryDirectory(t), 'file');
  writeFileSync(blocked, '');
  const problems: string[] = [];
  const receipts = new ReceiptFile(join(blocked, 'receipts.json'), (m) => problems.push(m));
  receipts.add(receipt);
  receipts.close();
  t.is(receipts.newest(1).length, 1);
  t.regex(problems.at(-1)!, /^receipts are not kept: /);
  t.false(existsSync(join(blocked, 'receipts.json')));
});

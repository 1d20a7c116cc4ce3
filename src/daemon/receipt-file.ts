/** The receipts that are kept: the newest ones, in memory and in the state directory, so that they outlive a restart. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type HandoverReceipt, HISTORY_SCHEMA } from '../control/protocol.js';

/** Receipts kept; when full, the oldest goes. About 100 KB of file. */
export const KEPT_RECEIPTS = 256;
/** Written this long after the first that is not in the file yet: flapping links cost one write, not ten. */
const WRITE_AFTER_MS = 1_000;

export class ReceiptFile {
  private readonly kept: HandoverReceipt[];
  private timer: NodeJS.Timeout | null = null;
  private isDirty = false;

  /** `onProblem` hears of a file that cannot be read or written; receipts are then kept in memory only. */
  constructor(
    private readonly file: string,
    private readonly onProblem: (message: string) => void,
  ) {
    this.kept = this.read();
  }

  /** Gives the receipt its number and keeps it. */
  add(receipt: Omit<HandoverReceipt, 'id'>): HandoverReceipt {
    const numbered = { id: (this.kept.at(-1)?.id ?? 0) + 1, ...receipt };
    this.kept.push(numbered);
    if (this.kept.length > KEPT_RECEIPTS) this.kept.shift();
    this.isDirty = true;
    this.timer ??= setTimeout(() => void this.write(), WRITE_AFTER_MS).unref();
    return numbered;
  }

  /** The newest `count`, oldest first. */
  newest(count: number): HandoverReceipt[] {
    return this.kept.slice(-count);
  }

  /** Writes what is not in the file yet. */
  close(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    if (!this.isDirty) return;
    this.isDirty = false;
    try {
      mkdirSync(dirname(this.file), { recursive: true, mode: 0o700 });
      writeFileSync(`${this.file}.last`, this.text(), { mode: 0o600 });
      renameSync(`${this.file}.last`, this.file);
    } catch (error) {
      this.onProblem(`receipts are not kept: ${(error as Error).message}`);
    }
  }

  private async write(): Promise<void> {
    this.timer = null;
    this.isDirty = false;
    try {
      // Another name than close() writes to: the two may meet.
      await writeFile(`${this.file}.new`, this.text(), { mode: 0o600 });
      await rename(`${this.file}.new`, this.file);
    } catch (error) {
      this.onProblem(`receipts are not kept: ${(error as Error).message}`);
    }
  }

  private text(): string {
    return `${JSON.stringify({ schema: HISTORY_SCHEMA, receipts: this.kept })}\n`;
  }

  private read(): HandoverReceipt[] {
    let text: string;
    try {
      text = readFileSync(this.file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.onProblem(`${this.file}: ${(error as Error).message}`);
      return [];
    }
    try {
      const document = JSON.parse(text) as { schema?: unknown; receipts?: unknown };
      if (document.schema === HISTORY_SCHEMA && Array.isArray(document.receipts)) {
        return (document.receipts as HandoverReceipt[])
          .filter((r) => Number.isSafeInteger(r?.id))
          .slice(-KEPT_RECEIPTS);
      }
    } catch {
      // Said below.
    }
    this.onProblem(`${this.file} holds no receipts; a new one is begun`);
    return [];
  }
}

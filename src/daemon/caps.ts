/**
 * How much has gone over each link, day by day, for the caps of the configuration (`cap: {daily, monthly, …}`). What is paid
 * for is what goes over the link, so the interface's own counters are read, and the tunnel's share is not told apart.
 * Days are those of the local calendar.
 *
 * Kept in `usage.json` of the state directory: written seldom and whole (a new file, then renamed over the old one), so that a
 * crash never costs the file. It costs no bytes either, as long as the host is not started anew: what the interface's counter
 * said is kept with them, and counting goes on from there.
 *
 * The clock may be wrong: a machine without one begins in 1970. Then bytes are booked on the last day that is known, and a day
 * that lies in the future when the clock is right again counts as today: a clock that jumps never takes bytes off a cap.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import type { UsageCap } from '../config/types.js';

/** Days that are kept: a month that began up to 31 days ago, and the one before it. */
const DAYS_KEPT = 62;
/** Links that are kept; the one that was used longest ago goes first. */
const MAX_LINKS = 256;
/** Written when this old, or this much has been counted since, but not more often than that. */
const SAVE_MS = 60_000;
const SAVE_BYTES = 16_000_000;
const SAVE_AT_LEAST_MS = 5_000;
const VERSION = 1;
/** No clock that is set says less. */
const CLOCK_IS_SET = '2024-01-01';

/** A cap that is used up. */
export interface CapReached {
  readonly period: 'daily' | 'monthly';
  readonly usedBytes: number;
  readonly limitBytes: number;
  /** First day (local, YYYY-MM-DD) on which the link may be used as before. */
  readonly until: string;
}

export interface CapUsage {
  readonly dayBytes: number;
  readonly monthBytes: number;
  readonly reached: CapReached | null;
}

/** An interface's counter: which one it is (an interface that is made again begins anew), and what it said. */
export interface Counter {
  readonly id: string;
  readonly bytes: number;
}

interface LinkUsage {
  counter: Counter;
  /** Bytes by day (YYYY-MM-DD). */
  readonly days: Map<string, number>;
}

export class UsageBook {
  private readonly links = new Map<string, LinkUsage>();

  /** Books what the counter has gone on since last time; of a counter never seen, nothing. Returns the bytes. */
  count(link: string, counter: Counter, now: Date): number {
    const usage = this.links.get(link) ?? { counter, days: new Map<string, number>() };
    const before = usage.counter;
    usage.counter = counter;
    // The order of the map is the order of last use.
    this.links.delete(link);
    this.links.set(link, usage);
    if (this.links.size > MAX_LINKS)
      for (const oldest of [...this.links.keys()].slice(0, -MAX_LINKS)) this.links.delete(oldest);
    if (before.id !== counter.id || before.bytes === counter.bytes) return 0;
    const bytes = counter.bytes > before.bytes ? counter.bytes - before.bytes : counter.bytes;
    const { days } = usage;
    const today = this.settle(days, now);
    days.set(today, (days.get(today) ?? 0) + bytes);
    for (const day of [...days.keys()].sort().slice(0, -DAYS_KEPT)) days.delete(day);
    return bytes;
  }

  /** Whether counting goes on from this counter. */
  knows(link: string, counterId: string): boolean {
    return this.links.get(link)?.counter.id === counterId;
  }

  usage(link: string, cap: UsageCap, now: Date): CapUsage {
    const days = this.links.get(link)?.days ?? new Map<string, number>();
    const today = this.settle(days, now);
    const { first, next } = monthOf(today, cap.resetDay);
    const dayBytes = days.get(today) ?? 0;
    let monthBytes = 0;
    for (const [day, bytes] of days) if (day >= first) monthBytes += bytes;
    let reached: CapReached | null = null;
    if (cap.dailyBytes !== null && dayBytes >= cap.dailyBytes) {
      reached = { period: 'daily', usedBytes: dayBytes, limitBytes: cap.dailyBytes, until: dayAfter(today) };
    }
    // The month is the longer wait, so it is what matters where both are used up.
    if (cap.monthlyBytes !== null && monthBytes >= cap.monthlyBytes) {
      reached = { period: 'monthly', usedBytes: monthBytes, limitBytes: cap.monthlyBytes, until: next };
    }
    return { dayBytes, monthBytes, reached };
  }

  encode(): string {
    const links = Object.fromEntries(
      [...this.links].map(([link, { counter, days }]) => [link, { counter, days: Object.fromEntries(days) }]),
    );
    return `${JSON.stringify({ version: VERSION, links }, null, 1)}\n`;
  }

  /** False: not what `encode` writes; nothing was taken over. */
  decode(text: string): boolean {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return false;
    }
    const { version, links } = (value ?? {}) as { version?: unknown; links?: unknown };
    if (version !== VERSION || !isRecord(links)) return false;
    const read = new Map<string, LinkUsage>();
    for (const [link, usage] of Object.entries(links)) {
      if (!isRecord(usage) || !isRecord(usage.days) || !isRecord(usage.counter)) return false;
      const { id, bytes } = usage.counter;
      if (typeof id !== 'string' || !isCount(bytes)) return false;
      const days = Object.entries(usage.days);
      if (!days.every(([day, n]) => /^\d{4}-\d\d-\d\d$/.test(day) && isCount(n))) return false;
      read.set(link, { counter: { id, bytes }, days: new Map(days as [string, number][]) });
    }
    for (const [link, usage] of read) this.links.set(link, usage);
    return true;
  }

  /** Today, with everything that a wrong clock booked on days that cannot be moved to it. */
  private settle(days: Map<string, number>, now: Date): string {
    const today = textOfDay(now);
    if (today < CLOCK_IS_SET) return [...days.keys()].sort().at(-1) ?? today;
    for (const [day, bytes] of [...days]) {
      if (day <= today && day >= CLOCK_IS_SET) continue;
      days.delete(day);
      days.set(today, (days.get(today) ?? 0) + bytes);
    }
    return today;
  }
}

export interface UsageMeterOptions {
  /** Path of usage.json. */
  readonly file: string;
  /** Wall clock. */
  now(): Date;
  onProblem(message: string): void;
}

/** The book together with its file and the interfaces' counters. */
export class UsageMeter {
  private readonly book = new UsageBook();
  private unsavedBytes = 0;
  private savedAtMs: number;
  private isWriting = false;
  private isUrgent = false;
  private hasFailed = false;
  /** The last writing that was begun; for tests. */
  written: Promise<void> = Promise.resolve();

  constructor(private readonly options: UsageMeterOptions) {
    this.savedAtMs = options.now().getTime();
    this.load();
  }

  /** What the link's counter says now (received and sent). */
  sample(link: string, counter: Counter): void {
    // From where to count must be known after a crash as well.
    this.isUrgent ||= !this.book.knows(link, counter.id);
    this.unsavedBytes += this.book.count(link, counter, this.options.now());
  }

  usage(link: string, cap: UsageCap): CapUsage {
    return this.book.usage(link, cap, this.options.now());
  }

  /** Writes the file if it is worth it, in the background: a slow disk must not hold up packets. */
  save(): void {
    if ((this.unsavedBytes === 0 && !this.isUrgent) || this.isWriting) return;
    const nowMs = this.options.now().getTime();
    // A clock that was set back must not keep us from writing.
    const ageMs = nowMs >= this.savedAtMs ? nowMs - this.savedAtMs : SAVE_MS;
    const isDue = ageMs >= SAVE_MS || (this.unsavedBytes >= SAVE_BYTES && ageMs >= SAVE_AT_LEAST_MS);
    if (!isDue && !this.isUrgent) return;
    this.savedAtMs = nowMs;
    this.isUrgent = false;
    this.isWriting = true;
    const { unsavedBytes } = this;
    this.written = writeWhole(this.options.file, this.book.encode()).then(
      () => {
        this.isWriting = false;
        this.unsavedBytes -= unsavedBytes;
        this.hasFailed = false;
      },
      (error: Error) => {
        this.isWriting = false;
        this.onFailure(error);
      },
    );
  }

  /** Writes what is new, now: the end. */
  close(): void {
    if (this.unsavedBytes === 0) return;
    const { file } = this.options;
    try {
      writeFileSync(`${file}.last`, this.book.encode(), { mode: 0o600, flush: true });
      renameSync(`${file}.last`, file);
    } catch (error) {
      this.onFailure(error as Error);
    }
  }

  private onFailure(error: Error): void {
    if (!this.hasFailed) this.options.onProblem(`cannot keep the links' usage: ${error.message}`);
    this.hasFailed = true;
  }

  private load(): void {
    const { file, onProblem } = this.options;
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        onProblem(`cannot read ${file}: ${(error as Error).message}`);
      return;
    }
    if (this.book.decode(text)) return;
    // Kept for whoever wants to know; counting begins at nothing, which is said.
    try {
      renameSync(file, `${file}.bad`);
    } catch {
      // It will be overwritten instead.
    }
    onProblem(`${file} is damaged: the links' usage is counted from zero (the old file is ${file}.bad)`);
  }
}

/** What a link is called in the book: a burnt-in MAC stays when names change; made-up ones change, and names stay. */
export function usageKey(link: { name: string; mac: string | null; permanentMac: string | null }): string {
  const mac = link.permanentMac ?? link.mac;
  const isMadeUp = mac === null || (Number.parseInt(mac.slice(0, 2), 16) & 2) !== 0 || /^[0:]+$/.test(mac);
  return isMadeUp ? link.name : mac;
}

async function writeWhole(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text, { mode: 0o600, flush: true });
  await rename(`${file}.new`, file);
}

/** First day of the month that `day` is in, and of the next, for months that begin on `resetDay`. */
function monthOf(day: string, resetDay: number): { first: string; next: string } {
  const [year, month] = day.split('-').map(Number) as [number, number];
  const begin = (m: number) => {
    const lastDay = new Date(year, m, 0).getDate();
    return textOfDay(new Date(year, m - 1, Math.min(resetDay, lastDay)));
  };
  return day >= begin(month)
    ? { first: begin(month), next: begin(month + 1) }
    : { first: begin(month - 1), next: begin(month) };
}

function dayAfter(day: string): string {
  const [year, month, date] = day.split('-').map(Number) as [number, number, number];
  return textOfDay(new Date(year, month - 1, date + 1));
}

function textOfDay(date: Date): string {
  const two = (n: number) => String(n).padStart(2, '0');
  return `${String(date.getFullYear()).padStart(4, '0')}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

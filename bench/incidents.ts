/**
 * Things that happen to a link in the middle of a download, one after the other in one transfer, and what the receiver saw
 * of each. The same for the tunnel and for kernel MPTCP outside it.
 *
 *   both links carry data ─ out: something happens to the WiFi ─ it is out ─ back: it is right again ─ it is taken in ─ next
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { backInUseMs, IN_USE_SHARE } from '../src/lab/back-in-use.js';
import { Arrivals, download, type Lab, type LabLink, monotonicMs, type TransferOptions } from '../src/lab/index.js';
import type { Figure } from './handover-summary.js';
import { within } from './within.js';

export interface Incident {
  readonly id: string;
  /** Makes it happen; when it began, milliseconds of the monotonic clock. */
  out(): Promise<number>;
  readonly outMs: number;
  /** Undoes it; when the host could first know. */
  back(): Promise<number>;
  readonly backMs: number;
  /** Of the rows `ID.gap`, `.goodput`, `.back`, `.half` and `.taken-in`, those that are wanted. */
  readonly rows: readonly string[];
}

export interface Download {
  readonly lab: Lab;
  /** Which site, and how it is asked. */
  readonly transfer: Pick<TransferOptions, 'address' | 'port' | 'wrapper'>;
  /** The links' rates towards the client; incidents happen to the first. */
  readonly ratesBps: readonly number[];
  readonly note: (id: string, figure: Figure) => void;
  readonly isWanted: (id: string) => boolean;
}

/** Both links have to carry data before an incident means anything; a download that never comes to that is given up. */
const READY_TIMEOUT_MS = 8_000;
const POLL_MS = 100;
/** A link carries data when it did so over the last … */
const IN_USE_MS = 400;
const STEP_TIMEOUT_MS = 8_000;
const STEADY_MS = 1_000;
/** At first, for the transfer to find the rate. */
const SETTLE_MS = 500;
const DOWNLOADS_AT_MOST = 3;

export async function runIncidents(on: Download, incidents: readonly Incident[]): Promise<void> {
  let running: Running | null = null;
  let downloads = 0;
  try {
    for (const [index, incident] of incidents.entries()) {
      if (running !== null && running.ended !== null) running = null;
      if (running === null && downloads < DOWNLOADS_AT_MOST) {
        running = new Running(on);
        downloads++;
      }
      const why =
        running === null ? 'too many downloads were lost before' : await happen(on, running, incident, index === 0);
      if (why !== null) noteMissing(on, incident, why);
    }
  } finally {
    if (running !== null) {
      const failure = await running.stop();
      // Data that was not right makes every figure about it worthless.
      if (failure !== null) for (const incident of incidents) noteMissing(on, incident, failure);
    }
  }
}

/** One incident from its beginning to its end; why nothing came of it, or null. */
async function happen(on: Download, running: Running, incident: Incident, isFirst: boolean): Promise<string | null> {
  const wifi = on.lab.links[0]!;
  const { arrivals } = running;
  const id = (row: string) => `${incident.id}.${row}`;
  const note = (row: string, figure: Figure) => {
    if (incident.rows.includes(row)) on.note(id(row), figure);
  };
  const notReady = await becomeReady(on, running);
  if (notReady !== null) return notReady;
  if (isFirst) {
    await sleep(SETTLE_MS);
    if (on.isWanted('steady.gap')) {
      const fromMs = monotonicMs();
      await sleep(STEADY_MS);
      on.note('steady.gap', arrivals.gapBetweenMs(fromMs, fromMs + STEADY_MS));
    }
  }
  let isOut = false;
  try {
    isOut = true;
    const outMs = await within(incident.out(), STEP_TIMEOUT_MS, `${incident.id}: making it happen`);
    await sleep(Math.max(0, outMs + incident.outMs - monotonicMs()));
    const outEndMs = monotonicMs();
    if (running.ended !== null) return `the download was lost: ${running.ended}`;
    const isIdle = (await share(wifi, on.ratesBps[0]!)) < IN_USE_SHARE;
    note('gap', isIdle ? arrivals.gapBetweenMs(outMs, outEndMs) : { missing: 'the WiFi went on carrying data' });
    const goodputMs = goodputBackMs(arrivals, outMs, outEndMs, on.ratesBps[1]!);
    note('goodput', goodputMs ?? { missing: `not within ${incident.outMs} ms` });
    const backMs = await within(incident.back(), STEP_TIMEOUT_MS, `${incident.id}: undoing it`);
    isOut = false;
    await sleep(Math.max(0, backMs + incident.backMs - monotonicMs()));
    const endMs = monotonicMs();
    if (running.ended !== null) return `the download was lost: ${running.ended}`;
    const notSeen = (): Figure => ({
      missing: isIdle ? `not within ${incident.backMs} ms` : 'the WiFi was never idle',
    });
    const backAfterMs = isIdle ? await backInUseMs(wifi, on.ratesBps[0]!, backMs, endMs) : null;
    const halfAfterMs = isIdle ? await backInUseMs(wifi, on.ratesBps[0]!, backMs, endMs, 0.5) : null;
    note('back', backAfterMs ?? notSeen());
    note('half', halfAfterMs ?? notSeen());
    // A link that is not taken in makes no gap: that is not what is promised.
    note('taken-in', backAfterMs === null ? notSeen() : arrivals.gapBetweenMs(backMs, endMs));
    return null;
  } catch (error) {
    return (error as Error).message;
  } finally {
    if (isOut) await within(incident.back(), STEP_TIMEOUT_MS, 'undoing it').catch(() => {});
  }
}

/** Waits until all links carry data; why that did not happen, or null. */
async function becomeReady(on: Download, running: Running): Promise<string | null> {
  const deadlineMs = monotonicMs() + READY_TIMEOUT_MS;
  for (;;) {
    if (running.ended !== null) return `the download was lost: ${running.ended}`;
    const shares = await Promise.all(on.lab.links.map((link, i) => share(link, on.ratesBps[i]!)));
    const idle = on.lab.links.filter((_, i) => shares[i]! < IN_USE_SHARE);
    if (idle.length === 0) return null;
    if (monotonicMs() > deadlineMs) {
      return `${idle.map((link) => link.name).join(' and ')} carried no data before it, for ${READY_TIMEOUT_MS / 1000} s`;
    }
    await sleep(POLL_MS);
  }
}

/** Of its rate, what a link has carried towards the client lately. */
async function share(link: LabLink, rateBps: number): Promise<number> {
  const nowMs = monotonicMs();
  const timeline = link.timeline('down', nowMs - IN_USE_MS, nowMs);
  const { bytes } = await within(timeline, STEP_TIMEOUT_MS, 'asking the emulator');
  return (bytes.reduce((sum, n) => sum + n, 0) * 8000) / IN_USE_MS / rateBps;
}

function noteMissing(on: Download, incident: Incident, why: string): void {
  for (const row of incident.rows) on.note(`${incident.id}.${row}`, { missing: why });
}

const SPAN_MS = 100;
const SPANS = 5;
const GOODPUT_SHARE = 0.9;
/** Of the mean that is wanted, the least in any span: it flows, and has not come all at once. */
const SPAN_SHARE = 0.5;
const STEP_MS = 10;

/**
 * How long after `fromMs` goodput is 90 % of `rateBps`: the begin of the first 500 ms which deliver that, no 100 ms of them
 * less than half of it. null: not until `toMs`.
 */
export function goodputBackMs(arrivals: Arrivals, fromMs: number, toMs: number, rateBps: number): number | null {
  const spanBytes = (GOODPUT_SHARE * rateBps * SPAN_MS) / 8000;
  for (let startMs = fromMs; startMs + SPANS * SPAN_MS <= toMs; startMs += STEP_MS) {
    if (arrivals.bytesBetween(startMs, startMs + STEP_MS) === 0) continue; // nothing is back within a gap
    const spans = Array.from({ length: SPANS }, (_, i) =>
      arrivals.bytesBetween(startMs + i * SPAN_MS, startMs + (i + 1) * SPAN_MS),
    );
    const total = spans.reduce((sum, bytes) => sum + bytes, 0);
    if (total >= SPANS * spanBytes && Math.min(...spans) >= SPAN_SHARE * spanBytes) return startMs - fromMs;
  }
  return null;
}

/** A download without end, in the background. */
class Running {
  readonly arrivals = new Arrivals();
  /** Why it ended by itself. */
  ended: string | null = null;
  readonly #abort = new AbortController();
  readonly #done: Promise<string | null>;
  #isStopped = false;

  constructor({ lab, transfer }: Download) {
    const { signal } = this.#abort;
    this.#done = download(lab, { ...transfer, arrivals: this.arrivals, signal, timeoutSeconds: 180 }).then(
      ({ isIntact }) => {
        if (!this.#isStopped) this.ended = 'it ended by itself';
        return isIntact ? null : 'the bytes that arrived are not those that were sent';
      },
      (error: Error) => {
        this.ended = error.message;
        return null; // what was measured before it was lost holds
      },
    );
  }

  /** What makes its figures worthless, or null. */
  async stop(): Promise<string | null> {
    this.#isStopped = true;
    this.#abort.abort();
    return within(this.#done, STEP_TIMEOUT_MS, 'ending the download').catch((error: Error) => error.message);
  }
}

/**
 * The application's side of the flow lane's figures: `node many-flows.js WHAT HOST [COUNT] [SECONDS]` in the client's
 * namespace. One line of JSON on stdout.
 *
 *   connect  HOST COUNT           milliseconds that connect() takes, one connection after the other    (Times)
 *   fetch    HOST COUNT BYTES     milliseconds from connect() to the last byte of an answer, likewise   (Times)
 *   rate     HOST PER_S SECONDS   so many new connections a second, 1 KB each; `done` are those that
 *                                 ended after the first second and before the last one began           (Counts)
 *   burst    HOST COUNT           so many at once, 1 KB each                                           (Counts)
 *   idle     HOST COUNT           opens so many, says so (Counts), and keeps them until stdin ends
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from '../src/lab/arrivals.js';

export interface Times {
  readonly count: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
}

export interface Counts {
  readonly done: number;
  readonly failed: number;
  /** From the first one's beginning to the last one's end. */
  readonly seconds: number;
}

const HTTP_PORT = 80;
const SMALL_BYTES = 1_000;
/** Given up, and failed, after this. */
const PATIENCE_MS = 20_000;
/** Of a rate: until as many end as begin. */
const RAMP_MS = 1_000;
/** Between two of a series: what the one leaves behind is gone. */
const PAUSE_MS = 50;

const [what, host, first, second] = process.argv.slice(2) as [string, string, string, string?];
const count = Number(first);

switch (what) {
  case 'connect':
    say(await series(count, () => opened().then((socket) => void socket.destroy())));
    break;
  case 'fetch':
    say(await series(count, () => fetched(Number(second))));
    break;
  case 'rate':
    say(await paced(count, Number(second)));
    break;
  case 'burst':
    say(await atOnce(count, () => fetched(SMALL_BYTES)));
    break;
  case 'idle': {
    const sockets: Socket[] = [];
    say(await atOnce(count, async () => void sockets.push(await opened())));
    await new Promise((resolve) => process.stdin.resume().on('end', resolve));
    for (const socket of sockets) socket.destroy();
    break;
  }
  default:
    throw new Error(`many-flows: ${what}?`);
}

function say(result: Times | Counts): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

function opened(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: HTTP_PORT });
    const fail = (error: Error) => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(PATIENCE_MS, () => fail(new Error('nothing happened')));
    socket.on('error', fail).on('connect', () => {
      socket.setTimeout(0);
      resolve(socket);
    });
  });
}

/** One connection, one request, its whole answer. */
async function fetched(bytes: number): Promise<void> {
  const socket = await opened();
  const path = `/random?seed=1&bytes=${bytes}`;
  socket.write(`GET ${path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n`);
  let head = '';
  let received = -1;
  await new Promise<void>((resolve, reject) => {
    socket.setTimeout(PATIENCE_MS, () => reject(new Error('no answer')));
    socket.on('error', reject).on('close', () => {
      if (received === bytes) resolve();
      else reject(new Error(`${received} of ${bytes} bytes came`));
    });
    socket.on('data', (chunk: Buffer) => {
      if (received >= 0) {
        received += chunk.length;
        return;
      }
      head += chunk.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end >= 0) received = head.length - end - 4;
    });
  }).finally(() => socket.destroy());
}

async function series(times: number, action: () => Promise<void>): Promise<Times> {
  const took: number[] = [];
  for (let i = 0; i < times; i++) {
    const startMs = monotonicMs();
    await action();
    took.push(monotonicMs() - startMs);
    await sleep(PAUSE_MS);
  }
  took.sort((a, b) => a - b);
  const quantile = (q: number) => took[Math.min(took.length - 1, Math.floor(q * took.length))] ?? Number.NaN;
  return { count: took.length, p50Ms: quantile(0.5), p95Ms: quantile(0.95) };
}

async function paced(perS: number, seconds: number): Promise<Counts> {
  const startMs = monotonicMs();
  const all: Promise<boolean>[] = [];
  let done = 0;
  let failed = 0;
  let isCounting = false;
  let countedFromMs = startMs;
  while (all.length < perS * seconds) {
    const dueMs = startMs + (all.length * 1000) / perS;
    const aheadMs = dueMs - monotonicMs();
    if (aheadMs > 1) await sleep(aheadMs);
    if (!isCounting && monotonicMs() - startMs >= RAMP_MS) {
      isCounting = true;
      countedFromMs = monotonicMs();
    }
    const one = succeeds(() => fetched(SMALL_BYTES));
    all.push(one);
    void one.then((isDone) => {
      if (!isDone) failed++;
      else if (isCounting) done++;
    });
  }
  const result = { done, failed: 0, seconds: (monotonicMs() - countedFromMs) / 1000 };
  isCounting = false;
  await Promise.all(all);
  return { ...result, failed };
}

function atOnce(times: number, action: () => Promise<void>): Promise<Counts> {
  const startMs = monotonicMs();
  return counts(
    Array.from({ length: times }, () => succeeds(action)),
    startMs,
  );
}

function succeeds(action: () => Promise<void>): Promise<boolean> {
  return action().then(
    () => true,
    (error: Error) => {
      process.stderr.write(`${error.message}\n`);
      return false;
    },
  );
}

async function counts(all: readonly Promise<boolean>[], startMs: number): Promise<Counts> {
  const results = await Promise.all(all);
  const done = results.filter(Boolean).length;
  return { done, failed: results.length - done, seconds: (monotonicMs() - startMs) / 1000 };
}

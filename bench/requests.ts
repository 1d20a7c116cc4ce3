/**
 * Request-response latency: `node requests.js URL COUNT SECONDS` asks for URL on one kept-alive connection, one request
 * after the other, COUNT times (0: no limit) or until SECONDS have passed. One line of JSON on stdout (LatencyResult).
 */
import { Agent, get } from 'node:http';
import { monotonicMs } from '../src/lab/arrivals.js';

export interface LatencyResult {
  readonly count: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
}

/** Not counted: the connection is set up, and code that runs for the first time is slow. */
const COLD_REQUESTS = 5;

const [url, count, seconds] = process.argv.slice(2) as [string, string, string];
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const limit = Number(count) === 0 ? Number.POSITIVE_INFINITY : Number(count);
const endMs = monotonicMs() + Number(seconds) * 1000;
const times: number[] = [];
for (let i = 0; i < COLD_REQUESTS; i++) await ask();
while (times.length < limit && monotonicMs() < endMs) times.push(await ask());
times.sort((a, b) => a - b);
const result: LatencyResult = { count: times.length, p50Ms: quantile(0.5), p95Ms: quantile(0.95) };
process.stdout.write(`${JSON.stringify(result)}\n`);
agent.destroy();

/** Milliseconds from the request to the end of its answer. */
function ask(): Promise<number> {
  const startMs = monotonicMs();
  return new Promise((resolve, reject) => {
    get(url, { agent }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`HTTP status ${response.statusCode}`));
      response.on('end', () => resolve(monotonicMs() - startMs)).resume();
    }).on('error', reject);
  });
}

function quantile(q: number): number {
  return times[Math.min(times.length - 1, Math.floor(q * times.length))] ?? Number.NaN;
}

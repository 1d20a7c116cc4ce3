/** Real HTTP transfers between the client and the site: what they delivered, when, and whether every byte was right. */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { Arrivals, type ArrivalsJson, monotonicMs } from './arrivals.js';
import { RandomSource, randomSha256 } from './random-stream.js';
import { type Lab, labScript } from './topology.js';

export interface TransferOptions {
  /** Of the site: a link's `siteAddress` for the raw link, `SITE.v4` through the tunnel. IPv6 without brackets. */
  readonly address: string;
  /** Stop after this long (from the first byte), or after `bytes`: one of them. */
  readonly seconds?: number;
  readonly bytes?: number;
  /** Left out of `rateBps`: slow start. Default 1 s, if the transfer is limited by time. */
  readonly warmUpSeconds?: number;
  /** Given up, with an error, when it takes longer. Default: four times `seconds`, plus 20. */
  readonly timeoutSeconds?: number;
  /** Downloads: stops as after `seconds`. */
  readonly signal?: AbortSignal;
  /** Downloads: where to note what arrives, for those who look while it runs. */
  readonly arrivals?: Arrivals;
  /** Of the site; default 80. */
  readonly port?: number;
  /** Before the program at the client, such as `mptcpize run`. */
  readonly wrapper?: readonly string[];
  /** Called now and then with the bytes that this end has moved (uploads: handed to curl). */
  readonly onProgress?: (bytes: number) => void;
}

export interface TransferResult {
  readonly bytes: number;
  /** Payload rate at the receiver, without the warm-up. */
  readonly rateBps: number;
  /** At the receiver. */
  readonly arrivals: Arrivals;
  readonly sha256: string;
  /** The SHA-256 is that of the bytes sent. */
  readonly isIntact: boolean;
}

/** From the site to the client. */
export async function download(lab: Lab, options: TransferOptions): Promise<TransferResult> {
  const seed = nextSeed++;
  const query = options.bytes === undefined ? `seed=${seed}` : `seed=${seed}&bytes=${options.bytes}`;
  const argv = [...(options.wrapper ?? []), ...httpGet(`http://${hostOf(options)}/random?${query}`)];
  const child = lab.spawn('client', argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ending = endOf(child, options);
  const hash = createHash('sha256');
  const arrivals = options.arrivals ?? new Arrivals();
  let isEnough = false;
  const stop = () => {
    isEnough = true;
    child.kill('SIGTERM');
  };
  options.signal?.addEventListener('abort', stop);
  child.stdout!.on('data', (chunk: Buffer) => {
    const nowMs = monotonicMs();
    if (isEnough) return;
    arrivals.record(nowMs, chunk.length);
    hash.update(chunk);
    options.onProgress?.(arrivals.totalBytes);
    if (options.seconds !== undefined && nowMs - arrivals.startMs >= options.seconds * 1000) stop();
  });
  const failure = await ending;
  options.signal?.removeEventListener('abort', stop);
  if (!isEnough && failure !== null) throw new Error(`download from ${options.address}: ${failure}`);
  const sha256 = hash.digest('hex');
  const expected = randomSha256(seed, options.bytes ?? arrivals.totalBytes);
  return {
    bytes: arrivals.totalBytes,
    rateBps: rateOf(arrivals, options),
    arrivals,
    sha256,
    isIntact: sha256 === expected,
  };
}

/** From the client to the site. */
export async function upload(lab: Lab, options: TransferOptions): Promise<TransferResult> {
  const seed = nextSeed++;
  const argv = [...(options.wrapper ?? []), ...httpPut(`http://${hostOf(options)}/upload`)];
  const child = lab.spawn('client', argv, { stdio: 'pipe' });
  const ending = endOf(child, options);
  const source = limitedStream(seed, options);
  child.stdin!.on('error', () => {}); // the exit status tells
  source.stream.pipe(child.stdin!);
  const out: Buffer[] = [];
  child.stdout!.on('data', (chunk: Buffer) => out.push(chunk));
  const failure = await ending;
  if (failure !== null) throw new Error(`upload to ${options.address}: ${failure}`);
  const answer = JSON.parse(Buffer.concat(out).toString()) as UploadAnswer;
  const arrivals = Arrivals.fromJson(answer.arrivals);
  const expected = randomSha256(seed, source.bytes());
  return {
    bytes: answer.bytes,
    rateBps: rateOf(arrivals, options),
    arrivals,
    sha256: answer.sha256,
    isIntact: answer.sha256 === expected && answer.bytes === source.bytes(),
  };
}

interface UploadAnswer {
  readonly bytes: number;
  readonly sha256: string;
  readonly arrivals: ArrivalsJson;
}

const CHUNK_BYTES = 64 * 1024;
const WARM_UP_S = 1;

function rateOf(arrivals: Arrivals, { seconds, warmUpSeconds }: TransferOptions): number {
  // The sender of an upload stops after `seconds`; what then drains from buffers is not part of the steady state.
  if (seconds !== undefined) return arrivals.rateBps((warmUpSeconds ?? WARM_UP_S) * 1000, seconds * 1000);
  return arrivals.rateBps((warmUpSeconds ?? 0) * 1000);
}

function limitedStream(seed: number, options: TransferOptions): { stream: Readable; bytes(): number } {
  const source = new RandomSource(seed);
  let bytes = 0;
  let startMs = Number.NaN;
  const stream = new Readable({
    highWaterMark: CHUNK_BYTES,
    read() {
      const nowMs = monotonicMs();
      if (Number.isNaN(startMs)) startMs = nowMs;
      const isLate =
        options.signal?.aborted === true ||
        (options.seconds !== undefined && nowMs - startMs >= options.seconds * 1000);
      const n = isLate ? 0 : Math.min(CHUNK_BYTES, (options.bytes ?? Number.POSITIVE_INFINITY) - bytes);
      bytes += n;
      options.onProgress?.(bytes);
      this.push(n === 0 ? null : source.next(n));
    },
  });
  return { stream, bytes: () => bytes };
}

/** null when the program ended well, else why not. */
function endOf(child: ChildProcess, options: TransferOptions): Promise<string | null> {
  const timeoutS = options.timeoutSeconds ?? (options.seconds ?? 10) * 4 + 20;
  const errors: string[] = [];
  child.stderr!.setEncoding('utf8').on('data', (text: string) => errors.push(text));
  return new Promise((resolve) => {
    let isTimedOut = false;
    const timer = setTimeout(() => {
      isTimedOut = true;
      child.kill('SIGKILL');
    }, timeoutS * 1000);
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (isTimedOut) resolve(`not done after ${timeoutS} s`);
      else resolve(code === 0 ? null : errors.join('').trim() || `ended with ${signal ?? code}`);
    });
  });
}

function hostOf({ address, port }: TransferOptions): string {
  const host = address.includes(':') ? `[${address}]` : address;
  return port === undefined ? host : `${host}:${port}`;
}

/** curl, or on a machine without it the same with Node. */
function httpGet(url: string): string[] {
  if (!hasCurl()) return [process.execPath, labScript('fetch.js'), 'get', url];
  return ['curl', '-sS', '--no-buffer', '--noproxy', '*', '--fail', url];
}

function httpPut(url: string): string[] {
  if (!hasCurl()) return [process.execPath, labScript('fetch.js'), 'put', url];
  return ['curl', '-sS', '--noproxy', '*', '--fail', '-H', 'Expect:', '-T', '-', url];
}

function hasCurl(): boolean {
  curlFound ??= spawnSync('curl', ['--version'], { stdio: 'ignore' }).status === 0;
  return curlFound;
}

let curlFound: boolean | undefined;
let nextSeed = 1;

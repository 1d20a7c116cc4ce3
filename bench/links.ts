/**
 * The tunnel over emulated links: the figures that the project promises (README), each with its target beside it.
 * `mptun run` at both ends, real curl through the TUN; a fresh tunnel for each pair of links, warmed up by a short
 * transfer each way. Goodput is payload of one TCP flow inside the tunnel, from its first byte on (its slow start
 * counts), over the sum of the links' raw rates. Delays are one way; queues hold 100 ms unless stated.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { backInUseMs } from '../src/lab/back-in-use.js';
import {
  createLab,
  download,
  type Lab,
  SITE,
  startTunnel,
  type TransferResult,
  type Tunnel,
  type TunnelOptions,
  upload,
} from '../src/lab/index.js';
import type { Section, SectionOptions } from './bench.js';
import { peakMemoryBytes } from './cpu.js';
import { EQUAL, HOME, LOSSY, NAMES, type Pair, setPair, sumBps, toSpecs, UNEQUAL } from './pairs.js';
import { goNormal, goRealTime } from './priority.js';
import type { LatencyResult } from './requests.js';
import { atLeast, atMost, type Row, round3 } from './stats.js';

const SECONDS = 10;
const QUICK_SECONDS = 4;
const WARM_UP_SECONDS = 0.7;
/** Into a download of the given length, the link goes and comes back. */
const CUT_AT_MS = 1500;
const CUT_FOR_MS = 2000;
const CUT_SECONDS = 6.5;
/** Long enough for 100 requests of 80 ms, one after the other, after the upload has filled its queues. */
const REQUESTS_UPLOAD_SECONDS = 10;
const QUICK_REQUESTS_UPLOAD_SECONDS = 9;
const REQUESTS_AFTER_MS = 1000;
const IDLE_REQUESTS = 100;

export async function openLinksBench({ quick, say }: SectionOptions): Promise<Section> {
  const isRealTime = goRealTime();
  const lab = await createLab({ links: toSpecs(HOME), prefix: 'mtb-links-' });
  const bench = new LinksBench(lab, quick ? QUICK_SECONDS : SECONDS, quick, say);
  const kernel = `kernel TCP inside: ${congestionControl(lab)}`;
  return {
    title: 'tunnel over two emulated links, one TCP flow',
    config: {
      seconds: quick ? QUICK_SECONDS : SECONDS,
      warmUpSeconds: WARM_UP_SECONDS,
      kernelCongestionControl: congestionControl(lab),
      isRealTime,
      pairs: { HOME, EQUAL, UNEQUAL, LOSSY },
    },
    note: [
      `A fresh tunnel for each pair of links, warmed up by ${WARM_UP_SECONDS} s each way; ${kernel}.`,
      'The upload of the first pair has the requests beside it.',
      isRealTime
        ? 'Everything ran at real-time priority.'
        : 'Everything ran at normal priority: what else ran on the machine shows.',
    ].join('\n'),
    run: () => bench.run(),
    close: async () => {
      await bench.close();
      await lab.dispose();
      goNormal();
    },
  };
}

class LinksBench {
  readonly #lab: Lab;
  readonly #seconds: number;
  readonly #quick: boolean;
  readonly #say: (text: string) => void;
  #tunnel: Tunnel | null = null;
  #peakBytes = { client: 0, server: 0 };

  constructor(lab: Lab, seconds: number, quick: boolean, say: (text: string) => void) {
    this.#lab = lab;
    this.#seconds = seconds;
    this.#quick = quick;
    this.#say = say;
  }

  async run(): Promise<Row[]> {
    this.#peakBytes = { client: 0, server: 0 };
    const home = await this.#withTunnel(HOME, {}, () => this.#home());
    const equal = await this.#withTunnel(EQUAL, {}, () => this.#bothWays('100/10 + 100/10', EQUAL, 0.9));
    const unequal = await this.#unequal();
    const lossy = await this.#withTunnel(LOSSY, {}, () =>
      this.#bothWays('100/5 with 0.5 % loss + 20/40 with 500 ms queue', LOSSY, 0.85),
    );
    const memory = (['client', 'server'] as const).map(
      (end): Row => ({
        name: `${end}, peak memory`,
        value: round3(this.#peakBytes[end] / 1e6),
        unit: 'MB',
        target: atMost(200),
      }),
    );
    return [...home, ...equal, ...unequal, ...lossy, ...memory];
  }

  async close(): Promise<void> {
    await this.#tunnel?.dispose();
  }

  /** The links of the README's example: goodput, requests beside an upload, and cuts. */
  async #home(): Promise<Row[]> {
    const idle = await this.#requests(IDLE_REQUESTS);
    const down = await this.#transfer(download, this.#seconds);
    const upSeconds = this.#quick ? QUICK_REQUESTS_UPLOAD_SECONDS : REQUESTS_UPLOAD_SECONDS;
    const [up, busy] = await Promise.all([
      this.#transfer(upload, upSeconds),
      sleep(REQUESTS_AFTER_MS).then(() => this.#requests(0, upSeconds - REQUESTS_AFTER_MS / 1000 - 0.5)),
    ]);
    const silent = await this.#cut(() => this.#lab.link(NAMES[0]).cut());
    const carrier = await this.#cut(() => this.#lab.link(NAMES[0]).carrier(false));
    const ms = (name: string, value: number, target?: number): Row => ({
      name,
      value: round3(value),
      unit: 'ms',
      ...(target !== undefined && { target: atMost(target) }),
    });
    return [
      share('50/10 + 30/30, down', down, sumBps(HOME, 'downBps'), 0.9),
      share('50/10 + 30/30, up', up, sumBps(HOME, 'upBps'), 0.9),
      ms('WiFi cut silently, longest gap', silent.gapMs, 600),
      ms('WiFi cut silently, carries data again', silent.backMs, 2000),
      ms('WiFi loses its carrier, longest gap', carrier.gapMs, 200),
      ms('WiFi loses its carrier, carries data again', carrier.backMs, 2000),
      ms('request-response, idle, p50', idle.p50Ms),
      ms('request-response, idle, p95', idle.p95Ms),
      ms('request-response beside an upload, p50', busy.p50Ms, 70),
      ms('request-response beside an upload, p95', busy.p95Ms, 120),
      { name: 'request-response beside an upload, requests', value: busy.count, unit: '' },
    ];
  }

  /** Against our own tunnel, confined to the better link: a bad second link must not harm. */
  async #unequal(): Promise<Row[]> {
    const both = (seconds: number) => async () => ({
      down: await this.#transfer(download, seconds),
      up: await this.#transfer(upload, seconds),
    });
    const alone = await this.#withTunnel(UNEQUAL, { only: NAMES[0] }, both(this.#seconds));
    const bonded = await this.#withTunnel(UNEQUAL, {}, both(this.#seconds));
    return (['down', 'up'] as const).flatMap((direction) => [
      share(`50/5 alone, ${direction}`, alone[direction], UNEQUAL[0].downBps),
      share(`50/5 + 5/150 over 50/5 alone, ${direction}`, bonded[direction], alone[direction].rateBps, 0.99),
    ]);
  }

  async #bothWays(name: string, pair: Pair, target: number): Promise<Row[]> {
    return [
      share(`${name}, down`, await this.#transfer(download, this.#seconds), sumBps(pair, 'downBps'), target),
      share(`${name}, up`, await this.#transfer(upload, this.#seconds), sumBps(pair, 'upBps'), target),
    ];
  }

  /** The first link goes in mid-download and comes back. A link that does not carry data again counts as if at the end. */
  async #cut(go: () => Promise<number>): Promise<{ gapMs: number; backMs: number }> {
    const link = this.#lab.link(NAMES[0]);
    const cutting = sleep(CUT_AT_MS)
      .then(go)
      .then(() => sleep(CUT_FOR_MS))
      .then(() => link.restore());
    const [{ arrivals }, restoredMs] = await Promise.all([this.#transfer(download, CUT_SECONDS), cutting]);
    const backMs = await backInUseMs(link, HOME[0].downBps, restoredMs, arrivals.lastMs);
    if (backMs === null) this.#say(`${link.name} did not carry data again`);
    return { gapMs: arrivals.gapMs, backMs: backMs ?? arrivals.lastMs - restoredMs };
  }

  async #transfer(how: typeof download, seconds: number): Promise<TransferResult> {
    const result = await how(this.#lab, { address: SITE.v4, seconds, warmUpSeconds: 0 });
    if (!result.isIntact) throw new Error(`${how.name}: the bytes that arrived are not those that were sent`);
    return result;
  }

  /** So many requests one after the other, or (0) for so many seconds. */
  async #requests(count: number, seconds = 30): Promise<LatencyResult> {
    const script = fileURLToPath(new URL('./requests.js', import.meta.url));
    const argv = [process.execPath, script, `http://${SITE.v4}/small`, String(count), String(seconds)];
    const { code, stdout, stderr } = await this.#lab.exec('client', argv, { timeoutMs: (seconds + 10) * 1000 });
    if (code !== 0) throw new Error(`requests: ${stderr.trim() || `status ${code}`}`);
    return JSON.parse(stdout) as LatencyResult;
  }

  async #withTunnel<T>(pair: Pair, options: TunnelOptions, action: () => Promise<T>): Promise<T> {
    await setPair(this.#lab, pair);
    const tunnel = await startTunnel(this.#lab, options);
    this.#tunnel = tunnel;
    try {
      await this.#transfer(download, WARM_UP_SECONDS);
      await this.#transfer(upload, WARM_UP_SECONDS);
      const result = await action();
      for (const end of ['client', 'server'] as const) {
        this.#peakBytes[end] = Math.max(this.#peakBytes[end], peakMemoryBytes(tunnel[end].process.pid!));
      }
      return result;
    } finally {
      await tunnel.dispose();
      this.#tunnel = null;
    }
  }
}

function share(name: string, { rateBps }: TransferResult, ofBps: number, target?: number): Row {
  const value = Number((rateBps / ofBps).toFixed(3));
  return { name, value, unit: '', ...(target !== undefined && { target: atLeast(target) }) };
}

/** What the site and curl use inside the tunnel; a new namespace starts with the machine's default. */
function congestionControl(lab: Lab): string {
  return lab.namespaces.execSync('site', ['cat', '/proc/sys/net/ipv4/tcp_congestion_control']).trim();
}

/**
 * The main job, shown: a real download over WiFi and cellular at once, faster than either, that goes on when the WiFi is
 * cut. Calibrates the links first, then measures each alone and both bonded, then cuts one in mid-transfer.
 */
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { parseTrace, traceRateBps } from '../sim/trace.js';
import { monotonicMs } from './arrivals.js';
import { backInUseMs } from './back-in-use.js';
import { calibrateProbes, calibrateRate } from './calibrate.js';
import type { Direction } from './emulator-protocol.js';
import {
  DEMO_SCHEMA,
  type DemoDocument,
  type LinkResult,
  mbit,
  type Reporter,
  sparkline,
  type UpDown,
} from './report.js';
import { createLab, type Lab, type LabLink, type LinkSpec, SITE } from './topology.js';
import { download, type TransferResult, upload } from './transfer.js';
import { startTunnel, type Tunnel, type TunnelOptions } from './tunnel.js';

export interface DemoOptions {
  /** The first is the one that is cut. */
  readonly links: readonly LinkSpec[];
  /** A recorded link to play on the last one: `X.down` (its `X.up` beside it is used if there), or any other file both ways. */
  readonly traceFile?: string;
  /** Only the emulated links: calibration and kernel TCP, no tunnel. */
  readonly linksOnly?: boolean;
  readonly traffic?: TunnelOptions['traffic'];
}

/** Something that was promised did not happen; the message says what. */
export class DemoFailure extends Error {}

export interface DemoResult {
  readonly document: DemoDocument | { readonly schema: typeof DEMO_SCHEMA; readonly links: readonly LinkResult[] };
  readonly failures: readonly string[];
}

/** Runs the demo in a lab of its own, which is gone when this resolves or throws. `onLab` gets it for clean-up on signals. */
export async function runDemo(options: DemoOptions, report: Reporter, onLab: (lab: Lab) => void): Promise<DemoResult> {
  report.heading(describe(options.links));
  const lab = await createLab({ links: options.links, prefix: 'mptun-demo-' });
  onLab(lab);
  try {
    return await new Demo(lab, report, options).run();
  } finally {
    await lab.dispose();
  }
}

/** After a warm-up of about 1 s. */
const CALIBRATION_SECONDS = 2.5;
const ALONE_SECONDS = 3.5;
/** Through the fresh tunnel, before its figures are taken. */
const WARM_UP_SECONDS = 1;
const BONDED_SECONDS = 8;
const CUT_AT_S = 4;
const CUT_FOR_S = 4;
/** How much longer the transfer goes on at the bonded rate after the link is back. */
const AFTER_CUT_S = 6;
const CUT_TIMEOUT_S = 45;

class Demo {
  readonly #lab: Lab;
  readonly #report: Reporter;
  readonly #options: DemoOptions;
  readonly #traces: TracePair | null;
  readonly #failures: string[] = [];

  constructor(lab: Lab, report: Reporter, options: DemoOptions) {
    this.#lab = lab;
    this.#report = report;
    this.#options = options;
    this.#traces = options.traceFile === undefined ? null : findTraces(options.traceFile);
  }

  async run(): Promise<DemoResult> {
    const links = this.#lab.links;
    const raw = await this.#calibrate();
    if (this.#traces !== null) await this.#measureTrace(raw, this.#traces);
    if (this.#options.linksOnly === true) {
      return { document: { schema: DEMO_SCHEMA, links: this.#linkResults(raw, []) }, failures: this.#failures };
    }

    this.#report.heading('Our tunnel confined to one link');
    const alone: UpDown[] = [];
    for (const link of links) {
      alone.push(await this.#withTunnel({ only: link.name }, () => this.#bothWays(link.name, ALONE_SECONDS)));
    }

    this.#report.heading(
      `Both links bonded (one curl, one TCP flow; after a first transfer of ${WARM_UP_SECONDS} s each way)`,
    );
    const { bonded, cut } = await this.#withTunnel({}, async () => ({
      bonded: await this.#bonded(),
      cut: await this.#cut(),
    }));
    const document: DemoDocument = { schema: DEMO_SCHEMA, links: this.#linkResults(raw, alone), bonded, cut };
    return { document, failures: this.#failures };
  }

  /** The links are what they claim to be, or the demo ends here. Returns what kernel TCP reaches on each. */
  async #calibrate(): Promise<UpDown[]> {
    const report = this.#report;
    report.heading('Calibration: the emulated links, measured from outside');
    const problems: string[] = [];
    const probes = await Promise.all(this.#lab.links.map((link) => calibrateProbes(this.#lab, link)));
    this.#lab.links.forEach((link, i) => {
      const { rttMs, queueMs, loss } = probes[i]!;
      const queue = `${queueMs.down.toFixed(0)} / ${queueMs.up.toFixed(0)} ms`;
      report.begin(`${link.name}: UDP probes`);
      report.end(`idle RTT ${rttMs.toFixed(1)} ms   queue ${queue}   loss ${(loss * 100).toFixed(2)} %`);
      problems.push(...probes[i]!.problems.map((problem) => `${link.name}: ${problem}`));
    });

    report.heading('Each link alone, kernel TCP outside the tunnel             down           up');
    // At the same time: the links share nothing.
    const rates = await Promise.all(this.#lab.links.map((link) => calibrateRate(this.#lab, link, CALIBRATION_SECONDS)));
    this.#lab.links.forEach((link, i) => {
      const { bps, problems: found } = rates[i]!;
      const share = (d: Direction) => (bps[d] / link.rateBps(d)).toFixed(3);
      report.begin(`${link.name}: kernel TCP`);
      report.end(`${mbit(bps.down)} ${mbit(bps.up)}   ${share('down')} / ${share('up')} of the rate`);
      problems.push(...found.map((problem) => `${link.name}: ${problem}`));
    });
    if (problems.length > 0) throw new DemoFailure(calibrationFailure(problems));
    return rates.map((rate) => rate.bps);
  }

  /** The recorded link replaces the last one's fixed rate, and its raw figures. */
  async #measureTrace(raw: UpDown[], traces: TracePair): Promise<void> {
    const link = this.#lab.links.at(-1)!;
    this.#report.begin(`${link.name}: playing a recording`);
    await this.#restartTrace();
    const down = await download(this.#lab, { address: link.siteAddress, seconds: ALONE_SECONDS });
    await this.#restartTrace();
    const up = await upload(this.#lab, { address: link.siteAddress, seconds: ALONE_SECONDS });
    raw[raw.length - 1] = { down: down.rateBps, up: up.rateBps };
    const mean = `${mbit(traces.down.rateBps).trim()} / ${mbit(traces.up.rateBps).trim()}`;
    this.#report.end(`${mbit(down.rateBps)} ${mbit(up.rateBps)}   of ${mean} on average`);
  }

  /** Every measurement plays the recording from its beginning, so that they can be compared. */
  async #restartTrace(): Promise<void> {
    if (this.#traces === null) return;
    const link = this.#lab.links.at(-1)!;
    for (const d of ['down', 'up'] as const) await link.set(d, { traceFile: this.#traces[d].file });
  }

  async #bothWays(label: string, seconds: number): Promise<UpDown> {
    this.#report.begin(`${label}: tunnel`);
    const down = await this.#transfer(download, { seconds });
    const up = await this.#transfer(upload, { seconds });
    this.#report.end(`${mbit(down.rateBps)} ${mbit(up.rateBps)}`);
    return { down: down.rateBps, up: up.rateBps };
  }

  async #bonded(): Promise<DemoDocument['bonded']> {
    // The first flow through a fresh tunnel meets paths of unknown rate and code that is not compiled.
    for (const transfer of [download, upload]) await this.#transfer(transfer, { seconds: WARM_UP_SECONDS });
    const result = rounded(await this.#bothWays(this.#lab.links.map((link) => link.name).join(' + '), BONDED_SECONDS));
    const sum = { down: this.#sumBps('down', BONDED_SECONDS), up: this.#sumBps('up', BONDED_SECONDS) };
    const efficiency = { down: result.down / sum.down, up: result.up / sum.up };
    const shares = `${efficiency.down.toFixed(3)} / ${efficiency.up.toFixed(3)}`;
    this.#report.begin('efficiency');
    this.#report.end(`${shares} of the sum of the raw rates (${mbit(sum.down).trim()} / ${mbit(sum.up).trim()})`);
    return { down_bps: result.down, up_bps: result.up, efficiency };
  }

  /** A download of known length, during which the first link becomes a black hole and comes back. */
  async #cut(): Promise<DemoDocument['cut']> {
    const report = this.#report;
    const [link, ...others] = this.#lab.links as readonly [LabLink, ...LabLink[]];
    report.heading(`${link.name} cut without warning after ${CUT_AT_S} s of a download, and back ${CUT_FOR_S} s later`);
    const othersBps = others.reduce((sum, other) => sum + this.#rateBps(other, 'down'), 0);
    const bytes = Math.round(((CUT_AT_S + AFTER_CUT_S) * this.#sumBps('down', CUT_AT_S) + CUT_FOR_S * othersBps) / 8);
    let backMs = Number.NaN;
    const timers = [
      setTimeout(() => void link.cut(), CUT_AT_S * 1000),
      setTimeout(
        async () => {
          backMs = await link.restore();
        },
        (CUT_AT_S + CUT_FOR_S) * 1000,
      ),
    ];
    let result: TransferResult;
    try {
      report.begin('download');
      result = await this.#transfer(download, { bytes, timeoutSeconds: CUT_TIMEOUT_S });
      report.end(
        `${(result.bytes / 1e6).toFixed(1)} MB in ${((result.arrivals.lastMs - result.arrivals.startMs) / 1000).toFixed(1)} s`,
      );
    } finally {
      timers.forEach(clearTimeout);
    }
    const inUseS = await this.#backInUse(link, backMs, result.arrivals.lastMs);
    const perSecond = result.arrivals.ratesBps(250);
    report.line(`each character is 250 ms: ${sparkline(perSecond, this.#sumBps('down', CUT_AT_S))}|`);
    report.begin('longest gap in delivered data');
    report.end(`${(result.arrivals.gapMs / 1000).toFixed(2)} s`);
    report.begin(`${link.name} carries data again`);
    report.end(inUseS === null ? 'never' : `${inUseS.toFixed(2)} s after it came back`);
    report.begin('SHA-256 of what arrived');
    report.end(result.isIntact ? 'equal' : 'DIFFERENT');
    if (inUseS === null) this.#failures.push(`${link.name} was not used again after it came back`);
    return { gap_s: result.arrivals.gapMs / 1000, back_in_use_s: inUseS, sha256_equal: result.isIntact };
  }

  async #backInUse(link: LabLink, backMs: number, endMs: number): Promise<number | null> {
    if (Number.isNaN(backMs)) return null; // the transfer was over before
    const ms = await backInUseMs(link, this.#rateBps(link, 'down'), backMs, endMs);
    return ms === null ? null : ms / 1000;
  }

  async #transfer(
    how: typeof download,
    options: { seconds?: number; bytes?: number; timeoutSeconds?: number },
  ): Promise<TransferResult> {
    await this.#restartTrace();
    const startMs = monotonicMs();
    const result = await how(this.#lab, {
      address: SITE.v4,
      ...options,
      onProgress: (bytes) => {
        const nowMs = monotonicMs();
        this.#report.live(() => `${how.name} ${mbit((bytes * 8000) / (nowMs - startMs))} so far`, nowMs);
      },
    });
    if (!result.isIntact) this.#failures.push(`${how.name}: the bytes that arrived are not those that were sent`);
    return result;
  }

  async #withTunnel<T>(options: TunnelOptions, action: () => Promise<T>): Promise<T> {
    const { traffic } = this.#options;
    const tunnel: Tunnel = await startTunnel(this.#lab, { ...options, ...(traffic !== undefined && { traffic }) });
    try {
      return await action();
    } finally {
      await tunnel.dispose();
    }
  }

  #sumBps(direction: Direction, seconds: number): number {
    return this.#lab.links.reduce((sum, link) => sum + this.#rateBps(link, direction, seconds), 0);
  }

  /** What the link can carry: its rate, or what the recording offers in its first `seconds`. */
  #rateBps(link: LabLink, direction: Direction, seconds?: number): number {
    if (this.#traces === null || link !== this.#lab.links.at(-1)) return link.rateBps(direction);
    const { trace, rateBps } = this.#traces[direction];
    if (seconds === undefined || seconds * 1e6 > trace.periodUs) return rateBps;
    return (trace.atUs.filter((us) => us < seconds * 1e6).length * 12_000) / seconds;
  }

  #linkResults(raw: readonly UpDown[], alone: readonly UpDown[]): LinkResult[] {
    return this.#lab.links.map((link, i) => ({
      name: link.name,
      rate_bps: Math.round(this.#rateBps(link, 'down')),
      alone_bps: rounded(raw[i]!),
      alone_tunnel_bps: rounded(alone[i] ?? { down: 0, up: 0 }),
    }));
  }
}

interface TracePair {
  readonly down: TraceFile;
  readonly up: TraceFile;
}

interface TraceFile {
  readonly file: string;
  readonly trace: ReturnType<typeof parseTrace>;
  readonly rateBps: number;
}

function findTraces(file: string): TracePair {
  const sibling = file.endsWith('.down') ? `${file.slice(0, -'.down'.length)}.up` : file;
  return { down: readTrace(file), up: readTrace(existsSync(sibling) ? sibling : file) };
}

function readTrace(file: string): TraceFile {
  const trace = parseTrace(readFileSync(file, 'latin1'));
  return { file, trace, rateBps: traceRateBps(trace) };
}

function describe(links: readonly LinkSpec[]): string {
  const one = ({ name, kind, rateDownBps, rateUpBps, delayMs, loss }: LinkSpec) => {
    const rate = rateDownBps === rateUpBps ? `${rateDownBps / 1e6}` : `${rateDownBps / 1e6}/${rateUpBps / 1e6}`;
    const lossText = loss === undefined || loss === 0 ? '' : `, ${loss * 100} % loss`;
    return `${name} (${kind}): ${rate} Mbit/s, ${delayMs} ms one way${lossText}`;
  };
  return links.map(one).join('\n');
}

function rounded({ down, up }: UpDown): UpDown {
  return { down: Math.round(down), up: Math.round(up) };
}

function calibrationFailure(problems: readonly string[]): string {
  const load = loadavg()[0]!;
  const cores = availableParallelism();
  const busy = `\nThis machine is busy (load ${load.toFixed(1)} on ${cores} cores): try again when it is not.`;
  return `the emulated links are not as configured:\n  ${problems.join('\n  ')}${load > cores ? busy : ''}`;
}

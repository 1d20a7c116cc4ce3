/**
 * Plays the starred cases of the handover catalogue (src/sim/catalogue) with real processes: `mptun run` at both ends, real
 * namespaces, a real transfer through the tunnel. Judged by what must hold on any machine, however busy: the transfer and
 * the session survive, every byte is right, data flows again after the last event, and links that returned carry it.
 * Cases that need the same links share a lab and a tunnel, which then has to survive them one after the other.
 */
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CatalogueCase } from '../sim/catalogue/case.js';
import { catalogue } from '../sim/catalogue/cases.js';
import type { LinkConfig } from '../sim/link-model.js';
import type { Step } from '../sim/scenario.js';
import { parseTrace } from '../sim/trace.js';
import { monotonicMs } from './arrivals.js';
import { isInSandbox } from './sandbox.js';
import { createLab, type Lab, type LabLink, type LinkSpec, SECOND_SERVER, SERVER, SITE } from './topology.js';
import { download, type TransferResult, upload } from './transfer.js';
import { startTunnel, type Tunnel } from './tunnel.js';

export interface LabPlayOptions {
  /** Begins the names of the namespaces. */
  readonly prefix: string;
  /** Where the recorded links are. */
  readonly tracesDir: string;
  /** Times of the timeline are multiplied by this (a shorter case), rates by `rateScale` (a cheaper one). Default 1. */
  readonly timeScale?: number;
  readonly rateScale?: number;
}

export interface LabVerdict {
  readonly bytes: number;
  readonly gapMs: number;
  /** From the return of a link until it had carried ENOUGH_BYTES towards the receiver, by name. */
  readonly backInUseMs: Readonly<Record<string, number>>;
  /** What must hold and did not, as sentences. */
  readonly broken: readonly string[];
}

/** More than probes and handshakes come to. */
const ENOUGH_BYTES = 60_000;
/** What has not happened after this will not. */
const PATIENCE_MS = 60_000;
const WARM_UP_MS = 1000;
const POLL_MS = 20;

/** The starred cases, with the recorded links in `tracesDir`. */
export function starredCases(tracesDir: string): CatalogueCase[] {
  const trace = (way: string) => parseTrace(readFileSync(join(tracesDir, `lte-driving-a.${way}`), 'utf8'));
  return catalogue({ lteDriving: { up: trace('up'), down: trace('down') } }).filter(({ lab }) => lab !== null);
}

/** Cases with the same key can share a stage. */
export function stageKey(c: CatalogueCase): string {
  const has = (what: Step['what']) => c.timeline.some((step) => step.what === what);
  const links = c.paths.map(({ middleboxes: _, up, down, ...rest }) => [
    rest,
    up.rateBps,
    down.rateBps,
    down.queueBytes,
  ]);
  // Where the server's addresses change they are others afterwards.
  return JSON.stringify([links, c.maxPathsPerLink, has('server-gains') ? c.name : '', has('rebinds')]);
}

/** What a link's radio hears at its full rate, and how much less it is at each tenth of it (fade in sim/catalogue/timelines). */
const FULL_DBM = -50;
const DB_PER_TENTH = 23;
const WEAKEST_DBM = -90;

/** What the client's daemon is told of its host (daemon/host-feed.ts): radios that a lab does not have, and sleep. */
class HostFeed {
  readonly #dir = mkdtempSync(join(isInSandbox() ? '/run' : tmpdir(), 'mptun-catalogue-'));
  readonly file = join(this.#dir, 'feed.json');
  readonly #links: Record<string, { type: 'wifi'; ssid: string; signal_dbm: number }> = {};
  #sleptS = 0;

  constructor() {
    this.#write();
  }

  signal(link: string, dbm: number): void {
    this.#links[link] = { type: 'wifi', ssid: 'lab', signal_dbm: dbm };
    this.#write();
  }

  slept(seconds: number): void {
    this.#sleptS += seconds;
    this.#write();
  }

  /** The next case: no radio, and nobody has slept since. */
  reset(): void {
    for (const link of Object.keys(this.#links)) delete this.#links[link];
    this.#write();
  }

  remove(): void {
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #write(): void {
    writeFileSync(`${this.file}.new`, JSON.stringify({ links: this.#links, slept_s: this.#sleptS }));
    renameSync(`${this.file}.new`, this.file);
  }
}

/** A lab with a tunnel, ready for a case and all that have its key. */
export class Stage {
  readonly #lab: Lab;
  readonly #tunnel: Tunnel;
  readonly #feed: HostFeed;
  readonly #options: LabPlayOptions;

  private constructor(lab: Lab, tunnel: Tunnel, feed: HostFeed, options: LabPlayOptions) {
    this.#feed = feed;
    this.#lab = lab;
    this.#tunnel = tunnel;
    this.#options = options;
  }

  static async open(c: CatalogueCase, options: LabPlayOptions): Promise<Stage> {
    const lab = await createLab({ links: linksOf(c, options), prefix: options.prefix });
    const feed = new HostFeed();
    try {
      const gains = c.timeline.some(({ what }) => what === 'server-gains');
      const isDual = c.paths.some(({ family }) => family === 6);
      if (gains) lab.serverAddress(SECOND_SERVER, true);
      if (isDual) for (const { name, family = 4 } of c.paths) lab.link(name).keepFamily(family);
      for (const step of c.timeline) if (step.what === 'rebinds') lab.link(step.path).translate();
      const tunnel = await startTunnel(lab, {
        startTimeoutMs: PATIENCE_MS,
        clientEnv: { MPTUN_HOST_FEED: feed.file },
        client: { paths: lab.links.map(({ name }) => ({ match: { name }, max_subflows: c.maxPathsPerLink ?? 1 })) },
        server: { signal: isDual ? [SERVER.v6] : gains ? [SECOND_SERVER] : [] },
      });
      if (gains) lab.serverAddress(SECOND_SERVER, false);
      return new Stage(lab, tunnel, feed, options);
    } catch (error) {
      feed.remove();
      await lab.dispose();
      throw error;
    }
  }

  async play(c: CatalogueCase): Promise<LabVerdict> {
    const verdict = await new Performance(c, this.#lab, this.#tunnel, this.#feed, this.#options).run();
    this.#feed.reset();
    for (const link of this.#lab.links) await link.reset();
    return verdict;
  }

  async dispose(): Promise<void> {
    await this.#tunnel.dispose();
    await this.#lab.dispose();
    this.#feed.remove();
  }
}

/** One case on a stage. */
class Performance {
  readonly #timeScale: number;
  readonly #rateScale: number;
  readonly #timeline: readonly Step[];
  /** Links that returned, and how long it took until they carried data: a promise that looks from then on. */
  readonly #returned = new Map<string, Promise<number | null>>();
  /** Rates follow the signal in this case. */
  readonly #hasRadio: boolean;
  #isOver = false;

  constructor(
    readonly c: CatalogueCase,
    readonly lab: Lab,
    readonly tunnel: Tunnel,
    readonly feed: HostFeed,
    { timeScale = 1, rateScale = 1 }: LabPlayOptions,
  ) {
    this.#timeScale = timeScale;
    this.#rateScale = rateScale;
    this.#timeline = (c.lab?.timeline ?? c.timeline).toSorted((a, b) => a.atUs - b.atUs);
    this.#hasRadio = this.#timeline.some(({ what }) => what === 'fades' || what === 'clears');
  }

  async run(): Promise<LabVerdict> {
    const { c, lab, tunnel } = this;
    const broken: string[] = [];
    const before = (await tunnel.client.status()).sessions[0];
    const transfer = c.heading === 'up' ? upload : download;
    const stop = new AbortController();
    const endless = { address: SITE.v4, seconds: 3600, timeoutSeconds: 4 * (PATIENCE_MS / 1000) };
    const running = transfer(lab, { ...endless, signal: stop.signal }).catch((error: Error): TransferResult | null => {
      this.#isOver = true;
      broken.push(`the transfer is lost: ${error.message}`);
      return null;
    });
    if (!(await this.#moved(lab.links, ENOUGH_BYTES))) broken.push('the transfer did not begin');
    if (this.#hasRadio)
      for (const { name, kind } of lab.links.map(({ spec }) => spec))
        if (kind === 'wifi') this.feed.signal(name, FULL_DBM);
    await sleep(WARM_UP_MS);
    const startMs = monotonicMs();
    for (const step of this.#timeline) {
      const waitMs = startMs + (step.atUs / 1000) * this.#timeScale - monotonicMs();
      if (waitMs > 0) await sleep(waitMs);
      await this.#do(step);
    }
    if (this.#timeline.length === 0) await sleep((c.durationUs / 1000) * this.#timeScale);
    if (!(await this.#moved(lab.links, 2 * ENOUGH_BYTES))) broken.push('data did not flow again');
    const backInUseMs = await this.#backInUse(broken);
    stop.abort();
    const result = await running;
    if (result !== null && !result.isIntact) broken.push(`the ${result.bytes} bytes received are not those sent`);
    const after = (await tunnel.client.status()).sessions[0];
    if (before === undefined || after === undefined || !isSameTime(before.since, after.since))
      broken.push(`the session was lost: ${before?.since} and ${after?.since}`);
    return { bytes: result?.bytes ?? 0, gapMs: result?.arrivals.gapMs ?? 0, backInUseMs, broken };
  }

  /** Waits until `links` together have carried `bytes` more. */
  async #moved(links: readonly LabLink[], bytes: number): Promise<boolean> {
    const total = async () => (await Promise.all(links.map((l) => this.#carried(l)))).reduce((a, b) => a + b, 0);
    const wanted = (await total()) + bytes;
    const deadlineMs = monotonicMs() + PATIENCE_MS;
    while (monotonicMs() < deadlineMs && !this.#isOver) {
      if ((await total()) >= wanted) return true;
      await sleep(POLL_MS);
    }
    return false;
  }

  async #carried(link: LabLink): Promise<number> {
    return (await link.counters())[this.c.heading].deliveredBytes;
  }

  async #backInUse(broken: string[]): Promise<Record<string, number>> {
    const out: Record<string, number> = {};
    for (const { path } of this.c.budget.backInUse ?? []) {
      const returned = this.#returned.get(path);
      if (returned === undefined) continue;
      const ms = await returned;
      if (ms === null) broken.push(`${path} was not used again`);
      else out[path] = Math.round(ms);
    }
    return out;
  }

  /** From now on it ought to carry data. */
  #isBack(link: LabLink): void {
    this.#returned.set(link.name, this.#carriesAgain(link));
  }

  /** After how many milliseconds the link has carried ENOUGH_BYTES; null: not in time. */
  async #carriesAgain(link: LabLink): Promise<number | null> {
    const atMs = monotonicMs();
    const bytes = await this.#carried(link);
    while (monotonicMs() < atMs + PATIENCE_MS && !this.#isOver) {
      if ((await this.#carried(link)) >= bytes + ENOUGH_BYTES) return monotonicMs() - atMs;
      await sleep(POLL_MS);
    }
    return null;
  }

  async #do(step: Step): Promise<void> {
    const { lab, tunnel } = this;
    if (!('path' in step)) {
      if (step.what === 'server-gains') lab.serverAddress(SECOND_SERVER, true);
      else if (step.what === 'server-loses')
        lab.serverAddress(step.which === 'first' ? SERVER.v4 : SECOND_SERVER, false);
      else {
        if (step.what === 'client-wakes') this.feed.slept(step.clockJumpUs / 1e6);
        tunnel.client.process.kill(step.what === 'client-sleeps' ? 'SIGSTOP' : 'SIGCONT');
      }
      if (step.what === 'server-loses' || step.what === 'client-wakes')
        for (const link of lab.links) this.#isBack(link);
      return;
    }
    const link = lab.link(step.path);
    switch (step.what) {
      case 'dies':
        await link.cut();
        break;
      case 'returns':
        await link.restore();
        this.#isBack(link);
        break;
      case 'carrier-lost':
        await link.carrier(false);
        this.#returned.delete(step.path);
        break;
      case 'carrier-back':
        await link.carrier(true);
        this.#isBack(link);
        break;
      case 'moves':
        link.move();
        this.#isBack(link);
        break;
      case 'rebinds':
        link.translate();
        this.#isBack(link);
        break;
      case 'narrows':
        if (this.c.name.includes('(ICMP)')) link.narrow(step.mtuBytes);
        else for (const way of ['up', 'down'] as const) await link.set(way, { mtuBytes: step.mtuBytes });
        this.#isBack(link);
        break;
      case 'changes':
        for (const way of ['up', 'down'] as const) await link.set(way, this.#scaled(step[way] ?? {}));
        if (this.#hasRadio) this.feed.signal(step.path, this.#signalAt(step));
        break;
      case 'fades':
      case 'clears':
        break; // the daemon has to see for itself, by the signal that goes with the rates
      default:
        throw new Error(`the lab cannot play "${step.what}"`);
    }
  }

  /** What a radio hears that still manages this rate. */
  #signalAt({ path, down }: Extract<Step, { what: 'changes' }>): number {
    const nominal = this.c.paths.find(({ name }) => name === path)!.down.rateBps!;
    const tenths = Math.log10((down?.rateBps ?? nominal) / nominal);
    return Math.max(WEAKEST_DBM, Math.round(FULL_DBM + DB_PER_TENTH * tenths));
  }

  #scaled({ rateBps, lossRate }: Partial<LinkConfig>) {
    return {
      ...(rateBps !== undefined && { rateBps: rateBps * this.#rateScale }),
      ...(lossRate !== undefined && { loss: lossRate }),
    };
  }
}

/** `since` is counted back from now on another clock each time it is asked for, and wavers. */
const SINCE_WAVERS_MS = 100;

function isSameTime(a: string, b: string): boolean {
  return Math.abs(Date.parse(a) - Date.parse(b)) <= SINCE_WAVERS_MS;
}

/** A recorded link in the lab plays at its own pace; this is what it is counted as. */
const RECORDED_BPS = 5e6;

function linksOf(c: CatalogueCase, { rateScale = 1, tracesDir }: LabPlayOptions): LinkSpec[] {
  return c.paths.map(({ name, up, down }): LinkSpec => {
    const isRecorded = down.trace != null;
    const rate = (config: Partial<LinkConfig>) => (isRecorded ? RECORDED_BPS : config.rateBps! * rateScale);
    return {
      name,
      kind: name.startsWith('lte') || name.startsWith('b') ? 'lte' : 'wifi',
      rateDownBps: rate(down),
      rateUpBps: rate(up),
      delayMs: down.delayUs! / 1000,
      loss: down.lossRate ?? 0,
      queueMs: (down.queueBytes! * 8000) / (down.rateBps ?? RECORDED_BPS),
      ...(isRecorded && {
        traceDownFile: `${tracesDir}/lte-driving-a.down`,
        traceUpFile: `${tracesDir}/lte-driving-a.up`,
      }),
    };
  });
}

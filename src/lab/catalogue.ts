/**
 * Plays a starred case of the handover catalogue (src/sim/catalogue) with real processes: `mptun run` at both ends, real
 * namespaces, a real transfer through the tunnel. Judged by what must hold on any machine, however busy: no connection is
 * lost, every byte is right, data flows again at the end, and links that returned carry data.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { CatalogueCase } from '../sim/catalogue/case.js';
import type { LinkConfig } from '../sim/link-model.js';
import type { Step } from '../sim/scenario.js';
import { monotonicMs } from './arrivals.js';
import { backInUseMs } from './back-in-use.js';
import { createLab, type Lab, type LinkSpec, SECOND_SERVER, SERVER, SITE } from './topology.js';
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
  /** The transfer goes on for so long after the last event. Default 3 s. */
  readonly afterSeconds?: number;
}

export interface LabVerdict {
  readonly bytes: number;
  readonly rateBps: number;
  readonly gapMs: number;
  /** Of the links that the case's budget names; null: not until the end. */
  readonly backInUseMs: Readonly<Record<string, number | null>>;
  /** What must hold and did not, as sentences. */
  readonly broken: readonly string[];
}

/** In a lab of its own, which is gone when this resolves or throws. */
export async function playInLab(c: CatalogueCase, options: LabPlayOptions): Promise<LabVerdict> {
  const lab = await createLab({ links: linksOf(c, options), prefix: options.prefix });
  try {
    const player = new Player(c, lab, options);
    player.prepare();
    const tunnel = await startTunnel(lab, { startTimeoutMs: 40_000, ...player.config() });
    try {
      return await player.play(tunnel);
    } finally {
      await tunnel.dispose();
    }
  } finally {
    await lab.dispose();
  }
}

/** Silence at the end of a transfer that is still running when it is stopped: longer, and it has not resumed. */
const RESUMED_WITHIN_MS = 2000;
const WARM_UP_S = 1;

class Player {
  readonly #timeScale: number;
  readonly #rateScale: number;
  readonly #timeline: readonly Step[];
  /** When each link that returns did, by name (monotonic milliseconds). */
  readonly #returnedMs = new Map<string, number>();

  constructor(
    readonly c: CatalogueCase,
    readonly lab: Lab,
    readonly options: LabPlayOptions,
  ) {
    this.#timeScale = options.timeScale ?? 1;
    this.#rateScale = options.rateScale ?? 1;
    this.#timeline = (c.lab?.timeline ?? c.timeline).toSorted((a, b) => a.atUs - b.atUs);
  }

  /** What must be there before the tunnel is. */
  prepare(): void {
    if (this.#has('server-gains')) this.lab.serverAddress(SECOND_SERVER, true);
    const { paths } = this.c;
    if (isDualStack(this.c)) for (const { name, family = 4 } of paths) this.lab.link(name).keepFamily(family);
    for (const step of this.#timeline) if (step.what === 'rebinds') this.lab.link(step.path).translate();
  }

  config(): Parameters<typeof startTunnel>[1] {
    const isDual = isDualStack(this.c);
    const perLink = this.c.maxPathsPerLink ?? 1;
    const announce = isDual ? [SERVER.v6] : this.#has('server-gains') ? [SECOND_SERVER] : [];
    return {
      client: { paths: this.lab.links.map(({ name }) => ({ match: { name }, max_subflows: perLink })) },
      server: { announce },
    };
  }

  async play(tunnel: Tunnel): Promise<LabVerdict> {
    const { c, lab } = this;
    if (this.#has('server-gains')) lab.serverAddress(SECOND_SERVER, false);
    const before = (await tunnel.client.status()).sessions[0];
    const lastUs = this.#timeline.at(-1)?.atUs ?? 4e6;
    const seconds = WARM_UP_S + (lastUs / 1e6) * this.#timeScale + (this.options.afterSeconds ?? 3);
    const transfer = c.heading === 'up' ? upload : download;
    const broken: string[] = [];
    const running = transfer(lab, { address: SITE.v4, seconds, timeoutSeconds: seconds + 60 }).catch(
      (error: Error): null => {
        broken.push(`the transfer is lost: ${error.message}`);
        return null;
      },
    );
    await sleep(WARM_UP_S * 1000);
    const startMs = monotonicMs();
    for (const step of this.#timeline) {
      const waitMs = startMs + (step.atUs / 1000) * this.#timeScale - monotonicMs();
      if (waitMs > 0) await sleep(waitMs);
      await this.#do(step, tunnel);
    }
    const result = await running;
    const endMs = monotonicMs();
    if (result !== null) broken.push(...this.#judge(result, seconds));
    const after = (await tunnel.client.status()).sessions[0];
    if (before === undefined || after?.since !== before.since || after.connections < before.connections)
      broken.push('the session was lost');
    const used = await this.#backInUse(endMs);
    for (const [name, ms] of Object.entries(used)) if (ms === null) broken.push(`${name} was not used again`);
    return {
      bytes: result?.bytes ?? 0,
      rateBps: result?.rateBps ?? 0,
      gapMs: result?.arrivals.gapMs ?? Number.POSITIVE_INFINITY,
      backInUseMs: used,
      broken,
    };
  }

  #judge({ isIntact, bytes, arrivals }: TransferResult, seconds: number): string[] {
    const out: string[] = [];
    if (!isIntact) out.push(`the ${bytes} bytes received are not those sent`);
    const silentMs = seconds * 1000 - (arrivals.lastMs - arrivals.startMs);
    if (silentMs > RESUMED_WITHIN_MS) out.push(`nothing came in the last ${Math.round(silentMs)} ms`);
    return out;
  }

  async #backInUse(endMs: number): Promise<Record<string, number | null>> {
    const out: Record<string, number | null> = {};
    if (this.c.heading === 'up') return out; // the lab counts what arrives at the client
    for (const [name, fromMs] of this.#returnedMs) {
      const link = this.lab.link(name);
      out[name] = await backInUseMs(link, link.rateBps('down'), fromMs, endMs);
    }
    return out;
  }

  async #do(step: Step, tunnel: Tunnel): Promise<void> {
    const { lab } = this;
    if (!('path' in step)) {
      if (step.what === 'server-gains') lab.serverAddress(SECOND_SERVER, true);
      else if (step.what === 'server-loses')
        lab.serverAddress(step.which === 'first' ? SERVER.v4 : SECOND_SERVER, false);
      else tunnel.client.process.kill(step.what === 'client-sleeps' ? 'SIGSTOP' : 'SIGCONT');
      return;
    }
    const link = lab.link(step.path);
    switch (step.what) {
      case 'dies':
        await link.cut();
        break;
      case 'returns':
        this.#returnedMs.set(step.path, await link.restore());
        break;
      case 'carrier-lost':
        await link.carrier(false);
        this.#returnedMs.delete(step.path);
        break;
      case 'carrier-back':
        this.#returnedMs.set(step.path, await link.carrier(true));
        break;
      case 'moves':
        link.move();
        this.#returnedMs.set(step.path, monotonicMs());
        break;
      case 'rebinds':
        link.translate();
        break;
      case 'narrows':
        if (this.c.name.includes('(ICMP)')) link.narrow(step.mtuBytes);
        else for (const way of ['up', 'down'] as const) await link.set(way, { mtuBytes: step.mtuBytes });
        break;
      case 'changes':
        for (const way of ['up', 'down'] as const) await link.set(way, this.#scaled(step[way] ?? {}));
        break;
      case 'fades':
      case 'clears':
        break; // no radio here: what the signal does to the link is in the steps around it
      default:
        throw new Error(`the lab cannot play "${step.what}"`);
    }
  }

  #scaled({ rateBps, lossRate }: Partial<LinkConfig>) {
    return {
      ...(rateBps !== undefined && { rateBps: rateBps * this.#rateScale }),
      ...(lossRate !== undefined && { loss: lossRate }),
    };
  }

  #has(what: Step['what']): boolean {
    return this.#timeline.some((step) => step.what === what);
  }
}

function isDualStack(c: CatalogueCase): boolean {
  return c.paths.some(({ family }) => family === 6);
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

/** One run of the handover figures: which transfers, in which tunnels, for which rows. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ControlClient, RefusedError } from '../src/control/client.js';
import type { FlowsDocument, PathChange } from '../src/control/protocol.js';
import {
  createLab,
  download,
  type Lab,
  monotonicMs,
  SITE,
  startTunnel,
  type TransferOptions,
  type TransferResult,
  type Tunnel,
  upload,
} from '../src/lab/index.js';
import { isInSandbox } from '../src/lab/sandbox.js';
import { measureCall } from './call.js';
import { KERNEL_TIMES, KERNEL_TRANSFER, orderKernel, setUpKernel } from './handover-kernel.js';
import { type Group, ROWS } from './handover-rows.js';
import { type Figure, type Figures, isMissing } from './handover-summary.js';
import { type Download, type Incident, runIncidents } from './incidents.js';
import { EQUAL, HOME, LOSSY, NAMES, type Pair, setPair, sumBps, toSpecs, UNEQUAL } from './pairs.js';
import type { LatencyResult } from './requests.js';
import { within } from './within.js';

export interface RunOptions {
  readonly groups: readonly Group[];
  readonly quick: boolean;
  readonly kernel: boolean;
  readonly say: (text: string) => void;
}

const GOODPUT_SECONDS = 30;
const QUICK_GOODPUT_SECONDS = 4;
/** Of a download for duplicates: the rest of it is the steady state. */
const STEADY_AFTER_SHARE = 0.25;
const WARM_UP_SECONDS = 0.5;
const UPLOAD_SECONDS = 8;
const REQUESTS_AFTER_MS = 1000;
const IDLE_REQUESTS = 25;

/** The tunnel's incidents: long enough to see each target missed by far. */
const OUT_MS = 2000;
const BACK_MS = 2500;
const FADE_MS = 3000;
const FADE_STEP_MS = 250;
const STRONG_DBM = -52;
const WEAK_DBM = -90;

/** Whatever happens, a group ends. */
const INCIDENTS_TIMEOUT_MS = 180_000;
const GROUP_TIMEOUT_MS = 90_000;
const DISPOSE_TIMEOUT_MS = 10_000;

const PAIRS: readonly (readonly [id: string, pair: Pair])[] = [
  ['goodput.home', HOME],
  ['goodput.equal', EQUAL],
  ['goodput.lossy', LOSSY],
  ['goodput.unequal', UNEQUAL],
];

export class HandoverBench {
  readonly #lab: Lab;
  readonly #options: RunOptions;
  readonly #dir: string;
  readonly #feedFile: string;
  readonly #kernelProblem: string | null;
  #tunnel: Tunnel | null = null;
  #runs = 0;

  static async open(options: RunOptions): Promise<HandoverBench> {
    const lab = await createLab({ links: toSpecs(HOME), prefix: 'mtb-handover-' });
    const kernelProblem = options.kernel ? await setUpKernel(lab) : null;
    return new HandoverBench(lab, options, kernelProblem);
  }

  private constructor(lab: Lab, options: RunOptions, kernelProblem: string | null) {
    this.#lab = lab;
    this.#options = options;
    this.#kernelProblem = kernelProblem;
    this.#dir = mkdtempSync(join(isInSandbox() ? '/run' : tmpdir(), 'mptun-handover-'));
    this.#feedFile = join(this.#dir, 'feed.json');
  }

  get goodputSeconds(): number {
    return this.#options.quick ? QUICK_GOODPUT_SECONDS : GOODPUT_SECONDS;
  }

  /** What the site and curl use; a new namespace starts with the machine's default. */
  get congestionControl(): string {
    return this.#lab.namespaces.execSync('site', ['cat', '/proc/sys/net/ipv4/tcp_congestion_control']).trim();
  }

  async run(): Promise<{ tunnel: Figures; kernel: Figures }> {
    const isFirst = this.#runs++ === 0;
    const tunnel = await this.#runTunnel();
    const kernel = this.#options.kernel ? await this.#runKernel(isFirst) : new Map<string, Figure>();
    return { tunnel, kernel };
  }

  async close(): Promise<void> {
    try {
      await this.#endTunnel();
    } finally {
      await this.#lab.dispose();
      rmSync(this.#dir, { recursive: true, force: true });
    }
  }

  async #runTunnel(): Promise<Figures> {
    const run = new Run('tunnel', this.#options);
    const incidents = this.#tunnelIncidents().flatMap((i) => run.narrow(i));
    const isWanted = (group: Group) => this.#options.groups.includes(group);
    if (incidents.length > 0 || isWanted('requests')) {
      const rows = [...incidents.flatMap(rowsOf), ...run.idsOf('requests'), ...run.idsOf('silent')];
      await run.attempt(rows, INCIDENTS_TIMEOUT_MS, () =>
        this.#withTunnel(HOME, 'auto', async () => {
          if (isWanted('requests'))
            await run.attempt(run.idsOf('requests'), GROUP_TIMEOUT_MS, () => this.#requests(run, {}));
          await runIncidents(this.#download(run, { address: SITE.v4 }), incidents);
        }),
      );
    }
    for (const [id, pair] of PAIRS) {
      const ids = [...run.idsOf('goodput').filter((i) => i === id), ...(pair === HOME ? run.idsOf('duplicates') : [])];
      await run.attempt(ids, GROUP_TIMEOUT_MS, () =>
        this.#withTunnel(pair, 'aggregate', () => this.#goodput(run, id, pair)),
      );
    }
    for (const mode of ['interactive', 'redundant']) {
      const ids = run.idsOf('voice').filter((id) => id.startsWith(mode));
      await run.attempt(ids, GROUP_TIMEOUT_MS, () =>
        this.#withTunnel(HOME, mode, async () => {
          const { up, down } = await measureCall(this.#lab);
          run.note(`${mode}.up`, up);
          run.note(`${mode}.down`, down);
        }),
      );
    }
    return run.figures;
  }

  async #runKernel(isFirst: boolean): Promise<Figures> {
    const run = new Run('kernel MPTCP', this.#options);
    const guard = (ids: readonly string[], timeoutMs: number, action: () => Promise<void>) =>
      run.attempt(ids, timeoutMs, async () => {
        if (this.#kernelProblem !== null) throw new Error(this.#kernelProblem);
        await action();
      });
    const incidents = this.#kernelIncidents().flatMap((i) => run.narrow(i));
    const rows = [...incidents.flatMap(rowsOf), ...run.idsOf('silent')];
    await guard(rows, INCIDENTS_TIMEOUT_MS, async () => {
      await setPair(this.#lab, HOME);
      await runIncidents(this.#download(run, KERNEL_TRANSFER), incidents);
    });
    await guard(run.idsOf('requests'), GROUP_TIMEOUT_MS, () => this.#requests(run, KERNEL_TRANSFER));
    // As long as the tunnel's, and so once only: what it reaches varies little, and this is what takes time.
    if (!isFirst) return run.figures;
    for (const [id, pair] of PAIRS) {
      await guard(
        run.idsOf('goodput').filter((i) => i === id),
        GROUP_TIMEOUT_MS,
        async () => {
          await setPair(this.#lab, pair);
          const { rateBps } = await this.#transfer(download, this.goodputSeconds, KERNEL_TRANSFER);
          run.note(id, rateBps / sumBps(pair, 'downBps'));
        },
      );
    }
    return run.figures;
  }

  #download(run: Run, transfer: Download['transfer']): Download {
    return {
      lab: this.#lab,
      transfer,
      ratesBps: HOME.map((rate) => rate.downBps),
      note: (id, figure) => run.note(id, figure),
      isWanted: (id) => run.wants(id),
    };
  }

  #tunnelIncidents(): Incident[] {
    const wifi = this.#lab.link(NAMES[0]);
    const times = { outMs: OUT_MS, backMs: BACK_MS };
    const gateway = '192.168.1.1';
    const defaultRoute = `default via ${gateway} dev ${wifi.name} src ${wifi.clientAddress} metric 100`;
    return [
      {
        id: 'silent',
        ...times,
        rows: ['gap', 'goodput', 'back', 'taken-in'],
        out: () => wifi.cut(),
        back: () => wifi.restore(),
      },
      {
        id: 'carrier',
        ...times,
        rows: ['gap', 'goodput', 'back', 'half', 'taken-in'],
        out: () => wifi.carrier(false),
        back: () => wifi.carrier(true),
      },
      {
        id: 'command',
        ...times,
        rows: ['gap', 'back', 'taken-in'],
        out: () => this.#order({ use: 'down' }, { role: 'never' }),
        back: () => this.#order({ use: 'up' }, { role: null }),
      },
      {
        id: 'fading',
        outMs: FADE_MS + OUT_MS,
        backMs: BACK_MS,
        rows: ['gap', 'back', 'half', 'taken-in'],
        out: () => this.#fade(),
        back: async () => {
          const atMs = await wifi.restore();
          this.#feed(STRONG_DBM);
          return atMs;
        },
      },
      {
        id: 'address',
        ...times,
        rows: ['back', 'half', 'taken-in'],
        out: () => this.#ip([`addr del ${wifi.clientAddress}/24 dev ${wifi.name}`]),
        back: () =>
          this.#ip([
            `addr add ${wifi.clientAddress}/24 dev ${wifi.name}`,
            `route replace ${defaultRoute}`,
            `route replace ${wifi.siteAddress} via ${gateway} dev ${wifi.name} src ${wifi.clientAddress}`,
          ]),
      },
      {
        id: 'route',
        ...times,
        rows: ['back', 'half', 'taken-in'],
        // The way is gone as well as the route: a host with packet sockets could go on without one.
        out: async () => {
          const atMs = await wifi.cut();
          await this.#ip([`route del ${defaultRoute}`]);
          return atMs;
        },
        back: async () => {
          await wifi.restore();
          return this.#ip([`route replace ${defaultRoute}`]);
        },
      },
    ];
  }

  #kernelIncidents(): Incident[] {
    const wifi = this.#lab.link(NAMES[0]);
    const order = async (what: 'backup' | 'nobackup') => {
      const atMs = monotonicMs();
      const { code, stderr } = await orderKernel(this.#lab, what);
      if (code !== 0) throw new Error(`ip mptcp endpoint change: ${stderr.trim()}`);
      return atMs;
    };
    return [
      {
        id: 'silent',
        ...KERNEL_TIMES.silent,
        rows: ['gap', 'goodput', 'back', 'taken-in'],
        out: () => wifi.cut(),
        back: () => wifi.restore(),
      },
      {
        id: 'carrier',
        ...KERNEL_TIMES.carrier,
        rows: ['gap', 'goodput', 'back', 'half', 'taken-in'],
        out: () => wifi.carrier(false),
        back: () => wifi.carrier(true),
      },
      {
        id: 'command',
        ...KERNEL_TIMES.command,
        rows: ['gap', 'back', 'taken-in'],
        out: () => order('backup'),
        back: () => order('nobackup'),
      },
    ];
  }

  /** The operator's command, by the request that it makes; `older` for a daemon that does not know it yet. */
  async #order(change: object, older: PathChange): Promise<number> {
    const control = new ControlClient(this.#tunnel!.client.socket);
    const path = `/v1/paths/${NAMES[0]}`;
    const atMs = monotonicMs();
    try {
      await control.post(path, change);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      await control.post(path, older);
    }
    return atMs;
  }

  /** The signal sinks step by step, then nothing gets through any more. When it began to. */
  async #fade(): Promise<number> {
    const startMs = monotonicMs();
    for (let ms = 0; ms <= FADE_MS; ms += FADE_STEP_MS) {
      this.#feed(Math.round(STRONG_DBM + ((WEAK_DBM - STRONG_DBM) * ms) / FADE_MS));
      await sleep(Math.max(0, startMs + ms + FADE_STEP_MS - monotonicMs()));
    }
    await this.#lab.link(NAMES[0]).cut();
    return startMs;
  }

  /** Tells the client's daemon what the WiFi's signal is (src/daemon/host-feed.ts). */
  #feed(signalDbm: number): void {
    const feed = { links: { [NAMES[0]]: { type: 'wifi', ssid: 'lab', signal_dbm: signalDbm } } };
    writeFileSync(`${this.#feedFile}.new`, JSON.stringify(feed));
    renameSync(`${this.#feedFile}.new`, this.#feedFile);
  }

  /** Commands of `ip` at the client; when they began. */
  async #ip(commands: readonly string[]): Promise<number> {
    const atMs = monotonicMs();
    const input = `${commands.join('\n')}\n`;
    const { code, stderr } = await this.#lab.exec('client', ['ip', '-batch', '-'], { input, timeoutMs: 5000 });
    if (code !== 0) throw new Error(`ip: ${stderr.trim()}`);
    return atMs;
  }

  /** Request-response, idle and beside an upload. */
  async #requests(run: Run, options: Partial<TransferOptions>): Promise<void> {
    await setPair(this.#lab, HOME);
    const idle = await this.#ask(options, IDLE_REQUESTS, 5);
    const [, busy] = await Promise.all([
      this.#transfer(upload, UPLOAD_SECONDS, options),
      sleep(REQUESTS_AFTER_MS).then(() => this.#ask(options, 0, UPLOAD_SECONDS - REQUESTS_AFTER_MS / 1000 - 0.5)),
    ]);
    run.note('requests.idle', idle.p50Ms);
    run.note('requests.p50', busy.p50Ms);
    run.note('requests.p95', busy.p95Ms);
  }

  async #ask(
    { wrapper = [], port = 80 }: Partial<TransferOptions>,
    count: number,
    seconds: number,
  ): Promise<LatencyResult> {
    const script = fileURLToPath(new URL('./requests.js', import.meta.url));
    const url = `http://${SITE.v4}:${port}/small`;
    const argv = [...wrapper, process.execPath, script, url, String(count), String(seconds)];
    const { code, stdout, stderr } = await this.#lab.exec('client', argv, { timeoutMs: (seconds + 8) * 1000 });
    if (code !== 0) throw new Error(`requests: ${stderr.trim().split('\n').at(-1) || `status ${code}`}`);
    return JSON.parse(stdout) as LatencyResult;
  }

  async #goodput(run: Run, id: string, pair: Pair): Promise<void> {
    const seconds = this.goodputSeconds;
    const isDuplicates = pair === HOME && run.wants('duplicates');
    const counting = isDuplicates ? this.#countDuplicates(seconds) : Promise.resolve(null);
    const [{ rateBps }, duplicates] = await Promise.all([this.#transfer(download, seconds), counting]);
    run.note(id, rateBps / sumBps(pair, 'downBps'));
    if (duplicates !== null) run.note('duplicates', duplicates);
  }

  /** Percent of the bytes that the client received in the later part of a download and that it had already. */
  async #countDuplicates(seconds: number): Promise<Figure> {
    const control = new ControlClient(this.#tunnel!.client.socket);
    const count = async () => {
      const { flows, tcp_flows } = await control.get<FlowsDocument>('/v1/flows');
      const all = [...flows, ...tcp_flows];
      const sum = (key: 'rx_bytes' | 'duplicate_bytes') => all.reduce((total, flow) => total + flow[key], 0);
      return { bytes: sum('rx_bytes'), twice: sum('duplicate_bytes') };
    };
    await sleep(seconds * 1000 * STEADY_AFTER_SHARE);
    const before = await count();
    await sleep(seconds * 1000 * (1 - STEADY_AFTER_SHARE) - 500);
    const after = await count();
    const bytes = after.bytes - before.bytes;
    return bytes > 0 ? (100 * (after.twice - before.twice)) / bytes : { missing: 'no bytes came' };
  }

  async #transfer(
    how: typeof download,
    seconds: number,
    options: Partial<TransferOptions> = {},
  ): Promise<TransferResult> {
    const timeoutSeconds = seconds + 20;
    const result = await how(this.#lab, { address: SITE.v4, seconds, warmUpSeconds: 0, timeoutSeconds, ...options });
    if (!result.isIntact) throw new Error(`${how.name}: the bytes that arrived are not those that were sent`);
    return result;
  }

  /** A fresh tunnel over `pair`, warmed up by a short transfer each way; gone afterwards, and the links as they were. */
  async #withTunnel(pair: Pair, mode: string, action: () => Promise<void>): Promise<void> {
    await setPair(this.#lab, pair);
    this.#feed(STRONG_DBM);
    const clientEnv = { MPTUN_HOST_FEED: this.#feedFile };
    this.#tunnel = await startTunnel(this.#lab, { traffic: { mode }, clientEnv });
    try {
      await this.#transfer(download, WARM_UP_SECONDS);
      await this.#transfer(upload, WARM_UP_SECONDS);
      await action();
    } finally {
      await this.#endTunnel();
      await Promise.all(this.#lab.links.map((link) => link.restore()));
    }
  }

  async #endTunnel(): Promise<void> {
    const tunnel = this.#tunnel;
    this.#tunnel = null;
    if (tunnel !== null) await within(tunnel.dispose(), DISPOSE_TIMEOUT_MS, 'ending the tunnel');
  }
}

/** The figures of one run of one system. */
class Run {
  readonly figures = new Map<string, Figure>();
  readonly #groups: readonly Group[];
  readonly #say: (text: string) => void;

  constructor(
    readonly system: string,
    { groups, say }: RunOptions,
  ) {
    this.#groups = groups;
    this.#say = say;
  }

  /** Rows of a group, if it was asked for. */
  idsOf(group: Group): string[] {
    return ROWS.filter((row) => row.group === group && this.wants(row.id)).map((row) => row.id);
  }

  wants(id: string): boolean {
    return ROWS.some((row) => row.id === id && this.#groups.includes(row.group));
  }

  /** The incident with the rows that were asked for; nothing if there are none. */
  narrow(incident: Incident): Incident[] {
    const rows = incident.rows.filter((row) => this.wants(`${incident.id}.${row}`));
    return rows.length === 0 ? [] : [{ ...incident, rows }];
  }

  note(id: string, figure: Figure): void {
    const row = ROWS.find((r) => r.id === id);
    if (row === undefined || !this.wants(id)) return;
    this.figures.set(id, figure);
    const text = isMissing(figure) ? `missing: ${figure.missing}` : `${figure.toFixed(row.decimals)} ${row.unit}`;
    this.#say(`  ${this.system}: ${row.name}: ${text}`);
  }

  /** Takes the figures of `ids`. Whatever goes wrong, and however long it takes, each has a figure or a reason then. */
  async attempt(ids: readonly string[], timeoutMs: number, action: () => Promise<void>): Promise<void> {
    if (ids.length === 0) return;
    let why = 'it was not measured';
    try {
      await within(action(), timeoutMs, 'all of it');
    } catch (error) {
      why = (error as Error).message.split('\n', 1)[0]!;
    }
    for (const id of ids) if (!this.figures.has(id)) this.note(id, { missing: why });
  }
}

function rowsOf({ id, rows }: Incident): string[] {
  return rows.map((row) => `${id}.${row}`);
}

/**
 * The flow lane over emulated links, 2 x 100 Mbit/s of 25 ms one way: TCP ends at the TUN, and each connection of an
 * application has a Multipath TCP connection of its own to the server's relay. Real curl and Node inside the tunnel; where a
 * figure is a ratio, both of its parts are of this run. Memory and connections: many-flows.ts.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createLab, download, type Lab, SITE, startTunnel, type Tunnel } from '../src/lab/index.js';
import type { Section, SectionOptions } from './bench.js';
import type { Counts, Times } from './many-flows.js';
import { type Pair, setPair, sumBps, toSpecs } from './pairs.js';
import { goNormal, goRealTime } from './priority.js';
import { atLeast, atMost, type Row, round3 } from './stats.js';

const RATE = { downBps: 100e6, upBps: 100e6, delayMs: 25 };
const CLEAN: Pair = [RATE, RATE];
const LOSSY: Pair = [{ ...RATE, loss: 0.01 }, RATE];
/** The best link's round trip. */
const RTT_MS = 2 * RATE.delayMs;
const SECONDS = 15;
const QUICK_SECONDS = 6;
/** Not counted: slow start of both TCPs (as iperf3 -O). */
const OMIT_SECONDS = 2;
/** Of a fresh tunnel: code that runs for the first time is slow. */
const WARM_UP_SECONDS = 1;
const MANY = 16;
const BULK_FLOWS = 8;
const FETCH_BYTES = 100_000;
const FETCHES = 40;
const QUICK_FETCHES = 12;
const CONNECTS = 40;
const NEW_PER_S = 150;
const BURST = 1_000;
const IDLE = 1_000;
/** After the tunnel is up, and after a burst: the pool fills, what was needed for the moment goes. */
const SETTLE_MS = 2_000;

/** Of the applications' hosts: what Linux has by default, and what this project's own connections have. */
const INNER_CONTROLS = ['cubic', 'bbr'];

const RELAY = { client: { flows: { default: 'relay' } } };
/** As beside the flow lane: short queue, deadlines, the quickest path. */
const PACKET = { client: { flows: { default: 'packet' }, traffic: { mode: 'interactive' } } };
/** As without a flow lane: what sends much has a connection of its own, over all paths. */
const PACKET_AGGREGATE = { client: { flows: { default: 'packet' } } };

export async function openFlowsBench({ quick, say }: SectionOptions): Promise<Section> {
  const isRealTime = goRealTime();
  const lab = await createLab({ links: toSpecs(CLEAN), prefix: 'mtb-flows-' });
  const bench = new FlowsBench(lab, quick, say);
  return {
    title: 'flow lane: TCP ended at the TUN, a Multipath TCP connection for each',
    config: { seconds: quick ? QUICK_SECONDS : SECONDS, omitSeconds: OMIT_SECONDS, isRealTime, CLEAN, LOSSY },
    note: `Goodput without its first ${OMIT_SECONDS} s. ${isRealTime ? 'Real-time priority.' : 'Normal priority: what else ran on the machine shows.'}`,
    run: () => bench.run(),
    close: async () => {
      await bench.close();
      await lab.dispose();
      goNormal();
    },
  };
}

class FlowsBench {
  private tunnel: Tunnel | null = null;

  constructor(
    private readonly lab: Lab,
    private readonly quick: boolean,
    private readonly say: (text: string) => void,
  ) {}

  async run(): Promise<Row[]> {
    // Otherwise a flow begins where the last one to the same address ended, over whatever that went.
    await this.sysctl('net.ipv4.tcp_no_metrics_save=1');
    const seconds = this.quick ? QUICK_SECONDS : SECONDS;
    const clean = await this.withTunnel(CLEAN, RELAY, async (tunnel) => [
      share('one flow, goodput of the sum', await this.bulk(1, seconds), CLEAN, 0.945),
      share(`${MANY} flows, goodput of the sum`, await this.bulk(MANY, seconds), CLEAN, 0.945),
      ...(await this.fetches()),
      await this.connects(),
      ...(await this.newFlows()),
      await this.memory(tunnel),
    ]);
    const lossy: Row[] = [];
    for (const control of INNER_CONTROLS) lossy.push(...(await this.lossy(control, seconds)));
    return [...clean, ...lossy];
  }

  /**
   * Both lanes with the same flow, whose own congestion control sees the loss in the packet lane's delays only. The packet
   * lane is meant for what somebody waits for, and then uses one path at a time; left to itself it aggregates big flows.
   */
  private async lossy(control: string, seconds: number): Promise<Row[]> {
    await this.sysctl(`net.ipv4.tcp_congestion_control=${control}`);
    const relayed = await this.withTunnel(LOSSY, RELAY, () => this.bulk(1, seconds));
    const packets = await this.withTunnel(LOSSY, PACKET, () => this.bulk(1, seconds));
    const aggregated = await this.withTunnel(LOSSY, PACKET_AGGREGATE, () => this.bulk(1, seconds));
    const name = (text: string) => `1 % loss on one link, ${control} inside, ${text}`;
    return [
      share(name('relay, goodput of the sum'), relayed, LOSSY),
      share(name('interactive packet lane, goodput of the sum'), packets, LOSSY),
      {
        name: name('relay over interactive packet lane'),
        value: round3(relayed / packets),
        unit: '',
        target: atLeast(2),
      },
      share(name('aggregating packet lane, goodput of the sum'), aggregated, LOSSY),
      { name: name('relay over aggregating packet lane'), value: round3(relayed / aggregated), unit: '' },
    ];
  }

  /** Of the two hosts whose applications talk to each other. */
  private async sysctl(setting: string): Promise<void> {
    for (const host of ['client', 'site'] as const)
      await this.lab.exec(host, ['sysctl', '-qw', setting], { timeoutMs: 10_000 });
  }

  async close(): Promise<void> {
    await this.tunnel?.dispose();
  }

  /**
   * Goodput of so many downloads at once, bit/s, while all of them run: from the start of the last one (they start one after
   * the other) to the end of the first, which is when the lab begins to compare bytes and has less time for the rest. The
   * slope of what has arrived: what a start of many leaves to be put in order comes in lumps of megabytes.
   */
  private async bulk(flows: number, seconds: number): Promise<number> {
    const options = { address: SITE.v4, seconds };
    const results = await Promise.all(Array.from({ length: flows }, () => download(this.lab, options)));
    if (results.some((r) => !r.isIntact)) throw new Error('the bytes that arrived are not those that were sent');
    const arrivals = results.map((r) => r.arrivals);
    const omitMs = 1000 * Math.min(OMIT_SECONDS, seconds / 2);
    const fromMs = Math.max(...arrivals.map((a) => a.startMs)) + omitMs;
    const toMs = Math.min(...arrivals.map((a) => a.lastMs));
    return arrivals.reduce((sum, a) => sum + a.slopeBps(fromMs - a.startMs, toMs - a.startMs), 0);
  }

  /** An answer of 100 KB on a new connection: with an idle tunnel, and while others fill it. */
  private async fetches(): Promise<Row[]> {
    const count = this.quick ? QUICK_FETCHES : FETCHES;
    const fetch = () => this.many<Times>('fetch', SITE.v4, count, FETCH_BYTES);
    const idle = await fetch();
    const stop = new AbortController();
    const address = SITE.v4;
    const bulk = Array.from({ length: BULK_FLOWS }, () =>
      download(this.lab, { address, seconds: 300, signal: stop.signal }),
    );
    await sleep(OMIT_SECONDS * 1000);
    const busy = await fetch().finally(() => stop.abort());
    await Promise.all(bulk);
    return [
      { name: '100 KB request, idle tunnel, p95', value: round3(idle.p95Ms), unit: 'ms' },
      { name: `100 KB request beside ${BULK_FLOWS} bulk flows, p50`, value: round3(busy.p50Ms), unit: 'ms' },
      { name: `100 KB request beside ${BULK_FLOWS} bulk flows, p95`, value: round3(busy.p95Ms), unit: 'ms' },
      { name: 'p95, beside over idle', value: round3(busy.p95Ms / idle.p95Ms), unit: '', target: atMost(2.5) },
    ];
  }

  /** What the relay adds to connect(), in round trips of the best link. */
  private async connects(): Promise<Row> {
    await sleep(SETTLE_MS);
    const direct = await this.many<Times>('connect', this.lab.links[0]!.siteAddress, CONNECTS);
    const relayed = await this.many<Times>('connect', SITE.v4, CONNECTS);
    const value = round3((relayed.p50Ms - direct.p50Ms) / RTT_MS);
    return { name: 'connect: added by the relay, of a round trip, p50', value, unit: '', target: atMost(0.2) };
  }

  private async newFlows(): Promise<Row[]> {
    const seconds = this.quick ? 3 : 10;
    const rate = await this.many<Counts>('rate', SITE.v4, NEW_PER_S, seconds);
    await sleep(SETTLE_MS);
    const burst = await this.many<Counts>('burst', SITE.v4, BURST);
    await sleep(SETTLE_MS);
    const failed = (name: string, value: number): Row => ({ name, value, unit: 'failed', target: atMost(0) });
    return [
      {
        name: 'new flows of 1 KB, sustained',
        value: round3(rate.done / rate.seconds),
        unit: '1/s',
        target: atLeast(0.95 * NEW_PER_S),
      },
      failed('new flows of 1 KB, failures', rate.failed),
      failed(`burst of ${BURST} flows, failures`, burst.failed),
      { name: `burst of ${BURST} flows, until all are done`, value: round3(burst.seconds), unit: 's' },
    ];
  }

  /** What the client's process grows by, for open connections on which nothing happens. */
  private async memory(tunnel: Tunnel): Promise<Row> {
    const before = residentBytes(tunnel.client.process.pid!);
    const child = this.lab.spawn('client', this.script('idle', SITE.v4, IDLE), { stdio: ['pipe', 'pipe', 'inherit'] });
    const [line] = (await once(child.stdout!, 'data')) as [Buffer];
    const { failed } = JSON.parse(line.toString()) as Counts;
    if (failed > 0) this.say(`${failed} of ${IDLE} idle connections could not be opened`);
    await sleep(SETTLE_MS);
    const grownBytes = residentBytes(tunnel.client.process.pid!) - before;
    child.stdin!.end();
    await once(child, 'exit');
    return {
      name: `${IDLE - failed} idle flows, client memory above baseline`,
      value: round3(grownBytes / 1e6),
      unit: 'MB',
      target: atMost(90),
    };
  }

  private async many<T>(...args: readonly (string | number)[]): Promise<T> {
    const { code, stdout, stderr } = await this.lab.exec('client', this.script(...args), { timeoutMs: 120_000 });
    if (code !== 0) throw new Error(`many-flows ${args.join(' ')}: ${stderr.trim() || `status ${code}`}`);
    const complaints = stderr.trim().split('\n').slice(0, 3).join('; ');
    if (complaints !== '') this.say(`${args[0]}: ${complaints}`);
    return JSON.parse(stdout) as T;
  }

  private script(...args: readonly (string | number)[]): string[] {
    return [process.execPath, fileURLToPath(new URL('./many-flows.js', import.meta.url)), ...args.map(String)];
  }

  private async withTunnel<T>(pair: Pair, options: object, action: (tunnel: Tunnel) => Promise<T>): Promise<T> {
    await setPair(this.lab, pair);
    const tunnel = await startTunnel(this.lab, options);
    this.tunnel = tunnel;
    try {
      await this.bulk(1, WARM_UP_SECONDS);
      await sleep(SETTLE_MS);
      return await action(tunnel);
    } finally {
      await tunnel.dispose();
      this.tunnel = null;
    }
  }
}

function share(name: string, rateBps: number, pair: Pair, target?: number): Row {
  const value = Number((rateBps / sumBps(pair, 'downBps')).toFixed(3));
  return { name, value, unit: '', ...(target !== undefined && { target: atLeast(target) }) };
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]) * 1024;
}

/**
 * The relay's client on its own, in a namespace: dials flows through a relay and says what comes of them, one JSON line per
 * finding. Orders on stdin, one a line:
 *   get HOST PORT PATH          a flow, an HTTP request on it, its bytes counted           burst N HOST PORT
 *   rate PER_S SECONDS HOST PORT    flows of 1 KB                                           latency N HOST PORT
 *   fill HOST PORT BYTES        sends to one who does not read: how much was taken
 *   echo HOST PORT BYTES        sends, half-closes, reads the count                         reset HOST PORT
 * Arguments: JSON {relay, port, pin, keyFile, links: [{name, address, remote}], poolMin, poolMax}.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { parseIp } from '../../src/core/base/ip.js';
import type { EngineEvent } from '../../src/core/engine/api.js';
import { TUNNEL_KEEPALIVE } from '../../src/core/engine/config.js';
import { Driver } from '../../src/daemon/driver.js';
import type { DialError, FlowOutbound } from '../../src/daemon/flows/contract.js';
import { RelayClient } from '../../src/daemon/flows/relay-client.js';
import { after } from '../../src/daemon/session-paths.js';
import { loadIdentity } from '../../src/daemon/tls.js';
import { Rtnetlink } from '../../src/native/index.js';

export interface Settings {
  readonly relay: string;
  readonly port: number;
  readonly pin: string;
  readonly keyFile: string;
  readonly links: readonly { readonly name: string; readonly address: string; readonly remote: string }[];
  readonly poolMin?: number;
  readonly poolMax?: number;
}

const settings = JSON.parse(process.argv[2]!) as Settings;
const identity = await loadIdentity(settings.keyFile);
const rt = new Rtnetlink();
const driver: Driver = new Driver(
  `relay_user_${process.pid}`,
  { tcp: TUNNEL_KEEPALIVE },
  {
    onEvent: (event: EngineEvent) => relay.onEngineEvent(event),
    onFlushed: () => {},
    onReceived: () => {},
    onProblem: (message) => process.stderr.write(`${message}\n`),
  },
);
const links = settings.links.map(({ name, address, remote }) => {
  const { index: id, mtuBytes } = rt.link(name)!;
  const link = { id, name, mtuBytes, isUp: true, addresses: [parseIp(address)] };
  driver.openLink(link);
  return { ...link, remote: { address: parseIp(remote), port: settings.port } };
});
const remote = { address: parseIp(settings.relay), port: settings.port };
const failures: string[] = [];
const relay: RelayClient = new RelayClient(
  {
    nowUs: () => driver.nowUs(),
    after,
    isChosen: () => true,
    random: Math.random,
    async connect() {
      const guard = driver.acquirePort(0);
      await driver.guarded();
      const way = { pathId: 1, linkId: links[0]!.id, localAddress: links[0]!.addresses[0]!, remote };
      const api = driver.engine.connect(driver.nowUs(), { ...way, localPort: guard.port });
      guards.set(api.id, guard);
      driver.flushSoon();
      return { way, api };
    },
    openStream: (connection) => driver.openStream(connection),
    follow(connection) {
      for (const { id: linkId, addresses, remote: other } of links.slice(1)) {
        connection.join(driver.nowUs(), { linkId, localAddress: addresses[0]!, remote: other });
      }
      driver.flushSoon();
    },
    onFailed: (error) => failures.push(error.message),
  },
  {
    identity,
    pin: settings.pin,
    config: () => ({
      poolMin: settings.poolMin ?? 2,
      poolMax: settings.poolMax ?? 32,
      secondSubflowAfter: { bytes: 64_000, timeUs: 300_000 },
    }),
  },
);
const guards = new Map<number, { release(): void }>();
function say(what: string, value: object): void {
  process.stdout.write(`${JSON.stringify({ what, ...value })}\n`);
}

function dial(host: string, port: string): Promise<FlowOutbound> {
  const address = /^[\d.]+$|:/.test(host) ? parseIp(host) : null;
  return relay.dial({ host, port: Number(port), address, source: null }, AbortSignal.timeout(60_000));
}

/** Everything up to the end. */
async function drain(flow: FlowOutbound): Promise<{ bytes: number; sha256: string; end: string; subflows: number }> {
  const hash = createHash('sha256');
  let bytes = 0;
  let subflows = 0;
  flow.stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    hash.update(chunk);
    subflows = Math.max(subflows, flow.connection.info().subflows.length);
  });
  flow.stream.resume();
  const end = await Promise.race([
    once(flow.stream, 'end').then(() => 'end'),
    new Promise<string>((resolve) => flow.stream.once('error', () => resolve('reset'))),
  ]).catch(() => 'reset');
  if (end === 'end') flow.stream.end();
  return { bytes, sha256: hash.digest('hex'), end, subflows };
}

async function small(host: string, port: string): Promise<number> {
  const beganUs = driver.nowUs();
  const flow = await dial(host, port);
  const tookUs = driver.nowUs() - beganUs;
  flow.stream.write('GET /1024 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const { bytes } = await drain(flow);
  if (bytes < 1024) throw new Error(`only ${bytes} bytes came`);
  return tookUs;
}

function summary(timesUs: readonly number[], failed: readonly string[]) {
  const sorted = [...timesUs].sort((a, b) => a - b);
  const at = (share: number) => Math.round(sorted[Math.floor(share * (sorted.length - 1))] ?? 0);
  const { counters } = relay.pool;
  const { user, system } = process.cpuUsage();
  return {
    cpuS: (user + system) / 1e6,
    done: timesUs.length,
    failed: failed.length,
    why: failed[0] ?? null,
    p50: at(0.5),
    p95: at(0.95),
    counters,
  };
}

const orders: Record<string, (args: string[]) => Promise<object>> = {
  async get([host, port, path]) {
    const flow = await dial(host!, port!);
    flow.stream.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    const got = await drain(flow);
    const { isMptcp, fallbackReason } = flow.connection.info();
    return { ...got, isMptcp, fallbackReason };
  },
  async echo([host, port, bytes]) {
    const flow = await dial(host!, port!);
    flow.stream.end(Buffer.alloc(Number(bytes)));
    let text = '';
    flow.stream.on('data', (chunk: Buffer) => (text += chunk));
    return { ...(await drain(flow)), text };
  },
  async reset([host, port]) {
    const flow = await dial(host!, port!);
    flow.stream.write('anything');
    await delay(200);
    flow.abort();
    return {};
  },
  /** Sends to somebody who does not read, until nothing more is acknowledged for three seconds. */
  async fill([host, port, bytes]) {
    const flow = await dial(host!, port!);
    for (let left = Number(bytes); left > 0; left -= 1_000_000) flow.stream.write(Buffer.alloc(1_000_000));
    let acked = 0;
    for (let still = 0; still < 6; still++) {
      await delay(500);
      const now = flow.connection.info().bytesAcked;
      if (now > acked || now < 10_000) still = -1;
      acked = now;
    }
    const other = await small(host!, '8080').then(
      () => 'served',
      (e: Error) => e.message,
    );
    flow.abort();
    return { acked, other };
  },
  async burst([count, host, port]) {
    const failed: string[] = [];
    const beganUs = driver.nowUs();
    const times = await Promise.all(
      Array.from({ length: Number(count) }, () => small(host!, port!).catch((e: Error) => void failed.push(e.message))),
    );
    const seconds = (driver.nowUs() - beganUs) / 1e6;
    return {
      ...summary(
        times.filter((t) => t !== undefined),
        failed,
      ),
      seconds,
    };
  },
  async rate([perS, seconds, host, port]) {
    const failed: string[] = [];
    const times: number[] = [];
    const under: Promise<unknown>[] = [];
    const beganUs = driver.nowUs();
    for (let i = 0; i < Number(perS) * Number(seconds); i++) {
      const dueUs = beganUs + (i * 1e6) / Number(perS);
      if (dueUs > driver.nowUs()) await delay((dueUs - driver.nowUs()) / 1000);
      under.push(
        small(host!, port!).then(
          (t) => times.push(t),
          (e: Error) => failed.push(e.message),
        ),
      );
    }
    await Promise.all(under);
    return { ...summary(times, failed), seconds: (driver.nowUs() - beganUs) / 1e6 };
  },
  async latency([count, host, port]) {
    const times: number[] = [];
    for (let i = 0; i < Number(count); i++) {
      times.push(await small(host!, port!));
      await delay(50);
    }
    return summary(times, []);
  },
};

relay.start();
say('ready', {});

for await (const line of createInterface(process.stdin)) {
  const [what, ...args] = line.split(' ');
  try {
    say(what!, await orders[what!]!(args));
  } catch (error) {
    say(what!, { failed: (error as DialError).failure ?? 'other', message: (error as Error).message, failures });
  }
}
relay.close();
driver.close();
rt.close();
process.exit(0);

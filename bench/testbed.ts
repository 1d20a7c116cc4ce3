/**
 * Two hosts on two plain veth links, and what measures between them: iperf3 and ping.
 *
 *   client ── eth0 10.1.0.1 ──── 10.1.0.2 eth0 ── server
 *          ── eth1 10.2.0.1 ──── 10.2.0.2 eth1 ──
 *
 * The server's own address SERVER is on both of its interfaces; the client has a route to it over each link. Kernel
 * MPTCP is given the same two links (ip-mptcp(8)): a connection to 10.1.0.2 gets a subflow over the second by itself.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { NamespaceSet } from '../src/lab/namespaces.js';
import { SERVER, SITE } from '../src/lab/topology.js';
import { type CpuTimes, readCpuTimes, subtractCpuTimes } from './cpu.js';

export const LINKS = ['eth0', 'eth1'] as const;
/** The server over the first link, outside any tunnel. */
export const OUTSIDE = '10.1.0.2';
/** The server through the tunnel: an address of its loopback device, which no link leads to by itself. */
export const INSIDE = SITE.v4;

const IPERF_PORT = 5201;
/** Beyond the transfer itself. */
const IPERF_PATIENCE_S = 15;
const LISTEN_ATTEMPTS = 100;
const LISTEN_POLL_MS = 50;
const PINGS = 100;
const PING_INTERVAL_S = 0.02;
const WARM_UP_PINGS = 2_000;
const WARM_UP_INTERVAL_S = 0.005;

export type Direction = 'down' | 'up';

export interface Transfer {
  readonly bytes: number;
  readonly bitsPerS: number;
  readonly retransmits: number;
  /** Of `pids`, of iperf3 at both ends, of the kernel's threads and of the machine, over the whole transfer. */
  readonly cpu: CpuTimes;
}

export class Testbed {
  readonly namespaces = new NamespaceSet('mtb-tunnel-');

  constructor() {
    try {
      wire(this.namespaces);
    } catch (error) {
      void this.namespaces.dispose();
      throw error;
    }
  }

  /** One TCP stream between client and server (at `address`) for `seconds`; `mptcp`: iperf3 over kernel MPTCP. */
  async transfer(
    address: string,
    direction: Direction,
    seconds: number,
    options: { mptcp?: boolean; pids?: readonly number[] } = {},
  ): Promise<Transfer> {
    const program = options.mptcp === true ? ['mptcpize', 'run', 'iperf3'] : ['iperf3'];
    const pids = options.pids ?? [];
    const before = readCpuTimes(pids);
    const server = this.namespaces.spawn('server', [...program, '-s', '--one-off'], { stdio: 'ignore' });
    const serverEnd = once(server, 'exit');
    await this.#untilListening();
    const args = ['-c', address, '-p', String(IPERF_PORT), '-t', String(seconds), '-J'];
    if (direction === 'down') args.push('-R');
    const timeoutMs = (seconds + IPERF_PATIENCE_S) * 1000;
    const { stdout, stderr, code } = await this.namespaces.exec('client', [...program, ...args], { timeoutMs });
    // With -J it reports an error in its answer only, and ends well.
    const answer = parseAnswer(stdout);
    const isFailed = code !== 0 || answer.error !== undefined;
    if (isFailed) server.kill('SIGKILL');
    await serverEnd;
    if (isFailed) {
      throw new Error(
        `iperf3 to ${address}: ${answer.error ?? (stderr.trim() || `no end after ${timeoutMs / 1000} s`)}`,
      );
    }
    const cpu = subtractCpuTimes(readCpuTimes(pids), before);
    const { sum_received, sum_sent } = answer.end!;
    return {
      bytes: sum_received.bytes,
      bitsPerS: sum_received.bits_per_second,
      retransmits: sum_sent.retransmits ?? 0,
      cpu,
    };
  }

  /** Round-trip times from client to `address`, milliseconds. */
  ping(address: string): Promise<number[]> {
    return this.pings(address, PINGS, PING_INTERVAL_S);
  }

  /** Ten seconds of them: what they run has been compiled afterwards. */
  async warmUp(address: string): Promise<void> {
    await this.pings(address, WARM_UP_PINGS, WARM_UP_INTERVAL_S);
  }

  private async pings(address: string, count: number, intervalS: number): Promise<number[]> {
    const argv = ['ping', '-n', '-c', String(count), '-i', String(intervalS), address];
    const { stdout } = await this.namespaces.exec('client', argv, { timeoutMs: 20_000 });
    const times = [...stdout.matchAll(/ time=([\d.]+) ms/g)].map((match) => Number(match[1]));
    if (times.length < count / 2) throw new Error(`ping ${address}: ${times.length} of ${count} were answered`);
    return times;
  }

  /** Subflows that the server's kernel accepted beyond the first ones (MPTcpExtMPJoinAckRx). */
  kernelJoins(): number {
    const text = this.namespaces.execSync('server', ['nstat', '-asz', 'MPTcpExtMPJoinAckRx']);
    return Number(/MPTcpExtMPJoinAckRx\s+(\d+)/.exec(text)?.[1] ?? 0);
  }

  async #untilListening(): Promise<void> {
    for (let attempt = 0; attempt < LISTEN_ATTEMPTS; attempt++) {
      if (this.namespaces.execSync('server', ['ss', '-Hltn', 'sport', '=', `:${IPERF_PORT}`]) !== '') return;
      await sleep(LISTEN_POLL_MS);
    }
    throw new Error('iperf3 -s does not listen');
  }

  close(): Promise<void> {
    return this.namespaces.dispose();
  }
}

interface IperfAnswer {
  readonly error?: string;
  readonly end?: {
    readonly sum_received: { readonly bytes: number; readonly bits_per_second: number };
    readonly sum_sent: { readonly retransmits?: number };
  };
}

function parseAnswer(text: string): IperfAnswer {
  try {
    return JSON.parse(text) as IperfAnswer;
  } catch {
    return { error: 'it printed no result' };
  }
}

function wire(namespaces: NamespaceSet): void {
  for (const host of ['client', 'server'] as const) {
    namespaces.add(host);
    namespaces.sysctl(host, {
      'net.ipv4.conf.all.rp_filter': 0,
      'net.ipv4.conf.default.rp_filter': 0,
      'net.ipv4.tcp_no_metrics_save': 1,
      'net.ipv4.ip_forward': host === 'server' ? 1 : 0,
      'net.mptcp.enabled': 1,
    });
  }
  namespaces.ip('server', [`addr add ${INSIDE}/32 dev lo`]);
  LINKS.forEach((name, i) => {
    const net = `10.${i + 1}.0`;
    namespaces.ip('client', [
      `link add ${name} type veth peer name ${name} netns @server`,
      `addr add ${net}.1/24 dev ${name}`,
      `link set ${name} up`,
    ]);
    namespaces.ip('server', [
      `addr add ${net}.2/24 dev ${name}`,
      `addr add ${SERVER.v4}/32 dev ${name}`,
      `link set ${name} up`,
    ]);
    namespaces.ip('client', [`route add default via ${net}.2 dev ${name} src ${net}.1 metric ${100 * (i + 1)}`]);
  });
  namespaces.ip('client', [
    'mptcp limits set subflow 2 add_addr_accepted 2',
    'mptcp endpoint add 10.2.0.1 dev eth1 subflow',
  ]);
  namespaces.ip('server', [
    'mptcp limits set subflow 2 add_addr_accepted 2',
    'mptcp endpoint add 10.2.0.2 dev eth1 signal',
  ]);
}

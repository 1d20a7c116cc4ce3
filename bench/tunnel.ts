/**
 * The whole tunnel: `mptun run` at both ends of two plain veth links, and one iperf3 TCP stream through the TUN, each
 * way. In the same run, over the same links, kernel MPTCP (not encrypted, no TUN) carries the same transfer: the
 * yardstick. CPU seconds count everything: both daemons, iperf3 at both ends, the kernel's softirq threads.
 */
import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import { startTunnel, type Tunnel } from '../src/lab/tunnel.js';
import type { Section, SectionOptions } from './bench.js';
import { peakMemoryBytes } from './cpu.js';
import { atLeast, atMost, median, type Row, round3 } from './stats.js';
import { type Direction, INSIDE, LINKS, OUTSIDE, Testbed, type Transfer } from './testbed.js';

const SECONDS = 10;
const QUICK_SECONDS = 3;
const CPUS = 2;
const LEAST_GBIT_PER_S = 2;
const MOST_CPU_S_PER_GB = 15;
const MOST_ADDED_RTT_MS = 1;
const MOST_MEMORY_MB = 200;

export async function openTunnelBench({ quick }: SectionOptions): Promise<Section> {
  confineToCpus();
  const testbed = new Testbed();
  let tunnel: Tunnel | undefined;
  const close = async () => {
    await tunnel?.dispose();
    await testbed.close();
  };
  try {
    tunnel = await startTunnel({
      links: LINKS.map((name) => ({ name })),
      spawn: (node, argv, options) => testbed.namespaces.spawn(node, argv, options),
    });
    const seconds = quick ? QUICK_SECONDS : SECONDS;
    const started = tunnel;
    return {
      title: `tunnel over two veth links, one TCP stream, ${CPUS} CPUs`,
      config: { seconds, links: LINKS.length, cpus: CPUS },
      run: () => measure(testbed, started, seconds),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function measure(testbed: Testbed, tunnel: Tunnel, seconds: number): Promise<Row[]> {
  const pids = [tunnel.client.process.pid!, tunnel.server.process.pid!];
  const rows: Row[] = [];
  for (const direction of ['down', 'up'] as const) {
    const ours = await testbed.transfer(INSIDE, direction, seconds, { pids });
    const joinsBefore = testbed.kernelJoins();
    const kernel = await testbed.transfer(OUTSIDE, direction, seconds, { mptcp: true });
    if (testbed.kernelJoins() === joinsBefore) throw new Error('kernel MPTCP did not use the second link');
    rows.push(...rowsOf(direction, ours, kernel));
  }
  // After the transfers: a tunnel that idles now, not one that never carried anything. Bulk is other code than single
  // packets, and JavaScript is slow until it has been compiled for what it does.
  await testbed.warmUp(INSIDE);
  const outsideMs = median(await testbed.ping(OUTSIDE));
  const insideMs = median(await testbed.ping(INSIDE));
  rows.push({
    name: 'idle, added round-trip time',
    value: round3(Math.max(0, insideMs - outsideMs)),
    unit: 'ms',
    target: atMost(MOST_ADDED_RTT_MS),
  });
  rows.push({ name: 'idle, round-trip time outside', value: round3(outsideMs), unit: 'ms' });
  ['client', 'server'].forEach((who, i) => {
    const value = round3(peakMemoryBytes(pids[i]!) / 1e6);
    rows.push({ name: `${who}, peak memory`, value, unit: 'MB', target: atMost(MOST_MEMORY_MB) });
  });
  return rows;
}

function rowsOf(direction: Direction, ours: Transfer, kernel: Transfer): Row[] {
  const { processes, endedChildren, softirqThreads, machine } = ours.cpu;
  const perGb = (cpuSeconds: number, { bytes }: Transfer) => round3((cpuSeconds * 1e9) / bytes);
  const cost = (part: string, cpuSeconds: number): Row => ({
    name: `${direction}: tunnel, cost${part}`,
    value: perGb(cpuSeconds, ours),
    unit: 'CPU s/GB',
  });
  const all = processes[0]! + processes[1]! + endedChildren + softirqThreads;
  const kernelAll = kernel.cpu.endedChildren + kernel.cpu.softirqThreads;
  return [
    {
      name: `${direction}: tunnel`,
      value: round3(ours.bitsPerS / 1e9),
      unit: 'Gbit/s',
      target: atLeast(LEAST_GBIT_PER_S),
    },
    { name: `${direction}: kernel MPTCP`, value: round3(kernel.bitsPerS / 1e9), unit: 'Gbit/s' },
    { name: `${direction}: tunnel / kernel MPTCP`, value: round3(ours.bitsPerS / kernel.bitsPerS), unit: '' },
    { ...cost('', all), target: atMost(MOST_CPU_S_PER_GB) },
    cost(', client', processes[0]!),
    cost(', server', processes[1]!),
    cost(', iperf3', endedChildren),
    cost(', softirq threads', softirqThreads),
    cost(', whole machine (others included)', machine),
    { name: `${direction}: kernel MPTCP, cost`, value: perGb(kernelAll, kernel), unit: 'CPU s/GB' },
    { name: `${direction}: retransmissions inside the tunnel`, value: ours.retransmits, unit: 'segments' },
  ];
}

/** The target is stated for two CPUs; children inherit the confinement. */
function confineToCpus(): void {
  if (cpus().length <= CPUS) return;
  execFileSync('taskset', ['-pc', `0-${CPUS - 1}`, String(process.pid)], { stdio: 'ignore' });
}

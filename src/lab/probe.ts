/**
 * UDP measurements of one link, run inside the client's namespace: `node probe.js ADDRESS echo|burst …`, one line of
 * JSON on stdout. Probes: see probe-protocol.ts.
 *
 *   echo COUNT INTERVAL_MS   → EchoResult     idle delays, and loss
 *   burst PACKETS            → BurstResult    both directions; more than the queue holds, at once
 */
import { createSocket, type Socket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from './arrivals.js';
import {
  BURST_DATA,
  BURST_REQUEST,
  type BurstReport,
  ECHO,
  ECHO_REPLY,
  PROBE_BYTES,
  PROBE_PORT,
  REPORT,
  REPORT_REQUEST,
  UDP_IP_HEADER_BYTES,
  writeProbe,
} from './probe-protocol.js';

export interface EchoResult {
  readonly sent: number;
  readonly received: number;
  /** Medians, milliseconds. */
  readonly rttMs: number;
  readonly upMs: number;
  readonly downMs: number;
}

export interface BurstResult {
  readonly sent: number;
  readonly up: BurstReport;
  readonly down: BurstReport;
}

const FULL_PACKET_BYTES = 1500;
/** After the last packet: longer than any queue and delay that the lab is used with. */
const DRAIN_MS = 700;

async function echo(socket: Socket, address: string, count: number, intervalMs: number): Promise<EchoResult> {
  const rtt: number[] = [];
  const up: number[] = [];
  const down: number[] = [];
  socket.on('message', (message) => {
    const nowMs = monotonicMs();
    if (message[0] !== ECHO_REPLY) return;
    const sentMs = message.readDoubleLE(8);
    const turnedMs = message.readDoubleLE(16);
    rtt.push(nowMs - sentMs);
    up.push(turnedMs - sentMs);
    down.push(nowMs - turnedMs);
  });
  const startMs = monotonicMs();
  for (let i = 0; i < count; i++) {
    const waitMs = startMs + i * intervalMs - monotonicMs();
    if (waitMs > 0) await sleep(waitMs);
    socket.send(writeProbe(ECHO, i, monotonicMs()), PROBE_PORT, address);
  }
  await sleep(DRAIN_MS);
  return { sent: count, received: rtt.length, rttMs: median(rtt), upMs: median(up), downMs: median(down) };
}

async function burst(socket: Socket, address: string, packets: number): Promise<BurstResult> {
  const payloadBytes = FULL_PACKET_BYTES - UDP_IP_HEADER_BYTES;
  let received = 0;
  let maxDelayMs = 0;
  let up: BurstReport | undefined;
  socket.on('message', (message) => {
    const nowMs = monotonicMs();
    if (message[0] === BURST_DATA) {
      received++;
      maxDelayMs = Math.max(maxDelayMs, nowMs - message.readDoubleLE(8));
    } else if (message[0] === REPORT) {
      up = JSON.parse(message.toString('utf8', PROBE_BYTES)) as BurstReport;
    }
  });
  const send = (probe: Buffer) => socket.send(probe, PROBE_PORT, address);
  for (let i = 0; i < packets; i++) {
    send(writeProbe(BURST_DATA, i, monotonicMs(), payloadBytes));
    if (i % 32 === 31) await new Promise(setImmediate); // let the socket write
  }
  await sleep(DRAIN_MS);
  const request = writeProbe(BURST_REQUEST, 0, monotonicMs());
  request.writeDoubleLE(packets, 16);
  request.writeDoubleLE(payloadBytes, 24);
  send(request);
  await sleep(DRAIN_MS);
  for (let attempt = 0; attempt < 20 && up === undefined; attempt++) {
    send(writeProbe(REPORT_REQUEST, 0, monotonicMs()));
    await sleep(100);
  }
  if (up === undefined) throw new Error('no report from the site');
  return { sent: packets, up, down: { received, maxDelayMs } };
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

const [address, what, first, second] = process.argv.slice(2) as [string, string, string, string];
const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
await new Promise<void>((resolve) => socket.bind(0, resolve));
const result =
  what === 'echo'
    ? await echo(socket, address, Number(first), Number(second))
    : await burst(socket, address, Number(first));
process.stdout.write(`${JSON.stringify(result)}\n`);
socket.close();

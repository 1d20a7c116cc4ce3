/**
 * UDP measurements of one link, run inside the client's namespace: `node probe.js ADDRESS echo|burst …`, one line of
 * JSON on stdout. Probes: see probe-protocol.ts.
 *
 *   echo COUNT INTERVAL_MS   → EchoResult     idle delays, and loss
 *   burst down|up PACKETS    → BurstResult    more than the queue holds, at once
 */
import { createSocket, type Socket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from './arrivals.js';
import type { Direction } from './emulator-protocol.js';
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
  sendBurst,
  UDP_IP_HEADER_BYTES,
  writeProbe,
} from './probe-protocol.js';

export interface EchoResult {
  readonly sent: number;
  readonly received: number;
  /** Lowest deciles, milliseconds. */
  readonly rttMs: number;
  readonly upMs: number;
  readonly downMs: number;
}

export interface BurstResult {
  /** How long sending took: what the link carried away meanwhile did not wait. */
  readonly spanMs: number;
  /** Packets of 1500 bytes that came through. */
  readonly received: number;
}

const FULL_PACKET_BYTES = 1500;
/** After the last packet: longer than any queue and delay that the lab is used with. */
const DRAIN_MS = 700;
const COLD_PROBES = 20;

async function echo(socket: Socket, count: number, intervalMs: number): Promise<EchoResult> {
  const rtt: number[] = [];
  const up: number[] = [];
  const down: number[] = [];
  let received = 0;
  socket.on('message', (message) => {
    const nowMs = monotonicMs();
    if (message[0] !== ECHO_REPLY) return;
    received++;
    if (message.readUInt32LE(4) < COLD_PROBES) return; // code that runs for the first time is slow
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
    socket.send(writeProbe(ECHO, i, monotonicMs()));
  }
  await sleep(DRAIN_MS);
  return { sent: count, received, rttMs: typical(rtt), upMs: typical(up), downMs: typical(down) };
}

async function burst(socket: Socket, direction: Direction, packets: number): Promise<BurstResult> {
  const payloadBytes = FULL_PACKET_BYTES - UDP_IP_HEADER_BYTES;
  let downReceived = 0;
  let report: BurstReport | undefined;
  socket.on('message', (message) => {
    if (message[0] === BURST_DATA) downReceived++;
    else if (message[0] === REPORT) report = JSON.parse(message.toString('utf8', PROBE_BYTES)) as BurstReport;
  });
  let upSpanMs = 0;
  if (direction === 'up') {
    upSpanMs = await sendBurst(packets, payloadBytes, (probe) => socket.send(probe));
  } else {
    const request = writeProbe(BURST_REQUEST, 0, monotonicMs());
    request.writeDoubleLE(packets, 16);
    request.writeDoubleLE(payloadBytes, 24);
    socket.send(request);
  }
  await sleep(DRAIN_MS);
  for (let tries = 0; tries < 20 && report === undefined; tries++) {
    socket.send(writeProbe(REPORT_REQUEST, 0, monotonicMs()));
    await sleep(100);
  }
  if (report === undefined) throw new Error('no report from the site');
  return direction === 'up'
    ? { spanMs: upSpanMs, received: report.received }
    : { spanMs: report.sentSpanMs, received: downReceived };
}

/** The lowest decile: what a busy machine adds by waking us late is not the link's. */
function typical(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 10)] ?? Number.NaN;
}

const [address, what, first, second] = process.argv.slice(2) as [string, string, string, string];
const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
await new Promise<void>((resolve) => socket.connect(PROBE_PORT, address, resolve));
const result =
  what === 'echo'
    ? await echo(socket, Number(first), Number(second))
    : await burst(socket, first as Direction, Number(second));
process.stdout.write(`${JSON.stringify(result)}\n`);
socket.close();

/**
 * One end of a call: 50 small UDP packets a second, each with its number and the time at which it left (CLOCK_MONOTONIC,
 * which all namespaces of one machine share). One line of JSON on stdout at the end (CallEnd).
 *
 *   node voice-call.js callee ADDRESS PORT SECONDS    says "ready"; talks from the first packet on, to where that came from
 *   node voice-call.js caller ADDRESS PORT SECONDS
 */
import { createSocket } from 'node:dgram';
import { monotonicMs } from '../src/lab/arrivals.js';

export interface CallEnd {
  /** When each packet left, by its number. */
  readonly sentMs: readonly number[];
  /** Of what came: number and time on the way, milliseconds. Duplicates are left out. */
  readonly received: readonly (readonly [number: number, delayMs: number])[];
}

const PERIOD_MS = 20;
/** 20 ms of G.711 under RTP. */
const PACKET_BYTES = 172;
/** For what is late. */
const STRAGGLERS_MS = 800;
const NOBODY_CALLS_MS = 15_000;

const [role, address, port, seconds] = process.argv.slice(2) as [string, string, string, string];
const socket = createSocket('udp4');
const sentMs: number[] = [];
const received = new Map<number, number>();
let isTalking = false;

socket.on('message', (message, from) => {
  const nowMs = monotonicMs();
  if (message.length < PACKET_BYTES) return;
  const number = message.readUInt32LE(0);
  if (!received.has(number)) received.set(number, nowMs - message.readDoubleLE(8));
  if (!isTalking) talk(from.address, from.port);
});
// A link that is down may refuse packets: they count as lost.
socket.on('error', () => {});

function talk(peer: string, peerPort: number): void {
  isTalking = true;
  const startMs = monotonicMs();
  const endMs = startMs + Number(seconds) * 1000;
  const packet = Buffer.alloc(PACKET_BYTES);
  const next = () => {
    const nowMs = monotonicMs();
    // One that is due late leaves late, with the time at which it does.
    while (startMs + sentMs.length * PERIOD_MS <= nowMs && sentMs.length * PERIOD_MS < endMs - startMs) {
      packet.writeUInt32LE(sentMs.length, 0);
      packet.writeDoubleLE(monotonicMs(), 8);
      sentMs.push(packet.readDoubleLE(8));
      socket.send(Buffer.from(packet), peerPort, peer, () => {});
    }
    if (nowMs < endMs) setTimeout(next, Math.max(1, startMs + sentMs.length * PERIOD_MS - monotonicMs()));
    else setTimeout(finish, STRAGGLERS_MS);
  };
  next();
}

function finish(): void {
  const end: CallEnd = { sentMs, received: [...received] };
  process.stdout.write(`${JSON.stringify(end)}\n`, () => process.exit(0));
}

if (role === 'callee') {
  socket.bind(Number(port), address, () => process.stdout.write('ready\n'));
  setTimeout(() => {
    if (isTalking) return;
    process.stderr.write('nobody calls\n');
    process.exit(1);
  }, NOBODY_CALLS_MS);
} else {
  talk(address, Number(port));
}

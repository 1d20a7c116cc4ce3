/**
 * UDP probes that calibrate a link: they carry send times of CLOCK_MONOTONIC, which all namespaces of one machine share,
 * so each direction is measured by itself.
 *
 *   byte 0      kind
 *   byte 4..8   number
 *   byte 8..16  sent at (monotonic milliseconds, f64)
 *   byte 16..24 ECHO_REPLY: the request arrived at; BURST_REQUEST: datagrams wanted
 *   byte 24..32 BURST_REQUEST: UDP payload bytes of each
 */
import { monotonicMs } from './arrivals.js';

export const PROBE_PORT = 7;
export const PROBE_BYTES = 32;

export const ECHO = 1;
export const ECHO_REPLY = 2;
export const BURST_REQUEST = 3;
export const BURST_DATA = 4;
export const REPORT_REQUEST = 5;
export const REPORT = 6;

/** IPv4 and UDP headers: what a datagram adds to its payload on the link. */
export const UDP_IP_HEADER_BYTES = 28;

export function writeProbe(kind: number, number: number, sentMs: number, bytes = PROBE_BYTES): Buffer {
  const b = Buffer.alloc(bytes);
  b[0] = kind;
  b.writeUInt32LE(number, 4);
  b.writeDoubleLE(sentMs, 8);
  return b;
}

/** What the far end says of bursts: of the last one up, and how long sending the last one down took. */
export interface BurstReport {
  readonly received: number;
  readonly sentSpanMs: number;
}

/** Sends `count` datagrams as fast as the socket takes them; resolves to how long that took, milliseconds. */
export async function sendBurst(count: number, payloadBytes: number, send: (probe: Buffer) => void): Promise<number> {
  const startMs = monotonicMs();
  for (let i = 0; i < count; i++) {
    send(writeProbe(BURST_DATA, i, monotonicMs(), payloadBytes));
    if (i % 32 === 31) await new Promise(setImmediate); // let the socket write
  }
  return monotonicMs() - startMs;
}

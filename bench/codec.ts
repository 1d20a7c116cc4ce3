/**
 * Micro-benchmarks of the wire codec: parsing, writing, checksums. Each case is warmed up, then run for several rounds of
 * equal work; the fastest round counts, since everything that disturbs a round only slows it.
 */
import { performance } from 'node:perf_hooks';
import { parseIp } from '../src/core/base/ip.js';
import { dssChecksum } from '../src/core/mptcp/keys.js';
import { sumRange } from '../src/core/wire/checksum.js';
import { PROTO_TCP, pseudoHeaderSum, writeIpHeader } from '../src/core/wire/ip.js';
import { MPO, writeDss } from '../src/core/wire/mptcp-options.js';
import { parseSegment, SegmentView, TCP_ACK, verifyTcpChecksum } from '../src/core/wire/segment.js';
import { finishTcpHeader, putTcpChecksum, putTimestamps, writeTcpHeader } from '../src/core/wire/tcp.js';
import type { Row } from './stats.js';

const ROUNDS = 7;
const ROUND_MS = 40;
const SRC = parseIp('10.0.1.1');
const DST = parseIp('10.0.1.2');

export async function run(): Promise<Row[]> {
  const packet = new Uint8Array(1500);
  const length = writePacket(packet, 1);
  const superPacket = new Uint8Array(65_535).map((_, i) => i * 7);
  const parts = [superPacket.subarray(0, 20_001), superPacket.subarray(20_001, 65_001)];
  const seg = new SegmentView();
  const received = new SegmentView();
  parseSegment(packet, 0, length, 0, received);
  const ack = new Uint8Array(80);
  const ackLength = writeAck(ack, 7);
  return [
    perCall('parse: data segment with timestamps and DSS', () => {
      parseSegment(packet, 0, length, 0, seg);
      return seg.mptcp.present & MPO.dss;
    }),
    perCall('parse: pure ACK with timestamps and DATA_ACK', () => {
      parseSegment(ack, 0, ackLength, 0, seg);
      return seg.ack;
    }),
    perCall('write: IP, TCP, timestamps, DSS headers of a data segment', (i) => writePacket(packet, i)),
    perCall('write: headers of a pure ACK', (i) => writeAck(ack, i)),
    throughput('TCP checksum of one segment', received.ipEnd - received.l4Off, () =>
      Number(verifyTcpChecksum(packet, received)),
    ),
    throughput('checksum of 64 KB', 65_535, () => sumRange(superPacket, 0, 65_535)),
    throughput('DSS checksum of 64 KB in two odd slices', 65_001, () => dssChecksum(1, 2, 3, 65_001, parts, 0, 65_001)),
  ];
}

function writePacket(out: Uint8Array, i: number): number {
  const payloadBytes = 1400;
  let o = writeTcpHeader(out, 20, 5000, 40_000, i, 7, TCP_ACK, 500);
  o = putTimestamps(out, o, i, 2);
  o = writeDss(out, o, 8, 1, i, 8, 3, i, 5, payloadBytes, -1, false);
  const headerBytes = finishTcpHeader(out, 20, o);
  const l4Length = headerBytes + payloadBytes;
  putTcpChecksum(out, 20, pseudoHeaderSum(SRC, DST, PROTO_TCP, l4Length));
  return writeIpHeader(out, 0, 4, SRC, DST, l4Length, PROTO_TCP, 2, i & 0xffff) + l4Length;
}

function writeAck(out: Uint8Array, i: number): number {
  let o = writeTcpHeader(out, 20, 5000, 40_000, 9, i, TCP_ACK, 500);
  o = putTimestamps(out, o, i, 2);
  o = writeDss(out, o, 8, 1, i, 0, 0, 0, 0, 0, -1, false);
  const headerBytes = finishTcpHeader(out, 20, o);
  putTcpChecksum(out, 20, pseudoHeaderSum(SRC, DST, PROTO_TCP, headerBytes));
  return writeIpHeader(out, 0, 4, SRC, DST, headerBytes, PROTO_TCP, 0, i & 0xffff) + headerBytes;
}

function perCall(name: string, body: (i: number) => number): Row {
  return { name, value: Math.round(nsPerCall(body) * 10) / 10, unit: 'ns' };
}

function throughput(name: string, bytes: number, body: (i: number) => number): Row {
  return { name, value: Math.round((bytes / nsPerCall(body)) * 100) / 100, unit: 'GB/s' };
}

function nsPerCall(body: (i: number) => number): number {
  // Warm-up doubles as calibration: how many calls fill a round.
  let calls = 1000;
  for (let elapsedMs = 0; elapsedMs < ROUND_MS; calls *= 2) elapsedMs = timeMs(body, calls);
  const rounds: number[] = [];
  for (let r = 0; r < ROUNDS; r++) rounds.push((timeMs(body, calls / 2) * 1e6) / (calls / 2));
  return Math.min(...rounds);
}

function timeMs(body: (i: number) => number, calls: number): number {
  const start = performance.now();
  let sink = 0;
  for (let i = 0; i < calls; i++) sink ^= body(i);
  const elapsedMs = performance.now() - start;
  if (sink === 0.5) throw new Error('unreachable, but the optimiser cannot know: results count');
  return elapsedMs;
}

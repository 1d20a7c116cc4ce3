import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import {
  CSUM_PARTIAL,
  CSUM_UNKNOWN,
  type PacketPort,
  ReceiveBatch,
  TransmitBatch,
} from '../../../src/core/engine/ports.js';
import { memoryLink } from '../../../src/native/memory/memory-port.js';
import { FaultyPort } from '../../../src/native/wrap/faulty-port.js';
import { PcapFile, TracedPort } from '../../../src/native/wrap/traced-port.js';
import { ACK, addTcp, seen } from '../../support/packets.js';

const PACKET = { from: '10.0.0.1', to: '10.0.0.2', fromPort: 1, toPort: 2, flags: ACK };

function batchOf(count: number, payloadBytes = 10, gsoSize = 0): TransmitBatch {
  const batch = new TransmitBatch(Math.max(1, count));
  for (let seq = 0; seq < count; seq++)
    addTcp(batch, { ...PACKET, seq, gsoSize, payload: Buffer.alloc(payloadBytes, seq) });
  return batch;
}

function receiveAll(port: PacketPort, slots = 64): number[] {
  const batch = new ReceiveBatch(slots, 4_096);
  const seqs: number[] = [];
  while (port.receive(batch) > 0) for (let i = 0; i < batch.count; i++) seqs.push(seen(batch, i).seq);
  return seqs;
}

/** Uniform in [0, 1), the same for the same seed (mulberry32). */
function seeded(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

test('a memory link delivers whole packets in order, with super-packet size and checksum state', (t) => {
  const [a, b] = memoryLink();
  let ready = 0;
  b.onReadable = () => ready++;
  const out = batchOf(3, 2_000, 500);
  out.csumOffset[2] = -1;
  t.is(a.send(out, 0), 3);
  t.is(ready, 1, 'once per readiness, not per packet');
  const batch = new ReceiveBatch(8, 4_096);
  t.is(b.receive(batch), 3);
  t.deepEqual(
    [0, 1, 2].map((i) => seen(batch, i).payload[0]),
    [0, 1, 2],
  );
  t.deepEqual([...batch.gsoSize.subarray(0, 3)], [500, 500, 500]);
  t.deepEqual([...batch.checksum.subarray(0, 3)], [CSUM_PARTIAL, CSUM_PARTIAL, CSUM_UNKNOWN]);
  t.is(b.receive(batch), 0);
});

test('a memory link: back-pressure, a full receive buffer, a slot too short, a closed peer', (t) => {
  const [a, b] = memoryLink(5_000);
  a.isBlocked = true;
  t.is(a.send(batchOf(2), 0), 0);
  a.isBlocked = false;
  t.is(a.send(batchOf(10, 960), 0), 10);
  t.is(b.takeDrops(), 5);
  t.is(b.takeDrops(), 0);
  const batch = new ReceiveBatch(8, 500);
  t.is(b.receive(batch), 5);
  t.deepEqual([...batch.truncated.subarray(0, 5)], [1, 1, 1, 1, 1]);
  b.close();
  t.is(a.send(batchOf(1), 0), 1, 'as into an unplugged cable');
});

test('faults: what is lost, duplicated and corrupted adds up, whatever the seed', (t) => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 0, max: 40 }), (seed, count) => {
      const [a, b] = memoryLink();
      const faults = { loseOut: 0.3, loseIn: 0.2, duplicateIn: 0.3, corruptIn: 0.2, refuseSend: 0.3 };
      const tx = new FaultyPort(a, seeded(seed), faults);
      const rx = new FaultyPort(b, seeded(seed + 1), faults);
      const out = batchOf(count);
      for (let sent = 0, calls = 0; sent < count && calls < 1_000; calls++) sent += tx.send(out, sent);
      const got = receiveAll(rx);
      return (
        out.count === count && got.length === count - tx.counts.lostOut - rx.counts.lostIn + rx.counts.duplicatedIn
      );
    }),
  );
  const [a, b] = memoryLink();
  const port = new FaultyPort(b, seeded(1), { corruptIn: 1 });
  a.send(batchOf(1), 0);
  const batch = new ReceiveBatch(1, 4_096);
  port.receive(batch);
  t.is(batch.checksum[0], CSUM_UNKNOWN);
  t.is(port.counts.corruptedIn, 1);
});

test('without faults the wrapper changes nothing, and inner back-pressure passes through', (t) => {
  const [a, b] = memoryLink();
  const tx = new FaultyPort(a, seeded(1), {});
  t.is(tx.send(batchOf(5), 2), 3);
  t.deepEqual(receiveAll(b), [2, 3, 4]);
  a.isBlocked = true;
  t.is(tx.send(batchOf(5), 2), 0);
});

test('a trace shows what crossed, both ways, and writes a pcap that others can read', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'mtn-'));
  try {
    const path = join(directory, 'trace.pcap');
    const file = new PcapFile(path, 1_000_000_000_000_000);
    const [a, b] = memoryLink();
    let now = 1_500_000;
    const traced = new TracedPort(a, () => now, file.observer);
    const out = batchOf(3, 100);
    t.is(traced.send(out, 1), 2);
    now = 2_000_001;
    b.send(batchOf(1, 7), 0);
    t.deepEqual(receiveAll(traced), [0]);
    file.close();
    const bytes = readFileSync(path);
    t.is(bytes.readUInt32LE(0), 0xa1b2c3d4);
    t.is(bytes.readUInt32LE(20), 101);
    const records: [number, number, number][] = [];
    for (let o = 24; o < bytes.length; o += 16 + bytes.readUInt32LE(o + 8)) {
      records.push([bytes.readUInt32LE(o), bytes.readUInt32LE(o + 4), bytes.readUInt32LE(o + 12)]);
    }
    t.deepEqual(records, [
      [1_000_000_001, 500_000, 140],
      [1_000_000_001, 500_000, 140],
      [1_000_000_002, 1, 47],
    ]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

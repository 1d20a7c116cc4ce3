/** RFC 9293 3.1: the checksum of what comes in, and of what goes out (of which the edge finishes the sum). */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import { Engine } from '../../../src/core/engine/engine.js';
import { CSUM_UNKNOWN, ReceiveBatch, TransmitBatch } from '../../../src/core/engine/ports.js';
import { finishChecksum, sumRange } from '../../../src/core/wire/checksum.js';
import { parseSegment, SegmentView, verifyTcpChecksum } from '../../../src/core/wire/segment.js';
import { nodeEnv } from '../../support/node-env.js';
import { addTcp, SYN } from '../../support/packets.js';

const LINK = { id: 1, name: 'wan0', mtuBytes: 1500, isUp: true };

/** A whole packet from a batch, with the checksum that the edge would finish. */
function finished(batch: TransmitBatch, i: number): Uint8Array {
  const start = batch.headerOffset[i]!;
  const bytes = batch.headers.slice(start, start + batch.headerLength[i]!);
  const from = batch.csumStart[i]!;
  const at = from + batch.csumOffset[i]!;
  const sum = finishChecksum(sumRange(bytes, from, bytes.length - from, 0));
  bytes[at] = sum >> 8;
  bytes[at + 1] = sum & 0xff;
  return bytes;
}

for (const [us, them] of [
  ['192.0.2.1', '192.0.2.99'],
  ['2001:db8::1', '2001:db8::99'],
] as const)
  test(`T1: a flipped bit is dropped without an answer; what is answered has a good checksum: ${us}`, (t) => {
    const engine = new Engine(nodeEnv);
    engine.addLink(0, { ...LINK, addresses: [parseIp('192.0.2.1'), parseIp('2001:db8::1')] });
    engine.listen({ port: 8443, onAccept: (_: ConnectionApi) => {} });
    const packet = new TransmitBatch(1);
    addTcp(packet, { from: them, to: us, fromPort: 40000, toPort: 8443, seq: 1000, flags: SYN });
    const good = finished(packet, 0);
    const out: Uint8Array[] = [];
    const receive = (bytes: Uint8Array) => {
      const batch = new ReceiveBatch(1, 2048);
      batch.slab.set(bytes);
      batch.length[0] = bytes.length;
      batch.checksum[0] = CSUM_UNKNOWN;
      batch.count = 1;
      engine.onPackets(0, LINK.id, batch);
      engine.flush(0, {
        send: (_, sent, first) => {
          for (let i = first; i < sent.count; i++) out.push(finished(sent, i));
          return sent.count - first;
        },
        queuedBytes: () => 0,
      });
    };
    const bad = good.slice();
    bad[bad.length - 1]! ^= 1;
    receive(bad);
    t.is(out.length, 0);
    t.is(engine.counters().drop_bad_tcp_checksum, 1);
    receive(good);
    t.is(out.length, 1);
    const view = new SegmentView();
    t.is(parseSegment(out[0]!, 0, out[0]!.length, 0, view), 'ok');
    t.true(verifyTcpChecksum(out[0]!, view));
  });

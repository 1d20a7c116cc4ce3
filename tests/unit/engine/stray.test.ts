/** Segments of no connection: what is answered, and what is none of our business. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import { Engine } from '../../../src/core/engine/engine.js';
import { CSUM_VALID, ReceiveBatch, TransmitBatch } from '../../../src/core/engine/ports.js';
import { nodeEnv } from '../../support/node-env.js';
import { ACK, addTcp, SYN, type TcpFields } from '../../support/packets.js';

const LINK = { id: 1, name: 'wan0', mtuBytes: 1500, isUp: true };
const PORT = 8443;

/** A listening engine at 192.0.2.1 that has received one segment; what it sends, and what it counted. */
function afterReceiving(fields: Pick<TcpFields, 'to' | 'flags'>): {
  sent: number;
  counters: Readonly<Record<string, number>>;
} {
  const engine = new Engine(nodeEnv);
  engine.addLink(0, { ...LINK, addresses: [parseIp('192.0.2.1'), parseIp('2001:db8::1')] });
  engine.listen({ port: PORT, onAccept: (_: ConnectionApi) => {} });
  const from = fields.to.includes(':') ? '2001:db8::99' : '192.0.2.99';
  const packet = new TransmitBatch(1);
  addTcp(packet, { ...fields, from, fromPort: 40000, toPort: PORT, seq: 1000 });
  const batch = new ReceiveBatch(1, 2048);
  const start = packet.headerOffset[0]!;
  const bytes = packet.headers.subarray(start, start + packet.headerLength[0]!);
  batch.slab.set(bytes);
  batch.length[0] = bytes.length;
  batch.checksum[0] = CSUM_VALID;
  batch.count = 1;
  engine.onPackets(0, LINK.id, batch);
  let sent = 0;
  engine.flush(0, {
    send: (_, out, first) => {
      sent += out.count - first;
      return out.count - first;
    },
    queuedBytes: () => 0,
  });
  return { sent, counters: engine.counters() };
}

for (const [to, other] of [
  ['192.0.2.1', '192.0.2.2'],
  ['2001:db8::1', '2001:db8::2'],
] as const) {
  test(`${to}: a SYN is answered, a stray segment reset; the same for ${other}, which this host only forwards, is left alone`, (t) => {
    for (const flags of [SYN, ACK]) {
      t.is(afterReceiving({ to, flags }).sent, 1);
      const foreign = afterReceiving({ to: other, flags });
      t.is(foreign.sent, 0);
      t.is(foreign.counters.drop_not_for_us, 1);
    }
  });
}

import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { CAPSULE_DATAGRAM, CapsuleDecoder, encodeCapsule } from '../../../src/core/lanes/capsule.js';
import { TunWriter } from '../../../src/daemon/tun-writer.js';
import { MemoryTun } from '../../support/loopback.js';
import { bytes, ping, tcp, udp, V4_SRC } from '../lanes/packets.js';

const rule = { field: 'source' as const, addresses: [parseIp(V4_SRC)] };

function setUp() {
  const tun = new MemoryTun();
  const writer = new TunWriter(tun, 1500);
  /** Feeds a datagram in chunks of `step` bytes. */
  const feed = (prefix: number[], packet: Uint8Array, step = 1 << 20) => {
    const value = new Uint8Array(prefix.length + packet.length);
    value.set(prefix);
    value.set(packet, prefix.length);
    const stream = encodeCapsule(CAPSULE_DATAGRAM, value);
    const decoder = new CapsuleDecoder();
    for (let o = 0; o < stream.length; o += step) {
      const chunk = stream.slice(o, o + step);
      decoder.push(chunk, 0, chunk.length, { onCapsule: (_type, v) => void writer.write(v, rule) });
    }
  };
  return { tun, writer, feed };
}

test('packets come out whole, however their bytes arrived', (t) => {
  const { tun, writer, feed } = setUp();
  const big = tcp({ payload: bytes(40_000) });
  for (const step of [1, 7, 100, 16_384, 1 << 20]) {
    feed([0], udp(bytes(700)), step);
    feed([2, 1400 >> 8, 1400 & 0xff], big, Math.max(step, 100));
  }
  writer.flush();
  t.is(tun.sent.length, 10);
  for (const [i, sent] of tun.sent.entries()) {
    if (i % 2 === 0) t.deepEqual(sent.bytes, udp(bytes(700)));
    else t.deepEqual(sent.bytes.subarray(52), big.subarray(52));
    t.is(sent.gsoSize, i % 2 === 0 ? 0 : 1400);
    t.is(sent.csumOffset, i % 2 === 0 ? -1 : 16);
  }
});

test('what a name server answers is shown to who wants to know, whole, and goes to the device as well', (t) => {
  const { tun, writer, feed } = setUp();
  const seen: Uint8Array[] = [];
  feed([0], udp(bytes(300), { srcPort: 53 }));
  writer.onDnsAnswer = (payload) => seen.push(payload);
  for (const step of [7, 1 << 20]) feed([0], udp(bytes(300), { srcPort: 53 }), step);
  feed([0], udp(bytes(300), { srcPort: 54 }));
  feed([0], tcp({ payload: bytes(300), srcPort: 53 }));
  writer.flush();
  t.deepEqual(seen, [bytes(300), bytes(300)]);
  t.is(tun.sent.length, 5);
});

test('when what came in one turn is written, the TUN is looked at once: before the turn is over', async (t) => {
  const { tun, writer, feed } = setUp();
  const written: number[] = [];
  writer.onWritten = () => written.push(tun.sent.length);
  let isNextTurn = false;
  setImmediate(() => (isNextTurn = true));
  for (let i = 0; i < 3; i++) feed([0], ping(i));
  t.deepEqual(written, [], 'not yet: more may come');
  await new Promise<void>((resolve) => process.nextTick(resolve));
  t.deepEqual(written, [3]);
  t.false(isNextTurn);
});

test('more packets than a batch holds', (t) => {
  const { tun, writer, feed } = setUp();
  for (let i = 0; i < 200; i++) feed([0], ping(i));
  writer.flush();
  t.deepEqual(
    tun.sent.map((s) => s.bytes.length),
    Array.from({ length: 200 }, (_, i) => 28 + i),
  );
});

test('what is refused is counted by reason and never reaches the device', (t) => {
  const { tun, writer, feed } = setUp();
  feed([4], ping());
  feed([2, 0], new Uint8Array(0));
  feed([2, 0, 0], ping());
  feed([0], udp(bytes(10), { src: '10.7.0.9' }));
  feed([], new Uint8Array(0));
  feed([0], new Uint8Array(0));
  writer.flush();
  t.is(tun.sent.length, 0);
  t.deepEqual(writer.refused, { inner_context: 3, inner_not_offloadable: 1, inner_source: 1, inner_short: 1 });
});

import { createHash, createHmac } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { parseIp } from '../../src/core/base/ip.js';
import { NEVER } from '../../src/core/base/time.js';
import { DeadlineHeap } from '../../src/sim/deadline-heap.js';
import { SeededEnv } from '../../src/sim/env.js';
import { hmacSha256, sha256 } from '../../src/sim/hash.js';
import type { HostOptions } from '../../src/sim/host.js';
import type { LinkConfig } from '../../src/sim/link-model.js';
import { Network } from '../../src/sim/network.js';
import { PacketPool, type SimPacket } from '../../src/sim/packet.js';
import { PcapWriter } from '../../src/sim/pcap.js';
import { Receiver } from '../../src/sim/receive.js';
import { FakeEngine, packetsOf } from '../support/sim-fake.js';

const CLIENT = '10.0.1.2';
const SERVER = '10.9.0.1';

function pair(up: Partial<LinkConfig>, options: Partial<HostOptions> = {}, leftPortBytes: number | null = null) {
  const net = new Network(1);
  const client = net.addHost({ name: 'client', ...options }, () => new FakeEngine());
  const server = net.addHost({ name: 'server', ...options }, () => new FakeEngine());
  const link = (id: number, address: string) => ({
    id,
    name: `l${id}`,
    mtuBytes: 1500,
    addresses: [parseIp(address)],
    isUp: true,
  });
  client.addLink(link(0, CLIENT));
  client.addLink(link(1, '10.0.2.2'));
  server.addLink(link(0, SERVER));
  const wire = (name: string, leftLinkId: number) =>
    net.connect({ name, left: client, leftLinkId, right: server, rightLinkId: 0, up, down: up, leftPortBytes });
  const wires = [wire('wifi', 0), wire('lte', 1)];
  const fake = (host: typeof client) => host.engine as FakeEngine;
  return { net, client, server, wires, c: fake(client), s: fake(server) };
}

const payload = (n: number) => Uint8Array.from({ length: n }, (_, i) => (i * 7 + (i >> 8)) & 0xff);

test('SHA-256 and HMAC agree with Node', (t) => {
  const env = new SeededEnv(5);
  for (const n of [0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 1000]) {
    const data = new Uint8Array(n);
    env.randomBytes(data);
    const key = data.slice(0, n >> 1);
    t.deepEqual(Buffer.from(sha256(data)), createHash('sha256').update(data).digest(), `sha256 of ${n}`);
    t.deepEqual(Buffer.from(hmacSha256(key, data)), createHmac('sha256', key).update(data).digest(), `hmac of ${n}`);
  }
});

test('the deadline heap is a priority queue with one entry per actor', (t) => {
  const operation = fc.tuple(fc.nat(9), fc.oneof(fc.nat(50), fc.constant(NEVER)));
  const check = fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
    const heap = new DeadlineHeap();
    const model = Array.from({ length: 10 }, () => NEVER);
    for (let i = 0; i < 10; i++) heap.add();
    for (const [actor, atUs] of operations) {
      heap.set(actor, atUs);
      model[actor] = atUs;
      const firstUs = Math.min(...model);
      if (heap.firstUs !== firstUs) return false;
      if (heap.first !== (firstUs === NEVER ? -1 : model.indexOf(firstUs))) return false;
    }
    return true;
  });
  t.notThrows(() => fc.assert(check, { seed: 7 }));
});

test('a packet crosses a wire, and the server answers over the wire it belongs to', (t) => {
  const { net, client, c, s } = pair({ rateBps: 8_000_000, delayUs: 5000 });
  s.onArrival = ({ bytes }) => s.queue(0, { from: SERVER, to: bytes[14] === 1 ? CLIENT : '10.0.2.2' });
  c.queue(1, { from: '10.0.2.2', to: SERVER, payload: payload(960) });
  client.poke();
  net.run(1_000_000);
  t.deepEqual(
    s.arrivals.map((a) => [a.atUs, a.bytes.length]),
    [[6000, 1000]],
  );
  t.deepEqual(
    c.arrivals.map((a) => [a.atUs, a.linkId]),
    [[11_040, 1]],
  );
  t.is(net.pool.outstanding, 0);
  t.deepEqual(net.drops, {});
});

test('a packet to nowhere is counted', (t) => {
  const { net, server, s } = pair({});
  s.queue(0, { from: SERVER, to: '10.77.0.1' });
  server.poke();
  net.run(1000);
  t.deepEqual(net.drops, { 'no-route': 1 });
  t.is(net.pool.outstanding, 0);
});

for (const [from, to, family] of [
  [CLIENT, SERVER, 4],
  ['fd00::2', 'fd00::1', 6],
] as const)
  test(`a super-packet is cut as hardware does it (IPv${family})`, (t) => {
    const whole = payload(3500);
    const packets = packetsOf({
      from,
      to,
      seq: 0xffff_fc00,
      flags: 0x10 | 0x08 | 0x01 | 0x80,
      options: [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
      payload: whole,
      gsoSize: 1400,
    });
    t.deepEqual(
      packets.map((p) => [p.payloadBytes, p.seq, p.flags]),
      [
        [1400, 0xffff_fc00, 0x90],
        [1400, 0x0000_0178, 0x10],
        [700, 0x0000_06f0, 0x19],
      ],
    );
    const joined = packets.flatMap((p) => [...p.buf.subarray(p.payloadOffset, p.length)]);
    t.deepEqual(Uint8Array.from(joined), whole);
    for (const [i, p] of packets.entries()) {
      t.is(p.buf[p.l4Offset + 22], 8, 'options are copied');
      if (family === 4) {
        t.is((p.buf[2]! << 8) | p.buf[3]!, p.length);
        t.is((p.buf[4]! << 8) | p.buf[5]!, i, 'IPv4 id');
        let sum = 0;
        for (let o = 0; o < 20; o += 2) sum += (p.buf[o]! << 8) | p.buf[o + 1]!;
        t.is((sum & 0xffff) + (sum >>> 16), 0xffff, 'IP checksum');
      } else t.is((p.buf[4]! << 8) | p.buf[5]!, p.length - 40);
    }
  });

test('GRO merges what TSO cut, and passes anything else on as it is', (t) => {
  const pool = new PacketPool();
  const bulk = packetsOf({ from: CLIENT, to: SERVER, payload: payload(4000), gsoSize: 1000, flags: 0x18 }, pool);
  const other = packetsOf({ from: CLIENT, to: SERVER, seq: 4001, payload: payload(500), window: 999 }, pool);
  const hole = packetsOf({ from: CLIENT, to: SERVER, seq: 9001, payload: payload(500), window: 999 }, pool);
  const ack = packetsOf({ from: CLIENT, to: SERVER, seq: 4001 }, pool);
  const shapes = (packets: SimPacket[], merges: boolean) => {
    const receiver = new Receiver(merges);
    for (const p of packets) t.true(receiver.add(p));
    const b = receiver.batch;
    return Array.from({ length: b.count }, (_, i) => [b.length[i]! - 40, b.gsoSize[i]]);
  };
  t.deepEqual(shapes(bulk, true), [[4000, 1000]]);
  t.deepEqual(shapes(bulk, false), new Array(4).fill([1000, 0]));
  t.deepEqual(
    shapes([...bulk.slice(0, 3), ...other, ...ack, ...hole], true),
    [
      [3000, 1000],
      [500, 0],
      [0, 0],
      [500, 0],
    ],
    'seq gap, other window, pure ACK',
  );
  t.deepEqual(shapes([bulk[1]!, bulk[0]!, bulk[3]!], true), [
    [1000, 0],
    [1000, 0],
    [1000, 0],
  ]);
  const receiver = new Receiver(true);
  for (const p of bulk) receiver.add(p);
  const merged = receiver.batch.slab.subarray(0, receiver.batch.length[0]);
  t.deepEqual(merged.slice(40), payload(4000));
  t.is((merged[2]! << 8) | merged[3]!, 4040);
  t.is(merged[33], 0x18, 'PSH of the last one');
});

test('a host hands packets up in batches, split by link, and survives more than a batch holds', (t) => {
  const { net, client, c, s } = pair({ delayUs: 100 }, { interruptUs: 1000 });
  const many = Array.from({ length: 100 }, (_, i) => ({
    from: CLIENT,
    to: SERVER,
    seq: 1 + 2000 * i,
    payload: payload(9),
  }));
  c.queue(0, ...many);
  client.poke();
  net.run(10_000);
  t.is(s.arrivals.length, 100);
  t.true(s.arrivals.every((a) => a.atUs === 1100));
  t.is(net.pool.outstanding, 0);
});

test('timers fire at their deadline, or within the slack', (t) => {
  for (const timerSlackUs of [0, 250]) {
    const { net, client, c } = pair({}, { timerSlackUs });
    c.deadlineUs = 1001;
    client.poke();
    net.run(5000);
    t.deepEqual(c.timersFired, [timerSlackUs === 0 ? 1001 : 1250]);
  }
});

test('a deadline that is never served is reported, not spun on', (t) => {
  const { net, client, c } = pair({});
  c.onTimer = () => {};
  c.deadlineUs = 10;
  client.poke();
  t.throws(() => net.run(100), { message: /client: livelock at 10 us/ });
});

test('a bounded port refuses packets, shows its queue, and asks for more when it has room', (t) => {
  const { net, client, c, s } = pair({ rateBps: 12_000_000 }, {}, 3000);
  const segments = Array.from({ length: 10 }, (_, i) => ({
    from: CLIENT,
    to: SERVER,
    seq: 1 + i,
    payload: payload(1460),
  }));
  c.queue(0, ...segments);
  client.poke();
  net.run(0);
  t.is(c.unsent, 7);
  t.is(client.queuedBytes(0), 4500);
  net.run(1_000_000);
  t.is(s.arrivals.length, 10);
  t.is(s.arrivals.at(-1)!.atUs, 10_000, 'the link never idled');
});

test('planned actions run in order, and the run ends where asked', (t) => {
  const { net } = pair({});
  const seen: string[] = [];
  net.at(50, () => seen.push(`b${net.nowUs}`));
  net.at(20, () => net.at(20, () => seen.push(`a${net.nowUs}`)));
  net.at(50, () => seen.push(`c${net.nowUs}`));
  t.is(net.run(100), 100);
  t.deepEqual(seen, ['a20', 'b50', 'c50']);
  net.at(200, () => seen.push('d'));
  net.at(300, () => seen.push('e'));
  t.is(
    net.run(1000, () => seen.includes('d')),
    200,
  );
  t.false(seen.includes('e'));
});

test('a tap writes a pcap that is well-formed, with right checksums', (t) => {
  const { net, client, c } = pair({ delayUs: 2_500_000 });
  const pcap = new PcapWriter();
  net.tap = (nowUs, _host, _link, _isSent, packet) => pcap.add(nowUs, packet);
  c.queue(0, { from: CLIENT, to: SERVER, payload: payload(5) });
  client.poke();
  net.run(5_000_000);
  const file = pcap.finish();
  const view = new DataView(file.buffer);
  t.is(view.getUint32(0, true), 0xa1b2c3d4);
  t.is(view.getUint32(20, true), 101);
  t.is(pcap.packets, 2);
  t.is(file.length, 24 + 2 * (16 + 45));
  const second = 24 + 16 + 45;
  t.deepEqual([view.getUint32(second, true), view.getUint32(second + 4, true)], [2, 500_000]);
  let sum = 6 + 25; // pseudo-header: protocol and length, then addresses, header and payload
  const ip = second + 16;
  for (let o = 12; o < 45; o += 2) sum += o === 44 ? file[ip + 44]! << 8 : (file[ip + o]! << 8) | file[ip + o + 1]!;
  t.is((sum & 0xffff) + (sum >>> 16), 0xffff, 'TCP checksum');
});

import test from 'ava';
import fc from 'fast-check';
import { getU16, getU32 } from '../../../src/core/base/wire-int.js';
import { CapsuleDecoder } from '../../../src/core/lanes/capsule.js';
import { CODEL_INTERVAL_US, FqCodel } from '../../../src/core/lanes/fq-codel.js';
import { BULK, type LaneIndex, PacketLane, SPARSE, WRITE_ROOM_BYTES } from '../../../src/core/lanes/packet-lane.js';
import { PacketPool } from '../../../src/core/lanes/packet-pool.js';
import { bytes, ping, tcp, udp, verifies, view } from './packets.js';

const out = new Uint8Array(WRITE_ROOM_BYTES);

interface Delivered {
  context: number;
  gsoSize: number;
  packet: Uint8Array;
}

function newLane(options: { memoryBytes?: number; peerTakesSuper?: boolean } = {}): PacketLane {
  const lane = new PacketLane({ mtuBytes: 1500, hashSeed: 7, memoryBytes: options.memoryBytes ?? 4_000_000 });
  lane.peerTakesSuper = options.peerTakesSuper ?? true;
  lane.setUp(SPARSE);
  lane.setUp(BULK);
  return lane;
}

function put(lane: PacketLane, nowUs: number, packet: Uint8Array, gsoSize = 0, unfinished = false): void {
  lane.enqueue(nowUs, packet, 0, packet.length, gsoSize, unfinished);
}

function take(lane: PacketLane, nowUs: number, which: LaneIndex, maxBytes = 1): Delivered[] {
  const n = lane.pull(nowUs, which, out, maxBytes);
  const delivered: Delivered[] = [];
  const decoder = new CapsuleDecoder();
  decoder.push(out.slice(0, n), 0, n, {
    onCapsule: (_type, value) => {
      const b = value.bytes();
      const isSuper = b[0] === 2;
      delivered.push({ context: b[0]!, gsoSize: isSuper ? getU16(b, 1) : -1, packet: b.slice(isSuper ? 3 : 1) });
    },
  });
  return delivered;
}

test('a small packet comes out of the sparse connection as it went in', (t) => {
  const lane = newLane();
  const packet = ping();
  put(lane, 0, packet);
  t.true(lane.hasReady(SPARSE));
  t.false(lane.hasReady(BULK));
  t.deepEqual(take(lane, 0, SPARSE), [{ context: 0, gsoSize: -1, packet }]);
  t.is(lane.memoryBytes, 0);
});

test('one pull shares a write between many packets, up to the asked bytes and one more', (t) => {
  const lane = newLane();
  for (let i = 0; i < 20; i++) put(lane, 0, udp(bytes(100), { srcPort: 1000 + i }));
  t.is(take(lane, 0, SPARSE, 1000).length, 8);
  t.is(take(lane, 0, SPARSE, 100_000).length, 12);
  t.is(take(lane, 0, SPARSE, 100_000).length, 0);
});

test('a super-packet crosses whole at a high rate and is cut to 2 ms at a low one', (t) => {
  const lane = newLane();
  const packet = tcp({ payload: bytes(50_000), seq: 5000 });
  lane.setRate(BULK, 125_000_000);
  put(lane, 0, packet, 1400, true);
  const [whole] = take(lane, 0, BULK);
  t.is(whole!.gsoSize, 1400);
  t.deepEqual(whole!.packet, packet);

  lane.setRate(BULK, 6_250_000);
  put(lane, 0, tcp({ payload: bytes(50_000), seq: 55_000, srcPort: 1234 }), 1400, true);
  const pieces = take(lane, 0, BULK, 200_000);
  t.is(pieces.length, Math.ceil(50_000 / (1400 * 8)));
  let seq = 55_000;
  for (const piece of pieces) {
    t.true(piece.packet.length <= 12_500);
    t.is(getU32(piece.packet, 24), seq);
    seq += piece.packet.length - 52;
  }
  t.is(seq, 105_000);
  t.is(lane.counters.superPacketsCut, 1);
});

test('without context 2 at the peer everything is one finished packet each', (t) => {
  const lane = newLane({ peerTakesSuper: false });
  put(lane, 0, tcp({ payload: bytes(14_000) }), 1400, true);
  put(lane, 0, udp(bytes(100)), 0, true);
  const packets = take(lane, 0, SPARSE, 100_000);
  t.is(packets.length, 11);
  for (const p of packets) {
    t.is(p.context, 0);
    t.true(p.packet.length <= 1452);
    t.true(verifies(p.packet));
  }
});

test('a flow that becomes bulk moves when nothing of it is on its way, and never before', (t) => {
  const lane = newLane();
  const send = (nowUs: number, n: number) => put(lane, nowUs, udp(bytes(1200), { srcPort: n }));
  let streamOffset = 0;
  for (let i = 0; i < 40; i++) {
    send(i * 100, 9);
    take(lane, i * 100, SPARSE);
    streamOffset += 1300;
    lane.written(SPARSE, streamOffset);
  }
  t.false(lane.hasReady(BULK), 'still bytes of it in the sparse stream');
  lane.acked(SPARSE, streamOffset - 1);
  send(5000, 9);
  t.true(lane.hasReady(SPARSE));
  take(lane, 5000, SPARSE);
  lane.written(SPARSE, streamOffset + 1300);
  lane.acked(SPARSE, streamOffset + 1300);
  send(6000, 9);
  t.true(lane.hasReady(BULK));
  t.is(lane.counters.flowsMoved, 1);
});

test('a flow that never pauses is held until its last packets have arrived', (t) => {
  const lane = newLane();
  const order: number[] = [];
  let offset = 0;
  let nowUs = 0;
  let n = 0;
  const note = (which: LaneIndex) => {
    for (const d of take(lane, nowUs, which)) order.push(getU16(d.packet, 28));
  };
  const one = () => {
    const payload = bytes(1200);
    payload[0] = n >> 8;
    payload[1] = n++ & 0xff;
    put(lane, nowUs, udp(payload));
    nowUs += 1000;
  };
  // Always one packet unacknowledged: there is no natural moment to move.
  for (let i = 0; i < 400; i++) {
    one();
    const before = offset;
    if (lane.hasReady(SPARSE)) {
      note(SPARSE);
      offset += 1300;
      lane.written(SPARSE, offset);
      lane.acked(SPARSE, before);
    } else {
      break;
    }
  }
  t.is(lane.counters.flowsHeld, 1);
  t.false(lane.hasReady(BULK), 'held');
  one();
  t.false(lane.hasReady(BULK), 'still held');
  lane.acked(SPARSE, offset);
  t.true(lane.hasReady(BULK), 'released by the last acknowledgement');
  while (lane.hasReady(BULK)) note(BULK);
  t.deepEqual(order, [...order.keys()], 'never reordered');
  t.is(order.length, n);
});

test('a connection that is gone takes its packets with it, and its flows go to the other', (t) => {
  const lane = newLane();
  put(lane, 0, ping());
  lane.setGone(SPARSE);
  t.is(lane.counters.droppedLaneGone, 1);
  t.is(lane.memoryBytes, 0);
  put(lane, 0, ping());
  t.true(lane.hasReady(BULK));
});

test('retransmissions of bytes that are on their way are dropped; after a loss of ours they pass', (t) => {
  const lane = newLane();
  const segment = (seq: number) => tcp({ payload: bytes(1000), seq });
  for (let i = 0; i < 5; i++) put(lane, i, segment(1000 * i));
  put(lane, 10, segment(2000));
  t.is(lane.counters.futileRetransmissions, 1, 'still queued');
  t.is(take(lane, 20, SPARSE, 100_000).length, 5);
  lane.written(SPARSE, 6000);
  put(lane, 30, segment(3000));
  t.is(lane.counters.futileRetransmissions, 2, 'not acknowledged');
  lane.acked(SPARSE, 6000);
  put(lane, 40, segment(3000));
  t.is(lane.counters.futileRetransmissions, 2, 'arrived: lost behind the tunnel, must pass');
  t.is(take(lane, 40, SPARSE).length, 1);
  // A gap that never came to us is a hole.
  put(lane, 50, segment(9000));
  put(lane, 60, segment(5000));
  t.is(take(lane, 60, SPARSE, 100_000).length, 2);
  // Pure ACKs repeat sequence numbers and always pass.
  for (let i = 0; i < 3; i++) put(lane, 70, tcp({ payload: bytes(0), seq: 9000 }));
  t.is(take(lane, 70, SPARSE, 100_000).length, 3);
});

test('memory is bounded, and the fattest flow pays for it', (t) => {
  const lane = newLane({ memoryBytes: 400_000 });
  put(lane, 0, ping());
  for (let i = 0; i < 1000; i++) put(lane, 0, udp(bytes(1400), { srcPort: 77 }));
  put(lane, 0, ping());
  t.true(lane.memoryBytes <= 400_000);
  t.true(lane.queueOf(SPARSE).counters.droppedOnOverflow > 500);
  const protocols = take(lane, 0, SPARSE, 262_144).map((d) => d.packet[9]);
  t.is(protocols.filter((p) => p === 1).length, 2, 'both pings survive');
});

test('garbage from the TUN is a counted drop', (t) => {
  const lane = newLane();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(3000), fc.boolean(), (b, gso, unfinished) => {
      put(lane, 0, b, gso, unfinished);
      return lane.memoryBytes <= 4_000_000;
    }),
  );
  put(lane, 0, udp(bytes(3000)), 1000, true);
  t.true(lane.counters.droppedNotOffloadable > 0);
  t.true(lane.counters.droppedMalformed > 0);
});

// FQ-CoDel by itself.

function newQueue(limitBytes = 4_000_000): {
  queue: FqCodel;
  add(nowUs: number, flow: number, p: Uint8Array, gso?: number): void;
  pool: PacketPool;
} {
  const pool = new PacketPool(limitBytes);
  const queue = new FqCodel(pool, 1500);
  return {
    queue,
    pool,
    add: (nowUs, flow, p, gso = -1) => {
      const packet = pool.take(p.length)!;
      packet.buf.set(p, packet.start);
      packet.view.copyFrom(view(p));
      packet.gsoSize = gso;
      queue.enqueue(nowUs, flow, packet);
    },
  };
}

test('FQ: a new flow overtakes a backlog, and two backlogs share evenly', (t) => {
  const { queue, add, pool } = newQueue();
  for (let i = 0; i < 50; i++) add(0, 1, udp(bytes(1400)));
  for (let i = 0; i < 5; i++) pool.give(queue.dequeue(0)!);
  add(0, 2, ping());
  const next = [queue.dequeue(0)!, queue.dequeue(0)!];
  t.true(
    next.some((p) => p.view.protocol === 1),
    'the ping does not wait for 45 packets',
  );
  for (let i = 0; i < 50; i++) add(0, 3, udp(bytes(1400), { srcPort: 3 }));
  const counts = new Map<number, number>();
  for (let i = 0; i < 40; i++) {
    const p = queue.dequeue(0)!;
    counts.set(p.view.srcPort, (counts.get(p.view.srcPort) ?? 0) + 1);
  }
  t.true(Math.abs(counts.get(3)! - counts.get(5000)!) <= 2);
});

test('CoDel: a standing queue is dropped from after one interval, more often while it lasts, and not when it is gone', (t) => {
  const { queue, add, pool } = newQueue();
  let dropsEarly = 0;
  // In at 2 packets per ms, out at 1 per ms: a queue that only grows.
  for (let ms = 0; ms < 1000; ms++) {
    add(ms * 1000, 1, udp(bytes(1000)));
    add(ms * 1000, 1, udp(bytes(1000)));
    const p = queue.dequeue(ms * 1000);
    if (p !== null) pool.give(p);
    if (ms * 1000 === CODEL_INTERVAL_US) dropsEarly = queue.counters.droppedByCodel;
  }
  t.is(dropsEarly, 0);
  t.true(queue.counters.droppedByCodel > 20);
  while (queue.backlogPackets > 0) pool.give(queue.dequeue(1_000_000)!);
  const after = queue.counters.droppedByCodel;
  for (let ms = 2000; ms < 3000; ms++) {
    add(ms * 1000, 1, udp(bytes(1000)));
    pool.give(queue.dequeue(ms * 1000)!);
  }
  t.is(queue.counters.droppedByCodel, after);
  t.is(pool.usedBytes, 0);
});

test('CoDel marks ECN packets instead, and takes one segment off a super-packet', (t) => {
  const marking = newQueue();
  const cutting = newQueue(30_000_000);
  for (let ms = 0; ms < 900; ms++) {
    for (let i = 0; i < 2; i++) {
      marking.add(ms * 1000, 1, tcp({ payload: bytes(1000), ecn: 2 }));
      cutting.add(ms * 1000, 1, tcp({ payload: bytes(4200) }), 1400);
    }
    const m = marking.queue.dequeue(ms * 1000)!;
    if ((m.buf[m.start + 1]! & 3) === 3) t.true(verifies(m.buf.slice(m.start, m.start + m.view.totalBytes)));
    marking.pool.give(m);
    const c = cutting.queue.dequeue(ms * 1000)!;
    t.true([4252, 2852, 1452].includes(c.view.totalBytes));
    t.is(getU16(c.buf, c.start + 2), c.view.totalBytes);
    cutting.pool.give(c);
  }
  t.true(marking.queue.counters.marked > 5);
  t.is(marking.queue.counters.droppedByCodel, 0);
  t.true(cutting.queue.counters.droppedSegments > 5);
  t.is(cutting.queue.counters.droppedByCodel, 0);
});

test('the pool counts what is allocated, not what is used', (t) => {
  const pool = new PacketPool(10_000);
  let n = 0;
  while (pool.take(1) !== null) n++;
  t.true(n * 256 <= 10_000 && (n + 1) * 256 > 10_000);
});

test('what is not TCP waits so long and no longer: the oldest is dropped, at either end of the queue, and counted', (t) => {
  const lane = newLane();
  // Both paths are dark; a call goes on for a second, 50 packets a second.
  for (let i = 0; i < 50; i++) put(lane, 1_000_000 + i * 20_000, udp(bytes(160), { srcPort: 4000 }));
  t.true(lane.queueOf(SPARSE).backlogPackets <= 11, 'no more than 200 ms of it');
  const late = lane.queueOf(SPARSE).counters.droppedLate;
  t.is(late + lane.queueOf(SPARSE).backlogPackets, 50);
  t.is(take(lane, 1_000_000 + 50 * 20_000, SPARSE, 100_000).length, 50 - late - 1, 'the oldest is over by now');
  put(lane, 9_000_000, udp(bytes(160), { srcPort: 4000 }));
  t.is(take(lane, 9_300_000, SPARSE).length, 0, 'nor is it sent late');
  t.is(lane.memoryBytes, 0);
});

test('TCP is never dropped for its age', (t) => {
  const lane = newLane();
  put(lane, 1_000_000, tcp({ payload: bytes(100) }));
  put(lane, 1_000_000, udp(bytes(100)));
  t.is(take(lane, 8_000_000, SPARSE, 100_000).length, 1);
  t.is(lane.queueOf(SPARSE).counters.droppedLate, 1);
});

test('a rule puts a flow on its lane, whatever it sends; it is asked once per flow', (t) => {
  const lane = newLane();
  const asked: number[] = [];
  lane.setLaneRule((_b, _o, v) => {
    asked.push(v.srcPort);
    return v.srcPort === 1 ? BULK : v.srcPort === 2 ? SPARSE : null;
  });
  let nowUs = 1_000_000;
  for (let i = 0; i < 100; i++) {
    nowUs += 10_000;
    for (const srcPort of [1, 2, 3]) put(lane, nowUs, udp(bytes(1_200), { srcPort }));
    const ports = (which: LaneIndex) => take(lane, nowUs, which, 100_000).map((d) => getU16(d.packet, 20));
    const [sparse, bulk] = [ports(SPARSE), ports(BULK)];
    t.true(bulk.includes(1) && !bulk.includes(2));
    t.true(sparse.includes(2) && !sparse.includes(1));
    for (const which of [SPARSE, BULK] as const) {
      lane.written(which, (i + 1) * 1_000_000);
      lane.acked(which, (i + 1) * 1_000_000);
    }
  }
  t.deepEqual(asked, [1, 2, 3]);
  lane.setLaneRule(null);
  put(lane, nowUs + 200_000, udp(bytes(100), { srcPort: 1 }));
  t.is(take(lane, nowUs + 200_000, SPARSE).length, 1);
});

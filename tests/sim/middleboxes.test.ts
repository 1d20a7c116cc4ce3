import test from 'ava';
import { parseIp } from '../../src/core/base/ip.js';
import { NEVER } from '../../src/core/base/time.js';
import { CSUM_UNKNOWN, CSUM_VALID } from '../../src/core/engine/ports.js';
import type { Heading, Middlebox } from '../../src/sim/middlebox.js';
import {
  BitFlipper,
  Coalescer,
  Duplicator,
  IsnRewriter,
  Nat,
  OPTION_MPTCP,
  OPTION_SACK,
  OPTION_TIMESTAMPS,
  OptionFilter,
  PayloadEditor,
  ProxyAcker,
  Reorderer,
  RstInjector,
  Splitter,
} from '../../src/sim/middleboxes/index.js';
import { PacketPool, type SimPacket } from '../../src/sim/packet.js';
import { type FakeSegment, packetsOf } from '../support/sim-fake.js';

const SYN = 0x02;
const ACK = 0x10;
const RST = 0x04;
const FLOW = { from: '10.0.1.2', to: '10.9.0.1', sourcePort: 5001, destinationPort: 443 };
const BACK = { from: '10.9.0.1', to: '10.0.1.2', sourcePort: 443, destinationPort: 5001 };
/** MP_CAPABLE-like, timestamps, and a SACK block 100..200. */
const MPTCP = [30, 4, 0x01, 0x81];
const DSS = [30, 4, 0x20, 0x01];
const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
const SACK = [1, 1, 5, 10, 0, 0, 0, 100, 0, 0, 0, 200];

const payload = (n: number, from = 0) => Uint8Array.from({ length: n }, (_, i) => (from + i) & 0xff);

/** Feeds segments to a box and collects what leaves it, either way. */
function through(box: Middlebox) {
  const pool = new PacketPool();
  const out: { heading: Heading; packet: SimPacket }[] = [];
  const drops: string[] = [];
  const port = {
    pool,
    forward: (packet: SimPacket, heading: Heading) => void out.push({ heading, packet }),
    drop: (_packet: SimPacket, reason: string) => void drops.push(reason),
  };
  return {
    out,
    drops,
    send(s: Partial<FakeSegment>, nowUs = 0, heading: Heading = 'right'): SimPacket {
      const base = heading === 'right' ? FLOW : BACK;
      for (const packet of packetsOf({ ...base, ...s }, pool)) box.process(nowUs, heading, packet, port);
      return out.at(-1)?.packet as SimPacket;
    },
    timer: (nowUs: number) => box.onTimer!(nowUs, port),
    shapes: () => out.map(({ packet: p }) => [p.seq, p.payloadBytes]),
  };
}

const bytesOf = (p: SimPacket) => p.buf.slice(p.payloadOffset, p.length);

function ipChecksumIsRight(p: SimPacket): boolean {
  let sum = 0;
  for (let o = 0; o < p.l4Offset; o += 2) sum += (p.buf[o]! << 8) | p.buf[o + 1]!;
  return (sum & 0xffff) + (sum >>> 16) === 0xffff;
}

test('an option filter blanks, cuts out or drops, only where it is told to', (t) => {
  for (const action of ['blank', 'remove', 'drop'] as const) {
    const box = new OptionFilter({ on: ['syn', 'data'], action });
    const r = through(box);
    r.send({ flags: ACK | SYN, options: MPTCP }, 0, 'left');
    t.true(r.out[0]!.packet.findOption(OPTION_MPTCP) > 0, 'SYN/ACK is left alone');
    r.send({ flags: SYN, options: [...MPTCP, ...TIMESTAMPS], payload: payload(0) });
    r.send({ flags: ACK, options: MPTCP });
    r.send({ flags: ACK, options: [...TIMESTAMPS, ...DSS], payload: payload(50) });
    t.is(box.hits, 2);
    if (action === 'drop') {
      t.deepEqual(r.drops, ['option-drop', 'option-drop']);
      continue;
    }
    const [, syn, third, data] = r.out.map(({ packet }) => packet);
    t.is(syn!.findOption(OPTION_MPTCP), -1);
    t.true(syn!.findOption(OPTION_TIMESTAMPS) > 0);
    t.true(third!.findOption(OPTION_MPTCP) > 0, 'third ACK is left alone');
    t.is(data!.findOption(OPTION_MPTCP), -1);
    t.deepEqual(bytesOf(data!), payload(50));
    t.is(data!.payloadOffset, action === 'remove' ? 20 + 20 + 12 : 20 + 20 + 16);
    t.true(ipChecksumIsRight(data!));
  }
});

test('an option filter knows MPTCP subtypes, headings, and when to begin', (t) => {
  const r = through(new OptionFilter({ subtype: 2, heading: 'right', action: 'blank', fromUs: 100 }));
  const has = (p: SimPacket) => p.findOption(OPTION_MPTCP) > 0;
  t.true(has(r.send({ options: DSS }, 99)));
  t.false(has(r.send({ options: DSS }, 100)));
  t.true(has(r.send({ options: MPTCP }, 100)), 'subtype 0');
  t.true(has(r.send({ options: DSS }, 100, 'left')));
});

test('an ISN rewriter is consistent in both directions, SACK included', (t) => {
  const r = through(new IsnRewriter(3));
  const syn = r.send({ flags: SYN, seq: 1000 });
  const shift = (syn.seq - 1000) >>> 0;
  t.not(shift, 0);
  const ack = r.send({ seq: 7000, ack: (1001 + shift) >>> 0, options: SACK }, 0, 'left');
  t.is(ack.ack, 1001);
  const other = (ack.seq - 7000) >>> 0;
  t.not(other, shift);
  const o = ack.findOption(OPTION_SACK);
  const left = (ack.buf[o + 2]! << 24) | (ack.buf[o + 3]! << 16) | (ack.buf[o + 4]! << 8) | ack.buf[o + 5]!;
  t.is(left >>> 0, (100 - shift) >>> 0);
  t.is(r.send({ seq: 2000, ack: (7001 + other) >>> 0 }).ack, 7001);
  t.is(r.out.at(-1)!.packet.seq, (2000 + shift) >>> 0);
});

test('NAT translates both ways, and forgets on rebind', (t) => {
  const outside = parseIp('192.0.2.7').bytes;
  const nat = new Nat(outside);
  const r = through(nat);
  const syn = r.send({ flags: SYN });
  t.deepEqual(syn.buf.slice(12, 16), outside);
  t.not(syn.sourcePort, 5001);
  t.true(ipChecksumIsRight(syn));
  const back = r.send({ to: '192.0.2.7', destinationPort: syn.sourcePort }, 0, 'left');
  t.is(back.destinationPort, 5001);
  t.deepEqual([...back.buf.slice(16, 20)], [10, 0, 1, 2]);
  nat.rebind();
  r.send({ to: '192.0.2.7', destinationPort: syn.sourcePort }, 0, 'left');
  t.deepEqual(r.drops, ['nat-unknown']);
  t.not(r.send({}).sourcePort, syn.sourcePort);
});

test('a splitter cuts payload and copies options, or leaves them on the first piece', (t) => {
  for (const options of ['copy', 'first'] as const) {
    const r = through(new Splitter(400, options));
    r.send({ seq: 100, options: DSS, payload: payload(1000) });
    t.deepEqual(r.shapes(), [
      [100, 400],
      [500, 400],
      [900, 200],
    ]);
    t.deepEqual(Uint8Array.from(r.out.flatMap(({ packet }) => [...bytesOf(packet)])), payload(1000));
    t.is(r.out.filter(({ packet }) => packet.findOption(OPTION_MPTCP) > 0).length, options === 'copy' ? 3 : 1);
  }
});

test('a coalescer glues contiguous segments, and lets go on a gap or in time', (t) => {
  const r = through(new Coalescer(3000, 500));
  r.send({ seq: 1, options: DSS, payload: payload(1000) });
  r.send({ seq: 1001, options: DSS, payload: payload(1000, 1000) }, 100);
  t.is(r.out.length, 0);
  r.send({ seq: 5001, options: DSS, payload: payload(10) }, 200);
  t.deepEqual(r.shapes(), [[1, 2000]]);
  t.deepEqual(bytesOf(r.out[0]!.packet), payload(2000));
  r.timer(699);
  t.is(r.out.length, 1);
  r.timer(700);
  t.deepEqual(r.shapes(), [
    [1, 2000],
    [5001, 10],
  ]);
});

test('disorder: duplicates, late packets and flipped bits', (t) => {
  const twice = through(new Duplicator(1, 1));
  twice.send({ payload: payload(10) });
  t.is(twice.out.length, 2);
  t.deepEqual(bytesOf(twice.out[0]!.packet), bytesOf(twice.out[1]!.packet));

  const box = new Reorderer(0.5, 1000, 1);
  const late = through(box);
  for (let i = 0; i < 40; i++) {
    late.send({ seq: i, payload: payload(1) }, i * 100);
    while (box.nextDeadline() <= i * 100) late.timer(box.nextDeadline());
  }
  while (box.nextDeadline() < NEVER) late.timer(box.nextDeadline());
  const order = late.shapes().map(([seq]) => seq!);
  t.is(new Set(order).size, 40);
  t.true(order.some((seq, i) => i > 0 && seq < order[i - 1]!));

  const flipped = through(new BitFlipper(1, 1));
  const p = flipped.send({ payload: payload(100) });
  t.is(p.checksum, CSUM_UNKNOWN);
  t.not(p.tcpChecksum(), (p.buf[36]! << 8) | p.buf[37]!, 'the checksum tells');
});

test('a payload editor replaces bytes wherever segments are cut', (t) => {
  const r = through(
    new PayloadEditor({ heading: 'right', atByte: 95, replace: Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 1, 1, 1) }),
  );
  r.send({ flags: SYN, seq: 0xffff_ffd0 });
  r.send({ seq: 0xffff_ffd1, payload: new Uint8Array(100) });
  r.send({ seq: 0x35, payload: new Uint8Array(100) });
  const [, a, b] = r.out.map(({ packet }) => bytesOf(packet));
  t.deepEqual([...a!.slice(94)], [0, 1, 1, 1, 1, 1]);
  t.deepEqual([...b!.slice(0, 6)], [1, 1, 1, 1, 1, 0]);
  t.is(r.out[1]!.packet.checksum, CSUM_VALID);
});

test('a payload editor that puts bytes in shifts the numbers behind them', (t) => {
  const r = through(new PayloadEditor({ heading: 'right', atByte: 4, insert: Uint8Array.of(9, 9) }));
  r.send({ flags: SYN, seq: 0 });
  r.send({ seq: 1, payload: payload(8) });
  r.send({ seq: 9, payload: payload(8) });
  t.deepEqual(r.shapes().slice(1), [
    [1, 10],
    [11, 8],
  ]);
  t.deepEqual([...bytesOf(r.out[1]!.packet)], [0, 1, 2, 3, 9, 9, 4, 5, 6, 7]);
  t.is(r.send({ ack: 19 }, 0, 'left').ack, 17);
  t.is(r.send({ ack: 5 }, 0, 'left').ack, 5);
});

test('an injected RST has the sequence number it says', (t) => {
  for (const [kind, seqs] of [
    ['exact', [1, 51]],
    ['in-window', [1, 58]],
    ['both', [1, 51, 77]],
  ] as const) {
    const r = through(new RstInjector({ afterSegments: 2, heading: 'right', kind }));
    r.send({ seq: 1, ack: 77 });
    r.out.length = 0;
    r.send({ seq: 1, ack: 77, payload: payload(50) });
    t.deepEqual(
      r.out.map(({ packet }) => packet.seq),
      [...seqs],
    );
    t.true(r.out.slice(1).every(({ packet }) => (packet.flags & RST) !== 0 && packet.payloadBytes === 0));
    t.is(r.out.filter(({ heading }) => heading === 'left').length, kind === 'both' ? 1 : 0);
    r.send({ seq: 51, payload: payload(50) });
    t.is(r.out.length, seqs.length + 1, 'once per flow');
  }
});

test('a proxy acknowledges in the receiver’s name and may then lose the data', (t) => {
  const box = new ProxyAcker('right', 2);
  const r = through(box);
  r.send({ flags: SYN, seq: 0 });
  r.send({ flags: SYN | ACK, seq: 500, window: 123 }, 0, 'left');
  r.out.length = 0;
  r.send({ seq: 1, ack: 501, payload: payload(10) });
  r.send({ seq: 11, ack: 501, payload: payload(10) });
  t.deepEqual(
    r.out.map(({ heading, packet }) => [heading, packet.ack, packet.payloadBytes]),
    [
      ['right', 501, 10],
      ['left', 11, 0],
      ['left', 21, 0],
    ],
  );
  const ack = r.out[1]!.packet;
  t.deepEqual([ack.sourcePort, ack.destinationPort, ack.seq, ack.window], [443, 5001, 501, 123]);
  t.deepEqual([...ack.buf.slice(12, 16)], [10, 9, 0, 1]);
  t.deepEqual(r.drops, ['proxy-acker']);
});

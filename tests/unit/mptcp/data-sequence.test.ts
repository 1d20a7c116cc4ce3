/** DSS on the wire, both ways: data sequence numbers, mappings, DATA_ACK (RFC 8684 3.3, 3.3.1, 3.3.2). */
import test from 'ava';
import fc from 'fast-check';
import type { CoreEnv } from '../../../src/core/base/env.js';
import { putU32 } from '../../../src/core/base/wire-int.js';
import { MptcpScript, type Sent } from '../../support/mptcp-script.js';
import { patternByte, seededEnv } from '../../support/tcp-pair.js';

/** Both ends' IDSN is what the test says (it comes from a digest, which is injected). */
function envWithIdsn(hi: number, lo: number): CoreEnv {
  const env = seededEnv(5);
  return {
    ...env,
    sha256: (data) => {
      const digest = env.sha256(data);
      putU32(digest, 24, hi);
      putU32(digest, 28, lo);
      return digest;
    },
  };
}

const mapped = (sent: readonly Sent[]) => sent.filter((s) => s.len > 0 && s.dss !== null && s.dss.dsnBytes > 0);

/** Every payload byte is the one that its mapping names. */
function agrees(s: Sent): boolean {
  const dsn = s.dss!.dsn + s.seq - s.dss!.ssn;
  return s.payload.every((byte, i) => byte === patternByte(dsn - 1 + i));
}

for (const [name, hi, lo] of [
  ['2^64', 0xffff_ffff, 0xffff_ff00],
  ['2^32', 0x0000_0007, 0xffff_ff00],
] as const) {
  test(`data sequence numbers are 64 bits: a stream passes ${name} in both directions`, (t) => {
    const s = MptcpScript.connected({ env: envWithIdsn(hi, lo), side: 'passive' });
    for (let dsn = 1; dsn < 1000; dsn += 100) s.p0.exchange({ len: 100, dss: { dsn, ack: 1 } });
    t.is(s.received, 1000);
    const sent = s.write(1000);
    t.is(sent.at(-1)!.dss!.ack, 1001);
    t.deepEqual(
      mapped(sent).map((x) => [x.dss!.dsn, x.dss!.dll]),
      [[1, 1000]],
    );
    s.p0.ack(1001);
    t.is(s.c.sender.sndUna, 1001);
    t.is(s.mismatches, 0);
  });
}

test('DSN and DATA_ACK of 4 and of 8 bytes are taken in any mix', (t) => {
  const s = MptcpScript.connected({ env: envWithIdsn(3, 0xffff_ff80), side: 'passive' });
  s.write(400);
  let dsn = 1;
  for (const dsnBytes of [4, 8] as const) {
    for (const ackBytes of [4, 8] as const) {
      s.p0.exchange({ len: 100, dss: { dsn, dsnBytes, ack: dsn + 100, ackBytes } });
      dsn += 100;
      t.is(s.c.receiver.rcvNxt, dsn, `${dsnBytes} and ${ackBytes}`);
      t.is(s.c.sender.sndUna, dsn, `${dsnBytes} and ${ackBytes}`);
    }
  }
  t.is(s.received, 400);
});

test('32-bit numbers: an old segment after the wrap is old, and does not count as the next wrap', (t) => {
  const s = MptcpScript.joined(2, { env: envWithIdsn(3, 0xffff_ff80) });
  for (let dsn = 2; dsn < 600; dsn += 200) s.p0.exchange({ len: 200, dss: { dsn, dsnBytes: 4, ack: 2 } });
  t.is(s.c.receiver.rcvNxt, 602);
  const before = s.c.receiver.duplicateBytes;
  s.p1.exchange({ len: 100, dss: { dsn: 2, dsnBytes: 4, ack: 2, ackBytes: 4 } });
  t.is(s.c.receiver.duplicateBytes - before, 100);
  t.is(s.c.receiver.outOfWindowBytes, 0);
  t.is(s.received, 601);
  // The same for DATA_ACK: one of before the wrap is an old one.
  s.write(600);
  s.p0.exchange({ dss: { ack: 602, ackBytes: 4 } });
  s.p1.exchange({ dss: { ack: 50, ackBytes: 4 } });
  t.is(s.c.sender.sndUna, 602);
  t.is(s.counter('drop_data_ack_implausible'), 0);
});

/** Numbers of four bytes, wherever they lie. `near`: of what is not at all near to what is expected. */
const distance = fc.oneof(
  { weight: 4, arbitrary: fc.constant(0) },
  { weight: 3, arbitrary: fc.integer({ min: -2000, max: 20_000 }) },
  fc.integer({ min: 2 ** 20, max: 2 ** 31 - 1000 }),
  fc.integer({ min: -(2 ** 31) + 1, max: -1000 }),
);

test('32-bit DSNs around the wrap: in order, ahead, old and out of the window, each is what it was', (t) => {
  const idsn = fc.record({ hi: fc.constantFrom(3, 0xffff_ffff), lo: fc.integer({ min: 0, max: 0xffff_ffff }) });
  const steps = fc.array(fc.record({ distance, len: fc.integer({ min: 1, max: 1400 }) }), { maxLength: 24 });
  fc.assert(
    fc.property(idsn, fc.integer({ min: -30_000, max: 1000 }), steps, ({ hi, lo }, offset, list) => {
      const s = MptcpScript.joined(1, { env: envWithIdsn(hi, lo) });
      // As if more than 2^32 bytes had come: the wire's low half wraps `offset` behind here.
      const { receiver } = s.c;
      receiver.rcvNxt = 3 * 2 ** 32 - lo + offset;
      receiver.windowEdge();
      s.received = receiver.rcvNxt - 1;
      let here: [number, number][] = [];
      let next = receiver.rcvNxt;
      for (const step of list) {
        const dsn = next + step.distance;
        s.p0.exchange({ len: step.len, dss: { dsn, dsnBytes: 4, ack: 2 } });
        if (step.distance < 2 ** 20) here.push([dsn, dsn + step.len]);
        here.sort((a, b) => a[0] - b[0]);
        for (const [from, end] of here) if (from <= next) next = Math.max(next, end);
        here = here.filter(([, end]) => end > next);
        if (receiver.rcvNxt !== next || s.received !== next - 1) return false;
      }
      return s.mismatches === 0;
    }),
    { numRuns: 60 },
  );
  t.pass();
});

test('32-bit DATA_ACKs around the wrap: new, old and of what was never sent, each is what it was', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 1200 }),
      fc.array(distance, { maxLength: 24 }),
      fc.constantFrom(3, 0xffff_ffff),
      (before, list, hi) => {
        const s = MptcpScript.joined(1, { env: envWithIdsn(hi, 2 ** 32 - before) });
        s.write(1000);
        s.p0.ack();
        let una = 2;
        for (const d of list) {
          const dataAck = una + (d > 20_000 || d < -2000 ? d : Math.floor(d / 40));
          s.p0.exchange({ dss: { ack: dataAck, ackBytes: 4 } });
          if (dataAck <= 1002) una = Math.max(una, dataAck);
          if (s.c.sender.sndUna !== una) return false;
        }
        return true;
      },
    ),
    { numRuns: 60 },
  );
  t.pass();
});

test('a checksum that was not negotiated, or is missing though it was: RST with reason 1', (t) => {
  for (const checksum of [false, true]) {
    const s = MptcpScript.connected({ checksum, side: 'passive' });
    const sent = s.p0.exchange({ len: 100, dss: { dsn: 1, ack: 1, checksum: checksum ? -1 : 0x1234 } });
    t.deepEqual(
      sent.map((x) => [x.flags, x.tcprst]),
      [['R.', 1]],
    );
    t.is(s.received, 0);
  }
});

test('retransmissions in other pieces repeat the mapping as it was first declared', (t) => {
  const s = MptcpScript.connected();
  s.prove();
  const first = mapped([...s.write(3000), ...s.write(2000)]);
  s.p0.exchange({ ack: 100, dss: { ack: 100 } });
  const again = mapped(s.advance(4_000_000));
  t.true(again.length > 3);
  t.true(
    again.some((x) => first.every((y) => y.seq !== x.seq || y.len !== x.len)),
    'cut in another way',
  );
  for (const x of again) {
    const original = first.find((y) => y.seq <= x.seq && x.seq < y.seq + y.len)!;
    t.like(x.dss!, { dsn: original.dss!.dsn, ssn: original.dss!.ssn, dll: original.dss!.dll });
    t.true(agrees(x));
  }
});

test('a mapping that we send covers the segment that carries it', (t) => {
  const s = MptcpScript.joined(2);
  const sent = mapped([...s.write(20_000), ...s.write(100)]);
  t.true(sent.length > 10);
  for (const x of sent) {
    t.true(x.dss!.ssn <= x.seq && x.seq + x.len <= x.dss!.ssn + x.dss!.dll);
    t.true(agrees(x));
  }
});

test('a mapping that covers no byte of its segment is remembered for those that it does cover', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.prove();
  s.p0.send({ len: 100, at: 2, dss: { ack: 2, dsn: 102, ssn: 102, dll: 100 } });
  s.p0.send({ len: 100, at: 102 });
  t.is(s.received, 1);
  t.is(s.c.receiver.outOfOrderBytes, 100);
  s.p0.send({ dss: { ack: 2, dsn: 2, ssn: 2, dll: 100 } });
  t.is(s.received, 201);
  t.is(s.mismatches, 0);
});

test('one mapping for many segments, and only one of them carries it', (t) => {
  for (const carrier of [0, 1, 2]) {
    const s = MptcpScript.connected({ side: 'passive' });
    s.prove();
    for (let i = 0; i < 3; i++) {
      const at = 2 + 100 * i;
      s.p0.send({ len: 100, at, ...(i === carrier ? { dss: { ack: 2, dsn: 2, ssn: 2, dll: 300 } } : {}) });
    }
    t.is(s.received, 301, `segment ${carrier} carries it`);
    t.is(s.mismatches, 0);
  }
});

test('segments cut or joined on the way: each byte goes by the mapping, wherever segments begin', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.prove();
  const dss = { ack: 2, dsn: 2, ssn: 2, dll: 1000 };
  s.p0.send({ len: 333, dss });
  s.p0.send({ len: 600, dss });
  // The end of this mapping and the whole next one in a segment with the next one's option.
  s.p0.send({ len: 567, at: 935, dss: { ack: 2, dsn: 1002, ssn: 1002, dll: 500 } });
  t.is(s.received, 1501);
  t.is(s.mismatches, 0);
});

test("the SSN counts from the subflow's own SYN, whatever its ISN is on the wire", (t) => {
  for (const isn of [0, 0x7fff_ff00, 0xffff_ff00]) {
    const s = MptcpScript.connected({ side: 'passive', peer: { isn } });
    s.p0.send({ len: 600, dss: { dsn: 1, ssn: 1, ack: 1 } });
    t.is(s.received, 600);
    const sent = mapped(s.write(1000));
    t.is(sent[0]!.dss!.ssn, 1);
  }
});

test('urgent data is ordinary data; we never send any', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.p0.send({ flags: '.U', urgent: 3, len: 100, dss: { dsn: 1, ack: 1 } });
  t.is(s.received, 100);
  t.is(s.mismatches, 0);
  t.true(s.write(3000).every((x) => !x.flags.includes('U')));
});

test('bytes without a mapping are acknowledged by the subflow and not by DATA_ACK', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.prove();
  const [ack] = s.p0.exchange({ len: 100, at: 2 });
  t.is(ack!.ack, 102);
  t.is(ack!.dss!.ack, 2);
  t.is(s.received, 1);
});

test('a receive window of bytes without any mapping: RST with reason 6, and the other subflow delivers them', (t) => {
  const s = MptcpScript.joined(2, { config: { receiveBufferBytes: 60_000 } });
  s.p1.exchange({ len: 100, dss: { dsn: 2, ack: 2 } });
  let sent: Sent[] = [];
  for (let i = 0; i < 7 && sent.every((x) => x.flags !== 'R.'); i++) {
    sent = s.p1.exchange({ len: 10_000, at: 102 + 10_000 * i });
    if (i < 6) t.true(sent.every((x) => x.flags === '.' && x.dss?.ack === 102));
  }
  t.like(sent.at(-1)!, { path: 1, flags: 'R.', tcprst: 6 });
  for (let i = 0; i < 7; i++) s.p0.exchange({ len: 10_000, dss: { dsn: 102 + 10_000 * i, ack: 2 } });
  t.is(s.received, 70_101);
  t.is(s.mismatches, 0);
});

test('DATA_ACK is the next byte wanted, over all subflows, and is said on any of them', (t) => {
  const s = MptcpScript.joined(2);
  const late = s.p1.exchange({ len: 100, dss: { dsn: 102, ack: 2 } });
  t.like(late.at(-1)!, { path: 1, ack: 101 });
  t.is(late.at(-1)!.dss!.ack, 2);
  const filled = s.p0.exchange({ len: 100, dss: { dsn: 2, ack: 2 } });
  t.is(filled.at(-1)!.dss!.ack, 202);
});

test('the first copy of a byte is delivered, later ones are ignored', (t) => {
  const s = MptcpScript.joined(2);
  const wrong = new Uint8Array(300).fill(0xee);
  s.p0.send({ len: 100, dss: { dsn: 102, ack: 2 } });
  // The other subflow brings what is missing, and other bytes for what is here already.
  s.p1.send({
    payload: Uint8Array.from(wrong, (b, i) => (i < 100 || i >= 200 ? patternByte(1 + i) : b)),
    dss: { dsn: 2, ack: 2 },
  });
  t.is(s.received, 301);
  t.is(s.mismatches, 0);
  s.p1.send({ payload: wrong, dss: { dsn: 2, ack: 2 } });
  t.is(s.received, 301);
  t.is(s.c.receiver.duplicateBytes, 400);
});

test('a window field without DATA_ACK means nothing to the connection', (t) => {
  const s = MptcpScript.connected({ side: 'passive', peer: { win: 1000 } });
  s.prove();
  s.write(3000);
  s.p0.ack(1002, 1000);
  t.is(s.c.sender.sndNxt, 2002);
  t.deepEqual(s.p0.exchange({ win: 60_000 }), []);
  t.is(s.c.sender.sndNxt, 2002);
  s.p0.ack(2002, 60_000);
  t.is(s.c.sender.sndNxt, 3002);
});

test('a DATA_ACK only now and then, where it advances, is enough', (t) => {
  for (const doesPeerSend of [true, false]) {
    const s = MptcpScript.connected({ side: 'passive' });
    if (doesPeerSend) s.prove();
    else {
      s.write(1);
      s.p0.ack(2);
    }
    for (let i = 0; i < 5; i++) {
      s.write(1000);
      s.p0.ack();
      s.advance(20_000);
    }
    t.is(s.c.sender.sndUna, 2);
    s.p0.ack(5002);
    t.is(s.c.sender.sndUna, 5002);
    t.is(s.c.mode, 'mptcp');
    t.is(s.counter('data_rto'), 0);
  }
});

test('while SACK blocks need the room, a DATA_ACK that says nothing new is left out, one that does is not', (t) => {
  const s = MptcpScript.joined(2);
  for (let i = 0; i < 7; i++) s.p0.exchange({ len: 10_000, dss: { dsn: 2 + 10_000 * i, ack: 2 } });
  const start = s.p0.nxt;
  let sent: Sent[] = [];
  for (let i = 1; i <= 4; i++) {
    const seq = start + 200 * i;
    sent = s.p0.exchange({ seq, len: 100, dss: { dsn: 70_002 + 200 * i, ssn: seq, ack: 2 } });
  }
  t.like(sent.at(-1)!, { dss: null, sackCount: 4 });
  // The data in front arrives by the other path.
  s.p1.exchange({ len: 200, dss: { dsn: 70_002, ack: 2 } });
  const seq = start + 1000;
  sent = s.p0.exchange({ seq, len: 100, dss: { dsn: 71_002, ssn: seq, ack: 2 } });
  t.is(sent.at(-1)!.dss!.ack, 70_302);
});

test('a FIN has its DATA_ACK also while SACK blocks need the room: a bare one would be a peer that speaks TCP', (t) => {
  const s = MptcpScript.joined(1);
  for (let i = 0; i < 7; i++) s.p0.exchange({ len: 10_000, dss: { dsn: 2 + 10_000 * i, ack: 2 } });
  const seq = s.p0.nxt + 200;
  const hole = { seq, len: 100, dss: { dsn: 70_202, ssn: seq, ack: 2 } };
  s.p0.exchange(hole);
  t.like(s.p0.exchange(hole).at(-1)!, { dss: null });
  s.c.closeSubflow(s.nowUs, s.p0.sf.id, 'fin');
  for (const sent of [s.out(), s.advance(1_000_000)]) {
    const fins = sent.filter((x) => x.flags.includes('F'));
    t.true(fins.length > 0);
    for (const fin of fins) t.is(fin.dss?.ack, 70_002);
  }
});

test('data far beyond the window is dropped, and no DATA_ACK covers it', (t) => {
  const s = MptcpScript.joined(2, { config: { receiveBufferBytes: 60_000 } });
  const [ack] = s.p0.exchange({ len: 100, dss: { dsn: 200_000, ack: 2 } });
  t.is(ack!.dss!.ack, 2);
  t.is(s.c.receiver.outOfWindowBytes, 100);
  t.is(s.c.receiver.outOfOrderBytes, 0);
  // Before the IDSN there is nothing at all: not even the subflow takes it.
  s.p0.exchange({ seq: s.p0.nxt, len: 100, dss: { dsn: -500, ack: 2 } });
  t.is(s.counter('drop_dsn_out_of_window'), 1);
});

test('every data segment carries a mapping', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  const sent = s.write(14_000).filter((x) => x.len > 0);
  t.true(sent.length >= 10);
  t.is(mapped(sent).length, sent.length);
});

test('MP_FAIL names all 64 bits of the DSN at which the bad mapping begins', (t) => {
  const s = MptcpScript.joined(2, { checksum: true, env: envWithIdsn(0xfedc_ba98, 0xffff_ff00) });
  const sent = s.p1.exchange({ len: 100, dss: { dsn: 500, ack: 2, checksum: 1 } });
  t.deepEqual(
    sent.map((x) => [x.path, x.flags, x.fail, x.tcprst]),
    [[1, 'R.', 500, 6]],
  );
});

test('an infinite mapping is a DLL of 0: received, all that follows needs no option', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.prove();
  s.p0.send({ len: 100, dss: { dsn: 2, dll: 0, ack: 2 } });
  s.p0.send({ len: 100, at: 102 });
  t.is(s.c.mode, 'tcp');
  t.is(s.received, 201);
  t.is(s.mismatches, 0);
});

test('an infinite mapping is a DLL of 0: sent after a checksum failure, with checksum 0, as the last option', (t) => {
  const s = MptcpScript.connected({ side: 'passive', checksum: true });
  s.prove();
  s.p0.exchange({ len: 100, dss: { dsn: 2, ack: 2, checksum: 1 } });
  const sent = s.write(1000).filter((x) => x.len > 0);
  t.like(sent[0]!.dss!, { dsn: 2, ssn: 2, dll: 0, checksum: 0 });
  s.p0.exchange({});
  t.true(s.write(1000).every((x) => x.present === 0));
});

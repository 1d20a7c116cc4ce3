/** Data sequence numbers of four and of eight bytes in what we send (RFC 8684 3.3.1, 3.3.2), and the room that they leave. */
import test from 'ava';
import { LOOK_BYTES, NEAR_BYTES, NumberSizes, REPEAT_BYTES } from '../../../src/core/mptcp/number-sizes.js';
import { MptcpScript, type Sent } from '../../support/mptcp-script.js';

const S = 1_000_000;
/** 2^32 bytes in two minutes. */
const WRAP_BYTES_PER_S = 2 ** 32 / 120;

const mapped = (sent: readonly Sent[]) => sent.filter((s) => s.len > 0 && s.dss !== null && s.dss.dsnBytes > 0);

/** The sizes in use while `seconds` of data at `bytesPerS` are sent, told every 10 ms; the last one first. */
function sizesAt(
  bytesPerS: number,
  seconds: number,
  numbers: NumberSizes,
  from: { us: number; dsn: number },
): number[] {
  const seen: number[] = [];
  for (let i = 0; i < seconds * 100; i++) {
    from.us += 10_000;
    from.dsn += bytesPerS / 100;
    const before = numbers.dsnBytes;
    const hasChanged = numbers.onSent(from.us, from.dsn);
    if (hasChanged !== (numbers.dsnBytes !== before)) throw new Error('a change that is not one');
    if (hasChanged || seen.length === 0) seen.unshift(numbers.dsnBytes);
  }
  return seen;
}

test('DSNs take eight bytes at a rate at which 2^32 bytes pass in two minutes, four below, and do not go to and fro', (t) => {
  const numbers = new NumberSizes();
  const from = { us: 5 * S, dsn: 1 };
  t.deepEqual(sizesAt(0.7 * WRAP_BYTES_PER_S, 60, numbers, from), [4]);
  t.deepEqual(sizesAt(1.0 * WRAP_BYTES_PER_S, 60, numbers, from), [8, 4]);
  t.deepEqual(sizesAt(0.82 * WRAP_BYTES_PER_S, 60, numbers, from), [8]);
  t.deepEqual(sizesAt(0.7 * WRAP_BYTES_PER_S, 60, numbers, from), [4, 8]);
  t.deepEqual(sizesAt(0.82 * WRAP_BYTES_PER_S, 60, numbers, from), [4]);
});

test('a high rate is noticed before a sixty-fourth of the numbers is used', (t) => {
  const numbers = new NumberSizes();
  const from = { us: 5 * S, dsn: 1 };
  sizesAt(1_250_000_000, 0.06, numbers, from);
  t.is(numbers.dsnBytes, 8);
  t.true(from.dsn <= 2 ** 32 / 32);
  t.true(2 * LOOK_BYTES <= 2 ** 32 / 64);
});

test('what we send: four bytes, and eight once 400 Mbit/s flow; each segment is full all the same', (t) => {
  const s = MptcpScript.connected({ side: 'passive', peer: { win: 65_535, wscale: 4, ts: true } });
  s.p0.exchange({ len: 100, dss: { dsn: 1, dsnBytes: 4, ack: 1 } });
  const sizes = new Set<string>();
  const bytes = new Uint8Array(60_000);
  for (let at = 0; at < 1.1 * LOOK_BYTES; at += bytes.length) {
    s.c.write(s.nowUs, bytes);
    const [full] = mapped(s.out());
    s.nowUs += 1_200;
    s.p0.ack(s.c.sender.sndNxt);
    if (full === undefined) continue;
    sizes.add(`${full.dss!.ackBytes} ${full.dss!.dsnBytes} ${full.len} ${full.optionBytes}`);
  }
  // Timestamps 10, DSS 18 (then 14 without DATA_ACK, then 18): with 40 bytes of headers in 1500.
  t.deepEqual([...sizes], ['4 4 1432 28', '0 4 1436 24', '0 8 1432 28']);
});

test('a mapping from long ago says all 64 bits, in place of the DATA_ACK, so that its segment is no longer than others', (t) => {
  const s = MptcpScript.joined(2, { side: 'passive', peer: { ts: true } });
  s.c.setLocalBackup(s.nowUs, s.p0.sf.id, true);
  const first = mapped(s.write(1428));
  t.like(first[0], { path: 1, len: 1428 });
  t.like(first[0]!.dss!, { dsn: 2, dsnBytes: 4, ackBytes: 8 });
  // All of it got through elsewhere, and so much more since, in a minute.
  const { sender } = s.c;
  s.p0.exchange({ dss: { ack: sender.sndNxt } });
  sender.sndNxt += NEAR_BYTES + 1;
  sender.buffer.endDsn = sender.sndNxt;
  s.nowUs += 60 * S;
  const again = mapped(s.advance(3 * S)).filter((x) => x.path === 1);
  t.is(again[0]!.len, 1428);
  for (const x of again) {
    t.like(x.dss!, { dsn: 2, dsnBytes: 8, ackBytes: 0 });
    t.true(x.optionBytes <= first[0]!.optionBytes);
  }
});

test('data with a DSN of four bytes is acknowledged with four, with eight by eight, until all such data must be through', (t) => {
  const s = MptcpScript.connected({ side: 'passive', config: { receiveBufferBytes: 20_000 } });
  let dsn = 1;
  const bytesOf = (len: number, dsnBytes: 4 | 8) => {
    const acks = s.p0.exchange({ len, dss: { dsn, dsnBytes, ack: 1 } });
    dsn += len;
    return (acks.at(-1) ?? s.advance(100_000).at(-1))!.dss!.ackBytes;
  };
  t.is(bytesOf(1000, 4), 4);
  t.is(bytesOf(1000, 8), 8);
  t.is(mapped(s.write(100))[0]!.dss!.ackBytes, 8);
  const seen: number[] = [];
  for (let i = 0; i < 30; i++) seen.push(bytesOf(1000, 4));
  // The window is 20,000 bytes: who sends what begins there has had a DATA_ACK of all before.
  t.deepEqual(seen, [...Array(20).fill(8), ...Array(10).fill(4)]);
  t.is(mapped(s.write(100))[0]!.dss!.ackBytes, 4);
});

test('a DATA_FIN with eight bytes is acknowledged with eight; ours takes four, its DATA_ACK what is due', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.p0.exchange({ len: 10, dss: { dsn: 1, dsnBytes: 4, ack: 1 } });
  const acks = s.p0.exchange({ dss: { dsn: 11, dsnBytes: 8, ack: 1, fin: true } });
  t.like(acks.at(-1)!.dss!, { ack: 12, ackBytes: 8 });
  const fin = s.end().find((x) => x.dss?.fin === true)!;
  t.like(fin.dss!, { dsn: 1, dsnBytes: 4, ack: 12, ackBytes: 8 });
});

for (const checksum of [false, true]) {
  test(`each option has its room and no more${checksum ? ', with checksums' : ''}: keys, then numbers as they are`, (t) => {
    const s = MptcpScript.connected({ checksum, peer: { ts: true } });
    const more = checksum ? 4 : 0;
    const lengths = (sent: readonly Sent[]) => sent.filter((x) => x.len > 0).map((x) => x.len + x.optionBytes);
    // MP_CAPABLE with the first data (22 or 24 bytes) behind timestamps.
    const first = s.write(3000);
    t.is(first[0]!.optionBytes, 32 + more);
    t.deepEqual(lengths(first).slice(0, 2), [1460, 1460]);
    s.p0.ack(3001);
    const second = s.write(1432 - more);
    t.deepEqual([second.length, second[0]!.len], [1, 1432 - more]);
    t.is(second[0]!.optionBytes, 28 + more);
    s.p0.exchange({ len: 10, dss: { dsn: 1, ack: 3001 } });
    const third = s.write(1428 - more);
    t.deepEqual([third.length, third[0]!.len], [1, 1428 - more]);
    t.is(third[0]!.optionBytes, 32 + more);
  });
}

test('beside timestamps and a DATA_ACK of four bytes an ACK has room for two SACK blocks, beside one of eight for one', (t) => {
  for (const [dsnBytes, blocks] of [
    [4, 2],
    [8, 1],
  ] as const) {
    const s = MptcpScript.connected({ side: 'passive', peer: { ts: true } });
    s.p0.exchange({ len: 100, dss: { dsn: 1, dsnBytes, ack: 1 } });
    let last: Sent[] = [];
    for (const dsn of [301, 501, 701])
      last = s.p0.exchange({ len: 100, seq: dsn, dss: { dsn, ssn: dsn, dsnBytes, ack: 1 } });
    t.like(last.at(-1)!, { sackCount: blocks });
    t.is(last.at(-1)!.dss!.ackBytes, dsnBytes);
  }
});

test('data goes without a DATA_ACK that has long been said, and with it as soon as it, or the window, is another', (t) => {
  const s = MptcpScript.connected({ side: 'passive', peer: { wscale: 4, ts: true } });
  s.p0.exchange({ len: 100, dss: { dsn: 1, dsnBytes: 4, ack: 1 } });
  const bytes = new Uint8Array(50_000);
  /** Sends so much, and returns the kinds of full segments that it took. */
  const send = (total: number) => {
    const kinds = new Set<string>();
    for (let at = 0; at < total; at += bytes.length) {
      s.c.write(s.nowUs, bytes);
      for (const x of mapped(s.out()).filter((y) => y.len > 1400)) kinds.add(`${x.dss!.ackBytes} ${x.len}`);
      s.nowUs += 20_000;
      s.p0.ack(s.c.sender.sndNxt);
    }
    return [...kinds];
  };
  t.deepEqual(send(REPEAT_BYTES - 200_000), ['4 1432']);
  t.deepEqual(send(REPEAT_BYTES), ['4 1432', '0 1436']);
  // Data of the peer: its acknowledgment is on the very next segment.
  s.p0.send({ len: 100, dss: { dsn: 101, dsnBytes: 4, ack: s.c.sender.sndNxt } });
  s.c.write(s.nowUs, bytes);
  t.like(mapped(s.out())[0]!.dss!, { ack: 201, ackBytes: 4 });
  s.p0.ack(s.c.sender.sndNxt);
  t.deepEqual(send(2 * REPEAT_BYTES), ['4 1432', '0 1436']);
  // The application stops reading, the window shrinks, and is read again.
  s.readLimit = 0;
  s.p0.exchange({ len: 100, dss: { dsn: 201, dsnBytes: 4, ack: s.c.sender.sndNxt } });
  t.deepEqual(send(2 * REPEAT_BYTES), ['4 1432', '0 1436']);
  s.readLimit = Number.POSITIVE_INFINITY;
  s.c.resume(s.nowUs);
  t.deepEqual(send(50_000), ['4 1432']);
});

test('a new subflow, and one that has stalled, says its DATA_ACK with data in any case', (t) => {
  const s = MptcpScript.joined(2, { side: 'passive', peer: { wscale: 4, ts: true } });
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
  const bytes = new Uint8Array(50_000);
  for (let at = 0; at < 2 * REPEAT_BYTES; at += bytes.length) {
    s.c.write(s.nowUs, bytes);
    s.out();
    s.nowUs += 20_000;
    s.p0.ack(s.c.sender.sndNxt);
  }
  t.deepEqual([s.p0.sf.omitsDataAck, s.p1.sf.omitsDataAck], [true, false]);
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'test');
  const sent = mapped(s.write(20_000));
  t.true(sent.length > 3);
  t.true(sent.every((x) => x.path === 1 && x.dss!.ackBytes === 8));
  t.deepEqual([s.p0.sf.omitsDataAck, s.p1.sf.omitsDataAck], [false, false]);
});

/** Receipts of handovers: when one is written, and what it says. Virtual time. */
import test from 'ava';
import type { HandoverCause, HandoverReceipt } from '../../../src/control/protocol.js';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import { PacketLane } from '../../../src/core/lanes/packet-lane.js';
import { ReceiptBook, receiptText, type SessionTotals, sessionTotals } from '../../../src/daemon/receipts.js';

const MS = 1_000;

class Rig {
  nowMs = 0;
  readonly written: Omit<HandoverReceipt, 'id'>[] = [];
  totals: SessionTotals = { connectionIds: [1, 2], reinjectedBytes: 0, duplicateBytes: 0, flows: 3 };
  readonly book = new ReceiptBook({
    session: 'home',
    totals: () => this.totals,
    wallTime: (atUs) => `at ${atUs / MS} ms`,
    onReceipt: (r) => this.written.push(r),
  });

  /** Until `toMs`: bulk data every 10 ms, if any, the clock and the counters. */
  run(toMs: number, hasData = true): void {
    for (; this.nowMs < toMs; this.nowMs += 10) {
      if (hasData) this.book.delivered(this.nowMs * MS, 10_000);
      if (this.nowMs % 250 === 0) this.book.onTimer(this.nowMs * MS);
      if (this.nowMs % 1000 === 0) this.book.sample(this.nowMs * MS);
    }
  }

  carriers(names: readonly string[], cause: HandoverCause = 'link-down'): void {
    this.book.setCarriers(this.nowMs * MS, { carriers: names, cause, detail: 'because' });
  }

  /** Both paths in use, and data for 2 s. */
  static busy(): Rig {
    const rig = new Rig();
    rig.carriers(['a'], 'returned');
    rig.carriers(['a', 'b'], 'returned');
    rig.run(2_000);
    return rig;
  }
}

test('the first paths of a session are no handover', (t) => {
  const rig = Rig.busy();
  rig.run(5_000);
  t.deepEqual(rig.written, []);
});

test('a path goes down: time, paths, cause, gap, bytes and connections', (t) => {
  const rig = Rig.busy();
  rig.carriers(['b']);
  rig.run(2_120, false);
  rig.totals = { connectionIds: [2, 3], reinjectedBytes: 5_000, duplicateBytes: 700, flows: 1 };
  rig.run(2_900);
  t.deepEqual(rig.written, [], 'not before it has settled');
  rig.run(3_500);
  t.deepEqual(rig.written, [
    {
      time: 'at 2000 ms',
      session: 'home',
      from: ['a', 'b'],
      to: ['b'],
      cause: 'link-down',
      detail: 'because',
      gap_s: 0.13,
      dark_s: 0,
      reinjected_bytes: 5_000,
      duplicated_bytes: 700,
      connections_carried: 1,
      connections_lost: 1,
      flows_carried: 3,
    },
  ]);
  t.is(receiptText(rig.written[0]!), 'a+b → b (link-down): gap 130 ms, 1 connections carried, 1 lost');
});

test('a silence that was found out late counts from where it began', (t) => {
  const rig = Rig.busy();
  rig.run(2_400, false);
  rig.carriers(['b'], 'silent');
  rig.run(2_500, false);
  rig.run(4_000);
  t.is(rig.written[0]!.gap_s, 0.51);
  t.is(rig.written[0]!.time, 'at 2400 ms');
});

test('what was sent again before the change was noticed is in the receipt', (t) => {
  const rig = Rig.busy();
  rig.totals = { ...rig.totals, reinjectedBytes: 9_000 };
  rig.carriers(['b'], 'silent');
  rig.run(4_000);
  t.is(rig.written[0]!.reinjected_bytes, 9_000);
});

test('a transfer that ended before the link went is not a gap', (t) => {
  const rig = Rig.busy();
  rig.run(3_000, false);
  rig.carriers(['b']);
  rig.run(3_800, false);
  rig.run(6_000);
  t.is(rig.written[0]!.gap_s, null);
});

test('an idle tunnel: no data was due', (t) => {
  const rig = new Rig();
  rig.carriers(['a', 'b']);
  rig.run(2_000, false);
  rig.carriers(['b']);
  rig.run(4_000, false);
  t.is(rig.written[0]!.gap_s, null);
  t.regex(receiptText(rig.written[0]!), /: no data was due, 2 connections carried$/);
});

test('both dark: one receipt, written when data flows again, with the time in the dark', (t) => {
  const rig = Rig.busy();
  rig.carriers(['b']);
  rig.run(2_050, false);
  rig.carriers([]);
  rig.run(7_050, false);
  t.deepEqual(rig.written, []);
  rig.carriers(['a'], 'returned');
  rig.run(7_200, false);
  rig.run(9_000);
  t.is(rig.written.length, 1);
  const [r] = rig.written;
  t.deepEqual([r!.from, r!.to, r!.cause, r!.dark_s, r!.gap_s], [['a', 'b'], ['a'], 'link-down', 5, 5.21]);
});

test('leaving and returning are two receipts, and a silence is in one of them only', (t) => {
  const rig = Rig.busy();
  rig.carriers(['b']);
  rig.run(2_100, false);
  rig.run(2_700);
  rig.carriers(['b', 'a'], 'returned');
  rig.run(5_000);
  t.deepEqual(
    rig.written.map((r) => [r.cause, r.from.join(), r.to.join(), r.gap_s]),
    [
      ['link-down', 'a,b', 'b', 0.11],
      ['returned', 'b', 'b,a', 0.01],
    ],
  );
});

test('a path that is doubted for a moment, without a gap, is no handover; with one, it is', (t) => {
  const rig = Rig.busy();
  rig.carriers(['b'], 'silent');
  rig.run(2_200, false);
  rig.carriers(['a', 'b'], 'returned');
  rig.run(4_000);
  t.is(rig.written.length, 1, 'the data stood still');
  t.is(rig.written[0]!.gap_s, 0.21);
});

test('a dead path that looks alive for a moment is one handover', (t) => {
  const rig = Rig.busy();
  rig.carriers(['b'], 'peer');
  rig.run(2_080);
  rig.carriers(['a', 'b'], 'returned');
  rig.run(2_300);
  rig.carriers(['b'], 'silent');
  rig.run(5_000);
  t.deepEqual(
    rig.written.map((r) => [r.cause, r.from.join(), r.to.join()]),
    [['peer', 'a,b', 'b']],
  );
});

test('data that never comes back is not waited for for ever', (t) => {
  const rig = Rig.busy();
  rig.carriers(['b']);
  rig.run(11_900, false);
  t.deepEqual(rig.written, []);
  rig.run(12_500, false);
  t.is(rig.written[0]!.gap_s, null);
});

test('what flows with connections of their own have repeated is counted; a flow that is over is no connection lost', (t) => {
  const of = (id: number, bytesReinjected: number, bytesDuplicate: number) =>
    ({ id, info: () => ({ id, bytesReinjected, bytesDuplicate }) }) as unknown as ConnectionApi;
  const lane = new PacketLane({ mtuBytes: 1500, hashSeed: 1 });
  const flows = [
    { connection: of(7, 100, 10), movedUs: 9_000_000 },
    { connection: of(8, 1000, 20), movedUs: 7_999_999 },
  ];
  t.deepEqual(sessionTotals(10_000_000, [{ connection: of(1, 1, 2) }], lane, flows), {
    connectionIds: [1],
    reinjectedBytes: 1101,
    duplicateBytes: 32,
    flows: 1,
  });
});

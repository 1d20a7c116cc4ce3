/** A path that is left while bytes are on their way over it (mptcp/leaving.ts); with queues and losses: tests/sim/leaving. */
import test from 'ava';
import { MptcpScript, type Sent } from '../../support/mptcp-script.js';

const MS = 1000;

const data = (sent: readonly Sent[], path: number) => sent.filter((x) => x.path === path && x.len > 0);

/** Round trips of 20 ms on both paths, then `bytes` on path 0, which is left: path 1 is to carry what follows. */
function left(bytes: number): { s: MptcpScript; sent: Sent[] } {
  const s = MptcpScript.joined(2);
  for (const [only, rests] of [
    [s.p1, s.p0],
    [s.p0, s.p1],
  ] as const) {
    s.c.setLocalBackup(s.nowUs, rests.sf.id, true);
    s.c.setLocalBackup(s.nowUs, only.sf.id, false);
    for (let i = 0; i < 20; i++) {
      s.write(1000);
      s.advance(20 * MS);
      only.ack(s.c.sender.sndNxt);
    }
  }
  s.write(bytes);
  s.c.setLocalBackup(s.nowUs, s.p0.sf.id, true);
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, false);
  return { s, sent: s.advance(20 * MS) };
}

test('what is on its way over a path that is left stays there as long as it is not late', (t) => {
  const { s, sent } = left(2500);
  t.is(data(sent, 1).length, 0);
  s.p0.ack(s.c.sender.sndNxt);
  t.is(data(s.advance(100 * MS), 1).length, 0);
  t.is(s.counter('left_path_copied'), 0);
});

test('nothing is acknowledged for 20 ms more than a round trip: all of it goes again elsewhere, once', (t) => {
  const { s } = left(2500);
  const again = data(s.advance(35 * MS), 1);
  t.is(
    again.reduce((sum, x) => sum + x.len, 0),
    2500,
  );
  t.false(s.p0.sf.isStalled, 'well before silence is a verdict');
  t.is(s.counter('left_path_copied'), 1);
});

test('a backup that carries the data because nothing else does is not being left', (t) => {
  const { s } = left(2500);
  s.c.suspectSubflow(s.nowUs, s.p1.sf.id, 'test');
  t.is(data(s.advance(35 * MS), 1).length, 0);
  t.is(s.counter('left_path_copied'), 0);
});

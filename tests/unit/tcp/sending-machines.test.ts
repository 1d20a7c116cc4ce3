/** The machines of the sending half one by one: windows, undo (RFC 3522, 5682, DSACK), ECN, RFC 7661, probe clocks. */
import test from 'ava';
import { NEVER } from '../../../src/core/base/time.js';
import { EcnReaction } from '../../../src/core/tcp/ecn-reaction.js';
import { PathProbe } from '../../../src/core/tcp/path-probe.js';
import { PersistTimer } from '../../../src/core/tcp/persist.js';
import { RttEstimator } from '../../../src/core/tcp/rtt.js';
import { SendSpace } from '../../../src/core/tcp/send-space.js';
import { afterFinAcked, afterPeerFin, afterSendFin } from '../../../src/core/tcp/states.js';
import { UndoDetector } from '../../../src/core/tcp/undo.js';
import { WindowUsage } from '../../../src/core/tcp/window-usage.js';
import { TCP_CWR } from '../../../src/core/wire/segment.js';

test('RFC 9293 3.10.7.4: an overtaken segment does not set SND.WND', (t) => {
  const space = new SendSpace();
  space.onSynAcked(1);
  space.updateWindow(100, 50, 4000);
  space.updateWindow(99, 60, 1);
  t.is(space.sndWnd, 4000, 'older SEG.SEQ');
  space.updateWindow(100, 49, 1);
  t.is(space.sndWnd, 4000, 'same SEG.SEQ, older SEG.ACK');
  space.updateWindow(100, 50, 1000);
  t.is(space.sndWnd, 1000, 'the same again may shrink it');
  t.is(space.maxSndWnd, 4000);
});

test('RFC 9293 3.8.6.2.1: less than a segment is usable only as half of the greatest window', (t) => {
  const space = new SendSpace();
  space.updateWindow(1, 1, 1200);
  space.sndNxt = 0;
  t.is(space.usableWindowBytes(1000), 1200);
  space.sndNxt = 600;
  t.is(space.usableWindowBytes(1000), 600);
  space.sndNxt = 601;
  t.is(space.usableWindowBytes(1000), 0);
  space.sndNxt = 1300;
  t.is(space.windowRoomBytes, -100, 'the peer shrank it');
  t.is(space.usableWindowBytes(1000), 0);
});

test('RFC 3522: only the first ACK that covers the first retransmission decides, by an older echo', (t) => {
  const reduced = () => {
    const undo = new UndoDetector();
    undo.start(1000);
    undo.onRetransmitted(1000, 500, 70);
    undo.onRetransmitted(1500, 500, 80);
    return undo;
  };
  t.true(reduced().isSpurious(false, 1000, 1500, 69));
  t.false(reduced().isSpurious(false, 1000, 1500, 70), 'the retransmission itself is answered');
  t.false(reduced().isSpurious(false, 1000, 1500, -1), 'no timestamps');
  t.false(reduced().isSpurious(false, 1000, 1000, 69), 'no advance');
  const late = reduced();
  t.false(late.isSpurious(false, 1000, 1500, 71));
  t.false(late.isSpurious(false, 1000, 2000, 60), 'decided already');
  // A delayed ACK of an earlier retransmission and this one echoes the earlier, and that is no sign of anything.
  late.onRetransmitted(2000, 500, 90);
  t.false(late.isSpurious(false, 1500, 2500, 85), 'only the first retransmission of a reduction counts');
});

test('RFC 5682: after a timeout from the open phase, data sent once and before it arrives', (t) => {
  const after = (isFromOpen: boolean, sentUs: number) => {
    const undo = new UndoDetector();
    undo.onRto(5_000, isFromOpen);
    undo.start(1);
    undo.beginAck();
    undo.onOriginalDelivered(sentUs);
    return undo;
  };
  t.true(after(true, 4_999).isSpurious(true, 1, 1, -1));
  t.false(after(true, 5_001).isSpurious(true, 1, 1, -1), 'sent after the timeout: it says nothing');
  t.false(after(false, 4_999).isSpurious(true, 1, 1, -1), 'a recovery was under way');
  const next = after(true, 4_999);
  next.beginAck();
  t.false(next.isSpurious(true, 1, 1, -1), 'what another ACK said does not count');
});

test('DSACK: undone when all that was retransmitted had arrived, and only then', (t) => {
  const undo = new UndoDetector();
  t.false(undo.onDsack(1000, 1500), 'nothing to undo');
  undo.start(1000);
  undo.onRetransmitted(1000, 500, -1);
  undo.onProbed(300);
  t.false(undo.onDsack(500, 1000), 'from before the reduction');
  t.false(undo.onDsack(1000, 1500));
  t.true(undo.onDsack(1500, 1800));
  undo.stop();
  t.false(undo.onDsack(1800, 2000));
});

test('RFC 3168 6.1.2: one reduction a window, one CWR, and no second reduction for a loss in the same window', (t) => {
  const ecn = new EcnReaction();
  t.false(ecn.onEcho(100, 900), 'not negotiated');
  ecn.isOn = true;
  t.true(ecn.onEcho(100, 900));
  t.false(ecn.onEcho(900, 1500));
  t.false(ecn.mayReduceForLoss(899));
  t.true(ecn.mayReduceForLoss(900), 'the window is over');
  t.is(ecn.takeCwr(), TCP_CWR);
  t.is(ecn.takeCwr(), 0);
  t.true(ecn.onEcho(901, 1600));
});

test('RFC 7661: a flight that leaves a segment of the window free is not limited by it, until the next one', (t) => {
  const usage = new WindowUsage();
  usage.onSent(0, 9_500, 9_500, 10_000, 1_000);
  t.true(usage.isCwndLimited(false, 10_000));
  usage.onSent(100, 9_600, 2_000, 10_000, 1_000);
  t.true(usage.isCwndLimited(false, 10_000), 'the same flight');
  usage.onSent(9_600, 11_600, 2_000, 10_000, 1_000);
  t.false(usage.isCwndLimited(false, 10_000));
  t.true(usage.isCwndLimited(true, 3_999), 'in slow start half of it is enough');
  t.false(usage.isCwndLimited(true, 4_000));
  usage.onLimited();
  t.true(usage.isCwndLimited(false, 10_000));
});

test('RFC 9293 3.8.6.1: window probes back off, and start over once the window has opened', (t) => {
  const rtt = new RttEstimator(1_000_000, 200_000, 60_000_000);
  const persist = new PersistTimer();
  persist.update(0, true, rtt);
  persist.update(500_000, true, rtt);
  t.is(persist.deadlineUs, 1_000_000, 'not put off');
  persist.onTimer(999_999, rtt);
  t.false(persist.isDue);
  persist.onTimer(1_000_000, rtt);
  t.true(persist.isDue);
  t.is(persist.deadlineUs, 3_000_000);
  persist.onTimer(3_000_000, rtt);
  t.is(persist.deadlineUs, 7_000_000);
  persist.update(3_500_000, false, rtt);
  t.false(persist.isDue);
  t.is(persist.deadlineUs, NEVER);
  persist.update(4_000_000, true, rtt);
  t.is(persist.deadlineUs, 5_000_000);
});

test('path probes: the first counts from what was last sent, a new interval from the last probe', (t) => {
  const probe = new PathProbe();
  probe.setInterval(250, 1_000);
  t.is(probe.deadlineUs, 1_250);
  probe.onTimer(1_249);
  t.false(probe.isDue);
  probe.onTimer(1_300);
  t.true(probe.isDue);
  t.is(probe.deadlineUs, 1_550);
  probe.setInterval(15_000, 9_999);
  t.is(probe.deadlineUs, 16_300);
  probe.setInterval(0, 9_999);
  t.false(probe.isOn);
  t.is(probe.deadlineUs, NEVER);
  probe.isDue = false;
  probe.kick(2_000);
  t.true(probe.isDue, 'asks even when off');
});

test('RFC 9293 3.3.2, figure 5: both orders of FINs end in the same place', (t) => {
  t.is(afterFinAcked(afterSendFin('established')), 'fin-wait-2');
  t.is(afterPeerFin('fin-wait-2'), 'time-wait');
  t.is(afterPeerFin(afterSendFin('established')), 'closing');
  t.is(afterFinAcked('closing'), 'time-wait');
  t.is(afterSendFin(afterPeerFin('established')), 'last-ack');
  t.is(afterFinAcked('last-ack'), 'closed');
  t.is(afterSendFin('fin-wait-1'), 'fin-wait-1', 'a second CLOSE changes nothing');
  t.is(afterFinAcked('established'), 'established');
});

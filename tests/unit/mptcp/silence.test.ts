/** The receiver's part in finding dead paths (DESIGN 3.4): a busy path falls silent while bytes behind a hole wait. */
import test from 'ava';
import { MptcpScript } from '../../support/mptcp-script.js';

const MS = 1000;
const SILENCE_US = 300 * MS;

/** Data on both paths in turn for `ms`, then a hole that only path 0 could fill; path 1 goes on for `afterMs`. */
function silentPath0(ms: number, afterMs: number, hasHole = true): MptcpScript {
  const s = MptcpScript.joined(2);
  let dsn = 2;
  for (let at = 0; at < ms; at += 2) {
    (at % 4 === 0 ? s.p0 : s.p1).send({ len: 1000, dss: { dsn, ack: 2 } });
    dsn += 1000;
    s.advance(2 * MS);
  }
  if (hasHole) dsn += 1000; // sent on path 0, and lost
  for (let at = 0; at < afterMs; at += 5) {
    s.p1.send({ len: 1000, dss: { dsn, ack: 2 } });
    dsn += 1000;
    s.advance(5 * MS);
  }
  return s;
}

test('a path that was busy and is silent for 300 ms while data behind a hole waits is reported, once', (t) => {
  const early = silentPath0(400, SILENCE_US / MS - 20);
  t.deepEqual(early.events('subflow-silent'), []);
  const s = silentPath0(400, SILENCE_US / MS + 100);
  t.deepEqual(
    s.events('subflow-silent').map((e) => 'subflowId' in e && e.subflowId),
    [s.p0.sf.id],
  );
  t.true(s.p0.sf.isSilent);
  t.true(s.c.info().subflows[0]!.isSilent);
  t.false(s.p0.sf.isStalled, 'our own sending there is another matter');
});

test('payload from the path takes the report back', (t) => {
  const s = silentPath0(400, SILENCE_US / MS + 400);
  s.p0.send({ len: 1000, dss: { dsn: 200_002, ack: 2 } });
  t.false(s.p0.sf.isSilent);
  t.is(s.events('subflow-heard').length, 1);
});

test('no report without a hole, of a path that only trickled, or when the other is silent too', (t) => {
  t.deepEqual(silentPath0(400, 1000, false).events('subflow-silent'), []);
  t.deepEqual(silentPath0(40, 1000).events('subflow-silent'), []);
  const s = silentPath0(400, 5);
  s.advance(2000 * MS);
  t.false(s.p1.sf.isSilent, 'nobody was heard since: the sender pauses');
});

/** 100 ms of data on the only path, then nothing for `ms`; the segments that we sent in that time. */
function pause(s: MptcpScript, ms: number) {
  for (let i = 0; i < 60; i++) {
    s.p0.send({ len: 1000, dss: { dsn: 2 + 1000 * i, ack: 2 } });
    s.advance(2 * MS);
  }
  return s.advance(ms * MS);
}

test('a path that was busy falls silent: it is asked three times, and without an answer stalls, hole or no hole', (t) => {
  const s = MptcpScript.joined(1);
  pause(s, SILENCE_US / MS - 10);
  t.is(s.counter('silence_asked'), 0, 'a radio may scan');
  t.is(s.advance(20 * MS).length, 1);
  s.advance(240 * MS);
  t.is(s.counter('silence_asked'), 3);
  t.false(s.p0.sf.isStalled);
  s.advance(100 * MS);
  t.true(s.p0.sf.isStalled);
  t.deepEqual(
    s.events('subflow-stalled').map((e) => 'why' in e && e.why),
    ['silent, and no answer to probes'],
  );
  s.p0.ack(2);
  t.false(s.p0.sf.isStalled, 'any answer takes it back');
});

test('an answer ends the questions: the sender has nothing to send', (t) => {
  const s = MptcpScript.joined(1);
  pause(s, SILENCE_US / MS + 10);
  t.is(s.counter('silence_asked'), 1);
  s.p0.ack(2);
  t.is(s.advance(5000 * MS).length, 0);
  t.is(s.counter('silence_asked'), 1);
  t.false(s.p0.sf.isStalled);
});

test('a path that only trickled is not asked', (t) => {
  const s = MptcpScript.joined(1);
  s.p0.send({ len: 1000, dss: { dsn: 2, ack: 2 } });
  s.advance(5000 * MS);
  t.is(s.counter('silence_asked'), 0);
});

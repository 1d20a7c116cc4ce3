import test from 'ava';
import { DataReceiver } from '../../../src/core/mptcp/receiver.js';

function collector(limit = Number.POSITIVE_INFINITY) {
  const got: number[] = [];
  const state = { limit, ended: 0 };
  return {
    got,
    state,
    reader: {
      onBytes(buf: Uint8Array, offset: number, n: number) {
        const took = Math.min(n, state.limit);
        for (let i = 0; i < took; i++) got.push(buf[offset + i]!);
        state.limit -= took;
        return took;
      },
      onEnd() {
        state.ended++;
      },
    },
  };
}

test('in-order bytes go up at once, a hole holds back what follows it', (t) => {
  const r = new DataReceiver(1000);
  const c = collector();
  r.setReader(c.reader);
  t.true(r.accept(1, Uint8Array.of(1, 2), 0, 2));
  t.false(r.accept(4, Uint8Array.of(4), 0, 1));
  t.deepEqual(c.got, [1, 2]);
  t.true(r.accept(3, Uint8Array.of(3), 0, 1));
  t.deepEqual(c.got, [1, 2, 3, 4]);
  t.is(r.rcvNxt, 5);
});

test('a buffer full of out-of-order data still takes the next in-order byte (DESIGN 2)', (t) => {
  const r = new DataReceiver(64 * 1024);
  const c = collector();
  r.setReader(c.reader);
  for (let dsn = 2; dsn < 60_000; dsn += 2) r.accept(dsn, Uint8Array.of(7), 0, 1);
  t.true(r.accept(1, Uint8Array.of(1), 0, 1));
  t.deepEqual(c.got.slice(0, 2), [1, 7]);
});

test('W1: the right edge never moves left, even when the application stops reading', (t) => {
  const r = new DataReceiver(100);
  const c = collector(0);
  r.setReader(c.reader);
  let edge = r.windowEdge();
  for (let dsn = 1; dsn <= 100; dsn += 10) {
    r.accept(dsn, new Uint8Array(10), 0, 10);
    t.true(r.windowEdge() >= edge);
    edge = r.windowEdge();
  }
  t.is(r.windowBytes(), 0);
  c.state.limit = 40;
  r.resume();
  t.is(r.windowBytes(), 40);
});

test('D23: bytes beyond the window by more than a window are dropped, and only those', (t) => {
  const r = new DataReceiver(10);
  r.setReader(collector().reader);
  r.accept(1, new Uint8Array(25), 0, 25);
  t.is(r.rcvNxt, 21);
  t.is(r.outOfWindowBytes, 5);
});

test('bytes beyond a window that shrank are kept: a kernel overshoots, and they were acknowledged below', (t) => {
  const r = new DataReceiver(2000);
  r.setReader(collector(0).reader);
  r.accept(1, new Uint8Array(2000), 0, 2000);
  t.is(r.windowBytes(), 0);
  r.accept(3001, new Uint8Array(500), 0, 500);
  t.is(r.outOfOrderBytes, 500);
  r.accept(2001, new Uint8Array(1000), 0, 1000);
  t.is(r.rcvNxt, 3501);
  t.is(r.outOfWindowBytes, 0);
});

test('F1, F3: the DATA_FIN takes one DSN, and is reached only after every byte before it', (t) => {
  const r = new DataReceiver(100);
  const c = collector();
  r.setReader(c.reader);
  t.false(r.setFin(3));
  t.is(r.rcvNxt, 1);
  r.accept(1, Uint8Array.of(1, 2), 0, 2);
  t.is(r.rcvNxt, 4);
  t.true(r.isFinished);
  t.is(c.state.ended, 1);
  r.setFin(3);
  t.is(c.state.ended, 1);
});

test('the end is delivered after bytes that the reader had refused', (t) => {
  const r = new DataReceiver(100);
  const c = collector(1);
  r.setReader(c.reader);
  r.accept(1, Uint8Array.of(1, 2, 3), 0, 3);
  r.setFin(4);
  t.is(c.state.ended, 0);
  c.state.limit = 10;
  r.resume();
  t.deepEqual(c.got, [1, 2, 3]);
  t.is(c.state.ended, 1);
});

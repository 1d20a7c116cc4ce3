/** A kernel's socket as a leg of a converted connection, over loopback. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import test from 'ava';
import { SocketLeg } from '../../../src/daemon/flows/socket-leg.js';

interface Pair {
  readonly leg: SocketLeg;
  readonly far: Socket;
  readonly closed: boolean[];
  /** Resolves when the leg has told that it is closed. */
  readonly over: Promise<void>;
}

async function pair(): Promise<Pair> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
  const [[far]] = (await Promise.all([once(server, 'connection'), once(near, 'connect')])) as [[Socket], unknown];
  server.close();
  far.on('error', () => undefined);
  const closed: boolean[] = [];
  let told = () => {};
  const over = new Promise<void>((resolve) => {
    told = resolve;
  });
  const leg = new SocketLeg(near, (isReset) => {
    closed.push(isReset);
    told();
  });
  return { leg, far, closed, over };
}

test('a reader that is full leaves the bytes, which come again when it goes on, and then the end', async (t) => {
  const { leg, far, closed, over } = await pair();
  let room = 3;
  let heard = '';
  let ends = 0;
  let full = () => {};
  const isFull = new Promise<void>((resolve) => {
    full = resolve;
  });
  let ended = () => {};
  const hasEnded = new Promise<void>((resolve) => {
    ended = resolve;
  });
  leg.setReader({
    onBytes: (buf, offset, n) => {
      const taken = Math.min(n, room);
      heard += Buffer.from(buf.subarray(offset, offset + taken)).toString();
      room -= taken;
      if (room === 0) full();
      return taken;
    },
    onEnd: () => {
      ends++;
      ended();
    },
  });
  far.end('abcdefgh');
  await isFull;
  t.is(heard, 'abc');
  t.is(ends, 0);
  room = 2;
  leg.resume();
  t.is(heard, 'abcde');
  room = 100;
  leg.resume();
  await hasEnded;
  t.is(heard, 'abcdefgh');
  leg.resume();
  t.is(ends, 1);
  far.resume();
  leg.end();
  await over;
  t.deepEqual(closed, [false]);
});

test('bytes written leave, `onSpace` tells when they have, and the end follows them', async (t) => {
  const { leg, far } = await pair();
  const chunk = new Uint8Array(1 << 20);
  for (let i = 0; i < 8; i++) leg.write(0, chunk);
  t.true(leg.unsentBytes > 0);
  const space = new Promise<void>((resolve) => leg.setSendSpace(0, resolve));
  let received = 0;
  far.on('data', (data) => (received += data.length));
  await space;
  t.is(leg.unsentBytes, 0);
  leg.end();
  await once(far, 'end');
  t.is(received, 8 << 20);
  far.end();
});

test('a reset is told as one, ours arrives as one', async (t) => {
  const theirs = await pair();
  theirs.leg.setReader({ onBytes: (_buf, _offset, n) => n, onEnd: () => undefined });
  theirs.far.resetAndDestroy();
  await theirs.over;
  t.deepEqual(theirs.closed, [true]);
  const ours = await pair();
  const error = once(ours.far, 'error').catch((e: NodeJS.ErrnoException) => [e]);
  ours.far.resume();
  ours.leg.abort();
  const [reason] = (await error) as [NodeJS.ErrnoException];
  t.is(reason.code, 'ECONNRESET');
});

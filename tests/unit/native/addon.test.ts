import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { addon, check, SystemError } from '../../../src/native/addon.js';
import { DeadlineTimer, monotonicUs, Poller, READABLE } from '../../../src/native/poller.js';
import { until } from '../../support/until.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;

/** An abstract unix socket name, unique to this process. */
function unixName(label: string): Uint8Array {
  return new Uint8Array([AF_UNIX, 0, 0, ...Buffer.from(`mtn-${process.pid}-${label}`)]);
}

/** A bound datagram socket and one that sends to it. */
function datagramPair(label: string): { rx: number; tx: number; close(): void } {
  const rx = check(addon.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket');
  const tx = check(addon.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket');
  check(addon.bind(rx, unixName(label)), 'bind');
  check(addon.connect(tx, unixName(label)), 'connect');
  return {
    rx,
    tx,
    close() {
      addon.close(rx);
      addon.close(tx);
    },
  };
}

/** RFC 1071, word by word. */
function slowSum(bytes: Uint8Array, initial: number): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

test('checksum equals the word-by-word sum at any offset, length and start', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(20), fc.nat(0xffff), (bytes, skip, initial) => {
      const offset = Math.min(skip, bytes.length);
      const got = addon.checksum(bytes, offset, bytes.length - offset, initial);
      const want = slowSum(bytes.subarray(offset), initial);
      return got === want;
    }),
  );
  t.throws(() => addon.checksum(new Uint8Array(4), 2, 3, 0), { instanceOf: RangeError });
});

test('a failing call returns -errno, and check names it', (t) => {
  t.is(addon.close(-1), -9);
  const error = t.throws(() => check(addon.open('/nonexistent/x', 0), 'open it'), { instanceOf: SystemError });
  t.is((error as SystemError).code, 'ENOENT');
  t.is(error.message, 'open it: ENOENT');
});

test('wrong arguments throw and do not crash', (t) => {
  const any = addon as unknown as Record<string, (...args: unknown[]) => unknown>;
  t.throws(() => any.close!(), { instanceOf: TypeError });
  t.throws(() => any.close!('1'), { instanceOf: TypeError });
  t.throws(() => any.recv!(0, new Int32Array(4), 0), { instanceOf: TypeError });
  t.throws(() => any.pollStart!({}, 1), { instanceOf: TypeError });
  t.throws(() => any.pollOpen!(0, 'no function'), { instanceOf: TypeError });
  t.throws(() => any.ifNameToIndex!('a-name-that-is-too-long'), { instanceOf: RangeError });
});

test('sendBatch gathers slices, receiveBatch fills slots, with one call each', (t) => {
  const pair = datagramPair('batch');
  const heads = Buffer.from('--AAAA--BB');
  const parts = [Buffer.from('0123456789'), Buffer.from('xyz')];
  // Packet 0: "AAAA" + "345" + "z"; packet 1: "BB" alone; both with a prefix of two bytes.
  const args = [new Int32Array([0, 2, 2]), new Int32Array([3, 2]), new Int32Array([3, 1])] as const;
  const sent = addon.sendBatch(
    pair.tx,
    1,
    heads,
    new Int32Array([2, 8]),
    new Int32Array([4, 2]),
    2,
    parts,
    ...args,
    0,
    2,
    null,
    0,
    null,
  );
  t.is(sent, 2);

  const slab = new Uint8Array(4 * 32);
  const length = new Int32Array(4);
  const truncated = new Uint8Array(4);
  t.is(addon.receiveBatch(pair.rx, 1, slab, 32, 5, 4, length, truncated), 2);
  const packet = (i: number) => Buffer.from(slab.subarray(i * 32 + 5, i * 32 + 5 + length[i]!)).toString();
  t.deepEqual([packet(0), packet(1)], ['--AAAA345z', '--BB']);
  t.deepEqual([...truncated], [0, 0, 0, 0]);
  t.is(addon.receiveBatch(pair.rx, 1, slab, 32, 5, 4, length, truncated), 0, 'nothing left is 0, not an error');
  pair.close();
});

test('more packets than one system call takes still go in one call each way', (t) => {
  const pair = datagramPair('many');
  check(addon.setsockopt(pair.rx, 1, 33, new Uint8Array([0, 0, 64, 0])), 'SO_RCVBUFFORCE');
  const n = Math.min(150, Number(readFileSync('/proc/sys/net/unix/max_dgram_qlen', 'utf8')) + 1);
  const heads = new Uint8Array(n).map((_, i) => i);
  const offset = Int32Array.from({ length: n }, (_, i) => i);
  const ones = new Int32Array(n).fill(1);
  const sent = addon.sendBatch(pair.tx, 1, heads, offset, ones, 0, null, null, null, null, 0, n, null, 0, null);
  const length = new Int32Array(n);
  const slab = new Uint8Array(n * 4);
  const got = addon.receiveBatch(pair.rx, 1, slab, 4, 0, n, length, new Uint8Array(n));
  t.is(got, sent);
  t.true(sent > 5, 'the queue takes some');
  for (let i = 0; i < got; i++) t.is(slab[i * 4], i & 0xff);
  pair.close();
});

test('a full queue is back-pressure: a partial count, then 0', (t) => {
  const pair = datagramPair('full');
  const n = 4_096;
  const heads = new Uint8Array(1);
  const zeros = new Int32Array(n);
  const ones = new Int32Array(n).fill(1);
  const send = () => addon.sendBatch(pair.tx, 1, heads, zeros, ones, 0, null, null, null, null, 0, n, null, 0, null);
  const first = send();
  t.true(first > 0 && first < n);
  t.is(send(), 0);
  pair.close();
});

test('an error of the first packet is -errno; a packet longer than its slot is marked', (t) => {
  const pair = datagramPair('errors');
  const one = new Int32Array([1]);
  t.is(
    addon.sendBatch(-1, 1, new Uint8Array(1), new Int32Array(1), one, 0, null, null, null, null, 0, 1, null, 0, null),
    -9,
  );
  check(addon.write(pair.tx, new Uint8Array(50)), 'write');
  const truncated = new Uint8Array(1);
  t.is(addon.receiveBatch(pair.rx, 1, new Uint8Array(16), 16, 0, 1, one, truncated), 1);
  t.is(truncated[0], 1);
  pair.close();
});

test('batches check every range before touching memory', (t) => {
  const i32 = (...v: number[]) => new Int32Array(v);
  const send = (
    heads: Uint8Array,
    offset: Int32Array,
    length: Int32Array,
    prefix: number,
    parts: Uint8Array[],
    ...p: Int32Array[]
  ) => addon.sendBatch(-1, 1, heads, offset, length, prefix, parts, p[0]!, p[1]!, p[2]!, 0, 1, null, 0, null);
  const part = new Uint8Array(4);
  t.throws(() => send(new Uint8Array(4), i32(0), i32(5), 0, [], i32(0, 0), i32(0), i32(0)), { instanceOf: RangeError });
  t.throws(() => send(new Uint8Array(4), i32(0), i32(4), 1, [], i32(0, 0), i32(0), i32(0)), { instanceOf: RangeError });
  t.throws(() => send(new Uint8Array(4), i32(0), i32(4), 0, [part], i32(0, 1), i32(2), i32(3)), {
    instanceOf: RangeError,
  });
  t.throws(() => send(new Uint8Array(4), i32(0), i32(4), 0, [part], i32(0, 9), i32(0), i32(1)), {
    instanceOf: RangeError,
  });
  t.throws(() => send(new Uint8Array(4), i32(0), i32(4), 0, [], i32(0, 1), i32(0), i32(1)), { instanceOf: TypeError });
  t.throws(() => addon.receiveBatch(0, 1, new Uint8Array(10), 4, 0, 3, new Int32Array(3), new Uint8Array(3)), {
    instanceOf: RangeError,
  });
});

test('a poller calls back once per readiness, not once per packet, and stops when told', async (t) => {
  const pair = datagramPair('poll');
  let calls = 0;
  let received = 0;
  const slab = new Uint8Array(64 * 8);
  const poller = new Poller(pair.rx, (events) => {
    t.is(events, READABLE);
    calls++;
    received += addon.receiveBatch(pair.rx, 1, slab, 8, 0, 64, new Int32Array(64), new Uint8Array(64));
  });
  poller.watch(READABLE);
  for (let i = 0; i < 8; i++) check(addon.write(pair.tx, new Uint8Array(1)), 'write');
  await until(() => received === 8, 'eight packets');
  t.is(calls, 1);
  poller.watch(0);
  check(addon.write(pair.tx, new Uint8Array(1)), 'write');
  await new Promise((resolve) => setImmediate(resolve));
  t.is(calls, 1);
  poller.close();
  poller.close();
  poller.watch(READABLE);
  pair.close();
});

test('a deadline timer fires once, not before its time, at once for the past, and not at all when disarmed', async (t) => {
  const fired: number[] = [];
  const timer = new DeadlineTimer(() => fired.push(monotonicUs()));
  const due = monotonicUs() + 3_000;
  timer.set(due);
  await until(() => fired.length === 1, 'expiry');
  t.true(fired[0]! >= due);
  timer.set(1);
  await until(() => fired.length === 2, 'expiry of the past');
  timer.set(monotonicUs() + 2_000);
  timer.set(Number.POSITIVE_INFINITY);
  await new Promise((resolve) => setTimeout(resolve, 6));
  t.is(fired.length, 2);
  timer.close();
});

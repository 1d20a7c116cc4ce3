/** The relay end to end: our client's dialer, connections from its pool, our server, destinations of the kernel. */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { type KeyFiles, RelayLab, RelayUser } from '../support/relay-lab.js';

const TARGET = '10.9.0.2';

let lab: RelayLab;
let serverKey: KeyFiles;
let user: RelayUser;

test.before(async () => {
  lab = new RelayLab('rll');
  const keys = await Promise.all([lab.newKey('server'), lab.newKey('client')]);
  serverKey = keys[0];
  await Promise.all([lab.startServer(serverKey, keys[1]), lab.startTarget()]);
  user = new RelayUser(lab, { pin: serverKey.pin, keyFile: keys[1].keyFile });
  await user.do();
});

test.after.always(() => lab?.close());

test.serial('a flow: bytes are right, and a long one has a subflow on each link', async (t) => {
  const bytes = 20_000_000;
  const got = await user.do('get', TARGET, 8080, `/${bytes}`);
  const { isMptcp, subflows, end } = got;
  t.deepEqual({ isMptcp, subflows, end }, { isMptcp: true, subflows: 2, end: 'end' });
  t.true((got.bytes as number) > bytes);
});

test.serial('half-close: the destination reads the end, then answers', async (t) => {
  const { text, end } = await user.do('echo', TARGET, 8082, 3_000_000);
  t.deepEqual({ text, end }, { text: '3000000\n', end: 'end' });
});

test.serial('the destination ends first, and goes on reading', async (t) => {
  const { text, end } = await user.do('echo', TARGET, 8084, 500_000);
  t.deepEqual({ text, end }, { text: 'hello', end: 'end' });
});

test.serial('a reset of the destination is a reset here', async (t) => {
  const { end } = await user.do('echo', TARGET, 8081, 1_000);
  t.is(end, 'reset');
});

test.serial('a reset here is a reset at the destination', async (t) => {
  const before = lab.targetSays.length;
  await user.do('reset', TARGET, 8082);
  for (let i = 0; i < 100 && !lab.targetSays.slice(before).includes('error ECONNRESET'); i++) await delay(50);
  t.regex(lab.targetSays.slice(before), /error ECONNRESET/);
});

test.serial('a destination that does not read holds its flow back, and no other', async (t) => {
  const bytes = 150_000_000;
  const { acked, other } = await user.do('fill', TARGET, 8083, bytes);
  // Buffers on the way: the kernel's at both ends, ours, and the receive window.
  t.true((acked as number) > 100_000 && (acked as number) < bytes / 2, `${acked}`);
  t.is(other, 'served');
});

test.serial('a burst far above what the store holds: every flow is served', async (t) => {
  const { done, failed, why } = await user.do('burst', 300, TARGET, 8080);
  t.deepEqual({ done, failed, why }, { done: 300, failed: 0, why: null });
});

test.serial('refused, denied, unreachable and unknown are told apart', async (t) => {
  const failureOf = async (host: string, port: number) => (await user.do('get', host, port, '/')).failed;
  t.is(await failureOf(TARGET, 1), 'refused');
  t.is(await failureOf('127.0.0.1', 22), 'denied');
  t.is(await failureOf('10.1.0.2', 8443), 'denied');
  t.is(await failureOf('198.51.100.1', 80), 'unreachable');
  t.is(await failureOf('10.9.0.77', 80), 'unreachable');
  t.is(await failureOf('no-such-host.invalid', 80), 'unreachable');
});

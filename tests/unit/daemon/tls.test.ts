/** Sessions that are resumed: who the peers are is known as in a full handshake. */

import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { generateKey } from '../../../src/config/keys.js';
import {
  AuthenticationError,
  checkServerPin,
  exportJoinKeys,
  identityFor,
  peerPin,
  startTlsClient,
  startTlsServer,
  type TlsIdentity,
  TlsSessions,
} from '../../../src/daemon/tls.js';
import { LoopbackStream, loopbackPair } from '../../support/loopback.js';

const newIdentity = () => identityFor(createPrivateKey(generateKey()));

/** `pin`: checked at once, as it must be for sessions to be kept. */
async function connect(
  t: ExecutionContext,
  client: TlsIdentity,
  server: TlsIdentity,
  sessions: TlsSessions,
  pin: string | null,
) {
  const [a, b] = loopbackPair();
  const theirs = startTlsServer(new LoopbackStream(b), server);
  const ours = startTlsClient(new LoopbackStream(a), client, sessions);
  t.teardown(() => {
    ours.destroy();
    theirs.destroy();
  });
  for (const socket of [ours, theirs]) socket.on('error', () => undefined);
  ours.once('secure', () => {
    if (pin !== null) checkServerPin(ours, pin, 'needed', sessions);
  });
  await Promise.all([once(ours, 'secure'), once(theirs, 'secure')]);
  return { ours, theirs };
}

/** One byte each way: whatever the handshake sends behind itself has arrived. */
async function exchange({ ours, theirs }: Awaited<ReturnType<typeof connect>>): Promise<void> {
  const both = Promise.all([once(ours, 'data'), once(theirs, 'data')]);
  ours.write('x');
  theirs.write('y');
  await both;
}

test('a resumed session: both ends know each other, and join keys are its own', async (t) => {
  const [client, server] = await Promise.all([newIdentity(), newIdentity()]);
  const sessions = new TlsSessions();
  const first = await connect(t, client, server, sessions, server.pin);
  await exchange(first);
  t.false(first.ours.secured?.isResumed);
  t.true(sessions.size > 0);

  const second = await connect(t, client, server, sessions, server.pin);
  t.true(second.ours.secured?.isResumed);
  t.is(peerPin(second.theirs), client.pin, 'the server knows the key that the client proved in the first');
  const keys = exportJoinKeys(second.ours, 'client');
  t.deepEqual(keys.local, exportJoinKeys(second.theirs, 'server').remote);
  t.notDeepEqual(keys.local, exportJoinKeys(first.ours, 'client').local);
});

test('a server with another key cannot resume, and is found out', async (t) => {
  const [client, server, other] = await Promise.all([newIdentity(), newIdentity(), newIdentity()]);
  const sessions = new TlsSessions();
  const first = await connect(t, client, server, sessions, server.pin);
  await exchange(first);
  const second = await connect(t, client, other, sessions, null);
  t.false(second.ours.secured?.isResumed);
  t.throws(() => checkServerPin(second.ours, server.pin, 'needed', sessions), { instanceOf: AuthenticationError });
});

test('sessions are kept of right servers only, and used once but for the last', (t) => {
  const sessions = new TlsSessions();
  t.is(sessions.take(), undefined);
  for (let i = 0; i < 100; i++) sessions.add(Buffer.from([i]));
  t.is(sessions.size, 64);
  for (let i = 99; i > 36; i--) t.is(sessions.take()![0], i);
  t.is(sessions.take()![0], 36);
  t.is(sessions.take()![0], 36);
  sessions.clear();
  t.is(sessions.take(), undefined);
});

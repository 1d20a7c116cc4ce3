/** A connection to the relay while it waits for its flow. */
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import test from 'ava';
import { generateKey } from '../../../src/config/keys.js';
import { type RelayCarrier, RelayConnection } from '../../../src/daemon/flows/relay-connection.js';
import { identityFor, type SecureStream, startTlsServer, TlsSessions } from '../../../src/daemon/tls.js';
import { type LoopbackConnection, LoopbackStream, loopbackPair } from '../../support/loopback.js';
import { until } from '../../support/until.js';

async function open(): Promise<{ relay: SecureStream; waiting: RelayConnection; near: LoopbackConnection }> {
  const identity = await identityFor(createPrivateKey(generateKey()));
  const [near, far] = loopbackPair();
  const relay = startTlsServer(new LoopbackStream(far), identity).on('error', () => undefined);
  const carrier = {
    nowUs: () => 0,
    connect: async () => ({ way: { linkId: 0 }, api: near }),
    openStream: () => new LoopbackStream(near),
    isChosen: () => true,
  } as unknown as RelayCarrier;
  const never = new AbortController().signal;
  const waiting = await RelayConnection.open(carrier, identity, identity.pin, new TlsSessions(), never);
  return { relay, waiting: waiting!, near };
}

test('a relay that ends a connection in store: it is gone, and no flow is tried on it', async (t) => {
  const { relay, waiting, near } = await open();
  let isGone = false;
  waiting.onGone = () => (isGone = true);
  relay.end();
  await until(() => isGone, 'the end of the connection');
  t.false(waiting.isUsable);
  t.is(near.state, 'closed');
});

test('once a flow has it, the end is the flow’s', async (t) => {
  const { relay, waiting, near } = await open();
  const request = waiting.request({ host: '192.0.2.9', port: 80 } as never, new AbortController().signal, true);
  await once(relay, 'data');
  relay.end('HTTP/1.1 200 OK\r\n\r\nthe answer');
  await request;
  const got: string[] = [];
  waiting.stream.on('data', (bytes: Buffer) => got.push(String(bytes))).resume();
  await once(waiting.stream, 'end');
  t.deepEqual(got, ['the answer']);
  t.deepEqual(near.calls, [], 'not reset');
  waiting.close();
});

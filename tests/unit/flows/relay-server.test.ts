/** The relay's book of its flows: whose a connection is, and what remains of it when it has ended. */
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import test from 'ava';
import { parsePrefix } from '../../../src/config/prefix.js';
import { RelayServer } from '../../../src/daemon/flows/relay-server.js';
import { identityFor, startTlsClient, startTlsServer } from '../../../src/daemon/tls.js';
import { LoopbackStream, loopbackPair } from '../../support/loopback.js';
import { until } from '../../support/until.js';

const identity = await identityFor(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);

/** A relay, and a destination of it that answers nothing. */
async function setup(limits: { maxFlows?: number; maxPendingDials?: number } = {}) {
  const destination = createServer((socket) => socket.on('error', () => undefined).resume());
  destination.listen(0, '127.0.0.1');
  await once(destination, 'listening');
  const { port } = destination.address() as AddressInfo;
  const relay = new RelayServer({
    settings: () => ({
      egress: { allow: [parsePrefix('127.0.0.0/8')!], deny: [] },
      limits: { maxFlows: 10, maxPendingDials: 10, maxFlowBytes: Number.POSITIVE_INFINITY, ...limits },
      lists: new Map(),
    }),
    now: () => 0,
    onDelivered: () => undefined,
  });
  /** A connection of a client, its request on the way; what the client is told. */
  const ask = async (name: string) => {
    const [near, far] = loopbackPair();
    const stream = startTlsServer(new LoopbackStream(far), identity);
    const client = startTlsClient(new LoopbackStream(near), identity);
    client.on('error', () => undefined);
    await Promise.all([once(stream, 'secure'), once(client, 'secure')]);
    const fields = new Map([['host', 'x']]);
    return {
      connection: far,
      client,
      carry(): Promise<string> {
        const head = { startLine: `CONNECT 127.0.0.1:${port} HTTP/1.1`, fields };
        relay.carry({
          client: { name, pin: `pin of ${name}` },
          head,
          connection: far,
          stream,
          rest: Buffer.alloc(0),
        });
        return once(client, 'data').then(([answer]) => String(answer));
      },
    };
  };
  return { relay, ask, close: () => (relay.close(), destination.close()) };
}

test('a connection is found by its id, from its request to its end', async (t) => {
  const { relay, ask, close } = await setup();
  const asked = await Promise.all([ask('ann'), ask('ann'), ask('bob')]);
  for (const { connection } of asked) t.is(relay.ownerOf(connection.id), null);
  for (const answer of await Promise.all(asked.map((a) => a.carry()))) t.regex(answer, /^HTTP\/1\.1 200 /);
  const owners = asked.map(({ connection }) => relay.ownerOf(connection.id));
  t.deepEqual(
    owners.map((owner) => owner?.pin),
    ['pin of ann', 'pin of ann', 'pin of bob'],
  );
  t.true(owners.every((owner, i) => owner!.connection === asked[i]!.connection));
  asked[1]!.client.destroy();
  asked[1]!.connection.abort();
  await until(() => relay.flows().length === 2, 'the end of one flow');
  t.deepEqual(
    asked.map(({ connection }) => relay.ownerOf(connection.id)?.pin ?? null),
    ['pin of ann', null, 'pin of bob'],
  );
  relay.keepOnly(new Set(['pin of bob']));
  await until(() => relay.flows().length === 1, 'the end of what is not configured any more');
  t.is(relay.ownerOf(asked[0]!.connection.id), null);
  t.is(relay.ownerOf(asked[2]!.connection.id)?.pin, 'pin of bob');
  close();
});

test('limits are a client’s own, and what is refused leaves nothing behind', async (t) => {
  const { relay, ask, close } = await setup({ maxFlows: 2, maxPendingDials: 1 });
  const [first, second, third, other] = await Promise.all([ask('ann'), ask('ann'), ask('ann'), ask('bob')]);
  // In one turn: the first dial has not come to its end.
  const answers = await Promise.all([first.carry(), second.carry(), other.carry()]);
  t.deepEqual(
    answers.map((answer) => answer.split(' ')[1]),
    ['200', '503', '200'],
  );
  t.regex(answers[1]!, /Proxy-Status: mptun; error=connection_limit_reached/);
  t.is(relay.ownerOf(second.connection.id), null);
  t.regex(await third.carry(), /^HTTP\/1\.1 200 /);
  const fourth = await ask('ann');
  t.regex(await fourth.carry(), /^HTTP\/1\.1 503 /);
  t.is(relay.ownerOf(fourth.connection.id), null);
  const { refused_too_many_dials, refused_too_many_flows, connected } = relay.counters;
  t.deepEqual([refused_too_many_dials, refused_too_many_flows, connected], [1, 1, 3]);
  close();
});

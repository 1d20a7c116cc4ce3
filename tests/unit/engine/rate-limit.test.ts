/** An operator's limit on a path (config `paths[].limit`): one for all connections that use it. */
import test from 'ava';
import { RateLimit } from '../../../src/core/tcp/rate-limit.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

const LIMIT = 100_000;

/** Two connections with one limit of 100 kB/s between them. */
function two() {
  const rig = connected();
  const { client, ours, theirs, network, accepted } = rig;
  const other = client.engine.connect(network.nowUs, {
    linkId: 0,
    localAddress: LOCAL[0],
    localPort: 40_001,
    remote: { address: SERVER, port: 5000 },
  });
  other.setReader({ onBytes: (_b, _o, n) => n, onEnd: () => {} });
  other.write(network.nowUs, Uint8Array.of(9));
  client.poke();
  network.run(network.nowUs + S);
  const limit = new RateLimit(LIMIT);
  for (const c of [ours, other]) c.limitSubflow(network.nowUs, 0, limit);
  const far = accepted.find((c) => c !== theirs)!;
  return {
    ...rig,
    other,
    limit,
    received: [() => theirs.info().bytesReceived, () => far.info().bytesReceived] as const,
  };
}

test('no more than the limit leaves on a subflow, and nearly as much; lifted, it goes on at once', (t) => {
  const { network, client, ours, theirs } = connected();
  const received = () => theirs.info().bytesReceived;
  ours.limitSubflow(S, 0, new RateLimit(LIMIT));
  ours.write(S, new Uint8Array(2_000_000));
  client.poke();
  const before = received();
  network.run(3 * S);
  const limited = received() - before;
  t.true(limited > 1.9 * LIMIT && limited < 2.1 * LIMIT, `${limited} bytes in 2 s`);
  ours.limitSubflow(3 * S, 0, null);
  client.poke();
  network.run(4 * S);
  t.is(received() - before, 2_000_000);
});

test('two connections that want all share the limit equally, and use all of it', (t) => {
  const { network, client, ours, other, received } = two();
  const before = received.map((r) => r());
  for (const c of [ours, other]) c.write(network.nowUs, new Uint8Array(2_000_000));
  client.poke();
  network.run(network.nowUs + 4 * S);
  const shares = received.map((r, i) => (r() - before[i]!) / (4 * LIMIT));
  t.true(shares[0]! + shares[1]! > 0.95 && shares[0]! + shares[1]! < 1.05, shares.join());
  t.true(Math.abs(shares[0]! - shares[1]!) < 0.1, shares.join());
});

test('a connection that was idle has its share from the first byte, beside one that takes all', (t) => {
  const { network, client, ours, other, received } = two();
  ours.write(network.nowUs, new Uint8Array(2_000_000));
  client.poke();
  network.run(network.nowUs + 2 * S);
  const before = received[1]();
  other.write(network.nowUs, new Uint8Array(20_000));
  client.poke();
  // Half of 100 kB/s, and one unit of the other before it.
  network.run(network.nowUs + 0.5 * S);
  t.is(received[1]() - before, 20_000);
});

test('what one leaves the other has at once', (t) => {
  const { network, client, ours, other, received } = two();
  other.write(network.nowUs, new Uint8Array(2_000));
  ours.write(network.nowUs, new Uint8Array(2_000_000));
  client.poke();
  network.run(network.nowUs + 0.2 * S);
  const before = received[0]();
  network.run(network.nowUs + S);
  t.true(received[0]() - before > 0.95 * LIMIT, `${received[0]() - before}`);
});

test('who does not come for its turn holds nobody up for long', (t) => {
  const limit = new RateLimit(LIMIT);
  const [gone, here] = [{}, {}];
  t.true(limit.awaitCredit(0, gone, 2_800) > 0);
  t.true(limit.awaitCredit(0, here, 2_800) > 0);
  t.is(limit.allowanceBytes(60_000, here, 2_800), 0, 'it is not its turn');
  t.true(limit.allowanceBytes(60_000, gone, 2_800) > 0);
  t.true(limit.awaitCredit(60_000, here, 2_800) > 60_000);
  t.true(limit.allowanceBytes(115_000, here, 2_800) > 0, 'the turn is over');
});

test('a slow limit delivers units whole, and a late wake-up no more than 50 ms worth', (t) => {
  const limit = new RateLimit(LIMIT);
  const user = {};
  t.is(limit.allowanceBytes(5 * S, user, 1_400), 5_000);
  limit.spend(user, 5_000);
  t.is(limit.allowanceBytes(5 * S + 10_000, user, 1_400), 0);
  t.is(limit.awaitCredit(5 * S + 10_000, user, 1_400), 5 * S + 14_000);
  t.is(limit.allowanceBytes(5 * S + 14_000, user, 1_400), 1_400);
  limit.setRate(5 * S + 14_000, 1_000_000);
  t.is(limit.allowanceBytes(6 * S, user, 1_400), 50_000);
});

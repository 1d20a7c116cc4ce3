/** What a changed configuration asks of a running connection. */
import test from 'ava';
import { RateLimit } from '../../../src/core/tcp/rate-limit.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

test('a subflow that was closed in order can be opened again at once, between the same addresses', (t) => {
  const { network, client, ours, theirs } = connected();
  const join = () => {
    const id = ours.join(network.nowUs, { linkId: 1, localAddress: LOCAL[1], remote: { address: SERVER, port: 5000 } });
    client.poke();
    network.run(network.nowUs + S / 2);
    return id;
  };
  const open = () => theirs.info().subflows.filter((s) => s.state === 'established').length;
  for (let round = 0; round < 3; round++) {
    const id = join();
    t.true(id > 0);
    t.is(open(), 2);
    ours.closeSubflow(network.nowUs, id, 'fin');
    client.poke();
    network.run(network.nowUs + S / 2);
    t.is(open(), 1);
  }
});

test('another congestion control in mid-flight: every byte arrives, and it is the one that is asked for', (t) => {
  const { network, client, ours, theirs } = connected();
  const before = theirs.info().bytesReceived;
  ours.limitSubflow(network.nowUs, 0, new RateLimit(4_000_000));
  ours.write(network.nowUs, new Uint8Array(2_000_000));
  client.poke();
  for (const name of ['cubic', 'lia', 'reno', 'bbr', 'olia', 'cubic']) {
    network.run(network.nowUs + S / 20);
    t.true(ours.unackedBytes > 0 || ours.unsentBytes > 0, 'still under way');
    ours.setCongestion(network.nowUs, 0, name);
    t.is(ours.info().subflows[0]!.congestion, name);
  }
  client.poke();
  network.run(network.nowUs + 5 * S);
  t.is(theirs.info().bytesReceived - before, 2_000_000);
});

test('a path that rests as backup is no part of the delivery rate, unless nothing else is left', (t) => {
  const { network, client, ours } = connected();
  ours.join(network.nowUs, { linkId: 1, localAddress: LOCAL[1], remote: { address: SERVER, port: 5000 } });
  client.poke();
  network.run(network.nowUs + S / 10);
  ours.setScheduler('round-robin');
  for (const { id } of ours.info().subflows) ours.limitSubflow(network.nowUs, id, new RateLimit(1_000_000));
  ours.write(network.nowUs, new Uint8Array(20_000_000));
  client.poke();
  network.run(network.nowUs + S);
  const [first, second] = ours.info().subflows.map((s) => s.deliveryRateBytesPerS) as [number, number];
  t.true(first > 0 && second > 0);
  t.is(ours.deliveryRateBytesPerS, first + second);
  ours.setLocalBackup(network.nowUs, 0, true);
  t.is(ours.deliveryRateBytesPerS, second);
  ours.onLinkState(network.nowUs, 1, false);
  t.is(ours.deliveryRateBytesPerS, first);
});

/** An operator's limit on a path (config `paths[].limit`). */
import test from 'ava';
import { connected, S } from '../../support/two-hosts.js';

test('no more than the limit leaves on a subflow; lifted, it goes on at once', (t) => {
  const { network, client, ours, theirs } = connected();
  const received = () => theirs.info().bytesReceived;
  ours.limitSubflow(S, 0, 100_000);
  ours.write(S, new Uint8Array(2_000_000));
  client.poke();
  const before = received();
  network.run(3 * S);
  const limited = received() - before;
  t.true(limited > 150_000 && limited < 230_000, `${limited} bytes in 2 s`);
  ours.limitSubflow(3 * S, 0, Number.POSITIVE_INFINITY);
  client.poke();
  network.run(4 * S);
  t.is(received() - before, 2_000_000);
});

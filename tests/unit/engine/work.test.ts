/** Whoever drives an engine hears of what is to be sent, also where no packet and no timer brought it. */
import test from 'ava';
import { connected, S } from '../../support/two-hosts.js';

test('bytes, a wish, an abort on an idle connection: a flush is asked for, once until it has come', (t) => {
  let asked = 0;
  const { network, client, ours, theirs } = connected({}, [], () => asked++);
  const quiet = () => {
    client.poke();
    network.run(network.nowUs + S);
    asked = 0;
  };
  quiet();
  ours.write(network.nowUs, Uint8Array.of(1));
  ours.write(network.nowUs, Uint8Array.of(2));
  t.is(asked, 1);
  quiet();
  ours.setBackup(network.nowUs, 0, true);
  t.is(asked, 1);
  quiet();
  ours.abort(network.nowUs);
  t.is(asked, 1);
  quiet();
  t.is(theirs.state, 'closed');
});

/** The coupling of a connection's subflows in the whole stack: who is in it, and when (RFC 6356 3). */
import test from 'ava';
import type { Connection } from '../../../src/core/mptcp/connection.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

const JOIN = { linkId: 1, localAddress: LOCAL[1], remote: { address: SERVER, port: 5000 } };

test("a subflow enters its connection's coupling when it begins and leaves it when it is over", (t) => {
  const { network, client, ours, theirs } = connected({ congestion: 'lia' });
  const [c, peer] = [ours as Connection, theirs as Connection];
  const members = (of: Connection) => of.subflows.map((sf) => of.coupling.flows.includes(sf.tcp.cc as never));
  t.deepEqual(members(c), [true]);
  const id = c.join(network.nowUs, JOIN);
  client.poke();
  network.run(2 * S);
  for (const of of [c, peer]) t.deepEqual(members(of), [true, true]);
  t.not(c.coupling, peer.coupling, 'one for each connection');
  t.is(c.join(network.nowUs, JOIN), -1, 'the address pair is in use');
  t.is(c.coupling.flows.length, 2, 'and what was refused is not in');
  c.closeSubflow(network.nowUs, id, 'reset');
  client.poke();
  network.run(3 * S);
  for (const of of [c, peer]) {
    t.is(of.coupling.flows.length, 1);
    t.deepEqual(members(of), [true]);
  }
});

test('uncoupled controllers are in no coupling, and may stand beside coupled ones', (t) => {
  const { network, client, ours } = connected({ congestion: 'bbr' });
  const c = ours as Connection;
  t.is(c.coupling.flows.length, 0);
  c.join(network.nowUs, { ...JOIN, congestion: 'olia' });
  client.poke();
  network.run(2 * S);
  t.is(c.coupling.flows.length, 1);
  t.deepEqual(
    c.subflows.map((sf) => sf.tcp.cc.name),
    ['bbr', 'olia'],
  );
});

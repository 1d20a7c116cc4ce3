/** Join keys agreed outside the handshake (RFC 7430 2): who has only seen the handshake can neither join nor close. */
import test from 'ava';
import type { ConnectionApi, ExportedKeys } from '../../../src/core/engine/api.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

const bytes = (n: number, fill: number) => new Uint8Array(n).fill(fill);
const CLIENT_KEYS: ExportedKeys = {
  local: bytes(32, 1),
  remote: bytes(32, 2),
  fastcloseLocal: bytes(8, 3),
  fastcloseRemote: bytes(8, 4),
};
const SERVER_KEYS: ExportedKeys = {
  local: CLIENT_KEYS.remote,
  remote: CLIENT_KEYS.local,
  fastcloseLocal: CLIENT_KEYS.fastcloseRemote,
  fastcloseRemote: CLIENT_KEYS.fastcloseLocal,
};

function join(ours: ConnectionApi, nowUs: number): void {
  ours.join(nowUs, { linkId: 1, localAddress: LOCAL[1], remote: { address: SERVER, port: 5000 } });
}

test('both ends agreed: a join is authenticated with the exported keys', (t) => {
  const { network, client, ours, theirs } = connected();
  ours.useExportedKeys(S, CLIENT_KEYS);
  theirs.useExportedKeys(S, SERVER_KEYS);
  join(ours, S);
  client.poke();
  network.run(2 * S);
  t.deepEqual(
    theirs.info().subflows.map((s) => s.state),
    ['established', 'established'],
  );
});

test('a join with the keys of the handshake is refused once others are agreed', (t) => {
  const { network, client, server, ours, theirs } = connected();
  theirs.useExportedKeys(S, SERVER_KEYS);
  join(ours, S);
  client.poke();
  network.run(2 * S);
  t.is(theirs.info().subflows.filter((s) => s.state === 'established').length, 1);
  // It is the client that notices first: the responder's HMAC in the SYN/ACK is not what it expects.
  t.is(client.engine.counters().MPTcpExtMPJoinSynAckHMacFailure, 1);
  t.false('MPTcpExtMPJoinAckRx' in server.engine.counters());
});

test('a subflow joined before the agreement was provisional: it is reset, the connection lives', (t) => {
  const { network, client, server, ours, theirs } = connected();
  join(ours, S);
  client.poke();
  network.run(2 * S);
  t.is(theirs.info().subflows.length, 2);
  theirs.useExportedKeys(2 * S, SERVER_KEYS);
  server.poke();
  network.run(3 * S);
  t.is(theirs.info().subflows.length, 1);
  t.is(theirs.state, 'established');
});

test('MP_FASTCLOSE counts only with the exported key', (t) => {
  for (const isAgreed of [true, false]) {
    const { network, client, ours, theirs } = connected();
    theirs.useExportedKeys(S, SERVER_KEYS);
    if (isAgreed) ours.useExportedKeys(S, CLIENT_KEYS);
    ours.abort(S);
    client.poke();
    network.run(2 * S);
    // Without the right key the RST still ends its subflow, and only that.
    t.is(theirs.state, isAgreed ? 'closed' : 'established');
  }
});

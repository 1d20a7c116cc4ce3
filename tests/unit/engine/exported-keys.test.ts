/** Join keys agreed outside the handshake (RFC 7430 2): who has only seen the handshake can neither join nor close. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { ConnectionApi, ExportedKeys } from '../../../src/core/engine/api.js';
import { Engine } from '../../../src/core/engine/engine.js';
import { Network } from '../../../src/sim/network.js';

const SERVER = parseIp('10.9.0.1');
const LOCAL = [parseIp('10.0.1.1'), parseIp('10.0.2.1')] as const;
const S = 1_000_000;

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

/** A client with two links to a server, and one connection that has carried a byte each way. */
function connected() {
  const network = new Network(7);
  const client = network.addHost({ name: 'client' }, (env) => new Engine(env));
  const server = network.addHost({ name: 'server' }, (env) => new Engine(env));
  server.addLink({ id: 0, name: 'eth0', mtuBytes: 1500, addresses: [SERVER], isUp: true });
  for (const [i, address] of LOCAL.entries()) {
    client.addLink({ id: i, name: `link${i}`, mtuBytes: 1500, addresses: [address], isUp: true });
    const delayUs = 5_000;
    network.connect({
      name: `link${i}`,
      left: client,
      leftLinkId: i,
      right: server,
      rightLinkId: 0,
      up: { delayUs },
      down: { delayUs },
      middleboxes: [],
      leftPortBytes: null,
    });
  }
  let accepted: ConnectionApi | null = null;
  server.engine.listen({
    port: 5000,
    onAccept: (c) => {
      accepted = c;
      c.setReader({ onBytes: (_b, _o, n) => n, onEnd: () => {} });
    },
  });
  const ours = client.engine.connect(0, {
    linkId: 0,
    localAddress: LOCAL[0],
    localPort: 40_000,
    remote: { address: SERVER, port: 5000 },
  });
  ours.setReader({ onBytes: (_b, _o, n) => n, onEnd: () => {} });
  ours.write(0, bytes(1, 9));
  client.poke();
  network.run(S);
  return { network, client, server, ours, theirs: accepted! as ConnectionApi };
}

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

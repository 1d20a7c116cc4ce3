/** Every kind of middlebox of RFC 8684 3.7 and 6, one case each, between two of our engines in the simulator. */
import test, { type ExecutionContext } from 'ava';
import { parseIp } from '../../src/core/base/ip.js';
import type { ConnectionApi } from '../../src/core/engine/api.js';
import { Engine } from '../../src/core/engine/engine.js';
import { PLAIN_FIRST_US } from '../../src/core/mptcp/plain-destinations.js';
import { OptionFilter } from '../../src/sim/middleboxes/index.js';
import { Network } from '../../src/sim/network.js';
import { allCases, BYTES, dropped, type MiddleboxCase } from '../support/middlebox-cases.js';
import { type Outcome, streamOf, throughBoxes } from '../support/through-boxes.js';

const S = 1_000_000;

for (const what of allCases)
  test(what.name, (t) => {
    const outcome = throughBoxes(what);
    t.log(JSON.stringify(outcome.client.counters), JSON.stringify(outcome.server.counters));
    for (const [who, from] of [
      ['server', 'client'],
      ['client', 'server'],
    ] as const) {
      const end = outcome[who];
      const sent = streamOf(from, what.bytes ?? BYTES);
      const { altered } = what;
      const expected = altered?.to === who ? altered.how(sent) : sent;
      t.is(end.info.isMptcp, what.isMptcp, `${who}: ${end.info.fallbackReason}`);
      if (what.isBroken === true) {
        t.is(Buffer.compare(end.received, expected.subarray(0, end.received.length)), 0, `${who}: a prefix`);
        t.true(
          end.events.some((e) => e.type === 'subflow-closed'),
          `${who}: the subflow is given up`,
        );
        continue;
      }
      t.is(end.received.length, expected.length, `${who}: length`);
      t.is(Buffer.compare(end.received, expected), 0, `${who}: bytes`);
      t.true(end.hasEnded, `${who}: the end`);
    }
    if (what.isBroken === true) t.true(sum(outcome, 'MPTcpExtMPRstTx') > 0, 'reset with MP_TCPRST');
    checkSignals(t, what, outcome);
  });

/** What was signalled where payload was changed, and that nothing was where it was not. */
function checkSignals(t: ExecutionContext, what: MiddleboxCase, outcome: Outcome): void {
  const { paths = 1, checksum = [false, false], altered } = what;
  const isNoticed = (checksum[0] || checksum[1]) && (altered !== undefined || /replaced|put in/.test(what.name));
  if (!isNoticed) {
    for (const name of ['MPTcpExtDataCsumErr', 'MPTcpExtMPFailTx', 'MPTcpExtMPFailRx'])
      t.is(sum(outcome, name), 0, name);
    return;
  }
  const receiver = altered?.to ?? 'server';
  const sender = receiver === 'server' ? 'client' : 'server';
  t.like(outcome[receiver].counters, { MPTcpExtDataCsumErr: 1, MPTcpExtMPFailTx: 1 });
  t.is(outcome[sender].counters.MPTcpExtMPFailRx, 1);
  if (paths === 2) {
    t.is(outcome[receiver].counters.MPTcpExtMPRstTx, 1);
    t.is(sum(outcome, 'MPTcpExtInfiniteMapTx'), 0);
  } else {
    t.like(outcome[sender].counters, { MPTcpExtMPFailTx: 1, MPTcpExtInfiniteMapTx: 1 });
    t.is(outcome[receiver].counters.MPTcpExtMPFailRx, 1);
  }
}

function sum({ client, server }: Outcome, name: string): number {
  return (client.counters[name] ?? 0) + (server.counters[name] ?? 0);
}

test('SYNs with MPTCP dropped: the third SYN goes without, after three seconds', (t) => {
  const { establishedUs, client } = throughBoxes(dropped[0]!);
  t.true(establishedUs > 3 * S && establishedUs < 3.1 * S, `${establishedUs} us`);
  t.like(client.counters, { MPTcpExtMPCapableSYNTX: 1, MPTcpExtMPCapableSYNTXDrop: 1, MPTcpExtBlackhole: 1 });
});

test('a destination that drops SYNs with MPTCP is remembered: the next connection is TCP at once, until it expires', (t) => {
  const network = new Network(3);
  const client = network.addHost({ name: 'client' }, (env) => new Engine(env));
  const server = network.addHost({ name: 'server' }, (env) => new Engine(env));
  const remote = { address: parseIp('10.9.0.1'), port: 5000 };
  const localAddress = parseIp('10.1.0.2');
  server.addLink({ id: 0, name: 'eth0', mtuBytes: 1500, addresses: [remote.address], isUp: true });
  client.addLink({ id: 0, name: 'wifi', mtuBytes: 1500, addresses: [localAddress], isUp: true });
  const filter = new OptionFilter({ on: ['syn'], action: 'drop' });
  const LINK = { rateBps: 50_000_000, delayUs: 2_000 };
  const ends = { left: client, leftLinkId: 0, right: server, rightLinkId: 0 };
  network.connect({ name: 'wifi', ...ends, up: LINK, down: LINK, middleboxes: [filter] });
  server.engine.listen({ port: 5000, onAccept: () => undefined });
  let port = 40_000;
  /** How long until it stands, and what it is. */
  const connect = (): [number, boolean] => {
    let tookUs = -1;
    const fromUs = network.nowUs;
    let connection: ConnectionApi | null = null;
    client.onEvent = (nowUs, event) => {
      if (event.type === 'connection-established' && event.connectionId === connection!.id) tookUs = nowUs - fromUs;
    };
    connection = client.engine.connect(fromUs, { linkId: 0, localAddress, localPort: port++, remote });
    client.poke();
    network.run(fromUs + 5 * S);
    return [tookUs, connection.isMptcp];
  };
  const [firstUs, isFirstMptcp] = connect();
  t.true(firstUs > 3 * S);
  t.false(isFirstMptcp);
  const [secondUs, isSecondMptcp] = connect();
  t.true(secondUs < 10_000, `${secondUs} us`);
  t.false(isSecondMptcp);
  t.is(filter.hits, 2);
  network.run(network.nowUs + PLAIN_FIRST_US);
  connect();
  t.is(filter.hits, 4, 'MPTCP is tried again');
  client.updateLink(0, { addresses: [localAddress, parseIp('10.1.0.3')] });
  connect();
  t.is(filter.hits, 6, 'another network on that link: nothing is known of it');
});

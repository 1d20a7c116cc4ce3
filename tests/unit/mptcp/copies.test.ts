/** Copies on every path (scheduler `redundant`): places in the stream, and changes of the scheduler on the way. */
import test from 'ava';
import type { Connection } from '../../../src/core/mptcp/connection.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

const MS = 1000;

function twoPaths(scheduler: string) {
  const pair = connected({ scheduler, congestion: 'reno' });
  const { network, client, ours } = pair;
  const c = ours as Connection;
  c.join(network.nowUs, { linkId: 1, localAddress: LOCAL[1], remote: { address: SERVER, port: 5000 } });
  client.poke();
  network.run(2 * S);
  const write = (bytes: number) => {
    ours.write(network.nowUs, new Uint8Array(bytes));
    client.poke();
  };
  return { ...pair, c, write };
}

test('what is written goes out once on each path', (t) => {
  const { network, c, theirs, client, write } = twoPaths('redundant');
  const before = c.subflows.map((sf) => sf.tcp.stats.bytesSent);
  write(10_000);
  network.run(network.nowUs + S);
  t.deepEqual(
    c.subflows.map((sf, i) => sf.tcp.stats.bytesSent - before[i]!),
    [10_000, 10_000],
  );
  t.is(theirs.info().bytesReceived, 10_001);
  t.is(c.info().bytesCopied, 10_000);
  t.is(client.engine.counters().redundant_copied_bytes, 10_000);
  t.is(theirs.info().bytesDuplicate, 10_000);
  t.false(c.copies.arePending);
});

test('a path that is behind goes on from the first byte that is not DATA_ACKed', (t) => {
  const { network, c, theirs, client, write } = twoPaths('redundant');
  network.wires[1]!.up.configure({ rateBps: 500_000, queueBytes: 15_000 });
  write(1_000_000);
  network.run(network.nowUs + 5 * S);
  t.is(theirs.info().bytesReceived, 1_000_001);
  const [quick, slow] = c.subflows;
  t.is(quick!.tcp.stats.bytesSent, 1_000_001);
  const { redundant_skipped_bytes: skipped = 0 } = client.engine.counters();
  t.true(skipped > 300_000, `${skipped}`);
  t.true(slow!.bytesCopied < 350_000, `${slow!.bytesCopied}`);
});

test('when another scheduler takes over, what only a stalled path had goes again', (t) => {
  const { network, c, theirs, client, write } = twoPaths('redundant');
  network.wires[1]!.up.configure({ rateBps: 500_000 });
  write(1_000_000);
  network.run(network.nowUs + 20 * MS);
  network.wires[0]!.setState('blackhole');
  network.run(network.nowUs + 400 * MS);
  t.true(c.subflows[0]!.isStalled);
  t.true(c.copies.arePending || c.subflows[1]!.carriedTo < c.sender.sndNxt, 'the slow path has not carried all');
  c.setScheduler('min-rtt');
  client.poke();
  network.run(network.nowUs + 30 * S);
  t.is(theirs.info().bytesReceived, 1_000_001);
  t.is(client.engine.counters().data_rto ?? 0, 0, 'nothing was left to the data-level timer');
});

test('when redundant takes over, bytes in flight are copied too, and reinjections are given up for it', (t) => {
  const { network, c, theirs, client, write } = twoPaths('round-robin');
  write(300_000);
  network.run(network.nowUs + 8 * MS);
  network.wires[0]!.setState('blackhole');
  c.setScheduler('redundant');
  client.poke();
  network.run(network.nowUs + 10 * S);
  t.is(theirs.info().bytesReceived, 300_001);
  t.is(c.info().bytesReinjected, 0);
});

/** A new connection out of TIME-WAIT (RFC 9293 3.6.1, RFC 6191 2), as a listener sees it. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import { Engine } from '../../../src/core/engine/engine.js';
import { CSUM_VALID, ReceiveBatch, TransmitBatch } from '../../../src/core/engine/ports.js';
import { parseSegment, SegmentView } from '../../../src/core/wire/segment.js';
import { nodeEnv } from '../../support/node-env.js';
import { ACK, addTcp, FIN, SYN } from '../../support/packets.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

interface Sent {
  readonly flags: number;
  readonly seq: number;
  readonly ack: number;
}

test('T13: a SYN above the old numbers opens a new connection out of TIME-WAIT, with an ISN above the old; one below does not', (t) => {
  const engine = new Engine(nodeEnv);
  engine.addLink(0, { id: 1, name: 'wan0', mtuBytes: 1500, isUp: true, addresses: [parseIp('192.0.2.1')] });
  const accepted: ConnectionApi[] = [];
  engine.listen({ port: 8443, mptcp: false, onAccept: (c: ConnectionApi) => void accepted.push(c) });
  const view = new SegmentView();
  const flush = (): Sent[] => {
    const out: Sent[] = [];
    engine.flush(0, {
      send: (_, sent, first) => {
        for (let i = first; i < sent.count; i++) {
          const start = sent.headerOffset[i]!;
          const bytes = sent.headers.slice(start, start + sent.headerLength[i]!);
          t.is(parseSegment(bytes, 0, bytes.length, 0, view), 'ok');
          out.push({ flags: view.flags, seq: view.seq, ack: view.ack });
        }
        return sent.count - first;
      },
      queuedBytes: () => 0,
    });
    return out;
  };
  const receive = (flags: number, seq: number, ack: number): Sent[] => {
    const packet = new TransmitBatch(1);
    addTcp(packet, { from: '192.0.2.99', to: '192.0.2.1', fromPort: 40000, toPort: 8443, seq, ack, flags });
    const batch = new ReceiveBatch(1, 2048);
    const start = packet.headerOffset[0]!;
    batch.slab.set(packet.headers.subarray(start, start + packet.headerLength[0]!));
    batch.length[0] = packet.headerLength[0]!;
    batch.checksum[0] = CSUM_VALID;
    batch.count = 1;
    engine.onPackets(0, 1, batch);
    return flush();
  };

  const iss = receive(SYN, 1_000, 0)[0]!.seq;
  const next = (iss + 1) >>> 0;
  receive(ACK, 1_001, next);
  accepted[0]!.end(0);
  t.is(flush()[0]!.flags, FIN | ACK);
  const last = (next + 1) >>> 0;
  receive(FIN | ACK, 1_001, last);

  const [old] = receive(SYN, 500, 0);
  t.deepEqual(old, { flags: ACK, seq: last, ack: 1_002 }, 'an old duplicate: TIME-WAIT says where it is');
  const [synAck] = receive(SYN, 5_000, 0);
  t.is(synAck!.flags, SYN | ACK);
  t.is(synAck!.ack, 5_001);
  t.true(((synAck!.seq - last) | 0) > 0);
  receive(ACK, 5_001, (synAck!.seq + 1) >>> 0);
  t.is(accepted.length, 2);
});

test('a subflow that was closed in good order can be opened again at once, on the same four-tuple', (t) => {
  const { network, client, ours, theirs } = connected();
  const received = () => theirs.info().bytesReceived;
  let nowUs = S;
  const join = () => ours.join(nowUs, { linkId: 1, localAddress: LOCAL[1], remote: { address: SERVER, port: 5000 } });
  for (let round = 0; round < 3; round++) {
    const id = join();
    t.true(id > 0, `round ${round}`);
    client.poke();
    network.run((nowUs += S));
    t.is(ours.info().subflows.find((s) => s.id === id)?.state, 'established', `round ${round}`);
    const before = received();
    ours.write(nowUs, new Uint8Array(3_000_000));
    client.poke();
    network.run((nowUs += S));
    t.is(received() - before, 3_000_000);
    ours.closeSubflow(nowUs, id, 'fin');
    client.poke();
    network.run((nowUs += S / 10));
  }
});

test('of the connections that wait in TIME-WAIT, the longest waiting go before their time when there are too many', (t) => {
  const { network, client, server, accepted } = connected({ maxTimeWait: 3 });
  let nowUs = S;
  for (let i = 0; i < 10; i++) {
    const c = client.engine.connect(nowUs, {
      linkId: 0,
      localAddress: LOCAL[0],
      localPort: 41_000 + i,
      remote: { address: SERVER, port: 5000 },
    });
    c.setReader({ onBytes: (_b, _o, n) => n, onEnd: () => {} });
    c.write(nowUs, Uint8Array.of(1));
    client.poke();
    network.run((nowUs += S / 10));
    c.end(nowUs);
    accepted.at(-1)!.end(nowUs);
    client.poke();
    server.poke();
    network.run((nowUs += S / 10));
    t.is(c.state, 'closed');
  }
  for (const { engine } of [client, server]) {
    // The connection that is open, and three that wait.
    t.is(engine.connections().length, 4);
    t.is(engine.counters().TcpExtTCPTimeWaitOverflow, 7);
  }
});

test('a port of a connection in TIME-WAIT at both ends serves a new connection to the same place at once', (t) => {
  const { network, client, server, accepted } = connected();
  let nowUs = S;
  for (let round = 0; round < 5; round++) {
    const c = client.engine.connect(nowUs, {
      linkId: 0,
      localAddress: LOCAL[0],
      localPort: 42_000,
      remote: { address: SERVER, port: 5000 },
    });
    c.setReader({ onBytes: (_b, _o, n) => n, onEnd: () => {} });
    c.write(nowUs, new Uint8Array(100_000));
    client.poke();
    network.run((nowUs += S));
    t.is(c.state, 'established', `round ${round}`);
    t.is(accepted.at(-1)!.info().bytesReceived, 100_000);
    c.end(nowUs);
    accepted.at(-1)!.end(nowUs);
    client.poke();
    server.poke();
    network.run((nowUs += S));
  }
});

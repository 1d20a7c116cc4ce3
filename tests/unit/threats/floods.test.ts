/** Floods of MP_JOIN and ADD_ADDR (RFC 6181 5, RFC 7430 2.2, RFC 8684 3.9.2 and 5): bounded state, and nobody gets more than was sent. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { Engine } from '../../../src/core/engine/engine.js';
import type { JoinRequests } from '../../../src/core/mptcp/join-requests.js';
import { MAX_JOIN_REQUESTS } from '../../../src/core/mptcp/join-requests.js';
import { addAddrHmac } from '../../../src/core/mptcp/keys.js';
import { writeAddAddr, writeJoinSyn, writeRemoveAddr } from '../../../src/core/wire/mptcp-options.js';
import { putMss, putSynOptions } from '../../../src/core/wire/tcp.js';
import { MptcpScript } from '../../support/mptcp-script.js';
import { nodeEnv } from '../../support/node-env.js';
import { drain, exchange, inject } from '../../support/raw-host.js';

const SYNS = 100_000;
const S = 1_000_000;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** A peer with a proven connection to a listening engine, and a second address that has not joined yet. */
function connected() {
  const server = new Engine(nodeEnv);
  server.addLink(0, { id: 0, name: 'eth0', mtuBytes: 1500, addresses: [parseIp('192.0.2.1')], isUp: true });
  server.listen({ port: 5000, onAccept: (c) => c.setReader({ onBytes: (_b, _o, n) => n, onEnd: () => {} }) });
  const client = new Engine(nodeEnv);
  const addresses = [parseIp('198.51.100.1'), parseIp('198.51.100.2')];
  client.addLink(0, { id: 0, name: 'wlan0', mtuBytes: 1500, addresses, isUp: true });
  const ours = client.connect(0, {
    linkId: 0,
    localAddress: addresses[0]!,
    localPort: 40_000,
    remote: { address: parseIp('192.0.2.1'), port: 5000 },
  });
  ours.write(0, Uint8Array.of(1));
  exchange(client, server, 0);
  const theirs = server.connections()[0]!;
  const requests = (server as unknown as { strays: { joins: JoinRequests } }).strays.joins;
  return { server, client, ours, theirs, requests, token: theirs.info().localToken };
}

function joinSyn(i: number, token: number, putOptions: (out: Uint8Array, o: number) => number) {
  return {
    from: `203.${(i >>> 16) & 255}.${(i >>> 8) & 255}.${i & 255}`,
    fromPort: 1024 + (i % 60_000),
    to: '192.0.2.1',
    toPort: 5000,
    flags: 'S',
    seq: i,
    options: (out: Uint8Array, o: number) => writeJoinSyn(out, putOptions(out, o), false, i & 255, token, i),
  };
}

const allOptions = (out: Uint8Array, o: number) => putSynOptions(out, o, 1460, true, true, 1, 0, 7);

test('100,000 SYNs with MP_JOIN and a token that is right: 16 small records, no subflow, no event, one packet for each', (t) => {
  const { server, theirs, requests, token } = connected();
  let bytesIn = 0;
  let bytesOut = 0;
  let packetsOut = 0;
  const send = (from: number, to: number) => {
    for (let i = from; i < to; i++) {
      const nowUs = S + i * 10;
      bytesIn += inject(server, nowUs, 0, joinSyn(i, token, allOptions));
      for (const p of drain(server, nowUs)) {
        packetsOut++;
        bytesOut += p.bytes.length;
      }
    }
  };
  send(0, 2_000);
  while (server.pollEvent() !== undefined) {}
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  send(2_000, SYNS);
  collectGarbage();
  t.true(process.memoryUsage().heapUsed - before < 1_000_000);
  t.is(packetsOut, SYNS);
  t.true(bytesOut <= 1.1 * bytesIn, `${bytesOut} for ${bytesIn}`);
  t.is(requests.size, MAX_JOIN_REQUESTS);
  t.is(theirs.info().subflows.length, 1);
  t.is(server.pollEvent(), undefined);
  // Nothing of it has a timer: no answer is repeated by itself.
  server.onTimer(1000 * S);
  t.deepEqual(drain(server, 1000 * S), []);
});

test('an answer to a join is at most 1.1 times as long as its SYN, whatever that offers', (t) => {
  const { server, token } = connected();
  const offers = [
    (_: Uint8Array, o: number) => o,
    (out: Uint8Array, o: number) => putMss(out, o, 1460),
    (out: Uint8Array, o: number) => putSynOptions(out, o, 1460, true, false, 0, 0, -1),
    (out: Uint8Array, o: number) => putSynOptions(out, o, -1, false, true, 1, 0, 3),
    allOptions,
  ];
  for (const [i, offer] of offers.entries()) {
    const bytesIn = inject(server, S, 0, joinSyn(i, token, offer));
    const answers = drain(server, S);
    t.is(answers.length, 1);
    t.true(answers[0]!.bytes.length <= 1.1 * bytesIn, `${answers[0]!.bytes.length} for ${bytesIn}`);
  }
});

test('a join succeeds in the midst of a flood of joins', (t) => {
  const { server, client, ours, theirs, token } = connected();
  for (let i = 0; i < 1000; i++) inject(server, S, 0, joinSyn(i, token, allOptions));
  drain(server, S);
  ours.join(S, { linkId: 0, localAddress: parseIp('198.51.100.2'), remote: ours.remote });
  exchange(client, server, S);
  t.deepEqual(
    theirs.info().subflows.map((s) => s.state),
    ['established', 'established'],
  );
});

test('a SYN of a join that is sent again is answered again, with the same numbers', (t) => {
  const { server, requests, token } = connected();
  const answers = [0, 1].map((i) => {
    inject(server, S + i * S, 0, joinSyn(7, token, allOptions));
    return drain(server, S + i * S)[0]!.seg;
  });
  t.is(answers[0]!.seq, answers[1]!.seq);
  t.is(answers[0]!.mptcp.joinNonce, answers[1]!.mptcp.joinNonce);
  t.is(requests.size, 1);
});

test('SYNs with tokens of nobody: at most 200 RSTs a second', (t) => {
  const { server, token } = connected();
  let resets = 0;
  for (let i = 0; i < 5_000; i++) {
    inject(server, S + i * 100, 0, joinSyn(i, (token + 1 + i) >>> 0, allOptions));
    resets += drain(server, S + i * 100).length;
  }
  // Half a second, and what was left of the one before.
  t.true(resets <= 300, String(resets));
});

test('a flood of ADD_ADDR with right HMACs: few are believed, few are told of, few are echoed', (t) => {
  const script = MptcpScript.joined(1);
  const { c, p0 } = script;
  script.events('');
  let echoes = 0;
  for (let i = 0; i < 20_000; i++) {
    const address = parseIp(`203.0.${(i >>> 8) & 255}.${i & 255}`);
    const addressId = 1 + (i % 250);
    const hmac = addAddrHmac(script.env, c.keys.remote!, c.keys.local, addressId, address, -1);
    // Removed each time, so that the id is free for another address.
    const sent = p0.exchange({
      options: (out, o) =>
        writeAddAddr(out, writeRemoveAddr(out, o, [addressId]), { echo: false, addressId, address, port: -1, hmac }),
    });
    echoes += sent.filter((s) => (s.present & 8) !== 0).length;
    if (i % 100 === 99) echoes += script.advance(5_000).filter((s) => (s.present & 8) !== 0).length;
  }
  const events = script.events('address-announced').length;
  t.true(events <= 34, `${events} events`);
  t.true(echoes <= 34, `${echoes} echoes`);
  t.true(c.addresses.remoteIds().length <= 32);
  t.true(script.counter('MPTcpExtAddAddrDrop') > 19_000);
});

/** Whole transfers between two subflows in virtual time: bytes equal, orderly close, no stall. */
import test from 'ava';
import { controllers } from '../../../src/core/congestion/index.js';
import { Prng } from '../../../src/sim/prng.js';
import { TcpPair } from '../../support/tcp-pair.js';

test('a clean link: bytes arrive, both sides close', (t) => {
  const pair = new TcpPair();
  pair.clientOwner.toSend = 1_000_000;
  pair.serverOwner.toSend = 200_000;
  pair.runUntil(() => pair.serverOwner.received === 1_000_000 && pair.clientOwner.received === 200_000);
  pair.client.sendFin(pair.nowUs);
  pair.runUntil(() => pair.serverOwner.events.includes('fin'));
  pair.server.sendFin(pair.nowUs);
  pair.runUntil(
    () => pair.clientOwner.events.includes('closed:done') && pair.serverOwner.events.includes('closed:done'),
  );
  t.is(pair.clientOwner.mismatches + pair.serverOwner.mismatches, 0);
  t.is(pair.client.state, 'time-wait');
  t.is(pair.server.state, 'closed');
  t.is(pair.client.stats.bytesRetransmitted, 0);
  pair.runFor(61_000_000);
  t.is(pair.client.state, 'closed');
});

for (const name of ['reno', 'cubic'])
  test(`${name}: 1 % loss, 50 ms: throughput within sight of the formula`, (t) => {
    const pair = new TcpPair({ client: { congestion: controllers[name]! } });
    const luck = new Prng(7);
    // 100 Mbit/s bottleneck, so that bursts do not pass for free.
    const freeAt = [0, 0];
    pair.rule = (bytes, nowUs, direction) => {
      freeAt[direction] = Math.max(freeAt[direction]!, nowUs) + bytes.length * 0.08;
      if (direction === 0 && bytes.length > 500 && luck.chance(0.01)) return [];
      return [freeAt[direction]! - nowUs + 25_000];
    };
    const total = 3_000_000;
    pair.clientOwner.toSend = total;
    const start = pair.nowUs;
    pair.runUntil(() => pair.serverOwner.received === total, 120_000_000);
    const seconds = (pair.nowUs - start) / 1e6;
    const mbit = (total * 8) / seconds / 1e6;
    // Mathis: MSS/RTT * 1.22/sqrt(p) = 2.8 Mbit/s for Reno.
    t.log(`${mbit.toFixed(2)} Mbit/s, ${JSON.stringify(pair.client.stats)}`);
    t.true(mbit > 2.0);
    t.is(pair.serverOwner.mismatches, 0);
    t.is(pair.clientOwner.ackedBytes <= total, true);
  });

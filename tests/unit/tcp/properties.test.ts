/**
 * Properties over a link that loses, reorders and duplicates by seed: all bytes arrive, in order and unchanged; nobody
 * stalls (a deadline exists whenever something is outstanding); options never exceed 40 bytes; a plain-TCP receiver
 * takes nothing back that it offered (T15). A failing case prints its seed.
 */
import test from 'ava';
import fc from 'fast-check';
import { NEVER } from '../../../src/core/base/time.js';
import { controllers } from '../../../src/core/congestion/index.js';
import { Prng } from '../../../src/sim/prng.js';
import { TcpPair } from '../../support/tcp-pair.js';

const link = fc.record({
  seed: fc.integer({ min: 0, max: 1 << 30 }),
  loss: fc.constantFrom(0, 0.01, 0.05, 0.2),
  reorder: fc.constantFrom(0, 0.05, 0.3),
  duplicate: fc.constantFrom(0, 0.02, 0.2),
  delayUs: fc.constantFrom(200, 5_000, 60_000),
  jitterUs: fc.constantFrom(0, 1_000, 20_000),
  sack: fc.boolean(),
  timestamps: fc.boolean(),
  isV6: fc.boolean(),
  controller: fc.constantFrom('cubic', 'reno', 'bbr'),
  uploadBytes: fc.integer({ min: 0, max: 120_000 }),
  downloadBytes: fc.integer({ min: 0, max: 120_000 }),
  optionBytes: fc.constantFrom(0, 8, 20),
  slowReader: fc.boolean(),
});

test('any link that delivers now and then: bytes equal, no stall, orderly close', (t) => {
  fc.assert(
    fc.property(link, (p) => {
      const config = {
        useSack: p.sack,
        useTimestamps: p.timestamps,
        congestion: controllers[p.controller]!,
        synRetries: 30,
        r2Us: 1e10,
      };
      const pair = new TcpPair({ client: config, server: config, family: p.isV6 ? 6 : 4 });
      const { clientOwner, serverOwner } = pair;
      const luck = new Prng(p.seed);
      pair.rule = () => {
        if (luck.chance(p.loss)) return [];
        const delay = () =>
          p.delayUs + luck.below(p.jitterUs + 1) + (luck.chance(p.reorder) ? luck.below(2 * p.delayUs) : 0);
        return luck.chance(p.duplicate) ? [delay(), delay()] : [delay()];
      };
      let edge = 0;
      pair.onWire = (seg, direction) => {
        if (seg.optionBytes > 40) throw new Error(`options of ${seg.optionBytes} bytes`);
        if (direction !== 1 || seg.flags.includes('S') || seg.flags.includes('R') || p.optionBytes > 0) return;
        // Rounding to the scale may hide less than one unit (RFC 7323 2.4).
        const right = seg.ack + seg.win * 256;
        if (right <= edge - 256) throw new Error(`right edge went from ${edge} to ${right}`);
        edge = Math.max(edge, right);
      };
      clientOwner.optionBytes = p.optionBytes;
      serverOwner.optionBytes = p.optionBytes;
      clientOwner.toSend = p.uploadBytes;
      serverOwner.toSend = p.downloadBytes;
      if (p.slowReader) {
        serverOwner.readsAtOnce = false;
        serverOwner.receiveLimitBytes = 20_000;
      }
      const isDone = () =>
        pair.client.isEstablished &&
        pair.server.isEstablished &&
        serverOwner.received === p.uploadBytes &&
        clientOwner.received === p.downloadBytes;
      let reads = 0;
      pair.runUntil(() => {
        if (pair.client.inFlightBytes > 0 && pair.client.nextDeadline() === NEVER) throw new Error('no deadline');
        if (p.slowReader && ++reads % 50 === 0 && serverOwner.unreadBytes > 0) {
          serverOwner.unreadBytes = 0;
          pair.server.requestAck(pair.nowUs);
        }
        return isDone();
      }, 3_000_000_000);
      pair.client.sendFin(pair.nowUs);
      pair.server.sendFin(pair.nowUs);
      // Both FINs are taken and one side is through; the other may still be asking a side that is gone.
      const all = () => [...clientOwner.events, ...serverOwner.events];
      const isOver = () => all().filter((e) => e === 'fin').length === 2 && all().includes('closed:done');
      pair.runUntil(isOver, 3_000_000_000);
      t.is(clientOwner.mismatches + serverOwner.mismatches, 0);
    }),
    {
      numRuns: Number(process.env.RUNS ?? 60),
      includeErrorInReport: true,
      ...(process.env.SEED ? { seed: Number(process.env.SEED) } : {}),
    },
  );
});

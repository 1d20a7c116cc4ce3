/** An application's TCP in virtual time, and a far side that does as it is told: bytes, ends and resets between them. */
import { Duplex } from 'node:stream';
import test from 'ava';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import type { FlowOutbound } from '../../../src/daemon/flows/contract.js';
import { Splice } from '../../../src/daemon/flows/splice.js';
import { TunPair } from '../../support/tun-pair.js';

/** A stream whose writes wait until they are let through. */
class FarSide extends Duplex {
  received = 0;
  /** What was written, as it was given. */
  readonly kept: Buffer[] = [];
  hasEnded = false;
  isOpen = true;
  unsentBytes = 0;
  aborts = 0;
  private waiting: (() => void) | null = null;

  constructor() {
    super({ allowHalfOpen: true });
  }

  letThrough(): void {
    this.isOpen = true;
    const done = this.waiting;
    this.waiting = null;
    done?.();
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.received += chunk.length;
    this.kept.push(chunk);
    if (this.isOpen) done();
    else this.waiting = done;
  }

  override _final(done: () => void): void {
    this.hasEnded = true;
    done();
  }
}

function joined(outboundIs: Partial<FlowOutbound> = {}) {
  const pair = new TunPair();
  const far = new FarSide();
  const { application, flow } = pair.open();
  const waiting = new Set<Splice>();
  const outbound: FlowOutbound = {
    stream: far,
    connection: {
      get unsentBytes() {
        return far.unsentBytes;
      },
      deliveryRateBytesPerS: 0,
    } as unknown as ConnectionApi,
    way: 'direct',
    abort: () => void far.aborts++,
    ...outboundIs,
  };
  const splice = new Splice(flow, outbound, {
    nowUs: () => pair.nowUs,
    flushSoon: () => {},
    wait: (s) => void waiting.add(s),
    onDelivered: () => {},
    onSent: () => {},
  });
  const atApp = { count: 0, hasEnded: false, takes: Number.POSITIVE_INFINITY };
  application.setReader({
    onBytes: (_buf, _offset, n) => {
      const taken = Math.min(n, atApp.takes - atApp.count);
      atApp.count += taken;
      return taken;
    },
    onEnd: () => {
      atApp.hasEnded = true;
    },
  });
  const turn = async (us = 10_000) => {
    for (let i = 0; i < 5; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      pair.run(us);
    }
  };
  return { pair, far, application, flow, splice, waiting, atApp, turn };
}

test('both ways, and each end on its own', async (t) => {
  const { pair, far, application, flow, atApp, turn } = joined();
  application.write(pair.nowUs, new Uint8Array(300_000));
  application.end(pair.nowUs);
  await turn();
  t.is(far.received, 300_000);
  t.true(far.hasEnded);
  t.is(flow.closeReason, null);
  far.push(Buffer.alloc(200_000));
  far.push(null);
  await turn();
  t.is(atApp.count, 200_000);
  t.true(atApp.hasEnded);
  t.is(flow.closeReason, 'done');
  t.is(far.aborts, 0);
});

test('what a connection was given stays as it was, since it keeps it until it is acknowledged', async (t) => {
  const { pair, far, application, turn } = joined({ lendsData: true });
  const sent = Buffer.from(Uint8Array.from({ length: 1_000_000 }, (_, i) => (i * 7 + (i >> 12)) & 255));
  for (let at = 0; at < sent.length; at += 50_000) {
    application.write(pair.nowUs, sent.subarray(at, at + 50_000));
    await turn();
  }
  t.true(far.kept.some((chunk) => chunk.length > 8_192));
  t.true(Buffer.concat(far.kept).equals(sent));
});

test('a far side that does not take bytes, and one whose connection is full, stop the application', async (t) => {
  for (const how of ['stream', 'connection'] as const) {
    const { pair, far, application, flow, splice, waiting, turn } = joined();
    if (how === 'stream') far.isOpen = false;
    else far.unsentBytes = 1e9;
    application.write(pair.nowUs, new Uint8Array(20_000_000));
    await turn();
    t.true(flow.isStalled, how);
    // The stream's share and a window.
    t.true(flow.bytesReceived < 1_500_000, `${how}: ${flow.bytesReceived}`);
    t.true(waiting.has(splice), how);
    far.unsentBytes = 0;
    far.letThrough();
    splice.retry();
    for (let i = 0; i < 200 && far.received < 20_000_000; i++) {
      splice.retry();
      await turn(1_000);
    }
    t.is(far.received, 20_000_000, how);
  }
});

test('an application that does not read stops the far side', async (t) => {
  const { pair, far, application, flow, atApp, turn } = joined();
  atApp.takes = 0;
  let pushed = 0;
  for (let i = 0; i < 2_000 && !far.isPaused(); i++) {
    far.push(Buffer.alloc(65_536));
    pushed += 65_536;
    await turn(100);
  }
  t.true(far.isPaused());
  // Its own buffer (8 MB) is full, and a little waits here.
  t.true(flow.unsentBytes < 500_000);
  atApp.takes = Number.POSITIVE_INFINITY;
  application.resume(pair.nowUs);
  for (let i = 0; i < 100 && atApp.count < pushed; i++) await turn(100_000);
  t.is(atApp.count, pushed);
  t.false(far.isPaused());
});

test('a reset of the one is a reset of the other', async (t) => {
  const first = joined();
  first.flow.onOver = (why) => {
    if (why !== 'done') first.splice.abort();
  };
  first.application.abort(first.pair.nowUs);
  await first.turn();
  t.is(first.far.aborts, 1);
  const second = joined();
  second.far.destroy(new Error('connection closed: reset'));
  await second.turn();
  t.is(second.pair.endOf(second.application), 'reset');
  const third = joined();
  third.far.destroy();
  await third.turn();
  t.is(third.pair.endOf(third.application), 'reset', 'closed before its end is as good as reset');
});

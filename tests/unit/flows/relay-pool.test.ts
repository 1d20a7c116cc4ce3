/** The store of connections that are ready for flows, in virtual time. */
import test from 'ava';
import type { DialError } from '../../../src/daemon/flows/contract.js';
import { MAX_AGE_US, MAX_OPENING, MAX_WAITING, RelayPool, type Warm } from '../../../src/daemon/flows/relay-pool.js';

const MS = 1_000;
const S = 1_000 * MS;
const HANDSHAKE_US = 100 * MS;

class Connection implements Warm {
  isUsable = true;
  isClosed = false;
  onGone = () => {};
  constructor(readonly linkId: number) {}
  close(): void {
    this.isClosed = true;
  }
  /** The relay closes it. */
  vanish(): void {
    this.isClosed = true;
    this.onGone();
  }
}

class Rig {
  nowUs = 0;
  linkId: number | null = 1;
  /** What attempts fail of, while set. */
  failure: Error | null = null;
  isPointless = false;
  mostOpening = 0;
  private opening = 0;
  readonly made: Connection[] = [];
  private timers: { atUs: number; fn: () => void }[] = [];
  readonly pool: RelayPool<Connection>;

  constructor(min = 2, max = 32) {
    this.pool = new RelayPool({
      min,
      max,
      open: () => this.open(),
      nowUs: () => this.nowUs,
      after: (ms, fn) => this.after(ms, fn),
      random: () => 0.5,
      onFailed: () => ({ isPointless: this.isPointless }),
    });
  }

  take(signal = new AbortController().signal): Promise<Connection> {
    return this.pool.take(signal);
  }

  /** Time passes, timers run in order, promises settle in between. */
  async pass(us: number): Promise<void> {
    const endUs = this.nowUs + us;
    for (;;) {
      await settled();
      this.timers.sort((a, b) => a.atUs - b.atUs);
      const next = this.timers[0];
      if (next === undefined || next.atUs > endUs) break;
      this.timers.shift();
      this.nowUs = Math.max(this.nowUs, next.atUs);
      next.fn();
    }
    this.nowUs = endUs;
    await settled();
  }

  get open_(): Connection[] {
    return this.made.filter((c) => !c.isClosed);
  }

  private after(ms: number, fn: () => void): () => void {
    const timer = { atUs: this.nowUs + ms * MS, fn };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  private open(): Promise<Connection | null> {
    if (this.linkId === null) return Promise.resolve(null);
    this.mostOpening = Math.max(this.mostOpening, ++this.opening);
    const { linkId } = this;
    return new Promise((resolve, reject) => {
      this.after(HANDSHAKE_US / MS, () => {
        this.opening--;
        if (this.failure !== null) {
          reject(this.failure);
          return;
        }
        const connection = new Connection(linkId);
        this.made.push(connection);
        resolve(connection);
      });
    });
  }
}

async function settled(): Promise<void> {
  for (let i = 0; i < 4; i++) await Promise.resolve();
}

test('it is filled before the first flow, and each flow gets one that is ready', async (t) => {
  const rig = new Rig();
  rig.pool.start();
  await rig.pass(S);
  t.is(rig.pool.stored, 2);
  const first = await rig.take();
  t.true(rig.made.includes(first));
  t.is(rig.pool.counters.ready, 1);
  await rig.pass(S);
  t.is(rig.pool.stored, 2, 'and is replaced');
});

test('nothing is opened before somebody wants it', async (t) => {
  const rig = new Rig();
  await rig.pass(10 * S);
  t.is(rig.made.length, 0);
});

test('the store follows the rate of flows and the time of a handshake, and shrinks afterwards', async (t) => {
  const rig = new Rig();
  rig.pool.start();
  await rig.pass(S);
  for (let i = 0; i < 400; i++) {
    void rig.take();
    await rig.pass(10 * MS);
  }
  // 100/s and 0.1 s, twice over.
  t.true(rig.pool.stored >= 8 && rig.pool.stored <= 24, `${rig.pool.stored}`);
  const { waited } = rig.pool.counters;
  for (let i = 0; i < 400; i++) {
    void rig.take();
    await rig.pass(10 * MS);
  }
  t.is(rig.pool.counters.waited, waited, 'once it has found the rate nobody waits');
  await rig.pass(200 * S);
  t.is(rig.pool.stored, 2);
  await rig.pass(200 * S);
  t.is(rig.pool.stored, 1, 'one while nobody has come for long');
});

test('a burst of a thousand waits in line and is served, so many handshakes at a time', async (t) => {
  const rig = new Rig();
  rig.pool.start();
  await rig.pass(S);
  const taken = Array.from({ length: 1_000 }, () => rig.take());
  let served = 0;
  for (const one of taken) void one.then(() => served++);
  await rig.pass(6 * S);
  t.is(served, 1_000);
  t.is(rig.mostOpening, MAX_OPENING);
  t.is(new Set(await Promise.all(taken)).size, 1_000);
});

test('the line is bounded', async (t) => {
  const rig = new Rig();
  rig.linkId = null;
  const taken = Array.from({ length: MAX_WAITING + 1 }, () => rig.take());
  const error = await t.throwsAsync<DialError>(taken.at(-1)!);
  t.is(error!.failure, 'unavailable');
  t.is(rig.pool.counters.refused, 1);
  rig.pool.close();
  for (const one of taken) await t.throwsAsync(one);
});

test('those that are too old are replaced', async (t) => {
  const rig = new Rig();
  rig.pool.start();
  await rig.pass(S);
  const old = rig.open_;
  await rig.pass(MAX_AGE_US + 2 * S);
  t.true(old.every((c) => c.isClosed));
  t.true(rig.open_.length >= 1);
});

test('those on a link that is gone are replaced by others over another', async (t) => {
  const rig = new Rig();
  rig.pool.start();
  await rig.pass(S);
  rig.linkId = 2;
  rig.pool.invalidate(1);
  await rig.pass(S);
  t.deepEqual([...new Set(rig.open_.map((c) => c.linkId))], [2]);
  t.is((await rig.take()).linkId, 2);
});

test('one that has become useless, or was closed by the relay, is not given to anybody', async (t) => {
  const rig = new Rig();
  rig.pool.start();
  await rig.pass(S);
  rig.open_[0]!.vanish();
  rig.open_[0]!.isUsable = false;
  const taking = rig.take();
  await rig.pass(2 * S);
  t.true((await taking).isUsable);
  t.is(rig.pool.counters.gone, 2);
});

test('what would not be chosen now is replaced before anybody asks', async (t) => {
  const rig = new Rig();
  rig.pool.start();
  await rig.pass(S);
  const before = rig.open_;
  for (const c of before) c.isUsable = false;
  rig.pool.review();
  await rig.pass(S);
  t.true(before.every((c) => c.isClosed));
  t.is(rig.pool.stored, before.length);
  t.true(rig.open_.every((c) => c.isUsable));
});

test('failures are waited out, longer and longer; news of a way ends the pause', async (t) => {
  const rig = new Rig(1, 1);
  rig.failure = new Error('no answer');
  const taking = rig.take();
  await rig.pass(20 * S);
  const { failed } = rig.pool.counters;
  t.true(failed >= 4 && failed < 30, `${failed} attempts`);
  rig.failure = null;
  rig.pool.retryNow();
  await rig.pass(HANDSHAKE_US);
  t.is((await taking).linkId, 1);
});

test('without a way a flow waits for one, and not for ever', async (t) => {
  const rig = new Rig();
  rig.linkId = null;
  const taking = rig.take();
  taking.catch(() => undefined);
  await rig.pass(29 * S);
  t.is(rig.pool.waiters, 1);
  await rig.pass(2 * S);
  const error = await t.throwsAsync<DialError>(taking);
  t.is(error!.failure, 'unavailable');
});

test('a wrong key is told at once to those who wait', async (t) => {
  const rig = new Rig();
  rig.failure = new Error('another key');
  rig.isPointless = true;
  const taking = rig.take();
  taking.catch(() => undefined);
  await rig.pass(S);
  const error = await t.throwsAsync<DialError>(taking);
  t.regex(error!.message, /another key/);
});

test('a flow that is given up leaves the line', async (t) => {
  const rig = new Rig();
  rig.linkId = null;
  const given = new AbortController();
  const taking = rig.take(given.signal);
  taking.catch(() => undefined);
  given.abort();
  await t.throwsAsync(taking);
  t.is(rig.pool.waiters, 0);
});

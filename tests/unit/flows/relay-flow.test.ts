/** One relayed flow at the server, with TLS as it is, and ends and resets of either side. */
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import test from 'ava';
import { type RelayEnd, RelayFlow } from '../../../src/daemon/flows/relay-flow.js';
import { identityFor, type SecureStream, startTlsClient, startTlsServer } from '../../../src/daemon/tls.js';
import { LoopbackStream, loopbackPair } from '../../support/loopback.js';
import { until } from '../../support/until.js';

/** A destination that takes what comes when it is let. */
class Target extends Duplex {
  readonly received: Buffer[] = [];
  isSlow = false;
  isReset = false;
  hasHeardEnd = false;
  private waiting: (() => void) | null = null;

  constructor() {
    super({ allowHalfOpen: true });
  }

  get bytes(): Buffer {
    return Buffer.concat(this.received);
  }

  letThrough(): void {
    const done = this.waiting;
    this.waiting = null;
    done?.();
  }

  setKeepAlive(): void {}

  resetAndDestroy(): void {
    this.isReset = true;
    this.destroy();
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.received.push(Buffer.from(chunk));
    if (this.isSlow) this.waiting = done;
    else done();
  }

  override _final(done: () => void): void {
    this.hasHeardEnd = true;
    done();
  }
}

async function relayed(maxBytes = Number.POSITIVE_INFINITY) {
  const identity = await identityFor(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
  const [near, far] = loopbackPair();
  const stream = startTlsServer(new LoopbackStream(far), identity);
  const client = startTlsClient(new LoopbackStream(near), identity);
  await Promise.all([stream, client].map((s) => once(s, 'secure')));
  const target = new Target();
  const ends: RelayEnd[] = [];
  stream.pause();
  const flow = new RelayFlow({
    connection: far,
    stream,
    target: target as unknown as Socket,
    now: () => 0,
    maxBytes,
    onDelivered: () => undefined,
    onEnd: (_flow, end) => void ends.push(end),
  });
  return { flow, target, client, ends, connections: [near, far] as const };
}

/** What the client gets, to the end. */
function collect(client: SecureStream) {
  const got = { parts: [] as Buffer[], hasEnded: false };
  client.on('data', (part: Buffer) => got.parts.push(part)).on('end', () => (got.hasEnded = true));
  return got;
}

/** Longer than anything takes that is under way without a timer. */
async function rest(): Promise<void> {
  for (let turns = 0; turns < 10; turns++) await new Promise((resolve) => setImmediate(resolve));
}

const noise = (bytes: number) => Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 8)) & 255));

test('the destination ends first and reads slowly: it gets all that the client says afterwards', async (t) => {
  for (const bytes of [1_000, 60_000, 300_000]) {
    const { target, client, ends } = await relayed();
    const got = collect(client);
    target.isSlow = true;
    target.push('bye');
    target.push(null);
    await until(() => got.hasEnded, 'the end of the destination');
    const sent = noise(bytes);
    client.end(sent);
    // Each piece has been taken when everything below has come to rest.
    for (let pieces = 0; pieces < 100 && !target.hasHeardEnd && ends.length === 0; pieces++) {
      await rest();
      target.letThrough();
    }
    t.true(target.bytes.equals(sent), `${target.bytes.length} of ${bytes} bytes`);
    t.true(target.hasHeardEnd);
    t.false(target.isReset);
    await until(() => ends.length > 0, 'the end of the flow');
    t.deepEqual(ends, ['done']);
  }
});

test('the client ends first and reads slowly: it gets all that the destination says afterwards', async (t) => {
  for (const bytes of [1_000, 60_000, 300_000]) {
    const { target, client, ends } = await relayed();
    client.pause();
    client.end('question');
    await until(() => target.hasHeardEnd, 'the end of the client');
    const sent = noise(bytes);
    target.push(sent);
    target.push(null);
    await rest();
    const got = collect(client);
    client.on('data', () => client.pause());
    for (let pieces = 0; pieces < 100 && !got.hasEnded && !client.destroyed; pieces++) {
      client.resume();
      await rest();
    }
    const bytesGot = Buffer.concat(got.parts);
    t.true(bytesGot.equals(sent), `${bytesGot.length} of ${bytes} bytes`);
    t.true(got.hasEnded);
    await until(() => ends.length > 0, 'the end of the flow');
    t.deepEqual(ends, ['done']);
  }
});

test('a FIN that comes later than the close_notify before it costs no byte of what we still have to send', async (t) => {
  const { target, client, ends, connections } = await relayed();
  const [near, far] = connections;
  const got = collect(client);
  const fin = near.end.bind(near);
  near.end = () => undefined;
  client.end('question');
  await until(() => target.hasHeardEnd, 'the end of the client');
  const sent = noise(100_000);
  far.isBlocked = true;
  target.push(sent);
  target.push(null);
  await until(() => ends.length > 0, 'the end of the flow');
  t.deepEqual(ends, ['done']);
  t.deepEqual(far.calls, [], 'not reset');
  far.unblock();
  fin();
  await until(() => got.hasEnded || client.destroyed, 'the end of the destination');
  t.true(Buffer.concat(got.parts).equals(sent));
  await until(() => far.state === 'closed', 'the end of the connection');
});

test('a flow that carries more than it may ends as a reset, both sides', async (t) => {
  const { target, client, ends, flow } = await relayed(100_000);
  collect(client);
  client.on('error', () => undefined);
  client.write(Buffer.alloc(60_000));
  await until(() => flow.bytesUp === 60_000, 'the first part');
  t.deepEqual(ends, []);
  target.push(Buffer.alloc(40_000));
  await until(() => flow.bytesDown === 40_000, 'the second part');
  t.deepEqual(ends, [], 'as much as it may');
  target.push('x');
  await until(() => ends.length > 0, 'the limit');
  t.deepEqual(ends, ['byte-limit']);
  t.true(target.isReset);
  t.is(flow.bytesUp + flow.bytesDown, 100_001);
  await until(() => client.destroyed, 'the reset');
});

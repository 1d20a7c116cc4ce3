/** A connection as a Node stream: who gets the engine's own bytes, and who a copy. */
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import test from 'ava';
import { generateKey } from '../../../src/config/keys.js';
import type { ByteReader } from '../../../src/core/engine/api.js';
import { ConnectionDuplex } from '../../../src/daemon/duplex.js';
import { identityFor, startTlsClient, startTlsServer } from '../../../src/daemon/tls.js';
import { LoopbackConnection, LoopbackStream, loopbackPair } from '../../support/loopback.js';
import { until } from '../../support/until.js';

class OpenConnection extends LoopbackConnection {
  reader_: ByteReader | null = null;
  override setReader(reader: ByteReader): void {
    this.reader_ = reader;
  }
  /** As from the engine: lent, and gone when the call returns. */
  bring(text: string): void {
    const lent = Buffer.from(text);
    this.reader_!.onBytes(lent, 0, lent.length);
    lent.fill('#');
  }
}

function open() {
  const connection = new OpenConnection();
  const stream = new ConnectionDuplex(connection, { nowUs: () => 0, flushSoon: () => undefined });
  return { connection, stream };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('bytes that come in the same turn in which reading began are right', async (t) => {
  const { connection, stream } = open();
  let got = '';
  stream.on('data', (chunk: Buffer) => (got += chunk));
  connection.bring('hello ');
  connection.bring('world');
  await turn();
  connection.bring(', again');
  await turn();
  t.is(got, 'hello world, again');
});

test('bytes that come while nobody listens, or while reading is paused, are right', async (t) => {
  const { connection, stream } = open();
  let got = '';
  const listener = (chunk: Buffer) => void (got += chunk);
  stream.on('data', listener);
  await turn();
  stream.pause();
  connection.bring('one ');
  stream.resume();
  connection.bring('two ');
  await turn();
  stream.off('data', listener);
  stream.pause();
  connection.bring('three');
  stream.on('data', listener);
  stream.resume();
  await turn();
  t.is(got, 'one two three');
});

test('what waits for its reader is read, although the connection is done; after a reset it is gone', async (t) => {
  const first = open();
  let got = '';
  let hasEnded = false;
  first.connection.bring('last words');
  first.connection.reader_!.onEnd();
  first.stream.end();
  first.connection.state = 'closed';
  first.stream.onConnectionClosed('done');
  await turn();
  t.false(first.stream.destroyed);
  first.stream.on('data', (chunk: Buffer) => (got += chunk)).on('end', () => (hasEnded = true));
  await turn();
  await turn();
  t.is(got, 'last words');
  t.true(hasEnded);
  t.true(first.stream.destroyed);
  const second = open();
  second.stream.on('error', () => {});
  second.connection.bring('last words');
  second.connection.state = 'closed';
  second.stream.onConnectionClosed('reset');
  t.true(second.stream.destroyed);
});

test('with TLS: what is written and ended before the handshake is over waits for it', async (t) => {
  const identity = await identityFor(createPrivateKey(generateKey()));
  const [a, b] = loopbackPair();
  const server = startTlsServer(new LoopbackStream(b), identity);
  const client = startTlsClient(new LoopbackStream(a), identity);
  const got: Buffer[] = [];
  server.on('data', (bytes: Buffer) => got.push(bytes));
  client.write('early ');
  client.write(Buffer.alloc(40_000, 1));
  client.end('late');
  await once(server, 'end');
  t.is(Buffer.concat(got).toString(), `early ${'\x01'.repeat(40_000)}late`);
  client.resume();
  server.end();
  await Promise.all([once(client, 'close'), once(server, 'close')]);
  t.deepEqual([a.calls, b.calls], [[], []], 'nothing was reset');
});

test('with TLS: an end that the peer has not said is a break where it would have said it', async (t) => {
  const identity = await identityFor(createPrivateKey(generateKey()));
  for (const mustHearEnd of [true, false]) {
    const [a, b] = loopbackPair();
    const server = startTlsServer(new LoopbackStream(b), identity);
    const client = startTlsClient(new LoopbackStream(a), identity);
    server.mustHearEnd = mustHearEnd;
    const told: string[] = [];
    server
      .on('data', (bytes: Buffer) => told.push(String(bytes)))
      .on('end', () => told.push('end'))
      .on('error', (error) => told.push(error.message));
    client.on('error', () => undefined).write('the first half');
    await once(server, 'data');
    // Somebody between says FIN.
    a.end();
    await until(() => told.length > 1, 'the end');
    t.deepEqual(told, ['the first half', mustHearEnd ? 'ended without close_notify' : 'end']);
  }
});

test('with TLS: a connection that ends during the handshake is broken', async (t) => {
  const identity = await identityFor(createPrivateKey(generateKey()));
  const [a, b] = loopbackPair();
  const client = startTlsClient(new LoopbackStream(a), identity);
  const stranger = new LoopbackStream(b);
  stranger.on('error', () => undefined).end();
  const [error] = (await once(client, 'error')) as [Error];
  t.is(error.message, 'closed during the handshake');
});

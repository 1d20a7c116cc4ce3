/** RFC 8803 with real engines in virtual time: what a converter costs, and what it makes of ends, resets and refusals. */
import test from 'ava';
import { ConvertClient } from '../../src/core/convert/client.js';
import { ComputedCookies } from '../../src/core/convert/cookies.js';
import { NO_BYTES, type TcpOption } from '../../src/core/convert/message.js';
import { parseOptions } from '../../src/core/convert/parse.js';
import type { ConnectionApi } from '../../src/core/engine/api.js';
import { TAKES_EARLY_DATA } from '../../src/core/mptcp/connection.js';
import { CLIENT, Row, SERVER, SERVER_PORT, Sink } from '../support/converter-sim.js';

const MS = 1_000;
const S = 1_000_000;
const NEAR_US = 20 * MS;
const FAR_US = 5 * MS;
/** Client to server and back, by way of the converter. */
const RTT_US = 2 * (NEAR_US + FAR_US);
const TARGET = { address: SERVER, port: SERVER_PORT };
const MPTCP: TcpOption = { kind: 30, value: NO_BYTES };
const text = (s: string) => Uint8Array.from(s, (c) => c.charCodeAt(0));
const join = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));

/** The server's end, as an echo or by `onBytes`. */
function serveWith(row: Row, answer: string, mptcp = false) {
  const accepted: { connection: ConnectionApi; heard: string; ended: boolean; atUs: number }[] = [];
  row.serve({
    mptcp,
    onAccept: (connection) => {
      const seen = { connection, heard: '', ended: false, atUs: row.server.nowUs };
      accepted.push(seen);
      connection.setReader({
        onBytes: (buf, offset, n) => {
          if (seen.heard === '' && answer !== '') connection.write(row.server.nowUs, text(answer));
          seen.heard += String.fromCharCode(...buf.subarray(offset, offset + n));
          return n;
        },
        onEnd: () => {
          seen.ended = true;
        },
      });
    },
  });
  return accepted;
}

/** A client that reads the answer off the front of the stream, and resets where it says so. */
interface Manner {
  readonly mptcp?: boolean;
  readonly inStream?: boolean;
  /** As a Linux client: nothing says that it takes data before its third packet. */
  readonly isPlain?: boolean;
}

function converse(row: Row, client: ConvertClient, early = '', options: Manner = {}) {
  const data = join(client.request, text(early));
  const c = row.connect({
    mptcp: options.mptcp ?? true,
    ...(options.inStream === true ? {} : { synData: data }),
    ...(options.isPlain === true ? {} : { synOptions: TAKES_EARLY_DATA }),
  });
  if (options.inStream === true) c.write(row.client.nowUs, data);
  const seen = { connection: c, answeredAtUs: -1, firstAtUs: -1, heard: '', ended: false };
  c.setReader({
    onBytes: (buf, offset, n) => {
      const taken = client.onBytes(buf, offset, n);
      if (client.outcome !== null && seen.answeredAtUs < 0) {
        seen.answeredAtUs = row.client.nowUs;
        if (client.outcome.is === 'failed') c.abort(row.client.nowUs);
      }
      if (taken < n && seen.firstAtUs < 0) seen.firstAtUs = row.client.nowUs;
      seen.heard += String.fromCharCode(...buf.subarray(offset + taken, offset + n));
      return n;
    },
    onEnd: () => {
      client.onEnd();
      seen.ended = true;
    },
  });
  row.client.poke();
  return seen;
}

for (const mptcp of [true, false])
  test(`0-RTT over ${mptcp ? 'MPTCP' : 'TCP'}: the SYN/ACK and the answer come after one end-to-end RTT`, (t) => {
    const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
    const accepted = serveWith(row, 'welcome');
    const client = new ConvertClient({ remote: TARGET });
    const seen = converse(row, client, 'hello', { mptcp });
    row.network.run(S);
    t.is(client.outcome?.is, 'connected');
    t.is(seen.connection.isMptcp, mptcp);
    t.is(seen.connection.synBytesAcked, client.request.length + 5);
    t.is(seen.answeredAtUs, RTT_US);
    // The data of the SYN was at the server as soon as there was a connection: 3 x FAR after the converter had the SYN.
    t.is(seen.firstAtUs, 2 * NEAR_US + 4 * FAR_US);
    t.is(accepted[0]!.heard, 'hello');
    t.is(seen.heard, 'welcome');
    // Bytes of both directions follow, and then the ends.
    seen.connection.write(row.client.nowUs, text(' and more'));
    accepted[0]!.connection.write(row.server.nowUs, text(' again'));
    seen.connection.end(row.client.nowUs);
    accepted[0]!.connection.end(row.server.nowUs);
    row.client.poke();
    row.server.poke();
    row.network.run(2 * S);
    t.is(accepted[0]!.heard, 'hello and more');
    t.is(seen.heard, 'welcome again');
    t.true(accepted[0]!.ended && seen.ended);
    t.is(row.sessions.size, 0);
  });

test('with the server’s Fast Open cookie the first byte of its answer comes after one end-to-end RTT', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  let heard = '';
  row.serve({
    mptcp: false,
    onSyn: (_nowUs, { buf, offset }) => {
      // Kind 34 with the cookie is in the SYN, behind timestamps and window scale.
      const options = parseOptions(buf, offset - 28, offset);
      const cookie = options === 'tcp-option' ? undefined : options.find(({ kind }) => kind === 34)?.value;
      return Buffer.from(cookie ?? []).toString('hex') === '0102030405060708' ? 'hold' : 'ignore';
    },
    onAccept: (c) => {
      c.setReader({
        onBytes: (buf, offset, n) => {
          heard += String.fromCharCode(...buf.subarray(offset, offset + n));
          c.write(row.server.nowUs, text('welcome'));
          return n;
        },
        onEnd: () => undefined,
      });
      c.answerSyn(row.server.nowUs);
    },
  });
  const cookie: TcpOption = { kind: 34, value: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) };
  const client = new ConvertClient({ remote: TARGET, options: [cookie] });
  const seen = converse(row, client, 'hello');
  row.network.run(S);
  t.is(heard, 'hello');
  t.is(seen.heard, 'welcome');
  t.is(seen.answeredAtUs, RTT_US);
  t.is(seen.firstAtUs, RTT_US);
});

test('an MPTCP client that does not say that it takes data early hears the answer after its third packet', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  serveWith(row, 'welcome');
  const seen = converse(row, new ConvertClient({ remote: TARGET }), 'hello', { isPlain: true });
  row.network.run(S);
  t.is(seen.answeredAtUs, RTT_US + 2 * NEAR_US);
  t.is(seen.heard, 'welcome');
  t.true(seen.connection.isMptcp);
});

test('in the stream, without data in the SYN, it takes one more round trip to the converter', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, policy: { answersPlainSyns: true } });
  serveWith(row, 'welcome');
  const client = new ConvertClient({ remote: TARGET });
  const seen = converse(row, client, 'hello', { inStream: true });
  row.network.run(S);
  t.is(seen.answeredAtUs, RTT_US + 2 * NEAR_US);
  t.is(seen.heard, 'welcome');
});

test('a plain SYN is not answered, one without a proven address is dialled for after the handshake', (t) => {
  const plain = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const c = plain.connect();
  plain.network.run(S);
  t.is(c.state, 'connecting');
  t.is(plain.converter.engine.counters().drop_syn_ignored, 1);

  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, policy: { isTrusted: () => false } });
  const accepted = serveWith(row, 'welcome');
  const client = new ConvertClient({ remote: TARGET });
  const seen = converse(row, client, 'hello');
  row.network.run(2 * NEAR_US + FAR_US);
  t.is(accepted.length, 0);
  row.network.run(S);
  t.is(accepted[0]!.heard, 'hello');
  t.is(seen.heard, 'welcome');
  t.is(seen.connection.synBytesAcked, client.request.length + 5);
});

test('a cookie: asked for in the stream, then good for 0-RTT', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const cookies = new ComputedCookies(row.converter.env);
  const strict = new Row({ nearUs: NEAR_US, farUs: FAR_US, policy: { cookies, isTrusted: () => false } });
  serveWith(strict, 'welcome');
  const first = new ConvertClient({ remote: TARGET });
  converse(strict, first);
  strict.network.run(S);
  const { outcome } = first;
  if (outcome?.is !== 'failed' || outcome.failure.why !== 'missing-cookie') throw new Error(`${outcome?.is}`);
  const second = new ConvertClient({ remote: TARGET, cookie: outcome.failure.cookie });
  const atUs = strict.network.nowUs;
  const seen = converse(strict, second, 'hello');
  strict.network.run(2 * S);
  t.is(seen.answeredAtUs - atUs, RTT_US);
  t.is(seen.heard, 'welcome');
});

test('the server’s options come back: whether it speaks MPTCP, and the converter dials with it', (t) => {
  for (const mptcp of [true, false]) {
    const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
    const accepted = serveWith(row, 'welcome', mptcp);
    const client = new ConvertClient({ remote: TARGET, options: [MPTCP] });
    converse(row, client, 'hello');
    row.network.run(S);
    const { outcome } = client;
    if (outcome?.is !== 'connected' || outcome.serverOptions === null) throw new Error('no options');
    const kinds = (parseOptions(outcome.serverOptions, 0, outcome.serverOptions.length) as TcpOption[]).map(
      (o) => o.kind,
    );
    t.deepEqual(kinds, mptcp ? [2, 4, 8, 3, 30] : [2, 4, 8, 3]);
    t.is(accepted[0]!.connection.isMptcp, mptcp);
  }
});

test('a Base Connect is dialled with the converter’s own options', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const accepted = serveWith(row, 'welcome', true);
  converse(row, new ConvertClient({ remote: TARGET }), 'hello');
  row.network.run(S);
  t.true(accepted[0]!.connection.isMptcp);
  const only = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const plain = serveWith(only, 'welcome', true);
  converse(only, new ConvertClient({ remote: TARGET, options: [{ kind: 4, value: NO_BYTES }] }), 'hello');
  only.network.run(S);
  t.false(plain[0]!.connection.isMptcp);
});

test('a server that refuses: error 96 in the stream and then the end, and no reset before', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const client = new ConvertClient({ remote: TARGET });
  const seen = converse(row, client);
  row.network.run(S);
  t.deepEqual(client.outcome, { is: 'failed', failure: { why: 'connection-reset' } });
  t.is(seen.answeredAtUs, RTT_US);
  t.is(seen.connection.state, 'closed');
  // The client has reset the connection (6.2.8).
  t.is(row.sessions.size, 0);
});

test('a server that is silent: error 65 when the time is over', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, policy: {} });
  const client = new ConvertClient({ remote: { ...TARGET, address: CLIENT[1] } });
  converse(row, client);
  row.network.run(31 * S);
  row.sweep();
  row.network.run(32 * S);
  t.deepEqual(client.outcome, { is: 'failed', failure: { why: 'network-failure', waitS: 1 } });
});

test('a reset of the server becomes MP_FASTCLOSE, one of the client a reset', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const accepted = serveWith(row, 'welcome');
  const seen = converse(row, new ConvertClient({ remote: TARGET }), 'hello');
  row.network.run(S);
  accepted[0]!.connection.abort(row.server.nowUs);
  row.server.poke();
  row.network.run(2 * S);
  t.is(seen.connection.state, 'closed');
  t.true((row.converter.engine.counters().MPTcpExtMPFastcloseTx ?? 0) > 0);
  t.true((row.client.engine.counters().MPTcpExtMPFastcloseRx ?? 0) > 0);
  t.is(row.sessions.size, 0);

  const again = converse(row, new ConvertClient({ remote: TARGET }), 'hello');
  row.network.run(3 * S);
  again.connection.abort(row.client.nowUs);
  row.client.poke();
  row.network.run(4 * S);
  t.is(accepted[1]!.connection.state, 'closed');
  t.false(accepted[1]!.ended);
});

test('DATA_FIN becomes FIN and FIN becomes DATA_FIN, each way on its own', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const accepted = serveWith(row, '');
  const seen = converse(row, new ConvertClient({ remote: TARGET }), 'hello');
  row.network.run(S);
  seen.connection.end(row.client.nowUs);
  row.client.poke();
  row.network.run(2 * S);
  t.true(accepted[0]!.ended);
  t.false(seen.ended);
  accepted[0]!.connection.write(row.server.nowUs, text('late'));
  accepted[0]!.connection.end(row.server.nowUs);
  row.server.poke();
  row.network.run(3 * S);
  t.is(seen.heard, 'late');
  t.true(seen.ended);
});

test('a reset of one subflow does not end the server’s connection', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const accepted = serveWith(row, 'welcome');
  const seen = converse(row, new ConvertClient({ remote: TARGET }), 'hello');
  row.network.run(S);
  const c = seen.connection;
  t.true(c.join(row.client.nowUs, { linkId: 1, localAddress: CLIENT[1], remote: c.remote }) >= 0);
  row.client.poke();
  row.network.run(2 * S);
  t.is(c.info().subflows.length, 2);
  c.closeSubflow(row.client.nowUs, 0, 'reset');
  c.write(row.client.nowUs, text(' still here'));
  row.client.poke();
  row.network.run(3 * S);
  t.is(accepted[0]!.heard, 'hello still here');
  t.is(accepted[0]!.connection.state, 'established');
});

test('a client that says nothing, and one that does not reset after an error, are let go', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, policy: { answersPlainSyns: true } });
  const mute = row.connect();
  const stubborn = row.connect({ synData: Uint8Array.of(2, 1, 0x22, 0x63) });
  const sink = new Sink(row.client, stubborn);
  row.network.run(S);
  t.deepEqual(sink.bytes.slice(0, 8), [1, 2, 0x22, 0x63, 0x1e, 1, 0, 1]);
  t.true(sink.endedAtUs > 0);
  t.is(row.sessions.size, 2);
  row.network.run(11 * S);
  row.sweep();
  row.network.run(12 * S);
  t.is(row.sessions.size, 0);
  t.is(mute.state, 'closed');
});

test('what is sent faster than the server reads waits with the client', (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, config: { receiveBufferBytes: 256 * 1024 } });
  let heard = 0;
  let isStalled = true;
  let server: ConnectionApi | null = null;
  row.serve({
    mptcp: false,
    onAccept: (c) => {
      server = c;
      c.setReader({
        onBytes: (_buf, _offset, n) => {
          if (isStalled) return 0;
          heard += n;
          return n;
        },
        onEnd: () => undefined,
      });
    },
  });
  const seen = converse(row, new ConvertClient({ remote: TARGET }));
  const total = 8 * 1024 * 1024;
  seen.connection.write(row.client.nowUs, new Uint8Array(total));
  row.client.poke();
  row.network.run(5 * S);
  const [session] = row.sessions;
  // Two receive windows and what may be unsent between them.
  t.true(session!.bytesUp < 1.5 * 1024 * 1024, `${session!.bytesUp}`);
  isStalled = false;
  server!.resume(row.server.nowUs);
  row.server.poke();
  row.network.run(30 * S);
  t.is(heard, total);
});

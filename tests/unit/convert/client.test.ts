import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { US_PER_S } from '../../../src/core/base/time.js';
import {
  ConvertClient,
  type ConvertFailure,
  type ConvertRequest,
  commonVersion,
} from '../../../src/core/convert/client.js';
import { ConverterKnowledge, DEFAULT_WAIT_US, MAX_COOKIES, MAX_SERVERS } from '../../../src/core/convert/knowledge.js';
import { NO_BYTES } from '../../../src/core/convert/message.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replace(/ /g, ''), 'hex'));
const REMOTE = { address: parseIp('192.0.2.33'), port: 8443 };
const ME = '10.0.0.2';

/** What becomes of a client that is answered this. */
function answered(text: string, request: ConvertRequest = { remote: REMOTE }) {
  const client = new ConvertClient(request);
  const wire = bytes(text);
  const taken = client.onBytes(wire, 0, wire.length);
  return { client, taken, outcome: client.outcome };
}

function failure(text: string): ConvertFailure {
  const { outcome } = answered(text);
  if (outcome?.is !== 'failed') throw new Error(`not refused: ${outcome?.is}`);
  return outcome.failure;
}

test('the request: Connect, with options, Info and cookie where they are wanted', (t) => {
  t.is(hex(new ConvertClient({ remote: REMOTE }).request), '010622630a0520fb00000000000000000000ffffc0000221');
  const full = new ConvertClient({
    remote: REMOTE,
    options: [{ kind: 30, value: NO_BYTES }],
    info: true,
    cookie: bytes('0102030405060708'),
  });
  t.is(
    hex(full.request),
    `010b2263${'01010000'}0a0620fb00000000000000000000ffffc00002211e020000${'160300000102030405060708'}`,
  );
  t.is(hex(new ConvertClient({ remote: null }).request), '0102226301010000');
});

test('a header alone is the answer to a Base Connect; what follows is the server’s', (t) => {
  const { outcome, taken } = answered('01 01 22 63 48 69 21');
  t.deepEqual(outcome, { is: 'connected', serverOptions: null, supportedKinds: null });
  t.is(taken, 4);
});

test('the server’s options and the supported extensions are handed on', (t) => {
  t.deepEqual(answered('01 06 22 63 15 02 00 00 04 08 1e 00 14 03 00 00 020405b404020000').outcome, {
    is: 'connected',
    serverOptions: bytes('020405b404020000'),
    supportedKinds: [4, 8, 30],
  });
  t.deepEqual(answered('010322631502000004081e00', { remote: null }).outcome, {
    is: 'informed',
    supportedKinds: [4, 8, 30],
  });
});

test('unassigned fields are ignored', (t) => {
  t.deepEqual(answered('01 05 22 63 15 02 de ad 04 00 00 00 14 02 be ef 04 02 00 00').outcome, {
    is: 'connected',
    serverOptions: bytes('04020000'),
    supportedKinds: [4],
  });
});

test('answers that are none: every one has the connection reset', (t) => {
  const faults: [string, string][] = [
    ['48 54 54 50', 'not-convert'],
    ['01 00 22 63', 'zero-length'],
    ['01 02 22 63 14 00 00 00', 'tlv-length'],
    ['01 03 22 63 14 01 00 00 14 01 00 00', 'duplicate-tlv'],
    ['01 02 22 63 00 01 00 00', 'reserved-type'],
    ['01 02 22 63 01 01 00 00', 'unexpected-tlv'],
  ];
  for (const [text, fault] of faults) t.deepEqual(failure(text), { why: 'bad-answer', fault } as ConvertFailure, text);
  const client = new ConvertClient({ remote: REMOTE });
  client.onBytes(bytes('01 02 22'), 0, 3);
  client.onEnd();
  t.deepEqual(client.outcome, { is: 'failed', failure: { why: 'no-answer' } });
});

test('a type that nobody has defined is skipped', (t) => {
  const { outcome, client } = answered('01 03 22 63 28 01 00 00 14 01 00 00');
  t.is(outcome?.is, 'connected');
  t.is(client.skippedTlvs, 1);
});

test('every error says what it is', (t) => {
  const errors: [string, ConvertFailure][] = [
    ['010222631e010001', { why: 'unsupported-version', versions: [1] }],
    ['01 03 22 63 1e 02 00 02 03 00 00 00', { why: 'unsupported-version', versions: [2, 3] }],
    ['02 01 22 63', { why: 'unsupported-version', versions: [2] }],
    ['01 03 22 63 1e 02 01 00 01 00 22 63', { why: 'rejected', code: 1 }],
    ['01 03 22 63 1e 02 02 00 01 00 22 63', { why: 'rejected', code: 2 }],
    ['010422631e0303000102030405060708', { why: 'missing-cookie', cookie: bytes('0102030405060708') }],
    ['01 02 22 63 1e 01 20 00', { why: 'not-authorized' }],
    ['010222631e01211e', { why: 'unsupported-options', kinds: [30] }],
    ['01 02 22 63 1e 01 40 05', { why: 'exhausted', waitS: 5 }],
    ['01 02 22 63 1e 01 41 00', { why: 'network-failure', waitS: 0 }],
    ['010222631e016000', { why: 'connection-reset' }],
    ['010222631e016103', { why: 'unreachable', icmpCode: 3 }],
    ['01 02 22 63 1e 01 7f 00', { why: 'unknown-error', code: 127 }],
  ];
  for (const [text, expected] of errors) t.deepEqual(failure(text), expected, text);
});

test('an error counts whatever stands beside it', (t) => {
  t.deepEqual(failure('01 03 22 63 14 01 00 00 1e 01 60 00'), { why: 'connection-reset' });
});

test('the highest version that both speak', (t) => {
  t.is(commonVersion([1], [1]), 1);
  t.is(commonVersion([1, 2, 4], [1, 2, 3]), 2);
  t.is(commonVersion([1], [2, 3]), -1);
});

test('a cookie is kept for the address that it was given to, and used from then on', (t) => {
  const known = new ConverterKnowledge();
  const cookie = bytes('0102030405060708');
  t.is(known.cookieFor(ME), null);
  t.is(known.onFailure(0, { why: 'missing-cookie', cookie }, ME, null), 'again');
  t.is(known.cookieFor(ME), cookie);
  t.is(known.cookieFor('10.0.0.3'), null);
  // With a cookie in the request there is nothing to learn.
  t.is(known.onFailure(0, { why: 'missing-cookie', cookie }, ME, cookie), 'give-up');
  for (let i = 0; i < MAX_COOKIES; i++) known.onFailure(0, { why: 'missing-cookie', cookie }, `10.1.0.${i}`, null);
  t.is(known.cookieFor(ME), null);
});

test('a cookie that is no longer good is forgotten, once', (t) => {
  const known = new ConverterKnowledge();
  const cookie = bytes('01020304');
  t.is(known.onFailure(0, { why: 'not-authorized' }, ME, null), 'give-up');
  known.onFailure(0, { why: 'missing-cookie', cookie }, ME, null);
  t.is(known.onFailure(0, { why: 'not-authorized' }, ME, cookie), 'again');
  t.is(known.cookieFor(ME), null);
  t.is(known.onFailure(0, { why: 'not-authorized' }, ME, null), 'give-up');
  // A configured one stays.
  const configured = new ConverterKnowledge(cookie);
  t.is(configured.onFailure(0, { why: 'not-authorized' }, ME, cookie), 'give-up');
  t.is(configured.cookieFor(ME), cookie);
});

test('after errors 64 and 65 the client waits as long as it was told, or 30 s', (t) => {
  const known = new ConverterKnowledge();
  t.is(known.onFailure(0, { why: 'exhausted', waitS: 5 }, ME, null), 'give-up');
  t.true(known.isBlocked(5 * US_PER_S - 1));
  t.false(known.isBlocked(5 * US_PER_S));
  known.onFailure(10 * US_PER_S, { why: 'network-failure', waitS: 0 }, ME, null);
  t.is(DEFAULT_WAIT_US, 30 * US_PER_S);
  t.true(known.isBlocked(40 * US_PER_S - 1));
  t.false(known.isBlocked(40 * US_PER_S));
});

test('version negotiation: a version of ours that it names is used next, else the converter is left alone', (t) => {
  const known = new ConverterKnowledge();
  known.version = 2;
  t.is(known.onFailure(0, { why: 'unsupported-version', versions: [1] }, ME, null), 'again');
  t.is(known.version, 1);
  t.is(known.onFailure(0, { why: 'unsupported-version', versions: [7] }, ME, null), 'give-up');
  t.true(known.isBlocked(1));
});

test('options that it does not take are not asked for again', (t) => {
  const known = new ConverterKnowledge();
  t.true(known.mayAskFor(30));
  t.is(known.onFailure(0, { why: 'unsupported-options', kinds: [30] }, ME, null), 'again');
  t.false(known.mayAskFor(30));
  t.is(known.onFailure(0, { why: 'unsupported-options', kinds: [30] }, ME, null), 'give-up');
  known.supportedKinds = [4];
  t.true(known.mayAskFor(4));
  t.false(known.mayAskFor(8));
});

test('a SYN/ACK that does not acknowledge the message: the converter is not used on this network', (t) => {
  const known = new ConverterKnowledge();
  known.onSynDataLost(0);
  t.true(known.isBlocked(60 * US_PER_S));
  known.onNetworkChange();
  t.false(known.isBlocked(60 * US_PER_S));
});

test('servers that speak MPTCP are remembered, for a time and so many', (t) => {
  const known = new ConverterKnowledge();
  known.onServerOptions(0, 'a:80', bytes('020405b4 1e0c81000000000000000001'));
  t.true(known.speaksMptcp(US_PER_S, 'a:80'));
  t.false(known.speaksMptcp(25 * 3600 * US_PER_S, 'a:80'));
  known.onServerOptions(0, 'b:80', bytes('020405b40402'));
  t.false(known.speaksMptcp(1, 'b:80'));
  // It does no longer, or not directly.
  known.onServerOptions(1, 'a:80', bytes('020405b4'));
  t.false(known.speaksMptcp(2, 'a:80'));
  for (let i = 0; i <= MAX_SERVERS; i++) known.onServerOptions(0, `s${i}`, bytes('1e0c81000000000000000001'));
  t.is(known.serverCount, MAX_SERVERS);
  t.false(known.speaksMptcp(1, 's0'));
  known.forgetServer('s9');
  t.false(known.speaksMptcp(1, 's9'));
});

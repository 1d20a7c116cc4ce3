import test from 'ava';
import { type IpAddress, parseIp } from '../../../src/core/base/ip.js';
import { US_PER_S } from '../../../src/core/base/time.js';
import {
  ConverterExchange,
  type ConverterPolicy,
  type ConverterStep,
  type DownstreamFailure,
  ErrorLimit,
  judgeSyn,
} from '../../../src/core/convert/converter.js';
import { ComputedCookies, ConfiguredCookies } from '../../../src/core/convert/cookies.js';
import { encodeMessage, type TcpOption, TLV_CONNECT, TLV_COOKIE, TLV_INFO } from '../../../src/core/convert/message.js';
import { nodeEnv } from '../../support/node-env.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replace(/ /g, ''), 'hex'));
const CLIENT = parseIp('10.0.0.2');
const SERVER = parseIp('192.0.2.33');
const CONNECT = '010622630a0520fb00000000000000000000ffffc0000221';
const connectWith = (options: readonly TcpOption[] | null, cookie?: Uint8Array) =>
  encodeMessage([
    { type: TLV_CONNECT, address: SERVER, port: 8443, options },
    ...(cookie === undefined ? [] : [{ type: TLV_COOKIE, cookie } as const]),
  ]);
const opt = (kind: number, value = ''): TcpOption => ({ kind, value: bytes(value) });

const POLICY: ConverterPolicy = {
  supportedKinds: [4, 8, 30, 34],
  cookies: null,
  silentWithoutCookie: false,
  answersPlainSyns: false,
  isTrusted: () => false,
  mayUse: () => true,
  mayReach: () => true,
  hasRoom: () => true,
  retryAfterS: 7,
};

function ask(message: Uint8Array | string, policy: Partial<ConverterPolicy> = {}, nowUs = 0, client = CLIENT) {
  const exchange = new ConverterExchange({ ...POLICY, ...policy }, new ErrorLimit(), client);
  const wire = typeof message === 'string' ? bytes(message) : message;
  const taken = exchange.onBytes(nowUs, wire, 0, wire.length);
  return { exchange, taken, step: exchange.step };
}

/** The answer as hex, with its reason. */
function refusal(step: ConverterStep | null): [string, string] {
  if (step?.do !== 'answer') throw new Error(`not answered: ${step?.do}`);
  return [hex(step.bytes), step.reason];
}

test('Base Connect: it dials as it likes, and what follows the message is not touched', (t) => {
  const { step, taken } = ask(`${CONNECT}474554`);
  t.deepEqual(step, { do: 'dial', address: SERVER, port: 8443, options: null });
  t.is(taken, 24);
});

test('user data behind the message waits for the server, in order', (t) => {
  const stream = bytes(`${CONNECT}${'aabbcc'}`);
  const exchange = new ConverterExchange(POLICY, new ErrorLimit(), CLIENT);
  let left = '';
  for (let i = 0; i < stream.length; i++)
    if (exchange.onBytes(0, stream, i, 1) === 0) left += hex(stream.subarray(i, i + 1));
  t.is(exchange.step?.do, 'dial');
  t.is(left, 'aabbcc');
});

test('bytes that are not Convert, and Total Length 0, have the connection reset', (t) => {
  t.deepEqual(ask('474554202f20').step, { do: 'reset', reason: 'not-convert' });
  t.deepEqual(ask('01 00 22 63').step, { do: 'reset', reason: 'zero-length' });
});

test('another version gets error 0 with the versions that we speak', (t) => {
  t.deepEqual(refusal(ask('02 06 22 63').step), ['010222631e010001', 'unsupported-version']);
  t.deepEqual(refusal(ask('00 06 22 63').step), ['010222631e010001', 'unsupported-version']);
});

test('what cannot be parsed gets error 1 with an echo of the message', (t) => {
  const duplicate = '0103226301010000' + '01010000';
  t.deepEqual(refusal(ask(duplicate).step), [`010522631e040100${duplicate}`, 'duplicate-tlv']);
  t.deepEqual(refusal(ask('01022263 16000000').step), ['010422631e0301000102226316000000', 'tlv-length']);
  t.deepEqual(refusal(ask('01012263').step), ['010322631e02010001012263', 'no-tlv']);
  const cut = '010722630a0600500000000000000000' + '0000ffffc0000201' + '1e090000';
  t.deepEqual(refusal(ask(cut).step), [`010922631e080100${cut}`, 'tcp-option']);
});

test('type 0, undefined types and what only converters send get error 2 with an echo', (t) => {
  for (const [message, reason] of [
    ['0102226300010000', 'reserved-type'],
    ['0102226328010000', 'unknown-type'],
    ['010222631e016000', 'not-for-converters'],
    ['0102226314010000', 'not-for-converters'],
  ]) {
    t.deepEqual(refusal(ask(message!).step), [`010422631e030200${message}`, reason] as [string, string]);
  }
});

test('multicast, broadcast and loopback addresses get error 1', (t) => {
  for (const address of ['e0000001', 'ffffffff', '7f000001', '00000000']) {
    const message = `010622630a05005000000000000000000000ffff${address}`;
    t.deepEqual(refusal(ask(message).step), [`010822631e070100${message}`, 'address-invalid']);
  }
  const message = '010622630a0500000000000000000000' + '0000ffffc0000201';
  t.is(refusal(ask(message).step)[1], 'address-invalid');
});

test('Extended Connect: the options of the client are for the SYN, with their values', (t) => {
  const { step } = ask(connectWith([opt(30), opt(34, '0102030405060708')]));
  t.deepEqual(step, {
    do: 'dial',
    address: SERVER,
    port: 8443,
    options: [opt(30), opt(34, '0102030405060708')],
  });
});

test('kinds that are each stack’s own affair are ignored', (t) => {
  const { step } = ask(connectWith([opt(2, '05b4'), opt(3, '07'), opt(5), opt(4)]));
  t.is(step?.do === 'dial' && hex(Uint8Array.from(step.options!.map(({ kind }) => kind))), '04');
  const nops = '010722630a0600500000000000000000' + '0000ffffc0000201' + '0101001e'.slice(0, 6) + '00';
  t.deepEqual(ask(nops).step, { do: 'dial', address: parseIp('192.0.2.1'), port: 80, options: [] });
});

test('options that cannot be used get error 33 with all of them', (t) => {
  t.deepEqual(refusal(ask(connectWith([opt(30), opt(253, 'ab'), opt(29), opt(19)])).step), [
    '010322631e0221fd1d130000',
    'unsupported-option',
  ]);
  t.deepEqual(refusal(ask(connectWith([opt(30)]), { supportedKinds: [4, 8] }).step), [
    '010222631e01211e',
    'unsupported-option',
  ]);
  // A timestamp or a key of somebody else's cannot be sent for him.
  t.is(refusal(ask(connectWith([opt(8, '0000000100000000')])).step)[0], '010222631e012108');
  // TCP-AO never, whatever the configuration says.
  t.is(refusal(ask(connectWith([opt(29)]), { supportedKinds: [29] }).step)[0], '010222631e01211d');
});

test('Info is answered with what is supported, never with the kinds that are each stack’s own', (t) => {
  const info = encodeMessage([{ type: TLV_INFO }]);
  t.deepEqual(refusal(ask(info, { supportedKinds: [4, 8, 30] }).step), ['010322631502000004081e00', 'info']);
  t.deepEqual(refusal(ask(info, { supportedKinds: [0, 1, 2, 3, 4, 5, 29, 30] }).step), [
    '0103226315020000041e0000',
    'info',
  ]);
});

test('the answer: a header, or the server’s options, and what Info asked for', (t) => {
  t.is(hex(ask(CONNECT).exchange.connected(null)), '01012263');
  t.is(hex(ask(connectWith([opt(30)])).exchange.connected(bytes('020405b40402'))), '0104226314030000020405b404020000');
  const both = encodeMessage([{ type: TLV_INFO }, { type: TLV_CONNECT, address: SERVER, port: 1, options: null }]);
  t.is(hex(ask(both).exchange.connected(null)), '010322631502000004081e22');
});

test('a server that refuses, cannot be reached or is silent: errors 96, 97, 65, never a reset', (t) => {
  const answer = (failure: DownstreamFailure) => refusal(ask(CONNECT).exchange.failed(0, failure));
  t.deepEqual(answer({ is: 'reset' }), ['010222631e016000', 'server-reset']);
  t.deepEqual(answer({ is: 'unreachable', icmpCode: 1 }), ['010222631e016101', 'server-unreachable']);
  t.deepEqual(answer({ is: 'network' }), ['010222631e014107', 'network-failure']);
  t.deepEqual(answer({ is: 'timeout' }), ['010222631e014101', 'server-silent']);
  t.deepEqual(answer({ is: 'exhausted' }), ['010222631e014007', 'no-room']);
});

test('no room: error 64 with the delay in seconds', (t) => {
  t.deepEqual(refusal(ask(CONNECT, { hasRoom: () => false }).step), ['010222631e014007', 'no-room']);
  t.deepEqual(refusal(ask(CONNECT, { hasRoom: () => false, retryAfterS: 0 }).step), ['010222631e014000', 'no-room']);
});

test('clients and destinations that are not allowed get error 32', (t) => {
  t.deepEqual(refusal(ask(CONNECT, { mayUse: () => false }).step), ['010222631e012000', 'client-not-allowed']);
  const mayReach = (_client: IpAddress, address: IpAddress, port: number) =>
    port === 80 && address.text !== SERVER.text;
  t.deepEqual(refusal(ask(CONNECT, { mayReach }).step), ['010222631e012000', 'destination-denied']);
});

test('cookies: absent, wrong, good', (t) => {
  const cookies = new ComputedCookies(nodeEnv);
  const cookie = cookies.cookieFor(0, CLIENT);
  const [wire, reason] = refusal(ask(CONNECT, { cookies }).step);
  t.is(wire, `010622631e050300${hex(cookie)}`);
  t.is(reason, 'cookie-missing');
  t.is(ask(connectWith(null, cookie), { cookies }).step?.do, 'dial');
  const wrong = cookie.slice();
  wrong[3]! ^= 1;
  t.deepEqual(refusal(ask(connectWith(null, wrong), { cookies }).step), ['010222631e012000', 'cookie-invalid']);
  t.is(refusal(ask(connectWith(null, cookie), { cookies }, 0, parseIp('10.0.0.3')).step)[1], 'cookie-invalid');
  t.is(refusal(ask(connectWith(null, cookie.slice(0, 12)), { cookies }).step)[1], 'cookie-invalid');
  t.deepEqual(ask(CONNECT, { cookies, silentWithoutCookie: true }).step, { do: 'close', reason: 'cookie-missing' });
});

test('a computed cookie is good for its day and the next', (t) => {
  const cookies = new ComputedCookies(nodeEnv);
  const day = 24 * 3600 * US_PER_S;
  const cookie = cookies.cookieFor(0, CLIENT);
  t.true(cookies.isValid(2 * day - 1, CLIENT, cookie));
  t.false(cookies.isValid(2 * day, CLIENT, cookie));
  t.notDeepEqual(cookie, new ComputedCookies(nodeEnv).cookieFor(0, CLIENT));
});

test('configured cookies are never given out', (t) => {
  const cookies = new ConfiguredCookies([bytes('61626364656667')]);
  t.deepEqual(refusal(ask(CONNECT, { cookies }).step), ['010222631e012000', 'cookie-missing']);
  t.is(ask(connectWith(null, bytes('61626364656667')), { cookies }).step?.do, 'dial');
  t.is(refusal(ask(connectWith(null, bytes('61626364656668')), { cookies }).step)[1], 'cookie-invalid');
});

test('errors to one client are limited, beyond that connections end without a word', (t) => {
  const errors = new ErrorLimit();
  const answers = (nowUs: number, client: IpAddress, times: number) =>
    Array.from({ length: times }, () => {
      const exchange = new ConverterExchange(POLICY, errors, client);
      exchange.onBytes(nowUs, bytes('02012263'), 0, 4);
      return exchange.step;
    });
  const flood = answers(0, CLIENT, 100);
  t.is(flood.filter((step) => step?.do === 'answer').length, 20);
  t.deepEqual(flood.at(-1), { do: 'close', reason: 'errors-limited' });
  t.is(answers(0, parseIp('10.0.0.3'), 1)[0]?.do, 'answer');
  t.is(answers(2 * US_PER_S, CLIENT, 20).filter((step) => step?.do === 'answer').length, 10);
});

test('a client that ends before its message is whole is let go', (t) => {
  const { exchange } = ask('01 06 22 63 0a');
  exchange.onEnd();
  t.deepEqual(exchange.step, { do: 'close', reason: 'no-message' });
});

test('SYNs: ignored without a message, dialled on only where the address is proven', (t) => {
  const verdict = (message: Uint8Array | string, policy: Partial<ConverterPolicy> = {}) => {
    const wire = typeof message === 'string' ? bytes(message) : message;
    return judgeSyn(0, { ...POLICY, ...policy }, CLIENT, wire, 0, wire.length);
  };
  const cookies = new ComputedCookies(nodeEnv);
  const good = connectWith(null, cookies.cookieFor(0, CLIENT));
  const isTrusted = () => true;
  t.is(verdict(''), 'ignore');
  t.is(verdict('474554202f'), 'ignore');
  t.is(verdict('', { answersPlainSyns: true }), 'answer');
  // No cookie is asked for, and the address may be forged.
  t.is(verdict(CONNECT), 'take');
  t.is(verdict(CONNECT, { isTrusted }), 'hold');
  t.is(verdict(`${CONNECT}aabbcc`, { isTrusted }), 'hold');
  t.is(verdict(CONNECT, { isTrusted, mayUse: () => false }), 'take');
  t.is(verdict(CONNECT, { cookies }), 'take');
  t.is(verdict(CONNECT, { cookies, isTrusted }), 'take');
  t.is(verdict(CONNECT, { cookies, silentWithoutCookie: true }), 'ignore');
  t.is(verdict(good, { cookies }), 'hold');
  t.is(verdict(connectWith(null, bytes('01020304')), { cookies }), 'take');
  // Errors go in the stream; a message that is not whole is waited for there.
  t.is(verdict('0102226300010000', { isTrusted }), 'take');
  t.is(verdict('02062263', { isTrusted }), 'take');
  t.is(verdict(CONNECT.slice(0, 40), { isTrusted }), 'take');
  t.is(verdict(encodeMessage([{ type: TLV_INFO }]), { isTrusted }), 'take');
});

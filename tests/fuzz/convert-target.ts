/**
 * Bytes from a client to a converter and from a converter to a client (RFC 8803): whole and byte by byte they must come to the
 * same, what was read writes back to the same bytes where it is canonical, and what goes back is itself a good message.
 */
import { parseIp } from '../../src/core/base/ip.js';
import { ConvertClient } from '../../src/core/convert/client.js';
import { ConverterExchange, type ConverterPolicy, ErrorLimit, judgeSyn } from '../../src/core/convert/converter.js';
import { ConverterKnowledge } from '../../src/core/convert/knowledge.js';
import {
  encodeMessage,
  MAX_MESSAGE_BYTES,
  NO_BYTES,
  TLV_CONNECT,
  TLV_COOKIE,
  TLV_ERROR,
  TLV_EXTENDED_HEADER,
  TLV_INFO,
  TLV_SUPPORTED,
} from '../../src/core/convert/message.js';
import { parseMessage } from '../../src/core/convert/parse.js';
import type { Target } from './fuzzer.js';

const CLIENT = parseIp('10.0.0.2');
const REMOTE = { address: parseIp('192.0.2.33'), port: 8443 };

const POLICY: ConverterPolicy = {
  supportedKinds: [4, 8, 30, 34],
  cookies: { cookieFor: () => Uint8Array.of(1, 2, 3, 4), isValid: (_nowUs, _client, cookie) => cookie[0] === 1 },
  silentWithoutCookie: false,
  answersPlainSyns: true,
  isTrusted: () => true,
  mayUse: () => true,
  mayReach: (_client, address) => address.family === 4,
  hasRoom: () => true,
  retryAfterS: 1,
};

function check(isRight: boolean, what: string): void {
  if (!isRight) throw new Error(what);
}

export const convertTarget: Target = {
  seeds: () => [
    encodeMessage([
      { type: TLV_CONNECT, ...REMOTE, options: [{ kind: 30, value: NO_BYTES }] },
      { type: TLV_COOKIE, cookie: Uint8Array.of(1, 0, 0, 0) },
    ]),
    encodeMessage([{ type: TLV_INFO }, { type: TLV_CONNECT, ...REMOTE, options: null }]),
    encodeMessage([
      { type: TLV_SUPPORTED, kinds: [4, 8, 30] },
      { type: TLV_EXTENDED_HEADER, options: Uint8Array.of(4, 2) },
    ]),
    ...[0, 1, 2, 3, 32, 33, 64, 65, 96, 97].map((code) =>
      encodeMessage([{ type: TLV_ERROR, code, value: Uint8Array.of(1, 2, 3, 4, 5) }]),
    ),
    Uint8Array.of(2, 1, 0x22, 0x63),
  ],

  run(bytes) {
    const converter = asConverter(bytes, bytes.length);
    check(converter === asConverter(bytes, 1), 'converter: byte by byte it is something else');
    const client = asClient(bytes, bytes.length);
    check(client === asClient(bytes, 1), 'client: byte by byte it is something else');
    return `${converter.replace(/ .*/, '')} ${client}`;
  },
};

function asConverter(bytes: Uint8Array, step: number): string {
  const exchange = new ConverterExchange(POLICY, new ErrorLimit(), CLIENT);
  let taken = 0;
  for (let at = 0; at < bytes.length && exchange.step === null; at += step) {
    taken += exchange.onBytes(0, bytes, at, Math.min(step, bytes.length - at));
  }
  check(taken <= MAX_MESSAGE_BYTES, 'more taken than a message can have');
  const verdict = judgeSyn(0, POLICY, CLIENT, bytes, 0, bytes.length);
  exchange.onEnd();
  const done = exchange.step!;
  check(verdict !== 'hold' || done.do === 'dial' || done.do === 'answer', 'dialled on a SYN that holds no message');
  if (done.do === 'answer') check(parseMessage(done.bytes).fault === null, 'an answer that cannot be read');
  return done.do === 'dial' ? `dial-${done.options?.length} ${done.address.text}` : `${done.do}-${done.reason}`;
}

function asClient(bytes: Uint8Array, step: number): string {
  const client = new ConvertClient({ remote: REMOTE });
  for (let at = 0; at < bytes.length && client.outcome === null; at += step) {
    client.onBytes(bytes, at, Math.min(step, bytes.length - at));
  }
  client.onEnd();
  const outcome = client.outcome!;
  const known = new ConverterKnowledge();
  if (outcome.is === 'failed') return `${outcome.failure.why} ${known.onFailure(0, outcome.failure, '10.0.0.2', null)}`;
  if (outcome.is === 'connected' && outcome.serverOptions !== null)
    known.onServerOptions(0, 's', outcome.serverOptions);
  return `${outcome.is} ${known.serverCount}`;
}

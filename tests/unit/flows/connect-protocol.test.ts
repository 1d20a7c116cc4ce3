/** HTTP CONNECT between the relay and its clients: requests, answers, and what an answer means (RFC 9110, 9112, 9209). */
import test from 'ava';
import fc from 'fast-check';
import {
  connectedHead,
  connectHead,
  parseConnect,
  parseConnectAnswer,
  RelayError,
  type RelayRefusal,
  refusedHead,
} from '../../../src/daemon/flows/connect-protocol.js';
import { DialError } from '../../../src/daemon/flows/contract.js';
import { HeadReader, type HttpHead, parseHead } from '../../../src/daemon/http-head.js';

function head(text: string): HttpHead {
  return parseHead(text.replace(/\r\n\r\n$/, ''));
}

/** What the answer to `error` is taken for by the client. */
function roundTrip(error: Error, isIpv6 = false): DialError {
  try {
    parseConnectAnswer(head(refusedHead(error)), isIpv6);
  } catch (thrown) {
    return thrown as DialError;
  }
  throw new Error('no refusal');
}

test('what the client asks for is what the server reads', (t) => {
  for (const [host, port] of [
    ['192.0.2.1', 443],
    ['2001:db8::1', 22],
    ['example.com', 65_535],
    ['xn--bcher-kva.example.', 1],
    ['my_host', 80],
  ] as const) {
    t.deepEqual(parseConnect(head(connectHead({ host, port }))), { host, port, exportsKeys: true });
  }
});

test("curl's request, and one of HTTP/1.0 without Host", (t) => {
  const curl =
    'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nUser-Agent: curl/7.88.1\r\nProxy-Connection: Keep-Alive';
  t.deepEqual(parseConnect(head(curl)), { host: 'example.com', port: 443, exportsKeys: false });
  t.deepEqual(parseConnect(head('CONNECT 192.0.2.1:80 HTTP/1.0')), { host: '192.0.2.1', port: 80, exportsKeys: false });
});

for (const [what, request] of [
  ['no port', 'CONNECT example.com HTTP/1.1\r\nHost: x'],
  ['port 0', 'CONNECT example.com:0 HTTP/1.1\r\nHost: x'],
  ['port 65536', 'CONNECT example.com:65536 HTTP/1.1\r\nHost: x'],
  ['absolute form', 'CONNECT http://example.com:80/ HTTP/1.1\r\nHost: x'],
  ['user information', 'CONNECT me@example.com:80 HTTP/1.1\r\nHost: x'],
  ['an IPv6 address without brackets', 'CONNECT 2001:db8::1:80 HTTP/1.1\r\nHost: x'],
  ['an empty name', 'CONNECT :80 HTTP/1.1\r\nHost: x'],
  ['an empty label', 'CONNECT a..b:80 HTTP/1.1\r\nHost: x'],
  ['no Host', 'CONNECT example.com:80 HTTP/1.1'],
  ['another version', 'CONNECT example.com:80 HTTP/2.0\r\nHost: x'],
  ['content', 'CONNECT example.com:80 HTTP/1.1\r\nHost: x\r\nContent-Length: 5'],
  ['chunks', 'CONNECT example.com:80 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked'],
] as const) {
  test(`malformed: ${what}`, (t) => {
    const error = t.throws(() => parseConnect(head(request)), { instanceOf: RelayError });
    t.is(error!.refusal, 'malformed');
    t.regex(refusedHead(error!), /^HTTP\/1\.1 400 Bad Request\r\n/);
  });
}

test('whatever a request says, it is parsed or it is malformed, and never anything else', (t) => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, maxLength: 60 }), fc.string({ maxLength: 40 }), (target, field) => {
      try {
        const parsed = parseConnect(parseHead(`CONNECT ${target} HTTP/1.1\r\nHost: ${field}`));
        return parsed.port >= 1 && parsed.port <= 65_535 && !/[\s/@]/.test(parsed.host);
      } catch (error) {
        return ['RelayError', 'HeadError'].includes((error as Error).name);
      }
    }),
  );
  t.pass();
});

test('each refusal has its status, and its error of RFC 9209', (t) => {
  const expected: Record<RelayRefusal, string> = {
    malformed: '400 Bad Request http_request_error',
    denied: '403 Forbidden destination_ip_prohibited',
    refused: '502 Bad Gateway connection_refused',
    unreachable: '502 Bad Gateway destination_ip_unroutable',
    unresolved: '502 Bad Gateway dns_error',
    timeout: '504 Gateway Timeout connection_timeout',
    'too-many-flows': '503 Service Unavailable connection_limit_reached',
    'too-many-dials': '503 Service Unavailable connection_limit_reached',
    failed: '502 Bad Gateway proxy_internal_error',
  };
  for (const [refusal, answer] of Object.entries(expected)) {
    const { startLine, fields } = head(refusedHead(new RelayError(refusal as RelayRefusal, 'why "so"\n')));
    t.is(`${startLine.slice(9)} ${/error=(\w+)/.exec(fields.get('proxy-status')!)![1]}`, answer);
    t.regex(fields.get('proxy-status')!, /^mptun; error=\w+; details="why \\"so\\"\?"$/);
  }
});

test('the client tells refused, unreachable, timed out, denied and unavailable apart', (t) => {
  const failureOf = (refusal: RelayRefusal) => roundTrip(new RelayError(refusal, 'why')).failure;
  t.is(failureOf('refused'), 'refused');
  t.is(failureOf('unreachable'), 'unreachable');
  t.is(failureOf('unresolved'), 'unreachable');
  t.is(failureOf('timeout'), 'timeout');
  t.is(failureOf('denied'), 'denied');
  t.is(failureOf('too-many-flows'), 'unavailable');
  t.is(failureOf('malformed'), 'unavailable');
});

test('the ICMP code of an unreachable destination comes through, for its family', (t) => {
  const codeOf = (errno: string, isIpv6: boolean) =>
    roundTrip(new RelayError('unreachable', 'why', errno), isIpv6).icmpCode;
  t.deepEqual([codeOf('ENETUNREACH', false), codeOf('EHOSTUNREACH', false)], [0, 1]);
  t.deepEqual([codeOf('ENETUNREACH', true), codeOf('EHOSTUNREACH', true)], [0, 3]);
  t.is(codeOf('EPERM', false), null);
});

test('a proxy that says nothing but the status is understood', (t) => {
  const failureOf = (status: string) => {
    const error = t.throws(() => parseConnectAnswer(head(`HTTP/1.1 ${status}`), false), { instanceOf: DialError });
    return error!.failure;
  };
  t.is(failureOf('403 Forbidden'), 'denied');
  t.is(failureOf('502 Bad Gateway'), 'unreachable');
  t.is(failureOf('503 Service Unavailable'), 'unavailable');
  t.is(failureOf('504 Gateway Time-out'), 'timeout');
  t.is(failureOf('407 Proxy Authentication Required'), 'unavailable');
  t.is(failureOf('nonsense'), 'unavailable');
  t.deepEqual(parseConnectAnswer(head('HTTP/1.0 200 OK'), false), { exportsKeys: false });
  t.deepEqual(parseConnectAnswer(head(connectedHead(true)), false), { exportsKeys: true });
});

test('bytes behind the answer belong to the flow', (t) => {
  const reader = new HeadReader();
  t.true(reader.push(Buffer.from(`${connectedHead(false)}SSH-2.0-x\r\n`)));
  t.is(reader.rest.toString(), 'SSH-2.0-x\r\n');
});

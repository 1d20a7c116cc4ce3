import test from 'ava';
import { DialError } from '../../../src/daemon/flows/contract.js';
import {
  connectedAnswer,
  failedAnswer,
  ProxyHandshake,
  type ProxyStep,
} from '../../../src/daemon/flows/proxy-protocol.js';

interface Outcome {
  said: string;
  target?: { kind: string; host: string; port: number; preface: string; contentBytes: number };
  rest?: string;
  refused?: string;
}

/** What the proxy says and makes of these bytes, given in pieces of `size`. */
function play(bytes: Uint8Array, size = bytes.length): Outcome {
  const handshake = new ProxyHandshake();
  let said = Buffer.alloc(0);
  for (let at = 0; at < bytes.length; at += size) {
    let step: ProxyStep = handshake.push(bytes.subarray(at, at + size));
    while (step.type === 'answer') {
      said = Buffer.concat([said, step.bytes]);
      step = handshake.push(new Uint8Array(0));
    }
    const hex = () => said.toString('hex');
    if (step.type === 'refused') {
      const last = step.bytes[0] === 5 ? Buffer.from(step.bytes).toString('hex') : Buffer.from(step.bytes).toString();
      return { said: hex() + last.split('\r\n')[0]!, refused: step.reason };
    }
    if (step.type === 'target') {
      const { kind, host, port, preface, contentBytes } = step.target;
      const rest = Buffer.concat([step.rest, bytes.subarray(at + size)]).toString('latin1');
      return {
        said: hex(),
        target: { kind, host, port, preface: Buffer.from(preface).toString('latin1'), contentBytes },
        rest,
      };
    }
  }
  return { said: said.toString('hex') };
}

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const text = (...lines: string[]) => Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
const HELLO = '05 01 00';

test('SOCKS5 CONNECT by IPv4, name and IPv6; early bytes are kept', (t) => {
  const target = (host: string, port: number) => ({ kind: 'socks', host, port, preface: '', contentBytes: Infinity });
  t.deepEqual(play(hex(`${HELLO} 05 01 00 01 c0000221 01bb 4142`)), {
    said: '0500',
    target: target('192.0.2.33', 443),
    rest: 'AB',
  });
  const name = Buffer.from('www.example.com').toString('hex');
  t.deepEqual(play(hex(`05 02 02 00 05 01 00 03 0f ${name} 0050`)).target, target('www.example.com', 80));
  t.deepEqual(
    play(hex(`${HELLO} 05 01 00 04 20010db8000000000000000000000001 0016`)).target,
    target('2001:db8::1', 22),
  );
});

test('SOCKS5: what is not offered is refused with the reply of RFC 1928', (t) => {
  t.deepEqual(play(hex('05 01 02')), { said: '05ff', refused: 'socks-no-method' });
  t.deepEqual(play(hex('05 00')), { said: '05ff', refused: 'socks-no-method' });
  t.deepEqual(play(hex('04 01 0050 c0000221 00')), { said: '', refused: 'socks-version' });
  const reply = (code: string) => `0500${`05${code}0001000000000000`}`;
  t.deepEqual(play(hex(`${HELLO} 05 02 00 01 c0000221 01bb`)), { said: reply('07'), refused: 'socks-command' });
  t.deepEqual(play(hex(`${HELLO} 05 03 00 01 00000000 0000`)), { said: reply('07'), refused: 'socks-command' });
  t.deepEqual(play(hex(`${HELLO} 05 01 00 05 c0000221 01bb`)), { said: reply('08'), refused: 'socks-address-type' });
  t.deepEqual(play(hex(`${HELLO} 04 01 00 01 c0000221 01bb`)), { said: reply('01'), refused: 'socks-malformed' });
  t.deepEqual(play(hex(`${HELLO} 05 01 00 01 c0000221 0000`)), { said: reply('01'), refused: 'socks-malformed' });
  t.deepEqual(play(hex(`${HELLO} 05 01 00 03 00 01bb`)), { said: reply('01'), refused: 'socks-malformed' });
  t.deepEqual(play(hex(`${HELLO} 05 01 00 03 03 610d0a 01bb`)), { said: reply('01'), refused: 'socks-malformed' });
});

test('HTTP CONNECT, and what is wrong with one', (t) => {
  const ok = play(text('CONNECT www.example.com:443 HTTP/1.1', 'Host: www.example.com:443'));
  t.like(ok.target, { kind: 'connect', host: 'www.example.com', port: 443 });
  t.like(play(text('CONNECT [2001:db8::1]:22 HTTP/1.0')).target, { host: '2001:db8::1', port: 22 });
  const refused = (...lines: string[]) => play(text(...lines));
  for (const lines of [
    ['CONNECT www.example.com HTTP/1.1', 'Host: a'],
    ['CONNECT a:443 HTTP/1.1'],
    ['CONNECT a:443 HTTP/1.1', 'Host: a', 'Content-Length: 4'],
    ['CONNECT a:443 HTTP/2', 'Host: a'],
    ['CONNECT a:443 HTTP/1.1', 'Host: a', ' folded: b'],
    ['CONNECT a:0 HTTP/1.1', 'Host: a'],
  ]) {
    t.deepEqual(refused(...lines), { said: 'HTTP/1.1 400 Bad Request', refused: 'http-malformed' }, lines[0]);
  }
  const long = Buffer.from(`CONNECT a:443 HTTP/1.1\r\nX: ${'x'.repeat(9_000)}`);
  t.deepEqual(play(long), { said: 'HTTP/1.1 431 Request Header Fields Too Large', refused: 'http-too-long' });
});

test('the absolute form is forwarded: origin form, no hop-by-hop fields, one request per connection', (t) => {
  const { target, rest } = play(
    Buffer.concat([
      text(
        'POST http://www.example.com:8080/a?b=c HTTP/1.1',
        'Host: somewhere.else',
        'Proxy-Connection: keep-alive',
        'Connection: keep-alive, X-Private',
        'X-Private: 1',
        'Accept: a',
        'Accept: b',
        'Content-Length: 5',
      ),
      Buffer.from('hello GET / HTTP/1.1'),
    ]),
  );
  t.like(target, { kind: 'forward', host: 'www.example.com', port: 8080, contentBytes: 5 });
  t.deepEqual(target!.preface.split('\r\n'), [
    'POST /a?b=c HTTP/1.1',
    'host: www.example.com:8080',
    'accept: a',
    'accept: b',
    'content-length: 5',
    'connection: close',
    'via: 1.1 mptun',
    '',
    '',
  ]);
  t.true(rest!.startsWith('hello'));
  t.like(play(text('GET http://example.com HTTP/1.1', 'Host: example.com')).target, {
    port: 80,
    contentBytes: 0,
    preface: 'GET / HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\nvia: 1.1 mptun\r\n\r\n',
  });
  const refused = (...lines: string[]) => {
    const { said, refused: reason } = play(text(...lines));
    return [said, reason];
  };
  t.deepEqual(refused('GET / HTTP/1.1', 'Host: a'), ['HTTP/1.1 400 Bad Request', 'http-not-absolute']);
  t.deepEqual(refused('GET ftp://a/ HTTP/1.1', 'Host: a'), ['HTTP/1.1 501 Not Implemented', 'http-scheme']);
  t.deepEqual(refused('GET http://u@a/ HTTP/1.1', 'Host: a'), ['HTTP/1.1 400 Bad Request', 'http-malformed']);
  t.deepEqual(refused('POST http://a/ HTTP/1.1', 'Transfer-Encoding: chunked'), [
    'HTTP/1.1 411 Length Required',
    'http-transfer-encoding',
  ]);
  t.deepEqual(refused('POST http://a/ HTTP/1.1', 'Content-Length: 4', 'Content-Length: 5'), [
    'HTTP/1.1 400 Bad Request',
    'http-malformed',
  ]);
});

test('byte by byte it is the same', (t) => {
  for (const bytes of [
    hex(`${HELLO} 05 01 00 03 05 612e636f6d 01bb 4142`),
    hex('05 01 02'),
    text('CONNECT a.com:443 HTTP/1.1', 'Host: a.com'),
    text('GET http://a.com/ HTTP/1.1', 'Host: a.com'),
    text('BREW coffee'),
  ]) {
    t.deepEqual(play(bytes, 1), play(bytes), bytes.toString('latin1'));
  }
});

test('a destination that fails is told in the words of each protocol', (t) => {
  const socks = (failure: DialError['failure'], code: number | null = null) =>
    failedAnswer('socks', new DialError(failure, 'why', code))[1];
  t.deepEqual(
    [
      socks('refused'),
      socks('unreachable'),
      socks('unreachable', 0),
      socks('timeout'),
      socks('denied'),
      socks('unavailable'),
    ],
    [5, 4, 3, 4, 2, 1],
  );
  const http = (failure: DialError['failure']) =>
    Buffer.from(failedAnswer('connect', new DialError(failure, 'why')))
      .toString()
      .split('\r\n')[0];
  t.deepEqual(
    [http('refused'), http('timeout'), http('denied')],
    ['HTTP/1.1 502 Bad Gateway', 'HTTP/1.1 504 Gateway Timeout', 'HTTP/1.1 403 Forbidden'],
  );
  t.is(Buffer.from(connectedAnswer('socks')).toString('hex'), '05000001000000000000');
  t.regex(Buffer.from(connectedAnswer('connect')).toString(), /^HTTP\/1\.1 200 /);
  t.is(connectedAnswer('forward').length, 0);
});

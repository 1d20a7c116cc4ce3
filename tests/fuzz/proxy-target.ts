/**
 * Bytes from a client of the proxy (SOCKS5 or HTTP): whole and byte by byte they must come to the same; what is asked for is a
 * destination that can be said again; what is said back is the protocol's; a forwarded head is itself one that can be read.
 */
import { parseAuthority } from '../../src/daemon/flows/connect-protocol.js';
import { ProxyHandshake, type ProxyStep } from '../../src/daemon/flows/proxy-protocol.js';
import { parseFields } from '../../src/daemon/http-head.js';
import type { Target } from './fuzzer.js';

function check(isRight: boolean, what: string): void {
  if (!isRight) throw new Error(what);
}

function play(bytes: Uint8Array, size: number): string {
  const handshake = new ProxyHandshake();
  let answers = '';
  for (let at = 0; at < bytes.length; at += size) {
    let step: ProxyStep = handshake.push(bytes.subarray(at, at + size));
    for (let n = 0; step.type === 'answer'; n++) {
      check(n < 3, 'answers without end');
      answers += Buffer.from(step.bytes).toString('hex');
      step = handshake.push(new Uint8Array(0));
    }
    if (step.type === 'more') continue;
    if (step.type === 'refused') {
      const said = Buffer.from(step.bytes).toString('latin1');
      check(said === '' || said[0] === '\x05' || /^HTTP\/1\.1 [45]\d\d /.test(said), `said ${said}`);
      return `refused ${step.reason} ${answers} ${said}`;
    }
    const { kind, host, port, preface, contentBytes } = step.target;
    const again = parseAuthority(host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);
    check(again.host === host && again.port === port, 'the destination');
    if (kind === 'forward') {
      const lines = Buffer.from(preface).toString('latin1').split('\r\n');
      check(/^\S+ \/\S* HTTP\/1\.1$/.test(lines[0]!), `forwarded ${lines[0]}`);
      const names = parseFields(lines.slice(1, -2)).map(([name]) => name);
      check(names.filter((n) => n === 'host').length === 1 && !names.includes('transfer-encoding'), 'forwarded fields');
      check(Number.isSafeInteger(contentBytes), 'content');
    }
    const left = bytes.length - at - Math.min(size, bytes.length - at) + step.rest.length;
    return `target ${kind} ${host} ${port} ${Buffer.from(preface).toString('latin1')} ${left} ${answers}`;
  }
  return `more ${answers}`;
}

const text = (...lines: string[]) => Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
const hex = (s: string) => Buffer.from(s, 'hex');

export const proxyTarget: Target = {
  seeds: () => [
    hex('05010005010001c000022101bb4142'),
    hex('050200020501000305612e636f6d01bb'),
    hex('0501000501000420010db80000000000000000000000010016'),
    hex('05010005020001c000022101bb'),
    hex('040100500a0000010061'),
    text('CONNECT www.example.com:443 HTTP/1.1', 'Host: www.example.com:443', 'User-Agent: a'),
    text('GET http://a.example:81/x?y HTTP/1.1', 'Host: a', 'Connection: x', 'X: 1', 'Content-Length: 3'),
    text('POST http://[2001:db8::1]/ HTTP/1.0', 'Transfer-Encoding: chunked'),
    text('GET / HTTP/1.1', 'Host: a'),
  ],
  run(bytes) {
    const whole = play(bytes, Math.max(1, bytes.length));
    check(whole === play(bytes, 1), 'byte by byte it is something else');
    return whole.split(' ').slice(0, 2).join(' ');
  },
};

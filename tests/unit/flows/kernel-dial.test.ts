import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import * as x509 from '@peculiar/x509';
import test, { type ExecutionContext } from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { DialError, type FlowTarget } from '../../../src/daemon/flows/contract.js';
import { dialKernel, dialThrough, type HttpsProxy } from '../../../src/daemon/flows/kernel-dial.js';
import { addon } from '../../../src/native/addon.js';
import { connectKernelMptcp } from '../../../src/native/index.js';
import { until } from '../../support/until.js';

const target = (host: string, port: number): FlowTarget => ({ host, port, address: null, source: null });
const never = new AbortController().signal;

async function listening(t: ExecutionContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as { port: number }).port;
}

/** Sends 10 bytes to whoever says something, then ends. */
function tenBytes(): Server {
  return createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('0123456789'));
  });
}

/** Says what it hears, in capitals. */
function echo(): Server {
  return createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (d) => socket.end(String(d).toUpperCase()));
  });
}

async function certificate(address: string): Promise<{ key: string; cert: string }> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const cert = await x509.X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=proxy',
      notBefore: new Date('2020-01-01'),
      notAfter: new Date('2099-01-01'),
      signingAlgorithm: algorithm,
      keys,
      extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: address }])],
    },
    webcrypto as unknown as Parameters<typeof x509.X509CertificateGenerator.createSelfSigned>[1],
  );
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return { key: `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`, cert: cert.toString('pem') };
}

/** An HTTPS proxy that asks for a password. */
async function startProxy(t: ExecutionContext, password: string): Promise<HttpsProxy> {
  const { key, cert } = await certificate('127.0.0.1');
  const onClient = (socket: TLSSocket) => {
    socket.on('error', () => {});
    socket.once('data', (head: Buffer) => {
      const wanted = `Proxy-Authorization: Basic ${Buffer.from(password).toString('base64')}`;
      const asked = /^CONNECT ([^:]+):(\d+) /.exec(head.toString());
      if (!head.includes(wanted)) socket.end('HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n');
      else {
        const far = connect(Number(asked![2]), asked![1]!, () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
        far.on('error', () => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'));
        socket.pipe(far).pipe(socket);
      }
    });
  };
  const port = await listening(t, createTlsServer({ key, cert }, onClient) as unknown as Server);
  return { host: '127.0.0.1', port, trust: { authorities: cert, credentials: password } };
}

test('an end is an end, and one before which bytes were lost is not', async (t) => {
  const port = await listening(t, tenBytes());
  const address = parseIp('127.0.0.1');
  const whole = await connectKernelMptcp(address, port, never);
  t.true(whole.isMptcp, 'this kernel has Multipath TCP');
  whole.socket.write('x');
  t.is((await buffer(whole.socket)).toString(), '0123456789');
  whole.socket.destroy();
  const { socket } = await connectKernelMptcp(address, port, never);
  // Some of it is taken out of the kernel's hands before Node has it.
  const handle = (socket as unknown as { _handle: { fd: number; readStop(): void; readStart(): void } })._handle;
  handle.readStop();
  socket.write('x');
  const taken = Buffer.alloc(4);
  await until(() => addon.recv(handle.fd, taken, 0) === 4, 'the first bytes');
  const end = once(socket.resume(), 'end');
  handle.readStart();
  await t.throwsAsync(end, { code: 'ECONNRESET' });
});

test('straight to a destination, which may refuse', async (t) => {
  const port = await listening(t, echo());
  const { stream } = await dialKernel(target('localhost', port), never);
  stream.write('hello');
  t.is(String((await once(stream, 'data'))[0]), 'HELLO');
  stream.destroy();
  const gone = createServer();
  const nobody = await listening(t, gone);
  gone.close();
  const error = await t.throwsAsync(dialKernel(target('127.0.0.1', nobody), never), { instanceOf: DialError });
  t.is(error!.failure, 'refused');
  const unknown = await t.throwsAsync(dialKernel(target('nowhere.invalid', 1), never), { instanceOf: DialError });
  t.is(unknown!.failure, 'unreachable');
});

test('through an HTTPS proxy with a certificate of an authority that is trusted, and a password', async (t) => {
  const port = await listening(t, echo());
  const proxy = await startProxy(t, 'me:secret');
  const { stream } = await dialThrough(proxy, target('127.0.0.1', port), never);
  stream.write('hello');
  stream.resume();
  t.is(String((await once(stream, 'data'))[0]), 'HELLO');
  stream.destroy();
});

test('a proxy that is not trusted, or does not let us in, is no way', async (t) => {
  const port = await listening(t, echo());
  const proxy = await startProxy(t, 'me:secret');
  for (const [trust, says] of [
    [{ authorities: null, credentials: 'me:secret' }, /self-signed/],
    [{ ...proxy.trust, credentials: 'me:wrong' }, /407/],
    [{ ...proxy.trust, credentials: null }, /407/],
  ] as const) {
    const attempt = dialThrough({ ...proxy, trust } as HttpsProxy, target('127.0.0.1', port), never);
    const error = await t.throwsAsync(attempt, { instanceOf: DialError });
    t.is(error!.failure, 'unavailable');
    t.regex(error!.message, says);
  }
});

test('an attempt that is given up ends', async (t) => {
  const silent = await listening(
    t,
    createServer(() => {}),
  );
  const stop = new AbortController();
  const proxy: HttpsProxy = { host: '127.0.0.1', port: silent, trust: { authorities: null, credentials: null } };
  const attempt = dialThrough(proxy, target('a.com', 1), stop.signal);
  setImmediate(() => stop.abort());
  await t.throwsAsync(attempt, { instanceOf: DialError });
});

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type Server } from 'node:net';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { dialPlain } from '../../../src/daemon/flows/kernel-dial.js';
import { ProxyServer } from '../../../src/daemon/flows/proxy-server.js';
import { monotonicUs } from '../../../src/native/index.js';

async function listening(t: ExecutionContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as { port: number }).port;
}

/** A proxy whose flows the host routes. */
async function start(t: ExecutionContext) {
  const proxy = new ProxyServer({
    nowUs: monotonicUs,
    decide: () => ({ way: 'packet', mode: 'auto' }),
    dial: (target, _decision, signal) => dialPlain(target, signal),
  });
  t.teardown(() => proxy.close());
  const { port } = await proxy.listen({ host: '127.0.0.1', port: 0 });
  return { proxy, port };
}

const curl = async (...args: string[]) => {
  const { stdout } = await promisify(execFile)('curl', ['-sS', '--max-time', '20', ...args], { maxBuffer: 1 << 26 });
  return stdout;
};
const curlFails = (...args: string[]) =>
  curl(...args).then(
    () => '',
    (error: { stderr: string; code: number }) => `${error.code} ${error.stderr.trim()}`,
  );

test('curl through SOCKS5 by name and by address, HTTP CONNECT, and a forwarded request with a body', async (t) => {
  const { proxy, port } = await start(t);
  const page = 'x'.repeat(3_000_000);
  const site = createHttpServer((req, res) => {
    let body = '';
    req.on('data', (d) => (body += d));
    req.on('end', () =>
      res.end(req.url === '/page' ? page : `${req.method} ${req.url} ${body} ${req.headers.via ?? ''}`),
    );
  });
  const url = `http://localhost:${await listening(t, site as unknown as Server)}`;
  t.is(await curl('--proxy', `socks5h://127.0.0.1:${port}`, `${url}/page`), page);
  t.is(await curl('-4', '--proxy', `socks5://127.0.0.1:${port}`, `${url}/a`), 'GET /a  ');
  t.is(await curl('--proxytunnel', '--proxy', `http://127.0.0.1:${port}`, `${url}/page`), page);
  t.is(await curl('--proxy', `http://127.0.0.1:${port}`, '-d', 'hello', `${url}/b`), 'POST /b hello 1.1 mptun');
  t.like(proxy.counters, { clients: 4, connected_socks: 2, connected_connect: 1, connected_forward: 1 });
});

test('a destination that refuses is told at once, in SOCKS and in HTTP', async (t) => {
  const { proxy, port } = await start(t);
  const closed = createServer();
  const nobody = await listening(t, closed);
  closed.close();
  const url = `http://127.0.0.1:${nobody}/`;
  t.regex(await curlFails('--proxy', `socks5h://127.0.0.1:${port}`, url), /^97 .*\(5\)/);
  t.regex(await curlFails('--proxytunnel', '--proxy', `http://127.0.0.1:${port}`, url), /^56 .*502/);
  t.is(proxy.counters.refused_refused, 2);
});

test('both directions end on their own, and a reset is passed on', async (t) => {
  const { proxy, port } = await start(t);
  const echo = createServer({ allowHalfOpen: true }, (socket) => {
    let said = '';
    socket.on('error', () => {});
    socket.on('data', (d) => (said += d));
    socket.on('end', () => (said === 'reset' ? socket.resetAndDestroy() : socket.end(said.toUpperCase())));
  });
  const target = await listening(t, echo);
  const talk = async (words: string) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    let heard = '';
    socket.on('data', (d) => (heard += d));
    const failed = new Promise((resolve) => socket.once('error', resolve));
    socket.end(`CONNECT 127.0.0.1:${target} HTTP/1.1\r\nHost: x\r\n\r\n${words}`);
    const error = (await Promise.race([failed, once(socket, 'end').then(() => null)])) as NodeJS.ErrnoException | null;
    return { heard: heard.split('\r\n\r\n')[1], error: error?.code ?? null };
  };
  t.deepEqual(await talk('hello'), { heard: 'HELLO', error: null });
  t.is((await talk('reset')).error, 'ECONNRESET');
  t.is(proxy.counters.connected_connect, 2);
});

test('nonsense is answered in the words of its protocol, and counted', async (t) => {
  const { proxy, port } = await start(t);
  const say = async (bytes: Uint8Array | string) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    let heard = Buffer.alloc(0);
    socket.on('data', (d) => (heard = Buffer.concat([heard, d])));
    socket.end(bytes);
    await once(socket, 'close');
    return heard;
  };
  t.is((await say(Uint8Array.of(5, 1, 0, 5, 2, 0, 1, 1, 2, 3, 4, 0, 9))).toString('hex'), '050005070001000000000000');
  t.regex((await say('GET / HTTP/1.1\r\n\r\n')).toString(), /^HTTP\/1\.1 400 /);
  t.is((await say(Uint8Array.of(0x16, 3, 1))).length, 0);
  t.is((await say(Uint8Array.of(5))).length, 0);
  t.like(proxy.counters, {
    refused_socks_command: 1,
    refused_http_not_absolute: 1,
    refused_socks_version: 1,
    refused_incomplete: 1,
  });
  t.is(proxy.list().length, 0);
});

/**
 * Applications of the kernel through the TUN: their TCP ends here, and the flow goes straight to the destination.
 *
 *   app   a1 10.1.0.1 fd01::1 ── b1 10.1.0.2 fd01::2   destination: 198.51.100.9, 2001:db8::9
 *         a2 10.2.0.1 fd02::1 ── b2 10.2.0.2 fd02::2
 */
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { get, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { byteStream } from '../support/byte-stream.js';
import { FlowClient } from '../support/flow-client.js';
import { TestNamespace } from '../support/netns.js';
import { until } from '../support/until.js';

const TARGET = fileURLToPath(new URL('../support/relay-target.js', import.meta.url));
const V4 = '198.51.100.9';
const V6 = '2001:db8::9';

const app = new TestNamespace('app');
const far = new TestNamespace('far');
for (const i of [1, 2]) {
  app.veth(`a${i}`, far, `b${i}`);
  app.ip('addr', 'add', `10.${i}.0.1/24`, 'dev', `a${i}`);
  app.ip('addr', 'add', `fd0${i}::1/64`, 'dev', `a${i}`);
  far.ip('addr', 'add', `10.${i}.0.2/24`, 'dev', `b${i}`);
  far.ip('addr', 'add', `fd0${i}::2/64`, 'dev', `b${i}`);
  app.ip('route', 'add', '198.51.100.0/24', 'via', `10.${i}.0.2`, 'dev', `a${i}`, 'metric', `10${i}`);
  app.ip('-6', 'route', 'add', '2001:db8::/48', 'via', `fd0${i}::2`, 'dev', `a${i}`, 'metric', `10${i}`);
}
far.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
far.ip('addr', 'add', `${V4}/32`, 'dev', 'lo');
far.ip('addr', 'add', `${V6}/128`, 'dev', 'lo');
far.ip('route', 'add', 'unreachable', '198.51.100.66/32');
far.ip('route', 'add', 'prohibit', '198.51.100.67/32');
far.ip('route', 'add', 'blackhole', '198.51.100.68/32');
far.ip('-6', 'route', 'add', 'unreachable', '2001:db8::66/128');
far.ip('mptcp', 'limits', 'set', 'subflows', '4', 'add_addr_accepted', '4');
// Its own sockets are the applications from here on.
const client = new FlowClient(app, ['a1', 'a2']);

let target: ChildProcess;
let said = '';
async function startTarget(...before: string[]): Promise<void> {
  said = '';
  target = far.spawn(...before, process.execPath, TARGET);
  target.stdout!.on('data', (text) => (said += text));
  await until(() => said.includes('ready'), 'the destination to listen', 10_000);
}
test.before(() => startTarget());
test.after.always(() => {
  client.close();
  app.close();
  far.close();
});

const quiet = (socket: Socket) => socket.on('error', () => undefined);

/** Why a connection attempt failed, or 'connected'. */
function attempt(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.on('connect', () => {
      resolve('connected');
      socket.destroy();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code!));
    setTimeout(() => resolve('nothing within 10 s'), 10_000).unref();
  });
}

/** SHA-256 of what a GET brings. */
function download(host: string, bytes: number): Promise<string> {
  return new Promise((resolve, reject) => {
    get({ host, port: 8080, path: `/${bytes}`, agent: false }, (response) => {
      const hash = createHash('sha256');
      response.on('data', (part) => hash.update(part));
      response.on('end', () => resolve(hash.digest('hex')));
      response.on('error', reject);
    }).on('error', reject);
  });
}

function upload(host: string, bytes: number): Promise<{ received: number; sha256: string }> {
  return new Promise((resolve, reject) => {
    const put = request({ host, port: 8080, method: 'PUT', agent: false }, async (response) => {
      resolve(JSON.parse(Buffer.concat(await response.toArray()).toString()));
    });
    put.on('error', reject);
    void (async () => {
      for (const part of byteStream('app', bytes)) if (!put.write(part)) await once(put, 'drain');
      put.end();
    })();
  });
}

function shaOf(name: string, bytes: number): string {
  const hash = createHash('sha256');
  for (const part of byteStream(name, bytes)) hash.update(part);
  return hash.digest('hex');
}

for (const host of [V4, V6]) {
  test.serial(`${host}: a download and an upload, byte-exact`, async (t) => {
    t.is(await download(host, 20_000_000), shaOf('target', 20_000_000));
    t.deepEqual(await upload(host, 20_000_000), { received: 20_000_000, sha256: shaOf('app', 20_000_000) });
  });
}

test.serial('refused, unreachable and forbidden are told apart, at once', async (t) => {
  t.is(await attempt(V4, 9), 'ECONNREFUSED');
  t.is(await attempt(V6, 9), 'ECONNREFUSED');
  t.is(await attempt('198.51.100.66', 80), 'EHOSTUNREACH');
  t.is(await attempt('2001:db8::66', 80), 'EHOSTUNREACH');
  t.is(await attempt('198.51.100.67', 80), 'EHOSTUNREACH');
});

test.serial('where nobody answers the application is not told anything; it gives up, and so do we', async (t) => {
  const socket = connect({ host: '198.51.100.68', port: 80 });
  quiet(socket);
  await until(() => client.lane.list().some((f) => f.target.host === '198.51.100.68'), 'the flow');
  const [flow] = client.lane.list().filter((f) => f.target.host === '198.51.100.68');
  t.is(flow!.state, 'dialing');
  t.is(socket.readyState, 'opening');
  socket.destroy();
});

test.serial('half-close, whoever ends first', async (t) => {
  const first = connect({ host: V4, port: 8082, allowHalfOpen: true });
  first.end(Buffer.alloc(3_000_000));
  t.is(Buffer.concat(await first.toArray()).toString(), '3000000\n');
  const second = connect({ host: V4, port: 8084, allowHalfOpen: true });
  const [hello] = await once(second, 'data');
  t.is(String(hello), 'hello');
  await once(second, 'end');
  said = '';
  second.end(Buffer.alloc(500_000));
  await until(() => said.includes('received 500000'), 'what is sent behind the end of the other side');
});

test.serial('a reset of the destination is a reset, and so is one of the application', async (t) => {
  const first = connect({ host: V4, port: 8081 });
  first.write('x');
  const [error] = (await once(first, 'error')) as [NodeJS.ErrnoException];
  t.is(error.code, 'ECONNRESET');
  const second = connect({ host: V4, port: 8082 });
  await once(second, 'connect');
  second.write('x');
  said = '';
  second.resetAndDestroy();
  await until(() => said.includes('error ECONNRESET'), 'the reset');
  t.pass();
});

test.serial('urgent data arrives in its place, both ways', async (t) => {
  // What is sent is ordinary and urgent bytes by turns; what has come, in line, goes back in the same way.
  const common = `
import socket, sys
def say(s, text):
    for part in text.split(b'!')[:-1]:
        s.sendall(part)
        s.send(b'!', socket.MSG_OOB)
    s.shutdown(socket.SHUT_WR)
def heard(s):
    got = b''
    while part := s.recv(65536): got += part
    return got
`;
  const server = far.spawn(
    'python3',
    '-c',
    `${common}
s = socket.create_server(('0.0.0.0', 8090))
print('ready', flush=True)
c, _ = s.accept()
c.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
say(c, heard(c))`,
  );
  await once(server.stdout!, 'data');
  const text = Array.from({ length: 200 }, (_, i) => `ordinary ${i} !`).join('');
  const application = app.spawn(
    'python3',
    '-c',
    `${common}
s = socket.create_connection(('${V4}', 8090))
say(s, b'${text}')
sys.stdout.buffer.write(heard(s))`,
  );
  let out = '';
  application.stdout!.on('data', (part) => (out += part));
  await until(() => application.exitCode !== null && application.stdout!.readableEnded, 'the application', 20_000);
  t.is(out, text);
});

test.serial('who does not read stops his own sender, and nobody else', async (t) => {
  const stuck = connect({ host: V4, port: 8083 });
  quiet(stuck);
  let written = 0;
  const fill = () => {
    while (written < 200_000_000 && stuck.write(Buffer.alloc(65_536))) written += 65_536;
  };
  stuck.on('drain', fill).on('connect', fill);
  const lazy = connect({ host: V4, port: 8080 });
  quiet(lazy);
  lazy.pause();
  lazy.write('GET /100000000 HTTP/1.1\r\nHost: x\r\n\r\n');
  t.is(await download(V4, 10_000_000), shaOf('target', 10_000_000));
  t.is(await download(V4, 10_000_000), shaOf('target', 10_000_000));
  const flowOf = (port: number) => client.lane.list().find((f) => f.target.port === port && f.state === 'open')!;
  const before = [flowOf(8083).bytesUp, flowOf(8080).connection!.info().bytesReceived];
  t.is(await download(V4, 10_000_000), shaOf('target', 10_000_000));
  const after = [flowOf(8083).bytesUp, flowOf(8080).connection!.info().bytesReceived];
  t.deepEqual(after, before, 'both stand still');
  t.true(after[0]! < 30_000_000, `${after[0]} bytes taken of who is not read`);
  t.true(after[1]! < 30_000_000, `${after[1]} bytes taken for who does not read`);
  let got = 0;
  lazy.on('data', (part) => (got += part.length));
  lazy.resume();
  await until(() => got > 100_000_000, 'the rest', 20_000);
  lazy.destroy();
  // With a FIN it would wait for its window first, as it should.
  stuck.resetAndDestroy();
  await until(() => flowOf(8083) === undefined, 'the end of both');
});

test.serial('a thousand flows at once', async (t) => {
  const sockets = Array.from({ length: 1_000 }, () => connect({ host: V4, port: 8082, allowHalfOpen: true }));
  const answers = sockets.map(async (socket, i) => {
    await once(socket, 'connect');
    socket.write(Buffer.alloc(i + 1));
    return socket;
  });
  await Promise.all(answers);
  t.true(client.lane.size >= 1_000);
  const counts = sockets.map(async (socket) => {
    socket.end();
    return Buffer.concat(await socket.toArray()).toString();
  });
  t.deepEqual(
    await Promise.all(counts),
    sockets.map((_, i) => `${i + 1}\n`),
  );
  await until(() => client.lane.size < 10, 'the end of all');
});

test.serial('a destination that speaks Multipath TCP is reached over both links', async (t) => {
  target.kill();
  await once(target, 'exit');
  await startTarget('mptcpize', 'run');
  let most = 0;
  const watch = setInterval(() => {
    for (const f of client.lane.list()) most = Math.max(most, f.connection?.info().subflows.length ?? 0);
  }, 5);
  // Long enough: Linux refuses a subflow once its application has written everything.
  const bytes = 200_000_000;
  t.is(await download(V4, bytes), shaOf('target', bytes));
  t.is(await download(V6, bytes), shaOf('target', bytes));
  clearInterval(watch);
  t.is(most, 2);
  const { kernel } = JSON.parse(far.run('nstat', '-az', '--json')) as { kernel: Record<string, number> };
  t.true(kernel.MPTcpExtMPJoinAckRx! >= 2);
});

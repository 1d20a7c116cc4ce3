/**
 * Urgent data through the relay, the converter and the proxy: each byte arrives, in its place (RFC 6093). Destinations and
 * applications are Python's sockets, which can send with MSG_OOB.
 */
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { parseIp } from '../../src/core/base/ip.js';
import { ConvertClient } from '../../src/core/convert/client.js';
import { finished, type KeyFiles, RelayLab, RelayUser } from '../support/relay-lab.js';
import { until } from '../support/until.js';

const CONVERT_PORT = 5124;
const URGENT_PORT = 8090;
const ROUNDS = 200;
/** Connections to a destination that ends at once. */
const ENDINGS = 10;

/**
 * Sends ordinary and urgent bytes by turns, to whoever connects, after the first bytes of his; then ends. With "wait" as first
 * bytes it ends when it is told to.
 */
const URGENT_SERVER = `
import socket
s = socket.create_server(('0.0.0.0', ${URGENT_PORT}))
print('ready', flush=True)
while True:
    c, _ = s.accept()
    first = c.recv(4096)
    for i in range(${ROUNDS}):
        c.sendall(b'ordinary %d ' % i)
        c.send(b'!', socket.MSG_OOB)
    if first == b'wait': c.recv(1)
    c.shutdown(socket.SHUT_WR)
    while c.recv(4096): pass
    c.close()
`;
const SENT = Array.from({ length: ROUNDS }, (_, i) => `ordinary ${i} !`).join('');
const SHA256 = createHash('sha256').update(SENT).digest('hex');

let lab: RelayLab;
let serverKey: KeyFiles;
let clientKey: KeyFiles;

test.before(async () => {
  lab = new RelayLab('urg');
  [serverKey, clientKey] = await Promise.all([lab.newKey('server'), lab.newKey('client')]);
  const convert = {
    listen: { port: CONVERT_PORT },
    clients: ['10.1.0.0/24'],
    trusted: ['10.1.0.0/24'],
    plain_syns: true,
  };
  const server = lab.target.spawn('python3', '-c', URGENT_SERVER);
  await Promise.all([
    lab.startServer(serverKey, clientKey, {}, { convert }),
    new Promise((resolve) => server.stdout!.once('data', resolve)),
  ]);
});

test.after.always(() => lab?.close());

test.serial('relay: urgent bytes of a destination', async (t) => {
  const user = new RelayUser(lab, { pin: serverKey.pin, keyFile: clientKey.keyFile });
  await user.do();
  const got = await user.do('get', '10.9.0.2', URGENT_PORT, '/');
  t.deepEqual([got.bytes, got.sha256, got.end], [SENT.length, SHA256, 'end']);
  user.close();
});

test.serial('convert: urgent bytes of a destination', async (t) => {
  const client = new ConvertClient({ remote: { address: parseIp('10.9.0.2'), port: URGENT_PORT } });
  const request = Buffer.concat([client.request, Buffer.from('hello')]).toString('hex');
  const { stdout } = await finished(lab.client.spawn('python3', '-c', CONVERTED, request));
  const heard = Buffer.from(stdout, 'hex');
  const taken = client.onBytes(heard, 0, heard.length);
  t.is(client.outcome?.is, 'connected');
  t.is(heard.subarray(taken).toString(), SENT);
});

/**
 * Here the destination must not end too soon: the kernel's Multipath TCP, where it has become plain TCP, may lose what stands
 * behind an urgent byte when the FIN comes before that was read (docs/decisions/0010-flows.md). The second destination does.
 */
test.serial('proxy: urgent bytes of a destination, and of an application', async (t) => {
  const cli = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
  // On the server's host, which has a route to the destination.
  const proxy = lab.server.spawn(process.execPath, cli, 'proxy', '--direct', '--listen', '127.0.0.1:1080');
  let said = '';
  proxy.stdout!.on('data', (text) => (said += text));
  await until(() => said.includes('127.0.0.1:1080'), 'the proxy to listen', 20_000);
  const { stdout } = await finished(lab.server.spawn('python3', '-c', PROXIED, SENT));
  const [up, down, ...ended] = stdout.trim().split('\n');
  t.is(down, SENT);
  t.is(up, SENT);
  t.is(ended.length, ENDINGS);
  for (const text of ended) t.true(text === SENT || text === 'reset', 'all of it, or a reset: no end before the end');
  proxy.kill();
});

/** By way of the proxy: hears what the destination says, then says the same to one of its own. */
const PROXIED = `
import socket, sys
def through(port):
    s = socket.create_connection(('127.0.0.1', 1080))
    s.sendall(b'CONNECT %s:%d HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' % (b'10.9.0.2' if port == ${URGENT_PORT} else b'127.0.0.1', port))
    head = b''
    while not head.endswith(b'\\r\\n\\r\\n'): head += s.recv(1)
    return s
def heard(s):
    got = b''
    while part := s.recv(65536): got += part
    return got.decode()
own = socket.create_server(('127.0.0.1', 0))
s = through(own.getsockname()[1])
c, _ = own.accept()
c.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
for part in sys.argv[1].encode().split(b'!')[:-1]:
    s.sendall(part)
    s.send(b'!', socket.MSG_OOB)
s.shutdown(socket.SHUT_WR)
print(heard(c))
s = through(${URGENT_PORT})
s.sendall(b'wait')
got = b''
while len(got) < len(sys.argv[1]): got += s.recv(65536)
s.sendall(b'x')
print(got.decode() + heard(s))
for i in range(${ENDINGS}):
    s = through(${URGENT_PORT})
    s.sendall(b'hello')
    try: print(heard(s))
    except ConnectionResetError: print('reset')
`;

const CONVERTED = `
import socket, sys
c = socket.create_connection(('10.1.0.2', ${CONVERT_PORT}))
c.sendall(bytes.fromhex(sys.argv[1]))
got = b''
while True:
    part = c.recv(65536)
    if not part: break
    got += part
print(got.hex())
`;

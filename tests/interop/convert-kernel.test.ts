/**
 * The converter and kernel peers: Linux clients with the message in the SYN (which takes the Fast Open knobs: client on, and
 * data without a cookie) and in the stream, over TCP and Multipath TCP; kernel servers of either kind behind it.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { parseIp } from '../../src/core/base/ip.js';
import { ConvertClient } from '../../src/core/convert/client.js';
import { NO_BYTES, type TcpOption } from '../../src/core/convert/message.js';
import { parseOptions } from '../../src/core/convert/parse.js';
import { finished, RelayLab } from '../support/relay-lab.js';

const PORT = 5124;
/** Answers the count of what it read when it has read to the end. */
const COUNTING = 8082;
const SOURCE = fileURLToPath(new URL('../../../tests/support/convert-peer.c', import.meta.url));
/** net.ipv4.tcp_fastopen: client on, data in the SYN without a cookie. */
const WITH_DATA_IN_SYN = '5';

let lab: RelayLab;
let program: string;

interface Heard {
  readonly error: string;
  readonly in_syn: boolean;
  readonly mptcp: boolean;
  readonly connect_ms: number;
  readonly heard: string;
}

test.before(async () => {
  lab = new RelayLab('cvk');
  program = join(lab.dir, 'convert-peer');
  execFileSync('cc', ['-O2', '-o', program, SOURCE]);
  const [serverKey, clientKey] = await Promise.all([lab.newKey('server'), lab.newKey('client')]);
  lab.client.run('sysctl', '-qw', `net.ipv4.tcp_fastopen=${WITH_DATA_IN_SYN}`);
  const convert = {
    listen: { port: PORT },
    clients: ['10.1.0.0/24', '10.2.0.0/24'],
    trusted: ['10.1.0.0/24', '10.2.0.0/24'],
    plain_syns: true,
  };
  await Promise.all([lab.startServer(serverKey, clientKey, {}, { convert }), lab.startTarget()]);
});

test.after.always(() => lab?.close());

async function ask(protocol: 'tcp' | 'mptcp', how: 'syn' | 'connect' | 'stream', client: ConvertClient, data = '') {
  const hex = Buffer.concat([client.request, Buffer.from(data)]).toString('hex');
  const { stdout, stderr } = await finished(lab.client.spawn(program, '10.1.0.2', String(PORT), protocol, how, hex));
  if (stdout === '') throw new Error(stderr);
  const heard = JSON.parse(stdout) as Heard;
  const bytes = Buffer.from(heard.heard, 'hex');
  const taken = client.onBytes(bytes, 0, bytes.length);
  return { ...heard, rest: bytes.subarray(taken).toString() };
}

const target = (port = COUNTING, address = '10.9.0.2') => ({ address: parseIp(address), port });

for (const protocol of ['tcp', 'mptcp'] as const) {
  for (const how of ['syn', 'connect', 'stream'] as const) {
    test.serial(
      `a Linux client over ${protocol}, its message by ${how}: answered, joined, both ends pass through`,
      async (t) => {
        const client = new ConvertClient({ remote: target() });
        const seen = await ask(protocol, how, client, 'hello');
        t.log(JSON.stringify(seen));
        t.is(client.outcome?.is, 'connected');
        t.is(seen.rest, '5\n');
        t.is(seen.error, '');
        t.is(seen.in_syn, how !== 'stream');
        t.is(seen.mptcp, protocol === 'mptcp');
      },
    );
  }
}

test.serial('a kernel server’s options come back: MPTCP where it speaks it, and not where it does not', async (t) => {
  const mptcp: TcpOption = { kind: 30, value: NO_BYTES };
  const kindsOf = async (port: number) => {
    const client = new ConvertClient({ remote: target(port), options: [mptcp] });
    const seen = await ask('mptcp', 'syn', client, 'hello');
    const { outcome } = client;
    if (outcome?.is !== 'connected' || outcome.serverOptions === null)
      throw new Error(JSON.stringify({ seen, outcome }));
    return (parseOptions(outcome.serverOptions, 0, outcome.serverOptions.length) as TcpOption[]).map(
      ({ kind }) => kind,
    );
  };
  const server = lab.target.spawn('mptcpize', 'run', 'python3', '-c', MPTCP_SERVER);
  await new Promise((resolve) => server.stdout!.once('data', resolve));
  const plain = await kindsOf(COUNTING);
  t.true(plain.includes(2) && !plain.includes(30), String(plain));
  const multipath = await kindsOf(8090);
  t.true(multipath.includes(30), String(multipath));
});

const MPTCP_SERVER = [
  'import socket',
  's = socket.create_server(("0.0.0.0", 8090))',
  'print("ready", flush=True)',
  'c, _ = s.accept()',
  'while c.recv(4096): pass',
  'c.close()',
].join('\n');

test.serial('errors of the kernel’s servers: refused is 96, no such host 97, a forbidden one 32', async (t) => {
  const failure = async (port: number, address: string) => {
    const client = new ConvertClient({ remote: target(port, address) });
    await ask('tcp', 'syn', client);
    return client.outcome?.is === 'failed' ? client.outcome.failure : client.outcome;
  };
  t.deepEqual(await failure(9, '10.9.0.2'), { why: 'connection-reset' });
  t.deepEqual(await failure(80, '10.9.0.77'), { why: 'unreachable', icmpCode: 1 });
  t.deepEqual(await failure(80, '192.168.7.7'), { why: 'not-authorized' });
  t.deepEqual(await failure(80, '10.9.0.1'), { why: 'not-authorized' });
  t.deepEqual(await failure(80, '127.0.0.1'), { why: 'rejected', code: 1 });
});

test.serial('a server that resets: the client’s connection is reset, as MPTCP by MP_FASTCLOSE', async (t) => {
  for (const protocol of ['tcp', 'mptcp'] as const) {
    const client = new ConvertClient({ remote: target(8081) });
    const seen = await ask(protocol, 'syn', client, 'reset me');
    t.is(seen.error, 'ECONNRESET', protocol);
  }
});

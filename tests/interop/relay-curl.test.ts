/**
 * The relay is a standard HTTPS proxy: real curl, with a client certificate and the server's key pinned, over kernel MPTCP
 * (mptcpize) and over plain TCP.
 */
import test from 'ava';
import { finished, type KeyFiles, RELAY_PORT, RelayLab } from '../support/relay-lab.js';

let lab: RelayLab;
let serverKey: KeyFiles;
let clientKey: KeyFiles;

test.before(async () => {
  lab = new RelayLab('rlc');
  [serverKey, clientKey] = await Promise.all([lab.newKey('server'), lab.newKey('client')]);
  await Promise.all([lab.startServer(serverKey, clientKey, { relay: { deny: ['*:8083'] } }), lab.startTarget()]);
});

test.after.always(() => lab?.close());

function curl(options: { mptcp?: boolean; key?: KeyFiles | null; args: string[] }) {
  const key = options.key === undefined ? clientKey : options.key;
  return finished(
    lab.client.spawn(
      ...(options.mptcp === false ? [] : ['mptcpize', 'run']),
      'curl',
      ...['--silent', '--show-error', '--max-time', '20', '--proxy', `https://10.1.0.2:${RELAY_PORT}`],
      // The certificate is an envelope that nobody has signed; the pin is what is checked.
      ...['--proxy-insecure', '--proxy-pinnedpubkey', `sha256//${serverKey.pin}`],
      ...(key === null ? [] : ['--proxy-cert', key.certificateFile, '--proxy-key', key.keyFile]),
      ...['--proxytunnel', ...options.args],
    ),
  );
}

for (const [what, mptcp] of [
  ['kernel MPTCP', true],
  ['plain TCP', false],
] as const) {
  test.serial(`curl --proxy https:// over ${what}: bytes are right both ways`, async (t) => {
    const down = await curl({
      mptcp,
      args: ['http://10.9.0.2:8080/1000000', '-o', '/dev/null', '-w', '%{size_download}'],
    });
    t.deepEqual([down.code, down.stdout, down.stderr], [0, '1000000', '']);
    const up = await curl({ mptcp, args: ['http://[fd09::2]:8080/', '-T', clientKey.certificateFile] });
    t.is(up.code, 0, up.stderr);
    t.regex(up.stdout, /"received":\d{3}/);
  });
}

/** What curl says of the answer to its CONNECT: status and Proxy-Status. */
async function answerTo(url: string, key?: KeyFiles | null): Promise<string> {
  const { stderr } = await curl({ args: ['--verbose', url], ...(key !== undefined && { key }) });
  const status = /< HTTP\/1\.1 (\d{3})/.exec(stderr)?.[1];
  return `${status} ${/< Proxy-Status: mptun; error=(\w+)/.exec(stderr)?.[1] ?? ''}`;
}

test.serial("the standard's answers: refused, unreachable, unknown, denied", async (t) => {
  t.is(await answerTo('http://10.9.0.2:1/'), '502 connection_refused');
  t.is(await answerTo('http://198.51.100.1/'), '502 destination_ip_unroutable');
  t.is(await answerTo('http://no-such-host.invalid/'), '502 dns_error');
  t.is(await answerTo('http://127.0.0.1:22/'), '403 destination_ip_prohibited');
  t.is(await answerTo('http://localhost:22/'), '403 destination_ip_prohibited');
  t.is(await answerTo('http://10.9.0.2:8083/'), '403 destination_ip_prohibited', "the client's own list");
});

test.serial('a stranger gets nowhere, whatever it asks for', async (t) => {
  const stranger = await lab.newKey('stranger');
  t.is(await answerTo('http://10.9.0.2:8080/1', stranger), '403 ');
  t.is(await answerTo('http://10.9.0.2:8080/1', null), '401 ');
});

test.serial('a request that is not CONNECT, and malformed ones, are answered and counted', async (t) => {
  const ask = async (request: string) => {
    const tls = lab.client.spawn(
      ...['openssl', 's_client', '-quiet', '-connect', `10.1.0.2:${RELAY_PORT}`],
      ...['-cert', clientKey.certificateFile, '-key', clientKey.keyFile],
    );
    tls.stdin!.write(request);
    const { stdout } = await finished(tls);
    return stdout.split('\r\n')[0];
  };
  t.is(await ask('CONNECT 10.9.0.2 HTTP/1.1\r\nHost: x\r\n\r\n'), 'HTTP/1.1 400 Bad Request');
  t.is(await ask('CONNECT 10.9.0.2:80 HTTP/1.1\r\n\r\n'), 'HTTP/1.1 400 Bad Request');
  t.is(await ask('GET http://10.9.0.2/ HTTP/1.1\r\nHost: x\r\n\r\n'), 'HTTP/1.1 405 Method Not Allowed');
  t.is(await ask(`CONNECT 10.9.0.2:80 HTTP/1.1\r\nX: ${'x'.repeat(9000)}`), 'HTTP/1.1 400 Bad Request');
  const counters = await lab.metrics();
  const count = (name: string) => counters.get(`mptun_stack_events_total{tunnel="relay",counter="relay_${name}"}`);
  t.deepEqual([count('refused_malformed'), count('refused_refused'), count('connected')], [4, 1, 4]);
});

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
  await Promise.all([lab.startServer(serverKey, clientKey), lab.startTarget()]);
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

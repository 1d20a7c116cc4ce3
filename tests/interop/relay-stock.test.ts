/** Our client through a stock HTTPS proxy of Debian (Apache, mod_proxy_connect), which the kernel makes Multipath TCP. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { type KeyFiles, RELAY_PORT, RelayLab, RelayUser } from '../support/relay-lab.js';

const MODULES = '/usr/lib/apache2/modules';

let lab: RelayLab;
let clientKey: KeyFiles;
let proxyKey: KeyFiles;

test.before(async () => {
  lab = new RelayLab('rls');
  [proxyKey, clientKey] = await Promise.all([lab.newKey('proxy'), lab.newKey('client')]);
  await Promise.all([startProxy(), lab.startTarget()]);
});

test.after.always(() => lab?.close());

async function startProxy(): Promise<void> {
  const dir = join(lab.dir, 'apache');
  mkdirSync(dir);
  const load = (names: string[]) => names.map((n) => `LoadModule ${n}_module ${MODULES}/mod_${n}.so`);
  const config = [
    ...load(['mpm_event', 'authz_core', 'ssl', 'proxy', 'proxy_connect']),
    `ServerRoot ${dir}`,
    `DefaultRuntimeDir ${dir}`,
    `PidFile ${dir}/pid`,
    `ErrorLog ${dir}/error.log`,
    'ServerName proxy.example',
    'User www-data',
    `Listen ${RELAY_PORT}`,
    'SSLEngine on',
    `SSLCertificateFile ${proxyKey.certificateFile}`,
    `SSLCertificateKeyFile ${proxyKey.keyFile}`,
    'ProxyRequests On',
    'AllowCONNECT 1 8080 8082',
  ];
  writeFileSync(join(dir, 'httpd.conf'), `${config.join('\n')}\n`);
  lab.server.ip('mptcp', 'limits', 'set', 'subflows', '4', 'add_addr_accepted', '4');
  lab.server.spawn('mptcpize', 'run', 'apache2', '-DFOREGROUND', '-f', join(dir, 'httpd.conf'));
  for (let i = 0; i < 200; i++) {
    if (lab.server.run('ss', '-Htln', 'sport', '=', `:${RELAY_PORT}`) !== '') return;
    await delay(50);
  }
  throw new Error('the proxy does not listen');
}

test.serial('flows through it: Multipath TCP with a subflow on each link, half-close, and its refusals', async (t) => {
  const user = new RelayUser(lab, { pin: proxyKey.pin, keyFile: clientKey.keyFile });
  await user.do();
  const bytes = 10_000_000;
  const got = await user.do('get', '10.9.0.2', 8080, `/${bytes}`);
  const { isMptcp, subflows, end, fallbackReason } = got;
  t.deepEqual(
    { isMptcp, subflows, end, fallbackReason },
    { isMptcp: true, subflows: 2, end: 'end', fallbackReason: null },
  );
  t.true((got.bytes as number) > bytes);
  t.is((await user.do('get', '10.9.0.2', 8081, '/')).failed, 'denied');
  t.is((await user.do('get', '10.9.0.2', 1, '/')).failed, 'unavailable', 'Apache answers 503');
  const many = await user.do('burst', 50, '10.9.0.2', 8080);
  t.deepEqual([many.done, many.failed], [50, 0]);
});

test.serial('another key than the pinned one: no flow', async (t) => {
  const user = new RelayUser(lab, { pin: clientKey.pin, keyFile: clientKey.keyFile });
  await user.do();
  const { failed, failures } = await user.do('get', '10.9.0.2', 8080, '/1');
  t.is(failed, 'unavailable');
  t.regex((failures as string[])[0]!, /but the configuration pins/);
});

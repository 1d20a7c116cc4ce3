/**
 * What a client does to its host, in a namespace of its own: with everything captured, the server's name is still resolved
 * through the link itself, on-link prefixes stay outside, and all of it goes away again.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { NamespaceSet } from '../../src/lab/index.js';

const DIST = new URL('../../src/', import.meta.url).pathname;

/** A name server that knows one name; in the namespace `far`. */
const NAME_SERVER = `
  import { createSocket } from 'node:dgram';
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const isA = query.readUInt16BE(query.length - 4) === 1;
    const head = Buffer.from(query);
    head.writeUInt16BE(0x8180, 2);
    head.writeUInt16BE(isA ? 1 : 0, 6);
    const record = Buffer.from('c00c000100010000003c0004c6336407', 'hex');
    socket.send(isA ? Buffer.concat([head, record]) : head, from.port, from.address);
  });
  socket.bind(53, '192.0.2.53', () => console.log('ready'));
`;

/** Captures everything, asks, looks, and takes everything away; in the namespace 'near'. */
const CLIENT = (dir: string) => `
  import { execFileSync } from 'node:child_process';
  import { parseIp } from '${DIST}core/base/ip.js';
  import { Capture, cleanCapture } from '${DIST}daemon/capture.js';
  import { Resolver } from '${DIST}daemon/resolver.js';
  import { openTun, Rtnetlink } from '${DIST}native/index.js';
  const rt = new Rtnetlink();
  const tun = openTun({ name: 'mtxt0', mode: 'tun', vnetHeader: true });
  const index = rt.link('mtxt0').index;
  rt.setLink(index, { up: true });
  const excluded = { address: parseIp('203.0.113.0'), bits: 24, text: '203.0.113.0/24' };
  const config = { defaultRoute: true, include: [], exclude: [excluded], table: 7184, rulePriority: 7184 };
  const capture = new Capture(rt, config, index);
  capture.setLinks(['link0']);
  capture.setFamilies([4]);
  capture.setAddresses([parseIp('10.9.0.2')]);
  const route = (to) => {
    try {
      return execFileSync('ip', ['route', 'get', to], { encoding: 'utf8', stdio: 'pipe' }).trim().split('\\n')[0];
    } catch (error) {
      return error.stderr;
    }
  };
  const seen = {
    internet: route('192.0.2.1'),
    onLink: route('198.51.100.9'),
    excluded: route('203.0.113.5'),
    six: route('2001:db8:ffff::1'),
  };
  const resolver = new Resolver({
    host: 'vpn.example', addresses: [], stateDir: '${dir}', resolvConf: ['${dir}/resolv.conf'],
  });
  seen.isResolved = await resolver.refresh('link0');
  seen.addresses = resolver.addresses.map((a) => a.text);
  seen.remembered = new Resolver({ host: 'vpn.example', addresses: [], stateDir: '${dir}' }).addresses.map((a) => a.text);
  seen.wrongLink = await new Resolver({
    host: 'vpn.example', addresses: [], stateDir: '${dir}/none', resolvConf: ['${dir}/resolv.conf'],
  }).refresh('nolink0');
  const ours = () => [
    ...rt.rules().filter((r) => r.protocol === 77),
    ...rt.routes().filter((r) => r.protocol === 77),
  ].length;
  seen.installed = ours();
  capture.remove();
  seen.left = ours();
  // As after a kill -9: another Capture's things are found by their mark.
  const killed = new Capture(rt, config, index);
  killed.setFamilies([4]);
  killed.setAddresses([parseIp('10.9.0.2')]);
  seen.cleaned = cleanCapture(rt, config) > 0;
  seen.leftAfterCleaning = ours();
  console.log(JSON.stringify(seen));
  tun.close();
  rt.close();
`;

test('captured, resolved outside, and cleaned up', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'mptun-test-'));
  const set = new NamespaceSet('mtx-host-');
  t.teardown(async () => {
    await set.dispose();
    rmSync(dir, { recursive: true });
  });
  set.add('near');
  set.add('far');
  set.ip('near', [
    'link add link0 type veth peer name link1 netns @far',
    'addr add 198.51.100.2/24 dev link0',
    'link set link0 up',
  ]);
  set.ip('far', ['addr add 198.51.100.1/24 dev link1', 'addr add 192.0.2.53/32 dev link1', 'link set link1 up']);
  set.ip('near', ['route add default via 198.51.100.1']);
  writeFileSync(join(dir, 'resolv.conf'), 'nameserver 192.0.2.53\n');
  const node = (source: string) => [process.execPath, '--input-type=module', '-e', source];
  const server = set.spawn('far', node(NAME_SERVER), { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => server.stdout!.once('data', resolve));
  const { stdout } = await set.exec('near', node(CLIENT(dir)), { timeoutMs: 30_000 });
  const seen = JSON.parse(stdout) as Record<string, unknown>;
  t.regex(String(seen.internet), /dev mtxt0 .*src 10\.9\.0\.2/);
  t.regex(String(seen.onLink), /dev link0/);
  t.regex(String(seen.excluded), /via 198\.51\.100\.1 dev link0/);
  t.regex(String(seen.six), /No route to host|unreachable/);
  t.true(seen.isResolved, 'a name server behind the default route is asked over the link, not through the tunnel');
  t.deepEqual(seen.addresses, ['198.51.100.7']);
  t.deepEqual(seen.remembered, ['198.51.100.7']);
  t.false(seen.wrongLink);
  t.true((seen.installed as number) >= 8);
  t.is(seen.left, 0);
  t.true(seen.cleaned);
  t.is(seen.leftAfterCleaning, 0);
});

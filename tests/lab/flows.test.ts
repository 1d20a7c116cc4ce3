/** Flows of real applications, the rules that they meet, and what the command line says of them. */

import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { FlowsDocument, TcpFlowStatus, WhyFlowDocument } from '../../src/control/protocol.js';
import { createLab, DEFAULT_LINKS, type Lab, SITE, startTunnel } from '../../src/lab/index.js';
import { mptun } from '../support/cli.js';

const PROXY = '127.0.0.1:1080';

/** Answers each question: www.lab.test is at the first address, everything else at the second. */
const NAME_SERVER = `
const socket = require('node:dgram').createSocket('udp4');
socket.on('message', (query, from) => {
  const isLab = query.includes('\\x03lab\\x04test');
  const address = process.argv[isLab ? 1 : 2].split('.').map(Number);
  const answer = Buffer.concat([query, Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, ...address])]);
  answer.writeUInt16BE(0x8180, 2);
  answer.writeUInt16BE(1, 6);
  socket.send(answer, from.port, from.address);
});
socket.bind(53, () => console.log('ready'));
`;
/** Asks the name server at the first argument for the second, and ends when it has heard. */
const ASK = `
const socket = require('node:dgram').createSocket('udp4');
const labels = process.argv[2].split('.').flatMap((l) => [Buffer.of(l.length), Buffer.from(l)]);
const query = Buffer.concat([Buffer.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...labels, Buffer.from([0, 0, 1, 0, 1])]);
socket.on('message', () => process.exit(0));
setInterval(() => socket.send(query, 53, process.argv[1]), 500);
socket.send(query, 53, process.argv[1]);
`;

let lab: Lab;

test.before(async () => {
  lab = await createLab({ links: DEFAULT_LINKS, prefix: 'mtU-flows-' });
});

test.after.always(async () => {
  await lab?.dispose();
});

async function curl(...args: string[]): Promise<string> {
  const child = lab.spawn('client', ['curl', '-sS', '--max-time', '20', ...args], { stdio: 'pipe' });
  let said = '';
  child.stdout!.on('data', (d) => (said += d));
  child.stderr!.on('data', (d) => (said += d));
  await once(child, 'close');
  return `${child.exitCode} ${said}`;
}

test.serial('flows, why and the proxy: rules by user, port and name, told as they are', async (t) => {
  const flows = {
    default: 'packet',
    proxy: { listen: PROXY },
    rules: [
      { match: { port: [8081], protocol: 'tcp' }, use: 'bypass' },
      { match: { domain: ['*.out.test'] }, use: 'bypass' },
      { match: { app: { uid: 65_534 }, port: [80] }, use: 'direct', mode: 'handover' },
      { match: { domain: ['*.lab.test'] }, use: 'direct' },
      { match: { bytes_over: '2MB' }, mode: 'aggregate' },
      { match: { to: [`${SITE.v4}/32`], port: [80] }, use: 'relay' },
    ],
  };
  const tunnel = await startTunnel(lab, { startTimeoutMs: 30_000, client: { flows } });
  const socket = join(dirname(tunnel.client.configFile), 'control.sock');
  const say = async (...args: string[]) => {
    const { code, stdout, stderr } = await mptun([...args, '--socket', socket]);
    t.is(code, 0, stderr);
    return stdout;
  };
  const open = async () => (JSON.parse(await say('flows', '--json')) as FlowsDocument).tcp_flows;
  const flowWhere = async (holds: (f: TcpFlowStatus) => boolean): Promise<TcpFlowStatus> => {
    for (let tries = 0; tries < 60; tries++) {
      const found = (await open()).find((f) => f.state === 'open' && holds(f));
      if (found !== undefined) return found;
      await delay(100);
    }
    throw new Error(`no such flow: ${JSON.stringify(await open())}`);
  };
  const url = `http://${SITE.v4}/random?seed=1&bytes=`;
  const slowly = ['--limit-rate', '4M', '-o', '/dev/null'];
  const downloads = [
    ['curl', '-sS', ...slowly, `${url}60000000`],
    ['setpriv', '--reuid', '65534', '--clear-groups', 'curl', '-sS', ...slowly, `${url}60000000`],
  ].map((argv) => lab.spawn('client', argv, { stdio: 'ignore' }));
  try {
    const relayed = await flowWhere((f) => f.way === 'relay' && f.rx_bytes > 3_000_000);
    t.is(relayed.destination, `${SITE.v4}:80`);
    t.is(relayed.origin, 'tun');
    t.is(relayed.rule, 'flows.rules[4]: over 2000000 bytes');
    t.is(relayed.mode, 'aggregate');
    t.true(relayed.is_mptcp && relayed.rx_bps > 0);
    const direct = await flowWhere((f) => f.way === 'direct' && f.rx_bytes > 100_000);
    t.regex(direct.rule, /^flows\.rules\[2\]: port 80, uid 65534$|^flows\.rules\[4\]/);
    t.regex(await say('flows', '--top', '-n', '1', '--interval', '0.2'), /^2 flows of their own, beside 2 connections/);

    const why = JSON.parse(await say('why', `${SITE.v4}:80`, '--json')) as WhyFlowDocument;
    t.like(why, { way: 'relay', rule: `flows.rules[5]: to ${SITE.v4}/32, port 80` });
    t.deepEqual(
      why.rules.map((r) => r.failed),
      ['port', 'domain', 'app.uid', 'domain', 'counts later, by the bytes carried', null],
    );
    t.is(why.flows.length, 2);
    t.regex(await say('why', `${SITE.v4}:81`), /as packets through the tunnel/);
  } finally {
    for (const child of downloads) child.kill('SIGKILL');
  }
  for (const proxy of [
    ['--proxy', `socks5h://${PROXY}`],
    ['--proxy', `http://${PROXY}`],
    ['-p', '--proxy', `http://${PROXY}`],
  ]) {
    const size = ['-o', '/dev/null', '-w', '%{size_download}'];
    t.is(await curl(...proxy, ...size, `${url}300000`), '0 300000', proxy.join(' '));
  }
  t.regex(await curl('--proxy', `socks5h://${PROXY}`, `http://${SITE.v4}:9/`), /^97 .*\(5\)/);

  // Names that a name server gives, seen on their way out of the tunnel.
  const [inside, outside] = ['203.0.113.50', '203.0.113.60'];
  const server = lab.spawn('site', [process.execPath, '-e', NAME_SERVER, inside, outside], { stdio: 'pipe' });
  await once(server.stdout!, 'data');
  const device = async (address: string, ...selectors: string[]) => {
    const { stdout } = await lab.exec('client', ['ip', 'route', 'get', address, ...selectors], { timeoutMs: 10_000 });
    return /dev (\S+)/.exec(stdout)?.[1];
  };
  const tcp = ['ipproto', '6', 'dport']; // by number: a small system has no list of names
  const tun = await device(SITE.v4, ...tcp, '8082');
  t.not(await device(SITE.v4, ...tcp, '8081'), tun, 'by port: past the tunnel');
  t.is(await device(outside, ...tcp, '443'), tun, 'not known yet');
  const ask = (name: string) => lab.exec('client', [process.execPath, '-e', ASK, SITE.v4, name], { timeoutMs: 10_000 });
  await ask('www.lab.test');
  await ask('www.out.test');
  t.not(await device(outside, ...tcp, '443'), tun, 'by name: past the tunnel');
  t.is(await device(inside, ...tcp, '443'), tun);
  const named = JSON.parse(await say('why', `${inside}:443`, '--json')) as WhyFlowDocument;
  t.like(named, { way: 'direct', rule: 'flows.rules[3]: domain *.lab.test', names: ['www.lab.test'] });
  t.is((JSON.parse(await say('why', `${outside}:443`, '--json')) as WhyFlowDocument).way, 'bypass');
  server.kill('SIGKILL');
  await tunnel.dispose();
  const { stdout } = await lab.exec('client', ['ip', 'rule', 'show'], { timeoutMs: 10_000 });
  t.notRegex(stdout, /proto 77/, 'nothing is left behind');
});

test.serial(
  'mode auto: bulk keeps off a metered link that mode aggregate uses; at both ends, and while it runs',
  async (t) => {
    const flows = { default: 'relay' };
    const paths = lab.links.map(({ name }) => ({ match: { name }, metered: name === 'wwan0' }));
    const tunnel = await startTunnel(lab, { startTimeoutMs: 30_000, client: { flows, paths } });
    const socket = join(dirname(tunnel.client.configFile), 'control.sock');
    const open = async (at = socket) => {
      const { stdout } = await mptun(['flows', '--json', '--socket', at]);
      return (JSON.parse(stdout) as FlowsDocument).tcp_flows.find((f) => f.state === 'open');
    };
    /** What came over each path of the one flow between two looks, `forMs` apart. */
    const received = async (forMs: number) => {
      const rxBytes = async () => new Map((await open())!.paths.map((p) => [p.path, p.rx_bytes]));
      const before = await rxBytes();
      await delay(forMs);
      return new Map([...(await rxBytes())].map(([path, bytes]) => [path, bytes - (before.get(path) ?? 0)]));
    };
    const transfer = lab.spawn('client', ['curl', '-sS', '-o', '/dev/null', `http://${SITE.v4}/random?seed=1`], {
      stdio: 'ignore',
    });
    try {
      for (let tries = 0; (await open())?.class !== 'bulk'; tries++) {
        if (tries === 100) throw new Error(`not bulk: ${JSON.stringify(await open())}`);
        await delay(100);
      }
      t.is((await open(tunnel.server.socket))?.scheduler, 'patient', 'the server was told');
      // A link that stalls (a machine that is too busy) is stood in for: two seconds without that are asked for.
      let auto = new Map<string, number>();
      for (let tries = 0; tries < 8; tries++) {
        auto = await received(2_000);
        if (auto.get('wwan0')! < 0.02 * auto.get('wlan0')!) break;
      }
      t.true(auto.get('wwan0')! < 0.02 * auto.get('wlan0')!, JSON.stringify([[...auto], await open()]));
      t.is((await mptun(['mode', 'aggregate', '--socket', socket])).code, 0);
      await delay(2_000);
      const aggregate = await received(2_000);
      t.true(aggregate.get('wwan0')! > 0.1 * aggregate.get('wlan0')!, `aggregate: ${JSON.stringify([...aggregate])}`);
    } finally {
      transfer.kill('SIGKILL');
      await tunnel.dispose();
    }
  },
);

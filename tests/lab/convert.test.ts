/**
 * RFC 8803 as users have it: `mptun run` at both ends, TCP of real applications ended at the client's TUN, and Multipath TCP
 * from there to the converter of the server.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { ControlClient } from '../../src/control/client.js';
import type { FlowsDocument, TcpFlowStatus } from '../../src/control/protocol.js';
import {
  createLab,
  DEFAULT_LINKS,
  download,
  type Lab,
  SERVER,
  SITE,
  startTunnel,
  upload,
} from '../../src/lab/index.js';
import { mptun } from '../support/cli.js';

const CONVERTER = { listen: { port: 5124 }, clients: ['0.0.0.0/0', '::/0'], cookie: 'computed' };

let lab: Lab;

test.before(async () => {
  lab = await createLab({ links: DEFAULT_LINKS, prefix: 'mtC-lab-' });
});

test.after.always(async () => {
  await lab?.dispose();
});

async function curlErrors(url: string): Promise<string> {
  const curl = lab.spawn('client', ['curl', '-sS', '--max-time', '10', url], { stdio: 'pipe' });
  let errors = '';
  curl.stderr!.on('data', (part) => (errors += part));
  await once(curl, 'close');
  return `${curl.exitCode} ${errors}`;
}

test.serial('convert: byte-exact both ways, and a refused port is refused', async (t) => {
  const tunnel = await startTunnel(lab, {
    startTimeoutMs: 30_000,
    client: { flows: { default: 'convert' } },
    server: { convert: CONVERTER },
  });
  try {
    for (const address of [SITE.v4, SITE.v6]) {
      const down = await download(lab, { address, bytes: 4_000_000, timeoutSeconds: 30 });
      t.true(down.isIntact, `download from ${address}`);
      const up = await upload(lab, { address, bytes: 4_000_000, timeoutSeconds: 30 });
      t.true(up.isIntact, `upload to ${address}`);
    }
    t.regex(await curlErrors(`http://${SITE.v4}:9/`), /^7 .*[Rr]efused|^7 .*Couldn't connect/);
    const metrics = await new ControlClient(tunnel.server.socket).text('/metrics');
    const count = (name: string) => Number(new RegExp(`counter="convert_${name}"} (\\d+)`).exec(metrics)?.[1] ?? 0);
    t.is(count('connected'), 4);
    t.is(count('server_reset'), 1);
    // The first flow of each address of ours was told its cookie, all others had it.
    t.is(count('cookie_missing'), 1);
  } finally {
    await tunnel.dispose();
  }
});

test.serial('a converter reached over IPv6, from both links; the server lists what it converts', async (t) => {
  const tunnel = await startTunnel(lab, {
    startTimeoutMs: 30_000,
    client: { flows: { default: 'convert', convert: { server: SERVER.v6, port: CONVERTER.listen.port } } },
    server: { convert: CONVERTER },
  });
  const listed = async (socket: string) => {
    const { stdout } = await mptun(['flows', '--json', '--socket', socket]);
    return (JSON.parse(stdout) as FlowsDocument).tcp_flows.filter((f) => f.state === 'open');
  };
  try {
    for (const address of [SITE.v4, SITE.v6]) {
      const down = await download(lab, { address, bytes: 2_000_000, timeoutSeconds: 30 });
      t.true(down.isIntact, `download from ${address}`);
    }
    const url = `http://${SITE.v4}/random?seed=1`;
    const curl = lab.spawn('client', ['curl', '-sS', '--limit-rate', '2M', '-o', '/dev/null', url], {
      stdio: 'ignore',
    });
    try {
      const isGoing = (f: TcpFlowStatus) => f.rx_bytes > 300_000 && f.paths.length === 2;
      let [flow] = await listed(tunnel.server.socket);
      for (let tries = 0; flow === undefined || !isGoing(flow); tries++) {
        if (tries === 100) throw new Error(`no such flow: ${JSON.stringify(flow)}`);
        await delay(100);
        [flow] = await listed(tunnel.server.socket);
      }
      t.like(flow, { origin: 'convert', way: 'convert', destination: `${SITE.v4}:80`, is_mptcp: true, name: null });
      t.regex(flow.session!, /^2001:db8:10[12]::2$/);
      t.true(flow.tx_bytes > 0 && flow.age_s > 0);
      const [same] = await listed(tunnel.client.socket);
      t.like(same, { origin: 'tun', way: 'convert', destination: `${SITE.v4}:80`, is_mptcp: true });
      t.deepEqual(same!.paths.map((p) => p.path).sort(), ['wlan0', 'wwan0']);
      const { stdout } = await mptun(['flows', '--socket', tunnel.server.socket]);
      t.regex(stdout, /^1 flow of its own, [\s\S]*asked for by 2001:db8:10[12]::2/);
    } finally {
      curl.kill('SIGKILL');
    }
    for (let tries = 0; (await listed(tunnel.server.socket)).length > 0; tries++) {
      if (tries === 100) throw new Error('a flow that has ended is listed');
      await delay(100);
    }
  } finally {
    await tunnel.dispose();
  }
});

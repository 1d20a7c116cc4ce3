/**
 * The tunnel as users have it: `mptun run` at both ends, two emulated links (WiFi is Ethernet, cellular is raw IP), real
 * curl and ping through the TUN. What must hold: bytes are right both ways and in both families, a cut link is not the
 * end of anything, nothing leaks, and nothing is left behind, whatever way a daemon ends.
 */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { parse, stringify } from 'yaml';
import { generateKey, PIN_PREFIX, parseKey, pinOf } from '../../src/config/keys.js';
import type { StatusDocument } from '../../src/control/protocol.js';
import {
  createLab,
  DEFAULT_LINKS,
  download,
  type Lab,
  SITE,
  startTunnel,
  type Tunnel,
  upload,
} from '../../src/lab/index.js';
import { findTool } from '../../src/native/index.js';

const MPTUN = new URL('../../src/cli/main.js', import.meta.url).pathname;

let lab: Lab;

test.before(async () => {
  lab = await createLab({ links: DEFAULT_LINKS, prefix: 'mtx-tunnel-' });
});

test.after.always(async () => {
  await lab?.dispose();
});

async function withTunnel(options: Parameters<typeof startTunnel>[1], body: (tunnel: Tunnel) => Promise<void>) {
  const tunnel = await startTunnel(lab, { startTimeoutMs: 30_000, ...options });
  try {
    await body(tunnel);
  } finally {
    await tunnel.dispose();
  }
}

async function client(...argv: string[]): Promise<string> {
  const { stdout, stderr } = await lab.exec('client', argv, { timeoutMs: 30_000 });
  return stdout + stderr;
}

/** Rules and routes of ours at the client, and devices that are not there without a tunnel. */
async function traces(): Promise<string[]> {
  const [rules, rules6, routes, links] = await Promise.all([
    client('ip', 'rule', 'show'),
    client('ip', '-6', 'rule', 'show'),
    client('ip', 'route', 'show', 'table', 'all', 'proto', '77'),
    client('ip', '-o', 'link', 'show'),
  ]);
  const ours = [...`${rules}${rules6}`.split('\n').filter((l) => l.includes('proto 77')), ...routes.split('\n')];
  return [...ours, ...links.split('\n').filter((l) => l.includes(' mt-'))].filter((l) => l.trim() !== '');
}

async function statesOf(tunnel: Tunnel): Promise<Record<string, string>> {
  const status = await tunnel.client.status();
  return Object.fromEntries(status.paths.map((p) => [p.name, p.state]));
}

async function waitFor(what: string, condition: () => Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`timed out: ${what}`);
    await delay(100);
  }
}

test.serial('both links carry the session; IPv4 and IPv6, both ways, byte-exact; a clean end', async (t) => {
  await withTunnel({}, async (tunnel) => {
    t.deepEqual(await statesOf(tunnel), { wlan0: 'active', wwan0: 'active' });
    const status = await tunnel.client.status();
    t.is(status.sessions.length, 1);
    t.is(status.sessions[0]!.connections, 2);
    t.regex(await client('ping', '-c', '2', '-W', '5', SITE.v4), / 0% packet loss/);
    t.regex(await client('ping', '-c', '2', '-W', '5', SITE.v6), / 0% packet loss/);
    for (const address of [SITE.v4, SITE.v6]) {
      const down = await download(lab, { address, bytes: 3_000_000 });
      t.true(down.isIntact);
      t.is(down.bytes, 3_000_000);
      const up = await upload(lab, { address, bytes: 1_000_000 });
      t.true(up.isIntact);
    }
    const server = await tunnel.server.status();
    t.deepEqual(
      server.sessions.map((s) => s.peer),
      ['laptop'],
    );
    t.true((await traces()).length > 0);
    tunnel.client.process.kill('SIGTERM');
    const [code] = (await once(tunnel.client.process, 'exit')) as [number];
    t.is(code, 0);
    t.deepEqual(await traces(), []);
  });
});

test.serial(
  'a link cut without warning: the transfer goes on, and the link is used again after it returns',
  async (t) => {
    await withTunnel({}, async (tunnel) => {
      const wifi = lab.link('wlan0');
      const transfer = download(lab, { address: SITE.v4, bytes: 15_000_000, timeoutSeconds: 90 });
      await delay(1_500);
      await wifi.cut();
      try {
        await waitFor('wlan0 is found out', async () => {
          const status = await tunnel.client.status();
          return status.paths.find((p) => p.name === 'wlan0')?.reason !== null;
        });
      } finally {
        await wifi.restore();
      }
      await waitFor('wlan0 is in use again', async () => (await statesOf(tunnel)).wlan0 === 'active');
      const { isIntact, bytes } = await transfer;
      t.true(isIntact);
      t.is(bytes, 15_000_000);
    });
  },
);

test.serial('every link gone, then back: a waiting request still gets its answer', async (t) => {
  await withTunnel({}, async (tunnel) => {
    const transfer = download(lab, { address: SITE.v4, bytes: 4_000_000, timeoutSeconds: 90 });
    await delay(500);
    for (const link of lab.links) await link.carrier(false);
    await waitFor('both links are down', async () => Object.values(await statesOf(tunnel)).every((s) => s === 'down'));
    await delay(1_000);
    for (const link of lab.links) await link.carrier(true);
    const { isIntact } = await transfer;
    t.true(isIntact);
    await waitFor('up again', async () => (await tunnel.client.status()).state === 'up');
  });
});

test.serial('killed, and started again: as a clean start', async (t) => {
  await withTunnel({}, async (tunnel) => {
    tunnel.client.process.kill('SIGKILL');
    await once(tunnel.client.process, 'exit');
    const left = await traces();
    t.false(
      left.some((l) => l.includes(' dev mt-')),
      'routes into the TUN went with it',
    );
  });
  await withTunnel({}, async (tunnel) => {
    t.regex(await client('ping', '-c', '1', '-W', '5', SITE.v4), / 0% packet loss/);
    tunnel.client.process.kill('SIGTERM');
    await once(tunnel.client.process, 'exit');
    t.deepEqual(await traces(), []);
  });
});

test.serial(
  'the server is killed and started again: the client finds out and comes back, and so does its traffic',
  async (t) => {
    await withTunnel({}, async (tunnel) => {
      t.regex(await client('ping', '-c', '1', '-W', '5', SITE.v4), / 0% packet loss/);
      tunnel.server.process.kill('SIGKILL');
      await once(tunnel.server.process, 'exit');
      const again = lab.spawn('server', [process.execPath, MPTUN, 'run', tunnel.server.configFile], {
        stdio: 'ignore',
      });
      try {
        const answers = await client('ping', '-c', '60', '-i', '0.25', '-W', '2', SITE.v4);
        const received = Number(/(\d+) received/.exec(answers)?.[1]);
        t.true(received > 20, `${received} of 60 came back`);
        t.regex(await client('ping', '-c', '2', '-W', '5', SITE.v4), / 0% packet loss/);
      } finally {
        again.kill('SIGTERM');
        await once(again, 'exit');
      }
    });
  },
);

test.serial('a second client, let in by a reload, has its own addresses; an unknown one is told so', async (t) => {
  await withTunnel({}, async (tunnel) => {
    const { server: known } = parse(readFileSync(tunnel.client.configFile, 'utf8')) as { server: object };
    const tablet = newClient('tablet', known);
    const stranger = newClient('stranger', known);
    const file = tunnel.server.configFile;
    const config = parse(readFileSync(file, 'utf8')) as { clients: object[] };
    config.clients.push({ name: 'tablet', public_key: tablet.pin });
    writeFileSync(file, stringify(config));
    tunnel.server.process.kill('SIGHUP');
    const children = [tablet.run(), stranger.run()];
    try {
      await waitFor('the second client is up', async () => (await tablet.status())?.state === 'up');
      const addresses = (await tablet.status())!.tun.addresses;
      const laptop = (await tunnel.client.status()).tun.addresses;
      t.is(addresses.length, 2);
      t.deepEqual(
        addresses.filter((a) => laptop.includes(a)),
        [],
      );
      const { stdout } = await lab.exec('site', ['ping', '-c', '2', '-W', '5', '-I', addresses[0]!, '10.77.0.1']);
      t.regex(stdout, / 0% packet loss/);
      t.regex(await client('ping', '-c', '1', '-W', '5', SITE.v4), / 0% packet loss/);
      const peers = (await tunnel.server.status()).sessions.map((s) => s.peer);
      t.deepEqual(peers.sort(), ['laptop', 'tablet']);

      await waitFor('the stranger is refused', async () => (await stranger.status())?.problems.length === 1);
      const [problem] = (await stranger.status())!.problems;
      t.is(problem!.kind, 'authentication');
      t.true(problem!.message.includes('unknown-client'));
      t.true(readFileSync(tunnel.server.logFile, 'utf8').includes(`${stranger.pin} is not in the server's list`));
    } finally {
      for (const child of children) {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      for (const c of [tablet, stranger]) rmSync(c.dir, { recursive: true });
    }
  });
});

/** A further client, which runs at the site. It captures nothing but the server's inner address. */
function newClient(name: string, server: object) {
  const dir = mkdtempSync(join(tmpdir(), 'mptun-test-'));
  const keyFile = join(dir, 'key');
  const key = generateKey();
  writeFileSync(keyFile, key, { mode: 0o600 });
  const socket = join(dir, 'sock');
  const file = join(dir, 'mptun.yaml');
  writeFileSync(
    file,
    stringify({
      mode: 'client',
      name,
      key_file: keyFile,
      state_dir: join(dir, 'state'),
      control: { socket },
      server,
      tun: { name: `mtx-${name.slice(0, 8)}` },
      capture: { default_route: false, include: ['10.77.0.1/32'], table: name === 'tablet' ? 7190 : 7191 },
      paths: [{ match: { name: 'eth0' } }],
    }),
  );
  return {
    dir,
    pin: PIN_PREFIX + pinOf(parseKey(key, keyFile)),
    run: () => lab.spawn('site', [process.execPath, MPTUN, 'run', file], { stdio: 'ignore' }),
    status: () => getStatus(socket),
  };
}

/** The status document of a daemon, or null while it does not answer. */
function getStatus(socketPath: string): Promise<StatusDocument | null> {
  return new Promise((resolve) => {
    const call = request({ socketPath, path: '/v1/status' }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () => resolve(JSON.parse(Buffer.concat(parts).toString()) as StatusDocument));
    });
    call.on('error', () => resolve(null));
    call.end();
  });
}

test.serial('where the server has no IPv6, it is unreachable at once, and does not leak', async (t) => {
  await withTunnel({ server: { pool: { ipv4: '10.77.0.0/24', ipv6: null } } }, async () => {
    const started = performance.now();
    const answer = await client('ping', '-6', '-c', '1', '-W', '5', SITE.v6).catch((e: Error) => e.message);
    t.regex(answer, /unreachable|No route to host/i);
    t.true(performance.now() - started < 4_000);
    t.regex(await client('ip', '-6', 'route', 'get', SITE.v6).catch((e: Error) => e.message), /unreachable|No route/i);
    t.regex(await client('ping', '-c', '1', '-W', '5', SITE.v4), / 0% packet loss/);
  });
});

test.serial('a masquerading server: private destinations are denied, its table goes with it', async (t) => {
  await withTunnel({ server: { egress: { masquerade: true } } }, async (tunnel) => {
    const server = async (...argv: string[]) => (await lab.exec('server', argv)).stdout;
    t.true((await download(lab, { address: SITE.v4, bytes: 500_000 })).isIntact);
    t.regex(await server(findTool('nft')!, 'list', 'ruleset'), /table inet mptun_lab_server/);
    const denied = await client('ping', '-c', '1', '-W', '5', '10.99.0.1').catch((e: Error) => e.message);
    t.regex(denied, /Packet filtered|prohibited/i);
    tunnel.server.process.kill('SIGTERM');
    await once(tunnel.server.process, 'exit');
    t.notRegex(await server(findTool('nft')!, 'list', 'ruleset'), /mptun/);
  });
});

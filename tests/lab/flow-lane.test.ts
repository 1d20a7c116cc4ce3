/**
 * The flow lane as users have it: `mptun run` at both ends, TCP of real applications ended at the client's TUN and carried on
 * by the way that `flows.default` names.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
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
import { labScript } from '../../src/lab/topology.js';

let lab: Lab;

test.before(async () => {
  lab = await createLab({ links: DEFAULT_LINKS, prefix: 'mtT-flow-' });
});

test.after.always(async () => {
  await lab?.dispose();
});

async function withTunnel(use: string, body: (tunnel: Tunnel) => Promise<void>) {
  const tunnel = await startTunnel(lab, { startTimeoutMs: 30_000, client: { flows: { default: use } } });
  try {
    await body(tunnel);
  } finally {
    await tunnel.dispose();
  }
}

/** Exit code and message. */
async function curlErrors(url: string): Promise<string> {
  const curl = lab.spawn('client', ['curl', '-sS', '--max-time', '10', url], { stdio: 'pipe' });
  let errors = '';
  curl.stderr!.on('data', (part) => (errors += part));
  await once(curl, 'close');
  return `${curl.exitCode} ${errors}`;
}

/** What has gone through the server's TUN. */
async function innerBytesAtServer(): Promise<number> {
  const { stdout } = await lab.exec('server', ['ip', '-j', '-s', 'link', 'show', 'type', 'tun'], { timeoutMs: 10_000 });
  const [tun] = JSON.parse(stdout) as { stats64: { rx: { bytes: number }; tx: { bytes: number } } }[];
  return tun!.stats64.rx.bytes + tun!.stats64.tx.bytes;
}

test.serial('direct: a download and an upload pass the server by, and every byte is right', async (t) => {
  await withTunnel('direct', async () => {
    for (const address of [SITE.v4, SITE.v6]) {
      const down = await download(lab, { address, bytes: 4_000_000, timeoutSeconds: 30 });
      t.true(down.isIntact, `download from ${address}`);
      const up = await upload(lab, { address, bytes: 4_000_000, timeoutSeconds: 30 });
      t.true(up.isIntact, `upload to ${address}`);
    }
    t.true((await innerBytesAtServer()) < 100_000);
  });
});

test.serial('relay: a download and an upload go over connections of their own, and every byte is right', async (t) => {
  await withTunnel('relay', async () => {
    for (const address of [SITE.v4, SITE.v6]) {
      const down = await download(lab, { address, bytes: 4_000_000, timeoutSeconds: 30 });
      t.true(down.isIntact, `download from ${address}`);
      const up = await upload(lab, { address, bytes: 4_000_000, timeoutSeconds: 30 });
      t.true(up.isIntact, `upload to ${address}`);
    }
    t.true((await innerBytesAtServer()) < 100_000);
    t.regex(await curlErrors(`http://${SITE.v4}:9/`), /7 .*(refused|connect)/i);
  });
});

test.serial('direct: a port where nobody listens is refused at once', async (t) => {
  await withTunnel('direct', async () => {
    t.regex(await curlErrors(`http://${SITE.v4}:9/`), /7 .*(refused|connect)/i);
  });
});

test.serial(
  'auto: without a session applications wait, as their packets would, and go on when it is back',
  async (t) => {
    await withTunnel('auto', async ({ client, server }) => {
      const url = `http://${SITE.v4}/small`;
      const curl = (maxTimeS: number) =>
        lab.exec('client', ['curl', '-sS', '--max-time', String(maxTimeS), url], { timeoutMs: 1_000 * (maxTimeS + 5) });
      t.like(await curl(10), { code: 0, stdout: 'ok' });
      server.process.kill('SIGTERM');
      await once(server.process, 'exit');
      for (let tries = 0; (await client.status()).state === 'up'; tries++) {
        if (tries === 200) throw new Error('the session is not down');
        await delay(100);
      }
      const patient = curl(40);
      // Neither refused nor unreachable: it is its own clock that ends it.
      const impatient = await curl(3);
      t.is(impatient.code, 28);
      t.regex(impatient.stderr, /timed out|Timeout/i);
      const again = lab.spawn('server', [process.execPath, labScript('../cli/main.js'), 'run', server.configFile], {
        stdio: 'ignore',
      });
      try {
        t.like(await patient, { code: 0, stdout: 'ok' });
      } finally {
        again.kill('SIGTERM');
        await once(again, 'exit');
      }
    });
  },
);

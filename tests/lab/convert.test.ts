/**
 * RFC 8803 as users have it: `mptun run` at both ends, TCP of real applications ended at the client's TUN, and Multipath TCP
 * from there to the converter of the server.
 */
import { once } from 'node:events';
import test from 'ava';
import { ControlClient } from '../../src/control/client.js';
import { createLab, DEFAULT_LINKS, download, type Lab, SITE, startTunnel, upload } from '../../src/lab/index.js';

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

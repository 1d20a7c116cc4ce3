/**
 * Real applications through the TUN, each TCP connection of theirs relayed: OpenSSH at both ends, and Chromium with a page
 * of fifty objects from Debian's web server.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { ControlClient } from '../../src/control/client.js';
import type { FlowsDocument } from '../../src/control/protocol.js';
import { createLab, DEFAULT_LINKS, type Lab, SITE, startTunnel, type Tunnel } from '../../src/lab/index.js';
import { RandomSource } from '../../src/lab/random-stream.js';
import { mptun } from '../support/cli.js';

const SSH_PORT = 22;
const WEB_PORT = 8080;
const MODULES = '/usr/lib/apache2/modules';

let lab: Lab;
let tunnel: Tunnel;
const dir = mkdtempSync(join(tmpdir(), 'mptun-apps-'));

test.before(async () => {
  lab = await createLab({ links: DEFAULT_LINKS, prefix: 'mtA-apps-' });
  tunnel = await startTunnel(lab, { startTimeoutMs: 30_000, client: { flows: { default: 'relay' } } });
});

test.after.always(async () => {
  await tunnel?.dispose();
  await lab?.dispose();
  rmSync(dir, { recursive: true, force: true });
});

/** Flows that the server has carried since it began. */
async function flowsRelayed(): Promise<number> {
  const metrics = await new ControlClient(tunnel.server.socket).text('/metrics');
  return Number(/counter="relay_connected"} (\d+)/.exec(metrics)?.[1] ?? 0);
}

/** Starts a server in the site's namespace; resolves when somebody listens on `port`. */
async function startServer(argv: readonly string[], port: number, logFile: string): Promise<void> {
  const server = lab.spawn('site', argv, { stdio: 'ignore' });
  const listening = async () => (await lab.exec('site', ['ss', '-Htln', 'sport', '=', `:${port}`])).stdout !== '';
  for (let tries = 0; !(await listening()); tries++) {
    if (server.exitCode !== null || tries === 200) throw new Error(readFileSync(logFile, 'utf8'));
    await delay(50);
  }
}

// ---- OpenSSH ---------------------------------------------------------------------------------------------------------

/** A server in the site's namespace for root with the key that is made here; the client's options. */
async function startSshd(): Promise<string[]> {
  for (const name of ['host', 'user']) {
    await lab.exec('site', ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(dir, name)]);
  }
  // Where it shuts its unprivileged part in; made at boot by systemd where ssh is a service.
  mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const config = [
    `HostKey ${dir}/host`,
    `AuthorizedKeysFile ${dir}/user.pub`,
    'StrictModes no',
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'UsePAM no',
    'PidFile none',
    'LogLevel INFO',
  ];
  writeFileSync(join(dir, 'sshd_config'), `${config.join('\n')}\n`);
  const hostKey = readFileSync(join(dir, 'host.pub'), 'utf8');
  writeFileSync(join(dir, 'known_hosts'), [SITE.v4, SITE.v6].map((host) => `${host} ${hostKey}`).join(''));
  const log = join(dir, 'sshd.log');
  // By its whole name, since it starts itself again for each connection.
  await startServer(['/usr/sbin/sshd', '-D', '-E', log, '-f', join(dir, 'sshd_config')], SSH_PORT, log);
  const options = ['BatchMode=yes', 'IdentitiesOnly=yes', 'StrictHostKeyChecking=yes', 'ConnectTimeout=10'];
  return [
    ...['ssh', '-T', '-F', 'none', '-l', 'root', '-i', join(dir, 'user')],
    ...['-o', `UserKnownHostsFile=${dir}/known_hosts`, ...options.flatMap((o) => ['-o', o])],
  ];
}

test.serial(
  'ssh: a command with its streams and status, 5 MB each way, and lines that come back one by one',
  async (t) => {
    const ssh = await startSshd();
    const before = await flowsRelayed();
    const command = [...ssh, SITE.v4, 'echo out; echo err >&2; exit 7'];
    t.deepEqual(await lab.exec('client', command, { timeoutMs: 20_000 }), {
      code: 7,
      stdout: 'out\n',
      stderr: 'err\n',
    });

    const bytes = new RandomSource(5).next(5_000_000);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(dir, 'five'), bytes);
    const up = ['sh', '-c', `"$@" < ${dir}/five`, 'sh', ...ssh, SITE.v4, 'sha256sum'];
    t.is((await lab.exec('client', up, { timeoutMs: 20_000 })).stdout, `${sha256}  -\n`);
    const down = ['sh', '-c', '"$@" | sha256sum', 'sh', ...ssh, SITE.v6, `cat ${dir}/five`];
    t.is((await lab.exec('client', down, { timeoutMs: 20_000 })).stdout, `${sha256}  -\n`);

    const cat = lab.spawn('client', [...ssh, SITE.v4, 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const timeout = setTimeout(() => cat.kill('SIGKILL'), 20_000);
    let echoed = '';
    cat.stdout!.setEncoding('utf8').on('data', (text) => (echoed += text));
    for (let line = 0; line < 20; line++) {
      cat.stdin!.write(`line ${line}\n`);
      while (!echoed.endsWith(`line ${line}\n`) && !cat.stdout!.readableEnded)
        await Promise.race([once(cat.stdout!, 'data'), once(cat.stdout!, 'end')]);
    }
    const { stdout } = await mptun(['flows', '--json', '--socket', tunnel.client.socket]);
    const open = (JSON.parse(stdout) as FlowsDocument).tcp_flows.filter((f) => f.state === 'open');
    t.deepEqual(
      open.map((f) => [f.destination, f.way, f.is_mptcp]),
      [[`${SITE.v4}:${SSH_PORT}`, 'relay', true]],
    );
    cat.stdin!.end('the end');
    await once(cat, 'close');
    clearTimeout(timeout);
    t.is(cat.exitCode, 0);
    t.is(echoed, `${Array.from({ length: 20 }, (_, i) => `line ${i}\n`).join('')}the end`);
    t.is((await flowsRelayed()) - before, 4, 'each a flow of its own');
  },
);

// ---- Chromium --------------------------------------------------------------------------------------------------------

/** What a browser fetches by itself for a page, and how the page tells that it has it, to the byte. */
const IMAGES = 30;
const SCRIPTS = 15;
const STYLES = 5;

/** Uncompressed, 24 bits a pixel: what a canvas reads is what the file says. */
function bmp(width: number, height: number, pixels: Buffer): Buffer {
  const rowBytes = (3 * width + 3) & ~3;
  const file = Buffer.alloc(54 + rowBytes * height);
  file.write('BM', 0, 'latin1');
  file.writeUInt32LE(file.length, 2);
  file.writeUInt32LE(54, 10);
  file.writeUInt32LE(40, 14);
  file.writeInt32LE(width, 18);
  file.writeInt32LE(-height, 22); // the first row is the top one
  file.writeUInt16LE(1, 26);
  file.writeUInt16LE(24, 28);
  for (let y = 0; y < height; y++) pixels.copy(file, 54 + y * rowBytes, 3 * y * width, 3 * (y + 1) * width);
  return file;
}

/** As the page computes it. */
function sumOf(values: Iterable<number>): number {
  let sum = 7;
  for (const value of values) sum = (Math.imul(sum, 31) + value) >>> 0;
  return sum;
}

/**
 * Writes the page with its fifty objects, and returns the line that the page is to come to for each: its name, its size on
 * the wire, and the sum of what it holds.
 */
function writePage(root: string): string[] {
  const source = new RandomSource(50);
  const lines: string[] = [];
  const tags: string[] = [];
  const add = (name: string, content: Buffer | string, sum: number, tag: string) => {
    writeFileSync(join(root, name), content);
    lines.push(`${name} ${content.length} ${sum}`);
    tags.push(tag);
  };
  for (let i = 0; i < STYLES; i++) {
    const text = source.next(200 + 3_000 * i).toString('hex');
    add(
      `${i}.css`,
      `:root { --s${i}: x${text}; }`,
      sumOf(Buffer.from(`x${text}`)),
      `<link rel="stylesheet" href="${i}.css">`,
    );
  }
  for (let i = 0; i < IMAGES; i++) {
    const [width, height] = [8 + 3 * i, 5 + 4 * i];
    const pixels = source.next(3 * width * height); // blue, green, red
    add(`${i}.bmp`, bmp(width, height, pixels), sumOf(pixels), `<img src="${i}.bmp">`);
  }
  for (let i = 0; i < SCRIPTS; i++) {
    const text = source.next(100 + 2_000 * i).toString('hex');
    add(`${i}.js`, `keep('${i}.js', '${text}');`, sumOf(Buffer.from(text)), `<script src="${i}.js"></script>`);
  }
  writeFileSync(join(root, 'index.html'), page(tags));
  return lines;
}

function page(tags: readonly string[]): string {
  return `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script>
const sums = new Map();
const sumOf = (values) => { let sum = 7; for (const v of values) sum = (Math.imul(sum, 31) + v) >>> 0; return sum; };
const keep = (name, text) => sums.set(name, sumOf(new TextEncoder().encode(text)));
onload = () => {
  for (let i = 0; i < ${STYLES}; i++)
    keep(i + '.css', getComputedStyle(document.documentElement).getPropertyValue('--s' + i).trim());
  document.querySelectorAll('img').forEach((img, i) => {
    const [width, height] = [img.naturalWidth, img.naturalHeight];
    const context = Object.assign(document.createElement('canvas'), { width, height }).getContext('2d');
    context.drawImage(img, 0, 0);
    const rgba = context.getImageData(0, 0, width, height).data;
    const bgr = [];
    for (let p = 0; p < rgba.length; p += 4) bgr.push(rgba[p + 2], rgba[p + 1], rgba[p]);
    sums.set(i + '.bmp', sumOf(bgr));
  });
  const lines = performance.getEntriesByType('resource').map((entry) => {
    const name = entry.name.split('/').pop();
    return name + ' ' + entry.encodedBodySize + ' ' + sums.get(name);
  });
  document.body.replaceChildren(Object.assign(document.createElement('pre'), { textContent: lines.join('\\n') }));
};
</script>
<body>${tags.join('\n')}`;
}

async function startWebServer(root: string): Promise<void> {
  const home = join(dir, 'apache');
  mkdirSync(home);
  const config = [
    ...['mpm_event', 'authz_core', 'mime'].map((n) => `LoadModule ${n}_module ${MODULES}/mod_${n}.so`),
    `ServerRoot ${home}`,
    `DefaultRuntimeDir ${home}`,
    `PidFile ${home}/pid`,
    `ErrorLog ${home}/error.log`,
    'User www-data',
    'ServerName site.example',
    `Listen ${WEB_PORT}`,
    'TypesConfig /dev/null',
    ...['text/html .html', 'text/css .css', 'text/javascript .js', 'image/bmp .bmp'].map((line) => `AddType ${line}`),
    `DocumentRoot ${root}`,
  ];
  writeFileSync(join(home, 'httpd.conf'), `${config.join('\n')}\n`);
  chmodSync(dir, 0o755); // for www-data; the keys have modes of their own
  const argv = ['apache2', '-DFOREGROUND', '-f', join(home, 'httpd.conf')];
  await startServer(argv, WEB_PORT, join(home, 'error.log'));
}

/** The page as it is when everything in it has loaded. The browser and all that it starts are gone afterwards. */
async function domOf(url: string): Promise<string> {
  const browser = lab.spawn(
    'client',
    [
      'chromium-headless-shell',
      ...['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking'],
      ...[`--user-data-dir=${dir}/profile`, '--timeout=20000', '--dump-dom', url],
    ],
    { stdio: ['ignore', 'pipe', 'ignore'], detached: true, env: { ...process.env, HOME: dir } },
  );
  const timeout = setTimeout(() => browser.kill('SIGKILL'), 25_000);
  let dom = '';
  browser.stdout!.setEncoding('utf8').on('data', (text) => (dom += text));
  try {
    await once(browser, 'close');
  } finally {
    clearTimeout(timeout);
    try {
      process.kill(-browser.pid!, 'SIGKILL'); // its group: zygotes, renderers, the network's process
    } catch {
      // all of it has ended
    }
  }
  return dom;
}

test.serial('chromium: a page with 50 objects, every one of them whole', async (t) => {
  const root = join(dir, 'www');
  mkdirSync(root);
  const expected = writePage(root);
  t.is(expected.length, 50);
  await startWebServer(root);
  const before = await flowsRelayed();
  const dom = await domOf(`http://${SITE.v4}:${WEB_PORT}/index.html`);
  const loaded = /<pre>([^<]*)<\/pre>/.exec(dom)?.[1]?.split('\n') ?? [dom];
  t.deepEqual(loaded.sort(), expected.sort());
  const flows = (await flowsRelayed()) - before;
  t.true(flows >= 2 && flows <= 51, `${flows} flows`);
  const browsers = async () => {
    const { stdout } = await lab.exec('client', ['ps', '-o', 'args=', '-p', (await pidsOf('client')).join(',')]);
    return stdout.split('\n').filter((line) => line.includes('chromium'));
  };
  for (let tries = 0; tries < 20 && (await browsers()).length > 0; tries++) await delay(100);
  t.deepEqual(await browsers(), []);
});

async function pidsOf(node: 'client'): Promise<string[]> {
  const { stdout } = await lab.exec(node, ['ip', 'netns', 'pids', lab.netns(node)]);
  return stdout.split('\n').filter((pid) => pid !== '');
}

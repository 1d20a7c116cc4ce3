import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { monotonicMs } from '../../src/lab/arrivals.js';
import { calibrateProbes, calibrateRate } from '../../src/lab/calibrate.js';
import { randomSha256 } from '../../src/lab/random-stream.js';
import { createLab, DEFAULT_LINKS, type Lab, type LabLink, labScript, SITE } from '../../src/lab/topology.js';
import { download, upload } from '../../src/lab/transfer.js';

let lab: Lab;
test.before(async () => {
  lab = await createLab({ links: DEFAULT_LINKS, prefix: 'mtl-emu-' });
});
test.after.always(() => lab?.dispose());

async function ping(link: LabLink, count: number): Promise<number> {
  const done = await lab.exec('client', ['ping', '-q', '-n', '-i0.05', '-W1', `-c${count}`, link.siteAddress]);
  return Number(/(\d+) received/.exec(done.stdout)![1]);
}

function hasCarrier(node: 'client' | 'internet', device: string): boolean {
  return lab.namespaces.execSync(node, ['ip', '-o', 'link', 'show', device]).includes('LOWER_UP');
}

test.serial('delay, queue and loss are as configured', async (t) => {
  for (const link of lab.links) t.deepEqual((await calibrateProbes(lab, link)).problems, []);
});

test.serial('kernel TCP fills 0.94 to 0.97 of each rate, byte-exact', async (t) => {
  for (const link of lab.links) t.deepEqual((await calibrateRate(lab, link, 2)).problems, []);
});

test.serial('WiFi has neighbours, LTE has none: it is raw IP', async (t) => {
  await Promise.all(lab.links.map((link) => ping(link, 1)));
  const neighbours = (device: string) => lab.namespaces.execSync('client', ['ip', 'neigh', 'show', 'dev', device]);
  t.regex(neighbours('wlan0'), /192\.168\.1\.1 lladdr/);
  t.is(neighbours('wwan0'), '');
  t.regex(lab.namespaces.execSync('client', ['ip', 'link', 'show', 'wlan0']), /link\/ether/);
  t.regex(lab.namespaces.execSync('client', ['ip', 'link', 'show', 'wwan0']), /link\/none/);
});

test.serial('IPv6 crosses both links', async (t) => {
  for (const link of lab.links) {
    const done = await lab.exec('client', ['ping', '-6', '-q', '-n', '-c2', '-i0.1', '-W1', '-I', link.name, SITE.v6]);
    t.is(done.code, 0, `${link.name}: ${done.stdout}${done.stderr}`);
  }
});

test.serial('a black hole swallows everything and shows nowhere; restored, traffic goes on', async (t) => {
  const link = lab.link('wlan0');
  await link.cut();
  t.is(await ping(link, 5), 0);
  t.true(hasCarrier('client', 'wlan0') && hasCarrier('internet', 'link1'));
  t.is(await ping(lab.link('wwan0'), 5), 5, 'the other link does not notice');
  await link.restore();
  t.is(await ping(link, 5), 5);
});

test.serial('carrier loss shows at both devices, and ends', async (t) => {
  for (const link of lab.links) {
    await link.carrier(false);
    t.false(hasCarrier('client', link.name) || hasCarrier('internet', `link${link.index + 1}`));
    t.is(await ping(link, 2), 0);
    await link.carrier(true);
    t.true(hasCarrier('client', link.name) && hasCarrier('internet', `link${link.index + 1}`));
    t.is(await ping(link, 5), 5);
  }
});

test.serial('parameters change while the link runs', async (t) => {
  const link = lab.link('wwan0');
  await link.set('down', { rateBps: 4e6, queueBytes: 50_000 });
  const slow = await download(lab, { address: link.siteAddress, seconds: 3 });
  t.true(slow.rateBps < 4e6 && slow.rateBps > 2.5e6, `${slow.rateBps}`);
  t.is((await link.counters()).down.drops.loss, 0);
  await link.set('down', { rateBps: link.spec.rateDownBps, queueBytes: link.queueBytes('down'), loss: 1 });
  t.is(await ping(link, 3), 0, 'all lost');
  await link.set('down', { loss: 0 });
  t.is(await ping(link, 3), 3);
  t.true((await link.counters()).down.drops.loss >= 3);
});

test.serial('a transfer is timed by what arrives: a cut shows as a gap of its length', async (t) => {
  const link = lab.link('wlan0');
  const cutMs = 600;
  const going = download(lab, { address: link.siteAddress, seconds: 3 });
  await sleep(1000);
  const cutAtMs = await link.cut();
  await sleep(cutMs);
  await link.restore();
  const result = await going;
  t.true(result.isIntact);
  t.true(result.arrivals.gapMs >= cutMs, `${result.arrivals.gapMs}`);
  t.true(Math.abs(result.arrivals.gapStartMs - cutAtMs) < 100, 'the gap begins with the cut');
  const during = await link.timeline('down', cutAtMs + 20, cutAtMs + cutMs - 20);
  t.is(Math.max(...during.bytes), 0);
});

test.serial('uploads report what the site received', async (t) => {
  const result = await upload(lab, { address: lab.link('wlan0').siteAddress, bytes: 3_000_000 });
  t.is(result.bytes, 3_000_000);
  t.true(result.isIntact);
});

test.serial('a machine without curl: its stand-in does the same', async (t) => {
  const url = `http://${lab.link('wlan0').siteAddress}`;
  const fetch = [process.execPath, labScript('fetch.js')];
  const put = await lab.exec('client', [...fetch, 'put', `${url}/upload`], { input: 'x'.repeat(100_000) });
  t.is(put.code, 0, put.stderr);
  t.is(JSON.parse(put.stdout).sha256, createHash('sha256').update('x'.repeat(100_000)).digest('hex'));
  const digest = `"$@" | sha256sum`;
  const get = await lab.exec('client', [
    'sh',
    '-c',
    digest,
    'sh',
    ...fetch,
    'get',
    `${url}/random?seed=3&bytes=300000`,
  ]);
  t.is(get.stdout.split(' ')[0], randomSha256(3, 300_000));
  t.is((await lab.exec('client', [...fetch, 'get', `${url}/nothing`])).code, 1);
});

test.serial('a recorded link is played back', async (t) => {
  const link = lab.link('wwan0');
  await link.set('down', { traceFile: 'tests/fixtures/traces/lte-driving-a.down' });
  const startMs = monotonicMs();
  const result = await download(lab, { address: link.siteAddress, seconds: 4 });
  const { bytes } = await link.timeline('down', startMs, startMs + 4000);
  const carried = bytes.reduce((a, b) => a + b, 0);
  await link.set('down', { traceFile: null });
  t.true(result.isIntact);
  // The recording offers 5581 packets in its first four seconds; TCP takes most, and never more.
  t.true(carried > 0.5 * 5581 * 1500 && carried <= 5581 * 1500 * 1.02, `${carried / 1500} packets`);
});

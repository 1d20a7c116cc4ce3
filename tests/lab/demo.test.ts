/** The main job, end to end, as a stranger starts it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'ava';
import type { DemoDocument } from '../../src/lab/report.js';

test.serial('npm run demo: both links at once, cut and restored, byte-exact', async (t) => {
  t.timeout(200_000);
  const demo = spawn('npm', ['run', '-s', 'demo', '--', '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const out: string[] = [];
  const err: string[] = [];
  demo.stdout!.setEncoding('utf8').on('data', (text: string) => out.push(text));
  demo.stderr!.setEncoding('utf8').on('data', (text: string) => err.push(text));
  const [code] = (await once(demo, 'close')) as [number];
  t.log(err.join(''));
  t.is(code, 0, err.join(''));

  const document = JSON.parse(out.join('')) as DemoDocument;
  t.deepEqual(Object.keys(document), ['schema', 'links', 'bonded', 'cut']);
  t.is(document.schema, 'mptun.demo/1');
  t.deepEqual(
    document.links.map((link) => [link.name, link.rate_bps]),
    [
      ['wlan0', 50e6],
      ['wwan0', 30e6],
    ],
  );
  for (const link of document.links) {
    t.true(link.alone_bps.down > 0.9 * link.rate_bps && link.alone_bps.up > 0.9 * link.rate_bps);
    t.true(link.alone_tunnel_bps.down > 0 && link.alone_tunnel_bps.up > 0);
  }
  const { bonded, cut } = document;
  for (const direction of ['down', 'up'] as const) {
    t.is(bonded.efficiency[direction], bonded[`${direction}_bps`] / 80e6);
  }
  // Faster than what any one of the links can carry.
  t.true(bonded.down_bps > 50e6 && bonded.up_bps > 50e6, JSON.stringify(bonded));
  t.true(cut.sha256_equal);
  t.true(cut.gap_s < 1, `gap ${cut.gap_s} s`);
  t.true(cut.back_in_use_s !== null && cut.back_in_use_s < 2, `back in use after ${cut.back_in_use_s} s`);
});

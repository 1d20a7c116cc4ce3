/**
 * A receipt tells the truth: a link is cut in a download, and what the client and the server wrote about it is compared with
 * what the lab saw arrive at the application.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { ControlClient } from '../../src/control/client.js';
import type { HandoverReceipt, HistoryDocument } from '../../src/control/protocol.js';
import {
  createLab,
  DEFAULT_LINKS,
  download,
  type Lab,
  SITE,
  startTunnel,
  type TunnelEnd,
} from '../../src/lab/index.js';

/**
 * The receipt measures where inner packets leave the tunnel; the lab behind the TUN and the application's own TCP, which may
 * need a round trip (80 ms here) and a wake-up on a busy machine more.
 */
const TOLERANCE_MS = 120;

let lab: Lab;

test.before(async () => {
  lab = await createLab({ links: DEFAULT_LINKS, prefix: 'op-receipt-' });
});

test.after.always(async () => {
  await lab?.dispose();
});

function history(end: TunnelEnd): Promise<HistoryDocument> {
  return new ControlClient(join(dirname(end.configFile), 'control.sock')).get<HistoryDocument>('/v1/history');
}

/** The first receipt of `end` that fits, once it is written: where no data follows, it is left open for 10 s. */
async function receiptOf(end: TunnelEnd, fits: (r: HandoverReceipt) => boolean): Promise<HandoverReceipt> {
  for (let tries = 0; tries < 150; tries++) {
    const found = (await history(end)).receipts.find(fits);
    if (found !== undefined) return found;
    await delay(100);
  }
  throw new Error(`no such receipt: ${JSON.stringify((await history(end)).receipts)}`);
}

test.serial(
  'a link that is cut in a download, and comes back: receipts at both ends, with the gap that the lab saw',
  async (t) => {
    const tunnel = await startTunnel(lab, { startTimeoutMs: 30_000 });
    try {
      const wifi = lab.link('wlan0');
      const transfer = download(lab, { address: SITE.v4, seconds: 7 });
      await delay(3_000);
      await wifi.cut();
      const result = await transfer;
      t.true(result.isIntact);

      const left = (r: HandoverReceipt) => r.from.includes('wlan0') && !r.to.includes('wlan0');
      const receipt = await receiptOf(tunnel.client, left);
      const sawMs = result.arrivals.gapMs;
      t.log(`the lab saw ${Math.round(sawMs)} ms; the receipt: ${JSON.stringify(receipt)}`);
      t.deepEqual(receipt.from.toSorted(), ['wlan0', 'wwan0']);
      t.deepEqual(receipt.to, ['wwan0']);
      t.true(receipt.cause === 'silent' || receipt.cause === 'peer', receipt.cause);
      t.not(receipt.gap_s, null);
      t.true(Math.abs(receipt.gap_s! * 1000 - sawMs) <= TOLERANCE_MS, `${receipt.gap_s} s, the lab saw ${sawMs} ms`);
      t.is(receipt.connections_carried, 2);
      t.is(receipt.connections_lost, 0);
      t.true(receipt.flows_carried >= 1);

      // The server is the one who had sent on the dead link, so it sent again.
      const atServer = await receiptOf(tunnel.server, left);
      t.log(`at the server: ${JSON.stringify(atServer)}`);
      t.is(atServer.session, 'laptop');
      t.true(atServer.reinjected_bytes > 0);

      await wifi.restore();
      const back = await receiptOf(tunnel.client, (r) => r.cause === 'returned');
      t.deepEqual(back.from, ['wwan0']);
      t.true(back.to.includes('wlan0'));

      const file = join(dirname(tunnel.client.configFile), 'state', 'receipts.json');
      const kept = await history(tunnel.client);
      for (let tries = 0; tries < 50 && !readOr(file).includes(`"id":${back.id},`); tries++) await delay(100);
      t.deepEqual((JSON.parse(readOr(file)) as HistoryDocument).receipts, kept.receipts);
    } finally {
      await lab.link('wlan0').restore();
      await tunnel.dispose();
    }
  },
);

function readOr(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

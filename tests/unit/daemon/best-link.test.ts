/** The estimate of the best link alone, from the byte counters of the status document. */
import test from 'ava';
import { BestLinkMeter } from '../../../src/daemon/status.js';
import { samplePath } from '../../support/fake-daemon.js';

const MBIT = 125_000;

test('the best link and all together, each way', (t) => {
  const meter = new BestLinkMeter();
  const paths = (s: number) => [
    samplePath({ name: 'wlan0', rx_bytes: s * 40 * MBIT, rx_bps: 40e6, tx_bytes: 0, tx_bps: 0 }),
    samplePath({ name: 'wwan0', rx_bytes: s * 20 * MBIT, rx_bps: 20e6, tx_bytes: s * MBIT, tx_bps: 1e6 }),
  ];
  t.deepEqual(meter.estimate(paths(0), 0), { tx: null, rx: null }, 'nothing is known at first');
  t.deepEqual(meter.estimate(paths(1), 1000), {
    rx: { best_path: 'wlan0', best_bps: 40_000_000, all_bps: 60_000_000, ratio: 1.5 },
    tx: { best_path: 'wwan0', best_bps: 1_000_000, all_bps: 1_000_000, ratio: 1 },
  });
});

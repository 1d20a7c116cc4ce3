/** One path: how much of it a download gets, over loss, round-trip time and buffer. */
import test from 'ava';
import { path, type Scenario, violations } from '../../src/sim/scenario.js';
import { mbps, report, simulate, table } from '../support/sim-run.js';

const RATE_MBPS = 20;
const MSS_BYTES = 1420;
/** Payload share of a full packet: 1500 bytes with IPv4, TCP, timestamps and DSS carry at least 1400. */
const PAYLOAD_SHARE = 1400 / 1500;

interface Cell {
  readonly lossPercent: number;
  readonly rttMs: number;
  /** Bottleneck queue in round trips at the full rate. */
  readonly bufferRtts: number;
  /** Share of the payload capacity that must be reached, per cent. */
  readonly floor: Readonly<Record<string, number>>;
}

const cells: Cell[] = [];
for (const rttMs of [10, 50, 200])
  for (const bufferRtts of [0.25, 1, 4])
    for (const lossPercent of [0, 0.1, 1, 3])
      cells.push({ lossPercent, rttMs, bufferRtts, floor: floors(lossPercent, rttMs, bufferRtts) });

/**
 * BBR must hold the rate. CUBIC answers loss with its window: what it reaches is at least 60 % of what the square-root
 * law leaves Reno (Mathis et al., 1997), and never needs to be more than the link; an 800 ms queue takes it some
 * seconds of the measured seven to fill and to repair.
 */
function floors(lossPercent: number, rttMs: number, bufferRtts: number): Record<string, number> {
  const bbr = 90 - 2 * lossPercent - (rttMs === 200 ? 5 : 0);
  const clean = bufferRtts < 1 ? 70 : rttMs * bufferRtts > 500 ? 75 : 90;
  if (lossPercent === 0) return { cubic: clean, bbr };
  const mathisMbps = ((MSS_BYTES * 8) / (rttMs * 1000)) * Math.sqrt(150 / lossPercent);
  return { cubic: Math.min(clean, Math.floor((60 * mathisMbps) / RATE_MBPS)), bbr };
}

for (const congestion of ['cubic', 'bbr'])
  test(`${congestion}: throughput grid over loss, RTT and buffer`, (t) => {
    const rows: (string | number)[][] = [
      ['loss %', 'rtt ms', 'buffer rtt', 'Mbit/s', 'share %', 'floor %', 'retx %', 'queue ms'],
    ];
    const failures: string[] = [];
    for (const cell of cells) {
      const queueMs = cell.rttMs * cell.bufferRtts;
      const scenario: Scenario = {
        name: `${congestion} loss ${cell.lossPercent} rtt ${cell.rttMs} buffer ${cell.bufferRtts}`,
        seed: 1,
        congestion,
        paths: [path('only', RATE_MBPS, cell.rttMs / 2, { queueMs, lossRate: cell.lossPercent / 100 })],
        traffic: [{ kind: 'bulk', heading: 'down' }],
        warmupUs: 3_000_000,
        durationUs: 10_000_000,
      };
      const result = simulate(scenario);
      const { goodputBps, retransmittedBytes, deliveredBytes } = result.traffic[0]!;
      const share = Math.round((goodputBps / (RATE_MBPS * 1e6 * PAYLOAD_SHARE)) * 100);
      const floor = cell.floor[congestion]!;
      const queuedMs = Math.round((result.paths[0]!.down.maxQueuedBytes * 8) / (RATE_MBPS * 1000));
      const retx = Math.round((1000 * retransmittedBytes) / Math.max(1, deliveredBytes)) / 10;
      rows.push([
        cell.lossPercent,
        cell.rttMs,
        cell.bufferRtts,
        mbps(goodputBps),
        share,
        Math.round(floor),
        retx,
        queuedMs,
      ]);
      const broken = violations(result);
      if (share < floor) broken.push(`share ${share} % of the capacity, must be at least ${floor} %`);
      if (broken.length > 0) failures.push(report(t, result, broken));
    }
    t.log(`\n${table(rows)}`);
    t.deepEqual(failures, []);
  });

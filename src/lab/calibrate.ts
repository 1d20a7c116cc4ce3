/**
 * Is the emulated link the link it claims to be? Checked from outside, with the kernel's TCP and with UDP probes, before
 * any figure about the tunnel is believed.
 *
 *   idle delay   round trip of spaced probes: twice the one-way delay, within 1 ms
 *   queue        a burst of more than the queue holds, at once: what comes through, less what the link carried away
 *                meanwhile
 *   loss         spaced probes, within four standard deviations of what chance allows
 *   rate         one kernel TCP flow each way: 0.94 to 0.97 of the rate, headers being the rest
 */
import type { Direction } from './emulator-protocol.js';
import type { BurstResult, EchoResult } from './probe.js';
import { type Lab, type LabLink, labScript } from './topology.js';
import { download, upload } from './transfer.js';

export interface ProbeCalibration {
  readonly rttMs: number;
  readonly queueMs: Record<Direction, number>;
  /** Share of probes lost over the round trip. */
  readonly loss: number;
  /** What is wrong, in words; empty: the link is as configured. */
  readonly problems: readonly string[];
}

export interface RateCalibration {
  readonly bps: Record<Direction, number>;
  readonly problems: readonly string[];
}

export const TCP_SHARE_MIN = 0.94;
export const TCP_SHARE_MAX = 0.97;
const RTT_TOLERANCE_MS = 1;
const QUEUE_TOLERANCE = 0.1;
const QUEUE_TOLERANCE_MS = 5;
/** Slow start and the recovery from its overshoot: this long, plus so many round trips. */
const WARM_UP_MS = 1000;
const WARM_UP_ROUND_TRIPS = 8;
const ECHO_PROBES = 120;
const ECHO_PROBES_WITH_LOSS = 1500;

/** Delay, queue and loss. About 3 s; up to three attempts, since a machine that pauses us spoils a measurement. */
export async function calibrateProbes(lab: Lab, link: LabLink): Promise<ProbeCalibration> {
  return attempt(3, async () => {
    const problems: string[] = [];
    // First the burst: code that runs for the first time is slow, and would be taken for delay.
    const queueMs = await measureQueues(lab, link, problems);
    const echo = await measureEcho(lab, link, problems);
    return { ...echo, queueMs, problems };
  });
}

/** One kernel TCP flow down, then one up, `seconds` each after a warm-up; on a link without loss it must fill the rate. */
export async function calibrateRate(lab: Lab, link: LabLink, seconds: number): Promise<RateCalibration> {
  const warmUpMs = WARM_UP_MS + WARM_UP_ROUND_TRIPS * 2 * link.spec.delayMs;
  const totalMs = warmUpMs + seconds * 1000;
  return attempt(3, async () => {
    const problems: string[] = [];
    const bps = { down: 0, up: 0 };
    for (const direction of ['down', 'up'] as const) {
      const transfer = direction === 'down' ? download : upload;
      const result = await transfer(lab, { address: link.siteAddress, seconds: totalMs / 1000 });
      bps[direction] = result.arrivals.slopeBps(warmUpMs, totalMs);
      const share = bps[direction] / link.rateBps(direction);
      if (!result.isIntact) problems.push(`${direction}: the bytes that arrived are not those that were sent`);
      if (!hasLoss(link) && !(share >= TCP_SHARE_MIN && share <= TCP_SHARE_MAX)) {
        const range = `${TCP_SHARE_MIN} to ${TCP_SHARE_MAX}`;
        problems.push(`kernel TCP ${direction} reaches ${share.toFixed(3)} of the rate, should be ${range}`);
      }
    }
    return { bps, problems };
  });
}

/** The first result without problems, or the last. */
async function attempt<T extends { readonly problems: readonly string[] }>(
  times: number,
  measure: () => Promise<T>,
): Promise<T> {
  const result = await measure();
  return result.problems.length === 0 || times === 1 ? result : attempt(times - 1, measure);
}

async function measureEcho(lab: Lab, link: LabLink, problems: string[]): Promise<{ rttMs: number; loss: number }> {
  const { delayMs, jitterMs = 0, loss: lossRate = 0, burst = null } = link.spec;
  const schedule = hasLoss(link) ? [ECHO_PROBES_WITH_LOSS, 2] : [ECHO_PROBES, 8];
  const echo = await probe<EchoResult>(lab, link, ['echo', ...schedule]);
  // Jitter is uniform over [0, jitter]: half of it on average, each way.
  const expectedRttMs = 2 * delayMs + jitterMs;
  if (!(Math.abs(echo.rttMs - expectedRttMs) <= RTT_TOLERANCE_MS + jitterMs / 2)) {
    problems.push(`idle RTT ${echo.rttMs?.toFixed(1)} ms instead of ${expectedRttMs} ms`);
  }
  const loss = 1 - echo.received / echo.sent;
  const expectedLoss = roundTripLoss(lossRate, burst);
  // Losses in bursts come in clumps: their count varies more, by about the length of a burst.
  const clump = burst === null ? 1 : 2 / burst.leave;
  const tolerance = 4 * Math.sqrt((expectedLoss * (1 - expectedLoss) * clump) / echo.sent);
  if (Math.abs(loss - expectedLoss) > tolerance) {
    problems.push(`loss ${percent(loss)} instead of ${percent(expectedLoss)} over the round trip`);
  }
  return { rttMs: echo.rttMs, loss };
}

async function measureQueues(lab: Lab, link: LabLink, problems: string[]): Promise<Record<Direction, number>> {
  const queuePackets = Math.max(link.queueBytes('down'), link.queueBytes('up')) / 1500;
  const burst = await probe<BurstResult>(lab, link, ['burst', Math.ceil(queuePackets * 2) + 20]);
  const queueMs = { down: 0, up: 0 };
  for (const direction of ['down', 'up'] as const) {
    const rateBps = link.rateBps(direction);
    const configuredMs = (link.queueBytes(direction) * 8000) / rateBps;
    const { received, spanMs } = burst[direction];
    queueMs[direction] = (received * 12e6) / rateBps - spanMs;
    const lossMs = configuredMs * (link.spec.loss ?? 0);
    const toleranceMs = configuredMs * QUEUE_TOLERANCE + QUEUE_TOLERANCE_MS + lossMs;
    if (!(Math.abs(queueMs[direction] - configuredMs) <= toleranceMs)) {
      problems.push(`queue ${direction} ${queueMs[direction].toFixed(0)} ms instead of ${configuredMs.toFixed(0)} ms`);
    }
  }
  return queueMs;
}

async function probe<T>(lab: Lab, link: LabLink, args: readonly (string | number)[]): Promise<T> {
  const argv = [process.execPath, labScript('probe.js'), link.siteAddress, ...args.map(String)];
  const done = await lab.exec('client', argv, { timeoutMs: 30_000 });
  if (done.code !== 0) throw new Error(`probe of ${link.name}: ${done.stderr.trim() || `status ${done.code}`}`);
  return JSON.parse(done.stdout) as T;
}

/** A probe and its echo both have to get through. */
function roundTripLoss(loss: number, burst: { enter: number; leave: number; lossRate: number } | null): number {
  const inBurst = burst === null ? 0 : (burst.lossRate * burst.enter) / (burst.enter + burst.leave);
  const oneWay = 1 - (1 - loss) * (1 - inBurst);
  return 1 - (1 - oneWay) ** 2;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`;
}

function hasLoss(link: LabLink): boolean {
  return (link.spec.loss ?? 0) > 0 || link.spec.burst != null;
}

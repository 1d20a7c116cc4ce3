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
/** Of the sum of two jitters, each uniform over [0, 1]; the probes report their lowest decile. */
const JITTER_LOWEST_DECILE = Math.sqrt(0.2);
const QUEUE_TOLERANCE = 0.1;
const QUEUE_TOLERANCE_MS = 5;
/** Slow start and the recovery from its overshoot: this long, plus so many round trips. */
const WARM_UP_MS = 1000;
const WARM_UP_ROUND_TRIPS = 8;
const ECHO_PROBES = 120;
const ECHO_PROBES_WITH_LOSS = 1500;

/** Delay, queue and loss. About 4 s; each is measured again, up to five times, where a busy machine spoils it by pausing us. */
export async function calibrateProbes(lab: Lab, link: LabLink): Promise<ProbeCalibration> {
  // First the burst: code that runs for the first time is slow, and would be taken for delay.
  const queueDown = await attempt(5, () => measureQueue(lab, link, 'down'));
  const queueUp = await attempt(5, () => measureQueue(lab, link, 'up'));
  const echo = await attempt(5, () => measureEcho(lab, link));
  const problems = [...queueDown.problems, ...queueUp.problems, ...echo.problems];
  return { rttMs: echo.rttMs, loss: echo.loss, queueMs: { down: queueDown.ms, up: queueUp.ms }, problems };
}

/** One kernel TCP flow down, then one up, `seconds` each after a warm-up; on a link without loss it must fill the rate. */
export async function calibrateRate(lab: Lab, link: LabLink, seconds: number): Promise<RateCalibration> {
  const down = await attempt(3, () => measureRate(lab, link, 'down', seconds));
  const up = await attempt(3, () => measureRate(lab, link, 'up', seconds));
  return { bps: { down: down.bps, up: up.bps }, problems: [...down.problems, ...up.problems] };
}

/** The first result without problems, or the last. */
async function attempt<T extends { readonly problems: readonly string[] }>(
  times: number,
  measure: () => Promise<T>,
): Promise<T> {
  const result = await measure();
  return result.problems.length === 0 || times === 1 ? result : attempt(times - 1, measure);
}

async function measureEcho(lab: Lab, link: LabLink): Promise<{ rttMs: number; loss: number; problems: string[] }> {
  const problems: string[] = [];
  const { delayMs, jitterMs = 0, loss: lossRate = 0, burst = null } = link.spec;
  const schedule = hasLoss(link) ? [ECHO_PROBES_WITH_LOSS, 2] : [ECHO_PROBES, 8];
  const echo = await probe<EchoResult>(lab, link, ['echo', ...schedule]);
  const expectedRttMs = 2 * delayMs + JITTER_LOWEST_DECILE * jitterMs;
  if (!(Math.abs(echo.rttMs - expectedRttMs) <= RTT_TOLERANCE_MS + jitterMs / 4)) {
    problems.push(`idle RTT ${echo.rttMs?.toFixed(1)} ms instead of ${expectedRttMs.toFixed(1)} ms`);
  }
  const loss = 1 - echo.received / echo.sent;
  const expectedLoss = roundTripLoss(lossRate, burst);
  // Losses in bursts come in clumps: their count varies more, by about the length of a burst.
  const clump = burst === null ? 1 : 2 / burst.leave;
  const tolerance = 4 * Math.sqrt((expectedLoss * (1 - expectedLoss) * clump) / echo.sent);
  if (Math.abs(loss - expectedLoss) > tolerance) {
    problems.push(`loss ${percent(loss)} instead of ${percent(expectedLoss)} over the round trip`);
  }
  return { rttMs: echo.rttMs, loss, problems };
}

async function measureQueue(
  lab: Lab,
  link: LabLink,
  direction: Direction,
): Promise<{ ms: number; problems: string[] }> {
  const packets = Math.ceil((link.queueBytes(direction) / 1500) * 2) + 20;
  const { received, spanMs } = await probe<BurstResult>(lab, link, ['burst', direction, packets]);
  const rateBps = link.rateBps(direction);
  const configuredMs = (link.queueBytes(direction) * 8000) / rateBps;
  const ms = (received * 12e6) / rateBps - spanMs;
  const lossMs = configuredMs * (link.spec.loss ?? 0);
  const isRight = Math.abs(ms - configuredMs) <= configuredMs * QUEUE_TOLERANCE + QUEUE_TOLERANCE_MS + lossMs;
  const problem = `queue ${direction} ${ms.toFixed(0)} ms instead of ${configuredMs.toFixed(0)} ms`;
  return { ms, problems: isRight ? [] : [problem] };
}

async function measureRate(
  lab: Lab,
  link: LabLink,
  direction: Direction,
  seconds: number,
): Promise<{ bps: number; problems: string[] }> {
  const problems: string[] = [];
  const warmUpMs = WARM_UP_MS + WARM_UP_ROUND_TRIPS * 2 * link.spec.delayMs;
  const totalMs = warmUpMs + seconds * 1000;
  const transfer = direction === 'down' ? download : upload;
  const result = await transfer(lab, { address: link.siteAddress, seconds: totalMs / 1000 });
  const bps = result.arrivals.slopeBps(warmUpMs, totalMs);
  const share = bps / link.rateBps(direction);
  if (!result.isIntact) problems.push(`${direction}: the bytes that arrived are not those that were sent`);
  if (!hasLoss(link) && !(share >= TCP_SHARE_MIN && share <= TCP_SHARE_MAX)) {
    const range = `${TCP_SHARE_MIN} to ${TCP_SHARE_MAX}`;
    problems.push(`kernel TCP ${direction} reaches ${share.toFixed(3)} of the rate, should be ${range}`);
  }
  return { bps, problems };
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

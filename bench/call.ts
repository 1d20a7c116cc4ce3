/** A call through the tunnel during which the WiFi loses its carrier (voice-call.ts is either end of it). */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Direction } from '../src/lab/emulator-protocol.js';
import { type Lab, SITE } from '../src/lab/index.js';
import type { Figure } from './handover-summary.js';
import type { CallEnd } from './voice-call.js';
import { within } from './within.js';

const PORT = 5004;
const LOSS_AT_MS = 2000;
/** From the loss to the end of the call. */
const AFTER_MS = 3000;
/** What leaves so shortly before the loss may be on its way when it comes. */
const BEFORE_MS = 200;
/** A packet that takes longer is of no use to a call. */
const LATE_MS = 150;
/** Of IP for each packet of the call, at least; 50 a second. */
const CALL_BPS = 200 * 8 * 50;
const START_MS = 5000;

/** Packets lost or late across the loss, each way. */
export async function measureCall(lab: Lab): Promise<Record<Direction, Figure>> {
  const wifi = lab.links[0]!;
  const script = fileURLToPath(new URL('./voice-call.js', import.meta.url));
  const argv = (role: string) => [
    process.execPath,
    script,
    role,
    SITE.v4,
    String(PORT),
    String((LOSS_AT_MS + AFTER_MS) / 1000),
  ];
  const callee = lab.spawn('site', argv('callee'), { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const lines = createInterface({ input: callee.stdout! });
    const next = () => new Promise<string>((resolve) => lines.once('line', resolve));
    await within(next(), START_MS, 'starting the far end of the call');
    const farLine = next();
    const near = lab.exec('client', argv('caller'), { timeoutMs: LOSS_AT_MS + AFTER_MS + START_MS });
    await sleep(LOSS_AT_MS);
    const used: Record<Direction, boolean> = { down: await carries(lab, 'down'), up: await carries(lab, 'up') };
    const lossMs = await within(wifi.carrier(false), START_MS, 'taking the carrier away');
    const { code, stdout, stderr } = await near;
    if (code !== 0) throw new Error(`the call: ${stderr.trim() || `status ${code}`}`);
    const caller = JSON.parse(stdout) as CallEnd;
    const far = JSON.parse(await within(farLine, START_MS, 'the far end of the call')) as CallEnd;
    const figure = (direction: Direction, from: CallEnd, to: CallEnd): Figure =>
      used[direction]
        ? badPackets(from, to, lossMs - BEFORE_MS)
        : { missing: 'the call was not on the WiFi before the loss' };
    return { up: figure('up', caller, far), down: figure('down', far, caller) };
  } finally {
    callee.kill('SIGKILL');
    await within(wifi.restore(), START_MS, 'giving the carrier back');
  }
}

/** Packets that `from` sent at or after `sinceMs` and that `to` did not get, or got late. */
export function badPackets(from: CallEnd, to: CallEnd, sinceMs: number): Figure {
  const delays = new Map(to.received);
  const sent = from.sentMs.flatMap((atMs, number) => (atMs >= sinceMs ? [number] : []));
  if (sent.length === 0) return { missing: 'no packet was sent' };
  return sent.filter((number) => (delays.get(number) ?? Number.POSITIVE_INFINITY) > LATE_MS).length;
}

/** Does the WiFi carry about the call's rate? */
async function carries(lab: Lab, direction: Direction): Promise<boolean> {
  const spanMs = 500;
  const nowMs = Number(process.hrtime.bigint()) / 1e6;
  const timeline = lab.links[0]!.timeline(direction, nowMs - spanMs, nowMs);
  const { bytes } = await within(timeline, START_MS, 'asking the emulator');
  return (bytes.reduce((sum, n) => sum + n, 0) * 8000) / spanMs >= CALL_BPS / 2;
}

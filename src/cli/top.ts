/**
 * `mptun top`: the paths as they are used now, with the rates of the last minute as curves. On a terminal one screen that is
 * drawn again; into a pipe one block per interval, without escape codes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, Option } from 'commander';

import type { PathStatus, StatusDocument, Totals } from '../control/protocol.js';
import { parseCount, parseSeconds } from './arguments.js';
import { formatRate, formatRtt, formatTable, type Style, styleFor } from './format.js';
import { controlClient, type TargetOptions, withTarget } from './socket.js';

/** Intervals in a curve. */
const CURVE_LENGTH = 30;
const BARS = '▁▂▃▄▅▆▇█';

interface TopOptions extends TargetOptions {
  readonly count?: number;
  readonly interval: number;
}

export function topCommand(): Command {
  return withTarget(new Command('top'))
    .description('watch the rates of each path, with curves')
    .addOption(new Option('-n, --count <n>', 'end after n intervals').argParser(parseCount))
    .addOption(new Option('--interval <seconds>', 'from 0.1 to 3600').argParser(parseSeconds).default(1))
    .addHelpText('after', '\nExample:\n  mptun top --interval 0.5\n  mptun top -n 10 > rates.txt')
    .action(async (name: string | undefined, options: TopOptions) => {
      const client = controlClient(name, options);
      const style = styleFor(process.stdout);
      const isScreen = process.stdout.isTTY === true && process.env.TERM !== 'dumb';
      const curves = new RateCurves();
      curves.add(await client.get<StatusDocument>('/v1/status'));
      for (let shown = 0; shown < (options.count ?? Number.POSITIVE_INFINITY); shown++) {
        await sleep(options.interval * 1000);
        const status = await client.get<StatusDocument>('/v1/status');
        curves.add(status);
        const lines = topLines(status, curves, style);
        // Home, each line cleared to its end, and the rest of the screen: no flicker.
        if (isScreen) process.stdout.write(`\x1b[H${lines.map((l) => `${l}\x1b[K`).join('\n')}\n\x1b[J`);
        else process.stdout.write(`${lines.join('\n')}\n\n`);
      }
    });
}

interface Curve {
  txBytes: number;
  rxBytes: number;
  readonly tx: number[];
  readonly rx: number[];
}

/** Rates between two looks, from the byte counters, so that they are those of the interval asked for. */
export class RateCurves {
  private readonly curves = new Map<string, Curve>();
  private lastMs = Number.NaN;

  add(status: StatusDocument): void {
    const nowMs = Date.parse(status.time);
    const elapsedS = (nowMs - this.lastMs) / 1000;
    this.lastMs = nowMs;
    this.note('', status.totals, elapsedS);
    for (const path of status.paths) this.note(path.name, path, elapsedS);
    for (const name of this.curves.keys()) {
      if (name !== '' && !status.paths.some((p) => p.name === name)) this.curves.delete(name);
    }
  }

  /** Rates of a path (or of the tunnel, ''), bit/s, oldest first. */
  of(name: string): { readonly tx: readonly number[]; readonly rx: readonly number[] } {
    return this.curves.get(name) ?? { tx: [], rx: [] };
  }

  private note(name: string, { tx_bytes: txBytes, rx_bytes: rxBytes }: Totals, elapsedS: number): void {
    const curve = this.curves.get(name);
    if (curve === undefined) {
      this.curves.set(name, { txBytes, rxBytes, tx: [], rx: [] });
      return;
    }
    if (elapsedS > 0) {
      // A subflow that ended took its counters with it.
      push(curve.tx, Math.max(0, ((txBytes - curve.txBytes) * 8) / elapsedS));
      push(curve.rx, Math.max(0, ((rxBytes - curve.rxBytes) * 8) / elapsedS));
    }
    curve.txBytes = txBytes;
    curve.rxBytes = rxBytes;
  }
}

export function topLines(status: StatusDocument, curves: RateCurves, style: Style): string[] {
  const isClient = status.mode === 'client';
  const [down, up] = isClient ? ['DOWN', 'UP'] : ['FROM', 'TO'];
  const peak = Math.max(
    1,
    ...['', ...status.paths.map((p) => p.name)].flatMap((n) => [...curves.of(n).rx, ...curves.of(n).tx]),
  );
  const head = ['PATH', 'STATE', 'RTT', down, '', up, '', ''];
  const row = (name: string, state: string, rtt: string, key: string, why: string) => {
    const { rx, tx } = curves.of(key);
    return [
      name,
      state,
      rtt,
      formatRate(rx.at(-1) ?? 0),
      sparkline(rx, peak),
      formatRate(tx.at(-1) ?? 0),
      sparkline(tx, peak),
      why,
    ];
  };
  const rows = [
    ...status.paths.map((p) => row(p.name, stateText(p), formatRtt(p.rtt_s), p.name, p.reason ?? '')),
    row('tunnel', status.state, '', '', ''),
  ];
  const ordered = status.traffic.mode_ordered ? ' (ordered)' : '';
  return [
    `${style.bold(status.name)}  ${status.time.slice(11, 19)}  ${status.state}, mode ${status.traffic.mode}${ordered}`,
    ...formatTable([head, ...rows], new Set([2, 3, 5])).map((line, i) => (i === 0 ? style.dim(line) : line)),
  ];
}

/** One bar per value, scaled to `peak`; a value above zero is never shown as nothing. */
export function sparkline(values: readonly number[], peak: number): string {
  const bars = values.map((v) =>
    v <= 0 ? ' ' : BARS[Math.min(BARS.length - 1, Math.floor((v / peak) * BARS.length))]!,
  );
  return bars.join('').padStart(CURVE_LENGTH);
}

function stateText(path: PathStatus): string {
  return path.order === null ? path.state : `${path.state} (ordered)`;
}

function push(values: number[], value: number): void {
  values.push(value);
  if (values.length > CURVE_LENGTH) values.shift();
}

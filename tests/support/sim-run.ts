/**
 * Runs scenarios for tests. Environment:
 *   MPTUN_SIM_SEED=n      replaces every scenario's seed
 *   MPTUN_SIM_PCAP=dir    writes a pcap of each run, as seen at the client's links
 *   MPTUN_SIM_EVENTS=1    prints the events of each run
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { EngineConfig } from '../../src/core/engine/config.js';
import { Engine } from '../../src/core/engine/engine.js';
import { PcapWriter } from '../../src/sim/pcap.js';
import { runScenario } from '../../src/sim/runner.js';
import { percentile, type Scenario, type ScenarioResult, violations } from '../../src/sim/scenario.js';

/** Bytes of each packet kept in a pcap. */
const PCAP_SNAP_BYTES = 160;

export function simulate(given: Scenario, config: Partial<EngineConfig> = {}): ScenarioResult {
  const { MPTUN_SIM_SEED: seed, MPTUN_SIM_PCAP: directory, MPTUN_SIM_EVENTS: showEvents } = process.env;
  const scenario = seed === undefined ? given : { ...given, seed: Number(seed) };
  const pcap = directory === undefined ? null : new PcapWriter(PCAP_SNAP_BYTES);
  try {
    const result = runScenario(
      scenario,
      (env) => new Engine(env, config),
      pcap === null ? null : (nowUs, host, _link, _isSent, p) => void (host.name === 'client' && pcap.add(nowUs, p)),
    );
    if (showEvents !== undefined) console.log(result.events.join('\n'));
    return result;
  } catch (cause) {
    throw new Error(`scenario "${scenario.name}", seed ${scenario.seed}: ${(cause as Error).message}`, { cause });
  } finally {
    if (pcap !== null && directory !== undefined) {
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, `${scenario.name.replace(/[^\w.+-]+/g, '_')}.pcap`), pcap.finish());
    }
  }
}

/** Runs a scenario and fails the test with everything needed to replay it if it breaks its budget. */
export function assertScenario(
  t: ExecutionContext,
  scenario: Scenario,
  config: Partial<EngineConfig> = {},
): ScenarioResult {
  const result = simulate(scenario, config);
  const broken = violations(result, scenario.budget);
  if (broken.length > 0) t.fail(report(t, result, broken));
  else t.pass();
  return result;
}

export function report(t: ExecutionContext, result: ScenarioResult, broken: readonly string[]): string {
  const replay = `MPTUN_SIM_SEED=${result.seed} npx ava --match='${t.title}'  (MPTUN_SIM_PCAP=dir writes a capture)`;
  return [
    `scenario "${result.scenario}", seed ${result.seed}:`,
    ...broken.map((line) => `  ${line}`),
    ...summary(result).map((line) => `  ${line}`),
    `  events: ${result.events.slice(-12).join('\n          ')}`,
    `  replay: ${replay}`,
  ].join('\n');
}

export function summary(result: ScenarioResult): string[] {
  const lines: string[] = [];
  for (const f of result.traffic) {
    lines.push(
      `${f.kind}: ${mbps(f.goodputBps)} Mbit/s, ${f.deliveredBytes} bytes, finished ${f.finishedUs} us, longest gap ${f.longestGapUs} us at ${f.longestGapAtUs},` +
        ` reinjected ${f.reinjectedBytes}, duplicate ${f.duplicateBytes}, retransmitted ${f.retransmittedBytes}, mptcp ${f.isMptcp}${f.fallbackReason === null ? '' : ` (${f.fallbackReason})`}${f.closedWhy === null ? '' : `, closed: ${f.closedWhy}`}`,
      ...f.subflows.map((line) => `  ${line}`),
    );
    if (f.responsesUs.length > 0)
      lines.push(
        `  responses ${f.responsesUs.length}: p50 ${percentile(f.responsesUs, 0.5)} p95 ${percentile(f.responsesUs, 0.95)} us`,
      );
  }
  for (const { name, up, down } of result.paths)
    for (const [way, d] of [
      ['up', up],
      ['down', down],
    ] as const) {
      const drops = Object.entries(d.drops).filter(([, n]) => n > 0);
      lines.push(
        `${name} ${way}: ${mbps(d.goodputBps)} Mbit/s, ${d.deliveredPackets} packets, queue at most ${d.maxQueuedBytes}, drops ${drops.map(([why, n]) => `${why} ${n}`).join(', ') || 'none'}`,
      );
    }
  return lines;
}

export function mbps(bps: number): string {
  return (bps / 1e6).toFixed(2);
}

/** Rows of equal length as aligned text, the first row being the heading. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  const line = (row: readonly (string | number)[]) =>
    row.map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i]!) : String(cell).padStart(widths[i]!))).join('  ');
  return [line(rows[0]!), widths.map((w) => '-'.repeat(w)).join('  '), ...rows.slice(1).map(line)].join('\n');
}

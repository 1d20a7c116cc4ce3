import type { Mutation } from './mutation.js';

/** The rules of docs/paths.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'P1',
    file: 'src/core/pathman/states.ts',
    find: "  ['blocked', 'retry', 'probing'],\n",
    replace: '',
  },
  {
    row: 'P2',
    file: 'src/core/pathman/path.ts',
    find: 'RETRY_MAX_US = 30_000_000',
    replace: 'RETRY_MAX_US = 300_000_000',
  },
  {
    row: 'P2',
    file: 'src/core/pathman/path.ts',
    find: '(1 - JITTER + 2 * JITTER * random)',
    replace: '1',
  },
  {
    row: 'P3',
    file: 'src/core/pathman/path.ts',
    find: 'BLOCKED_FIRST_US = 60_000_000',
    replace: 'BLOCKED_FIRST_US = 6_000_000',
  },
  {
    row: 'P4',
    file: 'src/core/pathman/facts.ts',
    find: "if (path.state === 'probing' && !path.hasSubflow) path.resetBackOff(nowUs);",
    replace: '',
  },
  {
    row: 'P5',
    file: 'src/core/mptcp/stall.ts',
    find: 'SLOW_AFTER_US: Micros = 30 * US_PER_S',
    replace: 'SLOW_AFTER_US: Micros = 300 * US_PER_S',
  },
  {
    row: 'P5',
    file: 'src/core/mptcp/stall.ts',
    find: 'PROBE_INTERVAL_US: Micros = 250 * US_PER_MS',
    replace: 'PROBE_INTERVAL_US: Micros = 1000 * US_PER_MS',
  },
  {
    row: 'P6',
    file: 'src/core/mptcp/path-health.ts',
    find: 'sf.tcp.setProbeInterval(probeIntervalUs(nowUs, nowUs));',
    replace: '',
  },
  {
    row: 'P7',
    file: 'src/core/engine/config.ts',
    find: 'keepaliveIdleUs: 55 * US_PER_S',
    replace: 'keepaliveIdleUs: 65 * US_PER_S',
  },
  {
    row: 'P8',
    file: 'src/core/mptcp/stall.ts',
    find: 'LOST_KEEPALIVES = 2',
    replace: 'LOST_KEEPALIVES = 8',
  },
  {
    row: 'P9',
    file: 'src/core/mptcp/stall.ts',
    find: 'SILENCE_FLOOR_US: Micros = 60 * US_PER_MS',
    replace: 'SILENCE_FLOOR_US: Micros = 160 * US_PER_MS',
  },
  {
    row: 'P9',
    file: 'src/core/mptcp/stall.ts',
    find: 'Math.max(2 * srttUs, srttUs +',
    replace: 'Math.max(3 * srttUs, srttUs +',
  },
  {
    row: 'P10',
    file: 'src/core/mptcp/silence.ts',
    find: 'SILENCE_US: Micros = 300 * US_PER_MS',
    replace: 'SILENCE_US: Micros = 900 * US_PER_MS',
  },
  {
    row: 'P11',
    file: 'src/core/mptcp/silence.ts',
    find: 'const ASKS = 3;',
    replace: 'const ASKS = 30;',
  },
  {
    row: 'P12',
    file: 'src/daemon/path-reports.ts',
    find: 'path.stopGrace ??= this.options.after(this.options.stallGraceMs, () => this.onLongStall(path, why));',
    replace: 'this.onLongStall(path, why);',
  },
  {
    row: 'P13',
    file: 'src/core/pathman/fading.ts',
    find: 'POOR_FOR_US = 500 * US_PER_MS',
    replace: 'POOR_FOR_US = 100 * US_PER_MS',
  },
  {
    row: 'P14',
    file: 'src/core/pathman/fading.ts',
    find: 'Math.min(2 * this.holdUs, MAX_HOLD_US)',
    replace: 'HOLD_US',
  },
  {
    row: 'P15',
    file: 'src/core/pathman/timing.ts',
    find: 'OVERLAP_US = 200_000',
    replace: 'OVERLAP_US = 0',
  },
  {
    row: 'P16',
    file: 'src/core/mptcp/leaving.ts',
    find: 'lateAtUs > nowUs ? bytesWithin(sf, elsewhereUs / SOONER) : 0',
    replace: '0',
  },
  {
    row: 'P17',
    file: 'src/core/mptcp/leaving.ts',
    find: 'const SOONER = 0.8;',
    replace: 'const SOONER = 0.01;',
  },
  {
    row: 'P18',
    file: 'src/core/pathman/lifecycle.ts',
    find: "    m.config.side === 'client' &&\n    m.table.anotherWorks(path)",
    replace: "    m.config.side === 'client'",
  },
  {
    row: 'P19',
    file: 'src/core/pathman/attempts.ts',
    find: 'if (table.working().length > 0) return held;',
    replace: 'return held;',
  },
  {
    row: 'P20',
    file: 'src/daemon/server-addresses.ts',
    find: 'FIRST_LOOK_MS = 5_000',
    replace: 'FIRST_LOOK_MS = 50_000',
  },
];

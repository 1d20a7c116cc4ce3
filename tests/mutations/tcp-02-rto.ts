import type { Mutation } from './mutation.js';

/** TCP 2. RTO (RFC 6298) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'O1',
    file: 'src/core/tcp/rtt.ts',
    find: 'this.rttVarUs = r / 2;',
    replace: 'this.rttVarUs = r;',
  },
  {
    row: 'O1',
    file: 'src/core/tcp/config.ts',
    find: 'initialRtoUs: US_PER_S,',
    replace: 'initialRtoUs: 3 * US_PER_S,',
  },
  {
    row: 'O2',
    file: 'src/core/tcp/rtt.ts',
    find: 'this.rttVarUs += change / (change > 0 ? 4',
    replace: 'this.rttVarUs += change / (change > 0 ? 8',
  },
  {
    row: 'O2',
    file: 'src/core/tcp/rtt.ts',
    find: '(r - this.srttUs) / (8 * n)',
    replace: '(r - this.srttUs) / (4 * n)',
  },
  {
    row: 'O3',
    file: 'src/core/tcp/rtt.ts',
    find: 'Math.max(this.minRtoUs, 4 * this.rttVarUs)',
    replace: '4 * this.rttVarUs',
  },
  {
    row: 'O3',
    file: 'src/core/tcp/rtt.ts',
    find: 'return Math.min(this.rtoUs * 2 ** Math.min(count, 30), this.maxRtoUs);',
    replace: 'return this.rtoUs * 2 ** count;',
  },
  {
    row: 'O4',
    file: 'src/core/tcp/ack-news.ts',
    find: 'if (rec.transmissions === 1) {',
    replace: 'if (rec.transmissions >= 1) {',
  },
  {
    row: 'O5',
    file: 'src/core/tcp/rtt.ts',
    find: 'this.rtoUs * 2 ** Math.min(count, 30)',
    replace: 'this.rtoUs',
  },
  {
    row: 'O5',
    file: 'src/core/tcp/loss-recovery.ts',
    find: 'if (pathProbe.isOn || board.isEmpty) return NEVER;',
    replace: 'if (pathProbe.isOn) return NEVER;',
  },
  {
    row: 'O6',
    file: 'src/core/tcp/rtt.ts',
    find: '3_000_000',
    replace: '1_000_000',
  },
  {
    row: 'O7',
    file: 'src/core/tcp/rtt.ts',
    find: '(change > 0 ? 4 : 4 * n)',
    replace: '4',
  },
  {
    row: 'O3',
    file: 'src/core/tcp/config.ts',
    find: '  minRtoUs: 200 * US_PER_MS,',
    replace: '  minRtoUs: 100 * US_PER_MS,',
  },
  {
    row: 'O3',
    file: 'src/core/tcp/config.ts',
    find: '  maxRtoUs: 60 * US_PER_S,',
    replace: '  maxRtoUs: 120 * US_PER_S,',
  },
];

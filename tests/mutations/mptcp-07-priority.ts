import type { Mutation } from './mutation.js';

/** MPTCP 7. Subflow policy, MP_PRIO in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'P1',
    file: 'src/core/scheduler/paths.ts',
    find: 'if (!path.isBackup && isEligible(path)) return false;',
    replace: 'if (!path.isBackup && isEligible(path) && path.availableBytes > 0) return false;',
  },
  {
    row: 'P2',
    file: 'src/core/mptcp/connection.ts',
    find: 'sf.isRemoteBackup = o.prioBackup;',
    replace: 'for (const other of this.subflows) other.isRemoteBackup = o.prioBackup;',
  },
  {
    row: 'P2',
    file: 'src/core/mptcp/connection.ts',
    find: 'sf.isBackupWanted = backup;',
    replace: 'sf.isBackupWanted = backup;\n    sf.isLocalBackup = backup;',
  },
  {
    row: 'P3',
    file: 'src/core/mptcp/connection.ts',
    find: 'sf.isRemoteBackup = o.prioBackup;',
    replace: '',
  },
  {
    row: ['P1', 'P3'],
    file: 'src/core/mptcp/subflow.ts',
    find: 'this.isRemoteBackup || this.isLocalBackup',
    replace: 'this.isLocalBackup',
  },
  {
    row: 'P3',
    file: 'src/core/mptcp/priority.ts',
    find: 'if (this.hasAsked) this.repeat(nowUs);',
    replace: 'if (this.hasAsked) this.wait(nowUs);',
  },
  {
    row: 'P3',
    file: 'src/core/tcp/segment-arrives.ts',
    find: 'ts.onEcho(seg.tsEcr);',
    replace: '',
  },
  {
    row: 'P4',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'if (length !== PRIO_BYTES) return 0;',
    replace: '',
  },
  {
    row: 'P5',
    file: 'src/core/scheduler/paths.ts',
    find: 'if (!path.isBackup && isEligible(path)) return false;',
    replace: 'if (!path.isBackup) return false;',
  },
  {
    row: 'P6',
    file: 'src/core/congestion/lia.ts',
    find: 'Math.min(alpha(coupling) / coupling.totalBytes, 1 / this.cwnd)',
    replace: '1 / this.cwnd',
  },
  {
    row: 'P5',
    file: 'src/core/mptcp/path-health.ts',
    find: 'if (hasRecovered(sf)) this.recover(nowUs, sf);',
    replace: '',
  },
];

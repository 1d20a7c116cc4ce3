import type { Mutation } from './mutation.js';

/** MPTCP 10. MP_FASTCLOSE, MP_TCPRST in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'C1',
    file: 'src/core/mptcp/fast-close.ts',
    find: 'if (other !== sf) other.tcp.abort(nowUs, true);',
    replace: 'if (other === null) other.tcp.abort(nowUs, true);',
  },
  {
    row: 'C5',
    file: 'src/core/mptcp/fast-close.ts',
    find: 'const FASTCLOSE_TRIES = 4;',
    replace: 'const FASTCLOSE_TRIES = 1;',
  },
  {
    row: 'C2',
    file: 'src/core/mptcp/options-out.ts',
    find: 'if (c.isAborting && c.keys.remote !== null && room() >= FASTCLOSE_BYTES) {',
    replace: 'if (c.id < 0) {',
  },
  {
    row: 'C3',
    file: 'src/core/mptcp/closing.ts',
    find: 'if (sf !== reset) sf.tcp.abort(nowUs, true);',
    replace: 'if (sf === reset) sf.tcp.abort(nowUs, true);',
  },
  {
    row: 'C4',
    file: 'src/core/mptcp/closing.ts',
    find: 'if (!c.keys.isFastcloseKey(keyHi, keyLo) || this.isDone) return;',
    replace: 'if (this.isDone) return;',
  },
  {
    row: 'C6',
    file: 'src/core/engine/strays.ts',
    find: 'else if (kind !== TCP_ACK || !this.completeHandshake(nowUs, linkId)) this.reset(nowUs, linkId, -1);',
    replace: 'else if (kind === TCP_ACK) this.completeHandshake(nowUs, linkId);',
  },
  {
    row: 'C7',
    file: 'src/core/mptcp/key-pair.ts',
    find: 'return keyU64(this.fastcloseRemote);',
    replace: 'return keyU64(this.fastcloseLocal);',
  },
  {
    row: 'C8',
    file: 'src/core/mptcp/options-in.ts',
    find: '(o.tcprstFlags & TCPRST_T_TRANSIENT) !== 0',
    replace: 'o.tcprstFlags !== 0',
  },
  {
    row: 'C8',
    file: 'src/core/mptcp/options-in.ts',
    find: 'if ((seg.flags & TCP_RST) !== 0) return this.onResetOptions(nowUs, seg);',
    replace:
      'if ((seg.flags & TCP_RST) !== 0 || (seg.mptcp.present & MPO.tcprst) !== 0) return this.onResetOptions(nowUs, seg);',
  },
  {
    row: 'C8',
    file: 'src/core/mptcp/options-in.ts',
    find: "c.host.count(REASON_COUNTERS[o.tcprstReason] ?? 'rst_rx_reason_unknown');",
    replace: '',
  },
  {
    row: 'C9',
    file: 'src/core/mptcp/closing.ts',
    find: "(why === 'reset' || why === 'refused') && !sf.isResetTransient",
    replace: "why === 'refused'",
  },
  {
    row: 'C10',
    file: 'src/core/mptcp/options-out.ts',
    find: 'if (sf.resetReason >= 0 && room() >= TCPRST_BYTES) {',
    replace: 'if (sf.resetReason >= 0 && room() < 0) {',
  },
  {
    row: 'C11',
    file: 'src/core/mptcp/options-in.ts',
    find: 'if ((o.present & MPO.fastclose) !== 0) c.closing.onFastclose(',
    replace: 'if (o.present === MPO.fastclose) c.closing.onFastclose(',
  },
  {
    row: 'C2',
    file: 'src/core/mptcp/connection.ts',
    find: '    this.isAborting = true;\n',
    replace: '',
  },
  {
    row: 'C4',
    file: 'src/core/mptcp/key-pair.ts',
    find: 'return equalConstantTime(keyBytes(hi, lo), this.fastcloseLocal, KEY_BYTES);',
    replace: 'return true;',
  },
  {
    row: 'C6',
    file: 'src/core/mptcp/fast-close.ts',
    find: 'this.waiting?.tcp.abort(nowUs, true);',
    replace: "return 'drop';",
  },
  {
    row: 'C9',
    file: 'src/core/pathman/path.ts',
    find: 'const first = isRefused ? BLOCKED_FIRST_US : RETRY_FIRST_US;',
    replace: 'const first = RETRY_FIRST_US;',
  },
  {
    row: 'C11',
    file: 'src/core/engine/strays.ts',
    find: 'if (listener === undefined) this.reset(nowUs, linkId, -1);',
    replace: 'if (listener === undefined) this.reset(nowUs, linkId, RST_REASON.unspecified);',
  },
];

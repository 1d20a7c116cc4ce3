import type { Mutation } from './mutation.js';

/** MPTCP 11. MP_FAIL, infinite mapping, fallback in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  { row: 'B1', file: 'src/core/mptcp/fallback.ts', find: '      sf.failDsn = m.dsn;\n', replace: '      \n' },
  { row: 'B2', file: 'src/core/mptcp/fallback.ts', find: 'c.dataRto.recover(nowUs);', replace: 'void nowUs;' },
  {
    row: 'B3',
    file: 'src/core/mptcp/fallback.ts',
    find: '      this.signalFail(nowUs, sf, m.dsn);\n',
    replace: '      \n',
  },
  { row: 'B3', file: 'src/core/mptcp/fallback.ts', find: '      dsn: dsn - back,', replace: '      dsn,' },
  {
    row: 'B4',
    file: 'src/core/mptcp/fallback.ts',
    find: '    this.signalFail(nowUs, sf, c.receiver.rcvNxt);\n',
    replace: '    \n',
  },
  { row: 'B5', file: 'src/core/mptcp/fallback.ts', find: 'c.hasJoined || m.dsn !== m.ssn', replace: 'c.hasJoined' },
  {
    row: 'B6',
    file: 'src/core/mptcp/subflow.ts',
    find: "if (c.mode === 'tcp' || c.fallback.isUnderWay) {",
    replace: 'if (c.fallback.isUnderWay) {',
  },
  {
    row: 'B7',
    file: 'src/core/mptcp/subflow.ts',
    find: "if (c.mode !== 'mptcp' && mapping?.dll !== 0 && (c.mode === 'tcp' || mapping === null))",
    replace: "if (c.mode !== 'mptcp' && mapping !== null && mapping.dll !== 0)",
  },
  {
    row: 'B8',
    file: 'src/core/mptcp/fallback.ts',
    find: "if (sf.role === 'join') c.resetSubflow",
    replace: 'if (false) c.resetSubflow',
  },
  {
    row: 'B9',
    file: 'src/core/mptcp/handshake.ts',
    find: "    c.fallback.becomeTcp(nowUs, 'no acceptable MP_CAPABLE in the SYN/ACK');\n",
    replace: "    c.mode = 'mptcp';\n",
  },
  {
    row: 'B10',
    file: 'src/core/mptcp/options-in.ts',
    find: 'else if (isAckStripped && !this.isPeerSure) fallback',
    replace: 'else if (false) fallback',
  },
  {
    row: 'B11',
    file: 'src/core/mptcp/fallback.ts',
    find: '    if (!this.isUnderWay) this.planInfiniteMapping();\n',
    replace: '\n',
  },
  {
    row: 'B12',
    file: 'src/core/mptcp/options-in.ts',
    find: "sf.role === 'join' && (isDataStripped || isAckStripped)",
    replace: "sf.role === 'join' && isDataStripped",
  },
  {
    row: 'B13',
    file: 'src/core/mptcp/inbound-data.ts',
    find: 'if (this.mappings.hold(seq, buf, offset, lengthBytes, limitBytes)) return true;',
    replace: 'this.mappings.hold(seq, buf, offset, lengthBytes, limitBytes);\n    if (limitBytes >= 0) return true;',
  },
  {
    row: 'B13',
    file: 'src/core/mptcp/options-in.ts',
    find: 'if (lacksDataAck || this.isUnmapped(seg)) this.bareSegments++;',
    replace: 'if (lacksDataAck) this.bareAcks = 0;',
  },
  {
    row: 'B14',
    file: 'src/core/mptcp/options-in.ts',
    find: 'else if (isDataStripped) fallback',
    replace: 'else if (false) fallback',
  },
  {
    row: 'B15',
    file: 'src/core/mptcp/fallback.ts',
    find: 'if (ssn === dsn) sf.receiveAsStream(nowUs, 0, 0);',
    replace: 'if (false) sf.receiveAsStream(nowUs, 0, 0);',
  },
  {
    row: 'B16',
    file: 'src/core/mptcp/options-in.ts',
    find: 'const isDoubtful = this.isOurDataConfirmed &&',
    replace: 'const isDoubtful = false &&',
  },
  {
    row: 'B16',
    file: 'src/core/mptcp/closing.ts',
    find: '!(s.isFinReady || s.finAcked)',
    replace: '!s.isFinReady',
  },
  {
    row: 'B14',
    file: 'src/core/mptcp/fallback.ts',
    find: 'this.signalFail(nowUs, sf, this.c.receiver.rcvNxt);',
    replace: '',
  },
  {
    row: 'B15',
    file: 'src/core/mptcp/options-in.ts',
    find: "(o.present & MPO.dss) === 0 ? 'continue' : this.onDssAfterFallback(seg);",
    replace: "'continue';",
  },
  {
    row: 'B13',
    file: 'src/core/mptcp/subflow.ts',
    find: 'return this.in.bareSegments > 0;',
    replace: 'return this.in.bareSegments > 1;',
  },
  {
    row: 'B4',
    file: 'src/core/mptcp/closing.ts',
    find: 's.finTries === MAX_FIN_TRIES_UNDER_WAY',
    replace: 'false',
  },
];

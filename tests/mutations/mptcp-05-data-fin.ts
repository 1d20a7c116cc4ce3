import type { Mutation } from './mutation.js';

/** MPTCP 5. DATA_FIN and closing in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'F1',
    file: 'src/core/mptcp/options-in.ts',
    find: 'const lengthBytes = dll - (dataFin ? 1 : 0);',
    replace: 'const lengthBytes = dll;',
  },
  {
    row: 'F2',
    file: 'src/core/mptcp/options-out.ts',
    find: '0,\n        1,\n        checksum,',
    replace: 'sf.tcp.sndNxt,\n        1,\n        checksum,',
  },
  {
    row: 'F2',
    file: 'src/core/mptcp/options-in.ts',
    find: 'if (expected !== checksum) {',
    replace: 'if (false) {',
  },
  {
    row: 'F2',
    file: 'src/core/mptcp/options-in.ts',
    find: 'const isVerifiedLater = c.keys.checksums',
    replace: 'const isVerifiedLater = false',
  },
  {
    row: 'F3',
    file: 'src/core/mptcp/receiver.ts',
    find: '|| this.rcvNxt !== this.finDsn) return false',
    replace: ') return false',
  },
  {
    row: 'F4',
    file: 'src/core/mptcp/closing.ts',
    find: ' && c.sender.unackedBytes > 0;',
    replace: ' && false;',
  },
  {
    row: 'F5',
    file: 'src/core/mptcp/closing.ts',
    find: 'for (const sf of c.subflows) this.endForGood(nowUs, sf, isHeard);',
    replace: '',
  },
  {
    row: 'F6',
    file: 'src/core/mptcp/closing.ts',
    find: '      sf.tcp.setProbeInterval(0);\n',
    replace: '',
  },
  {
    row: 'F7',
    file: 'src/core/mptcp/closing.ts',
    find: 'sf.isStalled && sf.tcp.oldestUnackedSentUs !== NEVER',
    replace: 'false',
  },
  {
    row: 'F7',
    file: 'src/core/mptcp/closing.ts',
    find: 'isHeard && sf.isStalled',
    replace: 'sf.isStalled',
  },
  {
    row: 'F8',
    file: 'src/core/mptcp/closing.ts',
    find: '!c.receiver.isFinished || ',
    replace: '',
  },
  {
    row: 'F8',
    file: 'src/core/mptcp/closing.ts',
    find: '!c.sender.finAcked || ',
    replace: '',
  },
  {
    row: 'F9',
    file: 'src/core/mptcp/closing.ts',
    find: 'nowUs + ORPHAN_TIMEOUT_US',
    replace: 'nowUs',
  },
  {
    row: 'F10',
    file: 'src/core/mptcp/closing.ts',
    find: 'this.c.receiver.setFin(finDsn);',
    replace: 'this.c.receiver.setFin(finDsn);\n    this.c.end(nowUs);',
  },
  {
    row: 'F11',
    file: 'src/core/mptcp/sender.ts',
    find: 'this.finAtUs = nowUs + backoff;',
    replace: 'this.finAtUs = NEVER;',
  },
  {
    row: 'F11',
    file: 'src/core/mptcp/closing.ts',
    find: 'if (s.finTries === MAX_FIN_TRIES) this.giveUpDataFin(nowUs);',
    replace: '',
  },
  {
    row: 'F12',
    file: 'src/core/mptcp/closing.ts',
    find: 'sf.tcp.requestAck(nowUs);\n    this.closeIfDone(nowUs);',
    replace: 'this.closeIfDone(nowUs);',
  },
  {
    row: 'F12',
    file: 'src/core/mptcp/closing.ts',
    find: '      sent = true;',
    replace: '      sent = true;\n      break;',
  },
  {
    row: 'F13',
    file: 'src/core/tcp/closing.ts',
    find: 'this.#timeWaitUntilUs = nowUs + this.tcb.config.timeWaitUs;',
    replace: 'this.#timeWaitUntilUs = nowUs;',
  },
];

import type { Mutation } from './mutation.js';

/** TCP 9. Coupled congestion control in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'L1',
    file: 'src/core/congestion/lia.ts',
    find: 'Math.min(alpha(coupling) / coupling.totalBytes, 1 / this.cwnd)',
    replace: 'alpha(coupling) / coupling.totalBytes',
  },
  {
    row: 'L1',
    file: 'src/core/congestion/coupled.ts',
    find: 'sample.deliveredBytes * this.mssBytes * this.increasePerByte',
    replace: 'this.mssBytes * this.mssBytes * this.increasePerByte',
  },
  {
    row: 'L2',
    file: 'src/core/congestion/lia.ts',
    find: '(coupling.totalBytes * coupling.maxWeight)',
    replace: '(coupling.totalBytes * coupling.maxRate)',
  },
  {
    row: 'L2',
    file: 'src/core/congestion/coupled.ts',
    find: 'return this.#isCwndLimited ? this.cwnd : Math.min(this.cwnd, this.#flightBytes);',
    replace: 'return this.cwnd;',
  },
  {
    row: 'L3',
    file: 'src/core/congestion/coupled.ts',
    find: "return kind === 'ecn' ? BETA_ECN : BETA_LOSS;",
    replace: "return kind === 'ecn' ? BETA_ECN : BETA_ECN;",
  },
  {
    row: 'L4',
    file: 'src/core/congestion/coupled.ts',
    find: 'this.rttUs = sample.srttUs;',
    replace: 'this.rttUs = sample.rttUs;',
  },
  {
    row: 'L5',
    file: 'src/core/congestion/lia.ts',
    find: 'coupling.totalBytes > 0 ?',
    replace: 'coupling.totalBytes < 0 ?',
  },
  {
    row: 'L6',
    file: 'src/core/congestion/olia.ts',
    find: '(rttUs * rttUs) / (coupling.sumRate * coupling.sumRate)',
    replace: '(rttUs * rttUs) / coupling.sumRate',
  },
  {
    row: 'L6',
    file: 'src/core/congestion/coupled.ts',
    find: 'if (grownBytes < 0) this.ssthresh = Math.min(this.ssthresh, this.cwnd);',
    replace: '',
  },
  {
    row: 'L7',
    file: 'src/core/congestion/olia.ts',
    find: 'return (lossIntervalBytes * lossIntervalBytes) / rttUs;',
    replace: 'return lossIntervalBytes / (0 * rttUs + 1);',
  },
  {
    row: 'L7',
    file: 'src/core/congestion/olia.ts',
    find: 'if (flow.windowBytes >= TIE * maxWindow) return -1 / (paths * maxed);',
    replace: '',
  },
  {
    row: 'L7',
    file: 'src/core/congestion/coupled.ts',
    find: 'return Math.max(this.#beforeLossBytes, this.#sinceLossBytes);',
    replace: 'return this.#sinceLossBytes;',
  },
  {
    row: 'L8',
    file: 'src/core/congestion/balia.ts',
    find: '* (1 + a) * (4 + a)) / 10',
    replace: '* 10) / 10',
  },
  {
    row: 'L8',
    file: 'src/core/congestion/balia.ts',
    find: 'return 1 - Math.min(this.#alpha(), MAX_DECREASE) / 2;',
    replace: 'return 1 - Math.min(1, MAX_DECREASE) / 2;',
  },
  {
    row: 'L9',
    file: 'src/core/congestion/coupling.ts',
    find: 'nowUs - flow.lastAckUs <= Math.max(QUIET_US, QUIET_RTTS * flow.rttUs)',
    replace: 'nowUs >= 0',
  },
  {
    row: 'L9',
    file: 'src/core/mptcp/closing.ts',
    find: '    c.coupling.leave(sf.tcp.cc);\n',
    replace: '',
  },
  {
    row: 'L10',
    file: 'src/core/congestion/index.ts',
    find: 'reno: Reno.create,',
    replace: 'reno: Lia.create,',
  },
  {
    row: 'L2',
    file: 'src/core/congestion/coupling.ts',
    find: 'this.maxWeight = Math.max(this.maxWeight, rate / rttUs);',
    replace: 'this.maxWeight = Math.max(this.maxWeight, rate);',
  },
  {
    row: 'L3',
    file: 'src/core/congestion/loss-based.ts',
    find: '    this.cwnd = this.mssBytes; // RFC 5681 §3.1: the loss window is one segment\n',
    replace: '',
  },
];

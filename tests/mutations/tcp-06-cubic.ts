import type { Mutation } from './mutation.js';

/** TCP 6. CUBIC (RFC 9438) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'Q1',
    file: 'src/core/congestion/cubic.ts',
    find: 'const C_SEGMENTS_PER_S3 = 0.4;',
    replace: 'const C_SEGMENTS_PER_S3 = 0.2;',
  },
  {
    row: 'Q2',
    file: 'src/core/congestion/cubic.ts',
    find: 'const MAX_TARGET = 1.5;',
    replace: 'const MAX_TARGET = 15;',
  },
  {
    row: 'Q3',
    file: 'src/core/congestion/cubic.ts',
    find: '(this.#wEstBytes >= this.#cwndPriorBytes ? 1 : ALPHA)',
    replace: '1',
  },
  {
    row: 'Q3',
    file: 'src/core/congestion/cubic.ts',
    find: 'if (this.#wCubicBytes(tS) < this.#wEstBytes)',
    replace: 'if (false as boolean)',
  },
  {
    row: 'Q4',
    file: 'src/core/congestion/cubic.ts',
    find: 'const BETA_LOSS = 0.7;',
    replace: 'const BETA_LOSS = 0.5;',
  },
  {
    row: 'Q4',
    file: 'src/core/congestion/loss-based.ts',
    find: 'const basis = this.#wasCwndLimited ? this.cwnd : Math.min(this.cwnd, inFlightBytes);',
    replace: 'const basis = this.cwnd + 0 * inFlightBytes;',
  },
  {
    row: 'Q5',
    file: 'src/core/congestion/cubic.ts',
    find: 'this.cwnd < this.#wMaxBytes ? (this.cwnd * (1 + BETA_LOSS)) / 2 : this.cwnd',
    replace: 'this.cwnd',
  },
  {
    row: 'Q6',
    file: 'src/core/congestion/cubic.ts',
    find: '    this.#wMaxBytes = 0;\n',
    replace: '',
  },
  {
    row: 'Q7',
    file: 'src/core/congestion/cubic.ts',
    find: '    this.#wMaxBytes = before.wMaxBytes;\n',
    replace: '',
  },
  {
    row: 'Q7',
    file: 'src/core/congestion/cubic.ts',
    find: 'this.#epochStartUs += nowUs - this.#lastAckUs;',
    replace: 'this.#epochStartUs += 0 * this.#lastAckUs;',
  },
  {
    row: 'Q8',
    file: 'src/core/congestion/hystart.ts',
    find: 'this.inCss ? ackedBytes / CSS_GROWTH_DIVISOR : ackedBytes',
    replace: 'ackedBytes',
  },
  {
    row: 'Q8',
    file: 'src/core/congestion/hystart.ts',
    find: 'if (this.inCss && --this.#cssRoundsLeft === 0) return true;',
    replace: '',
  },
  {
    row: 'Q8',
    file: 'src/core/congestion/hystart.ts',
    find: 'if (this.#currentRoundMinRttUs < this.#cssBaselineMinRttUs) this.#cssRoundsLeft = 0;',
    replace: '',
  },
  {
    row: 'Q8',
    file: 'src/core/congestion/loss-based.ts',
    find: 'const isFirst = this.ssthresh === this.#firstSsthresh;',
    replace: 'const isFirst = true;',
  },
  {
    row: 'Q6',
    file: 'src/core/congestion/loss-based.ts',
    find: '    this.cwnd = this.mssBytes; // RFC 5681 §3.1: the loss window is one segment\n',
    replace: '',
  },
];

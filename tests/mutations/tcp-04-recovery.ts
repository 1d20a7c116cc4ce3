import type { Mutation } from './mutation.js';

/** TCP 4. SACK and loss recovery (RFC 2018, 2883, 6675, 5681, 6582, 3042, 6937/9937) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'K1',
    file: 'src/core/tcp/receiver.ts',
    find: 'recent.unshift(seq);',
    replace: 'recent.push(seq);',
  },
  {
    row: 'K1',
    file: 'src/core/tcp/handshake.ts',
    find: 'n.offerSack &&= seg.sackPermitted;',
    replace: '',
  },
  {
    row: 'K2',
    file: 'src/core/tcp/loss-recovery.ts',
    find: 'if (board.head !== null && board.head.status === SACKED) board.renege();',
    replace: '',
  },
  {
    row: 'K3',
    file: 'src/core/tcp/receiver.ts',
    find: 'if (this.#dsackEnd >= 0 && n < limit) {',
    replace: 'if (this.#dsackEnd >= 0 && n < 0) {',
  },
  {
    row: 'K4',
    file: 'src/core/tcp/rack.ts',
    find: '(inRecovery || board.sackedBytes >= DUP_THRESH * mssBytes)',
    replace: 'inRecovery',
  },
  {
    row: 'K5',
    file: 'src/core/tcp/loss-recovery.ts',
    find: 'const room = isReducing ? this.#prr.quotaBytes : cc.cwndBytes - inFlight;',
    replace: 'const room = cc.cwndBytes;',
  },
  {
    row: 'K5',
    file: 'src/core/tcp/loss-recovery.ts',
    find: `    if (this.phase === 'open') {
      if (this.lostBytes > 0) {`,
    replace: `    if (this.phase === 'open' || news.hasSack) {
      if (this.lostBytes > 0 || this.phase !== 'open') {`,
  },
  {
    row: 'K6',
    file: 'src/core/tcp/loss-recovery.ts',
    find: 'if (this.usesSack) return board.inFlightBytes;',
    replace: 'if (this.usesSack) return board.inFlightBytes + board.sackedBytes;',
  },
  {
    row: 'K7',
    file: 'src/core/congestion/reno.ts',
    find: 'const BETA_LOSS = 0.5;',
    replace: 'const BETA_LOSS = 0.7;',
  },
  {
    row: 'K7',
    file: 'src/core/congestion/loss-based.ts',
    find: 'Math.max(Math.floor(basis * factor), MIN_SSTHRESH_SEGMENTS * this.mssBytes)',
    replace: 'Math.floor(basis * factor)',
  },
  {
    row: 'K8',
    file: 'src/core/tcp/initial-window.ts',
    find: 'Math.max(2 * mssBytes, segments * USUAL_MSS_BYTES)',
    replace: 'Number.POSITIVE_INFINITY',
  },
  {
    row: 'K8',
    file: 'src/core/tcp/initial-window.ts',
    find: 'if (synRetransmits > 1) return mssBytes;',
    replace: '',
  },
  {
    row: 'K9',
    file: 'src/core/congestion/loss-based.ts',
    find: 'if (!sample.isCwndLimited) return; // RFC 7661: an unused window is not validated',
    replace: '',
  },
  {
    row: 'K9',
    file: 'src/core/tcp/window-usage.ts',
    find: 'const isLimited = cwndBytes - inFlightBytes < mssBytes;',
    replace: 'const isLimited = true;',
  },
  {
    row: 'K10',
    file: 'src/core/tcp/transmitter.ts',
    find: 'cc.onIdleRestart(nowUs, idleUs, rtt.rtoUs);',
    replace: '',
  },
  {
    row: 'K11',
    file: 'src/core/tcp/prr.ts',
    find: 'quota = Math.ceil((this.#deliveredBytes * ssthreshBytes) / this.#recoverFlightBytes) - this.#outBytes;',
    replace: 'quota = mssBytes;',
  },
  {
    row: 'K11',
    file: 'src/core/tcp/prr.ts',
    find: 'if (isSafe) limit = Math.max(limit, deliveredBytes) + mssBytes;',
    replace: '',
  },
  {
    row: 'K12',
    file: 'src/core/tcp/loss-recovery.ts',
    find: "const isPartial = this.phase === 'recovery' && advanced && space.sndUna < this.#recoveryPoint;",
    replace: 'const isPartial = false;',
  },
  {
    row: 'K12',
    file: 'src/core/tcp/loss-recovery.ts',
    find: 'this.#newRenoDeliveredBytes = mssBytes;',
    replace: '',
  },
  {
    row: 'K13',
    file: 'src/core/tcp/undo.ts',
    find: 'const isEarlier = tsEcr >= 0 && isTsBefore(tsEcr, this.#eifelTs);',
    replace: 'const isEarlier = false;',
  },
  {
    row: 'K13',
    file: 'src/core/tcp/undo.ts',
    find: 'if (isRto && this.#isFrtoArmed && this.#originalArrived) return true;',
    replace: '',
  },
  {
    row: 'K13',
    file: 'src/core/tcp/undo.ts',
    find: 'return this.#retransmittedBytes <= 0;',
    replace: 'return false;',
  },
  {
    row: 'K2',
    file: 'src/core/tcp/scoreboard.ts',
    find: '      rec.status = IN_FLIGHT;\n      this.#account(IN_FLIGHT, rec.endSeq - rec.seq);\n      this.#byTime.insertAfter(rec, null);\n      this.markLost(rec);\n',
    replace:
      '      rec.status = IN_FLIGHT;\n      this.#account(IN_FLIGHT, rec.endSeq - rec.seq);\n      this.#byTime.insertAfter(rec, null);\n',
  },
  {
    row: 'K4',
    file: 'src/core/tcp/loss-recovery.ts',
    find: '      this.#dupAcks++;\n',
    replace: '',
  },
];

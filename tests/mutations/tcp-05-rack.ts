import type { Mutation } from './mutation.js';

/** TCP 5. RACK-TLP (RFC 8985) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'R1',
    file: 'src/core/tcp/rack.ts',
    find: 'aUs > bUs || (aUs === bUs && aEnd > bEnd)',
    replace: 'aUs > bUs',
  },
  {
    row: 'R2',
    file: 'src/core/tcp/rack.ts',
    find: '(echoIsOlder || rttUs < rtt.minRttUs)',
    replace: 'echoIsOlder',
  },
  {
    row: 'R2',
    file: 'src/core/tcp/rack.ts',
    find: '(echoIsOlder || rttUs < rtt.minRttUs)',
    replace: 'rttUs < rtt.minRttUs',
  },
  {
    row: 'R3',
    file: 'src/core/tcp/rack.ts',
    find: 'Math.min((this.#reoWndMult * rtt.minRttUs) / 4, rtt.srttUs)',
    replace: 'rtt.minRttUs / 4',
  },
  {
    row: 'R3',
    file: 'src/core/tcp/loss-recovery.ts',
    find: 'this.#rack.onRecoveryExit();',
    replace: "if (this.phase === 'recovery') this.#rack.onRecoveryExit();",
  },
  {
    row: 'R3',
    file: 'src/core/tcp/rack.ts',
    find: 'this.reorderingSeen = true;',
    replace: 'this.reorderingSeen = false;',
  },
  {
    row: 'R4',
    file: 'src/core/tcp/rack.ts',
    find: 'if (lostAtUs <= nowUs) lose(rec);',
    replace: 'if (lostAtUs > 0) lose(rec);',
  },
  {
    row: 'R4',
    file: 'src/core/tcp/loss-recovery.ts',
    find: 'if (nowUs >= this.#rack.deadlineUs) this.#onReorderingTimer(nowUs);',
    replace: '',
  },
  {
    row: 'R5',
    file: 'src/core/tcp/rack.ts',
    find: 'const lostAtUs = rec.sentUs + this.rttUs + reoWndUs;',
    replace: 'const lostAtUs = rec.transmissions > 1 ? NEVER : rec.sentUs + this.rttUs + reoWndUs;',
  },
  {
    row: 'R6',
    file: 'src/core/tcp/rack.ts',
    find: 'rec !== null && rec.sentUs + this.rttUs + reoWndUs <= nowUs',
    replace: 'rec !== null',
  },
  {
    row: 'R7',
    file: 'src/core/tcp/loss-probe.ts',
    find: '2 * rtt.srttUs + (isSingleSegment ? MAX_ACK_DELAY_US : 0)',
    replace: '2 * rtt.srttUs',
  },
  {
    row: 'R7',
    file: 'src/core/tcp/loss-probe.ts',
    find: 'rtt.samples > this.#samplesAtProbe',
    replace: 'rtt.samples > 0',
  },
  {
    row: 'R7',
    file: 'src/core/tcp/loss-recovery.ts',
    find: 'const isWatched = this.usesSack &&',
    replace: 'const isWatched =',
  },
  {
    row: 'R8',
    file: 'src/core/tcp/probes.ts',
    find: 'const canSendNew = !space.finQueued && sf.canSendData && space.windowRoomBytes >= mss.bytes;',
    replace: 'const canSendNew = false;',
  },
  {
    row: 'R8',
    file: 'src/core/tcp/probes.ts',
    find: 'const last = board.tail;',
    replace: 'const last = board.head;',
  },
  {
    row: 'R9',
    file: 'src/core/tcp/loss-probe.ts',
    find: 'const repaired = this.#isRetransmission && dsackEnd !== this.endSeq && ackSeq > this.endSeq;',
    replace: 'const repaired = false;',
  },
  {
    row: 'R5',
    file: 'src/core/tcp/scoreboard.ts',
    find: '    rec.sentUs = nowUs;\n    rec.transmissions++;\n',
    replace: '    rec.transmissions++;\n',
  },
];

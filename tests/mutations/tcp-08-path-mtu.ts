import type { Mutation } from './mutation.js';

/** TCP 8. Path MTU (RFC 1191, 8201, 4821, 8899) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'U1',
    file: 'src/core/tcp/pmtu.ts',
    find: 'if (mtu < this.#provenBytes) {',
    replace: 'if (mtu < 0) {',
  },
  {
    row: 'U1',
    file: 'src/core/tcp/pmtu.ts',
    find: 'if (sndUna > this.#pendingSeq) this.#pendingBytes = 0;',
    replace: '',
  },
  {
    row: 'U1',
    file: 'src/core/tcp/pmtu.ts',
    find: 'reportedBytes > 0 ? reportedBytes : this.#plateauBelow(sentBytes)',
    replace: 'reportedBytes > 0 ? reportedBytes : sentBytes',
  },
  {
    row: 'U1',
    file: 'src/core/tcp/subflow.ts',
    find: 'seq < sndUna || seq >= sndNxt',
    replace: 'seq < -1',
  },
  {
    row: 'U1',
    file: 'src/core/wire/ip.ts',
    find: 'const V4_DONT_FRAGMENT = 0x4000;',
    replace: 'const V4_DONT_FRAGMENT = 0;',
  },
  {
    row: 'U2',
    file: 'src/core/tcp/pmtu.ts',
    find: 'this.#plateauBelow(sentBytes), this.#leastBytes());',
    replace: 'this.#plateauBelow(sentBytes), 0);',
  },
  {
    row: 'U3',
    file: 'src/core/tcp/pmtu.ts',
    find: 'const RAISE_AFTER_US = 600 * US_PER_S;',
    replace: 'const RAISE_AFTER_US = 60 * US_PER_S;',
  },
  {
    row: 'U3',
    file: 'src/core/tcp/pmtu.ts',
    find: 'if (nowUs < this.#raiseAtUs) return false;',
    replace: 'return false;',
  },
  {
    row: 'U4',
    file: 'src/core/tcp/pmtu.ts',
    find: '++this.#fullSizeRtos < SUSPECT_AFTER_RTOS',
    replace: '++this.#fullSizeRtos > 0',
  },
  {
    row: 'U4',
    file: 'src/core/tcp/transmitter.ts',
    find: 'if (this.ctx.pmtu.isSearching && this.#sendMtuProbe(nowUs, sink, Math.min(cwndRoom, window))) return true;',
    replace: '',
  },
  {
    row: 'U4',
    file: 'src/core/tcp/pmtu.ts',
    find: 'if (this.#highBytes - this.mtuBytes < CONVERGED_BYTES) this.stopSearch(nowUs);',
    replace: '',
  },
  {
    row: 'U4',
    file: 'src/core/tcp/probes.ts',
    find: 'if (pmtu.onRto(nowUs, head.lengthBytes >= mss.bytes)) mss.refresh();',
    replace: '',
  },
  {
    row: 'U5',
    file: 'src/core/tcp/loss-recovery.ts',
    find: 'else this.lostBytes += rec.endSeq - rec.seq;',
    replace: 'this.lostBytes += rec.endSeq - rec.seq;',
  },
  {
    row: 'U5',
    file: 'src/core/tcp/scoreboard.ts',
    find: 'rest.tag = rec.tag;',
    replace: 'rest.tag = null;',
  },
  {
    row: 'U5',
    file: 'src/core/tcp/pmtu.ts',
    find: "if (how === 'amid') return;",
    replace: '',
  },
  {
    row: 'U6',
    file: 'src/core/tcp/sender.ts',
    find: 'new PathMtu(config.mtuBytes,',
    replace: 'new PathMtu(1500,',
  },
];

import type { Mutation } from './mutation.js';

/** TCP 7. ECN (RFC 3168) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'E1',
    file: 'src/core/tcp/segment-writer.ts',
    find: "kind === 'syn' ? TCP_ECE | TCP_CWR : TCP_ECE",
    replace: 'TCP_ECE',
  },
  {
    row: 'E1',
    file: 'src/core/tcp/transmitter.ts',
    find: `// Retransmissions are never ECT (RFC 3168 6.1.5).
    this.#write(nowUs, sink, rec, this.ctx.mss.bytes, false, 0);`,
    replace: 'this.#write(nowUs, sink, rec, this.ctx.mss.bytes, true, 0);',
  },
  {
    row: 'E2',
    file: 'src/core/tcp/segment-arrives.ts',
    find: 'if ((seg.flags & TCP_CWR) !== 0) writer.echoCongestion = false;',
    replace: '',
  },
  {
    row: 'E2',
    file: 'src/core/tcp/ecn-reaction.ts',
    find: 'if (!this.isOn || ack <= this.#point) return false;',
    replace: 'if (!this.isOn) return false;',
  },
  {
    row: 'E2',
    file: 'src/core/tcp/loss-recovery.ts',
    find: `    cc.onCongestionEvent(nowUs, priorInFlightBytes, 'loss');
    ecn.onReduced(space.sndNxt);
  }`,
    replace: `    cc.onCongestionEvent(nowUs, priorInFlightBytes, 'loss');
  }`,
  },
  {
    row: 'E1',
    file: 'src/core/tcp/handshake.ts',
    find: 'n.offerEcn &&= marks === (isSynAck ? TCP_ECE : TCP_ECE | TCP_CWR);',
    replace: '',
  },
];

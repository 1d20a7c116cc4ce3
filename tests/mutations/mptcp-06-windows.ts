import type { Mutation } from './mutation.js';

/** MPTCP 6. Windows, sender and receiver in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'W1',
    file: 'src/core/mptcp/receiver.ts',
    find: 'this.rightEdge = Math.max(this.rightEdge, this.rcvNxt + this.limitBytes - this.unreadBytes);',
    replace: 'this.rightEdge = this.rcvNxt + this.limitBytes - this.unreadBytes - this.outOfOrderBytes;',
  },
  {
    row: 'W2',
    file: 'src/core/mptcp/subflow.ts',
    find: 'return this.connection.receiver.windowBytes();',
    replace: 'return this.connection.receiver.windowEdge() - this.tcp.rcvNxt;',
  },
  {
    row: 'W3',
    file: 'src/core/mptcp/receiver.ts',
    find: 'if (end > edge) {',
    replace: 'if (false) {',
  },
  {
    row: ['W5', 'W6'],
    file: 'src/core/mptcp/connection.ts',
    find: 'Math.max(this.sender.windowEdge, dataAck + windowBytes)',
    replace: 'dataAck + windowBytes',
  },
  {
    row: 'W7',
    file: 'src/core/tcp/send-space.ts',
    find: 'return this.sndUna + this.sndWnd - this.sndNxt;',
    replace: 'return 1e9;',
  },
  {
    row: 'W8',
    file: 'src/core/mptcp/sender.ts',
    find: 'Math.min(this.buffer.endDsn, this.windowEdge) - this.sndNxt',
    replace: 'Math.min(this.buffer.endDsn, this.windowEdge, this.sndUna + 1_000_000) - this.sndNxt',
  },
  {
    row: 'W9',
    file: 'src/core/tcp/probes.ts',
    find: 'this.transmitter.retransmit(nowUs, sink, head);',
    replace: 'this.sendKeepalive(nowUs, sink);',
  },
  {
    row: 'W10',
    file: 'src/core/mptcp/data-rto.ts',
    find: 'if (c.subflows.some(isWorkedOn)) return;',
    replace: 'return;',
  },
  {
    row: 'W11',
    file: 'src/core/mptcp/stall.ts',
    find: 'sf.askedSinceUs + GIVE_UP_AFTER_US',
    replace: 'NEVER',
  },
  {
    row: 'W12',
    file: 'src/core/mptcp/path-health.ts',
    find: 'RST_REASON.unacceptablePerformance',
    replace: 'RST_REASON.unspecified',
  },
  {
    row: 'W12',
    file: 'src/core/mptcp/connection.ts',
    find: 'sf.isStalled ? RST_REASON.unacceptablePerformance : RST_REASON.prohibited',
    replace: 'RST_REASON.prohibited',
  },
  {
    row: 'W13',
    file: 'src/core/mptcp/subflow.ts',
    find: 'return this.isUsable && this.connection.sender.isWindowLimited;',
    replace: 'return false;',
  },
  {
    row: 'W13',
    file: 'src/core/mptcp/receive-window.ts',
    find: 'if (sf.isConfirmed && sf.tcp.isEstablished) sf.tcp.requestAck(nowUs);',
    replace: '',
  },
  {
    row: 'W14',
    file: 'src/core/engine/config.ts',
    find: 'receiveBufferBytes: 8 * 1024 * 1024',
    replace: 'receiveBufferBytes: 4 * 1024 * 1024',
  },
  {
    row: 'W14',
    file: 'src/core/mptcp/receive-window.ts',
    find: 'const ROUND_TRIPS = 2;',
    replace: 'const ROUND_TRIPS = 1;',
  },
  {
    row: 'W14',
    file: 'src/core/mptcp/receive-window.ts',
    find: 'if (!this.wasBehind) ',
    replace: '',
  },
  {
    row: 'W14',
    file: 'src/core/mptcp/receive-window.ts',
    find: 'slowestUs = Math.max(slowestUs, sf.tcp.receiveRttUs);',
    replace: '{}',
  },
  {
    row: 'W14',
    file: 'src/core/engine/config.ts',
    find: 'windowScale: 8',
    replace: 'windowScale: 6',
  },
  {
    row: 'W11',
    file: 'src/core/mptcp/path-health.ts',
    find: 'giveUpAtUs(sf) <= nowUs && this.hasAlternative(sf)',
    replace: 'giveUpAtUs(sf) <= nowUs',
  },
];

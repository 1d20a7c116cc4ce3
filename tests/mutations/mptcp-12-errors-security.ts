import type { Mutation } from './mutation.js';

/** MPTCP 12. Error handling, heuristics, security, option space, TFO in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'X1',
    file: 'src/core/engine/strays.ts',
    find: "this.host.count('MPTcpExtMPJoinNoTokenFound');\n        this.reset(nowUs, linkId, RST_REASON.mptcpSpecific);",
    replace: "this.host.count('MPTcpExtMPJoinNoTokenFound');",
  },
  {
    row: 'X2',
    file: 'src/core/mptcp/joining.ts',
    find: 'localPort: c.settings.flow.localPort,',
    replace: 'localPort: c.settings.flow.localPort + 1,',
  },
  {
    row: 'X3',
    file: 'src/core/mptcp/plain-destinations.ts',
    find: 'return entry !== undefined && nowUs < entry.untilUs;',
    replace: 'return entry !== undefined;',
  },
  {
    row: 'X5',
    file: 'src/core/mptcp/address-signals.ts',
    find: "this.admission.take(nowUs) ? addresses.learn(addressId, endpoint) : 'full'",
    replace: 'addresses.learn(addressId, endpoint)',
  },
  {
    row: 'X5',
    file: 'src/core/mptcp/joining.ts',
    find: "if (!c.isMptcp || c.state === 'closed' || isFull(c)) return false;",
    replace: "if (!c.isMptcp || c.state === 'closed') return false;",
  },
  {
    row: 'X6',
    file: 'src/core/pathman/manager.ts',
    find: "if (m.config.side === 'client') {",
    replace: 'if (m.config.side.length > 0) {',
  },
  {
    row: 'X7',
    file: 'src/core/wire/format.ts',
    find: "text += ' k1=*'",
    replace: 'text += hex64(m.senderKeyHi, m.senderKeyLo)',
  },
  {
    row: 'X8',
    file: 'src/core/mptcp/join-requests.ts',
    find: 'localNonce: randomU32(connection.host.env),',
    replace: 'localNonce: 7,',
  },
  {
    row: 'X9',
    file: 'src/core/mptcp/join-requests.ts',
    find: 'this.remove(key, request);',
    replace: '',
  },
  {
    row: 'X10',
    file: 'src/core/mptcp/reassembly.ts',
    find: 'while (this.allocatedBytes > this.limitBytes &&',
    replace: 'while (this.allocatedBytes < 0 &&',
  },
  {
    row: 'X11',
    file: 'src/core/tcp/segment-writer.ts',
    find: 'Math.floor((limit - aligned - SACK_BASE_BYTES) / 8)',
    replace: 'Math.ceil((limit - aligned) / 8)',
  },
  {
    row: 'X12',
    file: 'src/core/wire/tcp.ts',
    find: 'at = sack ? putSackPermitted(out, at) :',
    replace: 'at = sack ? putSackPermitted(out, putNop(out, putNop(out, at))) :',
  },
  {
    row: 'X13',
    file: 'src/core/tcp/subflow.ts',
    find: 'if (this.owner.dataOptionBytes(this) === 0) tcb.handshake.keepData(syn);',
    replace: 'tcb.handshake.keepData(syn);',
  },
  {
    row: 'X15',
    file: 'src/core/engine/strays.ts',
    find: 'const c = this.host.byToken.get(o.joinToken);',
    replace: 'const c = this.listeners.has(seg.dstPort) ? this.host.byToken.get(o.joinToken) : undefined;',
  },
  {
    row: 'X16',
    file: 'src/core/engine/strays.ts',
    find: 'return {\n      linkId,\n      family: seg.family,',
    replace: 'return {\n      linkId: 0,\n      family: seg.family,',
  },
  {
    row: 'X17',
    file: 'src/core/engine/strays.ts',
    find: 'writeJoinSynAck(link.headers, end, false,',
    replace: 'writeJoinSynAck(link.headers, end, request.isBackup,',
  },
  {
    row: 'X18',
    file: 'src/core/mptcp/joining.ts',
    find: 'if (!mayBeJoined(c, request.flow)) return null;',
    replace: '',
  },
  {
    row: 'X1',
    file: 'src/core/mptcp/receiver.ts',
    find: 'if (end > edge) {',
    replace: 'if (false) {',
  },
  {
    row: 'X8',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'if (!equalConstantTime(expected, option.hmac, expected.length)) {',
    replace: 'if (false) {',
  },
];

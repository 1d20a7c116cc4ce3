import type { Mutation } from './mutation.js';

/** MPTCP 3. MP_JOIN in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'J1',
    file: 'src/core/engine/strays.ts',
    find: 'const c = this.host.byToken.get(o.joinToken);',
    replace: 'const c = this.listeners.has(seg.dstPort) ? this.host.byToken.get(o.joinToken) : undefined;',
  },
  {
    row: 'J2',
    file: 'src/core/engine/strays.ts',
    find: `        this.host.count('MPTcpExtMPJoinNoTokenFound');
        this.reset(nowUs, linkId, RST_REASON.mptcpSpecific);`,
    replace: `        this.host.count('MPTcpExtMPJoinNoTokenFound');`,
  },
  {
    row: 'J3',
    file: 'src/core/mptcp/join-requests.ts',
    find: 'keys.authLocal, keys.authRemote, localNonce, remoteNonce',
    replace: 'keys.authRemote, keys.authLocal, localNonce, remoteNonce',
  },
  {
    row: 'J4',
    file: 'src/core/mptcp/handshake.ts',
    find: 'if (!equalConstantTime(expected, o.joinHmac, JOIN_SYNACK_HMAC_BYTES)) {',
    replace: 'if (expected.length === 0) {',
  },
  {
    row: 'J5',
    file: 'src/core/mptcp/handshake.ts',
    find: `  if ((o.present & MPO.join) === 0 || o.joinLength !== JOIN_SYNACK_BYTES)
    return refuse(sf, 'MPTcpExtMPJoinSynAckRxMissing');`,
    replace: `  if ((o.present & MPO.join) === 0 || o.joinLength !== JOIN_SYNACK_BYTES) return 'continue';`,
  },
  {
    row: 'J6',
    file: 'src/core/mptcp/handshake.ts',
    find: `return refuse(sf, 'MPTcpExtMPJoinAckMissing');`,
    replace: `return 'drop';`,
  },
  {
    row: 'J6',
    file: 'src/core/mptcp/handshake.ts',
    find: 'if (!equalConstantTime(expected, o.joinHmac, JOIN_ACK_HMAC_BYTES))',
    replace: 'if (expected.length === 0)',
  },
  {
    row: 'J7',
    file: 'src/core/mptcp/handshake.ts',
    find: `    sf.tcp.requestAck(nowUs);
  }
}

/** Repeats`,
    replace: `  }
}

/** Repeats`,
  },
  {
    row: 'J7',
    file: 'src/core/mptcp/options-in.ts',
    find: `sf.role === 'join' && sf.side === 'passive'`,
    replace: `sf.role === 'initial'`,
  },
  {
    row: 'J8',
    file: 'src/core/mptcp/handshake.ts',
    find: 'sf.join.ackAtUs = nowUs + sf.tcp.rtt.rtoUs;',
    replace: 'sf.join.ackAtUs = NEVER;',
  },
  {
    row: 'J9',
    file: 'src/core/mptcp/subflow.ts',
    find: 'return (this.isConfirmed || this.isEarly) && !this.isClosing',
    replace: 'return !this.isClosing',
  },
  {
    row: 'J10',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'head(out, o, JOIN_ACK_BYTES, SUB_JOIN << 4, 0);',
    replace: 'head(out, o, JOIN_ACK_BYTES, SUB_JOIN << 4, 1);',
  },
  {
    row: 'J10',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'head(out, o, JOIN_SYN_BYTES, (SUB_JOIN << 4) |',
    replace: 'head(out, o, JOIN_SYN_BYTES, (SUB_JOIN << 4) | 2 |',
  },
  {
    row: 'J11',
    file: 'src/core/mptcp/handshake.ts',
    find: `  sf.isRemoteBackup = o.joinBackup;
`,
    replace: '',
  },
  {
    row: 'J11',
    file: 'src/core/mptcp/joining.ts',
    find: `  sf.isRemoteBackup = request.isBackup;
`,
    replace: '',
  },
  {
    row: 'J12',
    file: 'src/core/mptcp/handshake.ts',
    find: `  sf.remoteAddressId = o.joinAddressId;
`,
    replace: '',
  },
  {
    row: 'J12',
    file: 'src/core/mptcp/joining.ts',
    find: `  sf.remoteAddressId = request.remoteAddressId;
`,
    replace: '',
  },
  {
    row: 'J13',
    file: 'src/core/mptcp/addresses.ts',
    find: '    if (known !== undefined) return known;\n    if (this.localIds.size',
    replace: '    if (this.localIds.size',
  },
  {
    row: 'J14',
    file: 'src/core/mptcp/handshake.ts',
    find: 'sf.join.localNonce = randomU32(sf.connection.host.env);',
    replace: 'sf.join.localNonce = 1;',
  },
  {
    row: 'J15',
    file: 'src/core/mptcp/joining.ts',
    find: 'if (!c.hasReceivedDss) return',
    replace: `if (!c.hasReceivedDss || c.settings.side === 'passive') return`,
  },
  {
    row: 'J16',
    file: 'src/core/mptcp/joining.ts',
    find: 'remotePort: remote.port,',
    replace: 'remotePort: c.remote.port,',
  },
  {
    row: 'J17',
    file: 'src/core/mptcp/join-requests.ts',
    find: 'known.remoteNonce === o.joinNonce &&',
    replace: 'known.remoteNonce !== o.joinNonce &&',
  },
  {
    row: 'J17',
    file: 'src/core/mptcp/handshake.ts',
    find: 'c.keys.remoteToken, j.localNonce);',
    replace: 'c.keys.remoteToken, ++j.localNonce);',
  },
  {
    row: 'J18',
    file: 'src/core/mptcp/handshake.ts',
    find: `if (sf.tcp.state !== 'syn-sent') return 'continue';`,
    replace: `if (sf.tcp.state !== 'syn-sent' || o.joinLength === JOIN_SYN_BYTES) return 'continue';`,
  },
  {
    row: 'J20',
    file: 'src/core/mptcp/joining.ts',
    find: `  if (isFull(c)) return 'too many subflows';
`,
    replace: '',
  },
  {
    row: 'J20',
    file: 'src/core/mptcp/joining.ts',
    find: ' || isFull(c)) return false;',
    replace: ') return false;',
  },
  {
    row: 'J20',
    file: 'src/core/mptcp/joining.ts',
    find: '.filter((sf) => sf.closeReason === null)',
    replace: '',
  },
  {
    row: 'J20',
    file: 'src/core/mptcp/joining.ts',
    find: "c.subflows.find((sf) => sf.tcp.state === 'time-wait')?.tcp.abort(nowUs, false);",
    replace: '',
  },
];

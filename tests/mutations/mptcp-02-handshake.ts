import type { Mutation } from './mutation.js';

/** MPTCP 2. Handshake, keys, version, algorithm in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'H1',
    file: 'src/core/mptcp/handshake.ts',
    find: 'return writeCapableSyn(out, o, flags);',
    replace: 'return writeCapableSynAck(out, o, flags, c.keys.localHi, c.keys.localLo);',
  },
  {
    row: 'H2',
    file: 'src/core/mptcp/keys.ts',
    find: `  env.randomBytes(key);
`,
    replace: `  env.randomBytes(key.subarray(1));
`,
  },
  {
    row: 'H3',
    file: 'src/core/engine/engine.ts',
    find: `      if (this.byToken.has(token)) continue; // unique among live connections (RFC 8684 3.1)
`,
    replace: '',
  },
  {
    row: 'H4',
    file: 'src/core/engine/strays.ts',
    find: '    if (asks && this.isTokenTaken(cookie.key)) {',
    replace: '    if (asks && cookie.key.length === 0) {',
  },
  {
    row: 'H5',
    file: 'src/core/mptcp/keys.ts',
    find: 'token: getU32(digest, 0)',
    replace: 'token: getU32(digest, 4)',
  },
  {
    row: 'H6',
    file: 'src/core/mptcp/keys.ts',
    find: 'hi: getU32(digest, 24), lo: getU32(digest, 28)',
    replace: 'hi: getU32(digest, 0), lo: getU32(digest, 4)',
  },
  {
    row: 'H7',
    file: 'src/core/mptcp/options-out.ts',
    find: `      dsnHi(m.dsn, idsnLocal),
      dsnLo(m.dsn, idsnLocal),`,
    replace: `      dsnHi(m.dsn - 1, idsnLocal),
      dsnLo(m.dsn - 1, idsnLocal),`,
  },
  {
    row: 'H8',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'head(out, o, CAPABLE_SYN_BYTES, (SUB_CAPABLE << 4) | MPTCP_VERSION, flags);',
    replace: 'head(out, o, CAPABLE_SYN_BYTES, SUB_CAPABLE << 4, flags);',
  },
  {
    row: 'H9',
    file: 'src/core/mptcp/handshake.ts',
    find: `    o.capableVersion >= MPTCP_VERSION &&
`,
    replace: '',
  },
  {
    row: 'H9',
    file: 'src/core/mptcp/handshake.ts',
    find: 'o.capableVersion >= MPTCP_VERSION',
    replace: 'o.capableVersion === MPTCP_VERSION',
  },
  {
    row: 'H10',
    file: 'src/core/mptcp/handshake.ts',
    find: `    o.capableVersion === MPTCP_VERSION &&
`,
    replace: '',
  },
  {
    row: 'H11',
    file: 'src/core/mptcp/handshake.ts',
    find: `    (o.capableFlags & CAPABLE_B_EXTENSIBILITY) === 0 &&
    (o.capableFlags & CAPABLE_H_SHA256) !== 0`,
    replace: '    (o.capableFlags & CAPABLE_H_SHA256) !== 0',
  },
  {
    row: 'H11',
    file: 'src/core/mptcp/handshake.ts',
    find: `    (o.capableFlags & CAPABLE_B_EXTENSIBILITY) === 0 &&
    (o.capableFlags & CAPABLE_ALG`,
    replace: '    (o.capableFlags & CAPABLE_ALG',
  },
  {
    row: 'H12',
    file: 'src/core/mptcp/handshake.ts',
    find: 'return CAPABLE_H_SHA256 | (checksums',
    replace: 'return CAPABLE_ALGORITHMS | (checksums',
  },
  {
    row: 'H13',
    file: 'src/core/mptcp/handshake.ts',
    find: `    (o.capableFlags & CAPABLE_H_SHA256) !== 0 &&
`,
    replace: '',
  },
  {
    row: 'H14',
    file: 'src/core/mptcp/handshake.ts',
    find: '(o.capableFlags & CAPABLE_ALGORITHMS) === CAPABLE_H_SHA256',
    replace: '(o.capableFlags & CAPABLE_H_SHA256) !== 0',
  },
  {
    row: 'H15',
    file: 'src/core/mptcp/handshake.ts',
    find: `  c.isInitialAddressClosed = (o.capableFlags & CAPABLE_C_NO_JOIN) !== 0;
`,
    replace: '',
  },
  {
    row: 'H15',
    file: 'src/core/engine/strays.ts',
    find: `    c.isInitialAddressClosed = asks && (this.seg.mptcp.capableFlags & CAPABLE_C_NO_JOIN) !== 0;
`,
    replace: '',
  },
  {
    row: 'H16',
    file: 'src/core/mptcp/handshake.ts',
    find: '(joinInitial ? 0 : CAPABLE_C_NO_JOIN)',
    replace: '0',
  },
  {
    row: 'H16',
    file: 'src/core/mptcp/joining.ts',
    find: `  if (!c.settings.joinInitial && isToInitial(c, flow)) return false; // our flag C has said so
`,
    replace: '',
  },
  {
    row: 'H17',
    file: 'src/core/mptcp/handshake.ts',
    find: `  if (asksChecksums) c.keys.checksums = true;
`,
    replace: '',
  },
  {
    row: 'H17',
    file: 'src/core/engine/strays.ts',
    find: 'return isAsked || this.checksumPolicy(listener) === true;',
    replace: 'return this.checksumPolicy(listener) === true;',
  },
  {
    row: 'H18',
    file: 'src/core/mptcp/handshake.ts',
    find: 'const flags = capableFlags(keys.checksums, sf',
    replace: 'const flags = capableFlags(sf.connection.settings.checksum, sf',
  },
  {
    row: 'H19',
    file: 'src/core/mptcp/handshake.ts',
    find: `    (!refusesChecksums || (o.capableFlags & CAPABLE_A_CHECKSUM) === 0)
`,
    replace: `    true
`,
  },
  {
    row: 'H19',
    file: 'src/core/mptcp/handshake.ts',
    find: '(asksChecksums && c.settings.refusesChecksums) || ',
    replace: '',
  },
  {
    row: 'H21',
    file: 'src/core/mptcp/handshake.ts',
    find: `    c.fallback.becomeTcp(nowUs, 'no acceptable MP_CAPABLE in the SYN/ACK');
    return 'continue';
`,
    replace: '',
  },
  {
    row: 'H22',
    file: 'src/core/mptcp/handshake.ts',
    find: `    (o.present & MPO.capable) !== 0 &&
    o.capableLength === CAPABLE_SYN_BYTES &&
    o.capableVersion >= MPTCP_VERSION &&
`,
    replace: `    (o.present & MPO.capable) === 0 ||
    o.capableLength === CAPABLE_SYN_BYTES &&
`,
  },
  {
    row: 'H23',
    file: 'src/core/mptcp/handshake.ts',
    find: '  if (!isKeyed || !isOurKey || !isAgreed) {',
    replace: '  if (o.present !== 0 && (!isKeyed || !isOurKey || !isAgreed)) {',
  },
  {
    row: 'H24',
    file: 'src/core/mptcp/handshake.ts',
    find: 'return !(sf.isFinDue && c.areKeysSent);',
    replace: 'return false;',
  },
  {
    row: 'H25',
    file: 'src/core/mptcp/handshake.ts',
    find: `  if (mapping !== null) return mapping.isFirst;
`,
    replace: `  if (mapping !== null) return false;
`,
  },
  {
    row: 'H25',
    file: 'src/core/mptcp/handshake.ts',
    find: 'return !(sf.isFinDue && c.areKeysSent);',
    replace: 'return true;',
  },
  {
    row: 'H26',
    file: 'src/core/mptcp/options-in.ts',
    find: 'this.onMapping(nowUs, 0, 1, 1, o.capableDll',
    replace: 'this.onMapping(nowUs, 0, 1, 2, o.capableDll',
  },
  {
    row: 'H27',
    file: 'src/core/mptcp/handshake.ts',
    find: 'o.capableLength >= CAPABLE_ACK_BYTES',
    replace: 'o.capableLength === CAPABLE_ACK_BYTES',
  },
  {
    row: 'H28',
    file: 'src/core/mptcp/options-out.ts',
    find: `    if (dssBytes(ackBytes, 0, false) > room) return o;
`,
    replace: `    return o;
`,
  },
  {
    row: 'H29',
    file: 'src/core/mptcp/handshake.ts',
    find: '!isOurKey || ',
    replace: '',
  },
  {
    row: 'H29',
    file: 'src/core/mptcp/handshake.ts',
    find: ' || !isAgreed',
    replace: '',
  },
  {
    row: 'H30',
    file: 'src/core/mptcp/joining.ts',
    find: `  if (!c.hasReceivedDss) return 'no DSS has come through yet';
`,
    replace: '',
  },
  {
    row: 'H31',
    file: 'src/core/mptcp/handshake.ts',
    find: 'const SYNS_WITH_MPTCP = 2;',
    replace: 'const SYNS_WITH_MPTCP = 20;',
  },
  {
    row: 'H32',
    file: 'src/core/mptcp/handshake.ts',
    find: `  if (sf.role === 'join') {
    // The SYN/ACK`,
    replace: `  if (sf.role === 'join' && kind === 'synack') {
    // The SYN/ACK`,
  },
  {
    row: 'H33',
    file: 'src/core/mptcp/options-in.ts',
    find: 'o.capableLength >= 22',
    replace: 'o.capableLength >= 22 && c.sender.sndNxt === 1',
  },
];

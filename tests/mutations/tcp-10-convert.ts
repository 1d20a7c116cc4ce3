import type { Mutation } from './mutation.js';

/** TCP 10. 0-RTT TCP Convert (RFC 8803) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'V1',
    file: 'src/core/convert/reader.ts',
    find: `      whole.set(this.bytes);
`,
    replace: ``,
  },
  {
    row: 'V2',
    file: 'src/core/convert/parse.ts',
    find: `  if (getU16(bytes, o + 2) !== CONVERT_MAGIC) return 'not-convert';
`,
    replace: ``,
  },
  {
    row: 'V3',
    file: 'src/core/convert/parse.ts',
    find: `return words === 0 ? 'zero-length' : words * 4;`,
    replace: `return words * 4;`,
  },
  {
    row: 'V4',
    file: 'src/core/convert/session.ts',
    find: `return isForSyn || this.isDraining ? lengthBytes : taken;`,
    replace: `return lengthBytes;`,
  },
  {
    row: 'V5',
    file: 'src/core/convert/parse.ts',
    find: `    if (seen.has(type)) return result('duplicate-tlv');
`,
    replace: ``,
  },
  {
    row: 'V6',
    file: 'src/core/convert/parse.ts',
    find: `    if (type === TLV_RESERVED) return result('reserved-type');
`,
    replace: ``,
  },
  {
    row: 'V7',
    file: 'src/core/convert/session.ts',
    find: `    this.upstream.end(nowUs);
`,
    replace: `    this.upstream.abort(nowUs);
`,
  },
  {
    row: 'V8',
    file: 'src/daemon/flows/convert-client.ts',
    find: `      flow.abort();
      const failure`,
    replace: `      const failure`,
  },
  {
    row: 'V9',
    file: 'src/core/convert/converter.ts',
    find: `if (!isConnectable(address) || port === 0) {`,
    replace: `if (port === 0) {`,
  },
  {
    row: 'V10',
    file: 'src/core/convert/downstream.ts',
    find: `options === null || options.some(({ kind }) => kind === KIND_MPTCP)`,
    replace: `options?.some(({ kind }) => kind === KIND_MPTCP) === true`,
  },
  {
    row: 'V11',
    file: 'src/core/convert/converter.ts',
    find: `if (unsupported.length > 0) {`,
    replace: `if (unsupported.length > 99) {`,
  },
  {
    row: 'V12',
    file: 'src/core/convert/converter.ts',
    find: `KIND_WSCALE, KIND_SACK];`,
    replace: `KIND_WSCALE, KIND_SACK].slice(5);`,
  },
  {
    row: 'V13',
    file: 'src/core/convert/converter.ts',
    find: `    if (serverOptions !== null) tlvs.push({ type: TLV_EXTENDED_HEADER, options: serverOptions });
`,
    replace: ``,
  },
  {
    row: 'V14',
    file: 'src/core/convert/converter.ts',
    find: `const tlvs: Tlv[] = this.wantsInfo ? [this.supported()] : [];`,
    replace: `const tlvs: Tlv[] = [];`,
  },
  {
    row: 'V15',
    file: 'src/core/convert/converter.ts',
    find: `if (cookies.isValid(nowUs, client, cookie)) return null;`,
    replace: `if (cookie.length > 0) return null;`,
  },
  {
    row: 'V16',
    file: 'src/core/convert/knowledge.ts',
    find: `        this.cookies.set(localAddress, failure.cookie);
`,
    replace: ``,
  },
  {
    row: 'V17',
    file: 'src/core/convert/converter.ts',
    find: `    if (!this.errors.take(nowUs, this.client)) return { do: 'close', reason: 'errors-limited' };
`,
    replace: ``,
  },
  {
    row: 'V17',
    file: 'src/core/convert/converter.ts',
    find: `return policy.answersPlainSyns ? 'answer' : 'ignore';`,
    replace: `return 'answer';`,
  },
  {
    row: 'V18',
    file: 'src/core/convert/knowledge.ts',
    find: `failure.waitS > 0 ? failure.waitS * US_PER_S : DEFAULT_WAIT_US`,
    replace: `failure.waitS * US_PER_S`,
  },
  {
    row: 'V19',
    file: 'src/core/convert/converter.ts',
    find: `Uint8Array.of(failure.icmpCode)`,
    replace: `Uint8Array.of(0)`,
  },
  {
    row: 'V20',
    file: 'src/core/convert/parse.ts',
    find: `  if (bytes[o] !== CONVERT_VERSION) return 'unsupported-version';
`,
    replace: ``,
  },
  {
    row: 'V21',
    file: 'src/core/convert/converter.ts',
    find: `if (policy.cookies === null) return policy.isTrusted(client) ? 'hold' : 'take';`,
    replace: `if (policy.cookies === null) return 'take';`,
  },
  {
    row: 'V22',
    file: 'src/core/convert/session.ts',
    find: `    if (this.state === 'joined' && isReset) this.abort();
`,
    replace: ``,
  },
  {
    row: 'V23',
    file: 'src/core/convert/knowledge.ts',
    find: `    this.servers.set(server, nowUs + SERVER_LIFETIME_US);
`,
    replace: ``,
  },
  {
    row: 'V24',
    file: 'src/core/convert/converter.ts',
    find: `    if (!policy.mayUse(client)) return this.refuse(nowUs, CONVERT_ERROR.notAuthorized, 'client-not-allowed');
`,
    replace: ``,
  },
  {
    row: 'V25',
    file: 'src/core/tcp/handshake.ts',
    find: `    sf.irs = (syn.seq + syn.payloadLen) >>> 0;
`,
    replace: ``,
  },
  {
    row: 'V3',
    file: 'src/core/convert/message.ts',
    find: 'export const MAX_MESSAGE_BYTES = 255 * 4;',
    replace: 'export const MAX_MESSAGE_BYTES = 256 * 4;',
  },
  {
    row: 'V9',
    file: 'src/core/convert/message.ts',
    find: 'return !isMulticast && first !== 127 && first !== 0',
    replace: 'return first !== 127 && first !== 0',
  },
  {
    row: 'V12',
    file: 'src/core/convert/converter.ts',
    find: 'connect.options?.filter(({ kind }) => !IGNORED_KINDS.includes(kind)) ?? null',
    replace: 'connect.options ?? null',
  },
  {
    row: 'V19',
    file: 'src/core/tcp/subflow.ts',
    find: '      this.icmpCode = code;\n',
    replace: '',
  },
];

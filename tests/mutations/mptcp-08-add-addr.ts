import type { Mutation } from './mutation.js';

/** MPTCP 8. ADD_ADDR in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'A1',
    file: 'src/core/mptcp/addresses.ts',
    find: 'if (used.has(id)) continue;',
    replace: '',
  },
  {
    row: 'A2',
    file: 'src/core/mptcp/keys.ts',
    find: 'full.slice(full.length - ADD_ADDR_HMAC_BYTES)',
    replace: 'full.slice(0, ADD_ADDR_HMAC_BYTES)',
  },
  {
    row: 'A3',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'if (!equalConstantTime(expected, option.hmac, expected.length)) {',
    replace: 'if (expected.length === 0) {',
  },
  {
    row: 'A4',
    file: 'src/core/mptcp/address-signals.ts',
    find: "sf.signal(nowUs, { kind: 'add-addr', option: echoOf(option) });",
    replace: '',
  },
  {
    row: 'A5',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'if (a.tries >= ADD_ADDR_TRIES) {',
    replace: 'if (a.tries >= 1) {',
  },
  {
    row: 'A6',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'const echo = (buf[o + 2]! & ECHO) !== 0;',
    replace: 'const echo = (buf[o + 2]! & 0x0f) !== 0;',
  },
  {
    row: 'A7',
    file: 'src/core/mptcp/joining.ts',
    find: 'c.addresses.observe(request.remoteAddressId, { address: request.flow.remoteAddress, port: request.flow.remotePort });',
    replace: '',
  },
  {
    row: 'A8',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'port: port >= 0 ? port : sf.flow.remotePort',
    replace: 'port: port >= 0 ? port : 0',
  },
  {
    row: 'A9',
    file: 'src/core/mptcp/addresses.ts',
    find: "if (!ipEquals(known.endpoint.address, endpoint.address)) return 'conflict';",
    replace: '',
  },
  {
    row: 'A10',
    file: 'src/core/mptcp/addresses.ts',
    find: 'if (id === addressId) this.localIds.delete(text);',
    replace: 'this.localIds.delete(text);',
  },
  {
    row: 'A11',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'if (!this.isInUse(addressId, endpoint)) {',
    replace: "if (learnt === 'new' && !this.isInUse(addressId, endpoint)) {",
  },
  {
    row: 'A12',
    file: 'src/core/engine/strays.ts',
    find: "this.host.count('MPTcpExtMPJoinNoTokenFound');\n        this.reset(nowUs, linkId, RST_REASON.mptcpSpecific);",
    replace: "this.host.count('MPTcpExtMPJoinNoTokenFound');",
  },
  {
    row: 'A13',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'const family = withoutHmac < 20 ? 4 : 6;',
    replace: 'const family = 4 as 4 | 6;',
  },
  {
    row: 'A14',
    file: 'src/core/mptcp/address-signals.ts',
    find: "(role === 'join' && side === 'passive' && remoteAddressId === addressId) ||",
    replace: '',
  },
  {
    row: 'A15',
    file: 'src/core/tcp/segment-writer.ts',
    find: "(kind === 'ack' && this.#isTight()) ||",
    replace: 'false ||',
  },
  {
    row: 'A16',
    file: 'src/core/mptcp/options-in.ts',
    find: 'if (!c.isProven && (o.present & ~(MPO.capable | MPO.join)) !== 0 && !isEarly) c.onProven();',
    replace: 'if ((o.present & MPO.dss) !== 0) c.isProven = true;',
  },
  {
    row: 'A5',
    file: 'src/core/mptcp/addresses.ts',
    find: 'export const ADD_ADDR_TRIES = 4;',
    replace: 'export const ADD_ADDR_TRIES = 5;',
  },
  {
    row: 'A7',
    file: 'src/core/mptcp/addresses.ts',
    find: 'this.remote.set(addressId, { endpoint, isObserved: true });',
    replace: '',
  },
  {
    row: 'A7',
    file: 'src/core/mptcp/addresses.ts',
    find: 'known === undefined ? this.remote.size >= MAX_ADDRESSES : !known.isObserved',
    replace: 'known !== undefined && !known.isObserved',
  },
];

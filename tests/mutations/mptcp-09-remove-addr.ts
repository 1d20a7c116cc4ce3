import type { Mutation } from './mutation.js';

/** MPTCP 9. REMOVE_ADDR in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'R1',
    file: 'src/core/mptcp/address-signals.ts',
    find: "via?.signal(nowUs, { kind: 'remove-addr', ids: addressIds });",
    replace: '',
  },
  {
    row: ['R2', 'R6'],
    file: 'src/core/mptcp/address-signals.ts',
    find: ' || sf.tcp.lastReceivedUs > sinceUs',
    replace: '',
  },
  {
    row: 'R3',
    file: 'src/core/tcp/acceptance.ts',
    find: 'if (!receiver.isAcceptable(seq, lengthBytes)) {',
    replace: 'if (isSyn && !receiver.isAcceptable(seq, lengthBytes)) {',
  },
  {
    row: 'R4',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'this.c.resetSubflow(nowUs, sf, RST_REASON.unspecified);',
    replace: '',
  },
  {
    row: 'R5',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'if (sf.remoteAddressId !== addressId || sf.isClosing || sf.closeReason !== null) continue;',
    replace: 'if (sf.isClosing || sf.closeReason !== null) continue;',
  },
  {
    row: 'R7',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'for (const addressId of ids) {',
    replace: 'for (const addressId of ids.slice(0, 1)) {',
  },
  {
    row: 'R8',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'if (sf.remoteAddressId !== addressId || sf.isClosing || sf.closeReason !== null) continue;',
    replace: 'if (addressId === 0 || sf.remoteAddressId !== addressId || sf.isClosing) continue;',
  },
  {
    row: 'R9',
    file: 'src/core/mptcp/address-signals.ts',
    find: 'c.subflows.find((sf) => sf.isUsable && !sf.isStalled && !gone.includes(sf)) ?? this.path();',
    replace: 'gone[0] ?? this.path();',
  },
  {
    row: 'R8',
    file: 'src/core/mptcp/addresses.ts',
    find: 'this.remote.set(0, { endpoint: remote, isObserved: false });',
    replace: '',
  },
];

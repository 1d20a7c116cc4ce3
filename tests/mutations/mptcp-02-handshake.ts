import type { Mutation } from './mutation.js';

/** MPTCP 2. Handshake, keys, version, algorithm in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
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
];

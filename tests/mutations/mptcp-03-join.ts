import type { Mutation } from './mutation.js';

/** MPTCP 3. MP_JOIN in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

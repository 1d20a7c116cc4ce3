import type { Mutation } from './mutation.js';

/** MPTCP 8. ADD_ADDR in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

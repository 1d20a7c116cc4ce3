import type { Mutation } from './mutation.js';

/** MPTCP 9. REMOVE_ADDR in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

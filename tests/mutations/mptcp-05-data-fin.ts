import type { Mutation } from './mutation.js';

/** MPTCP 5. DATA_FIN and closing in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

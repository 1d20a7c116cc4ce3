import type { Mutation } from './mutation.js';

/** MPTCP 10. MP_FASTCLOSE, MP_TCPRST in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

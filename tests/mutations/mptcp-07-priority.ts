import type { Mutation } from './mutation.js';

/** MPTCP 7. Subflow policy, MP_PRIO in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

import type { Mutation } from './mutation.js';

/** MPTCP 11. MP_FAIL, infinite mapping, fallback in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

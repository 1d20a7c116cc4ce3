import type { Mutation } from './mutation.js';

/** MPTCP 6. Windows, sender and receiver in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

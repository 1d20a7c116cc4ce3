import type { Mutation } from './mutation.js';

/** MPTCP 4. DSS, mapping, DATA_ACK in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

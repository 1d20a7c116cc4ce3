import type { Mutation } from './mutation.js';

/** MPTCP 12. Error handling, heuristics, security, option space, TFO in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

import type { Mutation } from './mutation.js';

/** MPTCP 1. General in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

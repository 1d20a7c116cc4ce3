import type { Mutation } from './mutation.js';

/** TCP 9. Coupled congestion control in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

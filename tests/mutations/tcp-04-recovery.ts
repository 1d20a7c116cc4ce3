import type { Mutation } from './mutation.js';

/** TCP 4. SACK and loss recovery (RFC 2018, 2883, 6675, 5681, 6582, 3042, 6937/9937) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

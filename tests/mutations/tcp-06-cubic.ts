import type { Mutation } from './mutation.js';

/** TCP 6. CUBIC (RFC 9438) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

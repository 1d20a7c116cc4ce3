import type { Mutation } from './mutation.js';

/** TCP 7. ECN (RFC 3168) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

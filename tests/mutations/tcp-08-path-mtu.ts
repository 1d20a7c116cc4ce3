import type { Mutation } from './mutation.js';

/** TCP 8. Path MTU (RFC 1191, 8201, 4821, 8899) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

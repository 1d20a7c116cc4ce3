import type { Mutation } from './mutation.js';

/** TCP 2. RTO (RFC 6298) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

import type { Mutation } from './mutation.js';

/** TCP 5. RACK-TLP (RFC 8985) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

import type { Mutation } from './mutation.js';

/** TCP 3. Window scale, timestamps, PAWS (RFC 7323) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

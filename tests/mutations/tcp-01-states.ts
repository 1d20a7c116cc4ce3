import type { Mutation } from './mutation.js';

/** TCP 1. Core state machine (RFC 9293, with 5961, 6528, 6191) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [];

/**
 * Initial sequence numbers: ISN = M + F(localip, localport, remoteip, remoteport, secret), with M a clock of 4 us ticks
 * (RFC 6528 section 3, RFC 9293 3.4.1). F is HMAC-SHA256 under a key drawn at start.
 */
import type { CoreEnv } from '../base/env.js';
import type { Micros } from '../base/time.js';
import { getU32, putU16 } from '../base/wire-int.js';
import type { FlowTuple } from './flow.js';

const TICK_US = 4;

export class IsnGenerator {
  readonly #key = new Uint8Array(32);

  constructor(private readonly env: CoreEnv) {
    env.randomBytes(this.#key);
  }

  /** Unsigned 32-bit ISN for a connection opened at `nowUs`. */
  next(nowUs: Micros, flow: FlowTuple): number {
    return (getU32(this.#hash(flow), 0) + (Math.floor(nowUs / TICK_US) % 0x1_0000_0000)) >>> 0;
  }

  /** Offset of the timestamp clock (RFC 7323 7.1): the same for a four-tuple whenever it is used. */
  tsOffset(flow: FlowTuple): number {
    return getU32(this.#hash(flow), 4);
  }

  #hash(flow: FlowTuple): Uint8Array {
    const local = flow.localAddress.bytes;
    const remote = flow.remoteAddress.bytes;
    const input = new Uint8Array(local.length + remote.length + 4);
    input.set(local, 0);
    putU16(input, local.length, flow.localPort);
    input.set(remote, local.length + 2);
    putU16(input, local.length + 2 + remote.length, flow.remotePort);
    return this.env.hmacSha256(this.#key, input);
  }
}

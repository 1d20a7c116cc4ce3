/**
 * The seam for things in the path that touch packets. A wire has a chain of them, between its links and the far host:
 *
 *   left host ══ uplink ══▶ box 0 ─▶ box 1 ─▶ … ─▶ right host
 *   left host ◀══ downlink ══ box 0 ◀─ box 1 ◀─ … ◀─ right host
 *
 * A box owns each packet it is given until it forwards or drops it.
 */
import type { Micros } from '../core/base/time.js';
import type { PacketPool, SimPacket } from './packet.js';

/** 'right' is away from the left host: with a client on the left, 'right' is upload. */
export type Heading = 'right' | 'left';

export interface MiddleboxOut {
  readonly pool: PacketPool;
  /** The packet (or one the box made, either way) goes on from this box. */
  forward(packet: SimPacket, heading: Heading): void;
  /** The packet ends here; counted under `reason`. */
  drop(packet: SimPacket, reason: string): void;
}

export interface Middlebox {
  readonly name: string;
  process(nowUs: Micros, heading: Heading, packet: SimPacket, out: MiddleboxOut): void;
  /** For boxes that hold packets back: when `onTimer` wants to be called. */
  nextDeadline?(): Micros;
  onTimer?(nowUs: Micros, out: MiddleboxOut): void;
  /** Further addresses (raw bytes) of the left host as the right one sees it. */
  publicAddresses?(): readonly Uint8Array[];
}

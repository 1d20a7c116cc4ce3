/** Paths that duplicate, delay and damage packets. */
import { type Micros, NEVER } from '../../core/base/time.js';
import { CSUM_PARTIAL, CSUM_UNKNOWN } from '../../core/engine/ports.js';
import { PacketFifo } from '../fifo.js';
import type { Heading, Middlebox, MiddleboxOut } from '../middlebox.js';
import type { SimPacket } from '../packet.js';
import { Prng } from '../prng.js';

/** Sends a share of the packets twice. */
export class Duplicator implements Middlebox {
  readonly name = 'duplicator';
  private readonly luck: Prng;

  constructor(
    private readonly probability: number,
    seed: number,
  ) {
    this.luck = new Prng(seed);
  }

  process(_nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    const copy = this.luck.chance(this.probability) ? out.pool.clone(packet) : null;
    out.forward(packet, heading);
    if (copy !== null) out.forward(copy, heading);
  }
}

/** Holds a share of the packets back for up to `delayUs`, so that later ones overtake them. */
export class Reorderer implements Middlebox {
  readonly name = 'reorderer';
  private readonly luck: Prng;
  private readonly held = new PacketFifo<{ packet: SimPacket; heading: Heading }>();

  constructor(
    private readonly probability: number,
    private readonly delayUs: Micros,
    seed: number,
  ) {
    this.luck = new Prng(seed);
  }

  process(nowUs: Micros, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    if (!this.luck.chance(this.probability) || this.held.length >= MAX_HELD_PACKETS) {
      out.forward(packet, heading);
      return;
    }
    const untilUs = nowUs + 1 + this.luck.below(this.delayUs);
    this.held.pushSorted({ packet, heading }, packet.length, untilUs);
  }

  nextDeadline(): Micros {
    return this.held.length === 0 ? NEVER : this.held.headTimeUs;
  }

  onTimer(nowUs: Micros, out: MiddleboxOut): void {
    while (this.held.length > 0 && this.held.headTimeUs <= nowUs) {
      const { packet, heading } = this.held.shift();
      out.forward(packet, heading);
    }
  }
}

/** Packets held back at a time; further ones pass at once. */
const MAX_HELD_PACKETS = 4096;

/** Flips one bit somewhere behind the IP header of a share of the packets, and leaves the checksum as it was. */
export class BitFlipper implements Middlebox {
  readonly name = 'bit-flipper';
  flips = 0;
  private readonly luck: Prng;

  constructor(
    private readonly probability: number,
    seed: number,
  ) {
    this.luck = new Prng(seed);
  }

  process(_nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    if (packet.isTcp && this.luck.chance(this.probability)) {
      if (packet.checksum === CSUM_PARTIAL) packet.writeTcpChecksum();
      const at = packet.l4Offset + this.luck.below(packet.length - packet.l4Offset);
      packet.buf[at]! ^= 1 << this.luck.below(8);
      packet.checksum = CSUM_UNKNOWN;
      this.flips++;
    }
    out.forward(packet, heading);
  }
}

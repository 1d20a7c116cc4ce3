/** Boxes that rewrite numbers: sequence number randomisers and address translators. */

import { getU32, putU32 } from '../../core/base/wire-int.js';
import type { Heading, Middlebox, MiddleboxOut } from '../middlebox.js';
import { type SimPacket, TCP_ACK } from '../packet.js';
import { Prng } from '../prng.js';
import { FlowTable } from './flows.js';
import { OPTION_SACK } from './options.js';

/** Adds a constant of its own to each direction's sequence numbers ("ISN randomisation"), SACK blocks included. */
export class IsnRewriter implements Middlebox {
  readonly name = 'isn-rewriter';
  private readonly luck: Prng;
  private readonly flows: FlowTable<{ right: number; left: number }>;

  /** `fixesSack` false: the well-known fault of forgetting the SACK blocks. */
  constructor(
    seed: number,
    private readonly fixesSack = true,
  ) {
    this.luck = new Prng(seed);
    this.flows = new FlowTable(() => ({ right: this.luck.u32(), left: this.luck.u32() }));
  }

  process(_nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    if (packet.isTcp) {
      const flow = this.flows.of(packet, heading);
      const own = heading === 'right' ? flow.right : flow.left;
      const other = heading === 'right' ? flow.left : flow.right;
      packet.seq = packet.seq + own;
      if ((packet.flags & TCP_ACK) !== 0) packet.ack = packet.ack - other;
      if (this.fixesSack) shiftSack(packet, -other);
      packet.markRewritten();
    }
    out.forward(packet, heading);
  }
}

export function shiftSack(packet: SimPacket, by: number): void {
  const o = packet.findOption(OPTION_SACK);
  if (o < 0) return;
  for (let at = o + 2; at + 4 <= o + packet.buf[o + 1]!; at += 4)
    putU32(packet.buf, at, (getU32(packet.buf, at) + by) >>> 0);
}

/** Network address and port translation: the host behind it (the left one) appears as `outside`, with ports of the box's choice. */
export class Nat implements Middlebox {
  readonly name = 'nat';
  private readonly inside = new Map<number, { address: Uint8Array; port: number; usedUs: number }>();
  private readonly outsidePorts = new Map<string, number>();
  private nextPort = 40_000;

  /** `outside`: raw bytes of the address; `outbound`: away from the host behind the box. */
  constructor(
    private readonly outside: Uint8Array,
    private readonly outbound: Heading = 'right',
    /** A translation that no packet has used for longer than this is forgotten. */
    private readonly maxIdleUs = Number.POSITIVE_INFINITY,
  ) {}

  publicAddresses(): readonly Uint8Array[] {
    return this.outbound === 'right' ? [this.outside] : [];
  }

  /** Forgets all translations, as after a restart: what comes in now is dropped, what goes out gets new ports. */
  rebind(): void {
    this.inside.clear();
    this.outsidePorts.clear();
  }

  private forgetIdle(nowUs: number): void {
    if (this.maxIdleUs === Number.POSITIVE_INFINITY) return;
    for (const [port, { usedUs }] of this.inside) {
      if (nowUs - usedUs <= this.maxIdleUs) continue;
      this.inside.delete(port);
      for (const [key, own] of this.outsidePorts) if (own === port) this.outsidePorts.delete(key);
    }
  }

  process(nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    this.forgetIdle(nowUs);
    if (!packet.isTcp || packet.addressBytes !== this.outside.length) {
      out.drop(packet, 'nat-protocol');
      return;
    }
    if (heading === this.outbound) {
      const at = packet.sourceOffset;
      const address = packet.buf.slice(at, at + packet.addressBytes);
      const key = `${address.join('.')}:${packet.sourcePort}`;
      let port = this.outsidePorts.get(key);
      if (port === undefined) {
        port = this.allocatePort();
        this.outsidePorts.set(key, port);
        this.inside.set(port, { address, port: packet.sourcePort, usedUs: nowUs });
      }
      this.inside.get(port)!.usedUs = nowUs;
      packet.buf.set(this.outside, at);
      packet.sourcePort = port;
    } else {
      const target = this.inside.get(packet.destinationPort);
      if (target === undefined) {
        out.drop(packet, 'nat-unknown');
        return;
      }
      target.usedUs = nowUs;
      packet.buf.set(target.address, packet.destinationOffset);
      packet.destinationPort = target.port;
    }
    packet.fixIpChecksum();
    packet.markRewritten();
    out.forward(packet, heading);
  }

  /** Ports run round from 40000 to 59999; the oldest translation gives way (table bounded by the range). */
  private allocatePort(): number {
    const port = this.nextPort;
    this.nextPort = port === 59_999 ? 40_000 : port + 1;
    const old = this.inside.get(port);
    if (old !== undefined) this.outsidePorts.delete(`${old.address.join('.')}:${old.port}`);
    return port;
  }
}

/** One-to-one translation in front of a server: the world knows `outside`, the host itself only `inside`. Ports stay. */
export class StaticNat implements Middlebox {
  readonly name = 'static-nat';

  /** Raw bytes of the addresses; `inbound`: towards the host behind the box. */
  constructor(
    private readonly outside: Uint8Array,
    private readonly inside: Uint8Array,
    private readonly inbound: Heading,
  ) {}

  process(_nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    const isInbound = heading === this.inbound;
    const at = isInbound ? packet.destinationOffset : packet.sourceOffset;
    const [from, to] = isInbound ? [this.outside, this.inside] : [this.inside, this.outside];
    if (!packet.isTcp || packet.addressBytes !== from.length || !from.every((byte, i) => packet.buf[at + i] === byte)) {
      out.drop(packet, 'nat-unknown');
      return;
    }
    packet.buf.set(to, at);
    packet.fixIpChecksum();
    packet.markRewritten();
    out.forward(packet, heading);
  }
}

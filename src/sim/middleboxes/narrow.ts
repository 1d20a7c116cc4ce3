/** A router whose next link carries less than it used to: a tunnel on the way, another access network. */
import { putU16 } from '../../core/base/wire-int.js';
import type { Heading, Middlebox, MiddleboxOut } from '../middlebox.js';
import { fold, type SimPacket, sumBytes } from '../packet.js';

/** RFC 792, RFC 1191 4; RFC 4443 3.2. */
const UNREACHABLE = 3;
const FRAGMENTATION_NEEDED = 4;
const PACKET_TOO_BIG = 2;
const PROTOCOL_ICMP = 1;
const PROTOCOL_ICMP6 = 58;
const ICMP_HEADER_BYTES = 8;
/** Of the packet that did not fit: its IP header and 8 bytes must be there (RFC 792), more is welcome (RFC 1812 4.3.2.3). */
const QUOTED_BYTES = 100;

export class NarrowRouter implements Middlebox {
  readonly name = 'narrow-router';
  mtuBytes = 1500;
  /** ICMP errors sent. */
  told = 0;

  /** `own`: raw bytes of the router's address, from which it tells senders; null: it says nothing. */
  constructor(private readonly own: Uint8Array | null) {}

  process(_nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    if (packet.length <= this.mtuBytes) {
      out.forward(packet, heading);
      return;
    }
    const error =
      this.own === null || this.own.length !== packet.addressBytes ? null : this.tooBig(packet, this.own, out);
    out.drop(packet, this.name);
    if (error === null) return;
    this.told++;
    out.forward(error, heading === 'right' ? 'left' : 'right');
  }

  private tooBig(packet: SimPacket, own: Uint8Array, out: MiddleboxOut): SimPacket {
    const ipBytes = packet.family === 4 ? 20 : 40;
    const quotedBytes = Math.min(packet.length, QUOTED_BYTES);
    const error = out.pool.take(ipBytes + ICMP_HEADER_BYTES + quotedBytes);
    const { buf } = error;
    buf.fill(0, 0, ipBytes + ICMP_HEADER_BYTES);
    buf.set(packet.buf.subarray(0, quotedBytes), ipBytes + ICMP_HEADER_BYTES);
    if (packet.family === 4) {
      buf.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, PROTOCOL_ICMP]);
      buf.set([UNREACHABLE, FRAGMENTATION_NEEDED], ipBytes);
      putU16(buf, ipBytes + 6, this.mtuBytes);
    } else {
      buf.set([0x60, 0, 0, 0, 0, 0, PROTOCOL_ICMP6, 64]);
      buf[ipBytes] = PACKET_TOO_BIG;
      putU16(buf, ipBytes + 6, this.mtuBytes);
    }
    error.length = ipBytes + ICMP_HEADER_BYTES + quotedBytes;
    error.parse();
    buf.set(own, error.sourceOffset);
    buf.set(packet.buf.subarray(packet.sourceOffset, packet.sourceOffset + own.length), error.destinationOffset);
    error.setLength(error.length);
    const icmpBytes = error.length - ipBytes;
    // ICMPv6 has a pseudo-header (RFC 4443 2.3), ICMP has none.
    const pseudo =
      packet.family === 4 ? 0 : sumBytes(buf, error.sourceOffset, 2 * own.length) + icmpBytes + PROTOCOL_ICMP6;
    putU16(buf, ipBytes + 2, ~fold(pseudo + sumBytes(buf, ipBytes, icmpBytes)) & 0xffff);
    error.markRewritten();
    return error;
  }
}

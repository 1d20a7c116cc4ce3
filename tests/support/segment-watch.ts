/**
 * What must hold of every segment that a host sends, read from its bytes by nothing of the stack's own: options are well
 * formed and at most 40 bytes, and the right edge of the advertised window never moves left (RFC 9293 3.8.6; with Multipath
 * TCP at data level, over all subflows, RFC 8684 3.3.4), but for the part of a unit that a scaled window field cannot say
 * (RFC 7323 2.4).
 */
import { getU16, getU32 } from '../../src/core/base/wire-int.js';
import type { SimPacket } from '../../src/sim/packet.js';

const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;
const MAX_OPTION_BYTES = 40;

export class SegmentWatch {
  segments = 0;
  /** Over all bytes of all segments. */
  hash = 0x811c9dc5;
  /** Window scale by host and port pair; right edge by host, and with plain TCP by port pair as well. */
  private readonly scales = new Map<string, number>();
  private readonly edges = new Map<string, number>();

  constructor(
    private readonly isMptcp: boolean,
    private readonly onBroken: (what: string) => void,
  ) {}

  onSegment(host: string, packet: SimPacket): void {
    if (!packet.isTcp) return;
    const { buf, l4Offset, payloadOffset } = packet;
    this.segments++;
    for (let i = l4Offset; i < packet.length; i++) this.hash = Math.imul(this.hash ^ buf[i]!, 0x01000193) >>> 0;
    const optionBytes = payloadOffset - l4Offset - 20;
    if (optionBytes > MAX_OPTION_BYTES) this.onBroken(`${host}: ${optionBytes} bytes of options`);
    const flags = buf[l4Offset + 13]!;
    const flow = `${host} ${packet.buf.subarray(packet.sourceOffset, packet.sourceOffset + packet.addressBytes)} ${packet.sourcePort} ${getU16(packet.buf, packet.l4Offset + 2)}`;
    let dataAck = -1;
    for (let o = l4Offset + 20; o < payloadOffset; ) {
      const kind = buf[o]!;
      if (kind === 0) break;
      if (kind === 1) {
        o++;
        continue;
      }
      const length = buf[o + 1]!;
      if (length < 2 || o + length > payloadOffset) {
        this.onBroken(`${host}: option ${kind} of ${length} bytes does not fit`);
        return;
      }
      if (kind === 3 && (flags & SYN) !== 0) this.scales.set(flow, buf[o + 2]!);
      if (kind === 30 && buf[o + 2]! >> 4 === 2 && (buf[o + 3]! & 1) !== 0)
        dataAck = (buf[o + 3]! & 2) !== 0 ? getU32(buf, o + 8) : getU32(buf, o + 4);
      o += length;
    }
    if ((flags & (SYN | RST)) !== 0 || (flags & ACK) === 0) return;
    if (this.isMptcp && dataAck < 0) return;
    const scale = this.scales.get(flow) ?? 0;
    const window = getU16(buf, l4Offset + 14) << scale;
    const key = this.isMptcp ? host : flow;
    const edge = ((this.isMptcp ? dataAck : getU32(buf, l4Offset + 8)) + window) >>> 0;
    const before = this.edges.get(key);
    const moved = before === undefined ? 1 : (edge - before) | 0;
    if (moved <= -(1 << scale))
      this.onBroken(`${host}: the right edge moved left by ${-moved}${(flags & FIN) !== 0 ? ' (FIN)' : ''}`);
    if (moved > 0) this.edges.set(key, edge);
  }
}

/**
 * What comes out of the tunnel before it may reach the kernel (DESIGN 3.3). A peer's offload metadata is never passed
 * on: all that it may say is gso_size, and the vnet header is rebuilt from the packet itself. Refused: what is not TCP in
 * a super-packet, a gso_size below 500 or above the MTU, an address that was not assigned, bad lengths.
 *
 * Checksums. Context 0 carries finished checksums: they go on untouched and the far kernel verifies them. Context 2
 * carries TCP or UDP whose checksum nobody has made yet (a local sender left it to hardware); TLS has protected the
 * bytes since, so the sum of the pseudo-header is put in here and the kernel (or its hardware) makes the rest.
 */
import { type IpAddress, ipEqualsAt } from '../base/ip.js';
import { putU16 } from '../base/wire-int.js';
import {
  checksumOffset,
  type InnerReason,
  InnerView,
  PROTO_TCP,
  PROTO_UDP,
  parseInner,
  pseudoHeaderSum,
} from './inner-packet.js';

/** Segments smaller than this are no use to anyone but an attacker who wants a packet to become thousands. */
export const MIN_GSO_BYTES = 500;

/** Flags that a super-packet cannot have: kernel TSO never makes them. SYN, RST, URG. */
const TCP_NOT_IN_SUPER = 0x02 | 0x04 | 0x20;

export type CheckReason =
  | InnerReason
  | 'inner_source'
  | 'inner_destination'
  | 'inner_mtu'
  | 'inner_not_offloadable'
  | 'super_not_tcp'
  | 'super_gso_size'
  | 'super_flags';

/** Which address a packet out of the tunnel must have: the server checks sources, the client destinations. */
export interface AddressRule {
  readonly field: 'source' | 'destination';
  readonly addresses: readonly IpAddress[];
}

/** What the TUN's TransmitBatch needs to know. `view` is filled as well. */
export class CheckedPacket {
  readonly view = new InnerView();
  /** > 0: super-packet. */
  gsoSize = 0;
  /** Offset of the checksum field in the L4 header where the kernel is to finish it, else -1. */
  csumOffset = -1;
}

/**
 * Checks one packet of `lengthBytes`, of which the first `readableBytes` (at least min(lengthBytes, 128)) lie at b[o..].
 * `gsoSize` -1: context 0; else context 2, and the pseudo-header sum is written into the packet.
 */
export function checkInner(
  b: Uint8Array,
  o: number,
  readableBytes: number,
  lengthBytes: number,
  gsoSize: number,
  rule: AddressRule,
  mtuBytes: number,
  out: CheckedPacket,
): CheckReason | null {
  const v = out.view;
  const malformed = parseInner(b, o, readableBytes, lengthBytes, v);
  if (malformed !== null) return malformed;
  if (!isAllowed(b, o, v, rule)) return rule.field === 'source' ? 'inner_source' : 'inner_destination';
  out.gsoSize = 0;
  out.csumOffset = -1;
  if (gsoSize <= 0 && lengthBytes > mtuBytes) return 'inner_mtu';
  if (gsoSize < 0) return null;

  if (gsoSize > 0) {
    if (v.protocol !== PROTO_TCP || !v.hasPorts || v.isFragment) return 'super_not_tcp';
    if (gsoSize < MIN_GSO_BYTES || gsoSize + v.headerBytes > mtuBytes) return 'super_gso_size';
    if ((v.tcpFlags & TCP_NOT_IN_SUPER) !== 0) return 'super_flags';
    // The kernel refuses a "super-packet" of one segment; it is an ordinary packet.
    if (v.totalBytes - v.headerBytes > gsoSize) out.gsoSize = gsoSize;
  } else if (!v.hasPorts || v.isFragment || (v.protocol !== PROTO_TCP && v.protocol !== PROTO_UDP)) {
    return 'inner_not_offloadable';
  }
  out.csumOffset = checksumOffset(v.protocol);
  putU16(b, o + v.l4Offset + out.csumOffset, pseudoHeaderSum(b, o, v));
  return null;
}

function isAllowed(b: Uint8Array, o: number, v: InnerView, rule: AddressRule): boolean {
  const at = o + (rule.field === 'source' ? v.srcAt : v.dstAt);
  for (const address of rule.addresses) if (address.family === v.family && ipEqualsAt(address, b, at)) return true;
  return false;
}

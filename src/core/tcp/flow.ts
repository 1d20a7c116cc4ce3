/** The four-tuple of a subflow and the link it leaves by. */
import type { Family, IpAddress } from '../base/ip.js';

export interface FlowTuple {
  readonly linkId: number;
  readonly family: Family;
  readonly localAddress: IpAddress;
  readonly localPort: number;
  readonly remoteAddress: IpAddress;
  readonly remotePort: number;
}

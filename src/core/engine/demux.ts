/**
 * Four-tuple → subflow (or whatever else has a four-tuple), without allocating per packet: a map by the two ports, then the few entries that share them are
 * compared in place. (All subflows of a connection share the local port; addresses tell them apart.)
 */
import { ipEquals, ipEqualsAt } from '../base/ip.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { SegmentView } from '../wire/segment.js';

export class Demux<T extends { readonly flow: FlowTuple }> {
  private readonly byPorts = new Map<number, T[]>();
  size = 0;

  add(sf: T): boolean {
    const key = portsKey(sf.flow.localPort, sf.flow.remotePort);
    const bucket = this.byPorts.get(key);
    if (bucket === undefined) {
      this.byPorts.set(key, [sf]);
    } else {
      if (bucket.some((other) => isSameTuple(other.flow, sf.flow))) return false;
      bucket.push(sf);
    }
    this.size++;
    return true;
  }

  remove(sf: T): void {
    const key = portsKey(sf.flow.localPort, sf.flow.remotePort);
    const bucket = this.byPorts.get(key);
    const i = bucket?.indexOf(sf) ?? -1;
    if (bucket === undefined || i < 0) return;
    bucket.splice(i, 1);
    this.size--;
    if (bucket.length === 0) this.byPorts.delete(key);
  }

  /** The subflow that has this four-tuple. */
  ofFlow(flow: FlowTuple): T | undefined {
    return this.byPorts.get(portsKey(flow.localPort, flow.remotePort))?.find((sf) => isSameTuple(sf.flow, flow));
  }

  /** The subflow a received segment belongs to. */
  find(seg: SegmentView): T | undefined {
    return this.lookup(seg.buf, seg.family, seg.dstOff, seg.srcOff, seg.dstPort, seg.srcPort);
  }

  /** As `find`, with the offsets of our own and the peer's address given (ICMP quotes what we sent). */
  lookup(
    buf: Uint8Array,
    family: 4 | 6,
    localOff: number,
    remoteOff: number,
    localPort: number,
    remotePort: number,
  ): T | undefined {
    const bucket = this.byPorts.get(portsKey(localPort, remotePort));
    if (bucket === undefined) return undefined;
    for (const sf of bucket) {
      if (
        sf.flow.family === family &&
        ipEqualsAt(sf.flow.remoteAddress, buf, remoteOff) &&
        ipEqualsAt(sf.flow.localAddress, buf, localOff)
      ) {
        return sf;
      }
    }
    return undefined;
  }
}

function portsKey(localPort: number, remotePort: number): number {
  return localPort * 65536 + remotePort;
}

/** Of two flows with the same ports. */
function isSameTuple(a: FlowTuple, b: FlowTuple): boolean {
  return ipEquals(a.localAddress, b.localAddress) && ipEquals(a.remoteAddress, b.remoteAddress);
}

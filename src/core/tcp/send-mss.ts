/** Effective send MSS: the peer's MSS option and the path MTU, less the options of a data segment (RFC 9293 3.7.1, 6691). */
import type { CongestionController } from '../congestion/controller.js';
import type { SegmentView } from '../wire/segment.js';
import { timestampsBytesBeside } from '../wire/tcp.js';
import type { SubflowOwner } from './owner.js';
import type { PathMtu } from './pmtu.js';
import type { TcpSubflow } from './subflow.js';
import type { Timestamps } from './timestamps.js';

const TCP_HEADER = 20;
/** RFC 6691, RFC 9293 3.7.1: an MSS below this is somebody's mistake or attack. */
const MIN_MSS = 88;
/** RFC 9293 3.7.1: without the option. */
const DEFAULT_MSS_V4 = 536;
const DEFAULT_MSS_V6 = 1220;

export class SendMss {
  /** Payload of a full data segment. */
  bytes: number;
  readonly #ipHeaderBytes: number;
  #peerMss: number;

  constructor(
    private readonly sf: TcpSubflow,
    private readonly owner: SubflowOwner,
    private readonly pmtu: PathMtu,
    private readonly ts: Timestamps,
    public cc: CongestionController,
  ) {
    this.#ipHeaderBytes = sf.flow.family === 6 ? 40 : 20;
    this.#peerMss = pmtu.mtuBytes - this.#ipHeaderBytes - TCP_HEADER; // until the peer's SYN says
    this.bytes = this.bytesAt(pmtu.mtuBytes);
  }

  onPeerSyn(seg: SegmentView): void {
    const fallback = seg.family === 6 ? DEFAULT_MSS_V6 : DEFAULT_MSS_V4;
    this.#peerMss = seg.mss < 0 ? fallback : Math.max(seg.mss, MIN_MSS);
    this.refresh();
  }

  /** Payload of a full data segment if the path MTU were `mtuBytes`. */
  bytesAt(mtuBytes: number): number {
    const most = Math.min(mtuBytes - this.#ipHeaderBytes - TCP_HEADER, this.#peerMss);
    return Math.max(1, most - this.#optionBytes);
  }

  /** Size of the packet that carries `payloadBytes` of data. */
  packetBytes(payloadBytes: number): number {
    return payloadBytes + this.#ipHeaderBytes + TCP_HEADER + this.#optionBytes;
  }

  /** Something it depends on has changed: path MTU, options in use. */
  refresh(): void {
    const mss = this.bytesAt(this.pmtu.mtuBytes);
    if (mss === this.bytes) return;
    this.bytes = mss;
    this.cc.onMssChange(mss);
  }

  get #optionBytes(): number {
    const ownerBytes = this.owner.dataOptionBytes(this.sf);
    return ((this.ts.enabled ? timestampsBytesBeside(ownerBytes) : 0) + ownerBytes + 3) & ~3;
  }
}

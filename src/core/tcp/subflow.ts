/** TCP endpoint: see owner.ts for the seam. (Being written: this commit has the surface only.) */
import type { CoreEnv } from '../base/env.js';
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import type { CongestionController } from '../congestion/controller.js';
import type { SegmentView } from '../wire/segment.js';
import { type SubflowConfig, SubflowStats } from './config.js';
import type { FlowTuple } from './flow.js';
import type { SegmentSink, SubflowOwner } from './owner.js';
import { RttEstimator } from './rtt.js';
import { maySend, type TcpState } from './states.js';

export type { SubflowConfig } from './config.js';
export { DEFAULT_SUBFLOW_CONFIG, SubflowStats } from './config.js';
export type { TcpState } from './states.js';

export class TcpSubflow {
  readonly rtt: RttEstimator;
  readonly cc: CongestionController;
  readonly stats = new SubflowStats();
  /** Initial sequence numbers on the wire; `irs` is 0 until the peer's SYN arrived. */
  readonly iss: number;
  irs = 0;

  constructor(
    readonly env: CoreEnv,
    readonly owner: SubflowOwner,
    readonly flow: FlowTuple,
    readonly config: SubflowConfig,
    isn: number,
  ) {
    this.iss = isn;
    this.rtt = new RttEstimator(config.initialRtoUs, config.minRtoUs, config.maxRtoUs);
    this.cc = config.congestion({ mssBytes: 1460, initialCwndSegments: config.initialCwndSegments });
  }

  get state(): TcpState {
    return 'closed';
  }
  get isEstablished(): boolean {
    return false;
  }
  get canSendData(): boolean {
    return maySend(this.state);
  }
  get sndUna(): number {
    return 0;
  }
  get sndNxt(): number {
    return 0;
  }
  get sndWndBytes(): number {
    return 0;
  }
  get rcvNxt(): number {
    return 0;
  }
  /** Highest relative sequence number received so far, out of order included. */
  get maxRcvNxt(): number {
    return 0;
  }
  get mssBytes(): number {
    return 1460;
  }
  get inFlightBytes(): number {
    return 0;
  }
  get deliveryRateBytesPerS(): number {
    return 0;
  }
  get rtoCount(): number {
    return 0;
  }
  get oldestUnackedSentUs(): Micros {
    return NEVER;
  }
  get lastReceivedUs(): Micros {
    return 0;
  }
  get lastProgressUs(): Micros {
    return 0;
  }

  connect(_nowUs: Micros): void {}
  accept(_nowUs: Micros, _syn: SegmentView): void {}
  onSegment(_nowUs: Micros, _seg: SegmentView): void {}
  onIcmp(_nowUs: Micros, _hard: boolean, _mtuBytes: number, _quotedSeq: number): void {}
  onTimer(_nowUs: Micros): void {}
  nextDeadline(): Micros {
    return NEVER;
  }
  pollTransmit(_nowUs: Micros, _sink: SegmentSink): void {}
  hasWork(_nowUs: Micros): boolean {
    return false;
  }
  requestAck(_nowUs: Micros): void {}
  sendFin(_nowUs: Micros): void {}
  abort(_nowUs: Micros, _sendRst: boolean): void {}
  availableBytes(_nowUs: Micros): number {
    return 0;
  }
  readyAtUs(_nowUs: Micros): Micros {
    return NEVER;
  }
  forEachUnacked(_fn: (seq: number, lengthBytes: number, tag: unknown, isSacked: boolean) => void): void {}
  setProbeInterval(_us: Micros): void {}
  kick(_nowUs: Micros): void {}
  onMtuChange(_mtuBytes: number): void {}
  /** The owner has nothing (more) for this subflow although it could send: delivery-rate samples are app-limited. */
  markAppLimited(_nowUs: Micros): void {}
  /** The peer's window scale: shift of the window field in segments without SYN. Used for the connection-level window. */
  get sndWndShift(): number {
    return 0;
  }
  setNoDelay(_noDelay: boolean): void {}
}

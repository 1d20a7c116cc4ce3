/**
 * Transmission control block (RFC 9293 3.3.1): the state of one endpoint and the machines that it is made of. They share
 * it; the public face is subflow.ts.
 */
import type { Micros } from '../base/time.js';
import type { SegmentView } from '../wire/segment.js';
import { Answers } from './answers.js';
import { Closing } from './closing.js';
import type { SubflowConfig, SubflowStats } from './config.js';
import { Handshake } from './handshake.js';
import { Keepalive } from './keepalive.js';
import type { SubflowOwner } from './owner.js';
import { Receiver } from './receiver.js';
import type { RttEstimator } from './rtt.js';
import { type Negotiated, SegmentWriter } from './segment-writer.js';
import { Sender } from './sender.js';
import type { TcpState } from './states.js';
import type { TcpSubflow } from './subflow.js';
import { Timestamps } from './timestamps.js';

export class Tcb {
  state: TcpState = 'closed';
  /** We sent the first SYN. */
  isActiveOpen = false;
  /** When the last acceptable segment arrived. */
  lastReceivedUs: Micros = 0;

  readonly config: SubflowConfig;
  readonly stats: SubflowStats;
  readonly rtt: RttEstimator;
  readonly ts: Timestamps;
  readonly negotiated: Negotiated;
  readonly receiver: Receiver;
  readonly writer: SegmentWriter;
  readonly sender: Sender;
  readonly handshake: Handshake;
  readonly answers: Answers;
  readonly closing: Closing;
  readonly keepalive: Keepalive;

  constructor(
    readonly sf: TcpSubflow,
    readonly owner: SubflowOwner,
  ) {
    const { config, stats, rtt } = sf;
    const headerBytes = (sf.flow.family === 6 ? 40 : 20) + 20;
    this.config = config;
    this.stats = stats;
    this.rtt = rtt;
    this.ts = new Timestamps(sf.tsOffset);
    this.negotiated = {
      sendShift: 0,
      receiveShift: 0,
      sack: false,
      ecn: false,
      offerWscale: true,
      offerSack: config.useSack,
      offerTs: config.useTimestamps,
      offerEcn: config.useEcn,
      localMss: config.mtuBytes - headerBytes,
    };
    const cc = config.congestion({
      mssBytes: config.mtuBytes - headerBytes - (config.useTimestamps ? 12 : 0),
      initialCwndSegments: config.initialCwndSegments,
      initialSsthreshBytes: config.initialSsthreshBytes,
      recall: config.recall,
      coupling: config.coupling,
    });
    this.receiver = new Receiver(config, stats);
    this.writer = new SegmentWriter(sf, owner, this.receiver, this.ts, this.negotiated, stats);
    this.sender = new Sender(sf, owner, config, rtt, cc, this.ts, stats, this.writer);
    this.handshake = new Handshake(this);
    this.answers = new Answers(this);
    this.closing = new Closing(this);
    this.keepalive = new Keepalive(config);
  }

  get isOpen(): boolean {
    return this.state !== 'closed';
  }

  /** The owner sees the options; false: it wants the segment ignored or the subflow aborted (which then has happened). */
  askOwner(nowUs: Micros, seg: SegmentView): boolean {
    const verdict = this.owner.onOptions(nowUs, this.sf, seg);
    if (verdict === 'reset') this.closing.abort(nowUs, true);
    return verdict === 'continue' && this.isOpen;
  }
}

/** What the parts of the sending half share: the subflow's surroundings and the machines that several of them use. */
import type { CongestionController } from '../congestion/controller.js';
import type { SubflowStats } from './config.js';
import type { DeliveryRate } from './delivery-rate.js';
import type { EcnReaction } from './ecn-reaction.js';
import type { SubflowOwner } from './owner.js';
import type { PathProbe } from './path-probe.js';
import type { PathMtu } from './pmtu.js';
import type { RttEstimator } from './rtt.js';
import type { Scoreboard } from './scoreboard.js';
import type { SegmentWriter } from './segment-writer.js';
import type { SendMss } from './send-mss.js';
import type { SendSpace } from './send-space.js';
import type { TcpSubflow } from './subflow.js';
import type { Timestamps } from './timestamps.js';

export interface SendContext {
  readonly sf: TcpSubflow;
  readonly owner: SubflowOwner;
  readonly rtt: RttEstimator;
  /** Another one after `Sender.setController`. */
  cc: CongestionController;
  readonly ts: Timestamps;
  readonly stats: SubflowStats;
  readonly writer: SegmentWriter;
  readonly space: SendSpace;
  readonly board: Scoreboard;
  readonly rate: DeliveryRate;
  readonly pmtu: PathMtu;
  readonly mss: SendMss;
  readonly ecn: EcnReaction;
  readonly pathProbe: PathProbe;
}

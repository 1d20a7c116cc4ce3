/** What a connection needs from the engine that owns it. */
import type { CoreEnv } from '../base/env.js';
import type { Micros } from '../base/time.js';
import type { ControllerFactory } from '../congestion/controller.js';
import type { Coupling } from '../congestion/coupling.js';
import type { EngineEvent, LinkInfo } from '../engine/api.js';
import type { Scheduler } from '../scheduler/scheduler.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { SegmentSink } from '../tcp/owner.js';
import type { SubflowConfig } from '../tcp/subflow.js';
import type { Connection } from './connection.js';
import type { PlainDestinations } from './plain-destinations.js';
import type { MptcpSubflow } from './subflow.js';

export interface ConnectionHost {
  readonly env: CoreEnv;
  readonly plainDestinations: PlainDestinations;
  emit(event: EngineEvent): void;
  /** Adds to a monotonic counter; kernel MIB names where one exists. */
  count(name: string, n?: number): void;
  /** The connection has something to send or its deadline changed: poll it in the next flush. */
  markDirty(connection: Connection): void;
  /** Puts the subflow's four-tuple into the demultiplexer. False if the tuple is taken. */
  register(subflow: MptcpSubflow): boolean;
  unregister(subflow: MptcpSubflow): void;
  /** The connection is over; its subflows may have something to say yet. */
  over(connection: Connection): void;
  /** Nothing of the connection is left. */
  forget(connection: Connection): void;
  link(linkId: number): LinkInfo | undefined;
  isn(nowUs: Micros, flow: FlowTuple): number;
  /** Where the timestamp clock of a four-tuple starts. */
  tsOffset(flow: FlowTuple): number;
  subflowConfig(nowUs: Micros, flow: FlowTuple, congestion: string | undefined, coupling: Coupling): SubflowConfig;
  scheduler(name: string | undefined): Scheduler;
  controller(name: string | undefined): ControllerFactory;
  /** `subflow` is probed seldom from now on (or no more): a packet from its link is to be told to its connection. */
  noteSlowProbes(subflow: MptcpSubflow, areSlow: boolean): void;
  /** Where a subflow's segments go during `poll`. */
  sink(linkId: number): SegmentSink;
  /** True while the link's local queue is long enough: no further data there now (acknowledgments still go). */
  isLinkBusy(linkId: number): boolean;
  /** A key whose token is unique among live connections, or the one that `connection.settings` brings. */
  newKey(connection: Connection): Uint8Array;
}

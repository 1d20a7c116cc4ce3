/** Settings of an engine. */
import { US_PER_S } from '../base/time.js';
import { DEFAULT_CONTROLLER } from '../congestion/index.js';
import { DEFAULT_SCHEDULER } from '../scheduler/index.js';
import type { SubflowConfig } from '../tcp/subflow.js';
import type { ChecksumPolicy } from './api.js';

export interface EngineConfig {
  /** Congestion controller and scheduler where a connection does not name one. */
  readonly congestion: string;
  readonly scheduler: string;
  /** Ask for DSS checksums (RFC 8684 3.1 recommends them unless the administrator says otherwise; docs/decisions). */
  readonly checksum: ChecksumPolicy;
  /** False: the peer is not to join to the address and port of the initial subflow (RFC 8684 3.1, flag C): a NAT or a load
   * balancer would send it elsewhere. Addresses that were announced are open all the same. */
  readonly joinInitial: boolean;
  /** Receive window of a connection, shared by its subflows. */
  readonly receiveBufferBytes: number;
  /** Shift of our advertised windows (RFC 7323): 65535 << shift must cover the receive buffer. */
  readonly windowScale: number;
  /** Live connections; a SYN beyond is dropped and counted. */
  readonly maxConnections: number;
  /**
   * Connections that are over and wait in TIME-WAIT; beyond, the longest waiting ones are let go before their time, as by the
   * kernel's tcp_max_tw_buckets. What is late for them gets a RST, and timestamps keep it out of a new one (RFC 7323 5).
   */
  readonly maxTimeWait: number;
  /** Connections whose handshake is not complete; a SYN beyond is answered with a cookie (RFC 4987 3.6, syn-cookies.ts). */
  readonly maxHalfOpen: number;
  /** Overrides of the TCP settings of every subflow. */
  readonly tcp: Partial<SubflowConfig>;
}

/**
 * Keepalives of a tunnel client's subflows. NATs and firewalls that forget an idle TCP connection within hours (RFC 5382
 * REQ-5 says two) do so after one minute at the very earliest; each probe and its answer are 128 bytes (IPv6: 168), so two
 * connections on an idle metered link cost about half a megabyte a day (tests/sim/handover-idle.test.ts prints it). What is
 * not answered is asked again every two seconds; mptcp/stall.ts suspects the path before TCP would give it up.
 */
export const TUNNEL_KEEPALIVE: Partial<SubflowConfig> = {
  keepalive: true,
  keepaliveIdleUs: 55 * US_PER_S,
  keepaliveIntervalUs: 2 * US_PER_S,
};

export const DEFAULT_ENGINE_CONFIG: EngineConfig = {
  congestion: DEFAULT_CONTROLLER,
  scheduler: DEFAULT_SCHEDULER,
  checksum: false,
  joinInitial: true,
  receiveBufferBytes: 8 * 1024 * 1024,
  windowScale: 8,
  maxConnections: 4096,
  maxTimeWait: 1024,
  maxHalfOpen: 1024,
  tcp: {},
};

/** Settings of an engine. */
import { DEFAULT_CONTROLLER } from '../congestion/index.js';
import { DEFAULT_SCHEDULER } from '../scheduler/index.js';
import type { SubflowConfig } from '../tcp/subflow.js';

export interface EngineConfig {
  /** Congestion controller and scheduler where a connection does not name one. */
  readonly congestion: string;
  readonly scheduler: string;
  /** Ask for DSS checksums (RFC 8684 3.1 recommends them unless the administrator says otherwise; docs/decisions). */
  readonly checksum: boolean;
  /** Receive window of a connection, shared by its subflows. */
  readonly receiveBufferBytes: number;
  /** Shift of our advertised windows (RFC 7323): 65535 << shift must cover the receive buffer. */
  readonly windowScale: number;
  /** Live connections; a SYN beyond is dropped and counted. */
  readonly maxConnections: number;
  /** Connections whose handshake is not complete; a SYN beyond is answered with a cookie (RFC 4987 3.6, syn-cookies.ts). */
  readonly maxHalfOpen: number;
  /** Overrides of the TCP settings of every subflow. */
  readonly tcp: Partial<SubflowConfig>;
}

export const DEFAULT_ENGINE_CONFIG: EngineConfig = {
  congestion: DEFAULT_CONTROLLER,
  scheduler: DEFAULT_SCHEDULER,
  checksum: false,
  receiveBufferBytes: 8 * 1024 * 1024,
  windowScale: 8,
  maxConnections: 4096,
  maxHalfOpen: 1024,
  tcp: {},
};

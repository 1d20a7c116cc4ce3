/**
 * What the parts of the flow lane agree on. A flow is one TCP connection of an application: it comes from the TUN (ended
 * there by our own TCP) or from `mptun proxy`; the rules choose a way for it; the way's dialer reaches the destination; the
 * two streams are then joined.
 */
import type { Duplex } from 'node:stream';
import type { IpAddress } from '../../core/base/ip.js';
import type { ConnectionApi, Endpoint } from '../../core/engine/api.js';
import type { TrafficMode } from '../../core/scheduler/modes.js';

/** relay: HTTP CONNECT at our server. direct: MPTCP (or TCP) to the destination. convert: RFC 8803. */
export type FlowWay = 'relay' | 'direct' | 'convert';

/** What is known of a flow when it begins. */
export interface FlowTarget {
  /** Name or literal address, as the application asked (a proxy's client may give a name; a TUN only addresses). */
  readonly host: string;
  readonly port: number;
  /** null: only a name is known. */
  readonly address: IpAddress | null;
  /** The application's end; null where it is not known. */
  readonly source: Endpoint | null;
  /** Of its SYN; absent where it is not known. */
  readonly dscp?: number;
}

/** What the rules say of a flow; `mode` as in `traffic.mode`. 'packet': not ended here, the packet lane carries it. */
export interface FlowDecision {
  readonly way: FlowWay | 'packet';
  readonly mode: TrafficMode;
}

export interface FlowRules {
  /** Once per flow, when it begins; called for each new connection, so it is quick and never throws. */
  decide(target: FlowTarget): FlowDecision;
}

/** As the standard's answers tell them apart; the TUN side turns them into RST, ICMP or silence, a proxy into its replies. */
export type DialFailure =
  /** The destination answered with RST. */
  | 'refused'
  /** No route, host or network unreachable. */
  | 'unreachable'
  /** Nothing was heard of the destination. */
  | 'timeout'
  /** A policy forbids it (ours, the relay's or the converter's). */
  | 'denied'
  /** The way itself does not work now (no link, no server, limits). */
  | 'unavailable';

export class DialError extends Error {
  constructor(
    readonly failure: DialFailure,
    message: string,
    /** The ICMP code where the far side told it. */
    readonly icmpCode: number | null = null,
  ) {
    super(message);
  }
}

/**
 * The far side of a flow, connected. `stream` is what the application's bytes go through, both ways, half-close included:
 * 'end' is the far side's FIN, `end()` ours, 'error' its RST. Who joins the flow to it watches `connection.unsentBytes` and
 * leaves `setSendSpace` alone.
 */
export interface FlowOutbound {
  readonly stream: Duplex;
  /**
   * True: the stream is the connection itself (daemon/duplex.ts). What 'data' brings is lent until the listener returns, who
   * keeps it copies it; and what is written must not change any more, also after it was taken.
   */
  readonly lendsData?: boolean;
  /** What carries it, for scheduling and for `mptun flows`. */
  readonly connection: ConnectionApi;
  readonly way: FlowWay;
  /** Ends it at once, as a RST of the application's does. */
  abort(): void;
}

export interface FlowDialer {
  readonly way: FlowWay;
  /** Throws DialError. An aborted signal ends the attempt; what it had opened is closed. */
  dial(target: FlowTarget, signal: AbortSignal): Promise<FlowOutbound>;
}

/** What an error of `dial` is to be taken for. */
export function failureOf(error: unknown): DialFailure {
  return error instanceof DialError ? error.failure : 'unavailable';
}

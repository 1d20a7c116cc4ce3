/**
 * Joins that the peer has begun (RFC 8684 3.2): the SYN/ACK is out, the third packet is yet to come. Whoever learnt a token
 * (it is in the clear in every MP_JOIN SYN) may send such SYNs from any address, so they cost a small record each and no
 * subflow, no timer and no event (RFC 4987 3.5): a lost SYN/ACK is sent again when the SYN is, never by itself. A subflow is
 * made by a third packet with our ISN in its ACK field, whose HMAC handshake.ts then judges.
 */
import { randomU32 } from '../base/env.js';
import { ipFromBytes } from '../base/ip.js';
import { type Micros, NEVER, US_PER_S } from '../base/time.js';
import type { AnsweredSyn } from '../tcp/answered-syn.js';
import type { FlowTuple } from '../tcp/flow.js';
import type { SegmentView } from '../wire/segment.js';
import type { Connection } from './connection.js';
import { joinHmac } from './keys.js';

/** Requests of one connection; a further one takes the place of the oldest, which its own SYN can bring back. */
export const MAX_JOIN_REQUESTS = 16;
/** A third packet later than this finds nothing (the nonces are valid for one connection attempt, RFC 8684 5). */
export const JOIN_REQUEST_LIFETIME_US: Micros = 60 * US_PER_S;

export interface JoinRequest {
  readonly connection: Connection;
  readonly flow: FlowTuple;
  readonly answered: AnsweredSyn;
  readonly localNonce: number;
  readonly remoteNonce: number;
  readonly localAddressId: number;
  readonly remoteAddressId: number;
  readonly isBackup: boolean;
  readonly expiresUs: Micros;
}

export class JoinRequests {
  private readonly byFlow = new Map<string, JoinRequest>();
  /** Keys into `byFlow`, oldest first. */
  private readonly byConnection = new Map<Connection, string[]>();

  get size(): number {
    return this.byFlow.size;
  }

  /** Notes the SYN in `seg`, or finds it again if it is a retransmission. `answered`: how it would be answered now. */
  note(nowUs: Micros, connection: Connection, flow: FlowTuple, seg: SegmentView, answered: AnsweredSyn): JoinRequest {
    const key = flowKey(seg);
    const o = seg.mptcp;
    const known = this.byFlow.get(key);
    if (
      known?.connection === connection &&
      known.answered.irs === seg.seq &&
      known.remoteNonce === o.joinNonce &&
      known.expiresUs > nowUs
    ) {
      // Answered twice: the round trip can no longer be told (RFC 6298 3).
      const again = { ...known, answered: { ...known.answered, sentUs: NEVER } };
      this.byFlow.set(key, again);
      return again;
    }
    if (known !== undefined) this.remove(key, known);
    const request: JoinRequest = {
      connection,
      flow,
      answered,
      localNonce: randomU32(connection.host.env),
      remoteNonce: o.joinNonce,
      localAddressId: Math.max(0, connection.addresses.localId(flow.localAddress)),
      remoteAddressId: o.joinAddressId,
      isBackup: o.joinBackup,
      expiresUs: nowUs + JOIN_REQUEST_LIFETIME_US,
    };
    const keys = this.byConnection.get(connection) ?? [];
    if (keys.length >= MAX_JOIN_REQUESTS) {
      this.byFlow.delete(keys.shift()!);
      connection.host.count('drop_join_request_evicted');
    }
    keys.push(key);
    this.byConnection.set(connection, keys);
    this.byFlow.set(key, request);
    return request;
  }

  /** Takes the request that the segment completes: right four-tuple, right numbers, in time. */
  take(nowUs: Micros, seg: SegmentView): JoinRequest | undefined {
    if (this.byFlow.size === 0) return undefined;
    const key = flowKey(seg);
    const request = this.byFlow.get(key);
    if (request === undefined) return undefined;
    const { iss, irs } = request.answered;
    // RFC 9293 3.10.7.4: in SYN-RECEIVED exactly our SYN is to be acknowledged; anything else leaves the request alone.
    if (seg.ack !== (iss + 1) >>> 0 || seg.seq !== (irs + 1) >>> 0) return undefined;
    this.remove(key, request);
    return request.expiresUs > nowUs ? request : undefined;
  }

  forget(connection: Connection): void {
    for (const key of this.byConnection.get(connection) ?? []) this.byFlow.delete(key);
    this.byConnection.delete(connection);
  }

  private remove(key: string, { connection }: JoinRequest): void {
    this.byFlow.delete(key);
    const keys = this.byConnection.get(connection)!;
    keys.splice(keys.indexOf(key), 1);
    if (keys.length === 0) this.byConnection.delete(connection);
  }
}

/** HMAC-B of the SYN/ACK (RFC 8684 3.2). */
export function answerHmac({ connection, localNonce, remoteNonce }: JoinRequest): Uint8Array {
  const { host, keys } = connection;
  return joinHmac(host.env, keys.authLocal, keys.authRemote, localNonce, remoteNonce);
}

function flowKey(seg: SegmentView): string {
  const { buf, family } = seg;
  const remote = ipFromBytes(buf, seg.srcOff, family).text;
  return `${remote} ${seg.srcPort} ${ipFromBytes(buf, seg.dstOff, family).text} ${seg.dstPort}`;
}

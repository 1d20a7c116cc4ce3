/**
 * The converter's connections to servers where the engine makes them (RFC 8803 6.2.5, 6.2.6, 7): the client's options in our
 * SYN, the server's back to the client.
 */
import type { ConnectOptions, EngineEvent } from '../engine/api.js';
import type { DownstreamFailure } from './converter.js';
import { KIND_FAST_OPEN, KIND_MPTCP, type TcpOption } from './message.js';
import type { ConverterSession, Leg } from './session.js';

/** What is needed of the engine's connection. */
export interface Dialled extends Leg {
  readonly id: number;
  readonly synAckOptions: Uint8Array | null;
  readonly icmpCode: number;
}

/**
 * For the SYN: SACK-permitted and timestamps are in all of ours, MPTCP by `mptcp`, Fast Open as the client gave it (7.6; empty
 * asks the server for a cookie). `options` null: as the converter likes, which is with MPTCP (5.1).
 */
export function synSettings(
  options: readonly TcpOption[] | null,
  synData: Uint8Array,
): Pick<ConnectOptions, 'mptcp' | 'synOptions' | 'synData'> {
  const mptcp = options === null || options.some(({ kind }) => kind === KIND_MPTCP);
  const fastOpen = options?.find(({ kind }) => kind === KIND_FAST_OPEN);
  return {
    mptcp,
    ...(fastOpen !== undefined && {
      synOptions: Uint8Array.of(KIND_FAST_OPEN, 2 + fastOpen.value.length, ...fastOpen.value),
    }),
    ...(synData.length > 0 && { synData }),
  };
}

/** Turns the engine's events into the sessions'. */
export class DownstreamConnections {
  private readonly sessions = new Map<number, { readonly session: ConverterSession; readonly leg: Dialled }>();

  add(leg: Dialled, session: ConverterSession): void {
    this.sessions.set(leg.id, { session, leg });
  }

  onEvent(event: EngineEvent): void {
    if (!('connectionId' in event)) return;
    const entry = this.sessions.get(event.connectionId);
    if (entry === undefined) return;
    const { session, leg } = entry;
    if (event.type === 'connection-established') session.onConnected(leg, leg.synAckOptions);
    else if (event.type === 'connection-closed') {
      this.sessions.delete(event.connectionId);
      if (session.state === 'dialling') session.onFailed(failureOf(event.why, leg.icmpCode));
      else session.onDownstreamClosed(event.why !== 'done');
    }
  }
}

/** From the reasons of core/tcp (CloseReason). */
function failureOf(why: string, icmpCode: number): DownstreamFailure {
  if (why === 'refused' || why.startsWith('reset')) return { is: 'reset' };
  if (why === 'unreachable') return { is: 'unreachable', icmpCode: Math.max(0, icmpCode) };
  return why === 'timeout' ? { is: 'timeout' } : { is: 'network' };
}

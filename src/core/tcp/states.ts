/**
 * States of RFC 9293 3.3.2. LISTEN is the engine's: a subflow is created by `connect` or by `accept` of a SYN.
 *
 *   CLOSED ─connect→ SYN-SENT ─SYN,ACK→ ESTABLISHED          SYN-SENT ─SYN→ SYN-RECEIVED (simultaneous open)
 *   CLOSED ─accept→ SYN-RECEIVED ─ACK→ ESTABLISHED
 *   ESTABLISHED ─sendFin→ FIN-WAIT-1 ─ACK of FIN→ FIN-WAIT-2 ─FIN→ TIME-WAIT
 *                         FIN-WAIT-1 ─FIN→ CLOSING ─ACK of FIN→ TIME-WAIT
 *   ESTABLISHED ─FIN→ CLOSE-WAIT ─sendFin→ LAST-ACK ─ACK of FIN→ CLOSED (TIME-WAIT where the owner lingers)
 *   TIME-WAIT ─2 MSL→ CLOSED;  any ─RST, abort, R2→ CLOSED
 */
export type TcpState =
  | 'closed'
  | 'syn-sent'
  | 'syn-received'
  | 'established'
  | 'fin-wait-1'
  | 'fin-wait-2'
  | 'close-wait'
  | 'closing'
  | 'last-ack'
  | 'time-wait';

/** Both SYNs are exchanged and acknowledged (RFC 9293 3.3.2, "synchronized state"). */
export function isSynchronized(state: TcpState): boolean {
  return state !== 'closed' && state !== 'syn-sent' && state !== 'syn-received';
}

/** The user may still send: our FIN has not been asked for. */
export function maySend(state: TcpState): boolean {
  return state === 'established' || state === 'close-wait';
}

/** The peer may still send: its FIN has not arrived. */
export function mayReceive(state: TcpState): boolean {
  return state === 'established' || state === 'fin-wait-1' || state === 'fin-wait-2';
}

/** CLOSE (RFC 9293 3.10.4) in a synchronized state; others are unchanged. */
export function afterSendFin(state: TcpState): TcpState {
  if (state === 'established') return 'fin-wait-1';
  return state === 'close-wait' ? 'last-ack' : state;
}

/** Our FIN is acknowledged (RFC 9293 3.10.7.4, fifth check). */
export function afterFinAcked(state: TcpState): TcpState {
  if (state === 'fin-wait-1') return 'fin-wait-2';
  if (state === 'closing') return 'time-wait';
  return state === 'last-ack' ? 'closed' : state;
}

/** The peer's FIN is reached, in a state that may receive (RFC 9293 3.10.7.4, eighth check). */
export function afterPeerFin(state: TcpState): TcpState {
  if (state === 'established') return 'close-wait';
  if (state === 'fin-wait-1') return 'closing';
  return state === 'fin-wait-2' ? 'time-wait' : state;
}

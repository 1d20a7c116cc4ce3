/**
 * States of RFC 9293 3.3.2. LISTEN is the engine's: a subflow is created by `connect` or by `accept` of a SYN.
 *
 *   CLOSED ─connect→ SYN-SENT ─SYN,ACK→ ESTABLISHED          SYN-SENT ─SYN→ SYN-RECEIVED (simultaneous open)
 *   CLOSED ─accept→ SYN-RECEIVED ─ACK→ ESTABLISHED
 *   ESTABLISHED ─sendFin→ FIN-WAIT-1 ─ACK of FIN→ FIN-WAIT-2 ─FIN→ TIME-WAIT
 *                         FIN-WAIT-1 ─FIN→ CLOSING ─ACK of FIN→ TIME-WAIT
 *   ESTABLISHED ─FIN→ CLOSE-WAIT ─sendFin→ LAST-ACK ─ACK of FIN→ CLOSED
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

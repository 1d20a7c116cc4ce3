/**
 * The data-level retransmission timer (RFC 8684 3.3.6): subflows have delivered, but DATA_ACK stands still, so what they
 * delivered is not what the peer has. It is sent again from sndUna on, clocked by DATA_ACKs (which jump over what the peer
 * does have), in steps that double as long as it helps.
 */
import { type Micros, NEVER, US_PER_S } from '../base/time.js';
import type { Connection } from './connection.js';
import type { MptcpSubflow } from './subflow.js';

/** Data acknowledged by subflows but not by DATA_ACK is sent again after this long. */
export const DATA_RTO_US: Micros = US_PER_S;
/** First step of the retransmissions that follow, and the largest. */
const FIRST_STEP_BYTES = 65_536;
const MAX_STEP_BYTES = 1 << 20;

export class DataRto {
  deadlineUs: Micros = NEVER;
  /** Times that it has run out for good reason. */
  timeouts = 0;
  /** Recovery: up to which DSN, what has gone again so far, and the step. */
  private recoverTo = 0;
  private reinjectedTo = 0;
  private stepBytes = 0;

  constructor(private readonly c: Connection) {}

  /** A DATA_ACK moved sndUna on from `prevUna`. */
  onDataAck(prevUna: number): void {
    if (this.c.sender.sndUna <= prevUna || prevUna >= this.recoverTo) return;
    this.stepBytes = Math.min(2 * this.stepBytes, MAX_STEP_BYTES);
    this.goOn();
  }

  /** Behind a DATA_ACK: runs while data is unacknowledged, and starts over with every advance. */
  restart(nowUs: Micros, isAdvance: boolean): void {
    if (this.c.sender.unackedBytes === 0) this.deadlineUs = NEVER;
    else if (this.deadlineUs === NEVER || isAdvance) this.deadlineUs = nowUs + this.timeoutUs();
  }

  stop(): void {
    this.deadlineUs = NEVER;
  }

  /** If no subflow is still working on the first bytes, they go again anywhere. */
  onTimer(nowUs: Micros): void {
    const { c } = this;
    const { sender } = c;
    this.deadlineUs = NEVER;
    if (c.mode !== 'mptcp' || sender.unackedBytes === 0 || c.fallback.isUnderWay) return;
    this.deadlineUs = nowUs + this.timeoutUs();
    const una = sender.sndUna;
    const isWorkedOn = (sf: MptcpSubflow) =>
      !sf.isStalled && sf.tcp.canSendData && c.reinjector.hasOutstanding(sf, una);
    if (c.subflows.some(isWorkedOn)) return;
    this.timeouts++;
    c.host.count('data_rto');
    if (!c.fallback.resetStripped(nowUs)) this.recover(nowUs);
  }

  /** Everything from sndUna on goes again, in steps: the peer has said or shown that it lacks it. */
  recover(nowUs: Micros): void {
    const { c } = this;
    const { sender } = c;
    if (this.deadlineUs === NEVER) this.deadlineUs = nowUs + this.timeoutUs();
    this.recoverTo = Math.min(sender.sndNxt, sender.buffer.endDsn);
    this.reinjectedTo = sender.sndUna;
    this.stepBytes = FIRST_STEP_BYTES;
    this.goOn();
  }

  /** Never before the slowest working subflow could have repaired it itself. */
  private timeoutUs(): Micros {
    let rto = DATA_RTO_US;
    for (const sf of this.c.subflows) if (sf.isUsable && !sf.isStalled) rto = Math.max(rto, 2 * sf.tcp.rtt.rtoUs);
    return rto;
  }

  private goOn(): void {
    const { c } = this;
    const { sndUna } = c.sender;
    if (sndUna >= this.recoverTo) return;
    const from = Math.max(sndUna, this.reinjectedTo);
    const to = Math.min(this.recoverTo, sndUna + this.stepBytes);
    if (from >= to) return;
    c.sender.reinject(from, to, -1);
    this.reinjectedTo = to;
    c.host.markDirty(c);
  }
}

/** What ECE does to a sender: one reduction per window of data, answered with CWR on new data (RFC 3168 6.1.2). */
import { TCP_CWR } from '../wire/segment.js';

export class EcnReaction {
  /** ECN was negotiated. */
  isOn = false;
  /** SND.NXT at the last reduction: marks and losses below it are of the same window. */
  #point = -1;
  #owesCwr = false;

  /** An ACK of `ack` says ECE. True: the window must come down now. */
  onEcho(ack: number, sndNxt: number): boolean {
    if (!this.isOn || ack <= this.#point) return false;
    this.onReduced(sndNxt);
    return true;
  }

  /** The window came down, for whatever reason: marks of this window count no more, and the peer is told. */
  onReduced(sndNxt: number): void {
    if (!this.isOn) return;
    this.#point = sndNxt;
    this.#owesCwr = true;
  }

  /** A loss reduces the window again only when a mark has not just done so. */
  mayReduceForLoss(sndUna: number): boolean {
    return sndUna >= this.#point;
  }

  /** Flags for the next new data: CWR on the first after the reduction. */
  takeCwr(): number {
    if (!this.#owesCwr) return 0;
    this.#owesCwr = false;
    return TCP_CWR;
  }
}

/**
 * Send sequence variables (RFC 9293 3.3.1) and what the peer's window admits: which segment may update it (3.10.7.4, fifth
 * check) and how much of it silly-window avoidance lets us use (3.8.6.2.1).
 *
 *   acknowledged │ SND.UNA ░ sent ░ SND.NXT │ usable │ SND.UNA + SND.WND
 */
import type { Micros } from '../base/time.js';

export class SendSpace {
  sndUna = 0;
  sndNxt = 0;
  /** SND.WND, unscaled, and the greatest seen (RFC 9293 3.8.6.2.1, RFC 5961 5.2). */
  sndWnd = 0;
  maxSndWnd = 0;
  /** The owner wants a FIN behind the data pulled so far. */
  finQueued = false;
  /** Sequence number of our FIN once sent, else -1. */
  finSeq = -1;
  /** When a segment that takes sequence space was last sent. */
  lastSentUs: Micros = 0;
  #wl1 = 0;
  #wl2 = 0;

  /** Room in the peer's window for new data; negative if the peer shrank it (RFC 9293 3.8.6). */
  get windowRoomBytes(): number {
    return this.sndUna + this.sndWnd - this.sndNxt;
  }

  get isFinDue(): boolean {
    return this.finQueued && this.finSeq < 0;
  }

  /** Room that sender-side silly-window avoidance lets us use (RFC 9293 3.8.6.2.1, conditions 1 and 3). */
  usableWindowBytes(mssBytes: number): number {
    const room = this.windowRoomBytes;
    if (room >= mssBytes) return room;
    return room > 0 && room * 2 >= this.maxSndWnd ? room : 0;
  }

  /** The peer's SYN: its window is never scaled (RFC 7323 2.2). */
  onPeerSyn(windowBytes: number): void {
    this.sndWnd = windowBytes;
    this.maxSndWnd = Math.max(this.maxSndWnd, windowBytes);
  }

  /** Our SYN is acknowledged by a segment at `seq` (relative). */
  onSynAcked(seq: number): void {
    this.sndUna = 1;
    this.#wl1 = seq;
    this.#wl2 = 1;
  }

  /** RFC 9293 3.10.7.4, fifth check: SND.WND from a segment no older than the one that set it last. */
  updateWindow(seq: number, ack: number, windowBytes: number): void {
    if (this.#wl1 > seq || (this.#wl1 === seq && this.#wl2 > ack)) return;
    this.sndWnd = windowBytes;
    this.maxSndWnd = Math.max(this.maxSndWnd, windowBytes);
    this.#wl1 = seq;
    this.#wl2 = ack;
  }
}

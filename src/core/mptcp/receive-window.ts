/**
 * The one window of a connection (RFC 8684 3.3.5): how large, and when it is told without being asked.
 *
 * How much of the stream a connection holds for its application: a window is memory that a slow reader fills, so it begins
 * small and becomes twice what is read in a round trip of the slowest path, as in Linux (dynamic right-sizing): a sender
 * that doubles its rate each round trip is never held up, and all paths' bytes fit while a hole on the slowest is filled
 * (RFC 8684 3.3.5). It never shrinks (3.3.4), nor does it exceed what was configured.
 */
import type { Micros } from '../base/time.js';
import type { Connection } from './connection.js';

/** What every connection begins with, if its limit is not below: 160 Mbit/s of 100 ms. */
export const FIRST_RECEIVE_BUFFER_BYTES = 2 * 1024 * 1024;
const ROUND_TRIPS = 2;
/** A reader that leaves this share of the window unread is what limits the stream: more room would only be filled. */
const BEHIND_SHARE = 1 / 8;
/** An opening that is announced: so much of the buffer, or so many bytes if that is less. */
const ANNOUNCED_SHARE = 1 / 4;
const ANNOUNCED_BYTES = 128 * 1024;

export class ReceiveWindow {
  private sinceUs: Micros = 0;
  private readAtBytes = 0;
  private wasBehind = false;
  private edgeSent = 0;

  constructor(
    private readonly c: Connection,
    private readonly limitBytes: number,
  ) {}

  /** A segment says it. */
  onSent(): void {
    this.edgeSent = this.c.receiver.windowEdge();
  }

  /** Says that it has opened by a good part, if the peer may be waiting for it (RFC 9293 3.8.6.2.2). */
  announce(nowUs: Micros): void {
    const { receiver, subflows, host } = this.c;
    const opened = receiver.peekEdge() - this.edgeSent;
    if (opened < Math.min(receiver.capacityBytes * ANNOUNCED_SHARE, ANNOUNCED_BYTES)) return;
    for (const sf of subflows) if (sf.isConfirmed && sf.tcp.isEstablished) sf.tcp.requestAck(nowUs);
    host.markDirty(this.c);
  }

  /** After each segment: more room for a reader that keeps up. */
  grow(nowUs: Micros): void {
    const { receiver } = this.c;
    if (receiver.capacityBytes >= this.limitBytes) return;
    if (receiver.unreadBytes > receiver.capacityBytes * BEHIND_SHARE) this.wasBehind = true;
    const spanUs = nowUs - this.sinceUs;
    const rttUs = this.slowestRttUs();
    if (rttUs === 0 || spanUs < rttUs) return;
    const readBytes = receiver.bytesReceived - receiver.unreadBytes;
    const perRttBytes = ((readBytes - this.readAtBytes) * rttUs) / spanUs;
    this.sinceUs = nowUs;
    this.readAtBytes = readBytes;
    if (!this.wasBehind) receiver.grow(Math.min(this.limitBytes, Math.ceil(ROUND_TRIPS * perRttBytes)));
    this.wasBehind = false;
  }

  private slowestRttUs(): Micros {
    let slowestUs = 0;
    for (const sf of this.c.subflows) if (sf.isUsable) slowestUs = Math.max(slowestUs, sf.tcp.receiveRttUs);
    return slowestUs;
  }
}

/**
 * One connection of a session's packet lane: pulls from the lane into TLS, and feeds what TLS delivers to the capsule
 * decoder. At most one write is in flight, of 2 ms at the delivery rate; bytes
 * that no subflow has taken yet are kept below the same, so that packets wait in FQ-CoDel, where they can be reordered,
 * marked and dropped, and not in a send buffer (DESIGN 2, "keep queues short").
 *
 * 2 ms are too little where the event loop itself takes longer to come round (a busy machine), or where the rate is not
 * known yet (a second path has just been added): the connection would run dry between two writes, and the rate measured
 * would be our own. So, as the kernel's dynamic queue limits do, the limit grows while the connection is found (nearly)
 * empty although packets waited, and shrinks back to 2 ms while it is not.
 */
import type { Duplex } from 'node:stream';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi } from '../core/engine/api.js';
import { CapsuleDecoder, type CapsuleSink } from '../core/lanes/capsule.js';
import { type LaneIndex, type PacketLane, WRITE_MAX_BYTES, WRITE_ROOM_BYTES } from '../core/lanes/packet-lane.js';

/** What may wait below TLS, and the size of one write, as time at the delivery rate. */
const QUEUE_US = 2_000;
/** ... but never less than two full packets. */
const QUEUE_MIN_BYTES = 3_200;
/** Refilled when this share of the limit is left; found emptier than the second share, the limit was too small. */
const REFILL_AT = 0.5;
const TOO_LOW = 0.125;
/** The rate is growing if it is this much higher than so long ago. */
const RAMP_RATIO = 1.1;
const RAMP_US = 100_000;
/** A path is gone if the rate is below this share of what it was; for so long the flows inside may not have noticed. */
const COLLAPSE_RATIO = 0.65;
const COLLAPSE_US = 3_000_000;
const GROW = 1.5;
const SHRINK = 0.95;
/** Control capsules waiting (addresses, policy); the oldest is dropped beyond that, since newer ones replace it. */
const MAX_CONTROL_CAPSULES = 64;

/** TLS over a connection, which counts what it has written to that. */
export interface ConnectionStream extends Duplex {
  /** Bytes given to ConnectionApi.write so far. */
  readonly bytesQueued: number;
  /** Writes wait while more than this is unsent. For those who do not look at the connection themselves. */
  limitUnsent(bytes: number): void;
}

export interface LanePumpOptions {
  readonly lane: PacketLane;
  readonly index: LaneIndex;
  readonly connection: ConnectionApi;
  readonly stream: ConnectionStream;
  readonly now: () => Micros;
  readonly sink: CapsuleSink;
  /** The capsule stream is broken (RFC 9297 §3.3): the owner closes the connection. */
  onBroken(why: string): void;
}

export class LanePump {
  /** TLS bytes of the capsules received and sent. */
  bytesReceived = 0;
  bytesSent = 0;
  readonly decoder = new CapsuleDecoder();

  private readonly buffer = Buffer.allocUnsafeSlow(WRITE_ROOM_BYTES);
  private readonly control: Uint8Array[] = [];
  private isWriting = false;
  private isClosed = false;
  /** What may be unsent. */
  private limitBytes = 0;
  /** Packets were left waiting when the last write was made. */
  private hadMore = false;
  private rateMarkBytesPerS = 0;
  private rateMarkUs: Micros = Number.NEGATIVE_INFINITY;
  private collapsedUntilUs: Micros = 0;

  constructor(private readonly options: LanePumpOptions) {
    options.lane.setUp(options.index);
    options.stream.on('data', this.onData);
    this.refresh();
  }

  /** Feeds bytes that came together with the HTTP head, then pumps. */
  start(rest: Uint8Array): void {
    if (rest.length > 0) this.onData(rest);
    this.kick();
  }

  /** Sends a control capsule ahead of every packet that is still waiting. */
  sendControl(capsule: Uint8Array): void {
    if (this.control.length === MAX_CONTROL_CAPSULES) this.control.shift();
    this.control.push(capsule);
    this.kick();
  }

  /** Sends what may go now. Call after packets were queued, after each flush, and when the connection made room. */
  kick(): void {
    if (this.isClosed) return;
    const { lane, index, connection, stream } = this.options;
    lane.acked(index, stream.bytesQueued - connection.unsentBytes - connection.unackedBytes);
    if (this.isWriting || connection.unsentBytes > this.limitBytes * REFILL_AT) return;
    if (this.control.length === 0 && !lane.hasReady(index)) return;
    this.refresh();
    const wantedBytes = this.limitBytes - connection.unsentBytes;
    let filled = 0;
    while (this.control.length > 0 && filled < WRITE_MAX_BYTES - this.control[0]!.length) {
      const capsule = this.control.shift()!;
      this.buffer.set(capsule, filled);
      filled += capsule.length;
    }
    if (filled === 0) filled = lane.pull(this.options.now(), index, this.buffer, wantedBytes);
    if (filled === 0) return;
    this.isWriting = true;
    this.hadMore = lane.hasReady(index);
    this.bytesSent += filled;
    this.options.stream.write(this.buffer.subarray(0, filled), this.onWritten);
  }

  /** The connection is gone: the lane forgets it. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.options.stream.off('data', this.onData);
    this.options.lane.setGone(this.options.index);
  }

  private refresh(): void {
    const { lane, index, connection } = this.options;
    const rateBytesPerS = connection.deliveryRateBytesPerS;
    const nowUs = this.options.now();
    if (nowUs - this.rateMarkUs >= RAMP_US) {
      if (rateBytesPerS < COLLAPSE_RATIO * this.rateMarkBytesPerS) this.collapsedUntilUs = nowUs + COLLAPSE_US;
      const isRamping = rateBytesPerS === 0 || rateBytesPerS > RAMP_RATIO * this.rateMarkBytesPerS;
      lane.setUnsettled(index, isRamping || nowUs < this.collapsedUntilUs);
      this.rateMarkBytesPerS = rateBytesPerS;
      this.rateMarkUs = nowUs;
    }
    const leastBytes = Math.max(QUEUE_MIN_BYTES, (rateBytesPerS * QUEUE_US) / 1_000_000);
    const ranLow = this.hadMore && connection.unsentBytes < this.limitBytes * TOO_LOW;
    const wantedBytes = Math.max(leastBytes, this.limitBytes * (ranLow ? GROW : SHRINK));
    const limitBytes = Math.round(Math.min(WRITE_MAX_BYTES, wantedBytes));
    if (limitBytes === this.limitBytes) return;
    this.limitBytes = limitBytes;
    // What this much takes 2 ms to send is what super-packets are cut for.
    lane.setRate(index, (limitBytes * 1_000_000) / QUEUE_US);
    connection.setSendSpace(limitBytes * REFILL_AT, this.onSpace);
  }

  private readonly onSpace = (): void => {
    this.kick();
  };

  private readonly onWritten = (): void => {
    this.isWriting = false;
    if (this.isClosed) return;
    this.options.lane.written(this.options.index, this.options.stream.bytesQueued);
    this.kick();
  };

  private readonly onData = (chunk: Uint8Array): void => {
    this.bytesReceived += chunk.length;
    this.decoder.push(chunk, 0, chunk.length, this.options.sink);
    if (this.decoder.error !== null) this.options.onBroken(this.decoder.error);
  };
}

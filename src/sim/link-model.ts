/**
 * One direction of a link, as a pure machine: packets go in with `enqueue`, come out of `poll` when they would arrive,
 * or go to `onDrop` with a reason. Used in virtual time by the simulator and in real time by the lab's emulator.
 *
 *   enqueue ─▶ [ drop-tail queue ] ─▶ transmitter (rate or trace) ─▶ loss ─▶ [ pipe: delay + jitter ] ─▶ poll
 *
 * Loss strikes after transmission, as on a radio: a lost packet has used its share of queue and rate. Departures are
 * computed at their exact instants, however late the driver calls, and the fraction of a microsecond that a packet
 * leaves over is carried to the next one: a saturated link runs at its rate exactly, without drift.
 *
 * Driver: after any call, wake at `nextDeadline()` and `poll` until undefined. Waking early or late is harmless.
 */
import { type Micros, NEVER } from '../core/base/time.js';
import { PacketFifo } from './fifo.js';
import { Prng } from './prng.js';
import { type LinkTrace, OPPORTUNITY_BYTES, TraceCursor } from './trace.js';

/** Gilbert's model: a two-state chain stepped once per packet. */
export interface BurstLoss {
  /** Probability per packet of entering a burst, and of leaving it. */
  readonly enter: number;
  readonly leave: number;
  /** Probability of loss inside a burst. */
  readonly lossRate: number;
}

export interface LinkConfig {
  /** Bits per second of IP bytes: an integer, or Infinity. Ignored while a trace plays. */
  readonly rateBps: number;
  /** One-way propagation delay. */
  readonly delayUs: Micros;
  /** Up to this much is added to each packet's delay, uniformly. */
  readonly jitterUs: Micros;
  /** True: jitter may reorder packets. False: a packet never arrives before an earlier one. */
  readonly reorder: boolean;
  /** Probability 0..1 that a packet is lost, each by itself. */
  readonly lossRate: number;
  readonly burstLoss: BurstLoss | null;
  /** Deterministic loss: the n-th packet transmitted is lost where character n (modulo the length) is '1'. */
  readonly lossMask: string;
  /** Bytes that may wait, not counting the packet in transmission; more are dropped at the tail. */
  readonly queueBytes: number;
  /** Larger packets are dropped. */
  readonly mtuBytes: number;
  readonly trace: LinkTrace | null;
  /** When the trace's zero is. */
  readonly traceStartUs: Micros;
}

export const defaultLinkConfig: LinkConfig = Object.freeze({
  rateBps: Number.POSITIVE_INFINITY,
  delayUs: 0,
  jitterUs: 0,
  reorder: false,
  lossRate: 0,
  burstLoss: null,
  lossMask: '',
  queueBytes: 1_000_000,
  mtuBytes: 1500,
  trace: null,
  traceStartUs: 0,
});

/**
 * up         carries packets.
 * down       no carrier: refuses packets; what was queued or on its way is lost.
 * blackhole  looks alive: queue and transmitter go on, but nothing arrives from this instant on.
 * suspended  a radio that pauses: nothing is transmitted, the queue fills; what has left arrives; goes on where it was.
 */
export type LinkState = 'up' | 'down' | 'blackhole' | 'suspended';

export type LinkDropReason = 'queue' | 'mtu' | 'loss' | 'down' | 'blackhole' | 'pipe';

export interface LinkCounters {
  offeredPackets: number;
  offeredBytes: number;
  deliveredPackets: number;
  deliveredBytes: number;
  droppedBytes: number;
  /** Packets by reason. */
  readonly drops: Record<LinkDropReason, number>;
  /** Most bytes that ever waited, the packet in transmission included. */
  maxQueuedBytes: number;
}

/** Packets on their way at a time; beyond it they are dropped ('pipe'). Only infinite rates come near. */
export const MAX_PIPE_PACKETS = 1 << 18;

/** Work is counted in bit-microseconds-per-second units, so that one second at `rateBps` does rateBps * 1e6 of them. */
const WORK_PER_BYTE = 8e6;

export class LinkModel<T> {
  readonly counters: LinkCounters = {
    offeredPackets: 0,
    offeredBytes: 0,
    deliveredPackets: 0,
    deliveredBytes: 0,
    droppedBytes: 0,
    drops: { queue: 0, mtu: 0, loss: 0, down: 0, blackhole: 0, pipe: 0 },
    maxQueuedBytes: 0,
  };
  private current: LinkConfig;
  private linkState: LinkState = 'up';
  private readonly queue = new PacketFifo<T>();
  private readonly pipe = new PacketFifo<T>();
  private readonly lossLuck: Prng;
  private readonly jitterLuck: Prng;
  private cursor: TraceCursor | null = null;
  /** When the packet in transmission will have left; NEVER when there is none or the link is suspended. */
  private headDoneUs: Micros = NEVER;
  /** Rate: work left over below one microsecond. Trace: bytes of the opportunity at headDoneUs that are still free. */
  private carry = 0;
  /** While suspended: work that the packet in transmission still needs; 0 if none was. */
  private pausedWork = 0;
  private lastArrivalUs: Micros = 0;
  private lastLeftUs: Micros = 0;
  private maskIndex = 0;
  private isInBurst = false;

  /** Every packet given to `enqueue` comes back exactly once: from `poll`, or here. Throws RangeError on a bad config. */
  constructor(
    config: Partial<LinkConfig>,
    seed: number,
    private readonly onDrop: (item: T, sizeBytes: number, reason: LinkDropReason) => void = () => {},
  ) {
    const luck = new Prng(seed);
    this.lossLuck = luck.fork(1);
    this.jitterLuck = luck.fork(2);
    this.current = checkedConfig({ ...defaultLinkConfig, ...config });
    this.openTrace();
  }

  get config(): LinkConfig {
    return this.current;
  }

  get state(): LinkState {
    return this.linkState;
  }

  /** Bytes waiting or in transmission at the last call. */
  get queuedBytes(): number {
    return this.queue.bytes;
  }

  /** Packets inside, in the queue or on their way. */
  get packets(): number {
    return this.queue.length + this.pipe.length;
  }

  /** Offers a packet of `sizeBytes` IP bytes. Returns null, or why it was dropped (onDrop was called). */
  enqueue(nowUs: Micros, sizeBytes: number, item: T): LinkDropReason | null {
    this.counters.offeredPackets++;
    this.counters.offeredBytes += sizeBytes;
    if (this.linkState === 'down') return this.drop(item, sizeBytes, 'down');
    if (sizeBytes > this.current.mtuBytes) return this.drop(item, sizeBytes, 'mtu');
    this.advance(nowUs);
    const queue = this.queue;
    const waiting = queue.length === 0 ? 0 : queue.bytes - queue.headBytes + sizeBytes;
    if (waiting > this.current.queueBytes) return this.drop(item, sizeBytes, 'queue');
    queue.push(item, sizeBytes, nowUs);
    if (queue.bytes > this.counters.maxQueuedBytes) this.counters.maxQueuedBytes = queue.bytes;
    if (queue.length === 1) {
      if (nowUs > this.lastLeftUs) this.carry = 0; // idle: what was left over is gone
      this.startHead(nowUs, sizeBytes * WORK_PER_BYTE);
    }
    return null;
  }

  /** The next packet that has arrived by `nowUs`, or undefined. */
  poll(nowUs: Micros): T | undefined {
    this.advance(nowUs);
    const pipe = this.pipe;
    if (pipe.length === 0 || pipe.headTimeUs > nowUs) return undefined;
    this.counters.deliveredPackets++;
    this.counters.deliveredBytes += pipe.headBytes;
    return pipe.shift();
  }

  /** When `poll` may have something; NEVER if nothing is inside or nothing moves. */
  nextDeadline(): Micros {
    const leavesUs = this.headDoneUs + this.current.delayUs;
    if (this.pipe.length === 0) return leavesUs;
    return this.current.reorder ? Math.min(this.pipe.headTimeUs, leavesUs) : this.pipe.headTimeUs;
  }

  /** Changes the link while it runs. Packets inside stay; the rest of the one in transmission goes at the new rate. */
  configure(nowUs: Micros, changes: Partial<LinkConfig>): void {
    const next = checkedConfig({ ...this.current, ...changes });
    this.advance(nowUs);
    const work = this.linkState === 'suspended' ? this.pausedWork : this.workLeft(nowUs);
    const newTrace = next.trace !== this.current.trace || next.traceStartUs !== this.current.traceStartUs;
    if (changes.lossMask !== undefined) this.maskIndex = 0;
    this.current = next;
    if (newTrace) this.openTrace();
    this.carry = 0;
    if (this.linkState === 'suspended') this.pausedWork = work;
    else if (this.queue.length > 0) this.startHead(nowUs, work);
  }

  setState(nowUs: Micros, state: LinkState): void {
    this.advance(nowUs);
    if (state === this.linkState) return;
    if (state === 'suspended') {
      this.pausedWork = this.workLeft(nowUs);
      this.headDoneUs = NEVER;
    }
    const wasSuspended = this.linkState === 'suspended';
    this.linkState = state;
    if (state === 'down' || state === 'blackhole') this.flush(this.pipe, state);
    if (state === 'down') {
      this.flush(this.queue, state);
      this.headDoneUs = NEVER;
    } else if (wasSuspended && this.queue.length > 0) {
      this.carry = 0;
      this.startHead(nowUs, this.pausedWork);
    }
  }

  /** Moves packets through the transmitter up to `nowUs`. */
  private advance(nowUs: Micros): void {
    while (this.headDoneUs <= nowUs) {
      const leftUs = this.headDoneUs;
      this.lastLeftUs = leftUs;
      const sizeBytes = this.queue.headBytes;
      const item = this.queue.shift();
      if (this.queue.length > 0) this.startHead(leftUs, this.queue.headBytes * WORK_PER_BYTE);
      else this.headDoneUs = NEVER;
      this.transmitted(leftUs, sizeBytes, item);
    }
  }

  private transmitted(leftUs: Micros, sizeBytes: number, item: T): void {
    if (this.isLost()) {
      this.drop(item, sizeBytes, 'loss');
      return;
    }
    if (this.linkState === 'blackhole') {
      this.drop(item, sizeBytes, 'blackhole');
      return;
    }
    if (this.pipe.length >= MAX_PIPE_PACKETS) {
      this.drop(item, sizeBytes, 'pipe');
      return;
    }
    const { delayUs, jitterUs, reorder } = this.current;
    let arrivalUs = leftUs + delayUs;
    if (jitterUs > 0) arrivalUs += this.jitterLuck.below(jitterUs + 1);
    if (reorder) {
      this.pipe.pushSorted(item, sizeBytes, arrivalUs);
      return;
    }
    // lastArrivalUs also keeps order when the delay was shortened while packets were on their way.
    if (arrivalUs < this.lastArrivalUs) arrivalUs = this.lastArrivalUs;
    this.lastArrivalUs = arrivalUs;
    this.pipe.push(item, sizeBytes, arrivalUs);
  }

  private isLost(): boolean {
    const { lossMask, lossRate, burstLoss } = this.current;
    let lost = false;
    if (lossMask.length > 0) {
      lost = lossMask.charCodeAt(this.maskIndex) === 0x31;
      this.maskIndex = (this.maskIndex + 1) % lossMask.length;
    }
    if (this.lossLuck.chance(lossRate)) lost = true;
    if (burstLoss !== null) {
      if (this.lossLuck.chance(this.isInBurst ? burstLoss.leave : burstLoss.enter)) this.isInBurst = !this.isInBurst;
      if (this.isInBurst && this.lossLuck.chance(burstLoss.lossRate)) lost = true;
    }
    return lost;
  }

  /** The first packet of the queue begins to leave at `startUs` and needs `work`. Sets headDoneUs. */
  private startHead(startUs: Micros, work: number): void {
    if (this.linkState === 'suspended') {
      this.pausedWork = work;
      return;
    }
    const cursor = this.cursor;
    if (cursor !== null) {
      let neededBytes = Math.ceil(work / WORK_PER_BYTE) - this.carry;
      let doneUs = startUs;
      if (neededBytes > 0) {
        cursor.seek(startUs);
        for (; neededBytes > 0; neededBytes -= OPPORTUNITY_BYTES) {
          doneUs = cursor.nextUs;
          cursor.take();
        }
      }
      this.carry = -neededBytes;
      this.headDoneUs = doneUs;
      return;
    }
    const rateBps = this.current.rateBps;
    if (rateBps === Number.POSITIVE_INFINITY) {
      this.headDoneUs = startUs;
      return;
    }
    const total = work + this.carry;
    const tookUs = Math.floor(total / rateBps);
    this.carry = total - tookUs * rateBps;
    this.headDoneUs = startUs + tookUs;
  }

  /** Work that the packet in transmission still needs. With a trace, a packet that is interrupted starts again. */
  private workLeft(nowUs: Micros): number {
    if (this.queue.length === 0) return 0;
    const { rateBps } = this.current;
    if (this.cursor !== null || rateBps === Number.POSITIVE_INFINITY) return this.queue.headBytes * WORK_PER_BYTE;
    return (this.headDoneUs - nowUs) * rateBps + this.carry;
  }

  private openTrace(): void {
    const { trace, traceStartUs } = this.current;
    this.cursor = trace === null ? null : new TraceCursor(trace, traceStartUs);
  }

  private flush(fifo: PacketFifo<T>, reason: LinkDropReason): void {
    while (fifo.length > 0) {
      const sizeBytes = fifo.headBytes;
      this.drop(fifo.shift(), sizeBytes, reason);
    }
  }

  private drop(item: T, sizeBytes: number, reason: LinkDropReason): LinkDropReason {
    this.counters.drops[reason]++;
    this.counters.droppedBytes += sizeBytes;
    this.onDrop(item, sizeBytes, reason);
    return reason;
  }
}

function checkedConfig(c: LinkConfig): LinkConfig {
  const isProbability = (p: number) => p >= 0 && p <= 1;
  const isMicros = (v: number) => Number.isSafeInteger(v) && v >= 0;
  const rateIsGood = c.rateBps === Number.POSITIVE_INFINITY || (Number.isSafeInteger(c.rateBps) && c.rateBps > 0);
  if (!rateIsGood) throw new RangeError(`link: rateBps must be a positive integer or Infinity: ${c.rateBps}`);
  if (!isMicros(c.delayUs)) throw new RangeError(`link: delayUs must be an integer >= 0: ${c.delayUs}`);
  if (!isMicros(c.jitterUs)) throw new RangeError(`link: jitterUs must be an integer >= 0: ${c.jitterUs}`);
  if (!isProbability(c.lossRate)) throw new RangeError(`link: lossRate must be 0..1: ${c.lossRate}`);
  if (!/^[01]*$/.test(c.lossMask)) throw new RangeError(`link: lossMask must consist of 0 and 1: ${c.lossMask}`);
  if (!(c.queueBytes >= 0)) throw new RangeError(`link: queueBytes must be >= 0: ${c.queueBytes}`);
  if (!(c.mtuBytes > 0)) throw new RangeError(`link: mtuBytes must be > 0: ${c.mtuBytes}`);
  const b = c.burstLoss;
  if (b !== null && !(isProbability(b.enter) && isProbability(b.leave) && isProbability(b.lossRate)))
    throw new RangeError('link: burstLoss: enter, leave and lossRate must be 0..1');
  return c;
}

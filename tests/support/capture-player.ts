/**
 * A capture as a two-party script: the packets that reached one kernel are played to our stack, in virtual time driven by the
 * capture, while our application does what that kernel's did. Causes come before effects: a packet that acknowledges, echoes or
 * answers something of ours waits until we have sent that, and everything behind it waits too. Two things are made to fit:
 * the TSecr that we get is of a TSval that we sent, and where our subflow bytes are other data than the kernel's (a
 * reinjection at another moment), an ACK of the same data is an ACK of ours.
 */
import { getU16, putU16, putU32 } from '../../src/core/base/wire-int.js';
import { NEVER } from '../../src/core/base/time.js';
import { TCP_FIN, TCP_RST, TCP_SYN } from '../../src/core/wire/segment.js';
import { CaptureEnd, type EndSettings } from './capture-end.js';
import { Speech, type Stretch } from './capture-says.js';
import { type Cue, deriveScript, type Script, type Step } from './capture-script.js';
import type { Segment, Trace } from './capture-trace.js';

/** What cannot be read off the packets. */
export interface PlayOptions {
  /** The application reads nothing before, in time of the capture; Infinity: ever. */
  readonly readsFromUs?: number;
  readonly receiveBufferBytes?: number;
  /** Joins are closed with a reset as soon as they are established. */
  readonly refusesJoins?: boolean;
  /** The capture is played up to here only, in its own time. */
  readonly untilUs?: number;
}

export interface Played {
  readonly sent: readonly Segment[];
  /** How many had been sent at each moment of rest, by us and by the kernel. */
  readonly marks: readonly number[];
  readonly kernelMarks: readonly number[];
  readonly received: Uint8Array;
  /** Packets of the peer that presuppose what we did not send within `PATIENCE_US`, and steps that could not be taken. */
  readonly stuck: readonly string[];
  readonly counters: Readonly<Record<string, number>>;
  readonly strays: number;
}

/** The line rests when nobody sends for so long: delayed ACKs have gone by then. */
const REST_US = 100_000;
/** The peer waits so long for what its next packet presupposes. */
const PATIENCE_US = 20_000_000;
/** After the last packet of the capture. */
const EPILOGUE_US = 300_000;
const START_US = 1_000_000;

type Event = { readonly timeUs: number; readonly cue?: Cue; readonly packet?: Segment };

export function play(trace: Trace, script: Script, options: PlayOptions = {}): Played {
  return new Player(trace, script, options).run();
}

export function scriptOf(trace: Trace): Script {
  return deriveScript(trace);
}

class Player {
  private readonly end: CaptureEnd;
  private readonly kernel: Speech;
  /** What we sent, in the terms of the capture; grows with `end.sent`. */
  private readonly mapped: (Stretch & { readonly arrives: boolean })[] = [];
  private seen = 0;
  private nowUs = START_US;
  /** The play runs behind the capture by so much. */
  private lateUs = START_US;
  private readonly waiting: Step[] = [];
  private readonly stuck: string[] = [];
  private readonly marks: number[] = [];
  private readonly kernelMarks: number[] = [];

  constructor(
    private readonly trace: Trace,
    private readonly script: Script,
    private readonly options: PlayOptions,
  ) {
    this.kernel = new Speech(trace, trace.own);
    this.end = new CaptureEnd(trace, settingsOf(trace, options), script.choices);
    this.end.isReading = options.readsFromUs === undefined;
  }

  run(): Played {
    const events = this.timeline();
    let lastUs = 0;
    for (const { timeUs, cue, packet } of events) {
      if (timeUs - lastUs >= REST_US) this.rest(timeUs);
      lastUs = timeUs;
      if (timeUs >= (this.options.readsFromUs ?? NEVER)) this.startReading();
      this.advanceTo(timeUs + this.lateUs);
      if (cue !== undefined) this.take(cue.step);
      if (packet !== undefined) this.hand(packet);
    }
    this.rest(lastUs + EPILOGUE_US);
    for (const step of this.waiting) this.stuck.push(`could not ${step.do}`);
    const { end, stuck, marks, kernelMarks } = this;
    return {
      sent: end.sent,
      marks,
      kernelMarks,
      received: Uint8Array.from(end.received),
      stuck,
      counters: end.engine.counters(),
      strays: end.strays,
    };
  }

  /** Own packets that are not cues still mark that the line was not at rest. */
  private timeline(): Event[] {
    const events: Event[] = [
      ...this.script.cues.map((cue) => ({ timeUs: cue.timeUs, cue })),
      ...this.trace.own.map(({ timeUs }) => ({ timeUs })),
      ...this.trace.peer.map((packet) => ({ timeUs: packet.timeUs, packet })),
    ];
    return events.filter((e) => e.timeUs <= (this.options.untilUs ?? NEVER)).sort((a, b) => a.timeUs - b.timeUs);
  }

  private rest(untilUs: number): void {
    this.advanceTo(untilUs + this.lateUs - 1);
    this.marks.push(this.end.sent.length);
    this.kernelMarks.push(this.trace.own.filter((s) => s.timeUs < untilUs).length);
  }

  private startReading(): void {
    if (this.end.isReading) return;
    this.end.isReading = true;
    this.end.connection?.resume(this.nowUs);
    this.flush();
  }

  // ---- Time ----------------------------------------------------------------------------------------------------

  private advanceTo(untilUs: number): void {
    while (this.end.engine.nextDeadline() <= untilUs) this.wake();
    this.nowUs = Math.max(this.nowUs, untilUs);
  }

  private wake(): void {
    this.nowUs = Math.max(this.nowUs, this.end.engine.nextDeadline());
    this.end.onTimer(this.nowUs);
    this.flush();
  }

  /** Sends, and takes the steps that had to wait for what was sent. */
  private flush(): void {
    this.end.flush(this.nowUs);
    for (let took = true; took; ) {
      took = false;
      if (this.waiting.length > 0 && this.tryStep(this.waiting[0]!)) {
        this.waiting.shift();
        this.end.flush(this.nowUs);
        took = true;
      }
    }
    if (this.options.refusesJoins) this.refuseJoins();
    this.observe();
  }

  // ---- Our application -----------------------------------------------------------------------------------------

  private take(step: Step): void {
    this.waiting.push(step);
    this.flush();
  }

  private tryStep(step: Step): boolean {
    const { end, nowUs } = this;
    if (step.do === 'connect') {
      end.connect(nowUs);
      return true;
    }
    const c = end.connection;
    if (c === null) return false;
    switch (step.do) {
      case 'join':
        return end.join(nowUs, step.subflow, step.addressId, step.remoteId, step.backup);
      case 'write':
        return this.write(step.toDsn);
      case 'end':
        c.end(nowUs);
        return true;
      case 'abort':
        c.abort(nowUs);
        return true;
      case 'announce': {
        const { address, port, addressId } = step.option;
        end.forceAddressId(address.text, addressId);
        return c.announce(nowUs, port >= 0 ? { address, port } : { address }) >= 0;
      }
      case 'withdraw':
        for (const id of step.ids) c.withdraw(nowUs, id);
        return true;
      case 'backup':
        c.setBackup(nowUs, end.subflowId(step.subflow), step.on);
        return true;
      case 'close':
        c.closeSubflow(nowUs, end.subflowId(step.subflow), 'fin');
        return true;
    }
  }

  private writtenTo = 1;

  /** A subflow must not take bytes beyond what the kernel gave it: they are written when the bytes before are taken. */
  private write(toDsn: number): boolean {
    const c = this.end.connection!;
    while (this.writtenTo < toDsn) {
      const choice = this.script.choices.find((s) => s.dsn <= this.writtenTo && this.writtenTo < s.dsn + s.lengthBytes)!;
      const before = this.script.choices.find((s) => s.dsn < this.writtenTo && this.writtenTo <= s.dsn + s.lengthBytes);
      if (before !== undefined && before.subflow !== choice.subflow && c.unsentBytes > 0) return false;
      const next = Math.min(toDsn, choice.dsn + choice.lengthBytes);
      c.write(this.nowUs, this.script.stream.subarray(this.writtenTo - 1, next - 1));
      this.writtenTo = next;
      this.end.flush(this.nowUs);
    }
    return true;
  }

  private refuseJoins(): void {
    const c = this.end.connection;
    for (const sf of c?.subflows ?? []) {
      if (sf.role === 'join' && sf.isConfirmed && !sf.isClosing) c!.closeSubflow(this.nowUs, sf.id, 'reset');
    }
    this.end.flush(this.nowUs);
  }

  // ---- The peer ------------------------------------------------------------------------------------------------

  private hand(packet: Segment): void {
    const startUs = this.nowUs;
    let missing = this.missing(packet);
    while (missing !== '' && this.end.engine.nextDeadline() <= startUs + PATIENCE_US) {
      this.wake();
      missing = this.missing(packet);
    }
    if (missing !== '') {
      this.stuck.push(`${missing} is not there for the packet at ${(packet.timeUs / 1e6).toFixed(4)} s`);
      this.nowUs = startUs;
    } else {
      this.lateUs += this.nowUs - startUs;
    }
    this.end.deliver(this.nowUs, packet.subflow, this.fit(packet));
    this.flush();
  }

  /** What of ours the packet presupposes and we have not sent; empty: nothing. */
  private missing(p: Segment): string {
    const { own } = this.trace;
    const before = own.filter((s) => s.timeUs < p.timeUs);
    const count = (list: readonly Segment[], is: (s: Segment) => boolean) => list.filter(is).length;
    const sent = this.end.sent;
    const isSyn = (s: Segment) => s.subflow === p.subflow && (s.flags & TCP_SYN) !== 0;
    if (p.ack >= 1 && count(sent, isSyn) < Math.min(count(own, isSyn), count(before, isSyn))) return 'a SYN';
    for (const { addressId, echo } of p.addAddrs) {
      const isAdd = (s: Segment) => s.addAddrs.some((a) => !a.echo && a.addressId === addressId);
      if (echo && count(sent, isAdd) < count(before, isAdd)) return 'an ADD_ADDR';
    }
    for (const range of this.ackedData(p)) {
      if (!this.hasArrived(range.dsn, range.dsn + range.lengthBytes)) return `data from ${range.dsn} on`;
    }
    if (p.ack > this.kernelFin(p.subflow) && !sent.some((s) => s.subflow === p.subflow && (s.flags & TCP_FIN) !== 0)) return 'a FIN';
    const dataFin = own.find((s) => s.dataFin >= 0)?.dataFin ?? Number.POSITIVE_INFINITY;
    if (p.dataAck > 1 && !this.hasArrived(1, Math.min(p.dataAck, dataFin))) return `data below ${p.dataAck}`;
    if (p.dataAck > dataFin && !sent.some((s) => s.dataFin >= 0)) return 'a DATA_FIN';
    return '';
  }

  /** The data that the kernel of our end had on this subflow below the packet's ACK. */
  private ackedData(p: Segment): Stretch[] {
    return this.kernel.stretches
      .filter((s) => s.subflow === p.subflow && s.ssn < p.ack)
      .map((s) => ({ ...s, lengthBytes: Math.min(s.lengthBytes, p.ack - s.ssn) }));
  }

  private kernelFin(subflow: number): number {
    const fin = this.trace.own.find((s) => s.subflow === subflow && (s.flags & TCP_FIN) !== 0);
    return fin === undefined ? Number.POSITIVE_INFINITY : fin.seq + fin.payload.length;
  }

  /** Data [dsn, endDsn) went out on a path that the capture let it pass. */
  private hasArrived(dsn: number, endDsn: number): boolean {
    let at = dsn;
    while (at < endDsn) {
      const s = this.mapped.find((m) => m.arrives && m.dsn <= at && at < m.dsn + m.lengthBytes);
      if (s === undefined) return false;
      at = s.dsn + s.lengthBytes;
    }
    return true;
  }

  private observe(): void {
    if (this.seen === this.end.sent.length) return;
    this.seen = this.end.sent.length;
    this.mapped.length = 0;
    for (const s of new Speech(this.trace, this.end.sent).stretches) {
      const top = this.trace.arrivedTo.get(s.subflow) ?? Number.POSITIVE_INFINITY;
      const arriving = Math.max(0, Math.min(s.lengthBytes, top - s.ssn));
      if (arriving > 0) this.mapped.push({ ...s, lengthBytes: arriving, arrives: true });
      if (arriving < s.lengthBytes) {
        this.mapped.push({ ...s, ssn: s.ssn + arriving, dsn: s.dsn + arriving, lengthBytes: s.lengthBytes - arriving, arrives: false });
      }
    }
  }

  /** The packet as our stack shall get it. */
  private fit(p: Segment): Uint8Array {
    const ip = p.ip.slice();
    const l4 = ip[0]! >>> 4 === 4 ? (ip[0]! & 15) * 4 : 40;
    const { own, ownIsn } = this.trace.subflows[p.subflow]!;
    const sf = this.end.connection?.subflows.find((s) => s.id === this.end.subflowId(p.subflow));
    putU16(ip, l4 + 2, sf?.flow.localPort ?? own.port);
    const tsVal = this.end.sent.findLast((s) => s.subflow === p.subflow && s.tsVal !== 0)?.tsVal ?? 0;
    const ack = this.fitAck(p);
    if (ack !== p.ack) putU32(ip, l4 + 8, (ack + ownIsn) >>> 0);
    fitOptions(ip, l4, tsVal, ack === p.ack);
    return ip;
  }

  private fitAck(p: Segment): number {
    if (p.ack < 1 || (p.flags & TCP_RST) !== 0) return p.ack;
    const acked = this.ackedData(p);
    const isAcked = (dsn: number) => acked.some((s) => s.dsn <= dsn && dsn < s.dsn + s.lengthBytes);
    let ack = 1;
    const ours = this.mapped.filter((s) => s.subflow === p.subflow).sort((a, b) => a.ssn - b.ssn);
    for (const s of ours) {
      if (s.ssn > ack) break;
      let n = 0;
      while (n < s.lengthBytes && isAcked(s.dsn + n)) n++;
      ack = Math.max(ack, s.ssn + n);
      if (n < s.lengthBytes) break;
    }
    const fin = this.end.sent.find((s) => s.subflow === p.subflow && (s.flags & TCP_FIN) !== 0);
    if (p.ack > this.kernelFin(p.subflow) && fin !== undefined && ack === fin.seq + fin.payload.length) ack++;
    return ack;
  }
}

/** Timestamp echoes are of ours; SACK blocks that name the kernel's numbers go where ours are others. */
function fitOptions(ip: Uint8Array, l4: number, tsVal: number, keepsSack: boolean): void {
  const end = l4 + (ip[l4 + 12]! >>> 4) * 4;
  for (let o = l4 + 20; o < end && ip[o] !== 0; o += ip[o] === 1 ? 1 : ip[o + 1]!) {
    if (ip[o] === 8 && getU16(ip, o + 6) + getU16(ip, o + 8) > 0) putU32(ip, o + 6, tsVal);
    if (ip[o] === 5 && !keepsSack) ip.fill(1, o, o + ip[o + 1]!);
  }
}

/** How our end must be set up to be what the kernel was. */
function settingsOf(trace: Trace, options: PlayOptions): EndSettings {
  const syn = trace.own.find((s) => (s.flags & TCP_SYN) !== 0)!;
  const asked = trace.peer.find((s) => (s.flags & TCP_SYN) !== 0)?.handshake ?? '';
  const speaks = syn.handshake !== '' || (trace.end === 'B' && asked === '');
  return {
    mptcp: speaks,
    checksum: /flags [89a-f]/.test(syn.handshake),
    ...(options.receiveBufferBytes === undefined ? {} : { receiveBufferBytes: options.receiveBufferBytes }),
  };
}

/**
 * A capture as a two-party script: the packets that reached one kernel are played to our stack, in virtual time driven by the
 * capture, while our application does what that kernel's did. Causes come before effects: a packet that acknowledges, echoes or
 * answers something of ours waits until we have sent that, and everything behind it waits too. Two things are made to fit:
 * the TSecr that we get is of a TSval that we sent, and where our subflow bytes are other data than the kernel's (a
 * reinjection at another moment), an ACK of the same data is an ACK of ours.
 */
import { dsnHi, dsnLo } from '../../src/core/base/seq.js';
import { NEVER } from '../../src/core/base/time.js';
import { getU16, putU16, putU32 } from '../../src/core/base/wire-int.js';
import { CAPABLE_A_CHECKSUM, CAPABLE_C_NO_JOIN } from '../../src/core/wire/mptcp-options.js';
import { TCP_FIN, TCP_RST, TCP_SYN } from '../../src/core/wire/segment.js';
import { CaptureEnd, type EndSettings } from './capture-end.js';
import { Speech, type Stretch } from './capture-says.js';
import type { Cue, Script, Step } from './capture-script.js';
import type { Segment, Trace } from './capture-trace.js';

/** What cannot be read off the packets. */
export interface PlayOptions {
  /** The application reads nothing before, in time of the capture; Infinity: ever. */
  readonly readsFromUs?: number;
  readonly receiveBufferBytes?: number;
  /** Further ones are refused. */
  readonly maxSubflows?: number;
  /** A byte that was changed in flight stays so: there is nothing left to notice it. */
  readonly arrivesAltered?: boolean;
}

export interface Played {
  readonly sent: readonly Segment[];
  /** How many had been sent at each moment of rest, by us and by the kernel. */
  readonly marks: readonly number[];
  readonly kernelMarks: readonly number[];
  readonly received: Uint8Array;
  /** Packets of the peer that presuppose what we did not send within `PATIENCE_US`, and steps that could not be taken. */
  readonly stuck: readonly string[];
  /** Subflows that our stack opened only behind some packet on another one. */
  readonly late: readonly number[];
  readonly counters: Readonly<Record<string, number>>;
  readonly strays: number;
}

/** The line rests when nobody sends for so long: delayed ACKs have gone by then. */
const REST_US = 100_000;
/** The peer waits so long for what its next packet presupposes. */
const PATIENCE_US = 4_000_000;
/** After the last packet of the capture. */
const EPILOGUE_US = 300_000;
const START_US = 1_000_000;

type Event = { readonly timeUs: number; readonly cue?: Cue; readonly packet?: Segment };

export function play(trace: Trace, script: Script, options: PlayOptions = {}): Played {
  return new Player(trace, script, options).run();
}

class Player {
  private readonly end: CaptureEnd;
  private readonly kernel: Speech;
  /** What we sent, in the terms of the capture; grows with `end.sent`. */
  private readonly mapped: (Stretch & { readonly arrives: boolean })[] = [];
  private readonly speech: Speech;
  private seen = 0;
  private seenStretches = 0;
  private nowUs = START_US;
  /** The play runs behind the capture by so much. */
  private lateUs = START_US;
  private readonly waiting: Step[] = [];
  private readonly stuck: string[] = [];
  /** Packets of subflows that we have not opened yet, and subflows that were opened later than the kernel's. */
  private readonly held = new Map<number, Segment[]>();
  private readonly late = new Set<number>();
  private readonly marks: number[] = [];
  private readonly kernelMarks: number[] = [];

  constructor(
    private readonly trace: Trace,
    private readonly script: Script,
    private readonly options: PlayOptions,
  ) {
    this.kernel = new Speech(trace, trace.own);
    this.speech = new Speech(trace);
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
      if (packet !== undefined) this.offer(packet);
    }
    this.rest(lastUs + EPILOGUE_US);
    for (const subflow of this.held.keys()) this.stuck.push(`sf${subflow} was never opened`);
    for (const step of this.waiting) this.stuck.push(`could not ${step.do}`);
    const { end, stuck, marks, kernelMarks, late } = this;
    return {
      sent: end.sent,
      marks,
      kernelMarks,
      received: Uint8Array.from(end.received),
      stuck,
      late: [...late],
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
    return events.sort((a, b) => a.timeUs - b.timeUs);
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
    while (this.takeOneStep()) this.end.flush(this.nowUs);
    this.observe();
  }

  // ---- Our application -----------------------------------------------------------------------------------------

  private take(step: Step): void {
    this.waiting.push(step);
    this.flush();
  }

  /** In order, except that a join that is not possible yet holds up nothing. */
  private takeOneStep(): boolean {
    for (const [i, step] of this.waiting.entries()) {
      if (this.tryStep(step)) {
        this.waiting.splice(i, 1);
        return true;
      }
      if (step.do !== 'join') return false;
    }
    return false;
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
        c.withdraw(nowUs, ...step.ids);
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
      const choice = this.script.choices.find(
        (s) => s.dsn <= this.writtenTo && this.writtenTo < s.dsn + s.lengthBytes,
      )!;
      const before = this.script.choices.find((s) => s.dsn < this.writtenTo && this.writtenTo <= s.dsn + s.lengthBytes);
      if (before !== undefined && before.subflow !== choice.subflow && c.unsentBytes > 0) return false;
      const next = Math.min(toDsn, choice.dsn + choice.lengthBytes);
      c.write(this.nowUs, this.script.stream.subarray(this.writtenTo - 1, next - 1));
      this.writtenTo = next;
      this.end.flush(this.nowUs);
    }
    return true;
  }

  // ---- The peer ------------------------------------------------------------------------------------------------

  /** Where our own join has not begun, the whole subflow waits, and the others go on. */
  private offer(packet: Segment): void {
    const { subflow } = packet;
    const held = this.held.get(subflow);
    if (held !== undefined) held.push(packet);
    else if (this.isUnopened(subflow)) this.held.set(subflow, [packet]);
    else this.hand(packet);
    for (const [waiting, packets] of this.held) {
      if (this.isUnopened(waiting)) continue;
      this.held.delete(waiting);
      this.late.add(waiting);
      for (const p of packets) this.hand(p);
    }
  }

  private isUnopened(subflow: number): boolean {
    const opensIt = subflow > 0 && this.trace.subflows[subflow]!.opener === 'own';
    return opensIt && !this.end.sent.some((s) => s.subflow === subflow);
  }

  private hand(packet: Segment): void {
    const startUs = this.nowUs;
    let missing = this.missing(packet);
    while (missing !== '' && this.end.engine.nextDeadline() <= startUs + PATIENCE_US) {
      this.wake();
      missing = this.missing(packet);
    }
    if (missing !== '') {
      this.stuck.push(`${missing} is not there for the packet at ${(packet.timeUs / 1e6).toFixed(3)} s`);
    }
    this.lateUs += this.nowUs - startUs;
    this.end.deliver(this.nowUs, packet.subflow, this.fit(packet, missing));
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
    if (p.ack > this.kernelFin(p.subflow) && !sent.some((s) => s.subflow === p.subflow && (s.flags & TCP_FIN) !== 0))
      return 'a FIN';
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
    const { speech, mapped } = this;
    for (; this.seen < this.end.sent.length; this.seen++) speech.hear(this.end.sent[this.seen]!);
    for (; this.seenStretches < speech.stretches.length; this.seenStretches++) {
      const s = speech.stretches[this.seenStretches]!;
      const top = this.trace.arrivedTo.get(s.subflow) ?? Number.POSITIVE_INFINITY;
      const arriving = Math.max(0, Math.min(s.lengthBytes, top - s.ssn));
      const lost = s.lengthBytes - arriving;
      if (arriving > 0) mapped.push({ ...s, lengthBytes: arriving, arrives: true });
      if (lost > 0)
        mapped.push({ ...s, ssn: s.ssn + arriving, dsn: s.dsn + arriving, lengthBytes: lost, arrives: false });
    }
  }

  /** The packet as our stack shall get it. */
  private fit(p: Segment, missing: string): Uint8Array {
    const ip = p.ip.slice();
    const l4 = ip[0]! >>> 4 === 4 ? (ip[0]! & 15) * 4 : 40;
    const { own, ownIsn, ownSynBytes } = this.trace.subflows[p.subflow]!;
    const sf = this.end.connection?.subflows.find((s) => s.id === this.end.subflowId(p.subflow));
    putU16(ip, l4 + 2, sf?.flow.localPort ?? own.port);
    const tsVal = this.end.sent.findLast((s) => s.subflow === p.subflow && s.tsVal !== 0)?.tsVal ?? 0;
    const ack = this.fitAck(p);
    if (ack !== p.ack) putU32(ip, l4 + 8, (ack + ownIsn + ownSynBytes) >>> 0);
    fitOptions(ip, l4, tsVal, ack === p.ack);
    if (p.dataAck > 1 && missing !== '') this.fitDataAck(ip, l4, p.dataAck);
    return ip;
  }

  /** Nobody acknowledges what did not come. */
  private fitDataAck(ip: Uint8Array, l4: number, dataAck: number): void {
    let arrivedTo = 1;
    while (arrivedTo < dataAck && this.hasArrived(arrivedTo, arrivedTo + 1)) arrivedTo++;
    for (let o = l4 + 20; o < l4 + (ip[l4 + 12]! >>> 4) * 4; o += ip[o] === 1 ? 1 : ip[o + 1]!) {
      if (ip[o] !== 30 || ip[o + 2] !== 0x20 || (ip[o + 3]! & 3) !== 3) continue;
      putU32(ip, o + 4, dsnHi(arrivedTo, this.trace.ownIdsn));
      putU32(ip, o + 8, dsnLo(arrivedTo, this.trace.ownIdsn));
    }
  }

  private fitAck(p: Segment): number {
    if (p.ack < 1 || (p.flags & TCP_RST) !== 0) return p.ack;
    const acked = this.ackedData(p);
    const ackedAt = (dsn: number) => acked.find((s) => s.dsn <= dsn && dsn < s.dsn + s.lengthBytes);
    let ack = 1;
    const ours = this.mapped.filter((s) => s.subflow === p.subflow).sort((a, b) => a.ssn - b.ssn);
    for (const s of ours) {
      if (s.ssn > ack) break;
      let n = 0;
      for (let a = ackedAt(s.dsn); a !== undefined && n < s.lengthBytes; a = ackedAt(s.dsn + n))
        n = Math.min(s.lengthBytes, a.dsn + a.lengthBytes - s.dsn);
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
  const flags = Number.parseInt(/flags (..)/.exec(syn.handshake)?.[1] ?? '0', 16);
  return {
    mptcp: speaks,
    checksum: (flags & CAPABLE_A_CHECKSUM) !== 0,
    joinInitial: (flags & CAPABLE_C_NO_JOIN) === 0,
    takesSynData: trace.subflows[0]!.peerSynBytes > 0,
    ...(trace.end === 'A' && syn.payload.length > 0 && { synData: syn.payload }),
    ...(trace.end === 'A' && syn.fastOpen.length > 0 && { synOptions: syn.fastOpen }),
    ...(options.maxSubflows === undefined ? {} : { maxSubflows: options.maxSubflows }),
    ...(options.receiveBufferBytes === undefined ? {} : { receiveBufferBytes: options.receiveBufferBytes }),
  };
}

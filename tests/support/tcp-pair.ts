/**
 * Two subflows (or one and a script) in virtual time: packets are real bytes, built and parsed by the real codecs;
 * super-packets are cut into segments on the way, as a network card would. Loss, reordering and duplication are a
 * function of the packet, so a test may be exact or seeded.
 */
import { createHash, createHmac } from 'node:crypto';
import type { CoreEnv } from '../../src/core/base/env.js';
import { parseIp } from '../../src/core/base/ip.js';
import { unwrap32 } from '../../src/core/base/seq.js';
import { NEVER } from '../../src/core/base/time.js';
import { getU32, putU32 } from '../../src/core/base/wire-int.js';
import { controllers } from '../../src/core/congestion/index.js';
import type { FlowTuple } from '../../src/core/tcp/flow.js';
import type {
  CloseReason,
  OptionVerdict,
  SegmentKind,
  SegmentSink,
  SendUnit,
  SubflowOwner,
} from '../../src/core/tcp/owner.js';
import { DEFAULT_SUBFLOW_CONFIG, type SubflowConfig, TcpSubflow } from '../../src/core/tcp/subflow.js';
import { ipHeaderBytes, writeIpHeader } from '../../src/core/wire/ip.js';
import {
  parseSegment,
  SegmentView,
  TCP_ACK,
  TCP_CWR,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
} from '../../src/core/wire/segment.js';
import { Prng } from '../../src/sim/prng.js';

const PROTO_TCP = 6;
const CE = 3;
const ECT0 = 2;

export function seededEnv(seed: number): CoreEnv {
  const prng = new Prng(seed);
  return {
    randomBytes: (out) => prng.fill(out),
    sha256: (data) => new Uint8Array(createHash('sha256').update(data).digest()),
    hmacSha256: (key, data) => new Uint8Array(createHmac('sha256', key).update(data).digest()),
  };
}

export function subflowConfig(overrides: Partial<SubflowConfig> = {}): SubflowConfig {
  return { ...DEFAULT_SUBFLOW_CONFIG, congestion: controllers.cubic!, ...overrides };
}

const V4 = [parseIp('192.0.2.1'), parseIp('192.0.2.2')] as const;
const V6 = [parseIp('2001:db8::1'), parseIp('2001:db8::2')] as const;

export function flowTuple(side: 0 | 1, family: 4 | 6 = 4): FlowTuple {
  const addresses = family === 4 ? V4 : V6;
  return {
    linkId: side,
    family,
    localAddress: addresses[side],
    localPort: side === 0 ? 40000 : 443,
    remoteAddress: addresses[side === 0 ? 1 : 0],
    remotePort: side === 0 ? 443 : 40000,
  };
}

/** Byte `i` of every test stream: position-dependent, so that any slip shows. */
export function patternByte(i: number): number {
  return (i * 131 + (i >>> 8) * 29 + (i >>> 16) * 7) & 0xff;
}

/** A plain-TCP owner: sends `toSend` pattern bytes, checks what it receives against the pattern. */
export class StreamOwner implements SubflowOwner {
  toSend = 0;
  pulled = 0;
  finWhenDone = false;
  /** In-order bytes received and verified. */
  received = 0;
  receiveLimitBytes = 4 << 20;
  /** Bytes that the application has not read (they shut the window). */
  unreadBytes = 0;
  readsAtOnce = true;
  optionBytes = 0;
  verdict: OptionVerdict = 'continue';
  mismatches = 0;
  readonly events: string[] = [];
  readonly acked: { seq: number; length: number; tag: unknown }[] = [];
  lostCalls = 0;
  ackedBytes = 0;
  isTagged = false;
  readonly #ahead = new Map<number, Uint8Array>();

  constructor(private readonly keepAcked = false) {}

  dataOptionBytes(): number {
    return this.optionBytes;
  }
  writeOptions(
    _sf: TcpSubflow,
    kind: SegmentKind,
    seq: number,
    _length: number,
    _tag: unknown,
    out: Uint8Array,
    o: number,
    room: number,
  ): number {
    if (this.optionBytes === 0 || kind === 'rst' || room < this.optionBytes) return o;
    out[o] = 253; // RFC 6994 experimental
    out[o + 1] = this.optionBytes;
    putU32(out, o + 2, seq);
    out.fill(0, o + 6, o + this.optionBytes);
    return o + this.optionBytes;
  }
  windowBytes(): number {
    return Math.max(0, this.receiveLimitBytes - this.unreadBytes);
  }
  pull(_nowUs: number, _sf: TcpSubflow, maxBytes: number): SendUnit | null {
    const lengthBytes = Math.min(maxBytes, this.toSend - this.pulled);
    if (lengthBytes <= 0) return null;
    const at = this.pulled;
    this.pulled += lengthBytes;
    // Two parts and an offset, so that slices are exercised.
    const cut = lengthBytes >> 1;
    const first = Uint8Array.from({ length: cut + 3 }, (_, i) => (i < 3 ? 0xee : patternByte(at + i - 3)));
    const second = Uint8Array.from({ length: lengthBytes - cut }, (_, i) => patternByte(at + cut + i));
    return { lengthBytes, parts: [first, second], firstOffset: 3, tag: this.isTagged ? { at, lengthBytes } : null };
  }
  hasPending(): boolean {
    return this.pulled < this.toSend;
  }
  pendingBytes(): number {
    return this.toSend - this.pulled;
  }
  onOptions(): OptionVerdict {
    return this.verdict;
  }
  onPayload(_nowUs: number, _sf: TcpSubflow, seg: SegmentView, seq: number, offset: number, length: number): void {
    let at = seq - 1;
    let from = offset;
    let bytes = length;
    if (at > this.received) {
      if (bytes > (this.#ahead.get(at)?.length ?? 0)) this.#ahead.set(at, seg.buf.slice(from, from + bytes));
      return;
    }
    if (at < this.received) {
      const old = Math.min(bytes, this.received - at);
      at += old;
      from += old;
      bytes -= old;
    }
    this.#take(seg.buf, from, bytes);
    for (let progressed = true; progressed; ) {
      progressed = false;
      for (const [start, data] of this.#ahead) {
        if (start > this.received) continue;
        this.#ahead.delete(start);
        const skip = this.received - start;
        if (skip < data.length) this.#take(data, skip, data.length - skip);
        progressed = true;
        break;
      }
    }
  }
  #take(buf: Uint8Array, offset: number, length: number): void {
    for (let i = 0; i < length; i++) if (buf[offset + i] !== patternByte(this.received + i)) this.mismatches++;
    this.received += length;
    if (!this.readsAtOnce) this.unreadBytes += length;
  }
  onSegmentDone(): void {}
  onEstablished(): void {
    this.events.push('established');
  }
  onPeerFin(): void {
    this.events.push('fin');
  }
  onClosed(_nowUs: number, _sf: TcpSubflow, why: CloseReason): void {
    this.events.push(`closed:${why}`);
  }
  onRto(_nowUs: number, _sf: TcpSubflow, count: number): void {
    this.events.push(`rto:${count}`);
  }
  onAcked(_nowUs: number, _sf: TcpSubflow, seq: number, length: number, tag: unknown): void {
    this.ackedBytes += length;
    if (this.keepAcked) this.acked.push({ seq, length, tag });
  }
  onLost(): void {
    this.lostCalls++;
  }
}

/** One IP packet as emitted, before segmentation. */
export interface Packet {
  readonly bytes: Uint8Array;
  readonly gsoSize: number;
}

/** Collects what a subflow emits as whole IP packets. */
export class CaptureSink implements SegmentSink {
  readonly headers = new Uint8Array(160);
  readonly packets: Packet[] = [];
  room = Number.POSITIVE_INFINITY;

  hasRoom(): boolean {
    return this.packets.length < this.room;
  }
  reserve(): number {
    return 100;
  }
  commit(
    sf: TcpSubflow,
    tcpOffset: number,
    tcpHeaderBytes: number,
    parts: readonly Uint8Array[],
    skipBytes: number,
    lengthBytes: number,
    mssBytes: number,
    ect: boolean,
  ): void {
    const { family, localAddress, remoteAddress } = sf.flow;
    const ipBytes = ipHeaderBytes(family);
    const bytes = new Uint8Array(ipBytes + tcpHeaderBytes + lengthBytes);
    writeIpHeader(
      bytes,
      0,
      family,
      localAddress,
      remoteAddress,
      tcpHeaderBytes + lengthBytes,
      PROTO_TCP,
      ect ? ECT0 : 0,
      0,
    );
    bytes.set(this.headers.subarray(tcpOffset, tcpOffset + tcpHeaderBytes), ipBytes);
    let skip = skipBytes;
    let left = lengthBytes;
    let o = ipBytes + tcpHeaderBytes;
    for (const part of parts) {
      if (left === 0) break;
      const from = Math.min(skip, part.length);
      skip -= from;
      const n = Math.min(left, part.length - from);
      bytes.set(part.subarray(from, from + n), o);
      o += n;
      left -= n;
    }
    if (left !== 0 || tcpHeaderBytes > 60)
      throw new Error(`bad commit: ${left} bytes missing, header ${tcpHeaderBytes}`);
    this.packets.push({ bytes, gsoSize: mssBytes });
  }
  take(): Packet[] {
    return this.packets.splice(0);
  }
}

/** Cuts a super-packet into the segments that the wire sees. */
export function segmentize(packet: Packet): Uint8Array[] {
  const { bytes, gsoSize } = packet;
  if (gsoSize === 0) return [bytes];
  const isV6 = bytes[0]! >>> 4 === 6;
  const ip = isV6 ? 40 : 20;
  const header = ip + (bytes[ip + 12]! >>> 4) * 4;
  const out: Uint8Array[] = [];
  for (let at = header; at < bytes.length; at += gsoSize) {
    const end = Math.min(bytes.length, at + gsoSize);
    const piece = new Uint8Array(header + end - at);
    piece.set(bytes.subarray(0, header));
    piece.set(bytes.subarray(at, end), header);
    const length = piece.length - (isV6 ? 40 : 0);
    const lengthAt = isV6 ? 4 : 2;
    piece[lengthAt] = length >> 8;
    piece[lengthAt + 1] = length;
    if (!isV6) fixIpChecksum(piece);
    putU32(piece, ip + 4, (getU32(bytes, ip + 4) + (at - header)) >>> 0);
    if (at > header) piece[ip + 13]! &= ~TCP_CWR;
    if (end < bytes.length) piece[ip + 13]! &= ~(TCP_FIN | TCP_PSH);
    out.push(piece);
  }
  return out;
}

function fixIpChecksum(bytes: Uint8Array): void {
  bytes[10] = 0;
  bytes[11] = 0;
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  bytes[10] = ~sum >> 8;
  bytes[11] = ~sum;
}

/** A segment as a test states or reads it; numbers relative to the sender's ISN (seq) and the receiver's (ack). */
export interface Seg {
  flags: string;
  seq: number;
  ack: number;
  len: number;
  win: number;
  sack: [number, number][];
  ts?: [number, number];
  mss?: number;
  wscale?: number;
  sackOk?: boolean;
  gso?: number;
  ecn?: number;
  optionBytes: number;
}

const FLAG_LETTERS: [number, string][] = [
  [TCP_SYN, 'S'],
  [TCP_FIN, 'F'],
  [TCP_RST, 'R'],
  [TCP_PSH, 'P'],
  [TCP_ACK, '.'],
  [0x40, 'E'],
  [0x80, 'W'],
];

export function describe(view: SegmentView, senderIsn: number, receiverIsn: number): Seg {
  const ip = view.family === 4 ? 20 : 40;
  const seg: Seg = {
    flags: FLAG_LETTERS.map(([bit, letter]) => ((view.flags & bit) !== 0 ? letter : '')).join(''),
    seq: unwrap32(view.seq, senderIsn, 0),
    ack: (view.flags & TCP_ACK) !== 0 ? unwrap32(view.ack, receiverIsn, 0) : 0,
    len: view.payloadLen,
    win: view.window,
    sack: [],
    optionBytes: view.payloadOff - ip - 20,
    ecn: view.ecn,
  };
  for (let i = 0; i < view.sackCount; i++) {
    seg.sack.push([unwrap32(view.sackLeft[i]!, receiverIsn, 0), unwrap32(view.sackRight[i]!, receiverIsn, 0)]);
  }
  if (view.hasTs) seg.ts = [view.tsVal, view.tsEcr];
  if (view.mss >= 0) seg.mss = view.mss;
  if (view.wscale >= 0) seg.wscale = view.wscale;
  if (view.sackPermitted) seg.sackOk = true;
  if (view.gsoSize > 0) seg.gso = view.gsoSize;
  return seg;
}

/** What a link does with one packet: arrival delays, one per copy; empty means lost. */
export type LinkRule = (bytes: Uint8Array, nowUs: number, direction: 0 | 1) => number[];

interface InFlight {
  atUs: number;
  order: number;
  direction: 0 | 1;
  bytes: Uint8Array;
}

/** Two subflows over a link, driven until a condition holds. */
export class TcpPair {
  nowUs = 1_000_000;
  readonly client: TcpSubflow;
  server: TcpSubflow;
  readonly clientOwner: StreamOwner;
  readonly serverOwner: StreamOwner;
  rule: LinkRule = () => [10_000];
  /** Called for each packet put on the wire. */
  onWire: ((seg: Seg, direction: 0 | 1, nowUs: number) => void) | null = null;
  wirePackets = 0;
  readonly #queue: InFlight[] = [];
  #order = 0;
  readonly #sink = new CaptureSink();
  readonly #view = new SegmentView();
  #serverStarted = false;

  constructor(
    options: {
      client?: Partial<SubflowConfig>;
      server?: Partial<SubflowConfig>;
      family?: 4 | 6;
      isns?: [number, number];
    } = {},
  ) {
    const isns = options.isns ?? [0xffff_f000, 0x1234_5678];
    this.clientOwner = new StreamOwner();
    this.serverOwner = new StreamOwner();
    const family = options.family ?? 4;
    this.client = new TcpSubflow(
      seededEnv(1),
      this.clientOwner,
      flowTuple(0, family),
      subflowConfig(options.client),
      isns[0],
    );
    this.server = new TcpSubflow(
      seededEnv(2),
      this.serverOwner,
      flowTuple(1, family),
      subflowConfig(options.server),
      isns[1],
    );
    this.client.connect(this.nowUs);
  }

  /** Handles the next event (packet or timer); false when nothing is left to happen before `untilUs`. */
  step(untilUs = NEVER): boolean {
    this.#flush();
    const packet = this.#queue[0];
    const timer = Math.min(this.client.nextDeadline(), this.server.nextDeadline());
    const next = Math.min(packet?.atUs ?? NEVER, timer);
    if (next > untilUs || next === NEVER) {
      if (untilUs !== NEVER) this.nowUs = Math.max(this.nowUs, untilUs);
      return false;
    }
    this.nowUs = Math.max(this.nowUs, next);
    if (packet !== undefined && packet.atUs <= this.nowUs) {
      this.#pop();
      this.#deliver(packet);
    } else {
      if (this.client.nextDeadline() <= this.nowUs) this.client.onTimer(this.nowUs);
      if (this.server.nextDeadline() <= this.nowUs) this.server.onTimer(this.nowUs);
    }
    this.#flush();
    return true;
  }

  /** Runs until `done` holds; throws when it does not within `limitUs` of virtual time or nothing is left to happen. */
  runUntil(done: () => boolean, limitUs = 600_000_000): void {
    const end = this.nowUs + limitUs;
    let steps = 0;
    while (!done()) {
      if (!this.step(end)) throw new Error(`stalled at ${this.nowUs} us: ${this.summary()}`);
      if (++steps > 5_000_000) throw new Error(`busy loop at ${this.nowUs} us: ${this.summary()}`);
    }
  }

  runFor(us: number): void {
    const end = this.nowUs + us;
    while (this.step(end));
  }

  summary(): string {
    const one = (name: string, sf: TcpSubflow, owner: StreamOwner) =>
      `${name} ${sf.state} una=${sf.sndUna} nxt=${sf.sndNxt} rcv=${sf.rcvNxt} wnd=${sf.sndWndBytes} cwnd=${sf.cc.cwndBytes} ` +
      `pipe=${sf.inFlightBytes} pulled=${owner.pulled}/${owner.toSend} got=${owner.received} next=${sf.nextDeadline()}`;
    return `${one('client', this.client, this.clientOwner)}; ${one('server', this.server, this.serverOwner)}`;
  }

  #flush(): void {
    for (const [sf, direction] of [
      [this.client, 0],
      [this.server, 1],
    ] as const) {
      sf.pollTransmit(this.nowUs, this.#sink);
      for (const packet of this.#sink.take()) for (const bytes of segmentize(packet)) this.#send(bytes, direction);
    }
  }

  #send(bytes: Uint8Array, direction: 0 | 1): void {
    this.wirePackets++;
    if (this.onWire !== null) {
      const view = this.#parse(bytes);
      const [from, to] = direction === 0 ? [this.client.iss, this.server.iss] : [this.server.iss, this.client.iss];
      this.onWire(describe(view, from, to), direction, this.nowUs);
    }
    for (const delay of this.rule(bytes, this.nowUs, direction)) {
      this.#push({ atUs: this.nowUs + delay, order: this.#order++, direction, bytes });
    }
  }

  #deliver(packet: InFlight): void {
    const view = this.#parse(packet.bytes);
    if (packet.direction === 1) {
      this.client.onSegment(this.nowUs, view);
    } else if (!this.#serverStarted && (view.flags & (TCP_SYN | TCP_ACK)) === TCP_SYN) {
      this.#serverStarted = true;
      this.server.accept(this.nowUs, view);
    } else {
      this.server.onSegment(this.nowUs, view);
    }
  }

  #parse(bytes: Uint8Array): SegmentView {
    const result = parseSegment(bytes, 0, bytes.length, 0, this.#view);
    if (result !== 'ok') throw new Error(`emitted packet does not parse: ${result}`);
    return this.#view;
  }

  // A binary heap by time, then by order of sending.
  #push(item: InFlight): void {
    const q = this.#queue;
    let i = q.length;
    q.push(item);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isEarlier(item, q[parent]!)) break;
      q[i] = q[parent]!;
      i = parent;
    }
    q[i] = item;
  }

  #pop(): void {
    const q = this.#queue;
    const item = q.pop()!;
    if (q.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= q.length) break;
      if (child + 1 < q.length && isEarlier(q[child + 1]!, q[child]!)) child++;
      if (!isEarlier(q[child]!, item)) break;
      q[i] = q[child]!;
      i = child;
    }
    q[i] = item;
  }
}

function isEarlier(a: InFlight, b: InFlight): boolean {
  return a.atUs < b.atUs || (a.atUs === b.atUs && a.order < b.order);
}

/** Marks a packet as having met congestion (RFC 3168). */
export function markCe(bytes: Uint8Array): void {
  if (bytes[0]! >>> 4 === 4) {
    bytes[1]! |= CE;
    fixIpChecksum(bytes);
  } else {
    bytes[1]! |= CE << 4;
  }
}

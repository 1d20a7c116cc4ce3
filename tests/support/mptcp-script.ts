/**
 * A real engine against a scripted MPTCP peer: the test injects segments with any options (numbers relative to ISNs and
 * IDSNs, as in a packet trace) and reads what the engine emits on each path. Time moves only when the script says so.
 *
 * The peer answers handshakes properly (keys, tokens, HMACs); what comes after them is the test's.
 */
import type { CoreEnv } from '../../src/core/base/env.js';
import { parseIp } from '../../src/core/base/ip.js';
import { dsnHi, dsnLo, relativeDsn, unwrap32, wrap32 } from '../../src/core/base/seq.js';
import { NEVER } from '../../src/core/base/time.js';
import type { EngineConfig } from '../../src/core/engine/config.js';
import { Engine } from '../../src/core/engine/engine.js';
import { CSUM_VALID, ReceiveBatch, type TransmitBatch } from '../../src/core/engine/ports.js';
import type { Connection } from '../../src/core/mptcp/connection.js';
import { deriveFromKey, dssChecksumRange, joinHmac, type KeyDerivation } from '../../src/core/mptcp/keys.js';
import { writeIpHeader } from '../../src/core/wire/ip.js';
import {
  CAPABLE_A_CHECKSUM,
  CAPABLE_H_SHA256,
  MPO,
  writeCapableAck,
  writeCapableSyn,
  writeCapableSynAck,
  writeDss,
  writeJoinAck,
  writeJoinSyn,
  writeJoinSynAck,
} from '../../src/core/wire/mptcp-options.js';
import { parseSegment, SegmentView } from '../../src/core/wire/segment.js';
import {
  finishTcpHeader,
  putMss,
  putSackBlocks,
  putSackPermitted,
  putTimestamps,
  putWscale,
  writeTcpHeader,
} from '../../src/core/wire/tcp.js';
import { patternByte, seededEnv, segmentize } from './tcp-pair.js';

const FLAG_BITS: Record<string, number> = { F: 1, S: 2, R: 4, P: 8, '.': 16, U: 32, E: 64, W: 128 };
const LOCAL = ['10.0.1.1', '10.0.2.1', '10.0.3.1'].map(parseIp);
const PEER = ['10.9.1.1', '10.9.2.1', '10.9.3.1'].map(parseIp);
const LOCAL_PORT = 40_000;
const PEER_PORT = 5000;
const PEER_KEY = Uint8Array.of(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88);
const PEER_NONCE = 0x0a0b0c0d;
/** Path round trip of the scripted handshakes. */
const HANDSHAKE_RTT_US = 10_000;

export interface ScriptOptions {
  /** The engine connects ('active', the default) or the script does. */
  side?: 'active' | 'passive';
  /** Both ends ask for DSS checksums. */
  checksum?: boolean;
  config?: Partial<EngineConfig>;
  env?: CoreEnv;
  /** What the peer's SYNs say; the window shift is that of its own segments; `ts`: timestamps on all of them. */
  peer?: { win?: number; wscale?: number; mss?: number; isn?: number; sack?: boolean; ts?: boolean };
}

/** A DSS to inject, relative. With `dsn`: SSN and DLL follow from the segment unless given. */
export interface Dss {
  ack?: number;
  ackBytes?: 4 | 8;
  dsn?: number;
  dsnBytes?: 4 | 8;
  ssn?: number;
  dll?: number;
  /** Default: the right one if checksums are in use, else none; -1: none. */
  checksum?: number;
  fin?: boolean;
}

/** What to inject; omitted numbers continue the script's own stream on that path. */
export interface Inject {
  flags?: string;
  seq?: number;
  ack?: number;
  /** Payload bytes of the data pattern, by DSN; or the bytes themselves. */
  len?: number;
  payload?: Uint8Array;
  /** DSN of the first payload byte, where no DSS says so. */
  at?: number;
  /** Raw field. */
  win?: number;
  urgent?: number;
  sack?: [number, number][];
  dss?: Dss;
  /** Further options, written as they are. */
  options?: (out: Uint8Array, o: number) => number;
}

export interface SentDss {
  ackBytes: number;
  ack: number;
  dsnBytes: number;
  dsn: number;
  ssn: number;
  dll: number;
  checksum: number;
  fin: boolean;
}

/** A segment of the engine's, relative to its own ISN and IDSN, and the peer's. */
export interface Sent {
  path: number;
  atUs: number;
  flags: string;
  seq: number;
  ack: number;
  len: number;
  /** Scaled. */
  win: number;
  payload: Uint8Array;
  optionBytes: number;
  sackCount: number;
  /** OR of MPO bits. */
  present: number;
  dss: SentDss | null;
  prioBackup: boolean | null;
  tcprst: number | null;
  fail: number | null;
}

/** The peer's end of one subflow. */
export class ScriptPath {
  isn = 0;
  /** The engine's ISN, once seen. */
  iss = 0;
  /** Next sequence number of the script's, and of the engine's as far as seen. */
  nxt = 1;
  rcvd = 1;
  localPort = LOCAL_PORT;

  constructor(
    private readonly script: MptcpScript,
    readonly index: number,
  ) {}

  /** Subflow of the engine on this path. */
  get sf() {
    return this.script.c.subflows.find((sf) => sf.flow.linkId === this.index)!;
  }

  send(s: Inject): void {
    this.script.deliver(this, s);
  }

  /** As `send`, and returns what the engine emits at once, on all paths. */
  exchange(s: Inject): Sent[] {
    this.send(s);
    return this.script.out();
  }

  /** Acknowledges all that was seen on this path; `dataAck` undefined: no DSS. */
  ack(dataAck?: number, win?: number): Sent[] {
    return this.exchange({
      ...(dataAck === undefined ? {} : { dss: { ack: dataAck } }),
      ...(win === undefined ? {} : { win }),
    });
  }
}

export class MptcpScript {
  nowUs = 1_000_000;
  readonly engine: Engine;
  readonly paths: ScriptPath[];
  readonly peerKeys: KeyDerivation;
  /** Data the application got, in order, and how many bytes of it differ from the pattern. */
  received = 0;
  mismatches = 0;
  ends = 0;
  /** What the reader takes from now on. */
  readLimit = Number.POSITIVE_INFINITY;
  /** Window field of the script's segments unless they say otherwise. */
  win: number;
  readonly env: CoreEnv;
  readonly #options: ScriptOptions;
  readonly #view = new SegmentView();
  readonly #packets: { linkId: number; bytes: Uint8Array; gsoSize: number }[] = [];
  #c: Connection | null = null;
  #localShift = 0;

  constructor(options: ScriptOptions = {}) {
    this.#options = options;
    this.env = options.env ?? seededEnv(5);
    this.win = options.peer?.win ?? 65_535;
    this.engine = new Engine(this.env, { checksum: options.checksum ?? false, ...options.config });
    this.peerKeys = deriveFromKey(this.env, PEER_KEY);
    this.paths = LOCAL.map((address, i) => {
      this.engine.addLink(0, { id: i, name: `link${i}`, mtuBytes: 1500, addresses: [address], isUp: true });
      return new ScriptPath(this, i);
    });
    this.paths[0]!.isn = options.peer?.isn ?? 0x7fff_ff00;
  }

  /** An MPTCP connection on path 0, handshake complete and nothing sent yet. */
  static connected(options: ScriptOptions = {}): MptcpScript {
    const script = new MptcpScript(options);
    if (options.side === 'passive') script.#openPassive();
    else script.#openActive();
    return script;
  }

  /** Connected on path 0, with a byte each way acknowledged, and joined on the further paths. */
  static joined(paths: number, options: ScriptOptions = {}): MptcpScript {
    const script = MptcpScript.connected(options);
    script.prove();
    for (let i = 1; i < paths; i++) script.join(i);
    return script;
  }

  get c(): Connection {
    return this.#c!;
  }

  get p0(): ScriptPath {
    return this.paths[0]!;
  }

  get p1(): ScriptPath {
    return this.paths[1]!;
  }

  /** One byte from the peer (DSN 1) and one to it (DSN 1), both acknowledged: the first data of either side is over. */
  prove(): void {
    this.p0.exchange({ len: 1, dss: { ack: 1, dsn: 1 } });
    this.write(1);
    this.p0.ack(2);
    this.advance(100_000);
  }

  /** The engine joins on path `i` (or, `byPeer`, the script does). Returns what is emitted once it is confirmed. */
  join(i: number, options: { byPeer?: boolean; backup?: boolean } = {}): Sent[] {
    const path = this.paths[i]!;
    const { keys } = this.c;
    path.isn = 0x0100_0000 * (i + 1);
    if (options.byPeer === true) {
      path.localPort = LOCAL_PORT + i;
      const synack = path.exchange({
        flags: 'S',
        seq: 0,
        options: (out, o) =>
          writeJoinSyn(out, this.#synOptions(out, o), options.backup ?? false, i, keys.localToken, PEER_NONCE),
      });
      this.#expect(synack, 'S.');
      const { joinNonce } = this.#view.mptcp;
      this.nowUs += HANDSHAKE_RTT_US;
      const hmac = joinHmac(this.env, PEER_KEY, keys.local, PEER_NONCE, joinNonce);
      path.send({ flags: '.', seq: 1, ack: 1, options: (out, o) => writeJoinAck(out, o, hmac) });
    } else {
      this.c.join(this.nowUs, {
        linkId: i,
        localAddress: LOCAL[i]!,
        remote: { address: PEER[i]!, port: PEER_PORT },
        remoteAddressId: i,
        backup: options.backup ?? false,
      });
      this.#expect(this.out(), 'S');
      const { joinNonce } = this.#view.mptcp;
      const hmac = joinHmac(this.env, PEER_KEY, keys.local, PEER_NONCE, joinNonce);
      this.nowUs += HANDSHAKE_RTT_US;
      path.send({
        flags: 'S.',
        seq: 0,
        options: (out, o) =>
          writeJoinSynAck(out, this.#synOptions(out, o), options.backup ?? false, i, hmac, PEER_NONCE),
      });
      this.#expect(this.out(), '.');
      this.nowUs += HANDSHAKE_RTT_US;
      path.send({ dss: { ack: this.c.sender.sndUna } });
    }
    const sent = this.out();
    if (!path.sf.isConfirmed) throw new Error(`join on path ${i} did not come about`);
    return sent;
  }

  // ---- the application

  /** Writes `bytes` of the pattern and returns what the engine emits. */
  write(bytes: number): Sent[] {
    const from = this.c.sender.buffer.endDsn;
    this.c.write(
      this.nowUs,
      Uint8Array.from({ length: bytes }, (_, i) => patternByte(from - 1 + i)),
    );
    return this.out();
  }

  end(): Sent[] {
    this.c.end(this.nowUs);
    return this.out();
  }

  // ---- time

  /** Polls at the present time. */
  out(): Sent[] {
    this.#packets.length = 0;
    this.engine.flush(this.nowUs, {
      send: (linkId, batch, from) => this.#collect(linkId, batch, from),
      queuedBytes: () => 0,
    });
    const out: Sent[] = [];
    for (const { linkId, bytes, gsoSize } of this.#packets) {
      for (const piece of segmentize({ bytes, gsoSize })) out.push(this.#read(linkId, piece));
    }
    return out;
  }

  /** Lets `us` pass with timers running; returns what was emitted. */
  advance(us: number): Sent[] {
    const end = this.nowUs + us;
    const out = this.out();
    for (let guard = 0; ; guard++) {
      const at = this.engine.nextDeadline();
      if (at === NEVER || at > end) break;
      if (guard > 200_000) throw new Error(`busy loop at ${this.nowUs} us`);
      this.nowUs = Math.max(this.nowUs, at);
      this.engine.onTimer(this.nowUs);
      out.push(...this.out());
    }
    this.nowUs = end;
    return out;
  }

  /** Events of one type since the last call of this. */
  events(type: string): Record<string, unknown>[] {
    const found: Record<string, unknown>[] = [];
    for (let e = this.engine.pollEvent(); e !== undefined; e = this.engine.pollEvent()) {
      if (e.type === type) found.push(e as unknown as Record<string, unknown>);
    }
    return found;
  }

  counter(name: string): number {
    return this.engine.counters()[name] ?? 0;
  }

  // ---- the peer's side of the handshake

  #openActive(): void {
    const { p0 } = this;
    const c = this.engine.connect(this.nowUs, {
      linkId: 0,
      localAddress: LOCAL[0]!,
      localPort: LOCAL_PORT,
      remote: { address: PEER[0]!, port: PEER_PORT },
    });
    this.#attach(c);
    this.#expect(this.out(), 'S');
    this.#localShift = this.#view.wscale;
    this.nowUs += HANDSHAKE_RTT_US;
    p0.send({
      flags: 'S.',
      seq: 0,
      options: (out, o) => writeCapableSynAck(out, this.#synOptions(out, o), this.#capableFlags, ...halves(PEER_KEY)),
    });
    this.#expect(this.out(), '.');
  }

  #openPassive(): void {
    const { p0 } = this;
    this.engine.listen({ port: LOCAL_PORT, onAccept: (c) => this.#attach(c as Connection) });
    const synack = p0.exchange({
      flags: 'S',
      seq: 0,
      options: (out, o) => writeCapableSyn(out, this.#synOptions(out, o), this.#capableFlags),
    });
    this.#expect(synack, 'S.');
    this.#localShift = this.#view.wscale;
    const { senderKeyHi, senderKeyLo } = this.#view.mptcp;
    this.nowUs += HANDSHAKE_RTT_US;
    p0.send({
      options: (out, o) => writeCapableAck(out, o, this.#capableFlags, ...halves(PEER_KEY), senderKeyHi, senderKeyLo),
    });
    this.out();
    if (this.#c === null) throw new Error('the connection was not accepted');
  }

  get #capableFlags(): number {
    return CAPABLE_H_SHA256 | (this.#options.checksum === true ? CAPABLE_A_CHECKSUM : 0);
  }

  #attach(c: Connection): void {
    this.#c = c;
    c.setReader({
      onBytes: (buf, offset, lengthBytes) => {
        const took = Math.min(lengthBytes, this.readLimit);
        for (let i = 0; i < took; i++) if (buf[offset + i] !== patternByte(this.received + i)) this.mismatches++;
        this.received += took;
        this.readLimit -= took;
        return took;
      },
      onEnd: () => void this.ends++,
    });
  }

  #synOptions(out: Uint8Array, o: number): number {
    const { mss, wscale, sack } = this.#options.peer ?? {};
    const end = this.#putTs(out, putMss(out, o, mss ?? 1460));
    return putWscale(out, sack === false ? end : putSackPermitted(out, end), wscale ?? 0);
  }

  /** The clock of both ends counts milliseconds. */
  #putTs(out: Uint8Array, o: number): number {
    if (this.#options.peer?.ts !== true) return o;
    return putTimestamps(out, o, Math.floor(this.nowUs / 1000), this.#view.hasTs ? this.#view.tsVal : 0);
  }

  #expect(segments: Sent[], flags: string): void {
    if (segments.length !== 1 || segments[0]!.flags !== flags) {
      throw new Error(`expected ${flags}, got ${segments.map((s) => s.flags).join(' ') || 'nothing'}`);
    }
  }

  // ---- wire

  /** Builds the segment and gives it to the engine. */
  deliver(path: ScriptPath, s: Inject): void {
    const headers = new Uint8Array(100);
    let flags = 0;
    for (const letter of s.flags ?? '.') flags |= FLAG_BITS[letter]!;
    const seq = s.seq ?? path.nxt;
    const ack = s.ack ?? path.rcvd;
    const lengthBytes = s.payload?.length ?? s.len ?? 0;
    const map = s.dss?.dsn === undefined ? null : this.#mapping(s.dss, seq, lengthBytes);
    const first = s.at ?? (map === null ? seq : map.dsn + seq - (map.ssn === 0 ? seq : map.ssn));
    const payload = s.payload ?? Uint8Array.from({ length: lengthBytes }, (_, i) => patternByte(first - 1 + i));
    let o = writeTcpHeader(
      headers,
      0,
      PEER_PORT,
      path.localPort,
      wrap32(seq, path.isn),
      (flags & 16) !== 0 ? wrap32(ack, path.iss) : 0,
      flags,
      s.win ?? this.win,
    );
    if (s.urgent !== undefined) headers[19] = s.urgent;
    if ((flags & 2) === 0) o = this.#putTs(headers, o);
    if (s.dss !== undefined) {
      const { idsnLocal } = this.c.keys;
      const dataAck = s.dss.ack ?? 0;
      const d = map?.dsn ?? 0;
      const idsn = this.peerKeys.idsn;
      const isWhole =
        map !== null && payload.length >= map.dll - (s.dss.fin === true ? 1 : 0) && seq === (map.ssn || seq);
      const isSummed = this.c.keys.checksums && isWhole;
      const right =
        map === null || !isSummed
          ? -1
          : dssChecksumRange(
              dsnHi(d, idsn),
              dsnLo(d, idsn),
              map.ssn,
              map.dll,
              payload,
              0,
              map.dll - (s.dss.fin === true ? 1 : 0),
            );
      o = writeDss(
        headers,
        o,
        s.dss.ack === undefined ? 0 : (s.dss.ackBytes ?? 8),
        dsnHi(dataAck, idsnLocal),
        dsnLo(dataAck, idsnLocal),
        map === null ? 0 : (s.dss.dsnBytes ?? 8),
        dsnHi(d, idsn),
        dsnLo(d, idsn),
        map?.ssn ?? 0,
        map?.dll ?? 0,
        s.dss.checksum ?? right,
        s.dss.fin ?? false,
      );
    }
    if (s.options !== undefined) o = s.options(headers, o);
    if (s.sack !== undefined) {
      const left = s.sack.map(([l]) => wrap32(l, path.iss));
      const right = s.sack.map(([, r]) => wrap32(r, path.iss));
      o = putSackBlocks(headers, o, left, right, s.sack.length);
    }
    const tcpBytes = finishTcpHeader(headers, 0, o);
    const total = 20 + tcpBytes + payload.length;
    const batch = new ReceiveBatch(1, Math.max(2048, total));
    writeIpHeader(batch.slab, 0, 4, PEER[path.index]!, LOCAL[path.index]!, tcpBytes + payload.length, 6, 0, 0);
    batch.slab.set(headers.subarray(0, tcpBytes), 20);
    batch.slab.set(payload, 20 + tcpBytes);
    batch.length[0] = total;
    batch.checksum[0] = CSUM_VALID;
    batch.count = 1;
    const end = seq + payload.length + ((flags & 3) !== 0 ? 1 : 0);
    if ((flags & 2) === 0 || seq === 0) path.nxt = Math.max(path.nxt, end);
    this.engine.onPackets(this.nowUs, path.index, batch);
  }

  /** A packet on the link of path `index` that belongs to no subflow. */
  strayOnLink(index: number): void {
    const headers = new Uint8Array(64);
    writeTcpHeader(headers, 0, 9, 9, 1, 1, 0x04, 0);
    const tcpBytes = finishTcpHeader(headers, 0, 20);
    const batch = new ReceiveBatch(1, 2048);
    writeIpHeader(batch.slab, 0, 4, PEER[index]!, LOCAL[index]!, tcpBytes, 6, 0, 0);
    batch.slab.set(headers.subarray(0, tcpBytes), 20);
    batch.length[0] = 20 + tcpBytes;
    batch.checksum[0] = CSUM_VALID;
    batch.count = 1;
    this.engine.onPackets(this.nowUs, index, batch);
  }

  #mapping(dss: Dss, seq: number, lengthBytes: number): { dsn: number; ssn: number; dll: number } {
    const isFinAlone = dss.fin === true && lengthBytes === 0;
    const ssn = dss.ssn ?? (isFinAlone ? 0 : seq);
    return { dsn: dss.dsn!, ssn, dll: dss.dll ?? lengthBytes + (dss.fin === true ? 1 : 0) };
  }

  #collect(linkId: number, batch: TransmitBatch, from: number): number {
    for (let i = from; i < batch.count; i++) {
      const bytes = new Uint8Array(batch.totalLength[i]!);
      const at = batch.headerOffset[i]!;
      bytes.set(batch.headers.subarray(at, at + batch.headerLength[i]!));
      let o = batch.headerLength[i]!;
      for (let p = batch.partStart[i]!; p < batch.partStart[i + 1]!; p++) {
        const offset = batch.partOffset[p]!;
        bytes.set(batch.parts[p]!.subarray(offset, offset + batch.partLength[p]!), o);
        o += batch.partLength[p]!;
      }
      this.#packets.push({ linkId, bytes, gsoSize: batch.gsoSize[i]! });
    }
    return batch.count - from;
  }

  #read(linkId: number, bytes: Uint8Array): Sent {
    const view = this.#view;
    const result = parseSegment(bytes, 0, bytes.length, 0, view);
    if (result !== 'ok') throw new Error(`emitted packet does not parse: ${result}`);
    const path = this.paths[linkId]!;
    const isSyn = (view.flags & 2) !== 0;
    if (isSyn) path.iss = view.seq;
    const seq = unwrap32(view.seq, path.iss, path.rcvd);
    const isReset = (view.flags & 4) !== 0;
    if (!isReset) path.rcvd = Math.max(path.rcvd, seq + view.payloadLen + ((view.flags & 3) !== 0 ? 1 : 0));
    const o = view.mptcp;
    return {
      path: linkId,
      atUs: this.nowUs,
      flags: ['S', 'F', 'R', '.', 'U'].filter((letter) => (view.flags & FLAG_BITS[letter]!) !== 0).join(''),
      seq,
      ack: (view.flags & 16) !== 0 ? unwrap32(view.ack, path.isn, path.nxt) : 0,
      len: view.payloadLen,
      win: isSyn ? view.window : view.window * 2 ** this.#localShift,
      payload: bytes.slice(view.payloadOff),
      optionBytes: view.payloadOff - 40,
      sackCount: view.sackCount,
      present: o.present,
      dss: (o.present & MPO.dss) === 0 ? null : this.#dssOf(),
      prioBackup: (o.present & MPO.prio) === 0 ? null : o.prioBackup,
      tcprst: (o.present & MPO.tcprst) === 0 ? null : o.tcprstReason,
      fail: (o.present & MPO.fail) === 0 ? null : relativeDsn(o.failDsnHi, o.failDsnLo, this.peerKeys.idsn),
    };
  }

  #dssOf(): SentDss {
    const o = this.#view.mptcp;
    const { sender, receiver, keys } = this.c;
    const isLong = { ack: o.dataAckBytes === 8, dsn: o.dsnBytes === 8 };
    return {
      ackBytes: o.dataAckBytes,
      ack: isLong.ack
        ? relativeDsn(o.dataAckHi, o.dataAckLo, this.peerKeys.idsn)
        : unwrap32(o.dataAckLo, this.peerKeys.idsn.lo, receiver.rcvNxt),
      dsnBytes: o.dsnBytes,
      dsn: isLong.dsn
        ? relativeDsn(o.dsnHi, o.dsnLo, keys.idsnLocal)
        : unwrap32(o.dsnLo, keys.idsnLocal.lo, sender.sndUna),
      ssn: o.ssn,
      dll: o.dll,
      checksum: o.dssChecksum,
      fin: o.dataFin,
    };
  }
}

/** "0: . 1:1401 ack 2 | dack 2 map 1/1+1400": the gist of segments, for comparisons that read like a trace. */
export function brief(segments: readonly Sent[]): string[] {
  return segments.map((s) => {
    const range = s.len > 0 ? `${s.seq}:${s.seq + s.len}` : `${s.seq}`;
    const dss = s.dss;
    const parts: string[] = [];
    if (dss !== null && dss.ackBytes > 0) parts.push(`dack ${dss.ack}`);
    if (dss !== null && dss.dsnBytes > 0) parts.push(`map ${dss.dsn}/${dss.ssn}+${dss.dll}${dss.fin ? ' fin' : ''}`);
    if (s.tcprst !== null) parts.push(`tcprst ${s.tcprst}`);
    return `${s.path}: ${s.flags} ${range} ack ${s.ack}${parts.length > 0 ? ` | ${parts.join(' ')}` : ''}`;
  });
}

function halves(key: Uint8Array): [number, number] {
  const view = new DataView(key.buffer, key.byteOffset);
  return [view.getUint32(0), view.getUint32(4)];
}

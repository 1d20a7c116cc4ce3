/**
 * One subflow against a script: the test injects segments (numbers relative to the ISNs, as in a packet trace) and reads
 * what the subflow emits. Time moves only when the script says so.
 */
import { wrap32 } from '../../src/core/base/seq.js';
import { NEVER } from '../../src/core/base/time.js';
import { type SubflowConfig, TcpSubflow } from '../../src/core/tcp/subflow.js';
import { writeIpHeader } from '../../src/core/wire/ip.js';
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
import {
  CaptureSink,
  describe,
  flowTuple,
  markCe,
  patternByte,
  type Seg,
  StreamOwner,
  seededEnv,
  segmentize,
  subflowConfig,
} from './tcp-pair.js';

const FLAG_BITS: Record<string, number> = { F: 1, S: 2, R: 4, P: 8, '.': 16, U: 32, E: 64, W: 128 };

export interface ScriptOptions {
  config?: Partial<SubflowConfig>;
  /** The script opens the connection. */
  passive?: boolean;
  family?: 4 | 6;
  isn?: number;
  peerIsn?: number;
  /** Options of the script's SYN or SYN/ACK. */
  peer?: { mss?: number; wscale?: number; sackOk?: boolean; ts?: boolean; win?: number; ece?: boolean };
  owner?: StreamOwner;
}

/** What to inject; omitted numbers continue the script's own stream. */
export interface Inject {
  flags?: string;
  seq?: number;
  ack?: number;
  len?: number;
  /** Raw field. */
  win?: number;
  sack?: [number, number][];
  /** TSval and TSecr; by default the script's clock and the last TSval seen; null: no option. */
  ts?: [number, number] | null;
  mss?: number;
  wscale?: number;
  sackOk?: boolean;
  gso?: number;
  ce?: boolean;
}

export class TcpScript {
  nowUs = 1_000_000;
  readonly sf: TcpSubflow;
  readonly owner: StreamOwner;
  readonly sink = new CaptureSink();
  readonly iss: number;
  readonly peerIsn: number;
  /** The script's own TSval, advanced with time unless a test sets it. */
  tsOffset = 7_000;
  #lastTsVal = 0;
  #lastAckSeen = 1;
  #peer: NonNullable<ScriptOptions['peer']>;
  readonly #view = new SegmentView();
  readonly #family: 4 | 6;

  constructor(options: ScriptOptions = {}) {
    this.owner = options.owner ?? new StreamOwner(true);
    this.iss = options.isn ?? 0xffff_fff0;
    this.peerIsn = options.peerIsn ?? 0xffff_ff00;
    this.#family = options.family ?? 4;
    this.#peer = { mss: 1460, wscale: 0, sackOk: true, ts: true, win: 65535, ...options.peer };
    const flow = flowTuple(0, this.#family);
    this.sf = new TcpSubflow(seededEnv(3), this.owner, flow, subflowConfig(options.config), this.iss);
  }

  /** Completes the handshake; what it emitted is discarded. */
  static established(options: ScriptOptions = {}): TcpScript {
    const script = new TcpScript(options);
    const e = options.peer?.ece === true ? 'E' : '';
    if (options.passive === true) {
      script.accept({ flags: e === '' ? 'S' : 'SEW' });
      script.out();
      script.inject({ flags: '.', seq: 1, ack: 1 });
    } else {
      script.sf.connect(script.nowUs);
      script.out();
      script.nowUs += 10_000;
      script.inject({ flags: `S.${e}`, seq: 0, ack: 1, ...script.synOptions() });
    }
    script.out();
    return script;
  }

  synOptions(): Inject {
    const { mss, wscale, sackOk, win } = this.#peer;
    return {
      ...(mss !== undefined && mss >= 0 ? { mss } : {}),
      ...(wscale !== undefined && wscale >= 0 ? { wscale } : {}),
      ...(sackOk === true ? { sackOk } : {}),
      win: win ?? 65535,
    };
  }

  get peerTs(): number {
    return (this.tsOffset + Math.floor(this.nowUs / 1000)) >>> 0;
  }

  /** Passive open by a SYN of the script's. */
  accept(syn: Inject = { flags: 'S' }): void {
    this.sf.accept(this.nowUs, this.build({ seq: 0, ...this.synOptions(), ...syn }));
  }

  inject(segment: Inject): void {
    this.sf.onSegment(this.nowUs, this.build(segment));
  }

  /** Injects and returns what comes out at once. */
  exchange(segment: Inject): Seg[] {
    this.inject(segment);
    return this.out();
  }

  /** Polls and returns the segments emitted (super-packets cut up). */
  out(): Seg[] {
    this.sf.pollTransmit(this.nowUs, this.sink);
    return this.#read(true);
  }

  /** As `out`, with super-packets whole. */
  outWhole(): Seg[] {
    this.sf.pollTransmit(this.nowUs, this.sink);
    return this.#read(false);
  }

  /** Lets `us` pass with timers running; returns what was emitted, with the time of each in ms since the call. */
  advance(us: number): (Seg & { atMs: number })[] {
    const start = this.nowUs;
    const end = start + us;
    const out: (Seg & { atMs: number })[] = [];
    for (let guard = 0; guard < 100_000; guard++) {
      const deadline = this.sf.nextDeadline();
      if (deadline === NEVER || deadline > end) break;
      this.nowUs = Math.max(this.nowUs, deadline);
      this.sf.onTimer(this.nowUs);
      for (const seg of this.out()) out.push({ ...seg, atMs: (this.nowUs - start) / 1000 });
    }
    this.nowUs = end;
    return out;
  }

  /** Parsed view of a segment of the script's; valid until the next call. */
  build(s: Inject): SegmentView {
    const headers = new Uint8Array(60);
    let flags = 0;
    for (const letter of s.flags ?? '.') flags |= FLAG_BITS[letter]!;
    const ack = s.ack ?? this.#lastAckSeen;
    const seq = s.seq ?? this.sf.rcvNxt;
    const hasAck = (flags & 16) !== 0;
    let o = writeTcpHeader(
      headers,
      0,
      443,
      40000,
      wrap32(seq, this.peerIsn),
      hasAck ? wrap32(ack, this.iss) : 0,
      flags,
      s.win ?? 65535,
    );
    if (s.mss !== undefined) o = putMss(headers, o, s.mss);
    if (s.wscale !== undefined) o = putWscale(headers, o, s.wscale);
    if (s.sackOk === true) o = putSackPermitted(headers, o);
    const ts = s.ts === undefined && this.#peer.ts === true ? [this.peerTs, this.#lastTsVal] : s.ts;
    if (ts !== undefined && ts !== null) o = putTimestamps(headers, o, ts[0]!, ts[1]!);
    if (s.sack !== undefined && s.sack.length > 0) {
      const left = s.sack.map(([l]) => wrap32(l, this.iss));
      const right = s.sack.map(([, r]) => wrap32(r, this.iss));
      o = putSackBlocks(headers, o, left, right, s.sack.length);
    }
    const tcpBytes = finishTcpHeader(headers, 0, o);
    const len = s.len ?? 0;
    const ip = this.#family === 4 ? 20 : 40;
    const packet = new Uint8Array(ip + tcpBytes + len);
    const { localAddress, remoteAddress } = this.sf.flow;
    writeIpHeader(packet, 0, this.#family, remoteAddress, localAddress, tcpBytes + len, 6, 0, 0);
    packet.set(headers.subarray(0, tcpBytes), ip);
    const first = (flags & 2) !== 0 ? seq : seq - 1;
    for (let i = 0; i < len; i++) packet[ip + tcpBytes + i] = patternByte(first + i);
    if (s.ce === true) markCe(packet);
    const result = parseSegment(packet, 0, packet.length, s.gso ?? 0, this.#view);
    if (result !== 'ok') throw new Error(`script segment does not parse: ${result}`);
    return this.#view;
  }

  #read(cut: boolean): Seg[] {
    const out: Seg[] = [];
    for (const packet of this.sink.take()) {
      const pieces = cut ? segmentize(packet) : [packet.bytes];
      for (const bytes of pieces) {
        const result = parseSegment(bytes, 0, bytes.length, cut ? 0 : packet.gsoSize, this.#view);
        if (result !== 'ok') throw new Error(`emitted packet does not parse: ${result}`);
        const seg = describe(this.#view, this.iss, this.peerIsn);
        if (seg.optionBytes > 40) throw new Error(`options of ${seg.optionBytes} bytes`);
        if (seg.ts !== undefined) this.#lastTsVal = seg.ts[0];
        this.#lastAckSeen = Math.max(this.#lastAckSeen, seg.seq + seg.len);
        out.push(seg);
      }
    }
    return out;
  }
}

/** "S seq=0 ack=0 len=0": the gist of segments, for comparisons that read like a trace. */
export function brief(segments: readonly Seg[]): string[] {
  return segments.map((s) => {
    const range = s.len > 0 ? `${s.seq}:${s.seq + s.len}` : `${s.seq}`;
    const sack = s.sack.length > 0 ? ` sack ${s.sack.map(([l, r]) => `${l}-${r}`).join(' ')}` : '';
    return `${s.flags} ${range} ack ${s.ack}${sack}`;
  });
}

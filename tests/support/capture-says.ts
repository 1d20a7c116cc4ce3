/**
 * What one end of a connection says, apart from when and in how many segments: a list of statements `what → value` that two
 * stacks which do the same share. Segmentation, pacing, retransmissions and the width of data numbers vanish; handshake
 * fields, HMACs, which data byte is which subflow byte, checksums, DATA_ACKs whenever the line rests, DATA_FIN, signals and
 * the way each subflow ends stay.
 */
import { dsnHi, dsnLo } from '../../src/core/base/seq.js';
import { dssChecksum } from '../../src/core/mptcp/keys.js';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../../src/core/wire/segment.js';
import type { Mapping, Segment, Trace } from './capture-trace.js';

export type Statements = ReadonlyMap<string, string>;

/** Subflow bytes [ssn, ssn + lengthBytes) are data bytes from `dsn` on. */
export interface Stretch {
  readonly subflow: number;
  readonly ssn: number;
  readonly dsn: number;
  readonly lengthBytes: number;
}

export interface SentStretch extends Stretch {
  /** Index of the segment that carried it. */
  readonly segment: number;
  /** Some segment had carried these data bytes before, as other subflow bytes. */
  readonly isAgain: boolean;
}

/** `marks`: how many of `segments` had been sent at each moment of rest. */
export function statements(trace: Trace, segments: readonly Segment[], marks: readonly number[]): Statements {
  const said = new Map<string, string>();
  const speech = new Speech(trace, segments);
  for (const subflow of trace.subflows.keys()) {
    const mine = segments.filter((s) => s.subflow === subflow);
    if (mine.length > 0) subflowStatements(said, `sf${subflow}`, mine, speech);
  }
  const finOn = distinct(segments.filter((s) => s.dataFin >= 0).map((s) => `sf${s.subflow}`));
  const finAt = distinct(segments.filter((s) => s.dataFin >= 0).map((s) => `${s.dataFin}`));
  if (finOn.length > 0) said.set('DATA_FIN', `dsn ${finAt.join(' and ')} on ${finOn.sort().join(' ')}`);
  signalStatements(said, segments);
  for (const [k, count] of marks.entries()) restStatements(said, `rest ${k + 1}`, segments.slice(0, count));
  return said;
}

function subflowStatements(said: Map<string, string>, sf: string, mine: Segment[], speech: Speech): void {
  const { subflow } = mine[0]!;
  const syns = mine.filter((s) => (s.flags & TCP_SYN) !== 0);
  if (syns.length > 0) {
    const kind = (syns[0]!.flags & TCP_ACK) === 0 ? 'SYN' : 'SYN/ACK';
    said.set(`${sf} ${kind}`, syns[0]!.synOptions);
    if (syns[0]!.payload.length > 0) said.set(`${sf} SYN data`, `${syns[0]!.payload.length} bytes`);
    said.set(`${sf} ${kind} asks`, countRuns(syns.map((s) => s.handshake || 'plain TCP')));
  }
  const others = mine.filter((s) => (s.flags & (TCP_SYN | TCP_RST)) === 0);
  const proofs = distinct(others.map((s) => s.handshake).filter((text) => text !== ''));
  if (proofs.length > 0) said.set(`${sf} proof`, proofs.join('; '));
  if (others.length > 0 && (syns[0]?.flags ?? 0) & TCP_ACK) said.set(`${sf} acknowledges the third packet`, 'yes');
  const first = others.find((s) => s.payload.length > 0);
  if (first !== undefined) {
    said.set(`${sf} first data`, first.mapping === null ? 'no mapping' : first.handshake === '' ? 'DSS' : 'MP_CAPABLE');
  }
  const carried = speech.stretches.filter((s) => s.subflow === subflow);
  const isShifted = carried.some((s) => s.isAgain);
  const [fresh, again] = [carried.filter((s) => !s.isAgain), carried.filter((s) => s.isAgain)];
  if (fresh.length > 0) {
    said.set(`${sf} data`, dataRanges(fresh));
    // What went again may sit anywhere among the subflow's bytes, and moves the others.
    said.set(`${sf} subflow bytes`, isShifted ? 'with repetitions' : subflowRanges(fresh));
  }
  if (isShifted) said.set(`${sf} sent again`, dataRanges(again));
  const infinite = mine.find((s) => s.isInfinite)?.mapping;
  if (infinite)
    said.set(`${sf} infinite mapping`, `ssn ${infinite.ssn} dsn ${infinite.dsn} checksum ${infinite.checksum}`);
  const checksums = speech.checksums(subflow);
  if (checksums !== '') said.set(`${sf} checksums`, checksums);
  const rst = mine.find((s) => (s.flags & TCP_RST) !== 0);
  const fin = mine.find((s) => (s.flags & TCP_FIN) !== 0);
  if (fin !== undefined) {
    const [at, behind] = [fin.seq + fin.payload.length, Math.max(1, ...carried.map((s) => s.ssn + s.lengthBytes))];
    said.set(`${sf} FIN`, at === behind ? 'behind the data' : `ssn ${at}, the data end at ${behind}`);
  }
  if (rst !== undefined) {
    said.set(`${sf} RST`, `${rst.resetReason || 'no MP_TCPRST'}${fin === undefined ? '' : ', behind a FIN'}`);
  }
}

function signalStatements(said: Map<string, string>, segments: readonly Segment[]): void {
  for (const s of segments) {
    for (const { what, value } of s.signals) {
      const here = `${value} on sf${s.subflow}`;
      const before = said.get(what)?.split('; ') ?? [];
      if (!before.includes(here)) said.set(what, [...before, here].join('; '));
    }
  }
}

function restStatements(said: Map<string, string>, rest: string, sent: readonly Segment[]): void {
  const dataAck = Math.max(-1, ...sent.map((s) => s.dataAck));
  // A DATA_ACK of 1 acknowledges nothing.
  if (dataAck > 1) said.set(`${rest} DATA_ACK`, `${dataAck}`);
  for (const subflow of [...new Set(sent.map((s) => s.subflow))].sort()) {
    const here = sent.filter((s) => s.subflow === subflow && (s.flags & TCP_RST) === 0);
    if (here.every((s) => (s.flags & TCP_SYN) !== 0)) continue;
    said.set(`${rest} sf${subflow} ack`, `${Math.max(...here.map((s) => s.ack))}`);
    said.set(`${rest} sf${subflow} window`, here.at(-1)!.window === 0 ? 'closed' : 'open');
  }
}

/** Data of one end, byte by byte: where it went, whether it had gone before, whether its checksums hold. */
export class Speech {
  readonly stretches: SentStretch[] = [];
  /** Data bytes by DSN (`undefined`: never sent). */
  readonly stream: number[] = [];

  private readonly mappings: Mapping[][] = [];
  /** Per subflow: the data byte that a subflow byte is, once it was sent. */
  private readonly sentAs: number[][] = [];
  private heard = 0;

  constructor(
    private readonly trace: Trace,
    segments: readonly Segment[] = [],
  ) {
    for (const s of segments) this.hear(s);
  }

  hear(s: Segment): void {
    const segment = this.heard++;
    if ((s.flags & (TCP_SYN | TCP_RST)) !== 0) return;
    this.mappings[s.subflow] ??= [];
    const known = this.mappings[s.subflow]!;
    if (s.mapping !== null && !known.some((m) => m.ssn === s.mapping!.ssn && m.dsn === s.mapping!.dsn)) {
      known.push(s.mapping);
    }
    this.sentAs[s.subflow] ??= [];
    const sentAs = this.sentAs[s.subflow]!;
    for (let i = 0; i < s.payload.length; ) {
      const ssn = s.seq + i;
      const m = known.findLast((k) => k.ssn <= ssn && ssn < k.ssn + k.lengthBytes);
      // Plain TCP: subflow bytes are the data bytes.
      const dsn = m === undefined ? ssn : m.dsn + ssn - m.ssn;
      const room = m === undefined ? Number.POSITIVE_INFINITY : m.ssn + m.lengthBytes - ssn;
      const isRetransmission = sentAs[ssn] === dsn;
      const isAgain = this.stream[dsn] !== undefined;
      let n = 1;
      while (n < Math.min(s.payload.length - i, room)) {
        if ((sentAs[ssn + n] === dsn + n) !== isRetransmission || (this.stream[dsn + n] !== undefined) !== isAgain)
          break;
        n++;
      }
      for (let k = 0; k < n; k++) {
        sentAs[ssn + k] = dsn + k;
        this.stream[dsn + k] ??= s.payload[i + k]!;
      }
      if (!isRetransmission) this.stretches.push({ segment, subflow: s.subflow, ssn, dsn, lengthBytes: n, isAgain });
      i += n;
    }
  }

  /** Whether the DSS checksum of each mapping is right over the bytes that it covers (RFC 8684 3.3.1); empty: none has one. */
  checksums(subflow: number): string {
    const known = this.mappings[subflow] ?? [];
    const bad: number[] = [];
    let count = 0;
    for (const { dsn, ssn, lengthBytes, dll, checksum } of known) {
      if (checksum < 0 || !Number.isFinite(lengthBytes)) continue;
      const bytes = Uint8Array.from({ length: lengthBytes }, (_, i) => this.stream[dsn + i] ?? -1);
      const { ownIdsn } = this.trace;
      const sum = dssChecksum(dsnHi(dsn, ownIdsn), dsnLo(dsn, ownIdsn), ssn, dll, [bytes], 0, lengthBytes);
      count++;
      if (sum !== checksum) bad.push(dsn);
    }
    if (count === 0) return '';
    if (bad.length > 0) return `wrong at dsn ${bad.join(' ')}`;
    return known.every((m) => m.checksum >= 0) ? 'right on all' : 'right, but not on all';
  }
}

/** Which data, in order of the DSN. */
function dataRanges(list: readonly SentStretch[]): string {
  const merged: { dsn: number; end: number }[] = [];
  for (const { dsn, lengthBytes } of [...list].sort((a, b) => a.dsn - b.dsn)) {
    const last = merged.at(-1);
    if (last !== undefined && dsn <= last.end) last.end = Math.max(last.end, dsn + lengthBytes);
    else merged.push({ dsn, end: dsn + lengthBytes });
  }
  return merged.map((m) => `dsn ${m.dsn} to ${m.end - 1}`).join(', ');
}

/** Which subflow bytes are which data, as far as they go on together. */
function subflowRanges(list: readonly SentStretch[]): string {
  const merged: { ssn: number; dsn: number; lengthBytes: number }[] = [];
  for (const { ssn, dsn, lengthBytes } of [...list].sort((a, b) => a.ssn - b.ssn)) {
    const last = merged.at(-1);
    const goesOn = last !== undefined && ssn === last.ssn + last.lengthBytes && dsn === last.dsn + last.lengthBytes;
    if (goesOn) last.lengthBytes += lengthBytes;
    else merged.push({ ssn, dsn, lengthBytes });
  }
  return merged.map((m) => `${m.ssn} are dsn ${m.dsn}, ${m.lengthBytes} bytes`).join('; ');
}

function countRuns(texts: readonly string[]): string {
  const runs: [string, number][] = [];
  for (const text of texts) {
    if (runs.at(-1)?.[0] === text) runs.at(-1)![1]++;
    else runs.push([text, 1]);
  }
  return runs.map(([text, n]) => (n > 1 ? `${text} (${n} times)` : text)).join(', then ');
}

const distinct = (texts: string[]) => [...new Set(texts)];

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
  marks.forEach((count, k) => restStatements(said, `rest ${k + 1}`, segments.slice(0, count)));
  return said;
}

function subflowStatements(said: Map<string, string>, sf: string, mine: Segment[], speech: Speech): void {
  const { subflow } = mine[0]!;
  const syns = mine.filter((s) => (s.flags & TCP_SYN) !== 0);
  if (syns.length > 0) {
    const kind = (syns[0]!.flags & TCP_ACK) === 0 ? 'SYN' : 'SYN/ACK';
    said.set(`${sf} ${kind}`, syns[0]!.synOptions);
    said.set(`${sf} ${kind} asks`, countRuns(syns.map((s) => s.handshake || 'plain TCP')));
  }
  const others = mine.filter((s) => (s.flags & (TCP_SYN | TCP_RST)) === 0);
  const proofs = distinct(others.map((s) => s.handshake).filter((text) => text !== ''));
  if (proofs.length > 0) said.set(`${sf} proof`, proofs.join('; '));
  if (syns.length > 0 && (syns[0]!.flags & TCP_ACK) !== 0) {
    said.set(`${sf} acknowledges the third packet`, others.length > 0 ? 'yes' : 'no');
  }
  const first = others.find((s) => s.payload.length > 0);
  if (first !== undefined) {
    said.set(`${sf} first data`, first.mapping === null ? 'no mapping' : first.handshake === '' ? 'DSS' : 'MP_CAPABLE');
  }
  for (const [isReinjection, what] of [[false, 'mapping'], [true, 'sent again']] as const) {
    const text = mergeStretches(speech.stretches.filter((s) => s.subflow === subflow && s.isAgain === isReinjection));
    if (text !== '') said.set(`${sf} ${what}`, text);
  }
  const infinite = mine.find((s) => s.isInfinite)?.mapping;
  if (infinite) said.set(`${sf} infinite mapping`, `ssn ${infinite.ssn} dsn ${infinite.dsn} checksum ${infinite.checksum}`);
  const checksums = speech.checksums.get(subflow);
  if (checksums !== undefined) said.set(`${sf} checksums`, checksums);
  const rst = mine.find((s) => (s.flags & TCP_RST) !== 0);
  const fin = mine.find((s) => (s.flags & TCP_FIN) !== 0);
  if (fin !== undefined) said.set(`${sf} FIN`, speech.isShifted.has(subflow) ? 'behind the data' : `ssn ${fin.seq + fin.payload.length}`);
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
  if (dataAck >= 0) said.set(`${rest} DATA_ACK`, `${dataAck}`);
  for (const subflow of [...new Set(sent.map((s) => s.subflow))].sort()) {
    const here = sent.filter((s) => s.subflow === subflow && (s.flags & TCP_RST) === 0);
    if (here.length === 0) continue;
    said.set(`${rest} sf${subflow} ack`, `${Math.max(...here.map((s) => s.ack))}`);
    said.set(`${rest} sf${subflow} window`, here.at(-1)!.window === 0 ? 'closed' : 'open');
  }
}

/** Data of one end, byte by byte: where it went, whether it had gone before, whether its checksums hold. */
export class Speech {
  readonly stretches: SentStretch[] = [];
  readonly checksums = new Map<number, string>();
  /** Subflows that carried something twice: their sequence numbers say nothing in themselves. */
  readonly isShifted = new Set<number>();
  /** Data bytes by DSN (`undefined`: never sent). */
  readonly stream: number[] = [];

  constructor(
    private readonly trace: Trace,
    segments: readonly Segment[],
  ) {
    const mappings = new Map<number, Mapping[]>();
    /** Data byte of each subflow byte, once it was sent. */
    const sentAs = new Map<number, Map<number, number>>();
    for (const [index, s] of segments.entries()) {
      if ((s.flags & (TCP_SYN | TCP_RST)) !== 0) continue;
      const known = upsert(mappings, s.subflow, () => []);
      if (s.mapping !== null && !known.some((m) => m.ssn === s.mapping!.ssn && m.dsn === s.mapping!.dsn)) known.push(s.mapping);
      if (s.payload.length > 0) this.add(index, s, known, upsert(sentAs, s.subflow, () => new Map()));
    }
    for (const [subflow, known] of mappings) this.check(subflow, known);
  }

  private add(segment: number, s: Segment, known: readonly Mapping[], sentAs: Map<number, number>): void {
    for (let i = 0; i < s.payload.length; ) {
      const ssn = s.seq + i;
      const m = known.findLast((k) => k.ssn <= ssn && ssn < k.ssn + k.lengthBytes);
      // Plain TCP: subflow bytes are the data bytes.
      const dsn = m === undefined ? ssn : m.dsn + ssn - m.ssn;
      let n = Math.min(s.payload.length - i, m === undefined ? Number.POSITIVE_INFINITY : m.ssn + m.lengthBytes - ssn);
      const isRetransmission = sentAs.get(ssn) === dsn;
      const isAgain = this.stream[dsn] !== undefined;
      for (let k = 1; k < n; k++) {
        const isSame = (sentAs.get(ssn + k) === dsn + k) === isRetransmission && (this.stream[dsn + k] !== undefined) === isAgain;
        if (!isSame) n = k;
      }
      for (let k = 0; k < n; k++) {
        sentAs.set(ssn + k, dsn + k);
        this.stream[dsn + k] ??= s.payload[i + k]!;
      }
      if (!isRetransmission) this.stretches.push({ segment, subflow: s.subflow, ssn, dsn, lengthBytes: n, isAgain });
      if (!isRetransmission && isAgain) this.isShifted.add(s.subflow);
      i += n;
    }
  }

  /** The DSS checksum of each mapping over the bytes that it covers (RFC 8684 3.3.1). */
  private check(subflow: number, known: readonly Mapping[]): void {
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
    const isAll = known.every((m) => m.checksum >= 0);
    if (count > 0) this.checksums.set(subflow, bad.length > 0 ? `wrong at dsn ${bad.join(' ')}` : isAll ? 'right on all' : 'on some');
  }
}

/** Stretches in the order of subflow bytes, merged as far as they continue one another. */
function mergeStretches(list: SentStretch[]): string {
  const merged: { ssn: number; dsn: number; lengthBytes: number }[] = [];
  // What goes again may sit anywhere among the subflow's bytes: only which data it is counts.
  const bySsn = list[0]?.isAgain !== true;
  for (const s of [...list].sort((a, b) => (bySsn ? a.ssn - b.ssn : a.dsn - b.dsn))) {
    const last = merged.at(-1);
    const continues = last !== undefined && s.dsn === last.dsn + last.lengthBytes;
    if (continues && (!bySsn || s.ssn === last.ssn + last.lengthBytes)) last.lengthBytes += s.lengthBytes;
    else merged.push({ ...s });
  }
  return merged.map((m) => `${bySsn ? `ssn ${m.ssn} ` : ''}dsn ${m.dsn} +${m.lengthBytes}`).join(', ');
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

function upsert<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

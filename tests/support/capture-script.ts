/**
 * What the application of one end did, read off a capture: when it connected, wrote, joined, announced, closed. It is all
 * that a stack needs to be told to say the same; whatever it sends beyond that (SYN/ACKs, acknowledgments, echoes, resets,
 * FINs in answer) it must know by itself.
 */
import { TCP_FIN, TCP_SYN } from '../../src/core/wire/segment.js';
import { type SentStretch, Speech } from './capture-says.js';
import type { Segment, Trace } from './capture-trace.js';

export type Step =
  | { readonly do: 'connect'; readonly synBytes: number }
  | {
      readonly do: 'join';
      readonly subflow: number;
      readonly addressId: number;
      readonly remoteId: number;
      readonly backup: boolean;
    }
  | { readonly do: 'write'; readonly toDsn: number }
  | { readonly do: 'end' | 'abort' }
  | { readonly do: 'announce'; readonly option: Segment['addAddrs'][number] }
  | { readonly do: 'withdraw'; readonly ids: readonly number[] }
  | { readonly do: 'backup'; readonly subflow: number; readonly on: boolean }
  | { readonly do: 'close'; readonly subflow: number };

export interface Cue {
  readonly timeUs: number;
  readonly step: Step;
}

export interface Script {
  readonly cues: readonly Cue[];
  /** What was written; the byte with DSN d at d - 1. */
  readonly stream: Uint8Array;
  /** Which subflow took which data first. */
  readonly choices: readonly SentStretch[];
}

export function deriveScript(trace: Trace): Script {
  const { own } = trace;
  const speech = new Speech(trace, own);
  const choices = speech.stretches.filter((s) => !s.isAgain);
  const cues: Cue[] = [];
  const done = new Set<string>();
  const dataFinAt = own.findIndex((s) => s.dataFin >= 0);
  let writtenTo = 1;
  const add = (s: Segment, step: Step, once: string) => {
    if (done.has(once)) return;
    done.add(once);
    cues.push({ timeUs: s.timeUs, step });
  };
  for (const [index, s] of own.entries()) {
    const isFin = (s.flags & TCP_FIN) !== 0;
    if ((s.flags & TCP_SYN) !== 0 && trace.subflows[s.subflow]!.opener === 'own') {
      if (s.subflow === 0) add(s, { do: 'connect', synBytes: s.payload.length }, 'connect');
      else add(s, joinStep(trace, s), `join ${s.subflow}`);
    }
    const taken = choices.filter(({ segment }) => segment === index).map(({ dsn, lengthBytes }) => dsn + lengthBytes);
    // A mapping promises bytes that exist, and a DATA_FIN stands behind bytes that exist, whenever they went out.
    const mappedTo = s.mapping === null || s.isInfinite ? 0 : s.mapping.dsn + s.mapping.lengthBytes;
    const toDsn = Math.max(s.dataFin, mappedTo, ...taken);
    if (toDsn > writtenTo) {
      writtenTo = toDsn;
      cues.push({ timeUs: s.timeUs, step: { do: 'write', toDsn } });
    }
    for (const option of s.addAddrs)
      if (!option.echo) add(s, { do: 'announce', option }, `announce ${option.addressId}`);
    if (s.removeIds.length > 0) add(s, { do: 'withdraw', ids: s.removeIds }, `withdraw ${s.removeIds}`);
    if (s.prioBackup !== null)
      cues.push({ timeUs: s.timeUs, step: { do: 'backup', subflow: s.subflow, on: s.prioBackup } });
    if (s.signals.some(({ what }) => what === 'MP_FASTCLOSE')) add(s, { do: 'abort' }, 'abort');
    if (s.dataFin >= 0 || (isFin && dataFinAt < 0)) add(s, { do: 'end' }, 'end');
    else if (isFin && index < dataFinAt && !hasPeerClosed(trace, s))
      add(s, { do: 'close', subflow: s.subflow }, `close ${s.subflow}`);
  }
  return { cues, stream: Uint8Array.from(speech.stream.slice(1)), choices };
}

function joinStep(trace: Trace, syn: Segment): Step {
  const { peer } = trace.subflows[syn.subflow]!;
  const announced = trace.peer.flatMap((s) => s.addAddrs).find((a) => a.address.text === peer.address.text);
  return {
    do: 'join',
    subflow: syn.subflow,
    addressId: syn.joinAddressId,
    remoteId: announced?.addressId ?? 0,
    backup: syn.joinBackup,
  };
}

function hasPeerClosed(trace: Trace, fin: Segment): boolean {
  return trace.peer.some((s) => s.subflow === fin.subflow && (s.flags & TCP_FIN) !== 0 && s.timeUs < fin.timeUs);
}

/** One line for people. */
export function describeScript({ cues }: Script): string {
  const texts: string[] = [];
  let writtenTo = 1;
  let pending = 0;
  const flush = () => {
    if (pending > 0) texts.push(`write ${pending}`);
    pending = 0;
  };
  let lastUs = 0;
  for (const { timeUs, step } of cues) {
    if (step.do === 'write') {
      // What a kernel cut into segments was written at once.
      if (timeUs - lastUs > 20_000) flush();
      pending += step.toDsn - writtenTo;
      writtenTo = step.toDsn;
      lastUs = timeUs;
      continue;
    }
    flush();
    texts.push(describeStep(step));
  }
  flush();
  return texts.join(', ');
}

function describeStep(step: Exclude<Step, { do: 'write' }>): string {
  switch (step.do) {
    case 'connect':
      return step.synBytes > 0 ? `connect with ${step.synBytes} bytes in the SYN` : 'connect';
    case 'join':
      return `join sf${step.subflow}${step.backup ? ' as backup' : ''}`;
    case 'announce':
      return `announce ${step.option.address.text}${step.option.port >= 0 ? `:${step.option.port}` : ''}`;
    case 'withdraw':
      return `withdraw ${step.ids.join(' ')}`;
    case 'backup':
      return `sf${step.subflow} backup ${step.on ? 'on' : 'off'}`;
    case 'close':
      return `close sf${step.subflow}`;
    default:
      return step.do;
  }
}

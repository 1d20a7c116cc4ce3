/** Every capture, played from both sides: what differs from what the kernel said in our place. */
import { TCP_SYN } from '../../src/core/wire/segment.js';
import { compare, type Difference } from './capture-compare.js';
import { type Played, type PlayOptions, play } from './capture-player.js';
import { Speech, statements } from './capture-says.js';
import { deriveScript, describeScript } from './capture-script.js';
import { readTrace } from './capture-trace.js';
import { captureNames, type End } from './vectors.js';

export interface PlayResult {
  /** Number of the capture and our side, as `04 A`; a second connection in it has `#2`. */
  readonly id: string;
  readonly capture: string;
  readonly end: End;
  /** What our application did. */
  readonly script: string;
  readonly differences: readonly Difference[];
  readonly played: Played;
  /** What the peer's application wrote and ours must have read. */
  readonly written: Uint8Array;
}

/** What the packets do not tell of the applications. */
const OPTIONS: Readonly<Record<string, PlayOptions>> = {
  '15 B': { readsFromUs: Number.POSITIVE_INFINITY },
  '20 B': { arrivesAltered: true },
  '33 B': { maxSubflows: 1 },
  '38 B': { readsFromUs: 1_500_000, receiveBufferBytes: 8544 },
};

export function playAll(): PlayResult[] {
  const results: PlayResult[] = [];
  for (const capture of captureNames().filter((name) => !name.endsWith('.delivered'))) {
    for (const end of ['A', 'B'] as const) {
      results.push(playOne(capture, end));
      if (capture === '40-tfo') results.push(playOne(capture, end, 1));
    }
  }
  return results;
}

export function playOne(capture: string, end: End, connection = 0): PlayResult {
  const id = `${capture.slice(0, 2)} ${end}${connection > 0 ? ` #${connection + 1}` : ''}`;
  const trace = readTrace(capture, end, connection);
  const script = deriveScript(trace);
  const played = play(trace, script, OPTIONS[id]);
  const kernel = statements(trace, trace.own.slice(0, played.kernelMarks.at(-1)!), played.kernelMarks);
  const differences = compare(kernel, statements(trace, played.sent, played.marks));
  for (const subflow of played.late) {
    differences.push({ what: `sf${subflow} opens`, kernel: 'at once', ours: 'after the first DSS' });
  }
  for (const why of new Set(played.stuck)) differences.push({ what: 'the play', kernel: '', ours: why });
  const options = OPTIONS[id] ?? {};
  const peer = options.arrivesAltered ? trace.peer : readTrace(capture, end === 'A' ? 'B' : 'A', connection).own;
  const isDeaf = options.readsFromUs === Number.POSITIVE_INFINITY;
  const inSyn = peer.find((s) => s.payload.length > 0 && (s.flags & TCP_SYN) !== 0)?.payload ?? [];
  const written = Uint8Array.from(isDeaf ? [] : [...inSyn, ...new Speech(trace, peer).stream.slice(1)]);
  return { id, capture, end, script: describeScript(script), differences, played, written };
}

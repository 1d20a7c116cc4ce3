/** Middleboxes in the path: whatever they do, the payload is intact or the connection says why not. */
import test from 'ava';
import { parseIp } from '../../src/core/base/ip.js';
import type { Middlebox } from '../../src/sim/middlebox.js';
import {
  BitFlipper,
  Coalescer,
  Duplicator,
  IsnRewriter,
  Nat,
  OPTION_SACK_PERMITTED,
  OPTION_TIMESTAMPS,
  OptionFilter,
  PayloadEditor,
  ProxyAcker,
  Reorderer,
  RstInjector,
  Splitter,
} from '../../src/sim/middleboxes/index.js';
import { type Budget, path, type Scenario } from '../../src/sim/scenario.js';
import { assertScenario, summary } from '../support/sim-run.js';

const S = 1_000_000;
const BYTES = 8_000_000;

interface Case {
  readonly name: string;
  readonly on: 'wifi' | 'lte' | 'both';
  readonly boxes: (seed: number) => readonly Middlebox[];
  readonly budget: Budget;
  readonly more?: Partial<Scenario>;
}

/** Sum of the rates is 40 Mbit/s: 8 MB take 1.7 s over both, 3.5 s over one. */
const complete = { completeByUs: 12 * S };

const cases: readonly Case[] = [
  {
    name: 'no option of MPTCP on SYNs',
    on: 'wifi',
    boxes: () => [new OptionFilter({ on: ['syn'], action: 'blank' })],
    budget: { ...complete, isMptcp: false },
  },
  {
    name: 'no option of MPTCP on SYN/ACKs',
    on: 'wifi',
    boxes: () => [new OptionFilter({ on: ['synack'], action: 'remove' })],
    budget: { ...complete, isMptcp: false },
  },
  {
    name: 'no option of MPTCP on the third ACK',
    on: 'wifi',
    boxes: () => [new OptionFilter({ on: ['third'], action: 'blank' })],
    budget: complete,
  },
  {
    name: 'no option of MPTCP on data',
    on: 'wifi',
    boxes: () => [new OptionFilter({ on: ['data'], action: 'blank' })],
    budget: { ...complete, isMptcp: false },
  },
  {
    name: 'no option of MPTCP on anything but SYNs',
    on: 'wifi',
    boxes: () => [new OptionFilter({ on: ['third', 'data', 'ack'], action: 'blank' })],
    budget: { ...complete, isMptcp: false },
  },
  {
    name: 'no option of MPTCP at all on the second path',
    on: 'lte',
    boxes: () => [new OptionFilter({ action: 'remove' })],
    budget: { ...complete, isMptcp: true },
  },
  {
    name: 'SYNs with MPTCP are dropped on the second path',
    on: 'lte',
    boxes: () => [new OptionFilter({ on: ['syn'], action: 'drop' })],
    budget: { ...complete, isMptcp: true },
  },
  {
    // The path manager tries the next path before plain TCP is thought of (CONNECT_HEDGE_US).
    name: 'SYNs with MPTCP are dropped on the first path: the second one carries MPTCP',
    on: 'wifi',
    boxes: () => [new OptionFilter({ on: ['syn'], action: 'drop' })],
    budget: { completeByUs: 25 * S, isMptcp: true },
    more: { durationUs: 30 * S },
  },
  {
    name: 'MPTCP options vanish on the second path mid-connection',
    on: 'lte',
    boxes: () => [new OptionFilter({ action: 'blank', fromUs: 0.8 * S })],
    budget: { completeByUs: 6 * S, isMptcp: true, maxGapUs: 2 * S },
  },
  {
    name: 'no timestamps and no SACK',
    on: 'both',
    boxes: () => [
      new OptionFilter({ kind: OPTION_TIMESTAMPS, on: ['syn', 'synack'], action: 'blank' }),
      new OptionFilter({ kind: OPTION_SACK_PERMITTED, on: ['syn', 'synack'], action: 'blank' }),
    ],
    budget: { ...complete, isMptcp: true },
  },
  {
    name: 'sequence numbers are rewritten',
    on: 'both',
    boxes: (seed) => [new IsnRewriter(seed)],
    budget: { ...complete, isMptcp: true },
  },
  {
    name: 'sequence numbers are rewritten, but not in SACK, on a lossy path',
    on: 'wifi',
    boxes: (seed) => [new IsnRewriter(seed, false)],
    budget: { completeByUs: 25 * S },
    more: { durationUs: 30 * S, paths: [path('wifi', 20, 10, { lossRate: 0.005 }), path('lte', 20, 30)] },
  },
  {
    name: 'addresses and ports are translated',
    on: 'both',
    boxes: (seed) => [new Nat(parseIp(`192.0.2.${1 + (seed % 250)}`).bytes)],
    budget: { ...complete, isMptcp: true },
  },
  {
    name: 'segments are split, options copied',
    on: 'both',
    boxes: () => [new Splitter(536)],
    budget: { ...complete, isMptcp: true },
  },
  {
    name: 'segments are split, options on the first piece only',
    on: 'both',
    boxes: () => [new Splitter(536, 'first')],
    budget: { ...complete, isMptcp: true },
  },
  {
    name: 'segments are coalesced and options lost, with checksums',
    on: 'lte',
    boxes: () => [new Coalescer(2800, 2000)],
    budget: complete,
    more: { checksum: true },
  },
  {
    name: 'packets are duplicated and reordered',
    on: 'both',
    boxes: (seed) => [new Duplicator(0.02, seed), new Reorderer(0.02, 8000, seed + 1)],
    budget: { ...complete, isMptcp: true },
  },
  {
    name: 'bits are flipped',
    on: 'both',
    boxes: (seed) => [new BitFlipper(0.003, seed)],
    budget: { completeByUs: 20 * S, isMptcp: true },
    more: { durationUs: 25 * S },
  },
  {
    name: 'payload is changed on the second path: checksums notice, the first path carries on',
    on: 'lte',
    boxes: () => [new PayloadEditor({ heading: 'left', atByte: 50_000, replace: Uint8Array.of(1, 2, 3, 4) })],
    budget: { ...complete, isMptcp: true },
    more: { checksum: true },
  },
  {
    name: 'the second path is reset',
    on: 'lte',
    boxes: () => [new RstInjector({ afterSegments: 200, heading: 'left', kind: 'both' })],
    budget: { ...complete, isMptcp: true },
  },
  {
    name: 'a RST that only fits the window is challenged, not obeyed',
    on: 'wifi',
    boxes: () => [new RstInjector({ afterSegments: 200, heading: 'left', kind: 'in-window' })],
    budget: { ...complete, isMptcp: true, maxGapUs: 300_000 },
  },
  {
    name: 'a proxy acknowledges early, without DATA_ACK: plain TCP from then on (RFC 8684 3.7)',
    on: 'wifi',
    boxes: () => [new ProxyAcker('left')],
    budget: { ...complete, isMptcp: false },
    // What is acknowledged cannot be lost any more: the queue behind the proxy holds everything.
    more: { paths: [path('wifi', 20, 10, { queueMs: 5000 }), path('lte', 20, 30)] },
  },
  {
    name: 'a proxy acknowledges early and loses what it acknowledged',
    on: 'lte',
    boxes: () => [new ProxyAcker('left', 100)],
    budget: { completeByUs: 25 * S },
    more: { durationUs: 30 * S },
  },
];

for (const c of cases)
  test(c.name, (t) => {
    const plain = [path('wifi', 20, 10), path('lte', 20, 30)];
    const paths = (c.more?.paths ?? plain).map((p) =>
      c.on === 'both' || c.on === p.name ? { ...p, middleboxes: c.boxes } : p,
    );
    const result = assertScenario(t, {
      name: c.name,
      seed: 1,
      traffic: [{ kind: 'bulk', heading: 'down', bytes: BYTES }],
      durationUs: 15 * S,
      ...c.more,
      paths,
      budget: c.budget,
    });
    t.log(summary(result).join('\n'));
  });

/**
 * What middleboxes do to a connection, case by case, and what must come of it (RFC 8684 3.7). The same cases are played in
 * the simulator, between two of our engines, and on real packets, between our engine and the kernel in either role.
 */
import { parseIp } from '../../src/core/base/ip.js';
import type { Heading, Middlebox } from '../../src/sim/middlebox.js';
import {
  Coalescer,
  Duplicator,
  IsnRewriter,
  Nat,
  OptionFilter,
  type OptionFilterConfig,
  type PayloadEdit,
  PayloadEditor,
  Reorderer,
  Splitter,
  StaticNat,
} from '../../src/sim/middleboxes/index.js';

/** Headings by role: which way the client's and the server's packets go through the boxes. */
export interface Ways {
  readonly toServer: Heading;
  readonly toClient: Heading;
}

export interface PathAddresses {
  readonly client: string;
  readonly server: string;
}

export interface MiddleboxCase {
  readonly name: string;
  /** Links of the client, each to an address of the server's; default 1. */
  readonly paths?: 1 | 2;
  /** Boxes of path `path`, made anew for each run. */
  readonly boxes: (ways: Ways, path: number, addresses: PathAddresses) => readonly Middlebox[];
  /** Who asks for DSS checksums: client, server. */
  readonly checksum?: readonly [boolean, boolean];
  /** Bytes each way; default BYTES. */
  readonly bytes?: number;
  /** What the server is known as, where a box translates its address. */
  readonly dial?: string;
  /** Both ends speak MPTCP to the end. */
  readonly isMptcp: boolean;
  /** What a receiver gets, where it is not what was sent: the alteration that plain TCP would have let through. */
  readonly altered?: { readonly to: 'server' | 'client'; readonly how: (sent: Uint8Array) => Uint8Array };
  /** No end can come of it: the receivers have a prefix of what was sent, and the subflow is reset (TCPRST 6). */
  readonly isBroken?: boolean;
  /** Time that falling back may take, us, beyond that of the transfer. */
  readonly slackUs?: number;
}

/** Enough for several mappings each way. */
export const BYTES = 300_000;
/** Where payload is changed: in the middle of the stream, so that intact mappings come before and after. */
const AT_BYTE = 150_000;
const NEW_BYTES = Uint8Array.of(0, 1, 2, 3);
/** Options vanish after so many segments of a flow. */
const MID_LIFE_SEGMENTS = 150;

const strip =
  (config: Partial<OptionFilterConfig>): MiddleboxCase['boxes'] =>
  () => [new OptionFilter({ action: 'blank', ...config })];

/** All that is not a SYN of either kind. */
const LATER = ['third', 'data', 'ack', 'rst'] as const;

const replaced = (sent: Uint8Array, at = AT_BYTE): Uint8Array => {
  const got = sent.slice();
  got.set(NEW_BYTES, at);
  return got;
};

const inserted = (sent: Uint8Array): Uint8Array =>
  Uint8Array.from([...sent.subarray(0, AT_BYTE), ...NEW_BYTES, ...sent.subarray(AT_BYTE)]);

const edit = (heading: Heading, what: Partial<PayloadEdit>) => new PayloadEditor({ heading, atByte: AT_BYTE, ...what });

const replace = { replace: NEW_BYTES };
const insert = { insert: NEW_BYTES };

/** RFC 8684 3.7, options: wherever they are lost, the payload is not. */
export const stripped: readonly MiddleboxCase[] = [
  { name: 'options stripped from the SYN', boxes: strip({ on: ['syn'] }), isMptcp: false },
  { name: 'options stripped from the SYN/ACK', boxes: strip({ on: ['synack'], action: 'remove' }), isMptcp: false },
  { name: 'options stripped from the third ACK', boxes: strip({ on: ['third'] }), isMptcp: false },
  { name: 'options stripped from data', boxes: strip({ on: ['data'] }), isMptcp: false },
  {
    name: 'options stripped from data to the server only',
    boxes: ({ toServer }) => [new OptionFilter({ on: ['data'], heading: toServer, action: 'blank' })],
    isMptcp: false,
  },
  {
    name: 'options stripped from data to the client only',
    boxes: ({ toClient }) => [new OptionFilter({ on: ['data'], heading: toClient, action: 'blank' })],
    isMptcp: false,
  },
  {
    name: 'options stripped from all but SYNs, to the server only',
    boxes: ({ toServer }) => [new OptionFilter({ on: LATER, heading: toServer, action: 'blank' })],
    isMptcp: false,
  },
  {
    name: 'options stripped from all but SYNs, to the client only',
    boxes: ({ toClient }) => [new OptionFilter({ on: LATER, heading: toClient, action: 'remove' })],
    isMptcp: false,
  },
  { name: 'options stripped from all but SYNs', boxes: strip({ on: LATER }), isMptcp: false },
  {
    name: 'options stripped from all but SYNs, with checksums',
    boxes: strip({ on: LATER }),
    checksum: [true, true],
    isMptcp: false,
  },
  {
    name: 'options stripped from all on the second path',
    paths: 2,
    boxes: (_ways, path) => (path === 0 ? [] : [new OptionFilter({ action: 'blank' })]),
    isMptcp: true,
  },
  {
    name: 'options stripped from all but SYNs on the second path',
    paths: 2,
    boxes: (_ways, path) => (path === 0 ? [] : [new OptionFilter({ on: LATER, action: 'blank' })]),
    isMptcp: true,
  },
];

/** Options that pass at first and then no more: with another path nothing is lost, with none the RFC has no remedy. */
export const midLife: readonly MiddleboxCase[] = (['both ways', 'to the server', 'to the client'] as const).flatMap(
  (which) => {
    const filter = (ways: Ways) =>
      new OptionFilter({
        action: 'blank',
        fromSegment: MID_LIFE_SEGMENTS,
        ...(which === 'both ways' ? {} : { heading: which === 'to the server' ? ways.toServer : ways.toClient }),
      });
    return [
      {
        name: `options vanish mid-life ${which}, one path`,
        bytes: 2_000_000,
        boxes: (ways: Ways) => [filter(ways)],
        isMptcp: true,
        isBroken: true,
      },
      {
        name: `options vanish mid-life ${which} on the second of two paths`,
        paths: 2 as const,
        bytes: 2_000_000,
        boxes: (ways: Ways, path: number) => (path === 0 ? [] : [filter(ways)]),
        isMptcp: true,
        slackUs: 6_000_000,
      },
    ];
  },
);

const sides = [
  [false, false],
  [false, true],
  [true, false],
  [true, true],
] as const;
const said = ([client, server]: readonly [boolean, boolean]) =>
  `client ${client ? 'on' : 'off'}, server ${server ? 'on' : 'off'}`;

/** RFC 8684 3.3.1, 3.7: payload that is changed is noticed if either side asked for checksums, and only then. */
export const checksums: readonly MiddleboxCase[] = sides.flatMap((checksum) => {
  const isOn = checksum[0] || checksum[1];
  return [
    { name: `checksums, ${said(checksum)}: nothing changed`, checksum, boxes: () => [], isMptcp: true },
    {
      name: `checksums, ${said(checksum)}: bytes to the server replaced`,
      checksum,
      boxes: ({ toServer }: Ways) => [edit(toServer, replace)],
      isMptcp: !isOn,
      altered: { to: 'server' as const, how: (sent: Uint8Array) => replaced(sent) },
    },
    {
      name: `checksums, ${said(checksum)}: bytes to the client replaced`,
      checksum,
      boxes: ({ toClient }: Ways) => [edit(toClient, replace)],
      isMptcp: !isOn,
      altered: { to: 'client' as const, how: (sent: Uint8Array) => replaced(sent) },
    },
  ];
});

export const changed: readonly MiddleboxCase[] = [
  {
    name: 'bytes of the very first mapping replaced, with checksums',
    checksum: [true, true],
    boxes: ({ toServer }) => [edit(toServer, { ...replace, atByte: 10 })],
    isMptcp: false,
    altered: { to: 'server', how: (sent) => replaced(sent, 10) },
  },
  {
    name: 'bytes replaced on the second of two paths, with checksums',
    paths: 2,
    checksum: [true, true],
    bytes: 1_000_000,
    boxes: ({ toServer }, path) => (path === 0 ? [] : [edit(toServer, { ...replace, atByte: 20_000 })]),
    isMptcp: true,
  },
  {
    name: 'bytes put in, with checksums: the stream is what plain TCP would have made of it',
    checksum: [true, true],
    boxes: ({ toServer }) => [new Splitter(1000), edit(toServer, insert)],
    isMptcp: false,
    altered: { to: 'server', how: inserted },
  },
  {
    name: 'bytes put in on the second of two paths, with checksums',
    paths: 2,
    checksum: [true, true],
    bytes: 1_000_000,
    boxes: ({ toServer }, path) =>
      path === 0 ? [] : [new Splitter(1000), edit(toServer, { ...insert, atByte: 20_000 })],
    isMptcp: true,
  },
];

/** Numbers, sizes and order: MPTCP is made for all of it, and does not end. */
export const reshaped: readonly MiddleboxCase[] = [
  { name: 'sequence numbers rewritten', boxes: () => [new IsnRewriter(3)], isMptcp: true },
  {
    name: 'sequence numbers rewritten differently on two paths',
    paths: 2,
    boxes: (_ways, path) => [new IsnRewriter(7 + path)],
    isMptcp: true,
  },
  { name: 'segments split, options copied', boxes: () => [new Splitter(400)], isMptcp: true },
  { name: 'segments split, options on the first piece only', boxes: () => [new Splitter(400, 'first')], isMptcp: true },
  {
    name: 'segments split, options on the first piece only, with checksums',
    checksum: [true, true],
    boxes: () => [new Splitter(400, 'first')],
    isMptcp: true,
  },
  { name: 'segments coalesced, options of the first kept', boxes: () => [new Coalescer(4000, 500)], isMptcp: true },
  {
    name: 'segments coalesced, options of the first kept, with checksums',
    checksum: [true, true],
    boxes: () => [new Coalescer(4000, 500)],
    isMptcp: true,
  },
  { name: 'packets reordered', boxes: () => [new Reorderer(0.05, 3000, 5)], isMptcp: true },
  { name: 'packets duplicated', boxes: () => [new Duplicator(0.1, 5)], isMptcp: true },
  {
    name: 'segments split and reordered and duplicated, with checksums, on two paths',
    paths: 2,
    checksum: [true, false],
    boxes: (_ways, path) => [new Splitter(700, 'first'), new Reorderer(0.03, 2000, path), new Duplicator(0.05, path)],
    isMptcp: true,
  },
];

const OUTSIDE = ['203.0.113.1', '203.0.113.2'];
const PUBLIC = '198.51.100.1';
const raw = (address: string) => parseIp(address).bytes;

export const translated: readonly MiddleboxCase[] = [
  {
    name: 'NAT in front of the client',
    boxes: ({ toServer }) => [new Nat(raw(OUTSIDE[0]!), toServer)],
    isMptcp: true,
  },
  {
    name: 'NAT in front of the client on both of two paths',
    paths: 2,
    boxes: ({ toServer }, path) => [new Nat(raw(OUTSIDE[path]!), toServer)],
    isMptcp: true,
  },
  {
    name: 'NAT in front of the server',
    dial: PUBLIC,
    boxes: ({ toServer }, _path, { server }) => [new StaticNat(raw(PUBLIC), raw(server), toServer)],
    isMptcp: true,
  },
  {
    name: 'NAT in front of either end, sequence numbers rewritten',
    dial: PUBLIC,
    boxes: ({ toServer }, path, { server }) => [
      new Nat(raw(OUTSIDE[path]!), toServer),
      new IsnRewriter(11),
      new StaticNat(raw(PUBLIC), raw(server), toServer),
    ],
    isMptcp: true,
  },
];

export const dropped: readonly MiddleboxCase[] = [
  {
    name: 'SYNs with MPTCP dropped: plain TCP within a few seconds',
    boxes: () => [new OptionFilter({ on: ['syn'], action: 'drop' })],
    isMptcp: false,
    slackUs: 5_000_000,
  },
];

export const allCases = [...stripped, ...midLife, ...checksums, ...changed, ...reshaped, ...translated, ...dropped];

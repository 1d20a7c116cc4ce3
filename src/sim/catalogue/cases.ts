/** The table. WiFi is 50 Mbit/s and 10 ms, LTE 30 Mbit/s and 30 ms one way, unless said. */
import { parseIp } from '../../core/base/ip.js';
import { NarrowRouter, Nat } from '../middleboxes/index.js';
import { type PathSpec, path } from '../scenario.js';
import type { CatalogueCase, Recordings } from './case.js';
import { fade, flapping, MS, outage, rise, S } from './timelines.js';

const WIFI = path('wifi', 50, 10);
const LTE = path('lte', 30, 30);
const WIFI_BPS = 50e6;
const BOTH = [WIFI, LTE];
const NAMES = ['wifi', 'lte'];
const DOWN = { heading: 'down', durationUs: 9 * S } as const;
/** Our promise 2: never worse than the best link alone. */
const NEVER_WORSE = 0.99;

function behindNat(spec: PathSpec, outside: string): PathSpec {
  return { ...spec, middleboxes: () => [new Nat(parseIp(outside).bytes)] };
}

function narrowing(spec: PathSpec, tells: boolean): PathSpec {
  return { ...spec, middleboxes: () => [new NarrowRouter(tells ? parseIp('192.0.2.9').bytes : null)] };
}

export function catalogue({ lteDriving }: Recordings): readonly CatalogueCase[] {
  const driving: PathSpec = {
    name: 'lte',
    up: { trace: lteDriving.up, delayUs: 25 * MS, queueBytes: 150_000 },
    down: { trace: lteDriving.down, delayUs: 25 * MS, queueBytes: 150_000 },
  };
  return [
    {
      ...DOWN,
      name: 'carrier lost, and back',
      paths: BOTH,
      timeline: outage(['wifi'], 'carrier-lost', 2 * S, 5 * S),
      budget: {
        gapUs: 130 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'wifi', fromUs: 5 * S, withinUs: 300 * MS }],
      },
      lab: {},
    },
    {
      ...DOWN,
      name: 'carrier lost in an upload, and back',
      heading: 'up',
      paths: BOTH,
      timeline: outage(['wifi'], 'carrier-lost', 2 * S, 5 * S),
      budget: {
        gapUs: 130 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'wifi', fromUs: 5 * S, withinUs: 300 * MS }],
      },
      lab: null,
    },
    {
      ...DOWN,
      name: 'dies silently, and comes back',
      paths: BOTH,
      timeline: outage(['wifi'], 'dies', 2 * S, 5 * S),
      budget: {
        gapUs: 300 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'wifi', fromUs: 5 * S, withinUs: 500 * MS }],
      },
      lab: {},
    },
    {
      ...DOWN,
      name: 'dies silently in an upload, and comes back',
      heading: 'up',
      paths: BOTH,
      timeline: outage(['wifi'], 'dies', 2 * S, 5 * S),
      budget: {
        gapUs: 300 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'wifi', fromUs: 5 * S, withinUs: 500 * MS }],
      },
      lab: null,
    },
    {
      ...DOWN,
      name: 'dies one-way, towards the client',
      paths: BOTH,
      timeline: outage(['wifi'], 'dies-down', 2 * S, 5 * S),
      budget: {
        gapUs: 300 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'wifi', fromUs: 5 * S, withinUs: 500 * MS }],
      },
      lab: null,
    },
    {
      ...DOWN,
      name: 'dies one-way, away from the client',
      paths: BOTH,
      timeline: outage(['wifi'], 'dies-up', 2 * S, 5 * S),
      budget: {
        gapUs: 300 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'wifi', fromUs: 5 * S, withinUs: 500 * MS }],
      },
      lab: null,
    },
    {
      ...DOWN,
      name: 'flaps',
      paths: BOTH,
      timeline: flapping('wifi', 2 * S, 600 * MS, 6),
      budget: {
        gapUs: 300 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'wifi', fromUs: 5.3 * S, withinUs: 300 * MS }],
      },
      lab: {},
    },
    {
      ...DOWN,
      name: 'radio pauses of 100 to 250 ms',
      paths: BOTH,
      timeline: [100, 150, 200, 250].flatMap((ms, i) =>
        outage(['wifi'], 'pauses', (2 + 1.5 * i) * S, (2 + 1.5 * i) * S + ms * MS),
      ),
      budget: { gapUs: 300 * MS, ofBestLink: NEVER_WORSE },
      lab: null,
    },
    {
      ...DOWN,
      name: 'both dark for five seconds',
      durationUs: 12 * S,
      paths: BOTH,
      timeline: outage(NAMES, 'dies', 2 * S, 7 * S),
      budget: {
        gapUs: 5 * S + 500 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: NAMES.map((name) => ({ path: name, fromUs: 7 * S, withinUs: 1 * S })),
      },
      lab: {},
    },
    {
      ...DOWN,
      name: 'both without carrier for five seconds',
      durationUs: 12 * S,
      paths: BOTH,
      timeline: outage(NAMES, 'carrier-lost', 2 * S, 7 * S),
      budget: {
        gapUs: 5 * S + 500 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: NAMES.map((name) => ({ path: name, fromUs: 7 * S, withinUs: 500 * MS })),
      },
      lab: null,
    },
    {
      ...DOWN,
      name: 'WiFi fades over 10 s as someone walks away',
      durationUs: 14 * S,
      paths: BOTH,
      timeline: [...fade('wifi', WIFI_BPS, 1 * S, 11 * S), { atUs: 11 * S, path: 'wifi', what: 'dies' }],
      budget: { gapUs: 100 * MS, ofBestLink: NEVER_WORSE },
      lab: {
        timeline: [...fade('wifi', WIFI_BPS, 1 * S, 6 * S), { atUs: 6 * S, path: 'wifi', what: 'dies' }],
      },
    },
    {
      ...DOWN,
      name: 'two access points with crossing signal',
      durationUs: 10 * S,
      paths: [path('wifi', 50, 10), path('wifi2', 50, 10)],
      timeline: [
        ...rise('wifi2', WIFI_BPS, 0, 8 * S).filter(({ what }) => what !== 'clears'),
        { atUs: 0, path: 'wifi2', what: 'fades' as const },
        { atUs: 3.6 * S, path: 'wifi2', what: 'clears' as const },
        ...fade('wifi', WIFI_BPS, 0, 8 * S),
        { atUs: 8 * S, path: 'wifi', what: 'carrier-lost' as const },
      ].sort((a, b) => a.atUs - b.atUs),
      budget: { gapUs: 150 * MS, ofBestLink: NEVER_WORSE },
      lab: {},
    },
    {
      ...DOWN,
      name: 'address changes under it',
      paths: BOTH,
      timeline: [
        { atUs: 2 * S, path: 'wifi', what: 'moves' },
        { atUs: 5 * S, path: 'lte', what: 'moves' },
      ],
      budget: {
        gapUs: 300 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [
          { path: 'wifi', fromUs: 2 * S, withinUs: 300 * MS },
          { path: 'lte', fromUs: 5 * S, withinUs: 300 * MS },
        ],
      },
      lab: {},
    },
    {
      ...DOWN,
      name: 'NAT rebinding',
      heading: 'up',
      paths: [behindNat(WIFI, '192.0.2.1'), behindNat(LTE, '192.0.2.2')],
      timeline: [{ atUs: 2 * S, path: 'wifi', what: 'rebinds' }],
      budget: {
        gapUs: 300 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'wifi', fromUs: 2 * S, withinUs: 1 * S }],
      },
      lab: {},
    },
    {
      ...DOWN,
      name: 'rate drops to a tenth',
      paths: BOTH,
      timeline: [{ atUs: 3 * S, path: 'wifi', what: 'changes', up: { rateBps: 5e6 }, down: { rateBps: 5e6 } }],
      budget: { gapUs: 300 * MS, ofBestLink: NEVER_WORSE },
      lab: {},
    },
    {
      ...DOWN,
      name: 'loss rises to 10 %',
      paths: BOTH,
      timeline: [{ atUs: 3 * S, path: 'wifi', what: 'changes', up: { lossRate: 0.1 }, down: { lossRate: 0.1 } }],
      budget: { gapUs: 300 * MS, ofBestLink: NEVER_WORSE },
      lab: {},
    },
    {
      ...DOWN,
      name: 'LTE with a deep queue of 500 ms',
      paths: [WIFI, path('lte', 30, 30, { queueMs: 500 })],
      timeline: outage(['wifi'], 'carrier-lost', 3 * S, 6 * S),
      budget: {
        gapUs: 300 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'wifi', fromUs: 6 * S, withinUs: 300 * MS }],
      },
      lab: {},
    },
    {
      ...DOWN,
      name: 'asymmetric satellite and a slow line',
      durationUs: 30 * S,
      paths: [path('satellite', 20, 300, { queueMs: 600, upMbps: 2 }), path('dsl', 2, 20, { upMbps: 0.5 })],
      timeline: outage(['satellite'], 'dies', 8 * S, 12 * S),
      budget: { gapUs: 1500 * MS, ofBestLink: NEVER_WORSE },
      lab: null,
    },
    ...[true, false].map(
      (tells): CatalogueCase => ({
        ...DOWN,
        name: `MTU of one path shrinks ${tells ? 'and a router says so (ICMP)' : 'and nobody says so (no ICMP)'}`,
        paths: [narrowing(WIFI, tells), LTE],
        timeline: [{ atUs: 2 * S, path: 'wifi', what: 'narrows', mtuBytes: 1300 }],
        budget: {
          gapUs: 300 * MS,
          ofBestLink: NEVER_WORSE,
          backInUse: [{ path: 'wifi', fromUs: 2 * S, withinUs: tells ? 500 * MS : 3 * S }],
        },
        lab: {},
      }),
    ),
    ...(['first', 'second'] as const).map(
      (which): CatalogueCase => ({
        ...DOWN,
        name: `the server gains an address, and loses its ${which}`,
        paths: BOTH,
        maxPathsPerLink: 2,
        timeline: [
          { atUs: 2 * S, what: 'server-gains' },
          { atUs: 4 * S, what: 'server-loses', which },
        ],
        budget: {
          gapUs: 300 * MS,
          ofBestLink: NEVER_WORSE,
          backInUse: NAMES.map((name) => ({ path: name, fromUs: 4 * S, withinUs: 300 * MS })),
        },
        lab: {},
      }),
    ),
    {
      ...DOWN,
      name: 'suspended for 20 s, and the clock jumps by 10 min',
      durationUs: 27 * S,
      paths: BOTH,
      timeline: [
        { atUs: 2 * S, what: 'client-sleeps' },
        { atUs: 22 * S, what: 'client-wakes', clockJumpUs: 600 * S },
      ],
      budget: {
        gapUs: 20 * S + 1000 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: NAMES.map((name) => ({ path: name, fromUs: 22 * S, withinUs: 1500 * MS })),
      },
      lab: {},
    },
    {
      ...DOWN,
      name: 'recorded LTE drive beside a slow line',
      durationUs: 35 * S,
      paths: [driving, path('dsl', 6, 15)],
      timeline: [],
      budget: { gapUs: 1 * S, ofBestLink: NEVER_WORSE },
      lab: {},
    },
    {
      ...DOWN,
      name: 'four links: two ISPs with IPv4 and IPv6 each',
      paths: [
        { ...path('a4', 20, 10), bottleneck: 'isp-a' },
        { ...path('a6', 20, 10, { family: 6 }), bottleneck: 'isp-a' },
        { ...path('b4', 12, 30), bottleneck: 'isp-b' },
        { ...path('b6', 12, 30, { family: 6 }), bottleneck: 'isp-b' },
      ],
      bottlenecks: {
        'isp-a': { up: { rateBps: 20e6, queueBytes: 250_000 }, down: { rateBps: 20e6, queueBytes: 250_000 } },
        'isp-b': { up: { rateBps: 12e6, queueBytes: 150_000 }, down: { rateBps: 12e6, queueBytes: 150_000 } },
      },
      timeline: [...outage(['a6'], 'dies', 2 * S, 5 * S), ...outage(['b4', 'b6'], 'carrier-lost', 3 * S, 6 * S)].sort(
        (a, b) => a.atUs - b.atUs,
      ),
      budget: {
        gapUs: 300 * MS,
        ofBestLink: NEVER_WORSE,
        backInUse: [{ path: 'b4', fromUs: 6 * S, withinUs: 500 * MS }],
      },
      lab: {},
    },
  ];
}

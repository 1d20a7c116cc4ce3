/** What `npm run bench:handover` measures, row by row, with what each has to reach. */
import type { Target } from './stats.js';

/** What can be asked for by itself. Rows of one group come from the same transfers. */
export const GROUPS = [
  'silent',
  'carrier',
  'announced',
  'returned',
  'voice',
  'goodput',
  'requests',
  'duplicates',
] as const;
export type Group = (typeof GROUPS)[number];

export interface RowTarget extends Target {
  /** Which figure of several runs has to reach it. */
  readonly by: 'median' | 'worst';
}

export interface RowSpec {
  readonly id: string;
  readonly group: Group;
  readonly name: string;
  readonly unit: string;
  /** How many digits behind the point are told. */
  readonly decimals: number;
  /** Which of several runs is the worst one. */
  readonly better: 'less' | 'more';
  readonly target?: RowTarget;
}

/** Longest that a gap may be when a link that came back is taken in: at no time, so of the worst run. */
const TAKEN_IN_MS = 60;

export const ROWS: readonly RowSpec[] = [
  ms('silent', 'silent.gap', 'WiFi dies silently: longest gap', 300),
  ms('silent', 'silent.goodput', 'WiFi dies silently: goodput at 90 % of the other link after', 600),
  ms('silent', 'silent.back', 'WiFi is back, nobody says so: carries data again after'),
  takenIn('silent', 'silent.taken-in', 'WiFi is back, nobody says so: longest gap'),
  ms('carrier', 'carrier.gap', 'WiFi loses its carrier: longest gap', 130),
  ms('carrier', 'carrier.goodput', 'WiFi loses its carrier: goodput at 90 % of the other link after', 600),
  ...returned('carrier', 'carrier', 'carrier is back'),
  ms('announced', 'command.gap', 'ordered off WiFi (mptun path wlan0 down): longest gap', 30),
  ms('announced', 'command.back', 'ordered back (mptun path wlan0 up): WiFi carries data again after'),
  takenIn('announced', 'command.taken-in', 'ordered back (mptun path wlan0 up): longest gap'),
  ms('announced', 'fading.gap', 'WiFi signal fades for 3 s, then WiFi dies silently: longest gap', 30),
  ...returned('returned', 'fading', 'signal is back'),
  ...returned('returned', 'address', 'address is back'),
  ...returned('returned', 'route', 'route is back'),
  packets('interactive.up', 'call in interactive, carrier loss, up: packets lost or late', 3),
  packets('interactive.down', 'call in interactive, carrier loss, down: packets lost or late', 8),
  packets('redundant.up', 'call in redundant, carrier loss, up: packets lost or late', 0),
  packets('redundant.down', 'call in redundant, carrier loss, down: packets lost or late', 0),
  share('goodput.home', 'one flow / sum of rates: 50 (10 ms) + 30 (30 ms)', 0.94),
  share('goodput.equal', 'one flow / sum of rates: 100 (10 ms) + 100 (10 ms)', 0.94),
  share('goodput.lossy', 'one flow / sum of rates: 100 (5 ms, 0.5 % loss) + 20 (40 ms, 500 ms queue)', 0.925),
  share('goodput.unequal', 'one flow / sum of rates: 50 (5 ms) + 5 (150 ms)', 0.9),
  ms('requests', 'requests.idle', 'request-response, idle: p50'),
  ms('requests', 'requests.p50', 'request-response beside an upload: p50', 50),
  ms('requests', 'requests.p95', 'request-response beside an upload: p95', 80),
  {
    id: 'duplicates',
    group: 'duplicates',
    name: 'bytes that came twice, aggregate, steady',
    unit: '%',
    decimals: 2,
    better: 'less',
    target: { limit: 1, is: 'most', by: 'median' },
  },
  ms('silent', 'steady.gap', 'nothing happens for 1 s: longest gap'),
];

/** A link that came back, and what said so. */
function returned(group: Group, id: string, what: string): RowSpec[] {
  return [
    ms(group, `${id}.back`, `WiFi ${what}: carries data again after`, 300),
    ms(group, `${id}.half`, `WiFi ${what}: carries half of its share after`, 1000),
    takenIn(group, `${id}.taken-in`, `WiFi ${what}: longest gap`),
  ];
}

function takenIn(group: Group, id: string, name: string): RowSpec {
  return { ...ms(group, id, name), target: { limit: TAKEN_IN_MS, is: 'most', by: 'worst' } };
}

function ms(group: Group, id: string, name: string, limit?: number): RowSpec {
  const target: RowTarget | undefined = limit === undefined ? undefined : { limit, is: 'most', by: 'median' };
  return { id, group, name, unit: 'ms', decimals: 0, better: 'less', ...(target !== undefined && { target }) };
}

function packets(id: string, name: string, limit: number): RowSpec {
  const target: RowTarget = { limit, is: 'most', by: 'median' };
  return { id, group: 'voice', name, unit: 'packets', decimals: 0, better: 'less', target };
}

function share(id: string, name: string, limit: number): RowSpec {
  const target: RowTarget = { limit, is: 'least', by: 'median' };
  return { id, group: 'goodput', name, unit: '', decimals: 3, better: 'more', target };
}

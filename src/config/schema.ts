/**
 * The YAML side of the configuration: which keys exist, what each value may be, and every default. Values stay as
 * written here (`20Mbit`, not bits per second); `resolve.ts` turns them into `Config`. Defaults that depend on other
 * values (the tunnel's name and what is called after it) are `null` here and filled in by `resolve.ts`.
 *
 * Messages are `what is wrong` + newline + `what would be right`; load.ts adds file, line, column and key path.
 */
import { z } from 'zod';

import { PIN_PREFIX, parsePin } from './keys.js';
import { parseIpOrNull, parsePrefix } from './prefix.js';
import { CONGESTION_NAMES, SCHEDULER_NAMES, TRAFFIC_MODES } from './types.js';
import { DURATION_EXAMPLE, parseDuration, parseRate, parseSize, RATE_EXAMPLE, SIZE_EXAMPLE } from './units.js';

/** A reference to a file that holds a pin, as `mptun pubkey` prints it. */
export const FILE_PREFIX = 'file:';

const text = (expected: string, isValid: (value: string) => boolean) =>
  z.custom<string>((value) => typeof value === 'string' && isValid(value), {
    error: (issue) =>
      issue.input === undefined
        ? `is missing\ngive ${expected}`
        : `${shown(issue.input)} is not valid here\ngive ${expected}`,
  });

const integer = (expected: string, min: number, max: number) =>
  z.custom<number>((value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max, {
    error: (issue) =>
      issue.input === undefined
        ? `is missing\ngive ${expected}`
        : `${shown(issue.input)} is not valid here\ngive ${expected} from ${min} to ${max}`,
  });

const bool = () =>
  z.custom<boolean>((value) => typeof value === 'boolean', {
    error: (issue) => `${shown(issue.input)} is not valid here\ngive true or false`,
  });

const boolOrAuto = () =>
  z.custom<boolean | 'auto'>((value) => typeof value === 'boolean' || value === 'auto', {
    error: (issue) => `${shown(issue.input)} is not valid here\ngive true, false or auto`,
  });

const oneOf = <const T extends readonly string[]>(...values: T) =>
  z.custom<T[number]>((value) => values.includes(value as string), {
    error: (issue) =>
      issue.input === undefined
        ? `is missing\ngive one of ${values.join(', ')}`
        : `${shown(issue.input)} is not valid here\n${didYouMean(String(issue.input), values) ?? `give one of ${values.join(', ')}`}`,
  });

const name = () =>
  text('a name of lower-case letters, digits, - and _ (at most 32)', (v) => /^[a-z0-9][a-z0-9_-]{0,31}$/.test(v));
const interfaceName = () => text('an interface name (at most 15 characters)', (v) => /^[^\s/:*?]{1,15}$/.test(v));
const interfacePattern = () =>
  text('an interface name or pattern such as wlan0 or wl*', (v) => /^[^\s/:]{1,15}$/.test(v));
const ssid = () => text('the name of a wifi network, 1 to 32 characters', (v) => v.length >= 1 && v.length <= 32);
const mac = () =>
  text('a MAC address such as 02:00:5e:10:00:01', (v) => /^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/.test(v));
const ip = () => text('an IP address', (v) => parseIpOrNull(v) !== null);
const ip4 = () => text('an IPv4 address', (v) => parseIpOrNull(v)?.family === 4);
const ip6 = () => text('an IPv6 address', (v) => parseIpOrNull(v)?.family === 6);
const prefix = () => text('a prefix such as 10.0.0.0/8 or fd00::/8, host bits zero', (v) => parsePrefix(v) !== null);
const prefix4 = () => text('an IPv4 prefix such as 10.77.0.0/24', (v) => parsePrefix(v)?.address.family === 4);
const prefix6 = () => text('an IPv6 prefix such as fd77::/64', (v) => parsePrefix(v)?.address.family === 6);
const rate = () => text(RATE_EXAMPLE, (v) => (parseRate(v) ?? 0) > 0);
const size = () => text(SIZE_EXAMPLE, (v) => (parseSize(v) ?? 0) > 0);
const duration = () => text(DURATION_EXAMPLE, (v) => (parseDuration(v) ?? 0) > 0);
const port = () => integer('a port', 1, 65535);
const path = () => text('the path of a file', (v) => v !== '');
const pin = () =>
  text(`a pin as printed by mptun pubkey (${PIN_PREFIX}… or ${FILE_PREFIX}PATH)`, (v) =>
    v.startsWith(FILE_PREFIX) ? v.length > FILE_PREFIX.length : parsePin(v) !== null,
  );
const host = () => text('a host name or an IP address', (v) => isHost(v));
const listenAddress = () => text('HOST:PORT, such as 127.0.0.1:9464', (v) => parseHostPort(v) !== null);
/** Nothing: the key's absence spelled out, so that a file can show every key. */
const orNull = <T extends z.ZodType>(schema: T) => schema.nullable();

/** Subflows of one connection at most, as in core/engine. */
const MAX_SUBFLOWS = 8;

const addressFilter = () =>
  z.strictObject({ include: z.array(prefix()).default([]), exclude: z.array(prefix()).default([]) }).prefault({});

const traffic = () =>
  z
    .strictObject({
      mode: oneOf(...TRAFFIC_MODES).default('auto'),
      scheduler: oneOf(...SCHEDULER_NAMES).default('adaptive'),
      congestion: oneOf(...CONGESTION_NAMES).default('bbr'),
      max_subflows: integer('subflows', 1, MAX_SUBFLOWS).default(8),
      checksum: bool().default(false),
      receive_buffer: size().default('16MiB'),
    })
    .prefault({});

const common = {
  name: orNull(name()).default(null),
  key_file: path(),
  state_dir: orNull(path()).default(null),
  traffic: traffic(),
  control: z.strictObject({ socket: orNull(path()).default(null) }).prefault({}),
  log: z
    .strictObject({
      level: oneOf('trace', 'debug', 'info', 'warn', 'error').default('info'),
      format: oneOf('auto', 'json', 'pretty').default('auto'),
    })
    .prefault({}),
  metrics: z.strictObject({ listen: orNull(listenAddress()).default(null) }).prefault({}),
};

const pathRule = z.strictObject({
  match: z
    .strictObject({
      name: orNull(interfacePattern()).default(null),
      type: orNull(oneOf('ethernet', 'wifi', 'cellular', 'usb', 'other')).default(null),
      mac: orNull(mac()).default(null),
      ssid: orNull(ssid()).default(null),
    })
    .prefault({}),
  role: oneOf('always', 'overflow', 'backup', 'never').default('always'),
  overflow_above: orNull(rate()).default(null),
  metered: boolOrAuto().default('auto'),
  cap: z
    .strictObject({
      daily: orNull(size()).default(null),
      monthly: orNull(size()).default(null),
      reset_day: integer('a day of the month', 1, 31).default(1),
      at_limit: oneOf('overflow', 'backup', 'never').default('never'),
    })
    .prefault({}),
  keep_warm: bool().default(true),
  prefer_family: oneOf('auto', 'ipv4', 'ipv6').default('auto'),
  max_subflows: integer('subflows', 1, MAX_SUBFLOWS).default(1),
  local: addressFilter(),
  remote: addressFilter(),
  limit: orNull(rate()).default(null),
  congestion: orNull(oneOf(...CONGESTION_NAMES)).default(null),
});

/** Not 443: a service without CAP_NET_BIND_SERVICE must be able to reserve it. */
export const DEFAULT_PORT = 8443;

/** Links of these kinds are used when the file names none; virtual ones (bridges, containers) are 'other'. */
const DEFAULT_PATHS = [
  { match: { type: 'ethernet' }, role: 'always' },
  { match: { type: 'wifi' }, role: 'always' },
  { match: { type: 'usb' }, role: 'always' },
  { match: { type: 'cellular' }, role: 'always' },
] as const;

/** Private, loopback, link-local, shared, documentation, multicast: nothing of a client's business on a server's LAN. */
const DEFAULT_DENY = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/127',
  '::ffff:0:0/96',
  'fc00::/7',
  'fe80::/10',
  'ff00::/8',
];

export const clientSchema = z.strictObject({
  mode: z.literal('client'),
  ...common,
  server: z.strictObject({
    host: host(),
    port: port().default(DEFAULT_PORT),
    public_key: pin(),
    addresses: z.array(ip()).default([]),
    reconnect_max: duration().default('5s'),
  }),
  tun: z
    .strictObject({
      name: orNull(interfaceName()).default(null),
      mtu: integer('bytes', 1280, 65535).default(1500),
      ipv4: oneOf('auto', 'off').default('auto'),
      ipv6: oneOf('auto', 'off').default('auto'),
    })
    .prefault({}),
  capture: z
    .strictObject({
      default_route: bool().default(true),
      include: z.array(prefix()).default([]),
      exclude: z.array(prefix()).default([]),
      table: integer('a routing table number', 1, 0xffffffff).default(7184),
      rule_priority: integer('a rule priority', 1, 32765).default(7184),
    })
    .prefault({}),
  paths: z.array(pathRule).prefault(DEFAULT_PATHS as never),
});

export const serverSchema = z.strictObject({
  mode: z.literal('server'),
  ...common,
  listen: z.strictObject({ port: port().default(DEFAULT_PORT), addresses: z.array(ip()).default([]) }).prefault({}),
  clients: z.array(
    z.strictObject({
      name: name(),
      public_key: pin(),
      ipv4: orNull(ip4()).default(null),
      ipv6: orNull(ip6()).default(null),
    }),
  ),
  pool: z
    .strictObject({
      ipv4: orNull(prefix4()).default('10.77.0.0/24'),
      ipv6: orNull(prefix6()).default('fd77:6d70:7475:6e::/64'),
    })
    .prefault({}),
  tun: z
    .strictObject({
      name: orNull(interfaceName()).default(null),
      mtu: integer('bytes', 1280, 65535).default(1500),
    })
    .prefault({}),
  egress: z
    .strictObject({
      masquerade: bool().default(true),
      interface: orNull(interfaceName()).default(null),
      deny: z.array(prefix()).default(DEFAULT_DENY),
      allow: z.array(prefix()).default([]),
    })
    .prefault({}),
  signal: z.array(ip()).default([]),
});

export type RawClient = z.output<typeof clientSchema>;
export type RawServer = z.output<typeof serverSchema>;
export type RawConfig = RawClient | RawServer;

/** `did you mean X?` when one of `candidates` is near enough, else null. */
export function didYouMean(word: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      bestDistance = distance;
      best = candidate;
    }
  }
  return best === null ? null : `did you mean ${best}?`;
}

export function parseHostPort(value: string): { host: string; port: number } | null {
  const m = /^(?:\[([0-9a-fA-F:.]+)\]|([^:\s]+)):(\d{1,5})$/.exec(value);
  if (m === null) return null;
  const portNumber = Number(m[3]);
  const hostText = m[1] ?? m[2]!;
  return portNumber >= 1 && portNumber <= 65535 && isHost(hostText) ? { host: hostText, port: portNumber } : null;
}

function isHost(value: string): boolean {
  if (parseIpOrNull(value) !== null) return true;
  if (value.length > 253 || /^[\d.]+$/.test(value)) return false;
  return value.split('.').every((label) => /^(?!-)[A-Za-z0-9-]{1,63}(?<!-)$/.test(label));
}

function shown(value: unknown): string {
  if (value !== null && typeof value === 'object') return Array.isArray(value) ? 'a list' : 'a map';
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}

/** Optimal string alignment: insertions, deletions, changes and swapped neighbours each count one. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      let d = Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, rows[i - 1]![j - 1]! + change);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) d = Math.min(d, rows[i - 2]![j - 2]! + 1);
      row[j] = d;
    }
    rows[i] = row;
  }
  return rows[a.length]![b.length]!;
}

/**
 * The YAML side of the configuration: which keys exist, what each value may be, and every default. Values stay as
 * written here (`20Mbit`, not bits per second); `resolve.ts` turns them into `Config`. Defaults that depend on other
 * values (the tunnel's name and what is called after it) are `null` here and filled in by `resolve.ts`. Kinds of value are
 * in fields.ts, the section `flows` in flow-schema.ts.
 */
import { z } from 'zod';

import {
  access,
  bool,
  boolOrAuto,
  duration,
  host,
  integer,
  interfaceName,
  interfacePattern,
  ip,
  ip4,
  ip6,
  listenAddress,
  mac,
  name,
  oneOf,
  orNull,
  path,
  pin,
  port,
  prefix,
  prefix4,
  prefix6,
  rate,
  size,
  ssid,
  text,
} from './fields.js';
import { flowsSchema } from './flow-schema.js';
import { CONGESTION_NAMES, SCHEDULER_NAMES, TRAFFIC_MODES } from './types.js';

/** Subflows of one connection at most, as in core/engine. */
const MAX_SUBFLOWS = 8;

const isHex = (value: string) => /^([0-9a-fA-F]{2}){1,500}$/.test(value);

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
  flows: flowsSchema(),
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
      relay: z.strictObject({ allow: z.array(access()).default([]), deny: z.array(access()).default([]) }).prefault({}),
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
  relay: z
    .strictObject({
      max_flows: integer('flows', 1, 4096).default(2048),
      max_pending_dials: integer('dials', 1, 4096).default(1024),
      max_flow_bytes: orNull(size()).default(null),
    })
    .prefault({}),
  signal: z.array(ip()).default([]),
  convert: z
    .strictObject({
      listen: orNull(z.strictObject({ port: port() })).default(null),
      clients: z.array(prefix()).default([]),
      trusted: z.array(prefix()).default([]),
      cookie: oneOf('none', 'computed', 'configured').default('none'),
      cookies: z.array(text('a cookie in hexadecimal, such as 6d707475', isHex)).default([]),
      silent_without_cookie: bool().default(false),
      plain_syns: bool().default(false),
      max_connections: integer('connections', 1, 65_536).default(4096),
      max_per_client: integer('connections', 1, 65_536).default(512),
    })
    .prefault({}),
});

export type RawClient = z.output<typeof clientSchema>;
export type RawServer = z.output<typeof serverSchema>;
export type RawConfig = RawClient | RawServer;

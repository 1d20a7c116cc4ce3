/** From the checked YAML form to `Config`: units, files, and the rules that involve more than one key. */
import { readFileSync } from 'node:fs';
import { basename, dirname, resolve as resolvePath } from 'node:path';

import { type IpAddress, parseIp } from '../core/base/ip.js';
import { prefixContains } from '../core/base/prefix.js';
import { type AccessRule, parseAccessRule } from './access.js';
import type { KeyPath } from './document.js';
import { FILE_PREFIX, parseHostPort } from './fields.js';
import { resolveFlows } from './flow-resolve.js';
import { KeyError, loadKey, parsePin } from './keys.js';
import type { Report } from './load.js';
import { addressAt, parsePrefix } from './prefix.js';
import type { RawClient, RawConfig, RawServer } from './schema.js';
import type {
  AddressFilter,
  ClientConfig,
  ClientEntry,
  CommonConfig,
  ConverterConfig,
  PathRule,
  Prefix,
  ServerConfig,
} from './types.js';
import { parseDuration, parseRate, parseSize } from './units.js';

/** A default that was worked out from something else. */
export interface Derived {
  readonly path: KeyPath;
  readonly value: unknown;
  readonly from: string;
}

export class Resolver {
  readonly derived: Derived[] = [];

  constructor(
    private readonly file: string,
    private readonly report: Report,
  ) {}

  client(raw: RawClient): ClientConfig {
    const common = this.common(raw);
    if (raw.paths.length === 0) this.report(['paths'], 'is empty', 'leave it out to use every physical link');
    return {
      ...common,
      mode: 'client',
      server: {
        host: raw.server.host,
        port: raw.server.port,
        pin: this.pin(raw.server.public_key, ['server', 'public_key']),
        addresses: raw.server.addresses.map(parseIp),
        reconnectMaxUs: parseDuration(raw.server.reconnect_max)!,
      },
      tun: { ...common.tun, ipv4: raw.tun.ipv4 === 'auto', ipv6: raw.tun.ipv6 === 'auto' },
      capture: {
        defaultRoute: raw.capture.default_route,
        include: raw.capture.include.map(toPrefix),
        exclude: raw.capture.exclude.map(toPrefix),
        table: raw.capture.table,
        rulePriority: raw.capture.rule_priority,
      },
      paths: raw.paths.map((rule, i) => this.pathRule(rule, i)),
      flows: resolveFlows(raw.flows, this.report),
    };
  }

  server(raw: RawServer): ServerConfig {
    const common = this.common(raw);
    const pool = {
      ipv4: raw.pool.ipv4 === null ? null : toPrefix(raw.pool.ipv4),
      ipv6: raw.pool.ipv6 === null ? null : toPrefix(raw.pool.ipv6),
    };
    if (pool.ipv4 === null && pool.ipv6 === null) {
      this.report(['pool'], 'has neither an IPv4 nor an IPv6 prefix', 'give at least one');
    }
    return {
      ...common,
      mode: 'server',
      tun: { ...common.tun, ipv4: pool.ipv4 !== null, ipv6: pool.ipv6 !== null },
      listen: { port: raw.listen.port, addresses: raw.listen.addresses.map(parseIp) },
      clients: this.clients(raw, pool),
      pool,
      egress: {
        masquerade: raw.egress.masquerade,
        interface: raw.egress.interface,
        deny: raw.egress.deny.map(toPrefix),
        allow: raw.egress.allow.map(toPrefix),
      },
      relay: {
        maxFlows: raw.relay.max_flows,
        maxPendingDials: raw.relay.max_pending_dials,
        maxFlowBytes:
          raw.relay.max_flow_bytes === null ? Number.POSITIVE_INFINITY : parseSize(raw.relay.max_flow_bytes)!,
      },
      announce: raw.signal.map(parseIp),
      convert: this.converter(raw),
    };
  }

  private converter({ convert, listen }: RawServer): ConverterConfig {
    const port = convert.listen?.port;
    if (port === listen.port) this.report(['convert', 'listen', 'port'], 'is listen.port', 'give another one');
    if (port !== undefined && convert.clients.length === 0)
      this.report(['convert', 'clients'], 'is empty: nobody may use the converter', 'give the prefixes of its clients');
    if (convert.cookie === 'configured' && convert.cookies.length === 0)
      this.report(['convert', 'cookies'], 'is empty, and a cookie is asked for', 'give one, or cookie: computed');
    return {
      listen: convert.listen,
      clients: convert.clients.map(toPrefix),
      trusted: convert.trusted.map(toPrefix),
      cookie: convert.cookie,
      cookies: convert.cookies.map((cookie) => new Uint8Array(Buffer.from(cookie, 'hex'))),
      silentWithoutCookie: convert.silent_without_cookie,
      plainSyns: convert.plain_syns,
      maxConnections: convert.max_connections,
      maxPerClient: convert.max_per_client,
    };
  }

  /** Reports what is wrong with the files that an otherwise wrong configuration names. */
  filesOf(value: unknown): void {
    const keyFile = (value as { key_file?: unknown }).key_file;
    if (typeof keyFile === 'string' && keyFile !== '') this.keyFile(keyFile);
    const pin = (value as { server?: { public_key?: unknown } | null }).server?.public_key;
    if (typeof pin === 'string' && pin.startsWith(FILE_PREFIX)) this.pin(pin, ['server', 'public_key']);
  }

  private keyFile(text: string): string {
    const path = resolvePath(dirname(this.file), text);
    try {
      loadKey(path);
    } catch (err) {
      if (!(err instanceof KeyError)) throw err;
      this.report(['key_file'], err.message, err.hint);
    }
    return path;
  }

  private common(raw: RawConfig): CommonConfig {
    const name = raw.name ?? this.derive(['name'], this.nameFromFile(), 'the name of the file');
    const keyFile = this.keyFile(raw.key_file);
    const tunName = raw.tun.name ?? this.derive(['tun', 'name'], `mt-${name}`.slice(0, 15), 'name');
    return {
      name,
      file: this.file,
      keyFile,
      stateDir:
        raw.state_dir === null
          ? this.derive(['state_dir'], `/var/lib/mptun/${name}`, 'name')
          : resolvePath(dirname(this.file), raw.state_dir),
      tun: { name: tunName, mtuBytes: raw.tun.mtu, ipv4: true, ipv6: true },
      traffic: {
        mode: raw.traffic.mode,
        // The mode is a promise about all bytes; a scheduler that sends no copies cannot keep it.
        scheduler:
          raw.traffic.mode === 'redundant'
            ? this.derive(['traffic', 'scheduler'], 'redundant' as const, 'traffic.mode')
            : raw.traffic.scheduler,
        congestion: raw.traffic.congestion,
        maxSubflows: raw.traffic.max_subflows,
        checksum: raw.traffic.checksum,
        receiveBufferBytes: parseSize(raw.traffic.receive_buffer)!,
      },
      control: {
        socketPath:
          raw.control.socket === null
            ? this.derive(['control', 'socket'], `/run/mptun/${name}.sock`, 'name')
            : resolvePath(dirname(this.file), raw.control.socket),
      },
      log: { level: raw.log.level, format: raw.log.format },
      metrics: { listen: raw.metrics.listen === null ? null : parseHostPort(raw.metrics.listen) },
    };
  }

  private nameFromFile(): string {
    const stem = basename(this.file).replace(/\.ya?ml$/, '');
    const name = stem
      .toLowerCase()
      .replace(/[^a-z0-9_-]+/g, '-')
      .replace(/^[-_]+/, '')
      .slice(0, 32);
    if (name === '') {
      this.report([], `no tunnel name can be made from the file name ${stem}`, 'give name: in the file');
      return 'tunnel';
    }
    return name;
  }

  private pathRule(rule: RawClient['paths'][number], index: number): PathRule {
    const { name, type, mac, ssid } = rule.match;
    if (name === null && type === null && mac === null && ssid === null) {
      this.report(
        ['paths', index, 'match'],
        'matches nothing in particular',
        'give name, type, mac or ssid (name: "*" is every link)',
      );
    }
    const { daily, monthly, reset_day: resetDay, at_limit: atLimit } = rule.cap;
    return {
      match: { name, type, mac: mac === null ? null : mac.toLowerCase(), ssid },
      role: rule.role,
      overflowAboveBitPerS: rule.overflow_above === null ? null : parseRate(rule.overflow_above),
      metered: rule.metered === 'auto' ? null : rule.metered,
      cap:
        daily === null && monthly === null
          ? null
          : {
              dailyBytes: daily === null ? null : parseSize(daily),
              monthlyBytes: monthly === null ? null : parseSize(monthly),
              resetDay,
              atLimit,
            },
      keepWarm: rule.keep_warm,
      preferFamily: rule.prefer_family === 'auto' ? null : rule.prefer_family === 'ipv4' ? 4 : 6,
      maxSubflows: rule.max_subflows,
      local: toFilter(rule.local),
      remote: toFilter(rule.remote),
      limitBitPerS: rule.limit === null ? null : parseRate(rule.limit),
      congestion: rule.congestion,
    };
  }

  private clients(raw: RawServer, pool: { ipv4: Prefix | null; ipv6: Prefix | null }): ClientEntry[] {
    const entries = raw.clients.map((c, i) => ({
      name: c.name,
      pin: this.pin(c.public_key, ['clients', i, 'public_key']),
      relay: { allow: c.relay.allow.map(toAccess), deny: c.relay.deny.map(toAccess) },
    }));
    this.unique(
      entries.map((e) => e.name),
      'name',
    );
    this.unique(
      entries.map((e) => e.pin),
      'public_key',
    );
    const ipv4 = this.innerAddresses(raw, 'ipv4', pool.ipv4);
    const ipv6 = this.innerAddresses(raw, 'ipv6', pool.ipv6);
    return entries.map((entry, i) => ({ ...entry, ipv4: ipv4[i]!, ipv6: ipv6[i]! }));
  }

  /** Explicit addresses are checked; the others get the next free one, in the order of the file. */
  private innerAddresses(raw: RawServer, family: 'ipv4' | 'ipv6', pool: Prefix | null): (IpAddress | null)[] {
    const given = raw.clients.map((c) => (c[family] === null ? null : parseIp(c[family])));
    // Index 0 is the network address, 1 the server's own.
    const taken = new Set(pool === null ? [] : [pool.address.text, addressAt(pool, 1)?.text]);
    const broadcast =
      pool !== null && family === 'ipv4' && pool.bits < 31 ? addressAt(pool, 2 ** (32 - pool.bits) - 1) : null;
    if (broadcast !== null) taken.add(broadcast.text);
    for (const [i, address] of given.entries()) {
      if (address === null) continue;
      const path = ['clients', i, family];
      if (pool === null) this.report(path, `there is no ${family} pool`, `give pool.${family}, or leave this out`);
      else if (!prefixContains(pool, address))
        this.report(path, `${address.text} is not in ${pool.text}`, `choose one from pool.${family}`);
      else if (taken.has(address.text))
        this.report(path, `${address.text} is taken`, 'each client needs its own; .1 is the server');
      taken.add(address.text);
    }
    let next = 2;
    return given.map((address, i) => {
      if (address !== null || pool === null) return address;
      for (;;) {
        const candidate = addressAt(pool, next++);
        if (candidate === null) {
          this.report(['clients', i], `pool.${family} ${pool.text} has no address left`, 'give a larger pool');
          return null;
        }
        if (!taken.has(candidate.text)) return this.derive(['clients', i, family], candidate, `pool.${family}`);
      }
    });
  }

  private unique(values: readonly string[], key: string): void {
    const first = new Map<string, number>();
    for (const [i, value] of values.entries()) {
      const before = first.get(value);
      if (before === undefined) first.set(value, i);
      else if (value !== '')
        this.report(['clients', i, key], `is the same as clients[${before}].${key}`, 'each client needs its own');
    }
  }

  /** The base64 pin; one in a file is read here. */
  private pin(text: string, path: KeyPath): string {
    if (!text.startsWith(FILE_PREFIX)) return parsePin(text)!;
    const file = resolvePath(dirname(this.file), text.slice(FILE_PREFIX.length));
    let content: string;
    try {
      content = readFileSync(file, 'utf8').trim();
    } catch (err) {
      this.report(
        path,
        `cannot read ${file} (${(err as NodeJS.ErrnoException).code})`,
        'it should hold what mptun pubkey printed',
      );
      return '';
    }
    const pin = parsePin(content);
    if (pin === null) this.report(path, `${file} does not hold a pin`, 'it should hold what mptun pubkey printed');
    return pin ?? '';
  }

  private derive<T>(path: KeyPath, value: T, from: string): T {
    this.derived.push({
      path,
      value: value !== null && typeof value === 'object' && 'text' in value ? value.text : value,
      from,
    });
    return value;
  }
}

function toFilter({ include, exclude }: { include: string[]; exclude: string[] }): AddressFilter {
  return { include: include.map(toPrefix), exclude: exclude.map(toPrefix) };
}

function toAccess(text: string): AccessRule {
  return parseAccessRule(text)!;
}

/** The schema has checked the text. */
function toPrefix(text: string): Prefix {
  return parsePrefix(text)!;
}

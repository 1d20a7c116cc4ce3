/**
 * The server's side of the host: forwarding from the TUN to the Internet, through one nft table of ours (`inet
 * mptun_NAME`), which masquerades if configured and keeps clients away from private, loopback and link-local
 * destinations unless they are allowed. Removed on exit, replaced as a whole at start, so a kill -9 leaves nothing that the
 * next start would not put right.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Prefix, ServerConfig } from '../config/types.js';
import type { Family, IpAddress } from '../core/base/ip.js';
import { findTool, type Rtnetlink } from '../native/index.js';

/** The host cannot do what the configuration asks for. */
export class EgressError extends Error {
  override readonly name = 'EgressError';

  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

export interface EgressOptions {
  readonly name: string;
  readonly tunName: string;
  readonly egress: ServerConfig['egress'];
  readonly pool: ServerConfig['pool'];
  /** Our own inner addresses: clients may ping them. */
  readonly ownAddresses: readonly IpAddress[];
}

/** Table name for a tunnel: nft names know no '-'. */
export function tableName(name: string): string {
  return `mptun_${name.replaceAll('-', '_')}`;
}

/** The whole ruleset of a server, as nft reads it. Adding and deleting the table first makes it idempotent. */
export function egressRuleset(o: EgressOptions): string {
  const table = tableName(o.name);
  const tun = `"${o.tunName}"`;
  const out = o.egress.interface === null ? '' : `oifname != "${o.egress.interface}" drop`;
  const lines = [
    `table inet ${table}`,
    `delete table inet ${table}`,
    `table inet ${table} {`,
    '  chain forward {',
    '    type filter hook forward priority filter - 5; policy accept;',
    `    iifname != ${tun} oifname != ${tun} accept`,
    `    oifname ${tun} ct state established,related accept`,
    ...allowed(o, `iifname ${tun}`),
    `    oifname ${tun} drop`,
    ...(out === '' ? [] : [`    ${out}`]),
    '  }',
    '  chain input {',
    '    type filter hook input priority filter - 5; policy accept;',
    `    iifname != ${tun} accept`,
    '    ct state established,related accept',
    ...o.ownAddresses.map((a) =>
      a.family === 4
        ? `    ip daddr ${a.text} icmp type echo-request accept`
        : `    ip6 daddr ${a.text} icmpv6 type echo-request accept`,
    ),
    ...allowed(o, ''),
    '  }',
  ];
  if (o.egress.masquerade) {
    lines.push('  chain postrouting {', '    type nat hook postrouting priority srcnat; policy accept;');
    for (const [family, prefix] of [
      ['ip', o.pool.ipv4],
      ['ip6', o.pool.ipv6],
    ] as const) {
      if (prefix !== null) lines.push(`    ${family} saddr ${prefix.text} oifname != ${tun} masquerade`);
    }
    lines.push('  }');
  }
  lines.push('}');
  return `${lines.join('\n')}\n`;
}

/** `allow` before `deny`: the more specific wish wins, wherever it was written. */
function allowed(o: EgressOptions, match: string): string[] {
  const rules: string[] = [];
  for (const [list, verdict] of [
    [o.egress.allow, 'accept'],
    [o.egress.deny, 'reject with icmpx admin-prohibited'],
  ] as const) {
    for (const [family, bits] of [
      [4, 'ip'],
      [6, 'ip6'],
    ] as const) {
      const set = prefixSet(list, family);
      if (set !== '') rules.push(`    ${match} ${bits} daddr ${set} ${verdict}`.replace(/ {5,}/, '    '));
    }
  }
  return rules;
}

function prefixSet(list: readonly Prefix[], family: Family): string {
  const texts = list.filter((p) => p.address.family === family).map((p) => p.text);
  return texts.length === 0 ? '' : `{ ${texts.join(', ')} }`;
}

export class Egress {
  private readonly sysctls: Sysctls;

  constructor(
    private readonly options: EgressOptions,
    stateDir: string,
  ) {
    this.sysctls = new Sysctls(join(stateDir, 'sysctl.json'));
  }

  /** Installs rules and forwarding. Throws EgressError. */
  install(): void {
    this.sysctls.restore();
    nft(egressRuleset(this.options));
    if (this.options.pool.ipv4 !== null) this.sysctls.set('net/ipv4/ip_forward', '1');
    if (this.options.pool.ipv6 !== null) {
      // Forwarding turns router advertisements off, and with them the server's own default route: 2 keeps them on.
      this.sysctls.set('net/ipv6/conf/default/accept_ra', '2');
      this.sysctls.set('net/ipv6/conf/all/accept_ra', '2');
      this.sysctls.set('net/ipv6/conf/all/forwarding', '1');
    }
  }

  remove(): void {
    try {
      nft(`table inet ${tableName(this.options.name)}\ndelete table inet ${tableName(this.options.name)}\n`);
    } finally {
      this.sysctls.restore();
    }
  }
}

/** Families in which this host reaches more than itself: what the server can offer its clients. */
export function offeredFamilies(rt: Rtnetlink, tunIndex: number): Family[] {
  const loopback = new Set(
    rt
      .links()
      .filter((l) => l.isLoopback)
      .map((l) => l.index),
  );
  const reaches = (family: Family) =>
    rt.routes().some((r) => {
      if (r.family !== family || r.type !== 'unicast' || r.interfaceIndex === 0) return false;
      if (r.interfaceIndex === tunIndex || loopback.has(r.interfaceIndex)) return false;
      const first = r.destination?.address.bytes[0] ?? 0;
      const isLocalOnly = family === 6 && r.destination !== null && (first === 0xfe || first === 0xff);
      return !isLocalOnly;
    });
  return ([4, 6] as const).filter(reaches);
}

/** Kernel settings that were changed, with what they were before; kept in a file, for the start after a kill -9. */
class Sysctls {
  constructor(private readonly file: string) {}

  set(path: string, value: string): void {
    const before = readSysctl(path);
    if (before === null || before === value) return;
    const saved = this.read();
    saved[path] ??= before;
    writeFileSync(this.file, JSON.stringify(saved));
    try {
      writeFileSync(`/proc/sys/${path}`, value);
    } catch (error) {
      throw new EgressError(
        `cannot set ${path.replaceAll('/', '.')} to ${value} (${(error as NodeJS.ErrnoException).code})`,
        `set it in /etc/sysctl.d: ${path.replaceAll('/', '.')} = ${value}`,
      );
    }
  }

  restore(): void {
    for (const [path, value] of Object.entries(this.read()).reverse()) {
      try {
        writeFileSync(`/proc/sys/${path}`, value);
      } catch {
        // The setting is gone with its namespace or module: nothing to restore.
      }
    }
    rmSync(this.file, { force: true });
  }

  private read(): Record<string, string> {
    try {
      return JSON.parse(readFileSync(this.file, 'utf8')) as Record<string, string>;
    } catch {
      return {};
    }
  }
}

function readSysctl(path: string): string | null {
  try {
    return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
  } catch {
    return null;
  }
}

function nft(ruleset: string): void {
  const path = findTool('nft');
  if (path === null) throw new EgressError('nft is not installed, and a server needs it', 'install nftables');
  const run = spawnSync(path, ['-f', '-'], { input: ruleset, encoding: 'utf8' });
  if (run.status !== 0) {
    const why = run.error?.message ?? run.stderr.trim().split('\n')[0];
    throw new EgressError(`nft refused our table: ${why}`, 'it needs CAP_NET_ADMIN and nf_tables');
  }
}

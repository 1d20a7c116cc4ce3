/**
 * The lab: a laptop with several links, an internet, a tunnel server and a web site, each in a network namespace.
 *
 *   client ── wlan0 (Ethernet, emulated) ──┐
 *          ── wwan0 (raw IP, emulated) ────┤ internet ── eth0 server
 *                                          └────────── eth0 site     HTTP and UDP probes
 *
 * The site is reached through the tunnel at `SITE`, and outside it, pinned to link i by a host route, at
 * `siteAddress(i)`: so any program measures one raw link without options of its own.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { findTool } from '../native/index.js';
import type { BurstLoss, LinkState } from '../sim/link-model.js';
import { EmulatorClient } from './emulator-client.js';
import {
  type Direction,
  type DirectionSpec,
  type EmulatedLink,
  type LinkCounters,
  type LinkKind,
  queueDefaultBytes,
  type Timeline,
} from './emulator-protocol.js';
import { type ExecResult, NamespaceSet } from './namespaces.js';

export interface LinkSpec {
  /** Device name at the client, for instance `wlan0`. */
  readonly name: string;
  readonly kind: LinkKind;
  readonly rateDownBps: number;
  readonly rateUpBps: number;
  /** One way, each direction. */
  readonly delayMs: number;
  readonly jitterMs?: number;
  /** 0..1, each direction. */
  readonly loss?: number;
  readonly burst?: BurstLoss | null;
  /** Default: 100 ms of the direction's rate. */
  readonly queueMs?: number;
  /** Saturator traces that replace the rates. */
  readonly traceDownFile?: string;
  readonly traceUpFile?: string;
}

export interface LabOptions {
  readonly links: readonly LinkSpec[];
  /** Begins the names of the namespaces. Default `mptun-lab-`. */
  readonly prefix?: string;
  readonly seed?: number;
}

export type LabNode = 'client' | 'internet' | 'server' | 'site';

export const DEFAULT_LINKS: readonly LinkSpec[] = [
  { name: 'wlan0', kind: 'wifi', rateDownBps: 50e6, rateUpBps: 50e6, delayMs: 10 },
  { name: 'wwan0', kind: 'lte', rateDownBps: 30e6, rateUpBps: 30e6, delayMs: 30 },
];

export const SERVER = { v4: '198.51.100.2', v6: '2001:db8:5::2' } as const;
export const SITE = { v4: '203.0.113.2', v6: '2001:db8:6::2' } as const;
/** What the server can gain: see Lab.serverAddress. */
export const SECOND_SERVER = '198.51.100.3';
/** Of the tunnel (IPv4, IPv6); the internet routes them to the server. */
export const INNER_PREFIXES = ['10.77.0.0/24', 'fd77:6d70:7475:6e::/64'] as const;

export async function createLab(options: LabOptions): Promise<Lab> {
  const namespaces = new NamespaceSet(options.prefix ?? 'mptun-lab-');
  try {
    for (const node of NODES) namespaces.add(node);
    wireBackbone(namespaces, options);
    const emulator = await startEmulator(namespaces, options);
    await startSite(namespaces);
    return new Lab(namespaces, emulator, options.links);
  } catch (error) {
    await namespaces.dispose();
    throw error;
  }
}

export class Lab {
  readonly links: readonly LabLink[];
  readonly namespaces: NamespaceSet;
  readonly #emulator: EmulatorClient;

  constructor(namespaces: NamespaceSet, emulator: EmulatorClient, specs: readonly LinkSpec[]) {
    this.namespaces = namespaces;
    this.#emulator = emulator;
    this.links = specs.map((spec, index) => new LabLink(spec, index, emulator, namespaces));
  }

  link(name: string): LabLink {
    const link = this.links.find((l) => l.name === name);
    if (link === undefined) throw new Error(`no link "${name}"`);
    return link;
  }

  /** Full namespace name of a node, for `ip netns exec` and `inNamespace`. */
  netns(node: LabNode): string {
    return this.namespaces.fullName(node);
  }

  exec(node: LabNode, argv: readonly string[], options?: { input?: string; timeoutMs?: number }): Promise<ExecResult> {
    return this.namespaces.exec(node, argv, options);
  }

  spawn(node: LabNode, argv: readonly string[], options?: Parameters<NamespaceSet['spawn']>[2]) {
    return this.namespaces.spawn(node, argv, options);
  }

  /** A further web site on `port`, its program started by `wrapper` (such as `mptcpize run`). Resolves when it listens. */
  async addSite(port: number, wrapper: readonly string[] = []): Promise<void> {
    await startSite(this.namespaces, [...wrapper, process.execPath, labScript('site.js'), String(port)]);
  }

  /** The server gets, or loses, an address. */
  serverAddress(address: string, isThere: boolean): void {
    this.namespaces.ip('server', [`addr ${isThere ? 'add' : 'del'} ${address}/24 dev eth0`]);
    // Where the first one goes, the routes that named it go.
    if (!isThere) this.namespaces.ip('server', ['route replace default via 198.51.100.1']);
  }

  /** CPU seconds that the emulator has used. */
  async emulatorCpuS(): Promise<number> {
    const { value } = await this.#emulator.request({ cmd: 'counters', link: this.links[0]!.name });
    return (value as LinkCounters).cpuS;
  }

  /** Ends all processes in the lab and removes its namespaces. Idempotent. */
  dispose(): Promise<void> {
    return this.namespaces.dispose();
  }
}

/** One emulated link. State changes resolve to the moment they took effect (monotonic milliseconds, see arrivals.ts). */
export class LabLink {
  readonly name: string;
  /** IPv4 address of the site that is reached over this link only, outside any tunnel. */
  readonly siteAddress: string;
  /** Last part of the client's IPv4 address. */
  #host = 2;
  /** Last part of the public address of the link's translator; 0: there is none. */
  #outside = 0;

  constructor(
    readonly spec: LinkSpec,
    readonly index: number,
    readonly emulator: EmulatorClient,
    private readonly namespaces: NamespaceSet,
  ) {
    this.name = spec.name;
    this.siteAddress = siteAddress(index);
  }

  get clientAddress(): string {
    return `192.168.${this.index + 1}.${this.#host}`;
  }

  rateBps(direction: Direction): number {
    return direction === 'down' ? this.spec.rateDownBps : this.spec.rateUpBps;
  }

  queueBytes(direction: Direction): number {
    return toQueueBytes(this.spec, direction) ?? queueDefaultBytes(this.rateBps(direction));
  }

  /** Black hole: packets vanish both ways, and neither end is told. */
  cut(): Promise<number> {
    return this.#setState('blackhole');
  }

  /** Back to normal, from a cut or from carrier loss. */
  restore(): Promise<number> {
    return this.#setState('up');
  }

  /** `false`: the cable is pulled, both devices lose their carrier. */
  carrier(on: boolean): Promise<number> {
    return this.#setState(on ? 'up' : 'down');
  }

  /** The client has another IPv4 address here, as after a change of network. */
  move(): void {
    const n = this.index + 1;
    const before = this.#host++;
    const isWifi = this.spec.kind === 'wifi';
    const via = isWifi ? `via 192.168.${n}.1 ` : '';
    const bits = isWifi ? 24 : 32;
    const { clientAddress, name } = this;
    if (!isWifi) this.namespaces.ip('internet', [`route replace ${clientAddress}/32 dev link${n}`]);
    this.namespaces.ip('client', [
      `addr del 192.168.${n}.${before}/${bits} dev ${name}`,
      `addr add ${clientAddress}/${bits} dev ${name}`,
      `route replace default ${via}dev ${name} src ${clientAddress} metric ${100 * n}`,
      `route replace ${this.siteAddress} ${via}dev ${name} src ${clientAddress}`,
    ]);
  }

  /**
   * Puts a translator between the link and the internet; called again, it has forgotten everything: what was on its way in
   * goes nowhere, and the same flows come out of another address. Without connection tracking, so that it is exact.
   */
  translate(): void {
    const n = this.index + 1;
    const before = this.#outside;
    this.#outside = before === 0 ? 100 + 10 * n : before + 1;
    const outside = `198.51.100.${this.#outside}`;
    const table = `table ip nat${n}`;
    this.namespaces.ip('internet', [
      `addr add ${outside}/32 dev server0`,
      ...(before === 0 ? [] : [`addr del 198.51.100.${before}/32 dev server0`]),
    ]);
    const rules = [
      table,
      `delete ${table}`,
      `${table} {`,
      // Before routing on the way in, after it on the way out.
      `chain in { type filter hook prerouting priority raw; iifname "server0" ip daddr ${outside} ip daddr set ${this.clientAddress}; }`,
      `chain out { type filter hook postrouting priority 100; oifname "server0" ip saddr ${this.clientAddress} ip saddr set ${outside}; }`,
      '}',
    ];
    this.namespaces.execSync('internet', [findTool('nft')!, rules.join('\n')]);
  }

  /** Takes away the client's addresses of the other family. */
  keepFamily(family: 4 | 6): void {
    const other = family === 4 ? '-6' : '-4';
    this.namespaces.execSync('client', ['ip', other, 'addr', 'flush', 'dev', this.name, 'scope', 'global']);
  }

  /** The router in front of the link passes no more than `mtuBytes` towards the client, and says so by ICMP. */
  narrow(mtuBytes: number): void {
    this.namespaces.ip('internet', [`link set link${this.index + 1} mtu ${mtuBytes}`]);
  }

  async set(direction: Direction, change: Partial<DirectionSpec>): Promise<void> {
    await this.emulator.request({ cmd: 'set', link: this.name, direction, change });
  }

  /** As it was made, but for its addresses and translator. */
  async reset(): Promise<void> {
    await this.restore();
    this.narrow(1500);
    for (const direction of ['down', 'up'] as const)
      await this.set(direction, { ...toDirection(this.spec, direction), mtuBytes: 1500 });
  }

  async counters(): Promise<LinkCounters> {
    return (await this.emulator.request({ cmd: 'counters', link: this.name })).value as LinkCounters;
  }

  /** IP bytes that the link delivered in `direction`, in 10 ms bins. */
  async timeline(direction: Direction, fromMs: number, toMs: number): Promise<Timeline> {
    return (await this.emulator.request({ cmd: 'timeline', link: this.name, direction, fromMs, toMs }))
      .value as Timeline;
  }

  async #setState(state: LinkState): Promise<number> {
    return (await this.emulator.request({ cmd: 'state', link: this.name, state })).atMs;
  }
}

/** Absolute path of a compiled sibling of this file. */
export function labScript(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

const NODES: readonly LabNode[] = ['client', 'internet', 'server', 'site'];

/** Link `index`'s own address of the site. */
function siteAddress(index: number): string {
  return `203.0.113.${11 + index}`;
}

function wireBackbone(namespaces: NamespaceSet, options: LabOptions): void {
  const run = (node: LabNode, commands: readonly string[]) => namespaces.ip(node, supported(commands));
  for (const node of NODES) namespaces.sysctl(node, baseSysctls(node));
  run('internet', [
    'link add server0 type veth peer name eth0 netns @server',
    'link add site0 type veth peer name eth0 netns @site',
    'addr add 198.51.100.1/24 dev server0',
    'addr add 2001:db8:5::1/64 dev server0 nodad',
    'addr add 203.0.113.1/24 dev site0',
    'addr add 2001:db8:6::1/64 dev site0 nodad',
    'link set server0 up',
    'link set site0 up',
    ...INNER_PREFIXES.map((prefix) =>
      prefix.includes(':') ? `route add ${prefix} via ${SERVER.v6}` : `route add ${prefix} via ${SERVER.v4}`,
    ),
  ]);
  run('server', [
    `addr add ${SERVER.v4}/24 dev eth0`,
    `addr add ${SERVER.v6}/64 dev eth0 nodad`,
    'link set eth0 up',
    'route add default via 198.51.100.1',
    'route add ::/0 via 2001:db8:5::1',
  ]);
  run('site', [
    `addr add ${SITE.v4}/24 dev eth0`,
    ...options.links.map((_, i) => `addr add ${siteAddress(i)}/24 dev eth0`),
    `addr add ${SITE.v6}/64 dev eth0 nodad`,
    'link set eth0 up',
    'route add default via 203.0.113.1',
    'route add ::/0 via 2001:db8:6::1',
  ]);
}

/** A kernel without IPv6 gets a lab without it. */
const HAS_IPV6 = existsSync('/proc/sys/net/ipv6');

function supported(commands: readonly string[]): readonly string[] {
  return HAS_IPV6 ? commands : commands.filter((command) => !command.includes('::'));
}

function baseSysctls(node: LabNode): Record<string, number> {
  const sysctls: Record<string, number> = {
    'net.ipv4.ip_forward': node === 'internet' || node === 'server' ? 1 : 0,
    'net.ipv4.conf.all.rp_filter': 0,
    'net.ipv4.conf.default.rp_filter': 0,
    // The second address of a subnet outlives the first.
    'net.ipv4.conf.all.promote_secondaries': 1,
    'net.ipv4.conf.default.promote_secondaries': 1,
    'net.ipv4.tcp_no_metrics_save': 1,
  };
  if (HAS_IPV6) {
    sysctls['net.ipv6.conf.all.disable_ipv6'] = 0;
    sysctls['net.ipv6.conf.default.disable_ipv6'] = 0;
    if (node === 'internet') sysctls['net.ipv6.conf.all.forwarding'] = 1;
  }
  return sysctls;
}

async function startEmulator(namespaces: NamespaceSet, options: LabOptions): Promise<EmulatorClient> {
  const child = namespaces.spawn('internet', [process.execPath, labScript('emulator.js')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const emulator = new EmulatorClient(child);
  const links = options.links.map(
    (spec, i): EmulatedLink => ({
      name: spec.name,
      kind: spec.kind,
      clientNamespace: namespaces.fullName('client'),
      clientDevice: spec.name,
      routerNamespace: namespaces.fullName('internet'),
      routerDevice: `link${i + 1}`,
      down: toDirection(spec, 'down'),
      up: toDirection(spec, 'up'),
      seed: (options.seed ?? 1) + i,
    }),
  );
  await emulator.request({ cmd: 'open', links });
  options.links.forEach((spec, i) => {
    wireLink(namespaces, spec, i);
  });
  return emulator;
}

/** Addresses as such links have them: a subnet and a gateway on WiFi, a host address and a bare device route on cellular. */
function wireLink(namespaces: NamespaceSet, { name, kind }: LinkSpec, index: number): void {
  const n = index + 1;
  const metric = 100 * n;
  const isWifi = kind === 'wifi';
  const via4 = isWifi ? `via 192.168.${n}.1 ` : '';
  const run = (node: LabNode, commands: readonly string[]) => namespaces.ip(node, supported(commands));
  const via6 = isWifi ? `via 2001:db8:${100 + n}::1 ` : '';
  run('internet', [
    isWifi ? `addr add 192.168.${n}.1/24 dev link${n}` : `addr add 192.168.${n}.1 peer 192.168.${n}.2 dev link${n}`,
    `addr add 2001:db8:${100 + n}::1/64 dev link${n} nodad`,
    `link set link${n} up`,
  ]);
  run('client', [
    isWifi ? `addr add 192.168.${n}.2/24 dev ${name}` : `addr add 192.168.${n}.2/32 dev ${name}`,
    `addr add 2001:db8:${100 + n}::2/64 dev ${name} nodad`,
    `link set ${name} up`,
    `route add default ${via4}dev ${name} src 192.168.${n}.2 metric ${metric}`,
    `route add ${siteAddress(index)} ${via4}dev ${name} src 192.168.${n}.2`,
    `route add ::/0 ${via6}dev ${name} metric ${metric}`,
  ]);
}

/** By default the lab's own site; see site.ts for a further one. */
async function startSite(
  namespaces: NamespaceSet,
  command: readonly string[] = [process.execPath, labScript('site.js')],
): Promise<void> {
  const child = namespaces.spawn('site', command, { stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise<void>((resolve, reject) => {
    child.stdout!.once('data', () => resolve()); // it says that it listens
    child.once('exit', (code, signal) => reject(new Error(`the site ended (${signal ?? code})`)));
    child.once('error', reject);
  });
}

function toDirection(spec: LinkSpec, direction: Direction): DirectionSpec {
  return {
    rateBps: direction === 'down' ? spec.rateDownBps : spec.rateUpBps,
    delayMs: spec.delayMs,
    jitterMs: spec.jitterMs ?? 0,
    loss: spec.loss ?? 0,
    burst: spec.burst ?? null,
    queueBytes: toQueueBytes(spec, direction),
    traceFile: (direction === 'down' ? spec.traceDownFile : spec.traceUpFile) ?? null,
  };
}

function toQueueBytes(spec: LinkSpec, direction: Direction): number | null {
  if (spec.queueMs === undefined) return null;
  return Math.round(((direction === 'down' ? spec.rateDownBps : spec.rateUpBps) * spec.queueMs) / 8000);
}

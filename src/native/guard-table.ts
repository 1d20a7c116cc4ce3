/**
 * The other half of the guard (guard.ts): a host firewall that *rejects* answers before the silent listener is reached,
 * with an RST or an ICMP error, and that kills our connections. One nft table of our own drops segments to exactly our
 * ports at the ingress of our interfaces, before any such rule; packet sockets get their copy earlier still.
 *
 *   table netdev mptun_NAME { set ports {...}  chain if3 { hook ingress device "wlan0"; tcp dport @ports drop } }
 *
 * The table exists only while the host has a ruleset that could answer (followed at run time). It is deleted on exit and,
 * after a crash, at the next start.
 */
import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { NetlinkSocket } from './netlink/index.js';
import { attributeString, MessageBuilder, NLM_F_DUMP, NLM_F_REQUEST, parseAttributes } from './netlink/message.js';
import { Poller, READABLE } from './poller.js';
import { findTool } from './tool.js';

const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTABLES = 7;
const NFT_MSG_GETCHAIN = (10 << 8) | 4;
const NFTA_CHAIN_TABLE = 1;
const NFTA_CHAIN_HOOK = 4;
const NFTA_HOOK_HOOKNUM = 1;
const NFPROTO_NETDEV = 5;
/** Hooks that see packets coming in to this host: ingress; prerouting, input, ingress. */
const NETDEV_HOOKS: ReadonlySet<number> = new Set([0]);
const INET_HOOKS: ReadonlySet<number> = new Set([0, 1, 5]);

/** Before everything that people put at ingress. */
const PRIORITY = -500;
/** Changes of the host's ruleset come in bursts (a firewall reloads): look once they are over. */
const SETTLE_MS = 100;
const NFT_TIMEOUT_MS = 10_000;

export type GuardTableState =
  | 'not-needed' // nothing on this host could answer
  | 'active'
  | 'nft-missing' // a firewall may be there, and connections may break; install nftables
  | 'failed'; // nft refused: see `problem`

export class GuardTable {
  readonly table: string;
  state: GuardTableState = 'not-needed';
  /** What went wrong where `state` is 'failed' or 'nft-missing'; else ''. */
  problem = '';
  readonly #interfaces = new Map<string, number>();
  #ports: readonly number[] = [];
  #installed = '';
  /** The last update, finished or not; updates run one after the other. */
  #chain: Promise<void> = Promise.resolve();
  /** An update waits for the running one; it will see every change made until it starts. */
  #isQueued = false;
  #socket: NetlinkSocket | null = null;
  #poller: Poller | null = null;
  #settle: NodeJS.Timeout | null = null;
  #isClosed = false;

  /** `name` is the tunnel's; removes what an earlier run of that name left behind. `nft`: the program, null if missing. */
  constructor(
    name: string,
    readonly nft: string | null = findTool('nft'),
  ) {
    this.table = `mptun_${name.replace(/[^A-Za-z0-9_]/g, '_')}`;
    this.#deleteTable();
    try {
      this.#socket = new NetlinkSocket(NETLINK_NETFILTER, [NFNLGRP_NFTABLES]);
      this.#poller = new Poller(this.#socket.fd, () => this.#onRulesetEvent());
      this.#poller.watch(READABLE);
      this.#poller.setRef(false);
    } catch {
      // A kernel without nftables: only iptables can be there, and it is looked at with each change of ours.
    }
  }

  /** Interfaces that our ports are used on: name and index. */
  setInterfaces(interfaces: Iterable<{ readonly name: string; readonly index: number }>): void {
    this.#interfaces.clear();
    for (const { name, index } of interfaces) this.#interfaces.set(name, index);
    this.#update();
  }

  setPorts(ports: Iterable<number>): void {
    this.#ports = [...ports].sort((a, b) => a - b);
    this.#update();
  }

  /** Resolves when the table is as wanted (or has failed): before a first SYN, so that its answer is not rejected. */
  settled(): Promise<void> {
    return this.#chain;
  }

  /** Removes the table, synchronously: also usable in an exit handler. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#settle !== null) clearTimeout(this.#settle);
    this.#poller?.close();
    this.#socket?.close();
    if (this.#installed !== '') this.#deleteTable();
  }

  #onRulesetEvent(): void {
    let messages = this.#socket!.receive();
    while (messages === null || messages.length > 0) messages = this.#socket!.receive();
    this.#settle ??= setTimeout(() => {
      this.#settle = null;
      this.#update();
    }, SETTLE_MS);
    this.#settle.unref();
  }

  #update(): void {
    if (this.#isQueued) return;
    this.#isQueued = true;
    this.#chain = this.#chain.then(() => {
      this.#isQueued = false;
      return this.#apply();
    });
  }

  async #apply(): Promise<void> {
    if (this.#isClosed) return;
    if (hasForeignHooks(this.table) || hasLegacyTables()) {
      await this.#install(this.#render());
    } else {
      await this.#install('');
      this.#say('not-needed', '');
    }
  }

  /** Makes the table be what `script` says ('' removes it). One transaction: there is no moment without it. */
  async #install(script: string): Promise<void> {
    if (script === this.#installed) {
      if (script !== '') this.#say('active', '');
      return;
    }
    const result = await runNft(this.nft, `${this.#deletion()}${script}`);
    if (this.#isClosed) {
      // Closed while nft ran: what it has just made must go as well.
      this.#deleteTable();
    } else if (result === 'ok') {
      this.#installed = script;
      if (script !== '') this.#say('active', '');
    } else if (result === 'missing') {
      this.#say('nft-missing', 'a firewall is active here, and nft (package nftables) is not installed');
    } else {
      this.#say('failed', result.refusal);
    }
  }

  #render(): string {
    if (this.#ports.length === 0 || this.#interfaces.size === 0) return '';
    const chains = [...this.#interfaces].map(
      ([name, index]) =>
        `  chain if${index} {\n    type filter hook ingress device "${name}" priority ${PRIORITY}; policy accept;\n` +
        '    tcp dport @ports counter drop\n  }\n',
    );
    return (
      `table netdev ${this.table} {\n  set ports {\n    type inet_service;\n` +
      `    elements = { ${this.#ports.join(', ')} }\n  }\n${chains.join('')}}\n`
    );
  }

  /** Deletes the table whether or not it exists ("destroy" is too new for some hosts). */
  #deletion(): string {
    return `table netdev ${this.table} {}\ndelete table netdev ${this.table}\n`;
  }

  #deleteTable(): void {
    this.#installed = '';
    if (this.nft === null) return;
    spawnSync(this.nft, ['-f', '-'], {
      input: this.#deletion(),
      timeout: NFT_TIMEOUT_MS,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
  }

  #say(state: GuardTableState, problem: string): void {
    this.state = state;
    this.problem = problem;
  }
}

/** Runs a script of nft as one transaction. */
function runNft(nft: string | null, script: string): Promise<'ok' | 'missing' | { refusal: string }> {
  if (nft === null) return Promise.resolve('missing');
  return new Promise((resolve) => {
    const child = execFile(nft, ['-f', '-'], { timeout: NFT_TIMEOUT_MS }, (error, _stdout, stderr) => {
      if (error === null) resolve('ok');
      else resolve({ refusal: stderr.trim() || error.message });
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(script);
  });
}

/** Whether nftables has a base chain, not ours, on a hook that sees incoming packets (asked of the kernel itself). */
function hasForeignHooks(ours: string): boolean {
  let socket: NetlinkSocket;
  try {
    socket = new NetlinkSocket(NETLINK_NETFILTER);
  } catch {
    return false; // a kernel without nftables
  }
  try {
    // nfgenmsg: u8 family (0: all), u8 version, be16 resource.
    const build = () => new MessageBuilder(NFT_MSG_GETCHAIN, NLM_F_REQUEST | NLM_F_DUMP).fixed(new Uint8Array(4));
    return socket.dump(build, 'list nftables chains').some(({ body }) => {
      const chain = parseAttributes(body, 4);
      const hook = chain.get(NFTA_CHAIN_HOOK);
      if (hook === undefined || attributeString(chain.get(NFTA_CHAIN_TABLE)) === ours) return false;
      const number = parseAttributes(hook, 0).get(NFTA_HOOK_HOOKNUM)?.readUInt32BE(0);
      return number !== undefined && (body[0] === NFPROTO_NETDEV ? NETDEV_HOOKS : INET_HOOKS).has(number);
    });
  } catch {
    return false; // likewise: the subsystem is not there
  } finally {
    socket.close();
  }
}

/** Whether iptables of the old kind (x_tables) is in use. */
function hasLegacyTables(): boolean {
  return ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names'].some((path) => {
    try {
      return readFileSync(path, 'utf8').trim() !== '';
    } catch {
      return false;
    }
  });
}

/**
 * The interop matrix: a scenario is played twice in the same pair of namespaces, with a kernel and then with our stack on
 * side a, and the kernel on side b must see the same: the same bytes, and the same MPTcpExt* counters.
 *
 *   a   a1 10.1.0.1 fd01::1 ── b1 10.1.0.2 fd01::2   b
 *       a2 10.2.0.1 fd02::1 ── b2 10.2.0.2 fd02::2
 *       a3 10.3.0.1 fd03::1 ── b3 10.3.0.2 fd03::2
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { TestNamespace } from './netns.js';
import { eventually, KernelParty, LINKS, OurParty, type Party, type PartyOptions } from './party.js';

const SOURCE = fileURLToPath(new URL('../../../tests/support/kernel-peer.c', import.meta.url));
/** Labs of one test file: scenarios played at the same time. */
const LABS = 3;
const FIRST_PORT = 5000;

/** Counters of timing and memory, not of protocol: two runs between kernels differ in them as well. */
const TIMING = /OFO|Wnd|DuplicateData|MPTCPRetrans|SubflowStale|SubflowRecover|MPCurrEstab|WinProbe|NoDSSInWindow/;

/** Of all addresses; mixed: 4 on the first link, 6 on the others. */
export type Family = 4 | 6 | 'mixed';

export interface Scenario {
  /** What side a is. */
  readonly role: 'client' | 'server';
  readonly family: Family;
  readonly a?: PartyOptions;
  readonly b?: PartyOptions;
  /** Counters of side b that come out otherwise with us than with a kernel: the value with us. Each use says why. */
  readonly but?: Readonly<Record<string, number>>;
  /** Counters that depend on which side was quicker, besides those of TIMING. */
  readonly loose?: RegExp;
  /** No kernel can play side a: `but` is then all that is not zero. */
  readonly isOursOnly?: boolean;
}

/** What a scenario's body works with. */
export interface Play {
  readonly t: ExecutionContext;
  readonly a: Party;
  readonly b: KernelParty;
  readonly client: Party;
  readonly server: Party;
  /** Side a when it is our stack, else null. */
  readonly ours: OurParty | null;
  readonly lab: MatrixLab;
  readonly port: number;
  /** Addresses by link number, of the scenario's families. */
  addressOf(party: Party, link: number): string;
  /** Both sides have so many subflows. */
  subflows(count: number): Promise<void>;
  /** Both send so many bytes, and have what the other sent. */
  exchange(bytes: number): Promise<void>;
  /** Waits until an MPTcpExt counter of that side is at least so high. */
  reaches(party: Party, name: string, value: number): Promise<void>;
}

export class MatrixLab {
  readonly a = new TestNamespace('ip-a');
  readonly b = new TestNamespace('ip-b');
  private nextPort = FIRST_PORT;

  /** `directory`: of this lab alone, for control sockets. */
  constructor(
    readonly program: string,
    readonly directory: string,
  ) {
    for (const i of LINKS) this.a.veth(`a${i}`, this.b, `b${i}`);
    for (const [ns, side, own, other] of [
      [this.a, 'a', 1, 2],
      [this.b, 'b', 2, 1],
    ] as const) {
      const script = [
        'sysctl -qw net.ipv4.conf.all.rp_filter=0 net.mptcp.add_addr_timeout=1',
        // On a busy machine our side may be silent for seconds: that is no reason to go without MPTCP.
        'sysctl -qw net.mptcp.syn_retrans_before_tcp_fallback=20 net.mptcp.blackhole_timeout=0',
      ];
      for (const i of LINKS) {
        const dev = `${side}${i}`;
        script.push(
          `sysctl -qw net.ipv4.conf.${dev}.rp_filter=0`,
          `ip addr add 10.${i}.0.${own}/24 dev ${dev}`,
          `ip addr add fd0${i}::${own}/64 dev ${dev}`,
          // A join that is bound to its link finds the other side's further addresses there.
          `ip -4 route add default via 10.${i}.0.${other} dev ${dev} metric ${2000 + i}`,
          `ip -6 route add default via fd0${i}::${other} dev ${dev} metric ${2000 + i}`,
        );
      }
      ns.run('sh', '-ec', script.join('\n'));
    }
  }

  /** nft rules in the kernel's namespace, in place of earlier ones; each is a chain's hook and what it does. */
  filter(...rules: readonly (readonly ['input' | 'output', string])[]): void {
    const chains = rules.map(([hook, rule]) => `chain ${hook} {\ntype filter hook ${hook} priority 0\n${rule}\n}\n`);
    this.b.run('nft', `flush ruleset\ntable inet matrix {\n${chains.join('')}}\n`);
  }

  takePort(): number {
    return this.nextPort++;
  }

  close(): void {
    this.a.close();
    this.b.close();
  }
}

/** Labs are made when first needed and shared by the file's tests, `LABS` at a time. */
class Pool {
  private readonly idle: MatrixLab[] = [];
  private readonly waiting: ((lab: MatrixLab) => void)[] = [];
  private made = 0;
  private program: string | null = null;
  private readonly directory = mkdtempSync(join(tmpdir(), 'mptun-matrix-'));

  async use<T>(body: (lab: MatrixLab) => Promise<T>): Promise<T> {
    const lab = await this.take();
    try {
      return await body(lab);
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.idle.push(lab);
      else next(lab);
    }
  }

  private take(): Promise<MatrixLab> | MatrixLab {
    const lab = this.idle.pop();
    if (lab !== undefined) return lab;
    if (this.made < LABS) {
      this.made++;
      return new MatrixLab((this.program ??= this.compile()), mkdtempSync(join(this.directory, 'lab-')));
    }
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  private compile(): string {
    const program = join(this.directory, 'kernel-peer');
    execFileSync('cc', ['-O2', '-o', program, SOURCE]);
    return program;
  }

  close(): void {
    for (const lab of this.idle) lab.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

const pool = new Pool();
process.once('exit', () => pool.close());

/** What the kernel counts with a kernel; the same for every family, and played with the first that asks. */
interface Reference {
  counters: Promise<Record<string, number>> | null;
}

/** Registers a scenario as a test. */
export function scenario(
  title: string,
  what: Scenario,
  body: (play: Play) => Promise<void>,
  reference: Reference = { counters: null },
): void {
  test(title, async (t) => {
    const isNeeded = what.isOursOnly !== true;
    if (isNeeded) reference.counters ??= pool.use((lab) => play(t, lab, what, 'kernel', body));
    const expected = { ...(await reference.counters), ...what.but };
    const seen = await pool.use((lab) => play(t, lab, what, 'ours', body));
    t.deepEqual(seen, withoutZeros(expected), "the kernel's counters with us, and with a kernel");
  });
}

/** The same in the families and in both roles, or in the one that it names. */
export function scenarios(
  title: string,
  what: Omit<Scenario, 'role' | 'family'> & { readonly role?: Scenario['role'] },
  body: (play: Play) => Promise<void>,
  families: readonly Family[] = [4, 6],
): void {
  const references = { client: { counters: null }, server: { counters: null } };
  for (const family of families) {
    for (const role of what.role === undefined ? (['client', 'server'] as const) : [what.role]) {
      const name = family === 'mixed' ? 'IPv4 and IPv6' : `IPv${family}`;
      scenario(`${title}; we are the ${role}, ${name}`, { ...what, role, family }, body, references[role]);
    }
  }
}

/** Plays it once; the counters of side b. */
async function play(
  t: ExecutionContext,
  lab: MatrixLab,
  what: Scenario,
  with_: 'kernel' | 'ours',
  body: (play: Play) => Promise<void>,
): Promise<Record<string, number>> {
  const port = lab.takePort();
  const ours = with_ === 'ours' ? new OurParty(lab.a, join(lab.directory, String(port)), what.a) : null;
  const a = ours ?? new KernelParty('a', lab.a, lab.program, what.a);
  const b = new KernelParty('b', lab.b, lab.program, what.b);
  const before = await b.counters();
  const addressOf = (party: Party, link: number) => address(familyOf(what.family, link), party.side, link);
  let exchanged = 0;
  try {
    const [client, server] = what.role === 'client' ? [a, b] : [b, a];
    await server.listen(port);
    await client.connect(addressOf(client, 1), addressOf(server, 1), port);
    await eventually(async () => (await client.stat()).open, 'the client is connected');
    const it: Play = {
      t,
      a,
      b,
      client,
      server,
      ours,
      lab,
      port,
      addressOf,
      subflows: (count) =>
        eventually(async () => {
          const [atA, atB] = [await a.stat(), await b.stat()];
          return atA.subflows === count && atB.subflows === count;
        }, `${count} subflows`),
      exchange: async (bytes) => {
        exchanged += bytes;
        a.send(bytes);
        b.send(bytes);
        for (const party of [a, b]) {
          await eventually(
            async () => (await party.stat()).received >= exchanged,
            `${party.side} has ${exchanged} bytes`,
          );
          const { received, mismatch } = await party.stat();
          t.deepEqual(
            { received, mismatch },
            { received: exchanged, mismatch: -1 },
            `with ${with_}: what ${party.side} got`,
          );
        }
      },
      reaches: (party, name, value) =>
        eventually(async () => (await party.counter(name)) >= value, `${name} at ${party.side} is ${value}`),
    };
    await body(it);
    await Promise.all([a.ended(), b.ended()]);
    await eventually(async () => ((await b.counters()).MPCurrEstab ?? 0) === 0, 'the kernel has no connection left');
    const after = await b.counters();
    const diff = Object.entries(after).map(([name, n]) => [name, n - (before[name] ?? 0)] as const);
    return withoutZeros(
      Object.fromEntries(diff.filter(([name]) => !TIMING.test(name) && what.loose?.test(name) !== true)),
    );
  } catch (error) {
    const seen = Object.entries(await b.counters()).filter(([name, n]) => n !== (before[name] ?? 0));
    t.log(`with ${with_}:`, Object.fromEntries(seen), ours === null ? '' : [ours.stderr, ours.events.slice(-20)]);
    throw error;
  } finally {
    a.close();
    b.close();
    lab.filter();
  }
}

function familyOf(family: Family, link: number): 4 | 6 {
  return family !== 'mixed' ? family : link === 1 ? 4 : 6;
}

export function address(family: 4 | 6, side: 'a' | 'b', link: number): string {
  const host = side === 'a' ? 1 : 2;
  return family === 4 ? `10.${link}.0.${host}` : `fd0${link}::${host}`;
}

function withoutZeros(counters: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counters).filter(([, n]) => n !== 0));
}

/** Both sides say at the same time that they end. */
export function closeBoth({ a, b }: Play): void {
  a.end();
  b.end();
}

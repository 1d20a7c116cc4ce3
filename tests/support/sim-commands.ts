/**
 * Sequences of commands on one connection over two bad links (lossy, duplicating, reordering, resegmenting), against a model:
 * two streams, of which each end reads exactly what the other wrote. Drawn from a seed, which is the whole of a case.
 */
import { parseIp } from '../../src/core/base/ip.js';
import type { Micros } from '../../src/core/base/time.js';
import type { ByteReader, ConnectionApi } from '../../src/core/engine/api.js';
import { Engine } from '../../src/core/engine/engine.js';
import { MAX_SUBFLOWS } from '../../src/core/mptcp/joining.js';
import type { Host } from '../../src/sim/host.js';
import type { Middlebox } from '../../src/sim/middlebox.js';
import { Duplicator, Reorderer, Splitter } from '../../src/sim/middleboxes/index.js';
import { Network, type Wire } from '../../src/sim/network.js';
import { Prng } from '../../src/sim/prng.js';
import { SegmentWatch } from './segment-watch.js';

const MS = 1000;
const S = 1_000_000;
const LINKS = [0, 1] as const;
const SERVER = parseIp('10.9.0.1');
const LOCAL = [parseIp('10.0.1.1'), parseIp('10.0.2.1')] as const;
const SIDES = ['client', 'server'] as const;
type Side = (typeof SIDES)[number];

/** Indices are taken modulo what there is. */
export type Command =
  | { readonly what: 'write'; readonly side: Side; readonly bytes: number }
  /** From now on the side reads so many bytes more, and then stops; Infinity: all. */
  | { readonly what: 'read'; readonly side: Side; readonly bytes: number }
  | { readonly what: 'end' | 'fastclose'; readonly side: Side }
  | { readonly what: 'join'; readonly link: number }
  | { readonly what: 'close'; readonly side: Side; readonly index: number; readonly how: 'fin' | 'reset' }
  | { readonly what: 'backup'; readonly side: Side; readonly index: number; readonly isBackup: boolean }
  | { readonly what: 'link'; readonly link: number; readonly isUp: boolean }
  | { readonly what: 'silence'; readonly link: number; readonly isSilent: boolean }
  | { readonly what: 'wait'; readonly us: Micros };

export interface Case {
  readonly seed: number;
  readonly receiveBufferBytes: number;
  /** 0: every byte of the window can be said. */
  readonly windowScale: number;
  readonly congestion: string;
  readonly scheduler: string;
  readonly checksum: boolean;
  readonly mptcp: boolean;
  readonly paths: readonly {
    readonly delayUs: Micros;
    readonly rateBps: number;
    readonly lossRate: number;
    readonly duplicate: number;
    readonly reorder: number;
    readonly splitBytes: number;
  }[];
  readonly commands: readonly Command[];
}

export interface Played {
  /** What was wrong; empty: nothing. */
  readonly broken: readonly string[];
  readonly segments: number;
  /** Hash over every segment: two runs of a case are the same run. */
  readonly trace: number;
  readonly ended: string;
}

export function drawCase(seed: number): Case {
  const luck = new Prng(seed).fork(7);
  const pick = <T>(...choices: readonly T[]): T => choices[luck.below(choices.length)]!;
  const mptcp = luck.chance(0.9);
  return {
    seed,
    ...pick(
      { receiveBufferBytes: 16_384, windowScale: 0 },
      { receiveBufferBytes: 65_535, windowScale: 0 },
      { receiveBufferBytes: 65_536, windowScale: 8 },
      { receiveBufferBytes: 262_144, windowScale: 8 },
    ),
    congestion: pick('bbr', 'cubic', 'reno', 'lia', 'olia', 'balia'),
    scheduler: pick('adaptive', 'min-rtt', 'round-robin', 'blest', 'ecf', 'redundant'),
    checksum: luck.chance(0.3),
    mptcp,
    paths: LINKS.map(() => ({
      delayUs: pick(500, 5 * MS, 40 * MS),
      rateBps: pick(2e6, 2e7, 2e8),
      lossRate: pick(0, 0.005, 0.03),
      duplicate: pick(0, 0, 0.02),
      reorder: pick(0, 0, 0.02),
      splitBytes: pick(0, 0, 300, 1000),
    })),
    commands: Array.from({ length: 4 + luck.below(24) }, () => drawCommand(luck, pick)),
  };
}

function drawCommand(luck: Prng, pick: <T>(...choices: readonly T[]) => T): Command {
  const side = pick(...SIDES);
  const link = luck.below(LINKS.length);
  const kind = luck.below(100);
  if (kind < 28) return { what: 'write', side, bytes: pick(1, 500, 1428, 20_000, 200_000) };
  if (kind < 38) return { what: 'read', side, bytes: pick(0, 1, 1000, 50_000, Number.POSITIVE_INFINITY) };
  if (kind < 62) return { what: 'wait', us: pick(1, MS, 20 * MS, 300 * MS, 3 * S) };
  if (kind < 72) return { what: 'join', link };
  if (kind < 78) return { what: 'close', side, index: luck.below(4), how: pick('fin', 'reset') };
  if (kind < 84) return { what: 'backup', side, index: luck.below(4), isBackup: luck.chance(0.5) };
  if (kind < 90) return { what: 'link', link, isUp: luck.chance(0.5) };
  if (kind < 95) return { what: 'silence', link, isSilent: luck.chance(0.5) };
  if (kind < 99) return { what: 'end', side };
  return { what: 'fastclose', side };
}

export function playCase(c: Case): Played {
  return new Play(c).run();
}

/** One end: what it writes is a stream of its own, what it reads must be that of the other. */
class End implements ByteReader {
  connection: ConnectionApi | null = null;
  closedBecause = '';
  written = 0;
  read = 0;
  budget = Number.POSITIVE_INFINITY;
  hasEnded = false;
  sawEnd = false;
  mismatch = -1;

  constructor(
    readonly host: Host,
    private readonly own: number,
    private readonly theirs: number,
  ) {}

  write(nowUs: Micros, count: number): void {
    if (this.hasEnded || this.connection === null) return;
    const bytes = new Uint8Array(count);
    for (let i = 0; i < count; i++) bytes[i] = streamByte(this.own, this.written + i);
    this.written += count;
    this.connection.write(nowUs, bytes);
  }

  onBytes(buf: Uint8Array, offset: number, lengthBytes: number): number {
    const count = Math.min(lengthBytes, this.budget);
    for (let i = 0; i < count && this.mismatch < 0; i++)
      if (buf[offset + i] !== streamByte(this.theirs, this.read + i)) this.mismatch = this.read + i;
    this.read += count;
    this.budget -= count;
    return count;
  }

  onEnd(): void {
    this.sawEnd = true;
  }
}

function streamByte(seed: number, at: number): number {
  return Math.imul((at ^ (at >>> 9)) + seed, 0x9e3779b1) >>> 24;
}

class Play {
  private readonly network: Network;
  private readonly ends: Record<Side, End>;
  private readonly wires: Wire[];
  private readonly watch: SegmentWatch;
  private readonly broken = new Set<string>();
  private isAborted = false;

  constructor(private readonly c: Case) {
    const network = new Network(c.seed);
    this.network = network;
    const { receiveBufferBytes, windowScale, congestion, scheduler, checksum } = c;
    const config = { receiveBufferBytes, windowScale, congestion, scheduler, checksum };
    const client = network.addHost({ name: 'client' }, (env) => new Engine(env, config));
    const server = network.addHost({ name: 'server' }, (env) => new Engine(env, config));
    this.ends = { client: new End(client, 11, 22), server: new End(server, 22, 11) };
    server.addLink({ id: 0, name: 'eth0', mtuBytes: 1500, addresses: [SERVER], isUp: true });
    for (const i of LINKS)
      client.addLink({ id: i, name: `link${i}`, mtuBytes: 1500, addresses: [LOCAL[i]], isUp: true });
    this.wires = c.paths.map((path, i) => {
      const link = { delayUs: path.delayUs, rateBps: path.rateBps, lossRate: path.lossRate, queueBytes: 100_000 };
      const boxes: Middlebox[] = [];
      if (path.duplicate > 0) boxes.push(new Duplicator(path.duplicate, c.seed + i));
      if (path.reorder > 0) boxes.push(new Reorderer(path.reorder, 20 * MS, c.seed + i));
      if (path.splitBytes > 0) boxes.push(new Splitter(path.splitBytes));
      const ends = { left: client, leftLinkId: i, right: server, rightLinkId: 0 };
      return network.connect({ name: `link${i}`, ...ends, up: link, down: link, middleboxes: boxes });
    });
    for (const side of SIDES) {
      const end = this.ends[side];
      end.host.onEvent = (_nowUs, event) => {
        if (event.type === 'connection-closed' && event.connectionId === end.connection?.id)
          end.closedBecause = event.why;
      };
    }
    this.watch = new SegmentWatch(c.mptcp, (what) => this.broken.add(what));
    network.tap = (_nowUs, host, _linkId, isSent, packet) => {
      if (isSent) this.watch.onSegment(host.name, packet);
    };
  }

  run(): Played {
    this.open();
    for (const command of this.c.commands) {
      this.apply(command);
      this.check();
    }
    this.finish();
    this.compare();
    const { client, server } = this.ends;
    return {
      broken: [...this.broken],
      segments: this.watch.segments,
      trace: this.watch.hash,
      ended: `${client.closedBecause} / ${server.closedBecause}`,
    };
  }

  private open(): void {
    const { client, server } = this.ends;
    const { network } = this;
    server.host.engine.listen({
      port: 5000,
      mptcp: this.c.mptcp,
      onAccept: (connection) => {
        server.connection = connection;
        connection.setReader(server);
      },
    });
    client.connection = client.host.engine.connect(0, {
      linkId: 0,
      localAddress: LOCAL[0],
      localPort: 40_000,
      remote: { address: SERVER, port: 5000 },
      mptcp: this.c.mptcp,
    });
    client.connection.setReader(client);
    client.write(0, 1);
    client.host.poke();
    // Until the client has a DATA_ACK it may not join (RFC 8684 3.1), and would be lost without its first subflow.
    const isOpen = () => server.read > 0 && client.connection!.unackedBytes === 0;
    network.run(60 * S, isOpen);
    if (!isOpen()) this.broken.add('not open within a minute');
  }

  private apply(command: Command): void {
    const { nowUs } = this.network;
    if (command.what === 'wait') {
      this.network.run(nowUs + command.us);
      return;
    }
    if (command.what === 'link') {
      this.setLink(command.link, command.isUp);
      return;
    }
    if (command.what === 'silence') {
      this.wires[command.link]!.setState(command.isSilent ? 'blackhole' : 'up');
      return;
    }
    const end = this.ends[command.what === 'join' ? 'client' : command.side];
    const { connection } = end;
    if (connection === null || connection.state === 'closed') return;
    const subflows = connection.info().subflows;
    switch (command.what) {
      case 'write':
        end.write(nowUs, command.bytes);
        break;
      case 'read':
        end.budget = command.bytes;
        connection.resume(nowUs);
        break;
      case 'end':
        end.hasEnded = true;
        connection.end(nowUs);
        break;
      case 'fastclose':
        this.isAborted = true;
        connection.abort(nowUs);
        break;
      case 'join':
        this.join(command.link);
        break;
      case 'close':
        if (!connection.isMptcp || subflows.length === 0) break;
        connection.closeSubflow(nowUs, subflows[command.index % subflows.length]!.id, command.how);
        break;
      case 'backup':
        if (subflows.length === 0) break;
        connection.setBackup(nowUs, subflows[command.index % subflows.length]!.id, command.isBackup);
        break;
    }
    end.host.poke();
  }

  private setLink(link: number, isUp: boolean): void {
    this.wires[link]!.setState(isUp ? 'up' : 'down');
    this.ends.client.host.updateLink(link, { isUp });
  }

  private join(link: number): void {
    const { connection, host } = this.ends.client;
    if (connection === null) return;
    const remote = { address: SERVER, port: 5000 };
    connection.join(this.network.nowUs, { linkId: link, localAddress: LOCAL[link]!, remote });
    host.poke();
  }

  /** All links are good again, everybody reads and ends: it must come to an orderly end. */
  private finish(): void {
    const { client, server } = this.ends;
    for (const i of LINKS) {
      this.wires[i]!.setState('up');
      this.setLink(i, true);
    }
    for (const side of SIDES) {
      const end = this.ends[side];
      if (end.connection === null) continue;
      end.budget = Number.POSITIVE_INFINITY;
      end.connection.resume(this.network.nowUs);
      end.hasEnded = true;
      end.connection.end(this.network.nowUs);
      // Whoever missed the RST of the only subflow, and has nothing to say, would wait for ever (RFC 9293 3.8.4).
      end.connection.setKeepAlive(this.network.nowUs, KEEP_ALIVE_US);
      end.host.poke();
    }
    const isOver = () => client.closedBecause !== '' && server.closedBecause !== '';
    for (let second = 0; second < FINISH_S && !isOver(); second++) {
      const alive = client
        .connection!.info()
        .subflows.filter((s) => s.state === 'established' || s.state === 'syn-sent');
      if (alive.length === 0 && this.c.mptcp && !this.isAborted) for (const i of LINKS) this.join(i);
      this.network.run(this.network.nowUs + S, isOver);
      this.check();
    }
  }

  private compare(): void {
    const { client, server } = this.ends;
    const must = (isSo: boolean, what: string) => {
      if (!isSo) this.broken.add(what);
    };
    for (const [reader, writer] of [
      [client, server],
      [server, client],
    ] as const) {
      const name = `the ${reader.host.name}`;
      must(reader.mismatch < 0, `${name} read a wrong byte at ${reader.mismatch}`);
      must(reader.read <= writer.written, `${name} read more than was written`);
      if (this.isAborted) continue;
      must(reader.read === writer.written, `${name} read ${reader.read} of ${writer.written} bytes`);
      must(reader.sawEnd, `${name} saw no end`);
      must(reader.closedBecause === 'done', `${name} ended: ${reader.closedBecause || 'not at all'}`);
    }
    if (this.isAborted)
      must(client.closedBecause !== '' && server.closedBecause !== '', 'an aborted connection goes on');
  }

  /** Bounds of memory, at any time. */
  private check(): void {
    for (const side of SIDES) {
      const { connection, host } = this.ends[side];
      if (connection === null) continue;
      const info = connection.info();
      const bound = 2 * this.c.receiveBufferBytes;
      if (info.receiveQueueBytes > bound) this.broken.add(`${side}: ${info.receiveQueueBytes} bytes unread`);
      if (info.outOfOrderBytes > bound) this.broken.add(`${side}: ${info.outOfOrderBytes} bytes out of order`);
      if (info.subflows.length > MAX_SUBFLOWS) this.broken.add(`${side}: ${info.subflows.length} subflows`);
      const { deadline_in_the_past: late = 0 } = host.engine.counters();
      if (late > 0) this.broken.add(`${side}: ${late} deadlines in the past`);
    }
  }
}

/** Two minutes until a subflow is given up that the other end has forgotten, and five until a connection without any is. */
const FINISH_S = 900;
const KEEP_ALIVE_US = 60 * S;

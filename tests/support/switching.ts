/**
 * Connections through middleboxes that change their ways while it lasts: options pass for a while, are stripped one way or both,
 * on data or on acknowledgments, segments are glued together or cut, and back. Drawn from a seed, which is the whole of a case.
 */
import { parseIp } from '../../src/core/base/ip.js';
import { type Micros, NEVER } from '../../src/core/base/time.js';
import type { ByteReader, ConnectionApi } from '../../src/core/engine/api.js';
import { Engine } from '../../src/core/engine/engine.js';
import type { Host } from '../../src/sim/host.js';
import type { Heading, Middlebox, MiddleboxOut } from '../../src/sim/middlebox.js';
import type { SegmentClass } from '../../src/sim/middleboxes/flows.js';
import { Coalescer, OptionFilter, Splitter } from '../../src/sim/middleboxes/index.js';
import { Network } from '../../src/sim/network.js';
import type { SimPacket } from '../../src/sim/packet.js';
import { Prng } from '../../src/sim/prng.js';

const MS = 1000;
const S = 1_000_000;
const SERVER = parseIp('10.9.0.1');
const LOCAL = [parseIp('10.0.1.1'), parseIp('10.0.2.1')] as const;
const PORT = 5000;
const SIDES = ['client', 'server'] as const;
type Side = (typeof SIDES)[number];
/** The longest that a connection without any subflow is kept is 300 s, and 120 s go before a subflow is given up. */
const LIMIT_US = 1200 * S;
const JOIN_EVERY_US = 20 * MS;

type Doing =
  | { readonly what: 'nothing' }
  | {
      readonly what: 'strip';
      readonly action: 'blank' | 'remove';
      readonly heading: Heading | null;
      readonly on: readonly SegmentClass[] | null;
    }
  | { readonly what: 'glue' | 'cut' };

export interface Phase {
  readonly fromUs: Micros;
  readonly doing: Doing;
}

export interface SwitchingCase {
  readonly seed: number;
  readonly checksum: readonly [client: boolean, server: boolean];
  readonly receiveBufferBytes: number;
  /** Of each path. */
  readonly paths: readonly {
    readonly delayUs: Micros;
    readonly rateBps: number;
    readonly lossRate: number;
    readonly phases: readonly Phase[];
  }[];
  readonly writes: readonly { readonly side: Side; readonly atUs: Micros; readonly bytes: number }[];
  readonly ends: Readonly<Record<Side, Micros>>;
}

export interface Switched {
  /** What must never be; empty: nothing. */
  readonly wrong: readonly string[];
  /** How each side's connection ended. */
  readonly ended: Readonly<Record<Side, string>>;
  readonly fallbacks: Readonly<Record<Side, string | null>>;
  readonly isWhole: boolean;
}

export function drawSwitching(seed: number): SwitchingCase {
  const luck = new Prng(seed).fork(11);
  const pick = <T>(...choices: readonly T[]): T => choices[luck.below(choices.length)]!;
  const doing = (): Doing => {
    const kind = luck.below(10);
    if (kind < 3) return { what: 'nothing' };
    if (kind < 9) {
      const on = pick<readonly SegmentClass[] | null>(
        null,
        ['data'],
        ['ack'],
        ['third', 'data', 'ack', 'rst'],
        ['third'],
      );
      return {
        what: 'strip',
        action: pick('blank', 'remove'),
        heading: pick<Heading | null>(null, 'right', 'left'),
        on,
      };
    }
    return { what: pick('glue', 'cut') };
  };
  const phases = () => {
    const list: Phase[] = [{ fromUs: 0, doing: luck.chance(0.6) ? { what: 'nothing' } : doing() }];
    for (let atUs = 0; list.length < 2 + luck.below(4); ) {
      atUs += pick(1, 5, 20, 60, 200, 1000) * MS + luck.below(5 * MS);
      list.push({ fromUs: atUs, doing: doing() });
    }
    return list;
  };
  const spanUs = pick(20 * MS, 300 * MS, 2 * S);
  return {
    seed,
    checksum: [luck.chance(0.3), luck.chance(0.3)],
    receiveBufferBytes: pick(16_384, 65_536, 1 << 20),
    paths: Array.from({ length: pick(1, 1, 2) }, () => ({
      delayUs: pick(500, 5 * MS, 20 * MS),
      rateBps: pick(2e6, 2e7),
      lossRate: pick(0, 0, 0.01),
      phases: phases(),
    })),
    writes: Array.from({ length: 1 + luck.below(8) }, () => ({
      side: pick(...SIDES),
      atUs: luck.chance(0.3) ? 0 : luck.below(spanUs),
      bytes: pick(1, 700, 1428, 5000, 40_000, 200_000),
    })),
    ends: { client: luck.below(2 * spanUs), server: luck.below(2 * spanUs) },
  };
}

/** A box that does one thing after the other. */
class Switching implements Middlebox {
  readonly name = 'switching';
  private readonly boxes: readonly (readonly [Micros, Middlebox | null])[];

  constructor(phases: readonly Phase[]) {
    this.boxes = phases.map(({ fromUs, doing }) => [fromUs, boxOf(doing)]);
  }

  process(nowUs: Micros, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    let box: Middlebox | null = null;
    for (const [fromUs, b] of this.boxes) if (fromUs <= nowUs) box = b;
    if (box === null) out.forward(packet, heading);
    else box.process(nowUs, heading, packet, out);
  }

  nextDeadline(): Micros {
    return Math.min(...this.boxes.map(([, box]) => box?.nextDeadline?.() ?? NEVER));
  }

  onTimer(nowUs: Micros, out: MiddleboxOut): void {
    for (const [, box] of this.boxes) if ((box?.nextDeadline?.() ?? NEVER) <= nowUs) box!.onTimer!(nowUs, out);
  }
}

function boxOf(doing: Doing): Middlebox | null {
  switch (doing.what) {
    case 'nothing':
      return null;
    case 'strip':
      return new OptionFilter({
        action: doing.action,
        ...(doing.heading === null ? {} : { heading: doing.heading }),
        ...(doing.on === null ? {} : { on: doing.on }),
      });
    case 'glue':
      return new Coalescer(4000, 500);
    case 'cut':
      return new Splitter(400, 'first');
  }
}

class End implements ByteReader {
  connection: ConnectionApi | null = null;
  closedBecause = '';
  fallback: string | null = null;
  written = 0;
  read = 0;
  mismatch = -1;
  sawEnd = false;
  hasEnded = false;
  /** Bytes after the end. */
  isLate = false;

  constructor(
    readonly host: Host,
    private readonly own: number,
    private readonly theirs: number,
  ) {}

  write(nowUs: Micros, count: number): void {
    if (this.connection === null || this.hasEnded || this.closedBecause !== '') return;
    const bytes = new Uint8Array(count);
    for (let i = 0; i < count; i++) bytes[i] = streamByte(this.own, this.written + i);
    this.written += count;
    this.connection.write(nowUs, bytes);
    this.host.poke();
  }

  end(nowUs: Micros): void {
    if (this.hasEnded || this.connection === null) return;
    this.hasEnded = true;
    this.connection.end(nowUs);
    this.host.poke();
  }

  onBytes(buf: Uint8Array, offset: number, lengthBytes: number): number {
    if (this.sawEnd) this.isLate = true;
    for (let i = 0; i < lengthBytes && this.mismatch < 0; i++)
      if (buf[offset + i] !== streamByte(this.theirs, this.read + i)) this.mismatch = this.read + i;
    this.read += lengthBytes;
    return lengthBytes;
  }

  onEnd(): void {
    this.sawEnd = true;
  }
}

function streamByte(seed: number, at: number): number {
  return Math.imul((at ^ (at >>> 9)) + seed, 0x9e3779b1) >>> 24;
}

/** Plays a case to its end. */
export function playSwitching(c: SwitchingCase): Switched {
  const network = new Network(c.seed);
  const { receiveBufferBytes } = c;
  const client = network.addHost({ name: 'client' }, (env) => new Engine(env, { receiveBufferBytes }));
  const server = network.addHost({ name: 'server' }, (env) => new Engine(env, { receiveBufferBytes }));
  const ends: Record<Side, End> = { client: new End(client, 11, 22), server: new End(server, 22, 11) };
  server.addLink({ id: 0, name: 'eth0', mtuBytes: 1500, addresses: [SERVER], isUp: true });
  for (const [i, { delayUs, rateBps, lossRate, phases }] of c.paths.entries()) {
    client.addLink({ id: i, name: `p${i}`, mtuBytes: 1500, addresses: [LOCAL[i]!], isUp: true });
    const link = { delayUs, rateBps, lossRate, queueBytes: 200_000, mtuBytes: 9000 };
    const between = { left: client, leftLinkId: i, right: server, rightLinkId: 0, leftPortBytes: null };
    network.connect({ name: `p${i}`, ...between, up: link, down: link, middleboxes: [new Switching(phases)] });
  }
  const wrong = new Set<string>();
  for (const side of SIDES) {
    const end = ends[side];
    end.host.onEvent = (_nowUs, event) => {
      if (event.type === 'connection-closed') end.closedBecause ||= event.why;
      if (event.type === 'fallback') end.fallback = event.why;
    };
  }
  // What was to be written before the server knew of the connection goes out when it does.
  const early: (() => void)[] = [];
  server.engine.listen({
    port: PORT,
    checksum: c.checksum[1],
    onAccept: (connection) => {
      if (ends.server.connection !== null) return;
      ends.server.connection = connection;
      connection.setReader(ends.server);
      for (const act of early.splice(0)) act();
    },
  });
  const remote = { address: SERVER, port: PORT };
  const ours = client.engine.connect(0, {
    linkId: 0,
    localAddress: LOCAL[0],
    localPort: 40_000,
    remote,
    checksum: c.checksum[0],
  });
  ends.client.connection = ours;
  ours.setReader(ends.client);
  client.poke();
  const act = (side: Side, what: () => void) => {
    if (ends[side].connection === null) early.push(what);
    else what();
  };
  for (const { side, atUs, bytes } of c.writes) {
    network.at(atUs, () => act(side, () => ends[side].write(network.nowUs, bytes)));
  }
  for (const side of SIDES) network.at(c.ends[side], () => act(side, () => ends[side].end(network.nowUs)));
  const isOver = () => SIDES.every((side) => ends[side].closedBecause !== '' || ends[side].connection === null);
  const join = () => {
    if (isOver() || !ours.isMptcp) return;
    const options = { linkId: 1, localAddress: LOCAL[1], remote };
    if (ours.info().subflows.some((sf) => sf.linkId === 1) || ours.join(network.nowUs, options) >= 0) client.poke();
    if (network.nowUs < 10 * S) network.at(network.nowUs + JOIN_EVERY_US, join);
  };
  if (c.paths.length === 2) network.at(JOIN_EVERY_US, join);
  network.run(LIMIT_US, () => network.nowUs > c.ends.client && network.nowUs > c.ends.server && isOver());

  const whole = (reader: End, writer: End) => reader.read === writer.written && reader.sawEnd;
  for (const [reader, writer] of [
    [ends.client, ends.server],
    [ends.server, ends.client],
  ] as const) {
    const name = `the ${reader.host.name}`;
    if (reader.mismatch >= 0) wrong.add(`${name} read a wrong byte at ${reader.mismatch} of ${writer.written}`);
    if (reader.read > writer.written) wrong.add(`${name} read ${reader.read} of ${writer.written} bytes`);
    if (reader.sawEnd && reader.read < writer.written)
      wrong.add(`${name} saw an end after ${reader.read} of ${writer.written} bytes`);
    if (reader.sawEnd && !writer.hasEnded) wrong.add(`${name} saw an end that was not said`);
    if (reader.isLate) wrong.add(`${name} read on after the end`);
    if (reader.closedBecause === 'done' && !whole(reader, writer)) wrong.add(`${name} is done without all`);
    if (reader.connection !== null && reader.closedBecause === '') wrong.add(`${name} never ends`);
  }
  return {
    wrong: [...wrong],
    ended: { client: ends.client.closedBecause, server: ends.server.closedBecause },
    fallbacks: { client: ends.client.fallback, server: ends.server.fallback },
    isWhole: whole(ends.client, ends.server) && whole(ends.server, ends.client),
  };
}

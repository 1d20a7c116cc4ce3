/** Plays a middlebox case in the simulator: two of our engines, each sending a stream to the other and ending. */
import { parseIp } from '../../src/core/base/ip.js';
import type { ConnectionApi, ConnectionInfo, EngineEvent } from '../../src/core/engine/api.js';
import { Engine } from '../../src/core/engine/engine.js';
import { Network } from '../../src/sim/network.js';
import { byteStream } from './byte-stream.js';
import { BYTES, type MiddleboxCase, type PathAddresses } from './middlebox-cases.js';

const SERVER = '10.9.0.1';
const PORT = 5000;
/** Jumbo frames pass: boxes may glue segments together. */
const LINK = { rateBps: 50_000_000, delayUs: 2_000, queueBytes: 500_000, mtuBytes: 9_000 };
const JOIN_RETRY_US = 5_000;
/** Beyond what the case allows for: connecting and the transfer itself. */
const TRANSFER_US = 3_000_000;

export interface EndOutcome {
  readonly received: Uint8Array;
  readonly hasEnded: boolean;
  readonly info: ConnectionInfo;
  readonly counters: Readonly<Record<string, number>>;
  readonly events: readonly EngineEvent[];
}

export interface Outcome {
  readonly client: EndOutcome;
  readonly server: EndOutcome;
  readonly establishedUs: number;
  readonly endedUs: number;
}

/** What the client sends ('client') or the server. */
export function streamOf(from: 'client' | 'server', bytes: number): Uint8Array {
  return new Uint8Array(Buffer.concat([...byteStream(from, bytes)]));
}

/** Collects what a connection delivers. */
export class Collector {
  hasEnded = false;
  private readonly chunks: Uint8Array[] = [];

  onBytes(buf: Uint8Array, offset: number, lengthBytes: number): number {
    this.chunks.push(buf.slice(offset, offset + lengthBytes));
    return lengthBytes;
  }

  onEnd(): void {
    this.hasEnded = true;
  }

  get bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.chunks));
  }
}

/** Runs to the end of both streams, or until the time is up. */
export function throughBoxes(what: MiddleboxCase): Outcome {
  const { paths = 1, checksum = [false, false], bytes = BYTES, slackUs = 0 } = what;
  const network = new Network(1);
  const client = network.addHost({ name: 'client', interruptUs: 100 }, (env) => new Engine(env));
  const server = network.addHost({ name: 'server', interruptUs: 100 }, (env) => new Engine(env));
  server.addLink({ id: 0, name: 'eth0', mtuBytes: 1500, addresses: [parseIp(SERVER)], isUp: true });
  const ways = { toServer: 'right', toClient: 'left' } as const;
  for (let i = 0; i < paths; i++) {
    const addresses: PathAddresses = { client: `10.${i + 1}.0.2`, server: SERVER };
    client.addLink({ id: i, name: `p${i}`, mtuBytes: 1500, addresses: [parseIp(addresses.client)], isUp: true });
    const middleboxes = what.boxes(ways, i, addresses);
    const ends = { left: client, leftLinkId: i, right: server, rightLinkId: 0, leftPortBytes: null };
    network.connect({ name: `p${i}`, ...ends, up: LINK, down: LINK, middleboxes });
  }
  const events: Record<'client' | 'server', EngineEvent[]> = { client: [], server: [] };
  const readers = { client: new Collector(), server: new Collector() };
  const dial = { address: parseIp(what.dial ?? SERVER), port: PORT };
  let accepted: ConnectionApi | null = null;
  let establishedUs = -1;

  const send = (connection: ConnectionApi, from: 'client' | 'server') => {
    connection.setReader(readers[from]);
    connection.write(network.nowUs, streamOf(from, bytes));
    connection.end(network.nowUs);
  };
  server.engine.listen({
    port: PORT,
    checksum: checksum[1],
    onAccept: (connection) => {
      accepted = connection;
      send(connection, 'server');
    },
  });
  const ours = client.engine.connect(0, {
    linkId: 0,
    localAddress: parseIp('10.1.0.2'),
    localPort: 40_000,
    remote: dial,
    checksum: checksum[0],
  });
  const join = () => {
    const options = { linkId: 1, localAddress: parseIp('10.2.0.2'), remote: dial };
    if (!ours.isMptcp || ours.join(network.nowUs, options) >= 0) client.poke();
    else network.at(network.nowUs + JOIN_RETRY_US, join);
  };
  client.onEvent = (nowUs, event) => {
    events.client.push(event);
    if (event.type !== 'connection-established') return;
    establishedUs = nowUs;
    if (paths === 2) join();
  };
  server.onEvent = (_nowUs, event) => void events.server.push(event);
  send(ours, 'client');
  client.poke();
  const isOver = () => events.client.some(isClosed) && events.server.some(isClosed);
  network.run(TRANSFER_US + slackUs, isOver);
  const endOf = (who: 'client' | 'server', c: ConnectionApi): EndOutcome => ({
    received: readers[who].bytes,
    hasEnded: readers[who].hasEnded,
    info: c.info(),
    counters: (who === 'client' ? client : server).engine.counters(),
    events: events[who],
  });
  return {
    client: endOf('client', ours),
    server: endOf('server', accepted ?? ours),
    establishedUs,
    endedUs: network.nowUs,
  };
}

function isClosed(event: EngineEvent): boolean {
  return event.type === 'connection-closed';
}

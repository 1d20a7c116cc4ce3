/** A client, a converter and a server in a row, in virtual time; the client has two links to the converter. */
import { type IpAddress, parseIp } from '../../src/core/base/ip.js';
import { type ConverterPolicy, ErrorLimit, judgeSyn } from '../../src/core/convert/converter.js';
import { DownstreamConnections, synSettings } from '../../src/core/convert/downstream.js';
import { ConverterSession } from '../../src/core/convert/session.js';
import type { ConnectionApi, ConnectOptions, ListenOptions, SynVerdict } from '../../src/core/engine/api.js';
import type { EngineConfig } from '../../src/core/engine/config.js';
import { Engine } from '../../src/core/engine/engine.js';
import type { Host } from '../../src/sim/host.js';
import type { Middlebox } from '../../src/sim/middlebox.js';
import { Network } from '../../src/sim/network.js';

export const CLIENT = [parseIp('10.0.1.1'), parseIp('10.0.2.1')] as const;
export const CONVERTER = parseIp('10.9.0.1');
export const EGRESS = parseIp('10.8.0.1');
export const SERVER = parseIp('10.8.0.2');
export const CONVERTER_PORT = 1080;
export const SERVER_PORT = 80;

export const OPEN_POLICY: ConverterPolicy = {
  supportedKinds: [4, 8, 30, 34],
  cookies: null,
  silentWithoutCookie: false,
  answersPlainSyns: false,
  isTrusted: () => true,
  mayUse: () => true,
  mayReach: () => true,
  hasRoom: () => true,
  retryAfterS: 7,
};

export interface RowOptions {
  /** One way, between client and converter, and between converter and server. */
  readonly nearUs: number;
  readonly farUs: number;
  readonly policy?: Partial<ConverterPolicy>;
  readonly config?: Partial<EngineConfig>;
  readonly middleboxes?: readonly Middlebox[];
  /** Instead of judgeSyn. */
  readonly onSyn?: () => SynVerdict;
}

/** Bytes and ends as they come in, with their times. */
export class Sink {
  bytes: number[] = [];
  firstAtUs = -1;
  endedAtUs = -1;

  constructor(
    private readonly host: Host,
    connection: ConnectionApi,
  ) {
    connection.setReader({
      onBytes: (buf, offset, lengthBytes) => {
        if (this.firstAtUs < 0) this.firstAtUs = this.host.nowUs;
        for (let i = 0; i < lengthBytes; i++) this.bytes.push(buf[offset + i]!);
        return lengthBytes;
      },
      onEnd: () => {
        this.endedAtUs = this.host.nowUs;
      },
    });
  }

  get text(): string {
    return String.fromCharCode(...this.bytes);
  }
}

export class Row {
  readonly network = new Network(3);
  readonly client: Host;
  readonly converter: Host;
  readonly server: Host;
  readonly sessions = new Set<ConverterSession>();
  readonly steps: string[] = [];
  /** Why upstream connections ended, at the converter. */
  readonly ends: string[] = [];
  private readonly downstreams = new DownstreamConnections();
  private readonly upstreams = new Map<number, ConverterSession>();
  private readonly errors = new ErrorLimit();
  private readonly policy: ConverterPolicy;
  private nextPort = 20_000;

  constructor({ nearUs, farUs, policy, config, onSyn, middleboxes = [] }: RowOptions) {
    const { network } = this;
    this.policy = { ...OPEN_POLICY, ...policy };
    this.client = network.addHost({ name: 'client' }, (env) => new Engine(env, config));
    this.converter = network.addHost({ name: 'converter' }, (env) => new Engine(env, config));
    this.server = network.addHost({ name: 'server' }, (env) => new Engine(env, config));
    const link = (id: number, address: IpAddress) => ({
      id,
      name: `l${id}`,
      mtuBytes: 1500,
      addresses: [address],
      isUp: true,
    });
    for (const [i, address] of CLIENT.entries()) this.client.addLink(link(i, address));
    this.converter.addLink(link(0, CONVERTER));
    this.converter.addLink(link(1, EGRESS));
    this.server.addLink(link(0, SERVER));
    const wire = (name: string, left: Host, leftLinkId: number, right: Host, rightLinkId: number, delayUs: number) =>
      network.connect({
        name,
        left,
        leftLinkId,
        right,
        rightLinkId,
        up: { delayUs },
        down: { delayUs },
        middleboxes: left === this.client ? [...middleboxes] : [],
        leftPortBytes: null,
      });
    for (const i of CLIENT.keys()) wire(`near${i}`, this.client, i, this.converter, 0, nearUs);
    wire('far', this.converter, 1, this.server, 0, farUs);
    this.converter.onEvent = (_nowUs, event) => {
      this.downstreams.onEvent(event);
      const session = event.type === 'connection-closed' ? this.upstreams.get(event.connectionId) : undefined;
      if (session === undefined || event.type !== 'connection-closed') return;
      this.ends.push(event.why);
      session.onUpstreamClosed(event.why !== 'done');
    };
    this.converter.engine.listen({
      port: CONVERTER_PORT,
      onSyn: (nowUs, { remote, buf, offset, lengthBytes }) =>
        onSyn === undefined ? judgeSyn(nowUs, this.policy, remote.address, buf, offset, lengthBytes) : onSyn(),
      onAccept: (connection) => this.accept(connection),
    });
  }

  /** The server; `onAccept` sets the reader. */
  serve(options: Omit<ListenOptions, 'port'>): void {
    this.server.engine.listen({ port: SERVER_PORT, ...options });
  }

  connect(options: Partial<ConnectOptions> = {}): ConnectionApi {
    const c = this.client.engine.connect(this.client.nowUs, {
      linkId: 0,
      localAddress: CLIENT[0],
      localPort: this.nextPort++,
      remote: { address: CONVERTER, port: CONVERTER_PORT },
      ...options,
    });
    this.client.poke();
    return c;
  }

  sweep(): void {
    for (const session of this.sessions) session.sweep(this.converter.nowUs);
    this.converter.poke();
  }

  private accept(upstream: ConnectionApi): void {
    const { converter } = this;
    const session = new ConverterSession(upstream.remote.address, upstream, {
      policy: this.policy,
      errors: this.errors,
      nowUs: () => converter.nowUs,
      flushSoon: () => converter.poke(),
      dial: ({ address, port, options, synData }, s) => {
        const leg = converter.engine.connect(converter.nowUs, {
          linkId: 1,
          localAddress: EGRESS,
          localPort: this.nextPort++,
          remote: { address, port },
          ...synSettings(options, synData),
        });
        this.downstreams.add(leg, s);
        converter.poke();
        return { abort: () => leg.abort(converter.nowUs) };
      },
      onStep: (_session, reason) => this.steps.push(reason),
      onOver: (s) => this.sessions.delete(s),
    });
    this.sessions.add(session);
    this.upstreams.set(upstream.id, session);
    session.start();
  }
}

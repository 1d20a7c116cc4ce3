/**
 * The proxy for applications that are not captured: SOCKS5 and HTTP on loopback. A client's connection becomes a flow like any
 * other: the rules choose its way (they know the name that it asks for), a dialer reaches the destination, the two are joined.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { parseIpOrNull } from '../../config/prefix.js';
import type { Micros } from '../../core/base/time.js';
import type { ConnectionApi, Endpoint } from '../../core/engine/api.js';
import { keepUrgentInLine } from '../../native/index.js';
import { DialError, type FlowDecision, type FlowTarget } from './contract.js';
import { joinStreams } from './join-streams.js';
import { connectedAnswer, failedAnswer, ProxyHandshake, type ProxyTarget } from './proxy-protocol.js';
import type { OpenFlow } from './registry.js';

/** Clients at once; further ones are closed. */
export const MAX_CLIENTS = 2_048;
/** From a client's first byte to its last before the destination is known; and what a destination may take. */
const HANDSHAKE_MS = 10_000;
const DIAL_MS = 130_000;

/** The far side of a proxied flow. A plain socket of the kernel's has no connection of ours. */
export interface ProxyOutbound {
  readonly stream: Duplex;
  readonly lendsData?: boolean;
  readonly connection: ConnectionApi | null;
  abort(): void;
}

export interface ProxyHost {
  nowUs(): Micros;
  decide(target: FlowTarget): FlowDecision;
  /** Throws DialError. */
  dial(target: FlowTarget, decision: FlowDecision, signal: AbortSignal): Promise<ProxyOutbound>;
}

export class ProxyServer {
  /** Clients served, and reasons for which others were not. */
  readonly counters: Record<string, number> = {};
  private readonly clients = new Set<ProxyFlow>();
  private readonly servers = new Set<Server>();
  private nextId = 1;

  constructor(private readonly host: ProxyHost) {}

  /** Listens on HOST:PORT (port 0: any). Resolves with where, and how to stop. Throws as `listen` does. */
  listen(at: { readonly host: string; readonly port: number }): Promise<{ host: string; port: number; close(): void }> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.onClient(socket));
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(at.port, at.host, () => {
        server.off('error', reject).on('error', ignore);
        this.servers.add(server);
        const { address, port } = server.address() as { address: string; port: number };
        const close = () => {
          this.servers.delete(server);
          server.close();
        };
        resolve({ host: address, port, close });
      });
    });
  }

  /** Flows whose destination is known. */
  list(): OpenFlow[] {
    return [...this.clients].filter((c) => c.isKnown);
  }

  close(): void {
    for (const server of this.servers) server.close();
    this.servers.clear();
    for (const client of this.clients) client.abort();
  }

  count(name: string): void {
    this.counters[name] = (this.counters[name] ?? 0) + 1;
  }

  private onClient(socket: Socket): void {
    if (this.clients.size >= MAX_CLIENTS) {
      this.count('refused_too_many');
      socket.resetAndDestroy();
      return;
    }
    keepUrgentInLine(socket);
    this.count('clients');
    const flow = new ProxyFlow(this.nextId++, socket, this.host, this);
    this.clients.add(flow);
    socket.once('close', () => this.clients.delete(flow));
  }
}

const UNDECIDED: FlowDecision = { way: 'packet', mode: 'auto' };
const UNKNOWN: FlowTarget = { host: '', port: 0, address: null, source: null };

class ProxyFlow implements OpenFlow {
  target: FlowTarget = UNKNOWN;
  decision: FlowDecision = UNDECIDED;
  readonly source: Endpoint | null;
  readonly startedUs: Micros;
  state: OpenFlow['state'] = 'dialing';
  connection: ConnectionApi | null = null;
  bytesUp = 0;
  bytesDown = 0;
  isKnown = false;
  private readonly handshake = new ProxyHandshake();
  private readonly dialing = new AbortController();
  private timer: NodeJS.Timeout;

  constructor(
    readonly id: number,
    private readonly socket: Socket,
    private readonly host: ProxyHost,
    private readonly server: ProxyServer,
  ) {
    const address = parseIpOrNull(socket.remoteAddress ?? '');
    this.source = address === null ? null : { address, port: socket.remotePort ?? 0 };
    this.startedUs = host.nowUs();
    this.timer = setTimeout(() => this.refuse('timeout', null), HANDSHAKE_MS);
    socket.on('error', ignore).on('data', this.onData).on('end', this.onEarlyEnd);
    socket.once('close', () => {
      clearTimeout(this.timer);
      this.dialing.abort();
      this.state = 'closed';
    });
  }

  abort(): void {
    this.dialing.abort();
    this.socket.resetAndDestroy();
  }

  private readonly onData = (chunk: Buffer): void => {
    let step = this.handshake.push(chunk);
    while (step.type === 'answer') {
      this.socket.write(step.bytes);
      step = this.handshake.push(EMPTY);
    }
    if (step.type === 'refused') this.refuse(step.reason, step.bytes);
    else if (step.type === 'target') {
      this.stopHandshake();
      void this.open(step.target, step.rest);
    }
  };

  /** It has said all that it wanted to, and it was not enough. */
  private readonly onEarlyEnd = (): void => {
    this.refuse('incomplete', null);
  };

  private stopHandshake(): void {
    clearTimeout(this.timer);
    this.socket.off('data', this.onData).off('end', this.onEarlyEnd).pause();
  }

  private async open(wanted: ProxyTarget, rest: Uint8Array): Promise<void> {
    const { host, port, kind } = wanted;
    this.target = { host, port, address: parseIpOrNull(host), source: this.source };
    this.decision = this.host.decide(this.target);
    this.isKnown = true;
    const { signal } = this.dialing;
    const timer = setTimeout(() => this.dialing.abort(), DIAL_MS);
    try {
      const outbound = await this.host.dial(this.target, this.decision, signal);
      if (this.socket.destroyed) outbound.abort();
      else this.join(outbound, wanted, rest);
    } catch (error) {
      const failure = error instanceof DialError ? error : new DialError('unavailable', (error as Error).message);
      this.refuse(failure.failure, failedAnswer(kind, failure));
    } finally {
      clearTimeout(timer);
    }
  }

  private join(outbound: ProxyOutbound, { kind, preface, contentBytes }: ProxyTarget, rest: Uint8Array): void {
    const { socket } = this;
    this.connection = outbound.connection;
    this.state = 'open';
    this.server.count(`connected_${kind}`);
    const answer = connectedAnswer(kind);
    if (answer.length > 0) socket.write(answer);
    if (preface.length > 0) outbound.stream.write(preface);
    joinStreams(socket, outbound.stream, {
      farLends: outbound.lendsData === true,
      first: rest,
      nearBytes: contentBytes,
      onUp: (bytes) => {
        this.bytesUp += bytes;
      },
      onDown: (bytes) => {
        this.bytesDown += bytes;
      },
      onEnd: (isBroken) => this.server.count(isBroken ? 'ended_reset' : 'ended'),
      abort: () => {
        outbound.abort();
        if (!socket.destroyed) socket.resetAndDestroy();
      },
    });
  }

  private refuse(reason: string, answer: Uint8Array | null): void {
    this.stopHandshake();
    this.server.count(`refused_${reason.replaceAll('-', '_')}`);
    // What it has sent in vain must be read, or the close would be a reset that takes the answer with it.
    this.socket.on('data', ignore).resume();
    if (answer === null) this.socket.destroy();
    else this.socket.end(answer);
    this.timer = setTimeout(() => this.socket.destroy(), CLOSE_MS);
  }
}

/** A client that was refused may take so long to hear it. */
const CLOSE_MS = 3_000;
const EMPTY = new Uint8Array(0);

function ignore(): void {}

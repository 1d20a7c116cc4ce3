/**
 * The way 'direct': straight to the destination as Multipath TCP from every usable link, as plain TCP over the best one where
 * the destination speaks nothing else (RFC 8684 3.7). It does not pass our server, which need not even be there.
 */
import { lookup } from 'node:dns/promises';
import { type IpAddress, parseIp } from '../../core/base/ip.js';
import type { Micros } from '../../core/base/time.js';
import type { ConnectOptions, EngineEvent } from '../../core/engine/api.js';
import type { PathEvent, PathLink, PathMode, RemoteEndpoint } from '../../core/pathman/types.js';
import type { ConnectionDuplex } from '../duplex.js';
import type { Way } from '../path-members.js';
import { DialError, type FlowDialer, type FlowOutbound, type FlowTarget } from './contract.js';
import { type Dialed, DirectFlow } from './direct-flow.js';

export type SynContents = Pick<ConnectOptions, 'synData' | 'synOptions'>;

/** What the client's daemon does for its direct flows. */
export interface DirectHost {
  nowUs(): Micros;
  flushSoon(): void;
  links(): readonly PathLink[];
  pathMode(): PathMode;
  hasRoute(linkId: number, remote: IpAddress, local: IpAddress): boolean;
  congestionOf(linkId: number): string;
  /** Bytes/s; Infinity: no limit. */
  rateLimitOf(linkId: number): number;
  /** Opens a connection over what `way` says by then, with this in its SYN; null: nowhere. */
  connect(way: () => Way | null, syn?: (way: Way) => SynContents): Promise<Dialed | null>;
  openStream(connection: Dialed['api']): ConnectionDuplex;
}

export class DirectDialer implements FlowDialer {
  readonly way = 'direct';
  private readonly flows = new Set<DirectFlow>();
  /** By the connection that a flow has now. */
  private readonly byConnection = new Map<number, DirectFlow>();

  constructor(private readonly host: DirectHost) {}

  async dial(target: FlowTarget, signal: AbortSignal): Promise<FlowOutbound> {
    const address = target.address ?? (await resolve(target.host));
    const remote: RemoteEndpoint = { address, port: target.port };
    const flow = await this.open(remote, signal);
    const connection = flow.connection!;
    const stream = this.host.openStream(connection);
    return {
      stream,
      lendsData: true,
      connection,
      way: 'direct',
      abort: () => {
        flow.abort();
        stream.destroy();
      },
    };
  }

  /** News of a link, for every flow that could use it. */
  handle(event: PathEvent): void {
    for (const flow of this.flows) flow.handle(event);
  }

  onReceived(linkId: number): void {
    for (const flow of this.flows) flow.onReceived(linkId);
  }

  onEngineEvent(event: EngineEvent): void {
    if (!('connectionId' in event)) return;
    const flow = this.byConnection.get(event.connectionId);
    if (flow === undefined) return;
    if (event.type === 'connection-closed') {
      this.byConnection.delete(event.connectionId);
      if (flow.isOpen) this.flows.delete(flow);
    }
    flow.onEngineEvent(event);
  }

  close(): void {
    for (const flow of this.flows) flow.abort();
    this.flows.clear();
  }

  private open(remote: RemoteEndpoint, signal: AbortSignal): Promise<DirectFlow> {
    return new Promise((resolvePromise, reject) => {
      const onAbort = () => flow.abort();
      const settle = (error: DialError | null) => {
        signal.removeEventListener('abort', onAbort);
        if (error === null) {
          resolvePromise(flow);
          return;
        }
        this.flows.delete(flow);
        reject(error);
      };
      const flow = new DirectFlow(this.host, remote, settle, (c) => this.byConnection.set(c.id, flow));
      this.flows.add(flow);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) flow.abort();
      else flow.start();
    });
  }
}

async function resolve(host: string): Promise<IpAddress> {
  try {
    return parseIp((await lookup(host)).address);
  } catch {
    throw new DialError('unreachable', `${host} does not resolve`);
  }
}

/**
 * The way 'convert': Multipath TCP to a converter (RFC 8803), which makes TCP of it. What we want goes in the SYN, so that the
 * destination answers after one round trip; the connection is one of direct-flow.ts, whose destination is the converter.
 * What it says is kept (core/convert/knowledge.ts): its cookie, for how long to leave it alone, and which destinations speak
 * Multipath TCP themselves: flows to these go there directly.
 */
import { lookup } from 'node:dns/promises';
import type { ConvertConfig } from '../../config/types.js';
import { type IpAddress, parseIp } from '../../core/base/ip.js';
import { ConvertClient, type ConvertFailure } from '../../core/convert/client.js';
import { ConverterKnowledge } from '../../core/convert/knowledge.js';
import { KIND_MPTCP, NO_BYTES } from '../../core/convert/message.js';
import type { ConnectionApi, Endpoint, EngineEvent } from '../../core/engine/api.js';
import { TAKES_EARLY_DATA } from '../../core/mptcp/connection.js';
import type { PathEvent } from '../../core/pathman/types.js';
import type { Way } from '../path-members.js';
import { DialError, type DialFailure, type FlowDialer, type FlowOutbound, type FlowTarget } from './contract.js';
import type { DirectHost, SynContents } from './direct.js';
import { DirectFlow } from './direct-flow.js';

/** A converter that has taken the connection answers within this: longer than it waits for a server. */
const ANSWER_MS = 40_000;
/** Connections for one flow: without a cookie, with one, with another version, without the option it does not take. */
const MAX_ATTEMPTS = 4;

export interface ConvertDialerOptions {
  config(): ConvertConfig;
  /** The tunnel's server, which is the converter where no other is configured. */
  serverAddress(): IpAddress | null;
  /** For destinations that speak Multipath TCP themselves. */
  readonly direct: FlowDialer;
}

interface Answered {
  readonly flow: DirectFlow;
  readonly connection: ConnectionApi;
  readonly client: ConvertClient;
  readonly localAddress: string;
  readonly cookie: Uint8Array | null;
}

export class ConvertDialer implements FlowDialer {
  readonly way = 'convert';
  /** Of the converter that is configured now. */
  private known = new ConverterKnowledge();
  private knownOf: ConvertConfig | null = null;
  private readonly flows = new Set<DirectFlow>();
  /** Connections whose answer is awaited: what to do when they close. */
  private readonly unanswered = new Map<number, () => void>();

  constructor(
    private readonly host: DirectHost,
    private readonly options: ConvertDialerOptions,
  ) {}

  async dial(target: FlowTarget, signal: AbortSignal): Promise<FlowOutbound> {
    const config = this.options.config();
    this.forgetOtherConverters(config);
    const { known } = this;
    const address = target.address ?? (await resolve(target.host));
    const server: Endpoint = { address, port: target.port };
    const direct = await this.goDirect(target, server, signal);
    if (direct !== null) return direct;
    const converter: Endpoint = { address: await this.addressOf(config), port: config.port };
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      if (known.isBlocked(this.host.nowUs())) {
        throw new DialError('unavailable', `the converter is left alone: ${known.blockedBecause}`);
      }
      const answered = await this.ask(converter, server, config.synData, signal);
      const { flow, connection, client, localAddress, cookie } = answered;
      const outcome = client.outcome!;
      const nowUs = this.host.nowUs();
      if (outcome.is === 'connected') {
        if (outcome.supportedKinds !== null) known.supportedKinds = outcome.supportedKinds;
        if (outcome.serverOptions !== null) known.onServerOptions(nowUs, nameOf(server), outcome.serverOptions);
        const stream = this.host.openStream(connection);
        return { stream, lendsData: true, connection, way: 'convert', abort: () => flow.abort() };
      }
      // Whatever else it says, the connection is to be reset (RFC 8803 6.2.8).
      flow.abort();
      const failure: ConvertFailure = outcome.is === 'failed' ? outcome.failure : { why: 'no-answer' };
      if (known.onFailure(nowUs, failure, localAddress, cookie) === 'give-up') throw errorOf(failure);
    }
    throw new DialError('unavailable', 'the converter does not say the same twice');
  }

  /** News of a link, for every flow that could use it. */
  handle(event: PathEvent): void {
    if (event.type === 'link-added' || event.type === 'link-changed') this.known.onNetworkChange();
    for (const flow of this.flows) flow.handle(event);
  }

  onReceived(linkId: number): void {
    for (const flow of this.flows) flow.onReceived(linkId);
  }

  onEngineEvent(event: EngineEvent): void {
    if (event.type === 'connection-closed') this.unanswered.get(event.connectionId)?.();
    for (const flow of this.flows) {
      flow.onEngineEvent(event);
      if (event.type === 'connection-closed' && flow.connection?.id === event.connectionId) this.flows.delete(flow);
    }
  }

  close(): void {
    for (const flow of this.flows) flow.abort();
    this.flows.clear();
  }

  private async addressOf({ server }: ConvertConfig): Promise<IpAddress> {
    const address = server === null ? this.options.serverAddress() : await resolve(server);
    if (address === null) throw new DialError('unavailable', 'the address of the converter is not known yet');
    return address;
  }

  /** What is known is known of one converter. */
  private forgetOtherConverters(config: ConvertConfig): void {
    const before = this.knownOf;
    this.knownOf = config;
    const isSame =
      before?.server === config.server &&
      before.port === config.port &&
      Buffer.from(before.cookie ?? NO_BYTES).equals(config.cookie ?? NO_BYTES);
    if (!isSame) this.known = new ConverterKnowledge(config.cookie);
  }

  /** RFC 8803 5.1: past the converter, to a server that has shown MP_CAPABLE. Null: by the converter. */
  private async goDirect(target: FlowTarget, server: Endpoint, signal: AbortSignal): Promise<FlowOutbound | null> {
    const { known } = this;
    if (!known.speaksMptcp(this.host.nowUs(), nameOf(server))) return null;
    try {
      const outbound = await this.options.direct.dial(target, signal);
      if (!outbound.connection.isMptcp) known.forgetServer(nameOf(server));
      return outbound;
    } catch (error) {
      if (signal.aborted) throw error;
      known.forgetServer(nameOf(server));
      return null;
    }
  }

  /** One connection to the converter, until it has answered. Throws DialError. */
  private ask(converter: Endpoint, server: Endpoint, inSyn: boolean, signal: AbortSignal): Promise<Answered> {
    return new Promise((resolvePromise, reject) => {
      let current: Omit<Answered, 'flow'> | null = null;
      let isEstablished = false;
      const settle = (error: DialError | null) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        if (current !== null) this.unanswered.delete(current.connection.id);
        if (error === null) resolvePromise({ ...current!, flow });
        else {
          flow.abort();
          this.flows.delete(flow);
          reject(error);
        }
      };
      const onAbort = () => settle(new DialError('unavailable', 'given up'));
      const timer = setTimeout(() => settle(new DialError('timeout', 'the converter does not answer')), ANSWER_MS);
      const onConnection = (asked: Omit<Answered, 'flow'>) => {
        if (current !== null) this.unanswered.delete(current.connection.id);
        current = asked;
        const { connection, client } = asked;
        if (!inSyn) connection.write(this.host.nowUs(), client.request);
        const isOver = () => {
          // The answer is complete; the bytes behind it wait in the connection.
          if (client.outcome !== null && current === asked) settle(null);
        };
        this.unanswered.set(connection.id, () => {
          this.unanswered.delete(connection.id);
          // Before it was there, it is for the flow to try another link.
          if (!isEstablished) return;
          client.onEnd();
          isOver();
        });
        connection.setReader({
          onBytes: (buf, offset, lengthBytes) => {
            if (client.outcome !== null) return 0;
            const taken = client.onBytes(buf, offset, lengthBytes);
            isOver();
            return taken;
          },
          onEnd: () => {
            client.onEnd();
            isOver();
          },
        });
      };
      const flow = new DirectFlow(this.hostFor(server, inSyn, onConnection), { ...converter }, (error) => {
        isEstablished = true;
        if (error !== null) settle(new DialError('unavailable', `the converter: ${error.message}`));
        else if (inSyn && current!.connection.synBytesAcked < current!.client.request.length) {
          // RFC 8803 8: something on the way took it out, and we MUST stop to use the converter.
          this.known.onSynDataLost(this.host.nowUs());
          settle(new DialError('unavailable', this.known.blockedBecause));
        }
      });
      this.flows.add(flow);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      else flow.start();
    });
  }

  /** The client's host, whose connections ask the converter for `server`: by the address that they come from (cookies). */
  private hostFor(server: Endpoint, inSyn: boolean, onConnection: (asked: Omit<Answered, 'flow'>) => void): DirectHost {
    const { host, known } = this;
    const connect = async (wayNow: () => Way | null) => {
      let client: ConvertClient | null = null;
      let cookie: Uint8Array | null = null;
      const syn = (way: Way): SynContents => {
        cookie = known.cookieFor(way.localAddress.text);
        client = new ConvertClient({
          remote: server,
          options: known.mayAskFor(KIND_MPTCP) ? [{ kind: KIND_MPTCP, value: NO_BYTES }] : null,
          info: known.supportedKinds === null,
          cookie,
          version: known.version,
        });
        return inSyn ? { synData: client.request, synOptions: TAKES_EARLY_DATA } : {};
      };
      const dialed = await host.connect(wayNow, syn);
      if (dialed !== null && client !== null) {
        onConnection({ connection: dialed.api, client, localAddress: dialed.way.localAddress.text, cookie });
      }
      return dialed;
    };
    return Object.assign(Object.create(host) as DirectHost, { connect });
  }
}

function nameOf({ address, port }: Endpoint): string {
  return `${address.text} ${port}`;
}

async function resolve(host: string): Promise<IpAddress> {
  try {
    return parseIp((await lookup(host)).address);
  } catch {
    throw new DialError('unreachable', `${host} does not resolve`);
  }
}

/** What the application is told. */
function errorOf(failure: ConvertFailure): DialError {
  const message = `the converter: ${failure.why}`;
  if (failure.why === 'unreachable') return new DialError('unreachable', message, failure.icmpCode);
  return new DialError(FAILURES[failure.why] ?? 'unavailable', message);
}

const FAILURES: Readonly<Partial<Record<ConvertFailure['why'], DialFailure>>> = {
  'connection-reset': 'refused',
  'network-failure': 'timeout',
  'not-authorized': 'denied',
};

/** From the flows that are open to the documents of the control protocol: plain copies, made when somebody asks. */
import { lookup } from 'node:dns/promises';
import { parseIpOrNull } from '../../config/prefix.js';
import { type TcpFlowStatus, WHY_FLOW_SCHEMA, type WhyDocument, type WhyFlowDocument } from '../../control/protocol.js';
import type { Micros } from '../../core/base/time.js';
import type { ConnectionApi, ConnectionInfo } from '../../core/engine/api.js';
import { endpointText } from '../status.js';
import type { FlowTarget } from './contract.js';
import type { ConvertedFlow } from './convert-server.js';
import type { FlowJudge } from './judge.js';
import type { FlowEntry } from './registry.js';
import type { RelayedFlow } from './relay-server.js';

/** Somebody waits for the answer. */
const RESOLVE_MS = 3_000;

export function tcpFlowStatus(
  entry: FlowEntry,
  session: string,
  nowUs: Micros,
  linkName: (id: number) => string,
): TcpFlowStatus {
  const { flow, verdict, names } = entry;
  const { target } = flow;
  return {
    id: flow.id,
    origin: entry.origin,
    session,
    state: flow.state,
    app: flow.source === null ? null : endpointText(flow.source),
    destination: destinationText(target),
    name: names[0] ?? null,
    way: verdict.way,
    rule: verdict.reason,
    mode: entry.mode,
    class: entry.class,
    scheduler: entry.scheduler,
    age_s: (nowUs - flow.startedUs) / 1e6,
    tx_bps: entry.txBps,
    rx_bps: entry.rxBps,
    tx_bytes: flow.bytesUp,
    rx_bytes: flow.bytesDown,
    ...carrier(flow.connection, linkName),
  };
}

/** A flow as the server that relays it sees it. */
export function relayedStatus(flow: RelayedFlow, nowUs: Micros, linkName: (id: number) => string): TcpFlowStatus {
  const { connection } = flow;
  const info = connection.info();
  return {
    id: connection.id,
    origin: 'relay',
    session: flow.client,
    state: flow.flow === null ? 'dialing' : 'open',
    app: null,
    destination: destinationText({ host: flow.host, port: flow.port, address: null }),
    name: parseIpOrNull(flow.host) === null ? flow.host : null,
    way: 'relay',
    rule: `asked for by ${flow.client}`,
    mode: 'as the client says',
    class: 'interactive',
    scheduler: flow.scheduler,
    age_s: (nowUs - flow.sinceUs) / 1e6,
    tx_bps: 0,
    rx_bps: 0,
    tx_bytes: flow.flow?.bytesUp ?? 0,
    rx_bytes: flow.flow?.bytesDown ?? 0,
    ...carrier(connection, linkName, info),
  };
}

/** A connection as the converter (RFC 8803) sees it; null while it is not known where to. */
export function convertedStatus(
  { client, session, connection, sinceUs }: ConvertedFlow,
  nowUs: Micros,
  linkName: (id: number) => string,
): TcpFlowStatus | null {
  const { target, bytesUp, bytesDown } = session;
  if (target === null) return null;
  return {
    id: connection.id,
    origin: 'convert',
    session: client.text,
    state: session.state === 'joined' ? 'open' : session.state === 'dialling' ? 'dialing' : 'closed',
    app: null,
    destination: endpointText(target),
    name: null,
    way: 'convert',
    rule: `asked for by ${client.text}`,
    mode: 'as the server sends',
    class: 'interactive',
    scheduler: null,
    age_s: (nowUs - sinceUs) / 1e6,
    tx_bps: 0,
    rx_bps: 0,
    tx_bytes: bytesUp,
    rx_bytes: bytesDown,
    ...carrier(connection, linkName),
  };
}

function carrier(
  connection: ConnectionApi | null,
  linkName: (id: number) => string,
  info: ConnectionInfo | null = connection?.info() ?? null,
): Pick<TcpFlowStatus, 'connection' | 'is_mptcp' | 'duplicate_bytes' | 'paths'> {
  return {
    connection: connection?.id ?? null,
    is_mptcp: info?.isMptcp ?? false,
    duplicate_bytes: info?.bytesDuplicate ?? 0,
    paths: (info?.subflows ?? []).map((s) => ({
      path: linkName(s.linkId),
      state: s.state,
      tx_bytes: s.bytesSent,
      rx_bytes: s.bytesReceived,
      rtt_s: s.srttUs > 0 ? s.srttUs / 1e6 : null,
      why: s.idleReason,
    })),
  };
}

export interface WhyFlowInput {
  readonly host: string;
  readonly port: number;
  readonly judge: FlowJudge;
  readonly why: WhyDocument;
  flows(): TcpFlowStatus[];
}

export async function whyFlowDocument({ host, port, judge, why, flows }: WhyFlowInput): Promise<WhyFlowDocument> {
  const address = parseIpOrNull(host) ?? (await resolve(host));
  const target: FlowTarget = { host, port, address, source: null };
  const { verdict, trials, names } = judge.explain(target);
  const name = host.toLowerCase();
  return {
    schema: WHY_FLOW_SCHEMA,
    time: why.time,
    host,
    port,
    address: address?.text ?? null,
    names: [...names],
    way: verdict.use === 'bypass' ? 'bypass' : verdict.way,
    rule: verdict.reason,
    mode: verdict.mode,
    rules: trials.map(({ text, failed }) => ({ rule: text, failed })),
    paths: why.paths.map((p) => ({ name: p.name, state: p.state, carries: p.is_chosen, why: p.why })),
    flows: flows().filter(
      (f) => f.name === name || (address !== null && f.destination === endpointText({ address, port })),
    ),
  };
}

async function resolve(host: string) {
  const timeout = new Promise<null>((done) => {
    setTimeout(() => done(null), RESOLVE_MS).unref();
  });
  const found = await Promise.race([lookup(host).catch(() => null), timeout]);
  return found === null ? null : parseIpOrNull(found.address);
}

function destinationText({ host, port, address }: Pick<FlowTarget, 'host' | 'port' | 'address'>): string {
  const ip = address ?? parseIpOrNull(host);
  return ip === null ? `${host}:${port}` : endpointText({ address: ip, port });
}

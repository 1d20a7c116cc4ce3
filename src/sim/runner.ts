/**
 * Plays a scenario: builds the topology, opens the connections, joins every path that is up, follows the timeline, and
 * collects the result. The client here has the simplest path manager there is: every link that is up carries a subflow
 * of each connection; one that closes is tried again after a second, or at once when its link comes back.
 *
 *   client ── wifi ══ boxes ══╗
 *          ── lte  ══ boxes ══╬══ server (one address per family)
 */
import { type IpAddress, parseIp } from '../core/base/ip.js';
import { type Micros, NEVER, US_PER_MS, US_PER_S } from '../core/base/time.js';
import type { ConnectionApi, EngineEvent } from '../core/engine/api.js';
import type { EngineFactory, Host } from './host.js';
import { Nat } from './middleboxes/index.js';
import { type Bottleneck, Network, type Tap, type Wire } from './network.js';
import { Prng } from './prng.js';
import {
  type DirectionResult,
  MAX_EVENTS,
  type PathResult,
  type PathSpec,
  type Scenario,
  type ScenarioResult,
  type Step,
  type Traffic,
  type TrafficResult,
} from './scenario.js';
import { PatternReader, PatternWriter } from './traffic.js';

const SERVER_ADDRESS = { 4: parseIp('10.9.0.1'), 6: parseIp('fd09::1') };
const SERVER_LINK = 0;
const FIRST_SERVER_PORT = 5000;
const FIRST_CLIENT_PORT = 40_000;
const REJOIN_AFTER_US = US_PER_S;
const JOIN_RETRY_US = 10 * US_PER_MS;
const MAX_JOIN_RETRY_US = 30 * US_PER_S;
const MTU_BYTES = 1500;

export function runScenario(scenario: Scenario, engine: EngineFactory, tap: Tap | null = null): ScenarioResult {
  return new ScenarioRun(scenario, engine, tap).run();
}

/** One traffic item while it runs. */
interface Flow {
  readonly spec: Traffic;
  readonly index: number;
  client: ConnectionApi | null;
  server: ConnectionApi | null;
  establishedUs: Micros;
  closedWhy: string | null;
  finishedUs: Micros;
  /** Reads the bytes that count: at the client for downloads and responses, at the server for uploads. */
  reader: PatternReader;
  responsesUs: Micros[];
  bytesAtWarmup: number;
}

class ScenarioRun {
  private readonly network: Network;
  private readonly client: Host;
  private readonly server: Host;
  private readonly wires: Wire[] = [];
  private readonly bottlenecks = new Map<string, Bottleneck>();
  private readonly flows: Flow[];
  private readonly events: string[] = [];
  private readonly linkBytesAtWarmup: { up: number; down: number }[] = [];

  constructor(
    private readonly scenario: Scenario,
    engine: EngineFactory,
    tap: Tap | null,
  ) {
    const network = new Network(scenario.seed);
    this.network = network;
    network.tap = tap;
    const { interruptUs = 250, timerSlackUs = 250 } = scenario;
    const host = { interruptUs, timerSlackUs, ...scenario.host };
    this.client = network.addHost({ ...host, name: 'client' }, engine);
    this.server = network.addHost({ ...host, name: 'server' }, engine);
    const addresses = [SERVER_ADDRESS[4], SERVER_ADDRESS[6]];
    this.server.addLink({ id: SERVER_LINK, name: 'eth0', mtuBytes: MTU_BYTES, addresses, isUp: true });
    for (const [name, { up, down }] of Object.entries(scenario.bottlenecks ?? {}))
      this.bottlenecks.set(name, network.addBottleneck(name, up, down));
    const luck = new Prng(scenario.seed).fork(7);
    for (const [i, spec] of scenario.paths.entries()) this.addPath(i, spec, luck.u32());
    this.client.onEvent = (nowUs, event) => this.onClientEvent(nowUs, event);
    this.server.onEvent = (nowUs, event) => this.note(nowUs, 'server', event);
    this.flows = scenario.traffic.map((spec, index) => this.makeFlow(spec, index));
  }

  run(): ScenarioResult {
    const { network, scenario } = this;
    for (const flow of this.flows) this.listen(flow);
    for (const flow of this.flows) network.at(flow.spec.startUs ?? 0, () => this.connect(flow));
    for (const step of scenario.timeline ?? []) network.at(step.atUs, () => this.play(step));
    network.at(scenario.warmupUs ?? 0, () => this.markWarmup());
    const pause = scenario.readerPause;
    if (pause !== undefined) {
      network.at(pause.fromUs, () => this.setPaused(true));
      network.at(pause.untilUs, () => this.setPaused(false));
    }
    network.run(scenario.durationUs, () => this.flows.every(({ finishedUs }) => finishedUs !== NEVER));
    return this.result();
  }

  private addPath(index: number, spec: PathSpec, seed: number): void {
    const isUp = spec.startsDown !== true;
    this.client.addLink({
      id: index,
      name: spec.name,
      mtuBytes: MTU_BYTES,
      addresses: [clientAddress(index, spec)],
      isUp,
    });
    const wire = this.network.connect({
      name: spec.name,
      left: this.client,
      leftLinkId: index,
      right: this.server,
      rightLinkId: SERVER_LINK,
      up: spec.up,
      down: spec.down,
      middleboxes: spec.middleboxes?.(seed) ?? [],
      leftPortBytes: spec.portBytes ?? null,
      bottleneck: spec.bottleneck === undefined ? null : this.bottleneckNamed(spec.bottleneck),
    });
    if (!isUp) wire.setState('down');
    this.wires.push(wire);
  }

  private bottleneckNamed(name: string): Bottleneck {
    const found = this.bottlenecks.get(name);
    if (found === undefined) throw new RangeError(`scenario ${this.scenario.name}: no bottleneck ${name}`);
    return found;
  }

  private makeFlow(spec: Traffic, index: number): Flow {
    return {
      spec,
      index,
      client: null,
      server: null,
      establishedUs: -1,
      closedWhy: null,
      finishedUs: NEVER,
      reader: new PatternReader(this.network),
      responsesUs: [],
      bytesAtWarmup: 0,
    };
  }

  /** Options that the scenario leaves open stay the engine's own. */
  private connectionOptions(spec: Traffic) {
    const { scheduler, checksum, receiveBufferBytes } = this.scenario;
    const { congestion = this.scenario.congestion, mptcp = this.scenario.mptcp } = spec;
    return {
      ...(congestion !== undefined && { congestion }),
      ...(scheduler !== undefined && { scheduler }),
      ...(checksum !== undefined && { checksum }),
      ...(mptcp !== undefined && { mptcp }),
      ...(receiveBufferBytes !== undefined && { receiveBufferBytes }),
    };
  }

  private listen(flow: Flow): void {
    const port = FIRST_SERVER_PORT + flow.index;
    this.server.engine.listen({
      port,
      ...this.connectionOptions(flow.spec),
      onAccept: (connection) => {
        flow.server = connection;
        this.serve(flow, connection);
      },
    });
  }

  private serve(flow: Flow, connection: ConnectionApi): void {
    const { spec } = flow;
    if (spec.kind === 'bulk' && spec.heading === 'up') {
      connection.setReader(flow.reader);
      flow.reader.onFinished = () => this.finish(flow);
      return;
    }
    const requests = new PatternReader(this.network);
    connection.setReader(requests);
    const writer = new PatternWriter(connection, this.network);
    if (spec.kind === 'bulk') writer.send(spec.bytes ?? Number.POSITIVE_INFINITY, spec.bytes !== undefined);
    if (spec.kind !== 'request-response') return;
    let answered = 0;
    requests.onProgress = (receivedBytes) => {
      for (; (answered + 1) * spec.requestBytes <= receivedBytes; answered++) writer.send(spec.responseBytes, false);
      // The writer writes inside onPackets; the flush that follows sends.
    };
  }

  private connect(flow: Flow): void {
    const link = [...this.client.links.values()].find(({ id, isUp }) => isUp && this.mayUse(flow, id));
    if (link === undefined) {
      this.network.at(this.network.nowUs + 100 * US_PER_MS, () => this.connect(flow));
      return;
    }
    const localAddress = link.addresses[0]!;
    const connection = this.client.engine.connect(this.network.nowUs, {
      linkId: link.id,
      localAddress,
      localPort: FIRST_CLIENT_PORT + flow.index,
      remote: { address: SERVER_ADDRESS[localAddress.family], port: FIRST_SERVER_PORT + flow.index },
      ...this.connectionOptions(flow.spec),
    });
    flow.client = connection;
    const { spec } = flow;
    if (spec.kind === 'bulk' && spec.heading === 'up') {
      connection.setReader(new PatternReader(this.network));
      new PatternWriter(connection, this.network).send(
        spec.bytes ?? Number.POSITIVE_INFINITY,
        spec.bytes !== undefined,
      );
    } else {
      connection.setReader(flow.reader);
      flow.reader.onFinished = () => this.finish(flow);
      if (spec.kind === 'request-response') this.request(flow, connection, spec);
    }
    this.client.poke();
  }

  private request(flow: Flow, connection: ConnectionApi, spec: Traffic & { kind: 'request-response' }): void {
    const writer = new PatternWriter(connection, this.network);
    const askedUs: Micros[] = [];
    const ask = () => {
      askedUs.push(this.network.nowUs);
      writer.send(spec.requestBytes, false);
      this.client.poke();
      if (askedUs.length < spec.count) this.network.at(this.network.nowUs + spec.everyUs, ask);
    };
    flow.reader.onProgress = (receivedBytes) => {
      while ((flow.responsesUs.length + 1) * spec.responseBytes <= receivedBytes)
        flow.responsesUs.push(this.network.nowUs - askedUs[flow.responsesUs.length]!);
      if (flow.responsesUs.length === spec.count) this.finish(flow);
    };
    this.network.at(this.network.nowUs + spec.everyUs, ask);
  }

  private finish(flow: Flow): void {
    if (flow.finishedUs === NEVER) flow.finishedUs = this.network.nowUs;
  }

  private onClientEvent(nowUs: Micros, event: EngineEvent): void {
    this.note(nowUs, 'client', event);
    if (event.type === 'connection-established') {
      const flow = this.flows.find(({ client }) => client?.id === event.connectionId);
      if (flow === undefined) return;
      flow.establishedUs = nowUs;
      for (const linkId of this.client.links.keys()) this.join(flow, linkId);
    } else if (event.type === 'connection-closed') {
      const flow = this.flows.find(({ client }) => client?.id === event.connectionId);
      if (flow !== undefined) flow.closedWhy = event.why;
    } else if (event.type === 'subflow-closed' && event.subflowId >= 0) {
      const flow = this.flows.find(({ client }) => client?.id === event.connectionId);
      if (flow !== undefined) this.network.at(nowUs + REJOIN_AFTER_US, () => this.join(flow, event.linkId));
    }
  }

  private mayUse({ spec }: Flow, linkId: number): boolean {
    return spec.paths?.includes(this.scenario.paths[linkId]!.name) ?? true;
  }

  /** A subflow for `flow` on a link that is up and has none. */
  private join(flow: Flow, linkId: number, retryUs: Micros = JOIN_RETRY_US): void {
    const connection = flow.client!;
    const link = this.client.links.get(linkId)!;
    if (!link.isUp || !this.mayUse(flow, linkId) || !connection.isMptcp || connection.state === 'closed') return;
    if (connection.info().subflows.some((sf) => sf.linkId === linkId && sf.state !== 'closed')) return;
    const localAddress = link.addresses[0]!;
    const subflowId = connection.join(this.network.nowUs, {
      linkId,
      localAddress,
      remote: { address: SERVER_ADDRESS[localAddress.family], port: connection.remote.port },
      backup: this.scenario.paths[linkId]!.backup === true,
    });
    // Until the server has confirmed MPTCP, joining is too early (RFC 8684 3.1, "fully established").
    if (subflowId < 0)
      this.network.at(this.network.nowUs + retryUs, () =>
        this.join(flow, linkId, Math.min(2 * retryUs, MAX_JOIN_RETRY_US)),
      );
    this.client.poke();
  }

  private play(step: Step): void {
    const index = this.scenario.paths.findIndex(({ name }) => name === step.path);
    if (index < 0) throw new RangeError(`scenario ${this.scenario.name}: no path ${step.path}`);
    const wire = this.wires[index]!;
    if (this.events.length < MAX_EVENTS) this.events.push(`${this.network.nowUs} ${step.path} ${step.what}`);
    switch (step.what) {
      case 'dies':
        wire.setState('blackhole');
        break;
      case 'pauses':
        wire.setState('suspended');
        break;
      case 'returns':
      case 'resumes':
        wire.setState('up');
        break;
      case 'carrier-lost':
        wire.setState('down');
        this.client.updateLink(index, { isUp: false });
        break;
      case 'carrier-back':
        wire.setState('up');
        this.client.updateLink(index, { isUp: true });
        for (const flow of this.flows) if (flow.client !== null) this.join(flow, index);
        break;
      case 'rebinds':
        for (const box of wire.options.middleboxes ?? []) if (box instanceof Nat) box.rebind();
        break;
      case 'changes':
        if (step.up !== undefined) wire.up.configure(step.up);
        if (step.down !== undefined) wire.down.configure(step.down);
        break;
    }
  }

  private setPaused(isPaused: boolean): void {
    for (const flow of this.flows) {
      flow.reader.isPaused = isPaused;
      if (isPaused) continue;
      const isUpload = flow.spec.kind === 'bulk' && flow.spec.heading === 'up';
      (isUpload ? flow.server : flow.client)?.resume(this.network.nowUs);
      (isUpload ? this.server : this.client).poke();
    }
  }

  private markWarmup(): void {
    for (const flow of this.flows) flow.bytesAtWarmup = flow.reader.receivedBytes;
    for (const { up, down } of this.wires)
      this.linkBytesAtWarmup.push({
        up: up.model.counters.deliveredBytes,
        down: down.model.counters.deliveredBytes,
      });
  }

  private note(nowUs: Micros, who: string, event: EngineEvent): void {
    if (this.events.length >= MAX_EVENTS) return;
    const { type, ...rest } = event;
    const details = Object.entries(rest).map(([key, value]) => `${key}=${typeof value === 'object' ? '…' : value}`);
    this.events.push(`${nowUs} ${who} ${type} ${details.join(' ')}`);
  }

  private result(): ScenarioResult {
    const { network, scenario } = this;
    return {
      scenario: scenario.name,
      seed: scenario.seed,
      endedUs: network.nowUs,
      traffic: this.flows.map((flow) => this.trafficResult(flow)),
      paths: this.wires.map((wire, i) => this.pathResult(wire, i)),
      events: this.events,
      clientCounters: { ...this.client.engine.counters() },
      serverCounters: { ...this.server.engine.counters() },
      drops: { ...network.drops },
      wakes: network.wakes,
    };
  }

  private trafficResult(flow: Flow): TrafficResult {
    const { reader, spec } = flow;
    const isDone = flow.finishedUs !== NEVER;
    const endUs = isDone ? flow.finishedUs : this.network.nowUs;
    if (!isDone) reader.noteGap(endUs);
    const isUpload = spec.kind === 'bulk' && spec.heading === 'up';
    const sender = (isUpload ? flow.client : flow.server)?.info() ?? null;
    const receiver = (isUpload ? flow.server : flow.client)?.info() ?? null;
    const measuredUs = Math.max(1, endUs - Math.max(this.scenario.warmupUs ?? 0, spec.startUs ?? 0));
    return {
      kind: spec.kind,
      establishedUs: flow.establishedUs,
      finishedUs: isDone ? flow.finishedUs : -1,
      deliveredBytes: reader.receivedBytes,
      goodputBps: Math.round(((reader.receivedBytes - flow.bytesAtWarmup) * 8e6) / measuredUs),
      longestGapUs: reader.longestGapUs,
      longestGapAtUs: reader.longestGapAtUs,
      isMptcp: flow.client?.isMptcp ?? false,
      fallbackReason: receiver?.fallbackReason ?? sender?.fallbackReason ?? null,
      closedWhy: flow.closedWhy,
      corruptAtByte: reader.corruptAtByte,
      reinjectedBytes: sender?.bytesReinjected ?? 0,
      retransmittedBytes: sender?.subflows.reduce((sum, sf) => sum + sf.bytesRetransmitted, 0) ?? 0,
      copiedBytes: sender?.bytesCopied ?? 0,
      duplicateBytes: receiver?.bytesDuplicate ?? 0,
      responsesUs: flow.responsesUs,
      subflows:
        sender?.subflows.map(
          (sf) =>
            `${this.scenario.paths[isUpload ? sf.linkId : this.pathOf(sf.remote.address)]?.name ?? '?'}: ${sf.state}` +
            `${sf.isStalled ? ' stalled' : ''} srtt=${sf.srttUs} min=${sf.minRttUs} cwnd=${sf.cwndBytes} ssthresh=${sf.ssthreshBytes}` +
            ` flight=${sf.inFlightBytes} sent=${sf.bytesSent} retx=${sf.bytesRetransmitted} reinj=${sf.bytesReinjected}` +
            ` idle=${sf.idleReason}`,
        ) ?? [],
    };
  }

  private pathOf(address: IpAddress): number {
    return this.scenario.paths.findIndex((spec, i) => clientAddress(i, spec).text === address.text);
  }

  private pathResult(wire: Wire, index: number): PathResult {
    const measuredUs = Math.max(1, this.network.nowUs - (this.scenario.warmupUs ?? 0));
    const before = this.linkBytesAtWarmup[index] ?? { up: 0, down: 0 };
    const direction = (way: 'up' | 'down'): DirectionResult => {
      const { deliveredBytes, deliveredPackets, maxQueuedBytes, drops } = wire[way].model.counters;
      const goodputBps = Math.round(((deliveredBytes - before[way]) * 8e6) / measuredUs);
      return { deliveredBytes, deliveredPackets, goodputBps, maxQueuedBytes, drops: { ...drops } };
    };
    return { name: wire.name, up: direction('up'), down: direction('down') };
  }
}

function clientAddress(index: number, spec: PathSpec): IpAddress {
  return parseIp(spec.family === 6 ? `fd00:${index + 1}::2` : `10.0.${index + 1}.2`);
}

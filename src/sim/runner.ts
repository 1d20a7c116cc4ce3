/**
 * Plays a scenario: builds the topology, opens the connections, each with a path manager of its own at the client
 * (flow-paths.ts), follows the timeline, and collects the result. What the ends would tell each other over the daemon's
 * policy channel takes as long as the quickest path that works both ways.
 *
 *   client ── wifi ══ boxes ══╗
 *          ── lte  ══ boxes ══╬══ server (one address per family, and a second one to gain)
 */
import { type IpAddress, parseIp } from '../core/base/ip.js';
import { type Micros, NEVER, US_PER_MS } from '../core/base/time.js';
import type { ConnectionApi, EngineEvent, SubflowInfo } from '../core/engine/api.js';
import type { PeerWish } from '../core/pathman/types.js';
import { FlowPaths, PEER_SAYS, type Way } from './flow-paths.js';
import type { EngineFactory, Host } from './host.js';
import { NarrowRouter, Nat } from './middleboxes/index.js';
import { type Bottleneck, Network, type Tap, type Wire } from './network.js';
import { Prng } from './prng.js';
import {
  BIN_US,
  type DirectionResult,
  type HostStep,
  MAX_EVENTS,
  type PathResult,
  type PathSpec,
  type PathStep,
  type Scenario,
  type ScenarioResult,
  type Step,
  type Traffic,
  type TrafficResult,
} from './scenario.js';
import { PatternReader, PatternWriter } from './traffic.js';

const SERVER_ADDRESS = { 4: parseIp('10.9.0.1'), 6: parseIp('fd09::1') };
const SECOND_SERVER_ADDRESS = parseIp('10.9.0.2');
const SERVER_LINK = 0;
const FIRST_SERVER_PORT = 5000;
const FIRST_CLIENT_PORT = 40_000;
/** A policy message that finds no path waits, and tries again. */
const TELL_AGAIN_US = 100 * US_PER_MS;
/** What one end hears nothing on for so long, it tells the other (as the daemons do). */
const SILENCE_US = 300 * US_PER_MS;
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
  paths: FlowPaths | null;
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
  /** Bytes delivered by each path until the ends of the bins. */
  private readonly totals: { up: number[]; down: number[] }[] = [];
  /** How often the client has had another address on a path. */
  private readonly moves: number[] = [];

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
    this.client.onEvent = (_nowUs, event) => this.onClientEvent(event);
    this.server.onEvent = (_nowUs, event) => this.onServerEvent(event);
    this.flows = scenario.traffic.map((spec, index) => this.makeFlow(spec, index));
  }

  run(): ScenarioResult {
    const { network, scenario } = this;
    for (const flow of this.flows) this.listen(flow);
    for (const flow of this.flows) network.at(flow.spec.startUs ?? 0, () => this.start(flow));
    for (const step of scenario.timeline ?? []) network.at(step.atUs, () => this.play(step));
    network.at(scenario.warmupUs ?? 0, () => this.markWarmup());
    this.countBins();
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
      addresses: [clientAddress(index, spec, 0)],
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
    this.totals.push({ up: [], down: [] });
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
      paths: null,
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

  private start(flow: Flow): void {
    const { spec, index } = flow;
    const { mode = 'aggregate', maxPathsPerLink = 1, paths } = this.scenario;
    const links = [...this.client.links.values()].filter(({ name }) => spec.paths?.includes(name) ?? true);
    const luck = new Prng(this.scenario.seed).fork(9000 + index);
    const port = FIRST_SERVER_PORT + index;
    flow.paths = new FlowPaths(this.network, this.client, {
      config: { mode, maxPathsPerLink },
      links: links.map((link) => ({ link, role: paths[link.id]!.role ?? 'always' })),
      remotes: [SERVER_ADDRESS[6], SERVER_ADDRESS[4]].map((address) => ({ address, port })),
      random: () => luck.unit(),
      connect: (way) => this.connect(flow, way),
      tell: (way, wish) => this.tellServer(flow, way, wish),
      onTransition: ({ linkName, from, to, cause }) => this.log(`${linkName}: ${from} → ${to} (${cause})`),
    });
    flow.paths.start();
  }

  private connect(flow: Flow, way: Way): ConnectionApi {
    const { linkId, localAddress, remote } = way;
    const connection = this.client.engine.connect(this.client.nowUs, {
      linkId,
      localAddress,
      localPort: FIRST_CLIENT_PORT + flow.index,
      remote,
      ...this.connectionOptions(flow.spec),
    });
    flow.client = connection;
    const { spec } = flow;
    if (spec.kind === 'bulk' && spec.heading === 'up') {
      connection.setReader(new PatternReader(this.network));
      new PatternWriter(connection, this.client).send(spec.bytes ?? Number.POSITIVE_INFINITY, spec.bytes !== undefined);
    } else {
      connection.setReader(flow.reader);
      flow.reader.onFinished = () => this.finish(flow);
      if (spec.kind === 'request-response') this.request(flow, connection, spec);
    }
    return connection;
  }

  private request(flow: Flow, connection: ConnectionApi, spec: Traffic & { kind: 'request-response' }): void {
    const writer = new PatternWriter(connection, this.client);
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

  private onClientEvent(event: EngineEvent): void {
    this.note('client', event);
    if (!('connectionId' in event)) return;
    const flow = this.flows.find(({ client }) => client?.id === event.connectionId);
    if (flow === undefined) return;
    if (event.type === 'connection-established') flow.establishedUs = this.network.nowUs;
    if (event.type === 'connection-closed') flow.closedWhy = event.why;
    flow.paths?.onEngineEvent(event);
  }

  /** What the server hears nothing on, the client should know: it may believe that all is well. */
  private onServerEvent(event: EngineEvent): void {
    this.note('server', event);
    if (event.type !== 'subflow-stalled' && event.type !== 'subflow-silent') return;
    if (event.type === 'subflow-stalled' && event.why.startsWith(PEER_SAYS)) return;
    const flow = this.flows.find(({ server }) => server?.id === event.connectionId);
    if (flow === undefined) return;
    const subflow = () => flow.server!.info().subflows.find(({ id }) => id === event.subflowId);
    if (event.type === 'subflow-silent') this.tellClient(flow, subflow());
    else
      this.network.at(this.network.nowUs + SILENCE_US, () => {
        const stalled = subflow();
        if (stalled?.isStalled === true) this.tellClient(flow, stalled);
      });
  }

  /** Where nothing of the client's is on its way nothing can be missed, whatever the server makes of the silence. */
  private tellClient(flow: Flow, silent: SubflowInfo | undefined): void {
    if (silent === undefined) return;
    this.tell('down', () => {
      const own = flow.client?.info().subflows.find(({ local }) => local.address.text === silent.remote.address.text);
      if (own === undefined || own.inFlightBytes === 0) return;
      flow.client!.suspectSubflow(this.client.nowUs, own.id, `${PEER_SAYS} it is silent`);
      this.client.poke();
    });
  }

  private tellServer(flow: Flow, way: Way, wish: PeerWish): void {
    if (wish.what === 'returned') return;
    this.tell('up', () => {
      for (const subflow of flow.server?.info().subflows ?? []) {
        const { local, remote } = subflow;
        if (remote.address.text !== way.localAddress.text || local.address.text !== way.remote.address.text) continue;
        if (wish.what === 'role') flow.server!.setLocalBackup(this.server.nowUs, subflow.id, wish.role === 'backup');
        else if (wish.what === 'going') flow.server!.setLocalBackup(this.server.nowUs, subflow.id, true);
        else if (wish.what === 'gone' || subflow.inFlightBytes > 0)
          flow.server!.suspectSubflow(this.server.nowUs, subflow.id, `${PEER_SAYS} it is ${wish.what}`);
      }
      this.server.poke();
    });
  }

  /** Does `action` when a message over the quickest path that works arrives. */
  private tell(heading: 'up' | 'down', action: () => void): void {
    const working = this.wires.filter((w) => w.up.model.state === 'up' && w.down.model.state === 'up');
    const delaysUs = working.map((w) => w[heading].model.config.delayUs);
    if (delaysUs.length > 0) this.network.at(this.network.nowUs + Math.min(...delaysUs), action);
    else this.network.at(this.network.nowUs + TELL_AGAIN_US, () => this.tell(heading, action));
  }

  private play(step: Step): void {
    if ('path' in step) this.playOnPath(step);
    else this.playOnHost(step);
  }

  private playOnPath(step: PathStep): void {
    const index = this.scenario.paths.findIndex(({ name }) => name === step.path);
    if (index < 0) throw new RangeError(`scenario ${this.scenario.name}: no path ${step.path}`);
    const wire = this.wires[index]!;
    const boxes = wire.options.middleboxes ?? [];
    this.log(`${step.path} ${step.what}`);
    switch (step.what) {
      case 'dies':
        wire.setState('blackhole');
        break;
      case 'dies-up':
        wire.up.setState('blackhole');
        break;
      case 'dies-down':
        wire.down.setState('blackhole');
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
        this.updateLink(index, { isUp: false });
        break;
      case 'carrier-back':
        wire.setState('up');
        this.updateLink(index, { isUp: true });
        break;
      case 'rebinds':
        for (const box of boxes) if (box instanceof Nat) box.rebind();
        break;
      case 'narrows':
        for (const box of boxes) if (box instanceof NarrowRouter) box.mtuBytes = step.mtuBytes;
        break;
      case 'moves':
        this.moves[index] = (this.moves[index] ?? 0) + 1;
        this.updateLink(index, { addresses: [clientAddress(index, this.scenario.paths[index]!, this.moves[index])] });
        break;
      case 'fades':
      case 'clears':
        for (const flow of this.flows)
          flow.paths?.handle({ type: 'link-fading', linkId: index, isFading: step.what === 'fades' });
        break;
      case 'changes':
        if (step.up !== undefined) wire.up.configure(step.up);
        if (step.down !== undefined) wire.down.configure(step.down);
        break;
    }
  }

  private updateLink(index: number, changes: { isUp?: boolean; addresses?: readonly IpAddress[] }): void {
    this.client.updateLink(index, changes);
    for (const flow of this.flows) flow.paths?.onLink(this.client.links.get(index)!);
  }

  private playOnHost(step: HostStep): void {
    const { server, client } = this;
    const connections = this.flows.flatMap((flow) => flow.server ?? []);
    this.log(step.what);
    switch (step.what) {
      case 'server-gains': {
        server.updateLink(SERVER_LINK, {
          addresses: [...server.links.get(SERVER_LINK)!.addresses, SECOND_SERVER_ADDRESS],
        });
        for (const connection of connections) connection.announce(server.nowUs, { address: SECOND_SERVER_ADDRESS });
        break;
      }
      case 'server-loses': {
        const lost = step.which === 'first' ? SERVER_ADDRESS[4] : SECOND_SERVER_ADDRESS;
        server.updateLink(SERVER_LINK, {
          addresses: server.links.get(SERVER_LINK)!.addresses.filter((a) => a !== lost),
        });
        for (const connection of connections) this.withdraw(connection, lost);
        break;
      }
      case 'client-sleeps':
        client.suspend();
        break;
      case 'client-wakes':
        client.wakeUp(step.clockJumpUs);
        for (const flow of this.flows) flow.paths?.wake();
        break;
    }
    server.poke();
  }

  private withdraw(connection: ConnectionApi, address: IpAddress): void {
    const gone = connection.info().subflows.filter(({ local }) => local.address.text === address.text);
    connection.withdraw(this.server.nowUs, ...new Set(gone.map(({ localAddressId }) => localAddressId)));
    for (const { id } of gone) connection.closeSubflow(this.server.nowUs, id, 'reset');
  }

  private setPaused(isPaused: boolean): void {
    for (const flow of this.flows) {
      flow.reader.isPaused = isPaused;
      if (isPaused) continue;
      const isUpload = flow.spec.kind === 'bulk' && flow.spec.heading === 'up';
      const host = isUpload ? this.server : this.client;
      (isUpload ? flow.server : flow.client)?.resume(host.nowUs);
      host.poke();
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

  private countBins(): void {
    for (const [i, { up, down }] of this.wires.entries()) {
      this.totals[i]!.up.push(up.model.counters.deliveredBytes);
      this.totals[i]!.down.push(down.model.counters.deliveredBytes);
    }
    this.network.at(this.network.nowUs + BIN_US, () => this.countBins());
  }

  private log(line: string): void {
    if (this.events.length < MAX_EVENTS) this.events.push(`${this.network.nowUs} ${line}`);
  }

  private note(who: string, event: EngineEvent): void {
    const { type, ...rest } = event;
    const details = Object.entries(rest).map(([key, value]) => `${key}=${typeof value === 'object' ? '…' : value}`);
    this.log(`${who} ${type} ${details.join(' ')}`);
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
    return this.scenario.paths.findIndex((spec, i) => {
      for (let move = 0; move <= (this.moves[i] ?? 0); move++)
        if (clientAddress(i, spec, move).text === address.text) return true;
      return false;
    });
  }

  private pathResult(wire: Wire, index: number): PathResult {
    const measuredUs = Math.max(1, this.network.nowUs - (this.scenario.warmupUs ?? 0));
    const before = this.linkBytesAtWarmup[index] ?? { up: 0, down: 0 };
    const direction = (way: 'up' | 'down'): DirectionResult => {
      const { deliveredBytes, deliveredPackets, maxQueuedBytes, drops } = wire[way].model.counters;
      const goodputBps = Math.round(((deliveredBytes - before[way]) * 8e6) / measuredUs);
      const totals = this.totals[index]![way];
      const bins = totals.slice(1).map((total, i) => total - totals[i]!);
      return { deliveredBytes, deliveredPackets, goodputBps, maxQueuedBytes, drops: { ...drops }, bins };
    };
    return { name: wire.name, up: direction('up'), down: direction('down') };
  }
}

/** `move`: 0 for the first address that it has there, then 1, … */
function clientAddress(index: number, spec: PathSpec, move: number): IpAddress {
  return parseIp(spec.family === 6 ? `fd00:${index + 1}::${2 + move}` : `10.0.${index + 1}.${2 + move}`);
}

/**
 * The flows that are open, wherever they came from (TUN, proxy), and what their rules make of them while they run: their class,
 * rules by bytes carried, the budget of copies; applied to the connection of each. A look costs a few comparisons a flow.
 */
import type { Micros } from '../../core/base/time.js';
import type { ConnectionApi, Endpoint } from '../../core/engine/api.js';
import type { TrafficMode } from '../../core/scheduler/modes.js';
import { type FlowClass, FlowClassifier } from './classify.js';
import type { FlowDecision, FlowTarget } from './contract.js';
import type { FlowJudge } from './judge.js';
import type { FlowVerdict } from './rules.js';
import { Steered, type SteeringHost, steeringOf } from './steering.js';

/** How often flows are looked at. */
export const LOOK_MS = 100;
/** Subflows of a flow are looked at anew this often (their coming and going is no event here). */
const SUBFLOWS_US: Micros = 500_000;

/** A flow as those who carry it show it. */
export interface OpenFlow {
  readonly id: number;
  readonly target: FlowTarget;
  readonly decision: FlowDecision;
  readonly source: Endpoint | null;
  readonly startedUs: Micros;
  readonly state: 'dialing' | 'open' | 'closed';
  readonly connection: ConnectionApi | null;
  /** The application's bytes, up and down. */
  readonly bytesUp: number;
  readonly bytesDown: number;
}

export type FlowOrigin = 'tun' | 'proxy';

export interface FlowSource {
  readonly origin: FlowOrigin;
  list(): readonly OpenFlow[];
}

/** What the registry knows of a flow beside what its carrier shows. */
export interface FlowEntry {
  readonly origin: FlowOrigin;
  readonly flow: OpenFlow;
  readonly verdict: FlowVerdict;
  readonly mode: TrafficMode;
  readonly class: FlowClass;
  readonly scheduler: string | null;
  readonly names: readonly string[];
  readonly txBps: number;
  readonly rxBps: number;
}

export interface RegistryHost extends SteeringHost {
  /** `traffic.scheduler`. */
  scheduler(): string;
}

const RATE_US: Micros = 1_000_000;

class Watched {
  readonly classifier: FlowClassifier;
  readonly names: readonly string[];
  steered: Steered | null = null;
  mode: TrafficMode | null = null;
  subflowsUs: Micros = 0;
  txBps = 0;
  rxBps = 0;
  private markUs: Micros;
  private markUp = 0;
  private markDown = 0;

  constructor(
    readonly origin: FlowOrigin,
    readonly flow: OpenFlow,
    public verdict: FlowVerdict,
    names: readonly string[],
    nowUs: Micros,
  ) {
    this.classifier = new FlowClassifier(nowUs);
    this.names = names;
    this.markUs = flow.startedUs;
  }

  measure(nowUs: Micros): void {
    const elapsedUs = nowUs - this.markUs;
    if (elapsedUs < RATE_US) return;
    const { bytesUp, bytesDown } = this.flow;
    this.txBps = Math.round(((bytesUp - this.markUp) * 8e6) / elapsedUs);
    this.rxBps = Math.round(((bytesDown - this.markDown) * 8e6) / elapsedUs);
    this.markUs = nowUs;
    this.markUp = bytesUp;
    this.markDown = bytesDown;
  }
}

export class FlowRegistry {
  private watched = new Map<OpenFlow, Watched>();

  constructor(
    private readonly host: RegistryHost,
    private readonly judge: FlowJudge,
    private readonly sources: readonly FlowSource[],
  ) {}

  /** Every LOOK_MS. */
  look(): void {
    const nowUs = this.host.nowUs();
    const watched = new Map<OpenFlow, Watched>();
    for (const source of this.sources) {
      for (const flow of source.list()) {
        const entry = this.watched.get(flow) ?? this.watch(source.origin, flow, nowUs);
        watched.set(flow, entry);
        this.steer(entry, nowUs);
      }
    }
    this.watched = watched;
  }

  /** In the order in which they began. */
  entries(): FlowEntry[] {
    this.look();
    return [...this.watched.values()].map(({ origin, flow, verdict, classifier, steered, names, txBps, rxBps }) => ({
      origin,
      flow,
      verdict,
      mode: this.judge.modeOf(verdict),
      class: classifier.class,
      scheduler: steered?.steering?.scheduler ?? null,
      names,
      txBps,
      rxBps,
    }));
  }

  private watch(origin: FlowOrigin, flow: OpenFlow, nowUs: Micros): Watched {
    return new Watched(origin, flow, flow.decision as FlowVerdict, this.judge.namesOf(flow.target), nowUs);
  }

  private steer(entry: Watched, nowUs: Micros): void {
    const { flow } = entry;
    entry.measure(nowUs);
    const { connection } = flow;
    if (flow.state !== 'open' || connection === null) return;
    const bytes = flow.bytesUp + flow.bytesDown;
    const isNew = entry.steered === null;
    const steered = (entry.steered ??= new Steered(connection, this.host));
    const hasChanged = entry.classifier.sample(nowUs, bytes);
    const before = entry.verdict;
    entry.verdict = this.judge.judgeAgain(flow.target, bytes, before);
    const copiesLeft = entry.verdict.copiesBytes - bytes;
    const copiesEnd = steered.steering?.scheduler === 'redundant' && copiesLeft <= 0;
    const mode = this.judge.modeOf(entry.verdict);
    if (isNew || hasChanged || entry.verdict !== before || mode !== entry.mode || copiesEnd) {
      entry.mode = mode;
      steered.set(steeringOf(mode, entry.classifier.class, copiesLeft, this.host.scheduler()));
      entry.subflowsUs = nowUs;
    } else if (nowUs - entry.subflowsUs >= SUBFLOWS_US) {
      entry.subflowsUs = nowUs;
      steered.look();
    }
  }
}

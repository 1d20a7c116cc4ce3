/** What a daemon answers on its control socket: documents made of what its part says of itself, and orders passed on to it. */
import type { Config } from '../config/types.js';
import type {
  CommandResult,
  EventRecord,
  FlowStatus,
  HandoverReceipt,
  LeftOut,
  PathChange,
  PathStatus,
  Problem,
  StatusDocument,
  StatusSource,
  TcpFlowStatus,
  TrafficMode,
  WhyDocument,
  WhyFlowDocument,
} from '../control/protocol.js';
import type { Driver } from './driver.js';
import { whyFlowDocument } from './flows/flow-status.js';
import type { Journal } from './journal.js';
import type { HostLink } from './link-monitor.js';
import type { ReceiptFile } from './receipt-file.js';
import type { SideView, Standing } from './side-view.js';
import { BestLinkMeter, commonStatus, flowStatus, pathStatus, RateMeter } from './status.js';
import { whyDocument } from './why.js';

export interface DocumentsOptions {
  readonly view: SideView;
  readonly driver: Driver;
  readonly journal: Journal;
  readonly receiptFile: ReceiptFile;
  config(): Config;
  standing(): Standing;
  reload(): Promise<CommandResult>;
}

export class Documents implements StatusSource {
  private readonly startedAt = new Date();
  private readonly meter = new RateMeter();
  private readonly bestLink = new BestLinkMeter();
  /** Since when each link is in its state. */
  private readonly seen = new Map<number, { state: string; since: string }>();

  constructor(private readonly options: DocumentsOptions) {}

  get name(): string {
    return this.options.config().name;
  }

  status(): StatusDocument {
    const { driver, view } = this.options;
    const config = this.options.config();
    const nowMs = performance.now();
    const { state, reason } = this.options.standing();
    const { totals, sessions, addresses } = view.sessions(this.meter, driver.nowUs(), nowMs);
    const paths = this.paths(nowMs);
    return {
      ...commonStatus(config, view.traffic(), this.startedAt, new Date()),
      state,
      reason,
      problems: this.problems(),
      endpoint: view.endpoint(),
      tun: { name: view.tunName, mtu_bytes: config.tun.mtuBytes, addresses },
      totals,
      sessions,
      estimate: config.mode === 'client' ? this.bestLink.estimate(paths, nowMs) : { tx: null, rx: null },
      paths,
    };
  }

  flows(): FlowStatus[] {
    return this.options.view.connections().map((c) => flowStatus(c, this.linkName));
  }

  tcpFlows(): TcpFlowStatus[] {
    return this.options.view.tcpFlows(this.options.driver.nowUs(), this.linkName);
  }

  leftOut(): LeftOut[] {
    return this.options.view.monitor.leftOut.map(({ name, type, why }) => ({ name, type, reason: why }));
  }

  counters(): Readonly<Record<string, number>> {
    return { ...this.options.driver.engine.counters(), ...this.options.view.counters() };
  }

  why(): WhyDocument {
    const { view } = this.options;
    const choiceOf = (path: PathStatus) => {
      const link = view.monitor.links.find((l) => l.name === path.name);
      return link === undefined ? null : view.linkChoice(link);
    };
    return whyDocument({
      status: this.status(),
      flows: this.flows(),
      ruleOf: (path) => choiceOf(path)?.rule ?? null,
      managedRole: (path) => choiceOf(path)?.role ?? null,
    });
  }

  async whyFlow(host: string, port: number): Promise<WhyFlowDocument | string> {
    const { judge } = this.options.view;
    if (judge === null) return "rules for flows are the client's: ask there";
    return whyFlowDocument({ host, port, judge, why: this.why(), flows: () => this.tcpFlows() });
  }

  history(count: number): HandoverReceipt[] {
    return this.options.receiptFile.newest(count);
  }

  subscribe(afterSeq: number, onEvent: (event: EventRecord) => void): () => void {
    return this.options.journal.subscribe(afterSeq, onEvent);
  }

  changePath(name: string, change: PathChange): CommandResult | null {
    return this.options.view.changePath(name, change);
  }

  changeMode(mode: TrafficMode | null): CommandResult {
    return this.options.view.changeMode(mode);
  }

  openProxy(host: string, port: number): Promise<{ host: string; port: number; close(): void }> {
    return this.options.view.openProxy(host, port);
  }

  reload(): Promise<CommandResult> {
    return this.options.reload();
  }

  private problems(): Problem[] {
    const { driver, view } = this.options;
    const problems = view.problems();
    if (driver.guardProblem !== '') {
      problems.push({ kind: 'resource', message: driver.guardProblem, remedy: null, needs_user: false });
    }
    return problems;
  }

  private paths(nowMs: number): PathStatus[] {
    const { view } = this.options;
    const connections = view.connections();
    return view.monitor.links.map((link) =>
      pathStatus(
        {
          ...view.linkStatus(link),
          link,
          connections,
          hostDrops: this.options.driver.hostDrops(link.id),
          congestion: link.rule.congestion ?? this.options.config().traffic.congestion,
          since: (state) => this.sinceWhen(link, state),
        },
        this.meter,
        nowMs,
      ),
    );
  }

  private readonly linkName = (id: number): string => this.options.view.monitor.link(id)?.name ?? `link ${id}`;

  private sinceWhen({ id }: HostLink, state: string): string {
    const seen = this.seen.get(id);
    if (seen?.state === state) return seen.since;
    const since = new Date().toISOString();
    this.seen.set(id, { state, since });
    return since;
  }
}

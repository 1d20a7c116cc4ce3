/** /metrics: the status document and the counters in Prometheus' text format, worked out at each scrape. */
import { Counter, Gauge, Histogram, type Metric, Registry } from 'prom-client';

import type {
  HandoverReceipt,
  PathState,
  PathStatus,
  StatusDocument,
  StatusSource,
  TunnelState,
} from '../control/protocol.js';

const TUNNEL_STATES: readonly TunnelState[] = ['starting', 'waiting', 'connecting', 'up', 'degraded', 'stopping'];
const PATH_STATES: readonly PathState[] = [
  'down',
  'probing',
  'joining',
  'warm',
  'active',
  'draining',
  'portal',
  'blocked',
];

/** Seconds. Around the targets: planned 30 ms, link gone 130 ms, silent 300 ms; and what people notice. */
const GAP_BUCKETS_S = [0.005, 0.01, 0.03, 0.06, 0.13, 0.3, 0.6, 1, 3, 10, 30];

export class Metrics {
  private readonly registry = new Registry();
  private readonly families: Family[];
  private readonly unsubscribe: () => void;

  constructor(private readonly source: StatusSource) {
    this.families = [...TUNNEL_FAMILIES, ...PATH_FAMILIES].map((spec) => new Family(this.registry, spec));
    this.unsubscribe = this.countHandovers();
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  text(): Promise<string> {
    const status = this.source.status();
    const counters = this.source.counters();
    for (const family of this.families) family.refresh(status, counters);
    return this.registry.metrics();
  }

  close(): void {
    this.unsubscribe();
  }

  /** Receipts come as events, once each. */
  private countHandovers(): () => void {
    const handovers = new Counter({
      name: 'mptun_handovers_total',
      help: 'Handovers with a receipt, by cause',
      labelNames: ['tunnel', 'cause'],
      registers: [this.registry],
    });
    const gaps = new Histogram({
      name: 'mptun_handover_gap_seconds',
      help: 'Longest silence in delivered data around a handover, where data was due',
      labelNames: ['tunnel', 'cause'],
      buckets: GAP_BUCKETS_S,
      registers: [this.registry],
    });
    return this.source.subscribe(0, (event) => {
      if (event.type !== 'handover') return;
      const { cause, gap_s: gapS } = event.data as unknown as HandoverReceipt;
      const labels = { tunnel: this.source.name, cause };
      handovers.inc(labels);
      if (gapS !== null) gaps.observe(labels, gapS);
    });
  }
}

type Labels = Record<string, string>;
type Sample = readonly [Labels, number | null];

interface FamilySpec {
  readonly name: string;
  readonly help: string;
  readonly kind: 'gauge' | 'counter';
  readonly labels: readonly string[];
  samples(status: StatusDocument, counters: Readonly<Record<string, number>>): Iterable<Sample>;
}

/** One metric family, filled anew from a status. */
class Family {
  private readonly metric: Metric;

  constructor(
    registry: Registry,
    private readonly spec: FamilySpec,
  ) {
    const options = { name: spec.name, help: spec.help, labelNames: ['tunnel', ...spec.labels], registers: [registry] };
    this.metric = spec.kind === 'gauge' ? new Gauge(options) : new Counter(options);
  }

  refresh(status: StatusDocument, counters: Readonly<Record<string, number>>): void {
    this.metric.reset();
    for (const [labels, value] of this.spec.samples(status, counters)) {
      if (value === null) continue;
      // After reset() a counter is at 0, so that adding the total makes it the total.
      (this.metric as Gauge | Counter).inc({ tunnel: status.name, ...labels }, value);
    }
  }
}

const TUNNEL_FAMILIES: readonly FamilySpec[] = [
  {
    name: 'mptun_info',
    help: 'Always 1; version and mode as labels',
    kind: 'gauge',
    labels: ['version', 'mode'],
    samples: (s) => [[{ version: s.version, mode: s.mode }, 1]],
  },
  {
    name: 'mptun_state',
    help: '1 for the state that the tunnel is in',
    kind: 'gauge',
    labels: ['state'],
    samples: (s) => TUNNEL_STATES.map((state) => [{ state }, s.state === state ? 1 : 0] as const),
  },
  {
    name: 'mptun_start_time_seconds',
    help: 'Unix time at which the daemon started',
    kind: 'gauge',
    labels: [],
    samples: (s) => [[{}, Date.parse(s.started_at) / 1000]],
  },
  {
    name: 'mptun_sessions',
    help: 'Sessions now (client: 0 or 1)',
    kind: 'gauge',
    labels: [],
    samples: (s) => [[{}, s.sessions.length]],
  },
  {
    name: 'mptun_transmit_bytes_total',
    help: 'IP bytes taken from the TUN',
    kind: 'counter',
    labels: [],
    samples: (s) => [[{}, s.totals.tx_bytes]],
  },
  {
    name: 'mptun_receive_bytes_total',
    help: 'IP bytes put into the TUN',
    kind: 'counter',
    labels: [],
    samples: (s) => [[{}, s.totals.rx_bytes]],
  },
  {
    name: 'mptun_process_resident_memory_bytes',
    help: 'Resident memory of the daemon',
    kind: 'gauge',
    labels: [],
    samples: (s) => [[{}, s.process.memory_bytes]],
  },
  {
    name: 'mptun_process_cpu_seconds_total',
    help: 'CPU time used by the daemon',
    kind: 'counter',
    labels: [],
    samples: (s) => [[{}, s.process.cpu_s]],
  },
  {
    name: 'mptun_stack_events_total',
    help: 'Counters of the stack by name; the kernel MIB name where one exists',
    kind: 'counter',
    labels: ['counter'],
    samples: (_, counters) => Object.entries(counters).map(([counter, value]) => [{ counter }, value] as const),
  },
];

const PATH_FAMILIES: readonly FamilySpec[] = [
  {
    name: 'mptun_path_state',
    help: '1 for the state that the path is in',
    kind: 'gauge',
    labels: ['path', 'session', 'state'],
    samples: (s) =>
      s.paths.flatMap((p) =>
        PATH_STATES.map((state) => [{ ...pathLabels(p), state }, p.state === state ? 1 : 0] as const),
      ),
  },
  pathFamily('mptun_path_transmit_bytes_total', 'Payload bytes sent on the path', 'counter', (p) => p.tx_bytes),
  pathFamily('mptun_path_receive_bytes_total', 'Payload bytes received on the path', 'counter', (p) => p.rx_bytes),
  pathFamily(
    'mptun_path_retransmitted_bytes_total',
    'Bytes sent again on the path',
    'counter',
    (p) => p.retransmitted_bytes,
  ),
  pathFamily(
    'mptun_path_reinjected_bytes_total',
    'Bytes first sent on the path and then again on another',
    'counter',
    (p) => p.reinjected_bytes,
  ),
  pathFamily(
    'mptun_path_host_drops_total',
    'Packets dropped by the host, receive buffer full',
    'counter',
    (p) => p.host_drops,
  ),
  pathFamily('mptun_path_rtt_seconds', 'Smoothed round-trip time', 'gauge', (p) => p.rtt_s),
  pathFamily('mptun_path_loss_ratio', 'Share of segments lost lately', 'gauge', (p) => p.loss_ratio),
  pathFamily('mptun_path_cwnd_bytes', 'Congestion windows, summed', 'gauge', (p) => p.cwnd_bytes),
];

function pathFamily(
  name: string,
  help: string,
  kind: 'gauge' | 'counter',
  value: (path: PathStatus) => number | null,
): FamilySpec {
  return {
    name,
    help,
    kind,
    labels: ['path', 'session'],
    samples: (s) => s.paths.map((p) => [pathLabels(p), value(p)] as const),
  };
}

function pathLabels(path: PathStatus): Labels {
  return { path: path.name, session: path.session ?? '' };
}

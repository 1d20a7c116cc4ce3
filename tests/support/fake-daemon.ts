/** A daemon as far as its control socket goes: a StatusSource with fixed answers that notes what it is told. */
import {
  type CommandResult,
  type EventRecord,
  type FlowStatus,
  type HandoverReceipt,
  type LeftOut,
  type PathChange,
  type PathStatus,
  STATUS_SCHEMA,
  type StatusDocument,
  type StatusSource,
  type TcpFlowStatus,
  type TrafficMode,
  WHY_FLOW_SCHEMA,
  WHY_SCHEMA,
  type WhyDocument,
  type WhyFlowDocument,
} from '../../src/control/protocol.js';
import { Journal } from '../../src/daemon/journal.js';

export class FakeDaemon implements StatusSource {
  readonly journal = new Journal(null, () => Date.parse('2026-01-02T03:04:05Z'));
  readonly name = 'home';
  readonly changes: { name: string; change: PathChange }[] = [];
  readonly modes: (TrafficMode | null)[] = [];
  modeResult: CommandResult | null = null;
  receipts: HandoverReceipt[] = [];
  open: TcpFlowStatus[] = [sampleTcpFlow()];
  document: StatusDocument = sampleStatus();
  reloadResult: CommandResult = { ok: true, message: 'reloaded' };
  subscribers = 0;

  status(): StatusDocument {
    return this.document;
  }

  flows(): FlowStatus[] {
    return [];
  }

  tcpFlows(): TcpFlowStatus[] {
    return this.open;
  }

  leftOut(): LeftOut[] {
    return [{ name: 'docker0', type: 'other', reason: "a bridge of Docker's" }];
  }

  counters(): Readonly<Record<string, number>> {
    return { MPTcpExtMPCapableSYNACKRX: 2, drop_checksum: 1 };
  }

  subscribe(afterSeq: number, onEvent: (event: EventRecord) => void): () => void {
    this.subscribers++;
    const unsubscribe = this.journal.subscribe(afterSeq, onEvent);
    return () => {
      this.subscribers--;
      unsubscribe();
    };
  }

  changePath(name: string, change: PathChange): CommandResult | null {
    if (!this.document.paths.some((path) => path.name === name)) return null;
    this.changes.push({ name, change });
    return { ok: true, message: `${name} changed` };
  }

  changeMode(mode: TrafficMode | null): CommandResult {
    this.modes.push(mode);
    return this.modeResult ?? { ok: true, message: `mode is ${mode ?? 'as configured'}` };
  }

  why(): WhyDocument {
    return sampleWhy();
  }

  async whyFlow(host: string, port: number): Promise<WhyFlowDocument | string> {
    return host === 'nowhere' ? 'this is a server' : sampleWhyFlow({ host, port });
  }

  readonly proxies: string[] = [];

  async openProxy(host: string, port: number): Promise<{ host: string; port: number; close(): void }> {
    if (port === 1) throw new Error('listen EACCES');
    this.proxies.push(`open ${host}:${port}`);
    return { host, port, close: () => void this.proxies.push('closed') };
  }

  history(count: number): HandoverReceipt[] {
    return this.receipts.slice(-count);
  }

  reload(): Promise<CommandResult> {
    return Promise.resolve(this.reloadResult);
  }
}

export function sampleTcpFlow(fields: Partial<TcpFlowStatus> = {}): TcpFlowStatus {
  return {
    id: 3,
    origin: 'tun',
    session: 'vpn.example.net',
    state: 'open',
    app: '10.77.0.2:51034',
    destination: '192.0.2.80:443',
    name: 'www.example.com',
    way: 'relay',
    rule: 'flows.rules[0]: port 443',
    mode: 'auto',
    class: 'bulk',
    scheduler: 'adaptive',
    age_s: 75.2,
    connection: 9,
    is_mptcp: true,
    duplicate_bytes: 0,
    paths: [
      { path: 'wlan0', state: 'established', tx_bytes: 20_000, rx_bytes: 900_000, rtt_s: 0.021, why: null },
      { path: 'wwan0', state: 'established', tx_bytes: 0, rx_bytes: 0, rtt_s: 0.06, why: 'backup' },
    ],
    tx_bps: 100_000,
    rx_bps: 24_000_000,
    tx_bytes: 20_000,
    rx_bytes: 900_000,
    ...fields,
  };
}

export function sampleWhyFlow(fields: Partial<WhyFlowDocument> = {}): WhyFlowDocument {
  return {
    schema: WHY_FLOW_SCHEMA,
    time: '2026-01-02T03:04:05.000Z',
    host: 'www.example.com',
    port: 443,
    address: '192.0.2.80',
    names: ['www.example.com'],
    way: 'relay',
    rule: 'flows.rules[1]: port 443',
    mode: 'auto',
    rules: [
      { rule: 'flows.rules[0]: port 22', failed: 'port' },
      { rule: 'flows.rules[1]: port 443', failed: null },
    ],
    paths: [
      { name: 'wlan0', state: 'active', carries: true, why: 'role always' },
      { name: 'wwan0', state: 'warm', carries: false, why: 'backup: wlan0 works' },
    ],
    flows: [sampleTcpFlow()],
    ...fields,
  };
}

export function samplePath(fields: Partial<PathStatus> = {}): PathStatus {
  return {
    name: 'wlan0',
    session: null,
    type: 'wifi',
    role: 'always',
    metered: false,
    state: 'active',
    since: '2026-01-02T03:00:00.000Z',
    reason: null,
    local: ['192.168.1.2'],
    order: null,
    remote: ['192.0.2.1:8443'],
    rtt_s: 0.0213,
    rtt_min_s: 0.02,
    loss_ratio: 0.001,
    cwnd_bytes: 120_000,
    in_flight_bytes: 60_000,
    limit_bps: null,
    congestion: 'cubic',
    retransmitted_bytes: 1448,
    reinjected_bytes: 0,
    host_drops: 0,
    cap: null,
    tx_bps: 1_200_000,
    rx_bps: 41_000_000,
    tx_bytes: 31_000_000,
    rx_bytes: 4_200_000_000,
    ...fields,
  };
}

export function sampleStatus(fields: Partial<StatusDocument> = {}): StatusDocument {
  return {
    schema: STATUS_SCHEMA,
    time: '2026-01-02T03:04:05.000Z',
    name: 'home',
    mode: 'client',
    version: '0.1.0',
    pid: 4711,
    started_at: '2026-01-02T00:51:00.000Z',
    state: 'up',
    reason: null,
    problems: [],
    endpoint: 'vpn.example.net:8443',
    tun: { name: 'mt-home', mtu_bytes: 1500, addresses: ['10.77.0.2/32', 'fd77::2/128'] },
    traffic: { mode: 'auto', mode_ordered: false, scheduler: 'min-rtt', congestion: 'cubic', checksum: false },
    totals: { tx_bps: 1_200_000, rx_bps: 62_100_000, tx_bytes: 31_000_000, rx_bytes: 5_000_000_000 },
    estimate: { tx: null, rx: null },
    sessions: [],
    paths: [
      samplePath(),
      samplePath({
        name: 'wwan0',
        type: 'cellular',
        role: 'backup',
        metered: true,
        state: 'warm',
        reason: 'backup: wlan0 works',
        rtt_s: 0.063,
        loss_ratio: null,
        tx_bps: 0,
        rx_bps: 0,
        tx_bytes: 1200,
        rx_bytes: 3400,
      }),
      samplePath({
        name: 'eth0',
        type: 'ethernet',
        state: 'down',
        reason: 'no carrier',
        rtt_s: null,
        loss_ratio: null,
      }),
    ],
    process: { memory_bytes: 80_000_000, cpu_s: 12.5, fds: 40 },
    ...fields,
  };
}

export function sampleReceipt(fields: Partial<HandoverReceipt> = {}): HandoverReceipt {
  return {
    id: 7,
    time: '2026-01-02T03:00:00.000Z',
    session: 'vpn.example.net',
    from: ['wlan0'],
    to: ['wwan0'],
    cause: 'link-down',
    detail: 'wlan0: link is down',
    gap_s: 0.084,
    dark_s: 0,
    reinjected_bytes: 120_000,
    duplicated_bytes: 1448,
    connections_carried: 2,
    connections_lost: 0,
    flows_carried: 3,
    ...fields,
  };
}

export function sampleWhy(): WhyDocument {
  return {
    schema: WHY_SCHEMA,
    time: '2026-01-02T03:04:05.000Z',
    mode: 'handover',
    mode_from: 'operator',
    scheduler: 'min-rtt',
    paths: [
      {
        name: 'wlan0',
        rule: 'type wifi',
        role: 'always',
        role_from: 'configuration',
        state: 'active',
        is_chosen: true,
        why: 'best of the paths that work',
      },
      {
        name: 'wwan0',
        rule: 'name wwan*',
        role: 'backup',
        role_from: 'operator',
        state: 'warm',
        is_chosen: false,
        why: 'backup: another path works',
      },
    ],
    flows: [
      {
        session: 'vpn.example.net',
        lane: 'bulk',
        kind: 'large transfers',
        tx_bytes: 1000,
        rx_bytes: 9000,
        shares: [
          { path: 'wlan0', tx_share: 1, rx_share: 0.75, why: 'carries data' },
          { path: 'wwan0', tx_share: 0, rx_share: 0.25, why: 'backup' },
        ],
      },
    ],
  };
}
